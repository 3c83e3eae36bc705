"""Sensors: which bands they have, under which names, and what their numbers mean.

Each sensor is a file in ``sensors/``; adding one needs no code.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10
    import tomli as tomllib

from mmearth.errors import ModelError

FOLDER = Path(__file__).with_suffix("")
WAVELENGTH_TOLERANCE_NM = 15.0

_NUMBERED = re.compile(r"^(?:BAND|B)0*(\d{1,3})(A?)$", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;:_.\-/()]+")


@dataclass(frozen=True)
class SensorBand:
    """A spectral band.

    Attributes:
        name: zero-padded name, for example ``B04``.
        title: what it is called in words.
        aliases: other names in use, lower case.
        wavelength_nm: central wavelength in nanometres.
        width_nm: bandwidth in nanometres.
        gsd_m: pixel size on the ground in metres.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    wavelength_nm: float
    width_nm: float
    gsd_m: float


@dataclass(frozen=True)
class Sensor:
    """A sensor and the convention of its products.

    Attributes:
        id: stable identifier.
        title: name in words.
        quantity: what its numbers mean once scaled, for example ``reflectance``.
        bands: all bands in the order of the product.
        scale: quantity = stored integer x scale + offset, unless the file says otherwise.
        offset: see ``scale``.
        nodata: stored value of an empty pixel (in all bands), unless the file says otherwise.
        orders: usual band orders of files without band names.
    """

    id: str
    title: str
    quantity: str
    bands: tuple[SensorBand, ...]
    scale: float
    offset: float
    nodata: float | None
    orders: tuple[tuple[str, ...], ...]

    def band(self, name: str) -> SensorBand:
        """Return the band of this exact name, or raise ``ModelError``."""
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise ModelError(
            f"{self.title} has no band {name}; its bands are {known}.",
            "The model's card is wrong or made for another sensor: install the model again.",
        )

    def find_by_name(self, text: str) -> SensorBand | None:
        """Return the only band whose name stands in a text, as in ``T32TNT_B04_10m``."""
        # "Band 4" is one name, not two words.
        joined = re.sub(r"\b[Bb]and[ _]+(?=\d)", "band", text)
        found = {name for token in _tokens(joined) if (name := _canonical(token))}
        bands = [band for band in self.bands if band.name in found]
        return bands[0] if len(bands) == 1 else None

    def find_by_alias(self, text: str) -> SensorBand | None:
        """Return the only band whose alias a text is, or holds as a word."""
        whole = re.sub(r"[\s\-]+", "_", text.strip().lower())
        exact = [band for band in self.bands if whole in band.aliases]
        if exact:
            return exact[0]
        words = {token.lower() for token in _tokens(text)}
        bands = [band for band in self.bands if words & set(band.aliases)]
        return bands[0] if len(bands) == 1 else None


def _tokens(text: str) -> list[str]:
    return [token for token in _SEPARATORS.split(text) if token]


def _canonical(token: str) -> str | None:
    """Return ``B04`` for ``B4``, ``b04``, ``band4``; ``B8A`` for ``b08a``; else None."""
    match = _NUMBERED.match(token)
    if not match:
        return None
    number, letter = int(match[1]), match[2].upper()
    return f"B{number}{letter}" if letter else f"B{number:02d}"


@cache
def load_sensor(sensor_id: str) -> Sensor:
    """Read a sensor by its identifier.

    Raises:
        ModelError: if there is no such sensor.
    """
    for sensor in all_sensors():
        if sensor.id == sensor_id:
            return sensor
    known = ", ".join(sensor.id for sensor in all_sensors())
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
    bands = tuple(
        SensorBand(**{**band, "aliases": tuple(band["aliases"])}) for band in data["bands"]
    )
    orders = tuple(tuple(order) for order in data.get("orders", ()))
    return Sensor(**{**data, "nodata": data.get("nodata"), "bands": bands, "orders": orders})
