"""Reading several rasters as one stack of bands on one grid."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import reproject
from rasterio.windows import Window

from mmearth.api import Extent
from mmearth.errors import InputError, RasterReadError
from mmearth.raster.grid import Grid, extent_rectangle
from mmearth.raster.mask import Mask, MaskReader
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.source import BandSource, open_raster, read_mask
from mmearth.raster.warp import source_window

# From this factor between a raster's pixels and the model's, pixels are resampled. Below 2, because
# pixels of 20 m measure 19.98 to 20.01 m on the ground across a UTM zone, and neighbouring scenes
# shall be treated alike.
NATIVE_FACTOR = 1.8
# Beyond this factor nothing of what the model looks for is left in the pixels. Above 10 for the
# same reason.
COARSEST_FACTOR = 10.5
# Pixels that shrink by more than this are averaged, else interpolated.
AVERAGE_FACTOR = 1.5
# Pixels a side that are resampled at once: 16 MB for each band.
PIECE_SIDE = 2048


def target_grid(
    sources: Sequence[BandSource], resolution_m: float, extent: Extent | None = None
) -> Grid:
    """Return the grid to map on: the finest raster's own, over the ground all rasters share.

    If its pixels are about twice as large or small as those the model was trained on, or more, they
    are resampled to the model's size, because a network knows textures only at its own scale.

    Args:
        sources: bands of the stack.
        resolution_m: pixel size of the model on the ground, in metres.
        extent: area to map; all shared ground if None.

    Raises:
        EmptyAreaError: if the rasters, or they and the extent, do not overlap.
        InputError: if the extent is invalid, a raster has no place on Earth, or all are far too
            coarse.
    """
    grids = list(dict.fromkeys(source.grid for source in sources))
    reference = min(grids, key=lambda grid: grid.pixel_m)
    if reference.pixel_m > COARSEST_FACTOR * resolution_m:
        raise InputError(
            f"The finest raster has pixels of {reference.pixel_m:,.0f} m, more than ten times the "
            f"{resolution_m:g} m of the model.",
            "Add rasters of higher resolution, or use a model made for this one.",
        )
    grid = reference
    for other in grids:
        grid = grid.cropped_to(other.bounds, other.crs)
    if extent:
        grid = grid.cropped_to(*extent_rectangle(extent))
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
    masked: bool
    positions: tuple[int, ...]
    bands: tuple[int, ...]


class RasterStack:
    """An open stack; a context manager, used by one thread at a time.

    Rows are read whole, so files that are stored in strips or tiles are decoded once.
    """

    def __init__(self, bands: Sequence[ScaledBand], grid: Grid, masks: Sequence[Mask] = ()) -> None:
        self.grid = grid
        self.bands = list(bands)
        self.masks = list(masks)
        self._scale = np.array([band.scale for band in bands], np.float32)[:, None, None]
        self._offset = np.array([band.offset for band in bands], np.float32)[:, None, None]
        self._groups = _group(self.bands)
        self._open = contextlib.ExitStack()
        self._readers: list[tuple[_Group, DatasetReader, tuple[int, int] | None]] = []
        self._masked = MaskReader(self.masks, grid)

    def __enter__(self) -> RasterStack:
        with contextlib.ExitStack() as opening:
            for group in self._groups:
                self._readers.append((group, *self._reader(group, opening)))
            opening.enter_context(self._masked)
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
            valid: (stop - start, width) bool, False where any band has no data or a mask leaves
                the pixel out.

        Raises:
            RasterReadError: if a file is damaged.
        """
        shape = (stop - start, self.grid.width)
        image = np.zeros((len(self.bands), *shape), np.float32)
        valid = np.ones(shape, bool)
        empty = np.ones(shape, bool)  # all bands hold the value that means empty
        for group, reader, origin in self._readers:
            values: NDArray[np.generic]
            if origin is None:
                values, inside = self._warp(group, reader, start, stop)
            else:
                row, col = origin
                window = Window(col, row + start, self.grid.width, stop - start)
                values, inside = _read(group, reader, window)
            valid &= inside
            if group.all_zero_nodata is None:
                empty &= ~inside
            else:
                empty &= (values == group.all_zero_nodata).all(axis=0)
            for position, band in zip(group.positions, values, strict=True):
                image[position] = band
        valid &= ~empty
        valid &= ~self._masked.excluded(start, stop)
        image *= self._scale
        image += self._offset
        image[:, ~valid] = 0.0
        return image, valid

    def _reader(
        self, group: _Group, opening: contextlib.ExitStack
    ) -> tuple[DatasetReader, tuple[int, int] | None]:
        """Open a dataset.

        Returns:
            The dataset, and the grid's origin in it as (row, col); None if their pixels do not
            coincide.
        """
        source = self.bands[group.positions[0]].source
        dataset = opening.enter_context(open_raster(group.dataset))
        offset = self.grid.offset_of(source.grid)
        if offset is not None and source.grid.transform.almost_equals(dataset.transform):
            return dataset, offset
        return dataset, None

    def _warp(
        self, group: _Group, dataset: DatasetReader, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Resample whole rows of the grid, piece by piece, so that few source pixels are held.

        Returns:
            values: (C, stop - start, width) float32; inside: (stop - start, width) bool.
        """
        shape = (stop - start, self.grid.width)
        values = np.zeros((len(group.bands), *shape), np.float32)
        inside = np.zeros(shape, bool)
        source = self.bands[group.positions[0]].source.grid
        shrink = self.grid.pixel_m / source.pixel_m
        side = max(1, int(PIECE_SIDE / max(1.0, shrink)))
        for top in range(0, shape[0], side):
            for left in range(0, shape[1], side):
                height, width = min(side, shape[0] - top), min(side, shape[1] - left)
                piece = Window(left, start + top, width, height)
                part = np.s_[top : top + height, left : left + width]
                warped = _warp(group, dataset, source.crs, self.grid, piece, shrink)
                values[(slice(None), *part)], inside[part] = warped
        return values, inside


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
            masked=bands[positions[0]].source.masked,
            positions=tuple(positions),
            bands=tuple(bands[p].source.band for p in positions),
        )
        for positions in keys.values()
    ]


def _read(
    group: _Group, reader: DatasetReader, window: Window
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read a window of a dataset; beyond its edges nothing is valid.

    Returns:
        values: (C, h, w) stored numbers; inside: (h, w) bool, False where a band has no data.
    """
    height, width = int(window.height), int(window.width)
    top, left = int(window.row_off), int(window.col_off)
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
    if group.masked:
        mask &= read_mask(reader, group.bands[0], window=part)
    return mask


def _warp(
    group: _Group, dataset: DatasetReader, crs: CRS, grid: Grid, piece: Window, shrink: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample a dataset to a window of a grid.

    Empty pixels become NaN before anything is resampled: GDAL's warper heeds either a no-data
    value or a mask, never both, and would mix what the other hides into its neighbours.

    Args:
        group: bands to read.
        dataset: the open dataset.
        crs: its coordinate reference system.
        grid: grid to resample to.
        piece: window of the grid.
        shrink: side of the grid's pixels in pixels of the dataset.

    Returns:
        values: (C, h, w) float32; inside: (h, w) bool, False where a band has no data.
    """
    shape = (int(piece.height), int(piece.width))
    transform = grid.transform @ Affine.translation(piece.col_off, piece.row_off)
    values = np.full((len(group.bands), *shape), np.nan, np.float32)
    inside = np.zeros(shape, np.uint8)
    window = source_window(dataset, crs, grid.crs, transform, shape, shrink)
    if window is None:
        return values, inside > 0
    stored, known = _read(group, dataset, window)
    source = stored.astype(np.float32)
    source[:, ~known] = np.nan
    if group.all_zero_nodata is not None:
        source[:, (stored == group.all_zero_nodata).all(axis=0)] = np.nan
    places = {
        "src_transform": dataset.transform @ Affine.translation(window.col_off, window.row_off),
        "src_crs": crs,
        "dst_transform": transform,
        "dst_crs": grid.crs,
    }
    method = Resampling.average if shrink > AVERAGE_FACTOR else Resampling.bilinear
    reproject(source, values, src_nodata=np.nan, dst_nodata=np.nan, resampling=method, **places)
    if group.all_zero_nodata is not None:
        # Zero in all bands of this file is no data only if the other files' bands hold it too.
        reproject(known.astype(np.uint8), inside, resampling=Resampling.nearest, **places)
        values[np.isnan(values) & (inside > 0)] = group.all_zero_nodata
    return values, np.asarray(np.isfinite(values).all(axis=0))
