"""One raster onto a small grid: the few pixels of it that are needed, resampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from mmearth.errors import InputError, RasterReadError
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster, read_mask, stated_crs
from mmearth.raster.warp import source_window


def read_onto(
    path: str,
    grid: Grid,
    method: Resampling,
    *,
    bands: Sequence[int] = (),
    nodata: float | None = None,
) -> NDArray[np.float64]:
    """Read a raster onto a grid; scale and offset that it states count.

    Pixels without data are left out before anything is resampled, so that they change nothing
    around them.

    Args:
        path: of the raster.
        grid: to resample to.
        method: bilinear or average of what is measured, nearest or mode of classes.
        bands: from 1; all if empty.
        nodata: number without data, beside what the file states.

    Returns:
        (C, h, w) float64; NaN where there is no data.

    Raises:
        InputError: if no number can stand for no data.
        MissingCrsError: if the raster has no place on the map.
        RasterReadError: if it cannot be opened, or is damaged.
    """
    with open_raster(path) as dataset:
        crs = stated_crs(dataset, path)
        indexes = list(bands or dataset.indexes)
        values = np.full((len(indexes), grid.height, grid.width), np.nan)
        own = Grid.of_dataset(dataset, crs)
        shape, shrink = (grid.height, grid.width), grid.pixel_m / own.pixel_m
        window = source_window(dataset, crs, grid.crs, grid.transform, shape, shrink)
        if window is None:
            return values
        try:
            stored = dataset.read(indexes, window=window)
            valid = np.stack([read_mask(dataset, band, window=window) for band in indexes])
        except RasterioError as error:
            raise RasterReadError(
                f"{path} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
            ) from error
        scales, offsets = (
            np.array([row[band - 1] for band in indexes])[:, None, None]
            for row in (dataset.scales, dataset.offsets)
        )
        transform = dataset.transform @ Affine.translation(window.col_off, window.row_off)
    if np.iscomplexobj(stored):
        raise InputError(f"{path} holds complex numbers.", "Give their size or power instead.")
    source = stored.astype(np.float64) * scales + offsets
    source[~valid | ~np.isfinite(source)] = np.nan
    if nodata is not None:
        source[stored == nodata] = np.nan
    reproject(
        source,
        values,
        src_transform=transform,
        src_crs=crs,
        dst_transform=grid.transform,
        dst_crs=grid.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=method,
    )
    return values
