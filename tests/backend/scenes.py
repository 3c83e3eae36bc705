"""Values that several tests share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from rasterio.crs import CRS

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
UTM = CRS.from_epsg(32632)
S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
MODEL_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = (
    {"value": 1, "name": "water", "title": "Water", "color": "#419bdf"},
    {"value": 2, "name": "trees", "title": "Trees", "color": "#397d49"},
    {"value": 3, "name": "other", "title": "Other", "color": "#e49635"},
)


def scene_values(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return plausible uint16 reflectance x 10000 with smooth structure, (12, height, width)."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(300, 4000, (12, height // 16 + 2, width // 16 + 2))
    values = np.kron(coarse, np.ones((1, 16, 16)))[:, :height, :width]
    values += random.normal(0, 60, values.shape)
    values = values.clip(1, 10000).astype(np.uint16)
    values[:, : height // 5, : width // 4] = 0
    return values


def write_places(
    path: Path,
    shapes: Iterable[shapely.Geometry | None],
    crs: str = "EPSG:32632",
    kind: str = "Unknown",
    layer: str | None = None,
    **more: Any,
) -> Path:
    """Write geometries without fields to a vector file, and return its path."""
    wkb = np.array([shape if shape is None else shapely.to_wkb(shape) for shape in shapes], object)
    pyogrio.raw.write(
        path, wkb, field_data=[], fields=[], geometry_type=kind, crs=crs, layer=layer, **more
    )
    return path
