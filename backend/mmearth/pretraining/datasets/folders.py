"""Reading parts of images that lie in folders, as the sensor's convention says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from mmearth.errors import InputError, RasterReadError
from mmearth.raster.source import open_raster
from mmearth.sensors import Sensor


def subfolders(folder: Path, what: str) -> list[Path]:
    """Return the folders in a folder, by name.

    Args:
        folder: to look in.
        what: they are, for the user.

    Raises:
        InputError: if there are none.
    """
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if not found:
        raise InputError(f"{folder} holds no {what}.", "Unpack the archive again.")
    return found


def read_bands(
    path: Path,
    bands: Sequence[int],
    sensor: Sensor,
    window: Window,
    shape: tuple[int, int],
    *,
    resample: bool = False,
    count: int | None = None,
) -> NDArray[np.float32]:
    """Read a part of some bands of a file.

    Args:
        path: of the file.
        bands: from 1.
        sensor: whose scale, offset and no data count, beside the no data that the file states. They
            count band by band: a network would be asked to tell an empty band otherwise.
        window: part of an image.
        shape: height and width of the image.
        resample: bring a file of larger pixels onto those of the image, bilinearly.
        count: bands that the file has to have, if known.

    Returns:
        (C, h, w) float32, what the sensor measures; NaN where a band has no data.

    Raises:
        RasterReadError: if the file is missing or damaged, or of another size.
    """
    with open_raster(str(path)) as dataset:
        if count is not None and dataset.count != count:
            raise RasterReadError(
                f"{path} has {dataset.count} bands, expected {count}.", "Download the file again."
            )
        stored = _read(dataset, path, bands, window, shape, resample)
        scaled = dataset.dtypes[bands[0] - 1].startswith("float")
        stated = [dataset.nodatavals[band - 1] for band in bands]
    values = stored.astype(np.float64)
    if not scaled:  # floating-point numbers are what is measured
        values = values * sensor.scale + sensor.offset
    empty = ~np.isfinite(values)
    for number, found in enumerate(stated):
        for nothing in (found, sensor.nodata):
            if nothing is not None:
                empty[number] |= stored[number] == nothing
    values[empty] = np.nan
    return values.astype(np.float32)


def read_codes(path: Path, window: Window, shape: tuple[int, int]) -> NDArray[np.generic]:
    """Read a part of the first band as it is stored; (h, w). See ``read_bands``."""
    with open_raster(str(path)) as dataset:
        return _read(dataset, path, [1], window, shape, resample=False)[0]


def _read(
    dataset: DatasetReader,
    path: Path,
    bands: Sequence[int],
    window: Window,
    shape: tuple[int, int],
    resample: bool,
) -> NDArray[np.generic]:
    found = (dataset.height, dataset.width)
    if found != shape and not resample:
        raise RasterReadError(
            f"{path} has {found[1]} x {found[0]} pixels, expected {shape[1]} x {shape[0]}.",
            "Download the file again.",
        )
    down, across = found[0] / shape[0], found[1] / shape[1]
    part = Window(
        window.col_off * across, window.row_off * down, window.width * across, window.height * down
    )
    size = (len(bands), int(window.height), int(window.width))
    try:
        return dataset.read(
            list(bands), window=part, out_shape=size, resampling=Resampling.bilinear
        )
    except RasterioError as error:
        raise RasterReadError(
            f"{path} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
        ) from error
