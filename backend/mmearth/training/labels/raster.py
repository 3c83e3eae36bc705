"""Labels from a raster of class codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.errors import InputError, MissingCrsError, listed
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster
from mmearth.training.labels.base import Labels, limit_classes

BLOCK = 32  # pixels a side: the units of a label raster, which has no polygons
ROWS = 512  # of a label raster, read at once


def read_raster_labels(
    path: str, grid: Grid, *, nodata: int = 0, wanted: Sequence[str] = ()
) -> Labels:
    """Read a raster of class codes that lies on the same pixels as the grid.

    Args:
        path: one band of whole numbers; 0 and the file's own no-data value are unlabelled.
        grid: of the model's input.
        nodata: also unlabelled.
        wanted: codes, in order; others are unlabelled. All in ascending order if empty.

    Raises:
        InputError: if it holds no whole numbers, none but no data, far too many codes, or lies on
            other pixels.
    """
    with open_raster(path) as dataset:
        if dataset.count != 1 or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(
                f"Expected a label raster with one band of whole numbers, found {dataset.count} "
                f"of {dataset.dtypes[0]}.",
                "Choose a raster of class codes.",
            )
        if dataset.crs is None:
            raise MissingCrsError(
                f"{Path(path).name} does not say where it is: it has no coordinate system.",
                "Assign one in the layer's properties and export it.",
            )
        own = Grid.of_dataset(dataset, dataset.crs)
        origin = grid.offset_of(own)
        if origin is None:
            raise InputError(
                f"The pixels of the label raster {Path(path).name} do not coincide with those of "
                "the image.",
                "Warp it to the image's grid with the nearest neighbour, or use polygons.",
            )
        unlabelled = {0, nodata, *(() if dataset.nodata is None else (int(dataset.nodata),))}
        parts = list(_raster_pixels(dataset, grid, origin, unlabelled))
    if not parts:
        raise InputError(
            f"The label raster {Path(path).name} labels no pixel of the image.",
            "Choose one that covers the image.",
        )
    rows, cols, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    names = list(wanted) or [str(code) for code in np.unique(codes)]
    limit_classes(len(names), Path(path).name)
    if not all(name.lstrip("-").isdigit() for name in names):
        raise InputError(
            f"Expected whole numbers as classes of a label raster, found {listed(names)}.",
            "Name the codes that stand in the raster.",
        )
    found = np.array([int(name) for name in names])
    asked = np.isin(codes, found)
    if not asked.any():
        raise InputError(
            f"The label raster {Path(path).name} has none of the codes {listed(names)} on the "
            "image.",
            "Name the codes that stand in the raster.",
        )
    rows, cols, codes = rows[asked], cols[asked], codes[asked]
    blocks = (rows // BLOCK) * (grid.width // BLOCK + 1) + cols // BLOCK
    order = np.argsort(found)
    classes = order[np.searchsorted(found, codes, sorter=order)]
    # Pixels of one block and class are a unit.
    _, units = np.unique(blocks * len(found) + classes, return_inverse=True)
    return Labels(tuple(names), rows, cols, classes, units)


def _raster_pixels(
    dataset: Any, grid: Grid, origin: tuple[int, int], unlabelled: set[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of the grid, and codes, of labelled pixels."""
    top, left = origin
    first_col, last_col = max(0, left), min(dataset.width, left + grid.width)
    for start in range(max(0, top), min(dataset.height, top + grid.height), ROWS):
        stop = min(start + ROWS, dataset.height, top + grid.height)
        if first_col >= last_col:
            return
        window = Window(first_col, start, last_col - first_col, stop - start)
        codes = dataset.read(1, window=window).astype(np.int64)
        rows, cols = np.nonzero(~np.isin(codes, list(unlabelled)))
        if rows.size:
            yield rows + start - top, cols + first_col - left, codes[rows, cols]
