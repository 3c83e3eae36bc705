"""Labelled tiles: which there are, what is known of them, and that the two parts share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from mmearth.api import EvaluateSpec, Problem, TileLabels
from mmearth.errors import InputError, RasterReadError, counted, listed
from mmearth.pretraining.datasets.listing import INDEX, Raster, beside, read_listing
from mmearth.pretraining.datasets.tile import band_names, look_at
from mmearth.pretraining.datasets.windows import KNOWN
from mmearth.pretraining.modality import UNKNOWN
from mmearth.raster.grid import Grid
from mmearth.raster.ground import footprint, overlaps
from mmearth.raster.source import open_raster
from mmearth.sensors import load_sensor

LABELS = "labels"
MOST_CROPS = 16  # of a tile: a few large scenes would be all that counts

Kind = Literal["single", "multi", "pixel"]


@dataclass(frozen=True)
class Part:
    """What is learned from, or tested on.

    Attributes:
        images: (N, C, s, s) float32, what the sensor measures; 0 where there is no data.
        valid: (N, s, s) bool.
        labels: by kind (N,) int64; (N, K) float32, 0 or 1; (N, s, s) int64 with ``UNKNOWN``.
        tiles: (N,) int64, number of the tile that an image is cut from.
    """

    images: NDArray[np.float32]
    valid: NDArray[np.bool_]
    labels: NDArray[Any]
    tiles: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def chosen(self, places: NDArray[np.intp]) -> Part:
        """Return some of the images."""
        return Part(
            self.images[places], self.valid[places], self.labels[places], self.tiles[places]
        )


@dataclass(frozen=True)
class Tiles:
    """The tiles of both parts, not yet read.

    Attributes:
        kind: of their labels.
        classes: names, or codes in words.
        train, test: paths, and what the list says of each.
        field: of the list that holds the labels; empty where rasters do.
        raster: how label rasters are read; None of labels in the list.
        files: all that are read, by which changes are noticed.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: tuple[tuple[Path, dict[str, Any]], ...]
    test: tuple[tuple[Path, dict[str, Any]], ...]
    field: str
    raster: Raster | None
    files: tuple[Path, ...]


def find_tiles(spec: EvaluateSpec) -> Tiles:
    """Find the tiles of a request, and check that the two parts have nothing in common.

    Raises:
        InputError: if there are no tiles or labels, or something is in both parts.
        RasterReadError: if a file cannot be opened.
    """
    folder = Path(spec.data)
    if spec.train == spec.test:
        raise InputError(
            f"The part {spec.train!r} would be learned from and tested on.",
            "Choose two parts of the tiles.",
        )
    train, test = (_rows(folder, part) for part in (spec.train, spec.test))
    _check_apart(train, test)
    both = (*train, *test)
    files = (folder / INDEX, *(path for path, _ in both))
    if spec.labels.field is not None:
        kind, classes = _said(both, spec.labels.field)
        return Tiles(kind, classes, train, test, spec.labels.field, None, files)
    raster, classes = _raster(both, spec.labels)
    more = tuple(beside(path, raster) for path, _ in both)
    return Tiles("pixel", classes, train, test, "", raster, (*files, *more))


def read_parts(
    tiles: Tiles, bands: Sequence[str], sensor: str, crop: int
) -> tuple[Part, Part, list[Problem]]:
    """Read the images that encoders of some bands are shown.

    A tile is cut into crops side by side, at most ``MOST_CROPS`` evenly spread; of a tile with one
    label, only its middle is shown.

    Args:
        tiles: of both parts.
        bands: names of the bands, in order.
        sensor: identifier.
        crop: side of the images in pixels.

    Returns:
        What is learned from, what is tested on, and warnings.

    Raises:
        InputError: if nothing is left, or a label is not what it is said to be.
        RasterReadError: if a file is damaged.
    """
    parts, small = [], 0
    for rows in (tiles.train, tiles.test):
        found = [_read(tiles, path, facts, bands, sensor, crop) for path, facts in rows]
        small += sum(not one for one in found)
        pieces = [(n, *piece) for n, crops in enumerate(found) for piece in crops]
        if not pieces:
            raise InputError(
                f"No tile holds an image of {crop} x {crop} pixels with data and labels.",
                "Choose a smaller crop, or other tiles.",
            )
        numbers, images, labels = zip(*pieces, strict=True)
        stack = np.stack(images)
        valid = np.isfinite(stack).all(axis=1)
        parts.append(
            Part(
                np.where(valid[:, None], stack, np.float32(0)),
                valid,
                np.stack(labels),
                np.array(numbers),
            )
        )
    count = len(tiles.train) + len(tiles.test)
    warnings = []
    if small:
        warnings.append(
            Problem(
                code="tiles",
                message=f"{counted(small, 'tile')} of {count:,} are left out: smaller than "
                f"{crop} pixels, or without data or labels there.",
                advice="Choose a smaller crop to have more of them.",
            )
        )
    return parts[0], parts[1], warnings


