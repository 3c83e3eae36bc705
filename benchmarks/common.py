"""What benchmarks share: large scenes, requests, and the shape of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from rasterio.windows import Window

from benchmarks import ROOT

SAMPLE = ROOT / "resources" / "sample" / "thailand_20200223.tif"
MODEL = "landcover-s2"


def row(what: str, value: float, bound: str = "", held: bool = True) -> dict[str, Any]:
    """Return a line of a benchmark's table."""
    return {"what": what, "value": f"{value:.4g}", "bound": bound, "held": bool(held)}


def large_scene(path: Path, side: int) -> Path:
    """Write the sample scene over and over, mirrored at its rims: (12, side, side) uint16."""
    with rasterio.open(SAMPLE) as source:
        sample, profile, names = source.read(), source.profile, source.descriptions
    profile.update(width=side, height=side, compress="deflate", zlevel=1, predictor=2,
                   tiled=True, blockxsize=512, blockysize=512, interleave="pixel",
                   bigtiff="yes")  # fmt: skip
    length = sample.shape[1]
    with rasterio.open(path, "w", **profile) as target:
        target.descriptions = names
        for row_number, top in enumerate(range(0, side, length)):
            for col_number, left in enumerate(range(0, side, length)):
                part = sample[:, :: (-1) ** row_number, :: (-1) ** col_number]
                height, width = min(length, side - top), min(length, side - left)
                window = Window(left, top, width, height)
                target.write(np.ascontiguousarray(part[:, :height, :width]), window=window)
    return path


def request(
    scene: Path, folder: Path, *, tile: int | None = None, **outputs: str
) -> dict[str, Any]:
    """Return a request for a land-cover map, as the plugin sends it."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "kind": "segment",
        "inputs": [{"path": str(scene), "label": ""}],
        "model": MODEL,
        "outputs": {name: str(folder / file) for name, file in outputs.items()},
        "tile_size": tile,
    }


class Drawing:
    """Squares of four classes, drawn at random."""

    def __init__(self, scene: Path, path: Path) -> None:
        with rasterio.open(scene) as dataset:
            self._transform, self._crs = dataset.transform, dataset.crs
            self._side = min(dataset.shape)
        self.path = path
        self._random = np.random.default_rng(0)
        self._shapes: list[shapely.Polygon] = []

    def add(self, count: int) -> None:
        """Draw more, and save them all."""
        for _ in range(count):
            side = int(self._random.integers(6, 15))
            top, left = self._random.integers(0, self._side - side, 2)
            self._shapes.append(shapely.box(*self._bounds(top, left, side)))
        classes = np.array(["abcd"[number % 4] for number in range(len(self._shapes))], object)
        pyogrio.raw.write(
            self.path, shapely.to_wkb(self._shapes), field_data=[classes], fields=["class"],
            geometry_type="Polygon", crs=self._crs.to_wkt(),
        )  # fmt: skip

    def extent(self, top: int, left: int, side: int) -> dict[str, Any]:
        """Return the extent of a view."""
        return {"bounds": self._bounds(top, left, side), "crs": self._crs.to_wkt()}

    def _bounds(self, top: int, left: int, side: int) -> tuple[float, float, float, float]:
        west, north = self._transform @ (left, top)
        east, south = self._transform @ (left + side, top + side)
        return west, south, east, north
