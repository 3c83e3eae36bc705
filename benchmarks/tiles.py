"""Does the map depend on the tiles? Are polygons the map? With the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.features import rasterize

from benchmarks.common import SAMPLE, large_scene, request, row
from mmearth.api import SegmentSpec
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import run_job
from mmearth.settings import Settings

SIDE = 1536
BOUND = 0.99


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    settings = Settings(home=scratch / "home")
    scene = large_scene(scratch / "tiles.tif", SIDE)
    maps = []
    for tile in (256, 512):
        folder = scratch / f"tiles-{tile}"
        spec = request(scene, folder, tile=tile, classes="map.tif")
        run_job(SegmentSpec.model_validate(spec), JobContext(settings))
        with rasterio.open(folder / "map.tif") as source:
            maps.append(source.read(1))
    same = float((maps[0] == maps[1]).mean())
    return [
        row("share of pixels of one class with tiles of 256 and of 512", same,
            f"at least {BOUND}", same >= BOUND),
        *_polygons(scratch / "polygons", settings),
    ]  # fmt: skip


def _polygons(folder: Path, settings: Settings) -> list[dict[str, Any]]:
    spec = request(SAMPLE, folder, classes="map.tif", polygons="areas.gpkg")
    run_job(SegmentSpec.model_validate(spec), JobContext(settings))
    with rasterio.open(folder / "map.tif") as source:
        values, transform = source.read(1), source.transform
    _, _, stored, fields = pyogrio.raw.read(folder / "areas.gpkg", columns=["class"])
    shapes = shapely.from_wkb(stored)
    drawn = rasterize(
        zip(shapes, fields[0], strict=True),
        out_shape=values.shape,
        transform=transform,
        dtype="uint8",
    )
    wrong = int((drawn != values).sum())
    pixel = abs(transform.a * transform.e)
    area = sum(shape.area for shape in shapes) / pixel
    return [
        row("polygons of the sample scene", len(shapes)),
        row("pixels in which polygons drawn again differ from the map", wrong, "0", wrong == 0),
        row("area of polygons less that of the map, pixels", area - np.count_nonzero(values),
            "0", round(area, 3) == np.count_nonzero(values)),
    ]  # fmt: skip
