"""Reading several rasters as one stack of bands on one grid."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mmearth.api import Extent
from mmearth.errors import RasterReadError
from mmearth.raster.grid import Grid, bounds_in, extent_bounds
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.source import BandSource, open_raster

# Beyond this factor between a raster's pixels and the model's, pixels are resampled.
NATIVE_FACTOR = 2.0
# Pixels that shrink by more than this are averaged, else interpolated.
AVERAGE_FACTOR = 1.5


def target_grid(
    sources: Sequence[BandSource], resolution_m: float, extent: Extent | None = None
) -> Grid:
    """Return the grid to map on: the finest raster's own, over the ground all rasters share.

    If its pixels are at least twice as large or small as those the model was trained on, they
    are resampled to the model's size, because a network knows textures only at its own scale.

    Args:
        sources: bands of the stack.
        resolution_m: pixel size of the model on the ground, in metres.
        extent: area to map; all shared ground if None.

    Raises:
        EmptyAreaError: if the rasters, or they and the extent, do not overlap.
        InputError: if the extent is invalid.
    """
    grids = list(dict.fromkeys(source.grid for source in sources))
    reference = min(grids, key=lambda grid: grid.pixel_m)
    grid = reference
    for other in grids:
        grid = grid.cropped(bounds_in(grid.crs, other.bounds, other.crs))
    if extent:
        grid = grid.cropped(extent_bounds(extent, grid.crs))
    factor = resolution_m / reference.pixel_m
    if 1 / NATIVE_FACTOR < factor < NATIVE_FACTOR:
        return grid
    return grid.at_resolution(factor)


@dataclass(frozen=True)
class _Group:
    """Bands that are read from one dataset in one call."""

    dataset: str
    nodata: float | None
    all_zero_nodata: float | None
    positions: tuple[int, ...]
    bands: tuple[int, ...]


class RasterStack:
    """An open stack; a context manager, used by one thread at a time.

    Rows are read whole, so files that are stored in strips or tiles are decoded once.
    """

    def __init__(self, bands: Sequence[ScaledBand], grid: Grid) -> None:
        self.grid = grid
        self._bands = list(bands)
        self._scale = np.array([band.scale for band in bands], np.float32)[:, None, None]
        self._offset = np.array([band.offset for band in bands], np.float32)[:, None, None]
        self._groups = _group(self._bands)
        self._open = contextlib.ExitStack()
        self._readers: list[tuple[_Group, DatasetReader, tuple[int, int]]] = []

    def __enter__(self) -> RasterStack:
        with contextlib.ExitStack() as opening:
            for group in self._groups:
                self._readers.append((group, *self._reader(group, opening)))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._readers.clear()
        self._open.close()

    def read_rows(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read whole rows.

        Args:
            start: first row of the grid.
            stop: row after the last.

        Returns:
            image: (C, stop - start, width) float32, reflectance; 0 where not valid.
            valid: (stop - start, width) bool, False where any band has no data.

        Raises:
            RasterReadError: if a file is damaged.
        """
        shape = (stop - start, self.grid.width)
        image = np.zeros((len(self._bands), *shape), np.float32)
        valid = np.ones(shape, bool)
        empty = np.ones(shape, bool)  # all bands hold the value that means empty
        for group, reader, (row, col) in self._readers:
            window = Window(0, start, self.grid.width, stop - start)
            values, inside = _read(group, reader, window, row, col)
            valid &= inside
            if group.all_zero_nodata is None:
                empty &= ~inside
            else:
                empty &= (values == group.all_zero_nodata).all(axis=0)
            for position, band in zip(group.positions, values, strict=True):
                image[position] = band
        valid &= ~empty
        image *= self._scale
        image += self._offset
        image[:, ~valid] = 0.0
        return image, valid

    def _reader(
        self, group: _Group, opening: contextlib.ExitStack
    ) -> tuple[DatasetReader, tuple[int, int]]:
        """Open a dataset and, unless its pixels coincide with the grid's, warp it on the fly.

        Returns:
            The dataset, and the grid's origin in it as (row, col).
        """
        source = self._bands[group.positions[0]].source
        dataset = opening.enter_context(open_raster(group.dataset))
        offset = self.grid.offset_of(source.grid)
        if offset is not None and source.grid.transform.almost_equals(dataset.transform):
            return dataset, offset
        shrink = self.grid.pixel_m / source.grid.pixel_m
        resampling = Resampling.average if shrink > AVERAGE_FACTOR else Resampling.bilinear
        nodata = group.nodata if group.nodata is not None else group.all_zero_nodata
        options = {"UNIFIED_SRC_NODATA": "NO" if group.nodata is not None else "YES"}
        warped = WarpedVRT(
            dataset,
            src_crs=source.grid.crs,
            crs=self.grid.crs,
            transform=self.grid.transform,
            width=self.grid.width,
            height=self.grid.height,
            resampling=resampling,
            src_nodata=nodata,
            nodata=nodata,
            add_alpha=nodata is None and not source.masked,
            warp_extras=options,
        )
        return opening.enter_context(warped), (0, 0)


