"""A job from beginning to end, against nothing but the network on the same tiles.

The job goes the whole way: request over HTTP, service, worker process (the first job starts it and
loads torch and the model), reading, blending, writing. In turn: network, job, job, network, so that
a machine that slows down slows both.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks import ROOT
from benchmarks.common import large_scene, request, row
from mmearth.api import SegmentSpec
from mmearth.inference.predict import class_probabilities, compute
from mmearth.inference.reader import Batch
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
    batches = list(_batches(values, ready.layout, workload.batch_size))

    def forward() -> float:
        start = time.perf_counter()
        for result in compute(iter(batches), class_probabilities(network), workload, lambda: False):
            del result
        return time.perf_counter() - start

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


def _batches(values: np.ndarray, layout: Layout, size: int) -> Iterator[Batch]:
    """Yield the job's tiles as reflectance; all of them take about 1.3 GB."""
    places = itertools.product(enumerate(layout.rows.starts), layout.cols.starts)
    while some := list(itertools.islice(places, size)):
        images = [
            values[:, layout.rows.mirrored(top)][:, :, layout.cols.mirrored(left)]
            for (_, top), left in some
        ]
        image = np.stack(images).astype(np.float32) / np.float32(10_000)
        masks = np.ones((len(image), *image.shape[2:]), bool)
        yield Batch(some[0][0][0], 0, tuple(left for _, left in some), image, masks)
