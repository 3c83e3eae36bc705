"""Peak memory of service and worker on a whole Sentinel-2 tile, every output asked for."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from benchmarks import ROOT
from benchmarks.common import large_scene, request, row
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options

SIDE = 10_980  # pixels of 10 m along a side of a Sentinel-2 tile
BOUND = 1.5e9
INTERVAL = 0.05  # seconds between looks


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    scene = large_scene(scratch / "tile.tif", SIDE)
    home = scratch / "memory"
    home.mkdir()
    backend = Backend(Environment(home, ROOT / "backend", Options(python=sys.executable)))
    outputs = {"classes": "map.tif", "confidence": "confidence.tif", "table": "areas.csv",
               "probabilities": "probabilities.tif", "polygons": "areas.gpkg"}  # fmt: skip
    backend.client()
    watch = _Watch(backend.pid or os.getpid())
    watch.start()
    try:
        job = backend.run_job(
            request(scene, scratch / "results", **outputs), watch.told, lambda: False
        )
    finally:
        watch.stop()
        backend.stop()
    return [
        row(f"scene of {SIDE} x {SIDE} x 12 uint16, seconds", job["result"]["seconds"]),
        *(row(f"peak while {stage.lower()}, MB", peak / 1e6) for stage, peak in watch.stages()),
        row("peak of service and worker, MB", watch.peak / 1e6, f"at most {BOUND / 1e6:.0f}",
            watch.peak <= BOUND),
    ]  # fmt: skip


class _Watch(threading.Thread):
    """Looks at the resident memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._stage = "starting"
        self._peaks: dict[str, int] = {}

    @property
    def peak(self) -> int:
        return max(self._peaks.values())

    def stages(self) -> list[tuple[str, int]]:
        return list(self._peaks.items())

    def told(self, job: dict[str, Any]) -> None:
        self._stage = (job.get("stage") or "starting").split(":")[0]

    def run(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                processes = [self._process, *self._process.children(recursive=True)]
                resident = sum(process.memory_info().rss for process in processes)
            except psutil.NoSuchProcess:
                continue
            self._peaks[self._stage] = max(self._peaks.get(self._stage, 0), resident)

    def stop(self) -> None:
        self._over.set()
        self.join()
