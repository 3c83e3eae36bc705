"""From stored numbers to reflectance: which scale and offset, and whether they make sense.

QGIS applies a band's scale and offset when it reads, rasterio does not; here it happens once, and
nowhere else.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from mmearth.api import Problem, Radiometry
from mmearth.errors import RadiometryError, RasterReadError
from mmearth.raster.mask import Mask, left_in
from mmearth.raster.source import BandSource, open_raster, read_mask
from mmearth.sensors import Sensor

SAMPLE_SIDE = 128  # pixels a side of the sample on which numbers are judged
DENSE_SIDE = 1024  # of the second sample, if the first holds no data
BRIGHTEST_REFLECTANCE = 2.5  # clouds, snow and glint exceed 1, but not this in bulk
BRIGHTEST_PICTURE = 1.0  # no picture is brighter than white
FAINTEST_DB = -60.0  # far below the noise of Sentinel-1, about -22 to -30 dB
DARKEST_REFLECTANCE = 0.002  # the bright end of a scene that is darker holds no light at all


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


@dataclass(frozen=True)
class _Sample:
    """Some pixels of a band.

    Attributes:
        values: stored numbers, (n,) float64.
        places: column and row of the middle of each, (n, 2), in pixels of its dataset.
    """

    values: NDArray[np.float64]
    places: NDArray[np.float64]


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
        RadiometryError: if the numbers cannot be what the sensor measures.
        RasterReadError: if pixels cannot be read.
    """
    bands = [_unscaled(source, sensor) for source in sources]
    samples = [found.values for found in _samples_of(bands)]
    reflective = _reflective_inputs(bands, samples)
    scaled = [_scale(band, sensor, override, reflective) for band in bands]
    # Whether there is any data at all shows when it is mapped.
    if any(sample.size == 0 for sample in samples):
        return scaled, []
    values = [
        sample * band.scale + band.offset for sample, band in zip(samples, scaled, strict=True)
    ]
    if sensor.quantity == "backscatter":
        _check_decibels(values)
    elif sensor.quantity != "radiance":  # which has no largest value
        _check_range(scaled, values, sensor)
    return scaled, _offset_warning(scaled, samples, sensor, override)


def sample(bands: Sequence[ScaledBand], masks: Sequence[Mask] = ()) -> list[NDArray[np.float64]]:
    """Return what some pixels of each band measure, spread over it; (n,), empty ones left out.

    They are those that scale and offset were checked on, and are not read again.

    Args:
        bands: with scale and offset.
        masks: pixels that they leave out are not among them.

    Raises:
        RasterReadError: if pixels cannot be read.
    """
    stored = _samples_of(bands)
    kept = left_in(
        masks,
        [(band.source.grid, found.places) for band, found in zip(bands, stored, strict=True)],
    )
    return [
        found.values[kept_here] * band.scale + band.offset
        for found, band, kept_here in zip(stored, bands, kept, strict=True)
    ]


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
    if unscaled and sources and all(_is_picture(source, sensor) for source in sources):
        raise _picture_error(sources[0], sensor)


def _is_picture(source: BandSource, sensor: Sensor) -> bool:
    """Tell whether 8 bits hold what was measured only as it looks; some sensors take no more."""
    bytes_only = source.scale is None and source.dtype in ("uint8", "int8")
    return bytes_only and sensor.quantity != "brightness"


def _picture_error(source: BandSource, sensor: Sensor) -> RadiometryError:
    return RadiometryError(
        f"{source.title} is an 8-bit picture (values 0 to 255), but this model reads "
        f"{sensor.title} {sensor.quantity}.",
        "Use the original bands rather than a true-colour picture made for viewing.",
    )


def _unscaled(source: BandSource, sensor: Sensor) -> ScaledBand:
    undeclared = sensor.nodata if source.nodata is None and not source.masked else None
    return ScaledBand(source, 1.0, 0.0, source.nodata, undeclared)


