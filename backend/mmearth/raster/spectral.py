"""Where a file says that its bands lie in the spectrum, and how it calls them.

Four places are read: a STAC item beside the file, tags of the bands (as EnMAP-Box and GDAL's ENVI
driver write them), an ENVI header, which may also lie beside a GeoTIFF, and GDAL's IMAGERY domain.
The first that says something is believed. What is damaged is passed over: all this helps to find
bands, and a user can always assign them by hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from rasterio.io import DatasetReader

SIDECAR_BYTES = 16 * 2**20  # larger files are no description of a raster
# Without a unit, numbers below this can only be micrometres in the optical range.
LARGEST_MICROMETRES = 100.0

# What software writes that knows no names: the place in the file, not a band of the sensor.
_PLACE = re.compile(r"band[\s_]*\d+", re.IGNORECASE)
# "455.2 Nanometers", alone or in brackets behind a name, as GDAL and EnMAP-Box write it.
_IN_WORDS = re.compile(r"\(?\b(\d+(?:\.\d+)?) ?(nm|um|[µμ]m|nanomet\w+|micromet\w+)\)?$", re.I)
_ENVI_ENTRY = re.compile(r"^[ \t]*([^=\n{}]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
# Everything that a malformed file can make of well-meant code.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Spectrum:
    """A band's names and place in the spectrum.

    Attributes:
        names: texts that may hold its name, the most telling first.
        wavelength_nm: central wavelength in nanometres, if stated.
        width_nm: full width at half maximum in nanometres, if stated.
    """

    names: tuple[str, ...] = ()
    wavelength_nm: float | None = None
    width_nm: float | None = None


def read_spectra(dataset: DatasetReader) -> list[Spectrum]:
    """Read what a dataset and the files beside it say of each of its bands, in order."""
    path = Path(dataset.name)
    sidecar = _stac_bands(path, dataset.count)
    header = _envi_bands(_envi_header(dataset, path), dataset.count)
    return [
        _merged(
            _description(dataset.descriptions[index - 1] or ""),
            sidecar[index - 1],
            _tags(dataset.tags(index)),
            header[index - 1],
            _imagery(dataset.tags(index, ns="IMAGERY")),
        )
        for index in dataset.indexes
    ]


def _merged(description: Spectrum, *places: Spectrum) -> Spectrum:
    """Take the first word of each kind; the description is the best name, the worst number."""
    ordered = [*places, description]
    names = [name for place in (description, *places) for name in place.names]
    return Spectrum(
        names=tuple(dict.fromkeys(names)),
        wavelength_nm=next((p.wavelength_nm for p in ordered if p.wavelength_nm), None),
        width_nm=next((p.width_nm for p in ordered if p.width_nm), None),
    )


def _names(*texts: Any) -> tuple[str, ...]:
    """Keep what is a name and not merely the place of the band in the file."""
    return tuple(t for t in texts if isinstance(t, str) and t and not _PLACE.fullmatch(t))


def _description(text: str) -> Spectrum:
    stated = _IN_WORDS.search(text)
    if not stated:
        return Spectrum(_names(text))
    name = text[: stated.start()].strip()
    return Spectrum(_names(name), *_pair(stated[1], None, stated[2]))


def _tags(tags: Mapping[str, str]) -> Spectrum:
    tags = {key.lower().replace(" ", "_"): value for key, value in tags.items()}
    wavelength = tags.get("wavelength") or tags.get("central_wavelength")
    unit = tags.get("wavelength_units") or tags.get("wavelength_unit") or ""
    return Spectrum((), *_pair(wavelength, tags.get("fwhm"), unit))


def _imagery(tags: Mapping[str, str]) -> Spectrum:
    # GDAL's ENVI driver rounds these to the nanometre, hence they are asked last.
    return Spectrum((), *_pair(tags.get("CENTRAL_WAVELENGTH_UM"), tags.get("FWHM_UM"), "um"))


def _envi_header(dataset: DatasetReader, path: Path) -> dict[str, str]:
    """Return the entries of the header, keys in lower case with underscores."""
    known = {**dataset.tags(), **dataset.tags(ns="ENVI")}
    if not dataset.tags(ns="ENVI"):
        for sidecar in _beside(path, ".hdr"):
            text = _read(sidecar).decode("utf-8", "replace")
            if text.startswith("ENVI"):
                known.update(_ENVI_ENTRY.findall(text))
                break
    return {key.strip().lower().replace(" ", "_"): value for key, value in known.items()}


def _envi_bands(header: Mapping[str, str], count: int) -> list[Spectrum]:
    def listed(key: str) -> list[str]:
        values = [value.strip() for value in header.get(key, "").strip(" {}\r\n\t").split(",")]
        return values if len(values) == count else [""] * count

    unit = header.get("wavelength_units", "")
    rows = zip(listed("band_names"), listed("wavelength"), listed("fwhm"), strict=True)
    return [Spectrum(_names(name), *_pair(centre, width, unit)) for name, centre, width in rows]


def _stac_bands(path: Path, count: int) -> list[Spectrum]:
    for sidecar in _beside(path, ".json"):
        try:
            item = json.loads(_read(sidecar) or b"{}")
            for asset in item.get("assets", {}).values():
                if PurePosixPath(unquote(urlsplit(asset["href"]).path)).name == path.name:
                    bands = [_stac_band(b) for b in asset.get("bands") or asset["eo:bands"]]
                    if len(bands) == count:
                        return bands
        except _DAMAGE:
            continue
    return [Spectrum()] * count


def _stac_band(band: Mapping[str, Any]) -> Spectrum:
    """Read a band of STAC 1.1, or of the Electro-Optical Extension 1 (no prefixes)."""

    def stated(key: str) -> Any:
        return band.get(f"eo:{key}", band.get(key))

    pair = _pair(stated("center_wavelength"), stated("full_width_half_max"), "um")
    return Spectrum(_names(band.get("name"), stated("common_name")), *pair)


def _beside(path: Path, suffix: str) -> list[Path]:
    """Return ``scene.json`` and ``scene.tif.json`` for ``scene.tif``."""
    return [path.with_suffix(suffix), Path(f"{path}{suffix}")] if path.name else []


def _read(path: Path) -> bytes:
    """Return the content of a small file; nothing if there is none or it cannot be read."""
    try:
        return path.read_bytes() if path.stat().st_size <= SIDECAR_BYTES else b""
    except (OSError, ValueError):  # a dataset's name need not be a path
        return b""


def _pair(wavelength: Any, width: Any, unit: str) -> tuple[float | None, float | None]:
    """Return wavelength and width in nanometres; they share a unit, stated or guessed."""
    centre, breadth = _number(wavelength), _number(width)
    factor = _nanometres_in(unit.strip().lower(), centre) if centre else None
    if centre is None or factor is None:
        return None, None
    return centre * factor, breadth * factor if breadth else None


def _nanometres_in(unit: str, wavelength: float) -> float | None:
    """Return None for what is no unit of length: indices, frequencies."""
    if unit.startswith(("mic", "um", "µm", "μm")):
        return 1000.0
    if unit.startswith("n"):
        return 1.0
    if unit in ("", "unknown"):
        return 1000.0 if wavelength < LARGEST_MICROMETRES else 1.0
    return None


def _number(value: Any) -> float | None:
    """Return a positive number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