def share_of(part: Part, share: float, classes: int, kind: Kind, seed: int) -> Part:
    """Return the images of a share of the tiles, drawn at random, with every class if can be.

    Of single labels each class is drawn by itself; else tiles are drawn as they come.

    Args:
        part: what is learned from.
        share: above 0, up to 1, which returns all.
        classes: their number.
        kind: of the labels.
        seed: of the draw.
    """
    if share == 1:
        return part
    random = np.random.default_rng(seed)
    tiles, first = np.unique(part.tiles, return_index=True)
    strata = part.labels[first] if kind == "single" else np.zeros(tiles.size, np.int64)
    kept = []
    for one in range(classes if kind == "single" else 1):
        members = random.permutation(tiles[strata == one])
        kept.append(members[: max(1, round(share * members.size))])
    return part.chosen(np.flatnonzero(np.isin(part.tiles, np.concatenate(kept))))


def shared_ground(train: Sequence[Path], test: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return which tiles to learn from and to test on overlap, as pairs.

    Tiles without a place on the map overlap none.

    Raises:
        RasterReadError: if a file cannot be opened.
    """
    ours, theirs = ([_ground(path) for path in part] for part in (train, test))
    return [(train[one], test[other]) for one, other in overlaps(ours, theirs)]


def _rows(folder: Path, part: str) -> tuple[tuple[Path, dict[str, Any]], ...]:
    """Return paths and facts of the tiles of a part; errors as of ``read_listing``."""
    return tuple((folder / row.file, row.facts()) for row in read_listing(folder, part).entries)


def _check_apart(
    train: Sequence[tuple[Path, dict[str, Any]]], test: Sequence[tuple[Path, dict[str, Any]]]
) -> None:
    """Refuse files, groups or ground that are in both parts: what is known is no test."""
    advice = "Move all that shares it to one part in index.json, or take it out."
    files = {path.resolve() for path, _ in train} & {path.resolve() for path, _ in test}
    if files:
        same = sorted(path.name for path in files)
        raise InputError(f"Tiles are in both parts: {listed(same)}.", advice)
    groups = [
        {row["group"] for _, row in part if row.get("group") is not None} for part in (train, test)
    ]
    if groups[0] & groups[1]:
        both = sorted(map(str, groups[0] & groups[1]))
        raise InputError(f"Groups of tiles are in both parts: {listed(both)}.", advice)
    pairs = shared_ground([path for path, _ in train], [path for path, _ in test])
    if pairs:
        raise InputError(
            f"{counted(len(pairs), 'pair')} of tiles to learn from and to test on show the same "
            f"ground: {listed([f'{one.name} and {other.name}' for one, other in pairs], 3)}.",
            advice,
        )


def _ground(path: Path) -> shapely.Geometry | None:
    """Return the outline of a tile on the ground; None of one without a place."""
    with open_raster(str(path)) as dataset:
        if not dataset.crs or dataset.transform.is_identity:
            return None
        return footprint(Grid.of_dataset(dataset, dataset.crs))


def _said(rows: Sequence[tuple[Path, dict[str, Any]]], field: str) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind and names of labels in the list.

    Raises:
        InputError: if a tile lacks one, some are lists and some are not, or there is one class.
    """
    lacking = [path.name for path, row in rows if row.get(field) is None]
    if lacking:
        raise InputError(
            f"{len(lacking):,} of {len(rows):,} tiles have no {field!r} in {INDEX}: "
            f"{listed(lacking, 3)}.",
            "Label them, or leave them out of the list.",
        )
    lists = sum(isinstance(row[field], list) for _, row in rows)
    if lists not in (0, len(rows)):
        raise InputError(
            f"{field!r} is a list of labels for {lists:,} of {len(rows):,} tiles, and one label "
            "for the others.",
            "Write lists for all of them, or for none.",
        )
    names = {str(one) for _, row in rows for one in (row[field] if lists else [row[field]])}
    if len(names) < (1 if lists else 2):
        raise InputError(
            f"All tiles have the same {field!r}: {listed(sorted(names))}.", "Choose another field."
        )
    return ("multi" if lists else "single"), tuple(sorted(names))


def _raster(
    rows: Sequence[tuple[Path, dict[str, Any]]], labels: TileLabels
) -> tuple[Raster, tuple[str, ...]]:
    """Return how label rasters are read, and their classes."""
    suffix = str(labels.suffix)
    paths = [path.with_name(path.stem + suffix) for path, _ in rows]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(paths):,} tiles have no label raster beside them: "
            f"{listed(missing, 3)}.",
            "Check the ending of their names, or take these tiles out of the list.",
        )
    names = band_names(paths[0])
    if len(names) > 1:
        titles = tuple(name or f"band {n}" for n, name in enumerate(names, start=1))
        return Raster(suffix=suffix, kind="probabilities"), titles
    codes = tuple(labels.codes) or _codes(paths, labels.nodata)
    if len(codes) < 2:
        raise InputError(
            f"Expected label rasters of two classes at least, found {listed(map(str, codes))}."
            if codes
            else "The label rasters hold no label.",
            "Check the ending of their names and the code that stands for no label.",
        )
    raster = Raster(suffix=suffix, kind="categorical", codes=codes, nodata=labels.nodata)
    return raster, tuple(map(str, codes))


