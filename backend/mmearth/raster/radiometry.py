"""From stored numbers to reflectance: which scale and offset, and whether they make sense.

QGIS applies a band's scale and offset when it reads, rasterio does not; here it happens once, and
nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from mmearth.api import Problem, Radiometry
from mmearth.errors import RadiometryError, RasterReadError
from mmearth.raster.source import BandSource, open_raster
from mmearth.sensors import Sensor

SAMPLE_SIDE = 128  # pixels a side of the sample on which numbers are judged
BRIGHTEST_REFLECTANCE = 2.5  # clouds, snow and glint exceed 1, but not this in bulk
DARKEST_REFLECTANCE = 0.002  # the bright end of a scene that is darker holds no light at all
OLD_OFFSET = 1000  # added to stored numbers since ESA's processing baseline 04.00


@dataclass(frozen=True)
class ScaledBand:
    """A band and what makes reflectance of its stored numbers.

    Attributes:
        source: the band.
        scale: reflectance = stored value x scale + offset.
        offset: see ``scale``.
        nodata: stored value that is empty by itself, if any.
        all_zero_nodata: stored value that is empty only if all bands hold it, if any.
    """

    source: BandSource
    scale: float
    offset: float
    nodata: float | None
    all_zero_nodata: float | None


def scale_bands(
    sources: Sequence[BandSource], sensor: Sensor, override: Radiometry | None = None
) -> tuple[list[ScaledBand], list[Problem]]:
    """Decide scale and offset of each band, and check them on a sample of pixels.

    Args:
        sources: bands in the model's order.
        sensor: convention for files that state nothing.
        override: the user's own numbers; they win.

    Returns:
        The bands, and warnings.

    Raises:
        RadiometryError: if the numbers cannot be reflectance.
        RasterReadError: if pixels cannot be read.
    """
    samples = [_sample(source.dataset, source.band, _stamp(source.dataset)) for source in sources]
    scaled = [
        _scale(source, sample, sensor, override)
        for source, sample in zip(sources, samples, strict=True)
    ]
    values = [
        _valid(sample, band) * band.scale + band.offset
        for sample, band in zip(samples, scaled, strict=True)
    ]
    # A sample may miss a small island of data; whether there is any shows when it is mapped.
    if any(value.size == 0 for value in values):
        return scaled, []
    _check_range(scaled, values)
    return scaled, _offset_warning(scaled, samples, override)


def refuse_pictures(
    sources: Sequence[BandSource], sensor: Sensor, override: Radiometry | None = None
) -> None:
    """Check that there is more than pictures made for viewing.

    To be asked before bands are missed: a true-colour picture lacks most of them, but adding more
    of its kind would not help.

    Raises:
        RadiometryError: if all bands are of 8 bits and nothing says what their numbers mean.
    """
    unscaled = override is None or override.scale is None
    if unscaled and sources and all(_is_picture(source) for source in sources):
        raise _picture_error(sources[0], sensor)


def _is_picture(source: BandSource) -> bool:
    return source.scale is None and source.dtype in ("uint8", "int8")


def _picture_error(source: BandSource, sensor: Sensor) -> RadiometryError:
    return RadiometryError(
        f"{source.title} is an 8-bit picture (values 0 to 255), but this model reads "
        f"{sensor.title} {sensor.quantity}.",
        "Use the original bands rather than a true-colour picture made for viewing.",
    )


def _scale(
    source: BandSource, sample: NDArray[np.generic], sensor: Sensor, override: Radiometry | None
) -> ScaledBand:
    undeclared = sensor.nodata if source.nodata is None and not source.masked else None
    band = ScaledBand(source, 1.0, 0.0, source.nodata, undeclared)
    if override is None:
        return _as_stated(band, sample, sensor)
    if override.scale is None:
        return replace(_as_stated(band, sample, sensor), offset=override.offset)
    return replace(band, scale=override.scale, offset=override.offset)


def _as_stated(band: ScaledBand, sample: NDArray[np.generic], sensor: Sensor) -> ScaledBand:
    """Scale as the file says; if it says nothing, as is usual for the sensor."""
    source = band.source
    if source.scale is not None:
        return replace(band, scale=source.scale, offset=source.offset)
    if _is_picture(source):
        raise _picture_error(source, sensor)
    valid = _valid(sample, band)
    floating = source.dtype.startswith("float")
    if floating and valid.size and np.percentile(valid, 99) <= BRIGHTEST_REFLECTANCE:
        return band
    return replace(band, scale=sensor.scale, offset=sensor.offset)


def _check_range(bands: list[ScaledBand], values: list[NDArray[np.float64]]) -> None:
    medians = [float(np.median(value)) for value in values]
    brightest = max(float(np.percentile(value, 99)) for value in values)
    if min(medians) > BRIGHTEST_REFLECTANCE or brightest < DARKEST_REFLECTANCE:
        band = bands[0]
        raise RadiometryError(
            "The values are no reflectance: after scaling by "
            f"{band.scale:g} they run around {float(np.median(medians)):.3g} and up to "
            f"{brightest:.3g}, where 0 to 1 is expected.",
            "Use reflectance (0 to 1) or Sentinel-2 numbers (0 to 10000), or state scale and "
            "offset of the values.",
        )


def _offset_warning(
    bands: list[ScaledBand], samples: list[NDArray[np.generic]], override: Radiometry | None
) -> list[Problem]:
    """Warn if numbers look as if the offset of newer products was never removed."""
    stated = override or any(band.source.scale is not None for band in bands)
    if stated or not all(band.source.dtype in ("uint16", "int16") for band in bands):
        return []
    darkest = [
        float(np.percentile(_valid(sample, band), 0.5))
        for sample, band in zip(samples, bands, strict=True)
    ]
    if min(darkest) < OLD_OFFSET:
        return []
    return [
        Problem(
            code="offset",
            message=f"Even the darkest pixels hold {min(darkest):.0f}: the offset of "
            f"{OLD_OFFSET} that newer Sentinel-2 products add seems to be still in the values.",
            advice="Use the .SAFE folder, whose metadata states the offset, or give the offset "
            "-0.1 in the advanced settings.",
        )
    ]


def _valid(sample: NDArray[np.generic], band: ScaledBand) -> NDArray[np.float64]:
    values = sample.astype(np.float64).ravel()
    keep = np.isfinite(values)
    for empty in (band.nodata, band.all_zero_nodata):
        if empty is not None and not np.isnan(empty):
            keep &= values != empty
    return values[keep]


def _stamp(name: str) -> float:
    return os.stat(name).st_mtime if os.path.exists(name) else 0.0


@lru_cache(maxsize=512)
def _sample(name: str, band: int, _modified: float) -> NDArray[np.generic]:
    """Read about SAMPLE_SIDE² pixels spread over a band, masked ones left out.

    Files with overviews are read through them; of others a few windows are read, because a
    decimated read would decode the whole file.
    """
    with open_raster(name) as dataset:
        try:
            if dataset.overviews(band) or dataset.width * dataset.height <= 4 * SAMPLE_SIDE**2:
                shape = (min(SAMPLE_SIDE, dataset.height), min(SAMPLE_SIDE, dataset.width))
                values = dataset.read(band, out_shape=shape, resampling=Resampling.nearest)
                mask = dataset.read_masks(band, out_shape=shape, resampling=Resampling.nearest)
                return values[mask > 0]
            side = SAMPLE_SIDE // 4
            rows = np.linspace(0, dataset.height - side, 4).astype(int).clip(0)
            cols = np.linspace(0, dataset.width - side, 4).astype(int).clip(0)
            windows = [
                Window(int(c), int(r), min(side, dataset.width), min(side, dataset.height))
                for r in rows
                for c in cols
            ]
            return np.concatenate(
                [
                    dataset.read(band, window=w)[dataset.read_masks(band, window=w) > 0]
                    for w in windows
                ]
            )
        except RasterioError as error:
            raise RasterReadError(
                f"{name} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
            ) from error
