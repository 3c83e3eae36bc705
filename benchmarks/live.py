"""Live mode, from the labels of the moment to the map of what is seen, the whole way.

Over HTTP, as the plugin asks: service, worker process, labels from a file, head, map on the disk.
The scene is the sample, mirrored to twice its side; the view has 512 x 512 pixels. First with
nothing in memory (the job starts the worker, which loads torch and the model), then after each of
a few more polygons, then moved by a quarter of its side.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.common import MODEL, Drawing, large_scene, row
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options

SIDE, VIEW = 1024, 512
POLYGONS = 20  # at first
MORE = 4
BOUND = 1.5
POLL_SECONDS = 0.05  # as live mode asks


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    scene = large_scene(scratch / "live.tif", SIDE)
    home = scratch / "live"
    home.mkdir()
    drawing = Drawing(scene, home / "drawn.gpkg")
    backend = Backend(Environment(home, ROOT / "backend", Options(python=sys.executable)))

    def preview(top: int, left: int) -> tuple[float, int]:
        """Return seconds, and tiles that were not in memory."""
        wanted = {
            "kind": "preview",
            "inputs": [{"path": str(scene), "label": ""}],
            "model": MODEL,
            "extent": drawing.extent(top, left, VIEW),
            "labels": {"path": str(drawing.path), "field": "class"},
            "outputs": {name: str(home / f"{name}.tif") for name in ("classes", "uncertainty")},
        }
        start = time.perf_counter()
        job = backend.run_job(wanted, lambda job: None, lambda: False, POLL_SECONDS)
        return time.perf_counter() - start, job["result"]["tiles_computed"]

    corner = (SIDE - VIEW) // 2
    try:
        drawing.add(POLYGONS)
        first, tiles = preview(corner, corner)
        drawn = []
        for _ in range(MORE):
            drawing.add(1)
            drawn.append(preview(corner, corner)[0])
        panned, new = preview(corner, corner + VIEW // 4)
        again, _ = preview(corner, corner + VIEW // 4)
    finally:
        backend.stop()
    slowest = max(drawn)
    return [
        row(f"view of {VIEW} x {VIEW}, {POLYGONS} polygons on {SIDE} x {SIDE}; tiles", tiles),
        row("first preview, with the start of service and worker, s", first),
        row("after another polygon, s (mean)", float(np.mean(drawn))),
        row("after another polygon, s (slowest)", slowest, f"at most {BOUND}", slowest <= BOUND),
        row("moved by a quarter; tiles", new),
        row("moved by a quarter, s", panned),
        row("the same once more, s", again, f"at most {BOUND}", again <= BOUND),
    ]
