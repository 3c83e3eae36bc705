"""What a folder of tiles says of itself: which tiles there are, and what lies beside them.

See ``mmearth.pretraining.datasets.tiles`` for the two files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mmearth.errors import InputError, listed

INDEX, DECLARED = "index.json", "modalities.json"
# Names of the part that is learned from, of the one that is compared on, and of all together.
LEARNED, HELD, ALL = "train", "val", "all"


class Entry(BaseModel):
    """A tile; what else is said of it is kept.

    Attributes:
        file: path of the image from the folder of the list.
        split: part that it belongs to.
        level: processing level.
        place: tiles of the same show it on several dates, pixel by pixel.
        group: tiles of the same are not to be in two parts.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    file: str = Field(min_length=1)
    split: str | None = None
    level: str | None = None
    place: str | None = None
    group: str | int | None = None

    def facts(self) -> dict[str, Any]:
        """Return all that is said of the tile."""
        return self.model_dump(exclude_unset=True)


class Raster(BaseModel):
    """How a raster beside the tiles is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suffix: str = Field(min_length=1)
    kind: Literal["continuous", "categorical", "probabilities"]
    codes: tuple[int, ...] = ()
    nodata: float | None = None

    @model_validator(mode="after")
    def _codes_of_classes(self) -> Raster:
        if (self.kind == "categorical") != bool(self.codes):
            raise ValueError("codes belong to the kind categorical, and to no other")
        if len(set(self.codes)) < len(self.codes):
            raise ValueError("a code is listed twice")
        return self


_ENTRIES = TypeAdapter(list[Entry])
_DECLARED = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], Raster])


@dataclass(frozen=True)
class Listing:
    """The tiles of a part.

    Attributes:
        entries: at least one.
        split: the part's name; ``ALL`` of all tiles.
        parts: names of all parts.
    """

    entries: tuple[Entry, ...]
    split: str
    parts: tuple[str, ...] = ()


def read_listing(folder: Path, split: str | None) -> Listing:
    """Read which tiles belong to a part.

    Args:
        folder: of the tiles.
        split: name of the part, empty for all tiles; None for the tiles to learn from where tiles
            belong to parts, for all tiles where they do not.

    Raises:
        InputError: if there is no list of tiles, only some of them belong to a part, or none to
            this one.
    """
    path = folder / INDEX
    try:
        rows = _ENTRIES.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder} holds no {INDEX}, which lists the tiles.", "Choose a folder that does."
        ) from error
    except ValidationError as error:
        raise _unreadable(path, error, "Mend or replace it.") from error
    parts = sorted({row.split for row in rows if row.split})
    without = sum(not row.split for row in rows)
    if parts and without:
        # Nobody knows on which side they are: learned from, they could be in the test as well.
        raise InputError(
            f"{without:,} of the {len(rows):,} tiles of {path} have no split, the others have "
            f"{listed(parts)}.",
            "Give every tile a split, or none.",
        )
    if split is None:
        split = LEARNED if parts else ""
    chosen = tuple(row for row in rows if not split or row.split == split)
    if not chosen:
        raise InputError(
            f"None of the {len(rows):,} tiles of {folder} belongs to the part {split!r}.",
            f"Choose {listed(map(repr, parts))}, or an empty one for all tiles."
            if parts
            else "Choose an empty one for all tiles: they are not divided into parts.",
        )
    return Listing(chosen, split or ALL, tuple(parts))


def write_listing(path: Path, entries: Iterable[Entry]) -> None:
    """Write a list of tiles, one a line."""
    lines = ",\n".join(json.dumps(row.facts(), ensure_ascii=False) for row in entries)
    path.write_text(f"[{lines}]\n", "utf-8")


def read_declared(folder: Path, listing: Listing, taken: Collection[str]) -> dict[str, Raster]:
    """Read what lies beside the tiles; what lies beside none of them is left out.

    Args:
        folder: of the tiles.
        listing: the tiles.
        taken: names that mean something else.

    Raises:
        InputError: if the file that says so cannot be read, or gives such a name.
    """
    path = folder / DECLARED
    if not path.exists():
        return {}
    try:
        found = _DECLARED.validate_json(path.read_bytes())
    except ValidationError as error:
        raise _unreadable(path, error, "Mend or remove it.") from error
    both = [name for name in found if name in taken]
    if both:
        raise InputError(
            f"{path} gives the name {listed(both)} to a raster, which means something else here.",
            "Choose another name.",
        )
    tiles = [folder / row.file for row in listing.entries]
    return {
        name: raster
        for name, raster in found.items()
        if any(beside(tile, raster).exists() for tile in tiles)
    }


def beside(tile: Path, raster: Raster) -> Path:
    """Return the path of a raster beside a tile."""
    return tile.with_name(tile.stem + raster.suffix)


def _unreadable(path: Path, error: ValidationError, advice: str) -> InputError:
    first: Any = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return InputError(f"{path} cannot be read: {place}: {first['msg']}.", advice)
