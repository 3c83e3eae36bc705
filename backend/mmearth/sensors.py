"""Sensors: which bands they have, under which names, and what their numbers mean.

Each sensor is a file in ``sensors/``; adding one needs no code.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10
    import tomli as tomllib

from mmearth.errors import ModelError, listed

FOLDER = Path(__file__).with_suffix("")
WAVELENGTH_TOLERANCE_NM = 15.0
# Metadata is often rounded to the nanometre: closer than this, two wavelengths tell nothing apart.
WAVELENGTH_ROUNDING_NM = 1.0

_NUMBERED = re.compile(r"^(?:BAND|B)0*(\d{1,3})(A?)$", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;:_.\-/()]+")
_RANGE = re.compile(r"^B(\d+)\.\.B(\d+)$")


@dataclass(frozen=True)
class SensorBand:
    """A spectral band.

    Attributes:
        name: zero-padded name, for example ``B04``.
        title: what it is called in words.
        aliases: other names in use, lower case.
        wavelength_nm: central wavelength in nanometres; None of radar.
        width_nm: bandwidth (full width at half maximum) in nanometres; None of radar.
        gsd_m: pixel size on the ground in metres; None if it differs from file to file.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    wavelength_nm: float | None = None
    width_nm: float | None = None
    gsd_m: float | None = None

    @property
    def tolerance_nm(self) -> float:
        """How far off in wavelength another band may lie and still stand for this one.

        15 nm between multispectral sensors; the width of the band where it is narrower; 0
        for a band without a wavelength.
        """
        return min(self.width_nm or 0.0, WAVELENGTH_TOLERANCE_NM)

    def distance_nm(self, wavelength_nm: float) -> float:
        """Return how far a wavelength lies from this band's; infinite if the band has none."""
        if self.wavelength_nm is None:
            return math.inf
        return abs(self.wavelength_nm - wavelength_nm)


@dataclass(frozen=True)
class Sensor:
    """A sensor and the convention of its products.

    Attributes:
        id: stable identifier.
        title: name in words.
        quantity: what its numbers mean once scaled: ``reflectance``, ``radiance``, of radar
            ``backscatter`` (in decibels) or, of pictures without calibration, ``brightness``.
        bands: all bands in the order of the product.
        scale: quantity = stored integer x scale + offset, unless the file says otherwise.
        offset: see ``scale``.
        nodata: stored value of an empty pixel (in all bands), unless the file says otherwise.
        added_offset: what newer products add to the stored integers, if they do; it may be left
            in files that no longer say so.
        orders: usual band orders of files without band names.
        renumbered: by a word in the name of a file: its band numbers that mean another band here,
            or, if empty, none.
        foreign: pattern of words that tell of another sensor, whose band numbers mean nothing
            here; empty for none.
    """

    id: str
    title: str
    quantity: str
    bands: tuple[SensorBand, ...]
    scale: float
    offset: float
    nodata: float | None = None
    added_offset: float | None = None
    orders: tuple[tuple[str, ...], ...] = ()
    renumbered: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    foreign: str = ""

    def band(self, name: str) -> SensorBand:
        """Return the band of this exact name, or raise ``ModelError``."""
        for band in self.bands:
            if band.name == name:
                return band
        known = listed(band.name for band in self.bands)
        raise ModelError(
            f"{self.title} has no band {name}; its bands are {known}.",
            "The model's card is wrong or made for another sensor: install the model again.",
        )

    def find_by_name(self, text: str) -> SensorBand | None:
        """Return the only band whose name a text is, or whose number stands in it.

        For example ``B04`` for ``T32TNT_B04_10m``.
        """
        whole = self._by_key.get(text.strip().upper())
        if whole:
            return whole
        # "Band 4" is one name, not two words.
        tokens = _tokens(re.sub(r"\b[Bb]and[ _]+(?=\d)", "band", text))
        keys = {key for token in tokens if (key := _number(token))}
        for word, names in self.renumbered.items():
            if word in tokens:
                meant = {_number(number): _number(name) for number, name in names.items()}
                keys = {found for key in keys if (found := meant.get(key, key))}
        bands = [band for key, band in self._by_key.items() if key in keys]
        return bands[0] if len(bands) == 1 else None

    def is_foreign(self, text: str) -> bool:
        """Tell whether a text, such as the name of a file, tells of another sensor."""
        pattern = re.compile(self.foreign, re.IGNORECASE)
        return bool(self.foreign) and any(pattern.fullmatch(token) for token in _tokens(text))

    def find_by_alias(self, text: str) -> SensorBand | None:
        """Return the only band whose alias a text is, or holds as a word."""
        whole = re.sub(r"[\s\-]+", "_", text.strip().lower())
        exact = [band for band in self.bands if whole in band.aliases]
        if exact:
            return exact[0]
        words = {token.lower() for token in _tokens(text)}
        bands = [band for band in self.bands if words & set(band.aliases)]
        return bands[0] if len(bands) == 1 else None

    def contradicts(self, band: SensorBand, wavelength_nm: float | None) -> bool:
        """Tell whether a wavelength belongs to another band than the one that a name says.

        Band numbers mean one thing on one sensor and another on the next.
        """
        if wavelength_nm is None:
            return False
        nearest = min(self.bands, key=lambda other: other.distance_nm(wavelength_nm))
        distance = nearest.distance_nm(wavelength_nm)
        if math.isinf(distance):
            return True  # what states a wavelength is no radar band
        gain = band.distance_nm(wavelength_nm) - distance
        return distance <= nearest.tolerance_nm and gain > WAVELENGTH_ROUNDING_NM

    @cached_property
    def _by_key(self) -> dict[str, SensorBand]:
        return {_number(band.name) or band.name.upper(): band for band in self.bands}