def _group(bands: list[ScaledBand]) -> list[_Group]:
    keys: dict[tuple[str, str, float | None], list[int]] = {}
    for position, band in enumerate(bands):
        # repr, because NaN is not equal to itself.
        key = (band.source.dataset, repr(band.nodata), band.all_zero_nodata)
        keys.setdefault(key, []).append(position)
    return [
        _Group(
            dataset=bands[positions[0]].source.dataset,
            nodata=bands[positions[0]].nodata,
            all_zero_nodata=bands[positions[0]].all_zero_nodata,
            positions=tuple(positions),
            bands=tuple(bands[p].source.band for p in positions),
        )
        for positions in keys.values()
    ]


def _read(
    group: _Group, reader: DatasetReader, window: Window, row: int, col: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read a window of the grid; outside the dataset nothing is valid.

    Returns:
        values: (C, h, w) stored numbers; inside: (h, w) bool, False where a band has no data.
    """
    height, width = int(window.height), int(window.width)
    top, left = int(window.row_off) + row, int(window.col_off) + col
    first_row, last_row = max(0, top), min(reader.height, top + height)
    first_col, last_col = max(0, left), min(reader.width, left + width)
    dtype = reader.dtypes[group.bands[0] - 1]
    if first_row >= last_row or first_col >= last_col:
        shape = (height, width)
        return np.zeros((len(group.bands), *shape), dtype), np.zeros(shape, bool)
    part = Window(first_col, first_row, last_col - first_col, last_row - first_row)
    to = (slice(first_row - top, last_row - top), slice(first_col - left, last_col - left))
    try:
        block = reader.read(list(group.bands), window=part)
        mask = _mask(group, reader, part, block)
    except RasterioError as error:
        raise RasterReadError(
            f"{group.dataset} is damaged: rows {first_row} to {last_row} cannot be read.",
            f"Copy or download the file again. GDAL says: {error}",
        ) from error
    if block.shape[1:] == (height, width):
        return block, mask
    values = np.zeros((len(group.bands), height, width), dtype)
    inside = np.zeros((height, width), bool)
    values[(slice(None), *to)] = block
    inside[to] = mask
    return values, inside


def _mask(
    group: _Group, reader: DatasetReader, part: Window, block: NDArray[np.generic]
) -> NDArray[np.bool_]:
    if np.issubdtype(block.dtype, np.floating):
        mask = np.isfinite(block).all(axis=0)
    else:
        mask = np.ones(block.shape[1:], bool)
    if group.nodata is not None and not np.isnan(group.nodata):
        mask &= (block != group.nodata).all(axis=0)
    if group.nodata is None:
        flags = {flag.name for b in group.bands for flag in reader.mask_flag_enums[b - 1]}
        if flags & {"per_dataset", "alpha"}:
            mask &= reader.read_masks(group.bands[0], window=part) > 0
    return mask
