"""What benchmarks share: large scenes, requests, and the shape of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
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
