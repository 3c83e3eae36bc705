"""Published encoders: what there is to download, or to import from a file of one's own.

They stand in ``published.toml``; adding one needs no code.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mmearth.errors import ModelError
from mmearth.models.card import Normalisation

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10
    import tomli as tomllib

FILE = Path(__file__).with_suffix(".toml")
STORED_PER_REFLECTANCE = 10_000.0  # statistics are of stored numbers, unless they say otherwise
UNIT = "unit"  # statistics of models that read reflectance as it is, cut off at 0 and 1


class PublishedModel(BaseModel):
    """A file of weights, as its publisher describes it.

    Attributes:
        licence: SPDX identifier where there is one.
        licence_words: what it means for the user.
        access: whether it can be downloaded, once the licence is accepted, or is to be supplied.
        page: where the user obtains it, if it is to be supplied.
        file: its name there.
        url: where it is downloaded from.
        sha256: its hash, or the beginning of it, where the publisher states one.
        encoder: name in the registry.
        bands: names, in the order of the network.
        levels: processing levels that it was trained on.
        image: side of the images of pretraining, in pixels.
        resolution_m: pixel size of pretraining.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    family: str
    licence: str
    licence_words: str
    attribution: str
    access: Literal["download", "own file"]
    page: str = ""
    file: str = ""
    url: str = ""
    sha256: str = ""
    encoder: str
    sensor: str
    bands: tuple[str, ...]
    statistics: dict[str, str]
    image: int
    resolution_m: float

    @property
    def levels(self) -> tuple[str, ...]:
        """Processing levels that it was trained on."""
        return tuple(self.statistics)

    def normalisation(self, level: str) -> Normalisation:
        """Return how the sensor's quantity, of a level, becomes the network's input.

        Raises:
            ModelError: if it was not trained on that level.
        """
        if level not in self.statistics:
            raise ModelError(
                f"{self.title} was not trained on level {level}.",
                f"Use {' or '.join(self.levels)}.",
            )
        name = self.statistics[level]
        if name == UNIT:
            count = len(self.bands)
            return Normalisation(mean=(0.0,) * count, std=(1.0,) * count, clip=(0.0, 1.0))
        table = _tables()["statistics"][name]
        stored = table.get("stored_per_unit", STORED_PER_REFLECTANCE)
        rows = dict(zip(table["bands"], zip(table["mean"], table["std"], strict=True), strict=True))
        chosen = [(rows[band][0] / stored, rows[band][1] / stored) for band in self.bands]
        if reach := table.get("deviations"):
            return Normalisation(
                mean=tuple(mean - reach * std for mean, std in chosen),
                std=tuple(2 * reach * std for _, std in chosen),
                bounds=(0.0, 1.0),
            )
        return Normalisation(
            mean=tuple(mean for mean, _ in chosen), std=tuple(std for _, std in chosen)
        )


@cache
def published_models() -> tuple[PublishedModel, ...]:
    """Read all of them, in the file's order."""
    tables = _tables()
    return tuple(_read(entry, tables) for entry in tables["models"])


def find_published(model_id: str) -> PublishedModel:
    """Return one by its identifier.

    Raises:
        ModelError: if there is none.
    """
    for model in published_models():
        if model.id == model_id:
            return model
    raise ModelError(
        f"No published model is called {model_id!r}.",
        f"There are {', '.join(model.id for model in published_models())}.",
    )


def _read(entry: Mapping[str, Any], tables: Mapping[str, Any]) -> PublishedModel:
    family = tables["families"][entry["family"]]
    facts = {**family, **entry, "title": f"{family['title']}: {entry['title']}"}
    if not facts["bands"]:
        (name,) = facts["statistics"].values()
        facts["bands"] = tables["statistics"][name]["bands"]
    return PublishedModel(**facts)


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text("utf-8"))