def _reflective_inputs(
    bands: Sequence[ScaledBand], samples: Sequence[NDArray[np.float64]]
) -> set[int]:
    """Return the inputs whose floating-point numbers are reflectance already.

    The bands of an input share one meaning, and its brightest band shows which: a single band may
    be too dark to tell.
    """
    brightest: dict[int, float] = {}
    for band, sample in zip(bands, samples, strict=True):
        source = band.source
        if source.dtype.startswith("float") and source.scale is None and sample.size:
            value = float(np.percentile(sample, 99))
            brightest[source.input] = max(value, brightest.get(source.input, value))
    return {number for number, value in brightest.items() if value <= BRIGHTEST_REFLECTANCE}


def _scale(
    band: ScaledBand, sensor: Sensor, override: Radiometry | None, reflective: set[int]
) -> ScaledBand:
    if override is None:
        return _as_stated(band, sensor, reflective)
    if override.scale is None:
        return replace(_as_stated(band, sensor, reflective), offset=override.offset)
    return replace(band, scale=override.scale, offset=override.offset)


def _as_stated(band: ScaledBand, sensor: Sensor, reflective: set[int]) -> ScaledBand:
    """Scale as the file says; if it says nothing, as is usual for the sensor."""
    source = band.source
    if source.scale is not None:
        return replace(band, scale=source.scale, offset=source.offset)
    if _is_picture(source, sensor):
        raise _picture_error(source, sensor)
    if sensor.quantity == "brightness" and source.dtype != "uint8":
        # Reflectance runs from 0 to 1 as well, and would make a picture far too dark.
        raise RadiometryError(
            f"{source.title} holds no brightness: its numbers are {source.dtype}, but this model "
            "reads pictures of 8 bits. Reflectance is no picture.",
            "Use a true-colour picture of 8 bits (0 to 255) made for viewing, or state scale and "
            "offset that turn the values into brightness (0 to 1).",
        )
    if source.input in reflective:
        return band
    return replace(band, scale=sensor.scale, offset=sensor.offset)


def _check_range(
    bands: list[ScaledBand], values: list[NDArray[np.float64]], sensor: Sensor
) -> None:
    medians = [float(np.median(value)) for value in values]
    brightest = max(float(np.percentile(value, 99)) for value in values)
    too_bright = min(medians) > BRIGHTEST_REFLECTANCE
    if sensor.quantity == "brightness":
        too_bright = brightest > BRIGHTEST_PICTURE + 1e-6  # rounding
    if too_bright or brightest < DARKEST_REFLECTANCE:
        band = bands[0]
        raise RadiometryError(
            f"The values are no {sensor.quantity}: after scaling by {band.scale:g} they run "
            f"around {float(np.median(medians)):.3g} and up to "
            f"{brightest:.3g}, where 0 to 1 is expected.",
            f"Use {sensor.quantity} (0 to 1) or {sensor.title} numbers "
            f"({(0 - sensor.offset) / sensor.scale:.0f} to "
            f"{(1 - sensor.offset) / sensor.scale:.0f}), "
            "or state scale and offset of the values.",
        )


def _check_decibels(values: list[NDArray[np.float64]]) -> None:
    medians = [float(np.median(value)) for value in values]
    if not all(FAINTEST_DB <= median < 0 for median in medians):
        found = " and ".join(f"{median:.3g}" for median in medians)
        raise RadiometryError(
            f"The values are no backscatter in decibels: they run around {found}, where "
            f"{FAINTEST_DB:g} to 0 is expected.",
            "Use decibels: 10 x log10 of backscatter in linear power. If they are stored as whole "
            "numbers, state scale and offset of the values.",
        )


def _offset_warning(
    bands: list[ScaledBand],
    samples: list[NDArray[np.float64]],
    sensor: Sensor,
    override: Radiometry | None,
) -> list[Problem]:
    """Warn if numbers look as if the offset of newer products was never removed."""
    added = sensor.added_offset
    if added is None:
        return []
    stated = override or any(band.source.scale is not None for band in bands)
    if stated or not all(band.source.dtype in ("uint16", "int16") for band in bands):
        return []
    darkest = [float(np.percentile(sample, 0.5)) for sample in samples]
    if min(darkest) < added:
        return []
    return [
        Problem(
            code="offset",
            message=f"Even the darkest pixels hold {min(darkest):.0f}: the offset of "
            f"{added:g} that newer {sensor.title} products add seems to be still in the values.",
            advice="Use the .SAFE folder, whose metadata states the offset, or give the offset "
            f"{-added * sensor.scale:g} in the advanced settings.",
        )
    ]


