"""A tile in its files, as the house reads rasters: no data, scale and offset as they state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from mmearth.api import Problem, RasterInput
from mmearth.errors import InputError, RadiometryError, RasterReadError, listed
from mmearth.pretraining.datasets.listing import Raster, beside
from mmearth.pretraining.modality import UNKNOWN, categorical, continuous
from mmearth.raster.grid import Grid
from mmearth.raster.radiometry import scale_bands
from mmearth.raster.source import list_bands, open_raster, read_mask
from mmearth.sensors import Sensor


@dataclass(frozen=True)
class Numbers:
    """How the stored numbers of an image are read; each has a value for each band.

    Attributes:
        bands: of the file, from 1.
        scale: quantity = stored number x scale + offset.
        offset: see ``scale``.
        empty: stored numbers that stand for no data. What does so where the file states nothing
            counts band by band, as in MMEarth: a network would be asked to tell an empty band
            otherwise.
    """

    bands: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    empty: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Tile:
    """A tile that has been looked at; its pixels are read when they are asked for.

    Attributes:
        path: of the image.
        shape: height and width in pixels.
        grid: of its pixels, straightened; None of an image without a place on the map.
        numbers: how they are read.
        rasters: what lies beside it, by name.
        channels: bands of each of these.
        place: latitude and longitude of the middle in degrees, NaN if it has no place.
        pixel_m: size of a pixel on the ground in metres, NaN likewise.
        warnings: about its numbers.
    """

    path: Path
    shape: tuple[int, int]
    grid: Grid | None
    numbers: Numbers
    rasters: Mapping[str, Raster]
    channels: Mapping[str, int]
    place: tuple[float, float]
    pixel_m: float
    warnings: list[Problem]

    def image(self, window: Window | None = None) -> NDArray[np.float32]:
        """Read the image, or a part of it.

        Returns:
            (C, h, w) float32, what the sensor measures; NaN where a band has no data.

        Raises:
            RasterReadError: if the file is damaged.
        """
        numbers = self.numbers
        with open_raster(str(self.path)) as dataset:
            stored, valid = _pixels(dataset, numbers.bands, self.path, window)
        scale, offset = (np.reshape(row, (-1, 1, 1)) for row in (numbers.scale, numbers.offset))
        values = stored.astype(np.float64) * scale + offset
        valid &= np.isfinite(values)
        for number, empty in enumerate(numbers.empty):
            valid[number] &= ~np.isin(stored[number], empty)
        return np.where(valid, values, np.nan).astype(np.float32)

    def raster(
        self, name: str, window: Window | None = None
    ) -> NDArray[np.float32] | NDArray[np.int64]:
        """Read a raster that lies beside the image, or a part of it.

        Returns:
            (C, h, w) float32 or (h, w) int64; see ``mmearth.pretraining.modality``.

        Raises:
            InputError: if it holds a code that is not listed, or cannot hold the value that is to
                stand for no data.
            RasterReadError: if the file is damaged.
        """
        raster = self.rasters[name]
        path = beside(self.path, raster)
        with open_raster(str(path)) as dataset:
            stored, valid = _pixels(dataset, dataset.indexes, path, window)
            scale, offset = (np.reshape(n, (-1, 1, 1)) for n in (dataset.scales, dataset.offsets))
        try:
            if raster.kind == "continuous":
                values = continuous(stored, raster.nodata, scale=scale, offset=offset)
                return np.where(valid, values, np.float32(np.nan))
            if raster.kind == "categorical":
                return categorical(stored[0], raster.codes, raster.nodata, valid[0])
        except InputError as error:
            raise InputError(f"{path}: {error.message}", error.advice) from error
        known = stored.any(axis=0) & valid.all(axis=0)
        return np.where(known, stored.argmax(axis=0), UNKNOWN)


def band_names(path: Path) -> tuple[str, ...]:
    """Return what a tile calls its bands; empty where it says nothing.

    Raises:
        RasterReadError: if it cannot be opened.
    """
    with open_raster(str(path)) as dataset:
        return tuple(name or "" for name in dataset.descriptions)


def check_bands(path: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Check that a tile has some bands.

    Raises:
        InputError: if one of them is missing.
    """
    missing = [band for band in wanted if band not in found]
    if missing:
        named = listed(filter(None, found)) or "none with a name"
        raise InputError(
            f"{path} has no band {listed(missing)}; it has {named}.",
            "Choose other bands, or name those of the file.",
        )


def look_at(
    path: Path, bands: Sequence[str], declared: Mapping[str, Raster], sensor: Sensor
) -> Tile:
    """Look at an image and what lies beside it; of its pixels, no more than samples are read.

    Raises:
        InputError: if they do not fit each other, or what is said of them.
        RadiometryError: if its numbers cannot be what the sensor measures.
        RasterReadError: if a file is damaged.
    """
    names = band_names(path)
    check_bands(path, bands, names)
    found = list_bands([RasterInput(path=str(path))], anywhere=True)
    sources = {source.band: source for source in found}
    try:
        scaled, warnings = scale_bands([sources[names.index(one) + 1] for one in bands], sensor)
    except RadiometryError as error:
        raise RadiometryError(f"{path}: {error.message}", error.advice) from error
    with open_raster(str(path)) as dataset:
        shape = (dataset.height, dataset.width)
    rasters = {name: row for name, row in declared.items() if beside(path, row).exists()}
    place, pixel_m = (math.nan, math.nan), math.nan
    grid = scaled[0].source.grid if scaled[0].source.grid.crs else None
    if grid:
        x, y = grid.transform @ (grid.width / 2, grid.height / 2)
        (lon,), (lat,) = rasterio.warp.transform(grid.crs, "EPSG:4326", [x], [y])
        place, pixel_m = (lat, lon), grid.pixel_m
    return Tile(
        path,
        shape,
        grid,
        Numbers(
            tuple(band.source.band for band in scaled),
            tuple(band.scale for band in scaled),
            tuple(band.offset for band in scaled),
            tuple(
                tuple(
                    stated
                    for stated in (band.nodata, band.all_zero_nodata)
                    if stated is not None and not math.isnan(stated)
                )
                for band in scaled
            ),
        ),
        rasters,
        {name: _channels(beside(path, raster), raster, shape) for name, raster in rasters.items()},
        place,
        pixel_m,
        warnings,
    )


def _channels(path: Path, raster: Raster, shape: tuple[int, int]) -> int:
    """Return how many bands a raster has, if it fits its image and what is said of it."""
    with open_raster(str(path)) as dataset:
        count, found = dataset.count, (dataset.height, dataset.width)
    if found != shape:
        raise InputError(
            f"{path} has {found[1]} x {found[0]} pixels, its image {shape[1]} x {shape[0]}.",
            "Bring it onto the pixels of the image.",
        )
    if raster.kind == "categorical" and count != 1:
        raise InputError(
            f"{path} has {count} bands, where codes of classes are in one.",
            "Leave the other bands out of the file, or list it as another kind.",
        )
    if raster.kind == "probabilities" and count < 2:
        raise InputError(
            f"{path} has one band, where each class has one of its own.",
            "List it as another kind.",
        )
    return int(count)


def _pixels(
    dataset: DatasetReader, bands: Sequence[int], path: Path, window: Window | None
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    try:
        chosen = list(bands)
        return dataset.read(chosen, window=window), read_mask(dataset, chosen, window=window)
    except RasterioError as error:
        raise RasterReadError(
            f"{path} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
        ) from error
