"""Installed models, read from their cards without the backend, and the sensors that it knows.

A card is ``model.json``, a STAC item with the MLM extension; only what a person is shown is read
here. Whether a model is whole is for the backend to check.
"""

import json
import re
from pathlib import Path
from typing import Iterable, List, NamedTuple, Tuple

_BANDS_ALONE = "spectrum"  # the encoder whose features are the bands themselves


class ClassEntry(NamedTuple):
    """A class of a product."""

    value: int
    title: str
    color: str


class Product(NamedTuple):
    """Something that a model can map."""

    id: str
    title: str
    classes: Tuple[ClassEntry, ...]


class Model(NamedTuple):
    """An installed model."""

    id: str
    title: str
    version: str
    description: str
    sensor: str
    bands: Tuple[Tuple[str, str], ...]
    """Name and title of each input band, in order."""
    resolution_m: float
    licence: str
    attribution: str
    accuracy: Tuple[Tuple[str, float, str], ...]
    """Name, value and data of each measured figure."""
    products: Tuple[Product, ...]
    """None of them: the model is an encoder, to be trained."""
    size_bytes: int
    levels: Tuple[str, ...]
    limits: Tuple[str, ...]
    source: str
    """Where its weights come from: an address, or empty if the card names none."""
    has_features: bool
    """Whether its encoder tells more of a place than the bands do."""
    folder: Path


class SensorEntry(NamedTuple):
    """A sensor that models can be made for."""

    id: str
    title: str
    bands: Tuple[str, ...]
    """Names of its bands; empty for those with hundreds, which are only counted."""


def installed_models(folders: Iterable[Path]) -> List[Model]:
    """Read all models; of two with one identifier that of the first folder wins."""
    models = {}
    for folder in folders:
        for card in sorted(folder.glob("*/model.json")):
            try:
                model = _read(card)
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                continue  # the backend says what is wrong with it when it is asked for
            models.setdefault(model.id, model)
    return list(models.values())


def _read(card: Path) -> Model:
    item = json.loads(card.read_text("utf-8"))
    properties = item["properties"]
    titles = {band["name"]: band.get("description", "") for band in properties["bands"]}
    return Model(
        id=item["id"],
        title=properties["title"],
        version=properties["version"],
        description=properties["description"],
        sensor=properties["mmearth:sensor"],
        bands=tuple((name, titles[name]) for name in properties["mlm:input"][0]["bands"]),
        resolution_m=properties["mmearth:resolution_m"],
        licence=properties.get("mmearth:licence", properties["license"]),
        attribution=properties["mmearth:attribution"],
        accuracy=tuple(
            (row["name"], row["value"], row["data"]) for row in properties["mmearth:accuracy"]
        ),
        products=tuple(
            Product(
                row["id"],
                row["title"],
                tuple(ClassEntry(c["value"], c["title"], c["color"]) for c in row["classes"]),
            )
            for row in properties["mmearth:products"]
        ),
        size_bytes=item["assets"]["model"]["file:size"],
        levels=tuple(properties["mmearth:levels"]),
        limits=tuple(properties.get("mmearth:limits", ())),
        source=str(properties.get("mmearth:training", {}).get("source", "")),
        has_features=properties.get("mmearth:network", {}).get("encoder") != _BANDS_ALONE,
        folder=card.parent,
    )


def sensors(backend: Path) -> List[SensorEntry]:
    """Read the sensors of the backend in this folder, by title.

    QGIS's Python may be too old to read TOML; of these files only the
    first two texts and the names of bands are needed.
    """
    entries = []
    for file in (backend / "mmearth" / "sensors").glob("*.toml"):
        text = file.read_text("utf-8")
        found = dict(re.findall(r'^(id|title) = "(.*)"$', text, re.MULTILINE)[:2])
        bands = re.findall(r'^name = "(.*)"$', text, re.MULTILINE)
        entries.append(SensorEntry(bands=tuple(bands), **found))
    return sorted(entries, key=lambda sensor: sensor.title)
