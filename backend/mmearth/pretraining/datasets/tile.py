"""A tile in memory, as the house reads rasters: no data, scale and offset as its files state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from mmearth.api import Problem, RasterInput
from mmearth.errors import EmptyAreaError, InputError, RadiometryError, RasterReadError, listed
from mmearth.pretraining.datasets.listing import Raster, beside
from mmearth.pretraining.datasets.running import Running
from mmearth.pretraining.modality import UNKNOWN, categorical, continuous
from mmearth.raster.radiometry import ScaledBand, scale_bands
from mmearth.raster.source import list_bands, open_raster, read_mask
from mmearth.sensors import Sensor


@dataclass(frozen=True)
class Tile:
    """A tile in memory.

    Attributes:
        image: (C, H, W) float32, what the sensor measures; NaN where a band has no data.
        rasters: name -> (C, H, W) float32 or (H, W) int16; see ``mmearth.pretraining.modality``.
        classes: name -> number of classes of rasters of probabilities.
        place: latitude and longitude of the middle in degrees.
        pixel_m: size of a pixel on the ground in metres.
        warnings: about its numbers.
    """

    image: NDArray[np.float32]
    rasters: dict[str, NDArray[np.float32] | NDArray[np.int16]]
    classes: dict[str, int]
    place: tuple[float, float]
    pixel_m: float
    warnings: list[Problem]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[1], self.image.shape[2]


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


def read_tile(
    path: Path, bands: Sequence[str], declared: dict[str, Raster], sensor: Sensor
) -> Tile:
    """Read an image and what lies beside it.

    Raises:
        InputError: if they do not fit each other, or what is said of them.
        MissingCrsError: if the image has no place on the map.
        RadiometryError: if its numbers cannot be what the sensor measures.
        RasterReadError: if a file is damaged.
    """
    names = band_names(path)
    check_bands(path, bands, names)
    sources = {source.band: source for source in list_bands([RasterInput(path=str(path))])}
    try:
        scaled, warnings = scale_bands([sources[names.index(one) + 1] for one in bands], sensor)
    except RadiometryError as error:
        raise RadiometryError(f"{path}: {error.message}", error.advice) from error
    grid = scaled[0].source.grid
    with open_raster(str(path)) as dataset:
        image = np.stack([_measured(dataset, band, path) for band in scaled])
    rasters = {
        name: _read_raster(file, raster, image.shape[1:])
        for name, raster in declared.items()
        if (file := beside(path, raster)).exists()
    }
    x, y = grid.transform @ (grid.width / 2, grid.height / 2)
    (lon,), (lat,) = rasterio.warp.transform(grid.crs, "EPSG:4326", [x], [y])
    classes = {
        name: len(band_names(beside(path, declared[name])))
        for name in rasters
        if declared[name].kind == "probabilities"
    }
    return Tile(image, rasters, classes, (lat, lon), grid.pixel_m, warnings)


def _measured(dataset: DatasetReader, band: ScaledBand, path: Path) -> NDArray[np.float32]:
    """Return what a band measures, NaN where it has no data.

    What stands for no data where the file states nothing counts band by band, as in MMEarth: a
    network would be asked to tell an empty band otherwise.
    """
    stored, valid = _pixels(dataset, band.source.band, path)
    values = stored.astype(np.float64) * band.scale + band.offset
    valid &= np.isfinite(values)
    for empty in (band.nodata, band.all_zero_nodata):
        if empty is not None:
            valid &= stored != empty
    return np.where(valid, values, np.nan).astype(np.float32)


def _read_raster(
    path: Path, raster: Raster, shape: tuple[int, ...]
) -> NDArray[np.float32] | NDArray[np.int16]:
    with open_raster(str(path)) as dataset:
        if (dataset.height, dataset.width) != shape:
            raise InputError(
                f"{path} has {dataset.width} x {dataset.height} pixels, its image "
                f"{shape[1]} x {shape[0]}.",
                "Bring it onto the pixels of the image.",
            )
        if raster.kind == "categorical" and dataset.count != 1:
            raise InputError(
                f"{path} has {dataset.count} bands, where codes of classes are in one.",
                "Leave the other bands out of the file, or list it as another kind.",
            )
        if raster.kind == "probabilities" and dataset.count < 2:
            raise InputError(
                f"{path} has one band, where each class has one of its own.",
                "List it as another kind.",
            )
        bands = [_pixels(dataset, band, path) for band in dataset.indexes]
        scales, offsets = (np.reshape(n, (-1, 1, 1)) for n in (dataset.scales, dataset.offsets))
    stored, valid = (np.stack(part) for part in zip(*bands, strict=True))
    try:
        if raster.kind == "continuous":
            values = continuous(stored, raster.nodata, scale=scales, offset=offsets)
            return np.where(valid, values, np.float32(np.nan))
        if raster.kind == "categorical":
            # All tiles are in memory: a fourth of what a batch holds is enough.
            return categorical(stored[0], raster.codes, raster.nodata, valid[0]).astype(np.int16)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.advice) from error
    known = stored.any(axis=0) & valid.all(axis=0)
    return np.where(known, stored.argmax(axis=0), UNKNOWN).astype(np.int16)


def _pixels(
    dataset: DatasetReader, band: int, path: Path
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    try:
        return dataset.read(band), read_mask(dataset, band)
    except RasterioError as error:
        raise RasterReadError(
            f"{path} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
        ) from error


def statistics(
    name: str, channels: Sequence[str], arrays: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel over all that is known.

    Args:
        name: of the quantity, for the user.
        channels: their names.
        arrays: (C, ...) each, NaN = no data.

    Raises:
        EmptyAreaError: if a channel has no data at all.
        InputError: if a channel holds one value only, so that nothing can be learned of it.
    """
    found = Running(len(channels))
    for array in arrays:
        found.add(array)
    for number, channel in enumerate(channels):
        title = f"{name} ({channel})" if len(channels) > 1 else name
        if not found.count[number]:
            raise EmptyAreaError(
                f"No tile holds data of {title}.",
                "Leave it out, or check the value that stands for no data.",
            )
        if found.low[number] == found.high[number]:
            raise InputError(
                f"All data of {title} are {found.low[number]:g}: nothing can be learned of it.",
                "Leave it out, or check the value that stands for no data.",
            )
    return found.mean, found.std
