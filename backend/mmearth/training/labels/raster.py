"""Labels from a raster of class codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import Problem
from mmearth.errors import InputError, MissingCrsError, listed
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster
from mmearth.training.labels.base import Labels, is_whole, limit_classes
from mmearth.training.labels.squares import MOST_PIXELS, SQUARE, Squares

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
        unlabelled = [0, nodata]
        if dataset.nodata is not None and np.isfinite(dataset.nodata):
            unlabelled.append(int(dataset.nodata))
        area = _Area(dataset, grid, origin, unlabelled)
        squares, warnings = Squares(grid), list[Problem]()
        if area.count() > MOST_PIXELS:
            squares.choose(*area.codes_of_squares(wanted))
            warnings.append(squares.told())
        parts = list(area.pixels(squares))
    if not parts:
        raise InputError(
            f"The label raster {Path(path).name} labels no pixel of the image.",
            "Choose one that covers the image.",
        )
    rows, cols, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    names = list(wanted) or [str(code) for code in np.unique(codes)]
    limit_classes(len(names), Path(path).name)
    if not all(map(is_whole, names)):
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
    return Labels(tuple(names), rows, cols, classes, units, tuple(warnings))


@dataclass(frozen=True)
class _Area:
    """The part of a label raster that lies on the grid, read strip by strip.

    Attributes:
        dataset: the label raster.
        grid: of the model's input.
        origin: row and column of the grid's first pixel in the raster.
        unlabelled: codes of pixels without label.
    """

    dataset: Any
    grid: Grid
    origin: tuple[int, int]
    unlabelled: list[int]

    def count(self) -> int:
        """Return the number of labelled pixels."""
        return sum(int(np.count_nonzero(labelled)) for *_, labelled in self._strips())

    def codes_of_squares(
        self, wanted: Sequence[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of a square's number and a code in it. wanted: codes, all if empty."""
        across = -(-self.grid.width // SQUARE)
        pairs: set[tuple[int, int]] = set()
        for row, col, codes, labelled in self._strips():
            rows, cols = np.arange(codes.shape[0]) + row, np.arange(codes.shape[1]) + col
            for down, right in product(np.unique(rows // SQUARE), np.unique(cols // SQUARE)):
                place = np.ix_(rows // SQUARE == down, cols // SQUARE == right)
                found = np.unique(codes[place][labelled[place]]).tolist()
                pairs |= {(int(down * across + right), code) for code in found}
        chosen = sorted(pair for pair in pairs if not wanted or str(pair[1]) in wanted)
        squares, codes_found = np.array(chosen, np.int64).reshape(-1, 2).T
        return squares, codes_found

    def pixels(
        self, squares: Squares
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield rows and columns of the grid, and codes, of labelled pixels in used squares."""
        for row, col, codes, labelled in self._strips():
            rows, cols = np.nonzero(labelled & squares.mask(row, col, *codes.shape))
            if rows.size:
                yield rows + row, cols + col, codes[rows, cols]

    def _strips(self) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield the first row and column of the grid, codes, and which of them are labels."""
        top, left = self.origin
        first_col, last_col = max(0, left), min(self.dataset.width, left + self.grid.width)
        last_row = min(self.dataset.height, top + self.grid.height)
        if first_col >= last_col:
            return
        for start in range(max(0, top), last_row, ROWS):
            height = min(ROWS, last_row - start)
            window = Window(first_col, start, last_col - first_col, height)
            codes = self.dataset.read(1, window=window).astype(np.int64)
            yield start - top, first_col - left, codes, ~np.isin(codes, self.unlabelled)