def _samples_of(bands: Sequence[ScaledBand]) -> list[_Sample]:
    """Return stored numbers of each band, spread over it, empty ones left out."""
    empty_by_file: dict[str, dict[int, frozenset[float]]] = {}
    for band in bands:
        stated = (band.nodata, band.all_zero_nodata)
        empty = frozenset(value for value in stated if value is not None and not np.isnan(value))
        empty_by_file.setdefault(band.source.dataset, {})[band.source.band] = empty
    samples = {
        name: _samples(name, tuple(empty.items()), _stamp(name))
        for name, empty in empty_by_file.items()
    }
    return [samples[band.source.dataset][band.source.band] for band in bands]


def _stamp(name: str) -> float:
    return os.stat(name).st_mtime if os.path.exists(name) else 0.0


@lru_cache(maxsize=16)  # files of a product; each holds all bands of one, up to megabytes
def _samples(
    name: str, empty: tuple[tuple[int, frozenset[float]], ...], _modified: float
) -> dict[int, _Sample]:
    """Read about SAMPLE_SIDE² numbers a band; none only if a denser look finds none either."""
    samples = {}
    with open_raster(name) as dataset:
        try:
            found = _read_sparsely(dataset, [band for band, _ in empty])
            for band, none in empty:
                sample = _without(none, found[band])
                if not sample.values.size:  # a small island of data lies between the windows
                    sample = _without(none, _read_decimated(dataset, band, DENSE_SIDE))
                step = 1 + sample.values.size // SAMPLE_SIDE**2
                samples[band] = _Sample(sample.values[::step], sample.places[::step])
        except RasterioError as error:
            raise RasterReadError(
                f"{name} is damaged: its pixels cannot be read.", f"GDAL says: {error}"
            ) from error
    return samples


def _without(empty: frozenset[float], sample: _Sample) -> _Sample:
    kept = np.isfinite(sample.values) & ~np.isin(sample.values, list(empty))
    return _Sample(sample.values[kept], sample.places[kept])


def _read_sparsely(dataset: DatasetReader, bands: list[int]) -> dict[int, _Sample]:
    """Read SAMPLE_SIDE² pixels a band: decimated where that is cheap, else a few windows.

    Without overviews a decimated read would decode the whole file. Window by window, because files
    that hold the bands pixel by pixel are decoded for all bands at once.
    """
    if dataset.overviews(bands[0]) or dataset.width * dataset.height <= 4 * SAMPLE_SIDE**2:
        return {band: _read_decimated(dataset, band, SAMPLE_SIDE) for band in bands}
    side = SAMPLE_SIDE // 4
    rows = np.linspace(0, dataset.height - side, 4).astype(int).clip(0)
    cols = np.linspace(0, dataset.width - side, 4).astype(int).clip(0)
    parts: dict[int, list[_Sample]] = {band: [] for band in bands}
    for row, col in itertools.product(rows, cols):
        window = Window(int(col), int(row), min(side, dataset.width), min(side, dataset.height))
        for band in bands:
            values = dataset.read(band, window=window)
            mask = read_mask(dataset, band, window=window)
            parts[band].append(_sample(values, mask, window))
    return {
        band: _Sample(
            np.concatenate([part.values for part in found]),
            np.concatenate([part.places for part in found]),
        )
        for band, found in parts.items()
    }


def _read_decimated(dataset: DatasetReader, band: int, side: int) -> _Sample:
    shape = (min(side, dataset.height), min(side, dataset.width))
    values = dataset.read(band, out_shape=shape, resampling=Resampling.nearest)
    mask = read_mask(dataset, band, out_shape=shape, resampling=Resampling.nearest)
    return _sample(values, mask, Window(0, 0, dataset.width, dataset.height))


def _sample(values: NDArray[np.generic], mask: NDArray[np.bool_], window: Window) -> _Sample:
    """Return the valid ones of (h, w) numbers that are spread evenly over a window."""
    rows, cols = np.nonzero(mask)
    height, width = values.shape
    places = np.stack(
        [
            window.col_off + (cols + 0.5) * window.width / width,
            window.row_off + (rows + 0.5) * window.height / height,
        ],
        axis=1,
    )
    return _Sample(values[mask].astype(np.float64), places)
