"""A job from beginning to end, against nothing but the network on the same tiles.

Both in one process, in turn, each twice: forward, job, job, forward, so that a machine that slows
down slows both.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from benchmarks.common import large_scene, request, row
from mmearth.api import SegmentSpec
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import prepare
from mmearth.jobs.registry import run_job
from mmearth.models.network import Network
from mmearth.settings import Settings

SIDE = 4096
BOUND = 1.15


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    scene = large_scene(scratch / "scene.tif", SIDE)
    settings = Settings(home=scratch / "home")
    spec = SegmentSpec.model_validate(
        request(scene, scratch / "maps", classes="map.tif", table="areas.csv")
    )
    ready = prepare(spec, settings)
    network = Network(ready.card, settings)
    tile, count = ready.layout.rows.tile, ready.layout.count
    with rasterio.open(scene) as source:
        values = source.read(list(range(2, 12)), window=((0, tile), (0, tile)))
    batch = network.batch_size()
    images = np.repeat(values[None].astype(np.float32) / 10_000, batch, axis=0)
    masks = np.ones((batch, tile, tile), bool)

    def forward() -> float:
        start = time.perf_counter()
        for first in range(0, count, batch):
            number = min(batch, count - first)
            network.probabilities(images[:number], masks[:number])
        return time.perf_counter() - start

    def job() -> float:
        start = time.perf_counter()
        run_job(spec, JobContext(settings))
        return time.perf_counter() - start

    network.probabilities(images, masks)
    forwards, jobs = [forward()], [job(), job()]
    forwards.append(forward())
    ratio = sum(jobs) / sum(forwards)
    return [
        row(f"scene of {SIDE} x {SIDE} x 12 uint16; tiles of {tile}", count),
        row("network alone, s (mean of two)", sum(forwards) / 2),
        row("job from beginning to end, s (mean of two)", sum(jobs) / 2),
        row("job / network", ratio, f"at most {BOUND}", ratio <= BOUND),
    ]
