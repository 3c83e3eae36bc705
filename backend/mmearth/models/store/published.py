"""Published encoders: what there is to download, or to import from a file of one's own.

They stand in ``published.toml``, or another list of the same form; adding one needs no code.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from mmearth.api import PublishedInfo
from mmearth.errors import ModelError
from mmearth.models.card import Normalisation
from mmearth.settings import PUBLISHED_MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10
    import tomli as tomllib

VERSION = "1.0.0"  # of the models that are made of them
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
        size: its bytes, where they are known.
        encoder: name in the registry.
        bands: names, in the order of the network.
        statistics: how reflectance becomes the network's input, by processing level.
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
    size: int | None = None
    encoder: str
    sensor: str
    bands: tuple[str, ...]
    statistics: dict[str, Normalisation]
    image: int
    resolution_m: float

    @property
    def levels(self) -> tuple[str, ...]:
        """Processing levels that it was trained on."""
        return tuple(self.statistics)

    @property
    def file_name(self) -> str:
        """Name of the file where it comes from."""
        return self.file or Path(urlsplit(self.url).path).name

    def identifier(self, level: str) -> str:
        """Identifier of the model that is made of it for a processing level."""
        # Statistics differ by level, and a card has one of them.
        return f"{self.id}-{level.lower()}" if len(self.levels) > 1 else self.id

    def info(self, installed: Collection[str]) -> PublishedInfo:
        """Describe it for the API.

        Args:
            installed: identifiers of all installed models.
        """
        made = [self.identifier(level) for level in self.levels]
        return PublishedInfo(
            id=self.id,
            title=self.title,
            family=self.family,
            licence=self.licence,
            licence_words=self.licence_words,
            attribution=self.attribution,
            access=self.access,
            page=self.page,
            file=self.file_name,
            url=self.url,
            size_bytes=self.size,
            sensor=self.sensor,
            bands=list(self.bands),
            levels=list(self.levels),
            resolution_m=self.resolution_m,
            installed=[identifier for identifier in made if identifier in installed],
        )

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
        return self.statistics[level]


@cache
def published_models(file: Path = PUBLISHED_MODELS) -> tuple[PublishedModel, ...]:
    """Read all of them, in the file's order.

    Raises:
        ModelError: if the file cannot be read.
    """
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        return tuple(_read(entry, tables) for entry in tables["models"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The list of published models, {file}, cannot be read: {error}.",
            "Install the plugin again, or set MMEARTH_PUBLISHED to a list of the same form.",
        ) from error


def find_published(model_id: str, file: Path = PUBLISHED_MODELS) -> PublishedModel:
    """Return one by its identifier.

    Raises:
        ModelError: if there is none.
    """
    for model in published_models(file):
        if model.id == model_id:
            return model
    raise ModelError(
        f"No published model is called {model_id!r}.",
        f"There are {', '.join(model.id for model in published_models(file))}.",
    )


def _read(entry: Mapping[str, Any], tables: Mapping[str, Any]) -> PublishedModel:
    family = tables["families"][entry["family"]]
    facts = {**family, **entry, "title": f"{family['title']}: {entry['title']}"}
    if not facts["bands"]:
        (name,) = facts["statistics"].values()
        facts["bands"] = tables["statistics"][name]["bands"]
    facts["statistics"] = {
        level: _normalisation(name, facts["bands"], tables)
        for level, name in facts["statistics"].items()
    }
    return PublishedModel(**facts)


def _normalisation(name: str, bands: Sequence[str], tables: Mapping[str, Any]) -> Normalisation:
    if name == UNIT:
        count = len(bands)
        return Normalisation(mean=(0.0,) * count, std=(1.0,) * count, clip=(0.0, 1.0))
    table = tables["statistics"][name]
    stored = table.get("stored_per_unit", STORED_PER_REFLECTANCE)
    rows = dict(zip(table["bands"], zip(table["mean"], table["std"], strict=True), strict=True))
    chosen = [(rows[band][0] / stored, rows[band][1] / stored) for band in bands]
    if reach := table.get("deviations"):
        return Normalisation(
            mean=tuple(mean - reach * std for mean, std in chosen),
            std=tuple(2 * reach * std for _, std in chosen),
            bounds=(0.0, 1.0),
        )
    return Normalisation(
        mean=tuple(mean for mean, _ in chosen), std=tuple(std for _, std in chosen)
    )
