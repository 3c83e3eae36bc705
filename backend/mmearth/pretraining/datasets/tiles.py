"""A folder of image tiles with an index, and rasters beside them on the same pixels.

``index.json`` lists the tiles: ``file``, and perhaps ``split``, ``level`` and ``place``; either all
tiles have a split or none, and tiles of one place show it on several dates, pixel by pixel. Images
are integers with band descriptions, with the sensor's scale. What else is known of a tile lies
beside it as ``<name><suffix>``; ``modalities.json`` says of each such raster what it is:

    {"elevation": {"suffix": ".dem.tif", "kind": "continuous", "nodata": -32768},
     "worldcover": {"suffix": ".worldcover.tif", "kind": "categorical", "codes": [10, 20, 30]}}

What is not listed there is not learned from: without the file, the images alone. A tile whose
raster is missing has no data there. Where tiles have coordinates, ``latitude`` and ``longitude``
are modalities too, as sine and cosine (MMEarth).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.api import PretrainSpec, Problem
from mmearth.errors import InputError, ModelError, counted, listed
from mmearth.models.card import ModelCard
from mmearth.models.network import Normaliser
from mmearth.models.parts import Normalisation
from mmearth.pretraining.datasets.listing import (
    DECLARED,
    HELD,
    INDEX,
    LEARNED,
    Listing,
    Raster,
    beside,
    read_declared,
    read_listing,
)
from mmearth.pretraining.datasets.tile import Tile, band_names, check_bands, read_tile, statistics
from mmearth.pretraining.modality import UNKNOWN, Batch, Modality
from mmearth.sensors import load_sensor

PLACES = ("latitude", "longitude")
EVERY = 7  # of the pixels that statistics are measured on
KNOWN, TRIES = 0.5, 8  # share of a crop with data, and how often one is drawn for it
SIMILAR = 1.1  # of two sizes of pixels


class Tiles:
    """See ``mmearth.pretraining.dataset.Dataset``; tiles are drawn by the root of their size.

    By size itself a few large scenes would be all that is seen; by tile, the small ones. Crops are
    turned and mirrored at random, and drawn again if they hold little data. Tiles smaller
    than a crop are left out with a warning: filled up, an encoder would be shown what is no data.

    Args:
        spec: the request.
        like: model whose bands and normalisation are taken; None to measure them.
        learned: tiles of the same request, whose modalities and statistics are taken.
    """

    def __init__(
        self, spec: PretrainSpec, like: ModelCard | None, learned: Tiles | None = None
    ) -> None:
        folder = Path(spec.data)
        sensor = load_sensor(like.sensor if like else spec.sensor)
        self.sensor = sensor.id
        self.bands, listing, declared = _looked_at(spec, like)
        self.split, self.parts = listing.split, listing.parts
        self.levels = tuple(sorted({row.level for row in listing.entries if row.level})) or (
            like.levels if like else ()
        )
        paths = [folder / row.file for row in listing.entries]
        more = [beside(path, raster) for path in paths for raster in declared.values()]
        lists = (folder / INDEX, folder / DECLARED)
        self.files = tuple(path for path in (*lists, *paths, *more) if path.exists())
        read = [read_tile(path, self.bands, declared, sensor) for path in paths]
        self._tiles, small = _large_enough(read, spec.crop)
        places = dict(zip(map(id, read), (row.place for row in listing.entries), strict=True))
        self._dates = _dates([places[id(tile)] for tile in self._tiles], self._tiles)
        declared = {
            name: raster
            for name, raster in declared.items()
            if any(name in tile.rasters for tile in self._tiles)
        }
        self.warnings = [*small, *_said_of_tiles(self._tiles)]
        self._crop = spec.crop
        self.normalisation: Normalisation = (
            learned.normalisation if learned else _chosen(like) if like else self._measured()
        )
        self._normalise = Normaliser(self.normalisation)
        self.resolution_m = _pixel_size([tile.pixel_m for tile in self._tiles])
        self.attribution = spec.attribution
        self._standards: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
        self._circles: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
        self.modalities: tuple[Modality, ...]
        if learned:
            self._standards, self._circles = learned._standards, learned._circles
            self.modalities = learned.modalities
        else:
            self._standards = {
                name: self._standard(name)
                for name, raster in declared.items()
                if raster.kind == "continuous"
            }
            self._circles = self._located(spec.modalities)
            self.modalities = (
                Modality(sensor.id, "continuous", "pixel", len(self.bands), patch_norm=True),
                *(self._modality(name, raster) for name, raster in declared.items()),
                *(Modality(name, "continuous", "image", 2) for name in self._circles),
            )
        self._places = {
            name: ((_circle(self._degrees(name)) - mean) / deviation).astype(np.float32)
            for name, (mean, deviation) in self._circles.items()
        }
        size = np.sqrt([math.prod(tile.shape) for tile in self._tiles])
        self._chance = np.cumsum(size / size.sum())

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._tiles)

    def draw(self, count: int, generator: np.random.Generator) -> Batch:
        """Draw crops at random."""
        chosen = self._drawn(count, generator)
        crops = [self._one(self._tiles[number], generator) for number in chosen]
        image = self._normalised([crop[self.sensor] for crop in crops])
        names = [one.name for one in self.modalities if one.level == "pixel"][1:]
        return {
            self.sensor: image,
            **{name: torch.from_numpy(np.stack([c[name] for c in crops])) for name in names},
            **{name: torch.from_numpy(rows[chosen]) for name, rows in self._places.items()},
        }

    def draw_views(
        self, count: int, generator: np.random.Generator, views: int
    ) -> list[torch.Tensor]:
        """Draw several looks at the same places, at tiles that have one ``place``."""
        rows = []
        for number in self._drawn(count, generator):
            dates = self._dates[number]
            order = np.concatenate(
                [generator.permutation(dates) for _ in range(-(-views // len(dates)))]
            )
            cut = self._cut(self._tiles[number], generator)
            rows.append([cut(self._tiles[other].image) for other in order[:views]])
        return [self._normalised(view) for view in zip(*rows, strict=True)]

    def _drawn(self, count: int, generator: np.random.Generator) -> list[int]:
        """Draw tiles by their chance."""
        found = np.searchsorted(self._chance, generator.random(count), side="right")
        return [min(int(number), len(self._tiles) - 1) for number in found]

    def _normalised(self, crops: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        images = torch.from_numpy(np.stack(crops))
        anywhere = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)
        return self._normalise(images, anywhere)  # NaN stays NaN, in each band for itself

    def _cut(
        self, tile: Tile, generator: np.random.Generator
    ) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Draw a crop of a tile, and return what cuts it out of anything on the tile's pixels."""
        crop = self._crop
        for _ in range(TRIES):
            row, col = (int(generator.integers(side - crop + 1)) for side in tile.shape)
            place = np.s_[..., row : row + crop, col : col + crop]
            if np.isfinite(tile.image[place]).mean() >= KNOWN:
                break
        turns, mirror = int(generator.integers(4)), bool(generator.integers(2))

        def cut(values: NDArray[Any]) -> NDArray[Any]:
            part = np.rot90(values[place], turns, (-2, -1))
            return np.ascontiguousarray(part[..., ::-1] if mirror else part)

        return cut

    def _one(self, tile: Tile, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        crop = self._crop
        cut = self._cut(tile, generator)
        rasters = {}
        for one in self.modalities[1:]:
            if one.level == "image":
                continue
            categories = one.kind == "categorical"
            filling = UNKNOWN if categories else math.nan
            values = tile.rasters.get(one.name)
            if values is None:
                shape = (crop, crop) if categories else (one.channels, crop, crop)
                rasters[one.name] = np.full(shape, filling, np.int64 if categories else np.float32)
            elif categories:
                rasters[one.name] = cut(values).astype(np.int64)
            else:
                mean, deviation = self._standards[one.name]
                rasters[one.name] = (cut(values) - mean) / deviation
        return {self.sensor: cut(tile.image), **rasters}

    def _measured(self) -> Normalisation:
        """Measure mean and standard deviation of each band."""
        images = [tile.image.reshape(len(self.bands), -1)[:, ::EVERY] for tile in self._tiles]
        mean, deviation = statistics("the image", self.bands, images)
        return Normalisation(
            mean=tuple(float(f"{value:.6g}") for value in mean),
            std=tuple(float(f"{value:.6g}") for value in deviation),
        )

    def _standard(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of each channel of a raster, (C, 1, 1) each."""
        known = [tile.rasters[name] for tile in self._tiles if name in tile.rasters]
        channels = [f"band {number}" for number in range(1, self._channels(name) + 1)]
        mean, deviation = statistics(name, channels, known)
        return (
            mean.astype(np.float32)[:, None, None],
            deviation.astype(np.float32)[:, None, None],
        )

    def _channels(self, name: str) -> int:
        """Return how many channels a raster has, the same beside all tiles."""
        counts = {tile.rasters[name].shape[0] for tile in self._tiles if name in tile.rasters}
        if len(counts) > 1:
            raise InputError(
                f"The rasters {name} have {min(counts)} to {max(counts)} bands.",
                "Give all of them the same bands.",
            )
        return counts.pop()

    def _degrees(self, name: str) -> NDArray[np.float64]:
        """Return the latitude or longitude of each tile. (tiles,)."""
        return np.array([tile.place[PLACES.index(name)] for tile in self._tiles])

    def _located(
        self, wanted: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return mean and deviation of sine and cosine of where tiles are, (2,) each."""
        found = {}
        for name in PLACES:
            column = self._degrees(name)
            if (wanted and name not in wanted) or len(np.unique(column[np.isfinite(column)])) < 2:
                continue
            circle = _circle(column)
            deviation = np.maximum(np.nanstd(circle, axis=0), 1e-6)
            found[name] = (np.nanmean(circle, axis=0), deviation)
        return found

    def _modality(self, name: str, raster: Raster) -> Modality:
        if raster.kind == "continuous":
            return Modality(name, "continuous", "pixel", self._channels(name))
        classes = len(raster.codes) or max(tile.classes.get(name, 0) for tile in self._tiles)
        return Modality(name, "categorical", "pixel", classes)


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a folder without reading its images, and return the bands that would be read.

    Raises:
        InputError, RasterReadError, ModelError: as of ``open_dataset``.
    """
    return _looked_at(spec, like)[0]


def open_dataset(spec: PretrainSpec, like: ModelCard | None) -> Tiles:
    """Read all tiles of a folder.

    Raises:
        InputError: if the folder holds no tiles, or not what is asked for.
        RasterReadError: if a file is damaged.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    return Tiles(spec, like)


def open_held(spec: PretrainSpec, like: ModelCard | None, data: Tiles) -> Tiles | None:
    """Read the tiles for validation, if tiles for training are learned from and there are some."""
    if data.split != LEARNED or HELD not in data.parts:
        return None
    try:
        return Tiles(spec.model_copy(update={"split": HELD}), like, data)
    except InputError as error:
        message = f"The tiles for validation cannot be compared on: {error.message}"
        data.warnings.append(Problem(code="held", message=message, advice=error.advice))
        return None


def _circle(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sine and cosine. (tiles,) to (tiles, 2)."""
    return np.stack([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))], axis=1)


def _dates(places: Sequence[str | None], tiles: Sequence[Tile]) -> list[list[int]]:
    """Return, of each tile, the numbers of all tiles of its place, itself among them.

    Raises:
        InputError: if tiles of one place are not of one size.
    """
    groups: dict[str, list[int]] = {}
    for number, place in enumerate(places):
        if place is not None:
            groups.setdefault(place, []).append(number)
    for place, numbers in groups.items():
        shapes = sorted({tiles[number].shape for number in numbers})
        if len(shapes) > 1:
            sizes = listed(f"{width} x {height}" for height, width in shapes)
            raise InputError(
                f"The tiles of the place {place!r} have {sizes} pixels.",
                "Give them the same pixels, or places of their own.",
            )
    return [[number] if place is None else groups[place] for number, place in enumerate(places)]


def _looked_at(
    spec: PretrainSpec, like: ModelCard | None
) -> tuple[tuple[str, ...], Listing, dict[str, Raster]]:
    """Return the bands, the tiles and the rasters beside them that a request is about."""
    folder = Path(spec.data)
    sensor = load_sensor(like.sensor if like else spec.sensor)
    listing = read_listing(folder, spec.split)
    declared = read_declared(folder, listing, (sensor.id, *PLACES))
    _check_wanted(spec.modalities, (sensor.id, *declared, *PLACES))
    if spec.modalities:
        declared = {name: row for name, row in declared.items() if name in spec.modalities}
    levels = sorted({row.level for row in listing.entries if row.level})
    if not like and len(levels) > 1:
        # Their numbers differ; one mean and spread of both would suit neither (MMEarth).
        raise InputError(
            f"The tiles are of the levels {listed(levels)}, whose numbers differ.",
            "List those of one level only, or take over the normalisation of a model of both.",
        )
    first = folder / listing.entries[0].file
    found = band_names(first)
    bands = tuple(spec.bands) or (like.bands if like else found)
    known = [band.name for band in sensor.bands]
    strange = [band for band in bands if band not in known]
    if strange:
        named = listed(filter(None, strange)) or "no names"
        raise InputError(
            f"The bands of {first} are to be {sensor.title}'s, found {named}.",
            f"Describe or choose bands by these names: {listed(known)}.",
        )
    check_bands(first, bands, found)
    if like and len(bands) != len(_chosen(like).mean):
        raise InputError(
            f"{like.id} has {len(like.bands)} bands, found {len(bands)}.",
            "Leave the bands out: those of the model are then taken.",
        )
    return bands, listing, declared


def _check_wanted(wanted: Sequence[str], known: Sequence[str]) -> None:
    strange = [name for name in wanted if name not in known]
    if strange:
        raise InputError(
            f"The data set does not hold {listed(strange)}.", f"It holds {listed(known)}."
        )


def _large_enough(tiles: Sequence[Tile], crop: int) -> tuple[list[Tile], list[Problem]]:
    """Return the tiles that a crop fits into, and a warning of how many others there are.

    Raises:
        InputError: if it fits into none.
    """
    kept = [tile for tile in tiles if min(tile.shape) >= crop]
    smallest = min(min(tile.shape) for tile in tiles)
    text = f"{len(tiles) - len(kept):,} of {len(tiles):,} tiles are smaller than crops of {crop}"
    advice = f"The smallest is {smallest} pixels wide or high: choose crops no larger than that."
    if not kept:
        raise InputError(f"{text} pixels.", advice)
    if len(kept) == len(tiles):
        return kept, []
    left_out = Problem(code="tiles", message=f"{text} pixels and left out.", advice=advice)
    return kept, [left_out]


def _said_of_tiles(tiles: Sequence[Tile]) -> list[Problem]:
    """Return each kind of warning once, with the number of tiles that it is about."""
    said: dict[str, list[Problem]] = {}
    for tile in tiles:
        for problem in tile.warnings:
            said.setdefault(problem.code, []).append(problem)
    return [
        found[0].model_copy(
            update={
                "message": f"{counted(len(found), 'tile')} of {len(tiles):,}: {found[0].message}"
            }
        )
        for found in said.values()
    ]


def _pixel_size(sizes: Sequence[float]) -> float:
    """Return the size of a pixel, if it is about the same in all tiles.

    Raises:
        InputError: if it is not.
    """
    if max(sizes) > SIMILAR * min(sizes):
        raise InputError(
            f"Pixels of the tiles are {min(sizes):.3g} to {max(sizes):.3g} m large.",
            "Choose tiles of one resolution, or bring them to one.",
        )
    return float(f"{np.median(sizes):.3g}")


def _chosen(like: ModelCard) -> Normalisation:
    if like.normalisation.inside:
        raise ModelError(
            f"{like.title} normalises its input by itself, in a way that cannot be taken over.",
            "Choose another model, or none.",
        )
    return like.normalisation
