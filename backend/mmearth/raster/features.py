"""Reading rasters of features, block of rows by block of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from mmearth.errors import InputError, MissingCrsError, RasterReadError
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster

BLOCK_BYTES = 32 * 2**20  # read at once, as float32
LEAST_FEATURES = 2


@dataclass(frozen=True)
class FeatureRows:
    """Rows of features.

    Attributes:
        start: first row.
        values: (C, n, W) float32, 0 where not valid.
        valid: (n, W) bool, False where any feature has no data.
    """

    start: int
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def feature_grid(path: str) -> tuple[Grid, int]:
    """Return the grid of a raster of features, and their number.

    Raises:
        RasterReadError: if the file cannot be opened.
        InputError: if it holds no features.
        MissingCrsError: if it has no place on the map.
    """
    with open_raster(path) as dataset:
        floating = all(np.issubdtype(np.dtype(kind), np.floating) for kind in dataset.dtypes)
        if dataset.count < LEAST_FEATURES or not floating:
            kinds = ", ".join(sorted(set(dataset.dtypes)))
            raise InputError(
                f"Expected features, several bands of floating-point numbers; {path} has "
                f"{dataset.count} of {kinds}.",
                "Choose a raster that mmearth:embed has made.",
            )
        if not dataset.crs or dataset.transform.is_identity:
            raise MissingCrsError(
                f"{path} has no place on the map.", "Choose a raster that mmearth:embed has made."
            )
        return Grid(dataset.crs, dataset.transform, dataset.width, dataset.height), dataset.count


def read_features(path: str, first_row: int = 0) -> Iterator[FeatureRows]:
    """Read a raster of features.

    Args:
        path: of the raster.
        first_row: rows before it are left out.

    Raises:
        RasterReadError: if the file is damaged.
    """
    with open_raster(path) as dataset:
        rows = _rows_at_once(dataset)
        for start in range(first_row, dataset.height, rows):
            stop = min(dataset.height, start + rows)
            window = Window(0, start, dataset.width, stop - start)
            try:
                values = dataset.read(window=window, out_dtype="float32")
            except RasterioError as error:
                raise RasterReadError(
                    f"{path} is damaged: rows {start} to {stop} cannot be read.",
                    f"Make or copy the file again. GDAL says: {error}",
                ) from error
            valid = np.asarray(np.isfinite(values).all(axis=0))
            if dataset.nodata is not None and not math.isnan(dataset.nodata):
                valid &= (values != np.float32(dataset.nodata)).all(axis=0)
            values[:, ~valid] = 0.0
            yield FeatureRows(start, values, valid)


def _rows_at_once(dataset: DatasetReader) -> int:
    """Return rows that fit in ``BLOCK_BYTES``; whole blocks of the file, so each is read once."""
    fitting = int(BLOCK_BYTES // (4 * dataset.count * dataset.width))
    block = int(dataset.block_shapes[0][0])
    return max(block, fitting // block * block)
