"""Which pixels of a dataset a piece of another grid is made of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import rasterio.warp
from affine import Affine
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.windows import Window


def source_window(
    dataset: DatasetReader,
    crs: CRS,
    to: CRS,
    transform: Affine,
    shape: tuple[int, int],
    shrink: float,
) -> Window | None:
    """Return the pixels of a dataset that a rectangle of another grid is made of.

    Args:
        dataset: an open dataset.
        crs: its coordinate reference system.
        to: that of the rectangle.
        transform: of the rectangle's pixels, from its own corner.
        shape: rows and columns of the rectangle.
        shrink: side of the rectangle's pixels in pixels of the dataset.

    Returns:
        A window within the dataset; None if it holds none of them.
    """
    rows, cols = (np.linspace(0, size, 21) for size in shape)
    points = np.array([transform @ point for point in itertools.product(cols, rows)])
    if crs != to:
        points = np.stack(rasterio.warp.transform(to, crs, *points.T), axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    inverse = ~dataset.transform
    col, row = np.array([inverse @ (x, y) for x, y in points]).T
    margin = 2 * math.ceil(max(1.0, shrink)) + 1  # what a resampling kernel reaches
    left, right = max(0.0, col.min() - margin), min(dataset.width, col.max() + margin)
    top, bottom = max(0.0, row.min() - margin), min(dataset.height, row.max() + margin)
    if left >= right or top >= bottom:
        return None
    first_col, first_row = math.floor(left), math.floor(top)
    return Window(first_col, first_row, math.ceil(right) - first_col, math.ceil(bottom) - first_row)