def _codes(paths: Sequence[Path], nodata: int | None) -> tuple[int, ...]:
    found: set[int] = set()
    for path in paths:
        with open_raster(str(path)) as dataset:
            if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
                raise RasterReadError(
                    f"{path} holds {dataset.dtypes[0]}, where codes of classes are whole numbers.",
                    "Convert it.",
                )
            known = dataset.read(1)[dataset.read_masks(1) > 0]
        found |= set(np.unique(known).tolist())
    return tuple(sorted(found - {nodata}))


def _read(
    tiles: Tiles, path: Path, facts: dict[str, Any], bands: Sequence[str], sensor: str, crop: int
) -> list[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Return the images of a tile and their labels; none if it is too small or empty."""
    declared = {LABELS: tiles.raster} if tiles.raster else {}
    tile = look_at(path, bands, declared, load_sensor(sensor))
    height, width = tile.shape
    if min(height, width) < crop:
        return []
    whole = tile.image()
    if tiles.raster is None:
        top, left = (height - crop) // 2, (width - crop) // 2
        image = whole[:, top : top + crop, left : left + crop]
        return [(image, _label(tiles, facts[tiles.field]))] if _full(image) else []
    labels = tile.raster(LABELS)
    found = []
    for top, left in _places(height, width, crop):
        place = np.s_[..., top : top + crop, left : left + crop]
        image = whole[place]
        known = np.where(np.isfinite(image).all(axis=0), labels[place], UNKNOWN)
        if _full(image) and (known != UNKNOWN).any():
            found.append((image, known))
    return found


def _full(image: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(image).all(axis=0).mean() >= KNOWN)


def _places(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """Return the corners of crops side by side, in the middle of a tile; evenly spread ones."""
    rows, cols = height // crop, width // crop
    top, left = (height - rows * crop) // 2, (width - cols * crop) // 2
    corners = [(top + row * crop, left + col * crop) for row in range(rows) for col in range(cols)]
    picked = np.linspace(0, len(corners) - 1, min(len(corners), MOST_CROPS)).round().astype(int)
    return [corners[number] for number in picked]


def _label(tiles: Tiles, said: Any) -> NDArray[Any]:
    """Return a tile's label: its number, or which of the classes it bears."""
    if tiles.kind == "single":
        return np.array(tiles.classes.index(str(said)))
    borne = {str(one) for one in said}
    return np.array([name in borne for name in tiles.classes], np.float32)