def is_number(text: str, number: int) -> bool:
    """Tell whether a text is nothing but the number of a band, such as ``B04`` for 4."""
    return _number(text.strip()) == f"B{number}"


def _tokens(text: str) -> list[str]:
    return [token for token in _SEPARATORS.split(text) if token]


def _number(token: str) -> str | None:
    """Return ``B4`` for ``B04``, ``b004``, ``band4``; ``B8A`` for ``b08a``; else None."""
    match = _NUMBERED.match(token)
    return f"B{int(match[1])}{match[2].upper()}" if match else None


@cache
def load_sensor(sensor_id: str) -> Sensor:
    """Read a sensor by its identifier.

    Raises:
        ModelError: if there is no such sensor.
    """
    for sensor in all_sensors():
        if sensor.id == sensor_id:
            return sensor
    known = listed(sensor.id for sensor in all_sensors())
    raise ModelError(
        f"Unknown sensor {sensor_id!r}; known sensors are {known}.",
        "Update MMEarth, or correct the sensor in the model's card.",
    )


@cache
def all_sensors() -> tuple[Sensor, ...]:
    """Read every sensor, sorted by identifier."""
    sensors = [_parse(tomllib.loads(p.read_text("utf-8"))) for p in FOLDER.glob("*.toml")]
    return tuple(sorted(sensors, key=lambda sensor: sensor.id))


def _parse(data: dict[str, Any]) -> Sensor:
    """Read a sensor whose bands are a table each, or columns of one table if they are many."""
    orders = tuple(tuple(_expand(order)) for order in data.pop("orders", ()))
    bands = [
        SensorBand(**{**band, "aliases": tuple(band["aliases"])}) for band in data.pop("bands", ())
    ]
    if spectrum := data.pop("spectrum", None):
        bands += _columns(**spectrum)
    return Sensor(**data, bands=tuple(bands), orders=orders)


def _columns(
    names: list[str], wavelengths_nm: list[float], widths_nm: list[float], gsd_m: float
) -> list[SensorBand]:
    rows = zip(_expand(names), wavelengths_nm, widths_nm, strict=True)
    return [
        SensorBand(name, f"{wavelength:.0f} nm", (), wavelength, width, gsd_m)
        for name, wavelength, width in rows
    ]


def _expand(names: Iterable[str]) -> list[str]:
    """Write ``B008..B010`` out as ``B008``, ``B009``, ``B010``."""
    expanded: list[str] = []
    for name in names:
        if match := _RANGE.match(name):
            first, last, digits = int(match[1]), int(match[2]), len(match[1])
            expanded += [f"B{number:0{digits}d}" for number in range(first, last + 1)]
        else:
            expanded.append(name)
    return expanded
