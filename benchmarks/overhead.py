"""A job from beginning to end, against nothing but the network on the same tiles.

The job goes the whole way: request over HTTP, service, worker process (the first job starts it and
loads torch and the model), reading, blending, writing. In turn: network, job, job, network, so that
a machine that slows down slows both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from benchmarks import ROOT
from benchmarks.common import large_scene, request, row
from mmearth.api import SegmentSpec
from mmearth.inference.tiles import Layout
from mmearth.jobs.prepare import prepare
from mmearth.models.network import Network
from mmearth.settings import Settings
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options

SIDE = 4096
BOUND = 1.15


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    scene = large_scene(scratch / "scene.tif", SIDE)
    home = scratch / "overhead"
    home.mkdir()
    settings = Settings(home=home)
    wanted = request(scene, scratch / "maps", classes="map.tif", table="areas.csv")
    ready = prepare(SegmentSpec.model_validate(wanted), settings)
    network = Network(ready.card, settings)
    tile = ready.layout.rows.tile
    with rasterio.open(scene) as source:
        names = list(source.descriptions)
        values = source.read([names.index(band) + 1 for band in ready.card.bands])
    backend = Backend(Environment(home, ROOT / "backend", Options(python=sys.executable)))

    workload = network.workload(tile)
    masks = np.ones((workload.batch_size, tile, tile), bool)
    compute = torch.set_num_threads, (workload.threads,)

    def forward() -> float:
        """Compute one row of tiles after the other; cutting them is not counted."""
        seconds = 0.0
        with ThreadPoolExecutor(workload.lanes, "network", *compute) as lanes:
            for batches in _rows_of_batches(values, ready.layout, workload.batch_size):
                start = time.perf_counter()
                for result in lanes.map(
                    lambda images: network.probabilities(images, masks[: len(images)]), batches
                ):
                    del result
                seconds += time.perf_counter() - start
        return seconds

    def job() -> float:
        start = time.perf_counter()
        backend.run_job(wanted, lambda job: None, lambda: False)
        return time.perf_counter() - start

    try:
        forwards, jobs = [forward()], [job(), job()]
        forwards.append(forward())
    finally:
        backend.stop()
    ratio = sum(jobs) / sum(forwards)
    return [
        row(f"scene of {SIDE} x {SIDE} x 12 uint16; tiles of {tile}", ready.layout.count),
        row("network alone, s (mean of two)", sum(forwards) / 2),
        row("first job, with the start of service and worker, s", jobs[0]),
        row("second job, s", jobs[1]),
        row("jobs / network", ratio, f"at most {BOUND}", ratio <= BOUND),
    ]


def _rows_of_batches(values: np.ndarray, layout: Layout, size: int) -> Iterator[list[np.ndarray]]:
    """Yield the job's tiles as reflectance, a row of tiles at a time: lists of (B, C, h, w)."""
    for top in layout.rows.starts:
        strip = values[:, layout.rows.mirrored(top)]
        tiles = [
            strip[:, :, layout.cols.mirrored(left)].astype(np.float32) / np.float32(10_000)
            for left in layout.cols.starts
        ]
        yield [np.stack(tiles[first : first + size]) for first in range(0, len(tiles), size)]
