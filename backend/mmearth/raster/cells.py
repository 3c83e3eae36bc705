"""Means over square cells that are larger than pixels, such as tree cover per hectare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from mmearth.errors import InputError
from mmearth.raster.grid import Grid

SMALLEST_CELL = 2  # pixels a side; below, a mean says little that the pixels do not
LEAST_VALID = 0.5  # share of a cell's ground that must have data for it to have a mean
ROWS_AT_ONCE = 512  # of pixels
# A cell of so much less or more ground than its side says is worth a word.
SCALE_TOLERANCE = 0.05


def cell_grid(grid: Grid, cell_m: float) -> Grid:
    """Return the cells that a map touches, at multiples of their side from the origin of its CRS.

    So cells of neighbouring scenes in one CRS are the same cells. Cells at the rim reach beyond the
    map. A map is north-up, also that of a rotated raster.

    Args:
        grid: of the map.
        cell_m: side of a cell in metres of the map plane.

    Raises:
        InputError: if the map is in degrees, the cells are hardly larger than its pixels, or so
            large that none can have a mean.
    """
    if grid.crs.is_geographic:
        raise InputError(
            f"Cells of {cell_m:g} m need a map in metres, but this one is in degrees.",
            "Reproject the rasters to metres (Raster > Projections > Warp), for example to UTM, or "
            "leave out the cells.",
        )
    side = cell_m / grid.crs.linear_units_factor[1]
    pixel = max(grid.transform.a, -grid.transform.e)
    if side < SMALLEST_CELL * pixel * (1 - 1e-9):
        pixel_m = pixel * grid.crs.linear_units_factor[1]
        raise InputError(
            f"Cells of {cell_m:g} m are too small for pixels of {pixel_m:.3g} m.",
            f"Choose cells of {SMALLEST_CELL * pixel_m:.3g} m or more, or leave them out.",
        )
    bounds = grid.bounds
    slack = 1e-5 * pixel  # a bound that lies on a cell's edge takes no further cell
    left, bottom = (math.floor((edge + slack) / side) for edge in (bounds.left, bounds.bottom))
    right, top = (math.ceil((edge - slack) / side) for edge in (bounds.right, bounds.top))
    transform = Affine(side, 0, left * side, 0, -side, top * side)
    cells = Grid(grid.crs, transform, right - left, top - bottom)
    rows, cols = (np.diff(_edges(grid, cells, axis)).max() for axis in (0, 1))
    if rows * cols < LEAST_VALID * _pixels_of(grid, cells) * (1 - 1e-9):
        raise InputError(
            f"Cells of {cell_m:g} m are too large for this map: it covers less than half of each.",
            "Choose smaller cells, or leave them out.",
        )
    return cells


def ground_side_m(cells: Grid, cell_m: float) -> float | None:
    """Return the side that a cell has on the ground, in metres; None if it is about ``cell_m``.

    They differ where a projection stretches the ground: twofold in Web Mercator at 60° north.
    """
    found = cells.pixel_m
    return None if abs(found / cell_m - 1) <= SCALE_TOLERANCE else found


def cell_means(
    grid: Grid,
    cells: Grid,
    read: Callable[[int, int], tuple[NDArray[np.float32], NDArray[np.bool_]]],
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Average a map over cells; pixels that lie in several cells count in each by their share.

    Args:
        grid: of the map.
        cells: from ``cell_grid``.
        read: from first row and row after the last to values (n, W) float32 and where they are
            valid (n, W) bool.

    Yields:
        The first row of some cells; their means (n, cells.width) float64, NaN where less than
        ``LEAST_VALID`` of the ground has data; and that share (n, cells.width) float64, 0..1.
    """
    rows, cols = (_edges(grid, cells, axis) for axis in (0, 1))
    cell_pixels = _pixels_of(grid, cells)
    step = max(1, int(ROWS_AT_ONCE * -grid.transform.e / -cells.transform.e))
    for start in range(0, cells.height, step):
        edges = rows[start : start + step + 1]
        first, last = math.floor(edges[0]), math.ceil(edges[-1])
        values, valid = read(first, last)
        ground = _integrals(valid, edges - first, cols)
        sums = _integrals(np.where(valid, values, 0), edges - first, cols)
        share = np.minimum(ground / cell_pixels, 1)
        enough = share >= LEAST_VALID - 1e-9
        means = np.full(share.shape, np.nan)
        np.divide(sums, ground, out=means, where=enough)
        yield start, means, share


def _pixels_of(grid: Grid, cells: Grid) -> float:
    """Return how many pixels of a grid a cell takes."""
    return (cells.transform.a / grid.transform.a) * (cells.transform.e / grid.transform.e)


def _edges(grid: Grid, cells: Grid, axis: int) -> NDArray[np.float64]:
    """Return where the edges of cells lie on an axis of a grid, in pixels; beyond it, its end."""
    count, size = ((cells.height, grid.height), (cells.width, grid.width))[axis]
    inverse = ~grid.transform @ cells.transform
    places = np.arange(count + 1, dtype=np.float64)
    edges = inverse.f + inverse.e * places if axis == 0 else inverse.c + inverse.a * places
    # Pixels are rarely cut on purpose: what remains of rounding must not split them.
    edges = np.where(np.abs(edges - edges.round()) < 1e-6, edges.round(), edges)
    return np.clip(edges, 0, size)


def _integrals(
    values: NDArray[np.generic], rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integrate (H, W) over rectangles between edges (n + 1,) and (m + 1,); returns (n, m)."""
    return _between(_between(values.astype(np.float64), rows).T, cols).T


def _between(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrate (N, M) along its first axis between edges (n + 1,), in pixels; returns (n, M)."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    whole = np.minimum(edges.astype(int), len(values) - 1)
    part = (edges - whole)[:, None]
    return np.diff(sums[whole] + part * values[whole], axis=0)
