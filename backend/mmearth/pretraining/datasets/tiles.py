"""A folder of image tiles with an index, and rasters beside them on the same pixels.

``index.json`` lists the tiles: ``file``, and perhaps ``split``, ``level`` and ``place``; either all
tiles have a split or none, and tiles of one place show it on several dates, pixel by pixel. Images
are integers with band descriptions, with the sensor's scale. What else is known of a tile lies
beside it as ``<name><suffix>``; ``modalities.json`` says of each such raster what it is:

    {"elevation": {"suffix": ".dem.tif", "kind": "continuous", "nodata": -32768},
     "worldcover": {"suffix": ".worldcover.tif", "kind": "categorical", "codes": [10, 20, 30]}}

What is not listed there is not learned from: without the file, the images alone. A tile whose
raster is missing has no data there. Where tiles have coordinates, ``latitude`` and ``longitude``
are modalities too, as sine and cosine (MMEarth); of a tile without, they are not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import PretrainSpec
from mmearth.errors import InputError, listed
from mmearth.models.card import ModelCard
from mmearth.models.parts import Normalisation
from mmearth.pretraining.datasets.listing import (
    DECLARED,
    INDEX,
    Listing,
    Raster,
    beside,
    read_declared,
    read_listing,
)
from mmearth.pretraining.datasets.running import Running
from mmearth.pretraining.datasets.tile import Numbers, Tile, band_names, check_bands, look_at
from mmearth.pretraining.datasets.together import (
    by_place,
    large_enough,
    pixel_size,
    said_of_ground,
    said_of_numbers,
)
from mmearth.pretraining.datasets.windows import (
    Arrays,
    WindowedDataset,
    check_modalities,
    check_varied,
    choose_bands,
    sampled,
)
from mmearth.pretraining.modality import UNKNOWN, Modality
from mmearth.sensors import Sensor, load_sensor

PLACES = ("latitude", "longitude")
Statistics = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


class Tiles(WindowedDataset):
    """See ``WindowedDataset``; places are drawn by the root of their size.

    By size itself a few large scenes would be all that is seen; by place, the small ones. Tiles
    smaller than a crop are left out with a warning: filled up, an encoder would be shown what is no
    data.

    Args:
        spec: the request.
        like: model whose bands and normalisation are taken; None to measure them.
        learned: tiles of the same request, whose modalities and statistics are taken.
    """

    def __init__(
        self, spec: PretrainSpec, like: ModelCard | None, learned: Tiles | None = None
    ) -> None:
        super().__init__(spec.crop)
        folder = Path(spec.data)
        sensor = load_sensor(like.sensor if like else spec.sensor)
        self.sensor, self.attribution = sensor.id, spec.attribution
        self.bands, listing, declared = _looked_at(spec, like)
        self.split, self.parts = listing.split, listing.parts
        self.levels = tuple(sorted({row.level for row in listing.entries if row.level})) or (
            like.levels if like else ()
        )
        paths = [folder / row.file for row in listing.entries]
        more = [beside(path, raster) for path in paths for raster in declared.values()]
        lists = (folder / INDEX, folder / DECLARED)
        self.files = tuple(path for path in (*lists, *paths, *more) if path.exists())
        tiles, small = large_enough(_look_at(paths, self.bands, declared, sensor), spec.crop)
        self.tiles = tiles
        places = {folder / row.file: row.place for row in listing.entries}
        self._places = by_place([places[tile.path] for tile in tiles], tiles)
        self.resolution_m, unplaced = pixel_size(tiles, sensor)
        self.warnings = [*small, *unplaced, *said_of_numbers(tiles)]
        self.normalisation: Normalisation = (
            known.normalisation if (known := learned or like) else self._measured(str(folder))
        )
        declared = {
            name: raster
            for name, raster in declared.items()
            if any(name in tile.rasters for tile in tiles)
        }
        found = self._look_through(declared)
        self._rasters: Statistics = learned._rasters if learned else _varied(found, str(folder))
        self._circles: Statistics = learned._circles if learned else self._located(spec.modalities)
        self.modalities: tuple[Modality, ...] = (
            learned.modalities
            if learned
            else (
                Modality(sensor.id, "continuous", "pixel", len(self.bands), patch_norm=True),
                *(self._modality(name, raster) for name, raster in declared.items()),
                *(Modality(name, "continuous", "image", 2) for name in self._circles),
            )
        )
        size = np.sqrt([math.prod(tiles[numbers[0]].shape) for numbers in self._places])
        self._chance = np.cumsum(size / size.sum())

    def __len__(self) -> int:
        """Return the number of places; a tile that is said to be of none is one."""
        return len(self._places)

    def _drawn(self, count: int, generator: np.random.Generator) -> list[int]:
        found = np.searchsorted(self._chance, generator.random(count), side="right")
        return [min(int(number), len(self) - 1) for number in found]

    def _tile(self, place: int, date: int) -> Tile:
        return self.tiles[self._places[place][date]]

    def _shape(self, place: int) -> tuple[int, int]:
        return self._tile(place, 0).shape

    def _dates(self, place: int) -> int:
        return len(self._places[place])

    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        return self._tile(place, date).image(window)

    def _others(self, place: int, date: int, window: Window) -> Arrays:
        tile = self._tile(place, date)
        shape = (int(window.height), int(window.width))
        found: Arrays = {}
        for one in self.modalities[1:]:
            if one.level == "image":
                mean, std = self._circles[one.name]
                degrees = tile.place[PLACES.index(one.name)]
                found[one.name] = ((_circle(degrees) - mean) / std).astype(np.float32)
            elif one.kind == "categorical":
                there = one.name in tile.rasters
                found[one.name] = (
                    tile.raster(one.name, window) if there else np.full(shape, UNKNOWN)
                )
            elif one.name in tile.rasters:
                mean, std = (part[:, None, None] for part in self._rasters[one.name])
                found[one.name] = ((tile.raster(one.name, window) - mean) / std).astype(np.float32)
            else:
                found[one.name] = np.full((one.channels, *shape), np.nan, np.float32)
        return found

    def _look_through(self, declared: Mapping[str, Raster]) -> dict[str, Running]:
        """Read parts of all rasters, and return statistics of what is measured.

        Raises:
            InputError: if one is not what is said of it.
            RasterReadError: if one is damaged.
        """
        found: dict[str, Running] = {}
        for name, raster in declared.items():
            held = [tile for tile in self.tiles if name in tile.rasters]
            running = Running(self._channels(name))
            for number, _, window in sampled(len(held), [tile.shape for tile in held].__getitem__):
                values = held[number].raster(name, window)
                if raster.kind == "continuous":
                    running.add(values)
            if raster.kind == "continuous":
                found[name] = running
        return found

    def _channels(self, name: str) -> int:
        """Return how many bands a raster has, the same beside all tiles."""
        counts = {tile.channels[name] for tile in self.tiles if name in tile.channels}
        if len(counts) > 1:
            raise InputError(
                f"The rasters {name} have {min(counts)} to {max(counts)} bands.",
                "Give all of them the same bands.",
            )
        return counts.pop()

    def _located(self, wanted: Sequence[str]) -> Statistics:
        """Return mean and deviation of sine and cosine of where tiles are, (2,) each."""
        found: Statistics = {}
        for number, name in enumerate(PLACES):
            column = np.array([tile.place[number] for tile in self.tiles])
            column = column[np.isfinite(column)]
            if (wanted and name not in wanted) or len(np.unique(column)) < 2:
                continue
            circle = _circle(column)
            found[name] = circle.mean(axis=1), np.maximum(circle.std(axis=1), 1e-6)
        return found

    def _modality(self, name: str, raster: Raster) -> Modality:
        if raster.kind == "continuous":
            return Modality(name, "continuous", "pixel", self._channels(name))
        return Modality(name, "categorical", "pixel", len(raster.codes) or self._channels(name))


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a folder without reading its images, and return the bands that would be read.

    Raises:
        InputError, RasterReadError, ModelError: as of ``open_dataset``.
    """
    return _looked_at(spec, like)[0]


def open_dataset(spec: PretrainSpec, like: ModelCard | None, learned: Tiles | None = None) -> Tiles:
    """Look at all tiles of a folder, and measure mean and spread on parts of them.

    If another part is learned from, a warning is added to its own if it shows the same ground.

    Raises:
        InputError: if the folder holds no tiles, or not what is asked for.
        RasterReadError: if a file is damaged.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    opened = Tiles(spec, like, learned)
    if learned:
        learned.warnings += said_of_ground(learned.tiles, opened.tiles)
    return opened


def _varied(found: Mapping[str, Running], folder: str) -> Statistics:
    """Return mean and deviation of rasters, (C,) each; errors as of ``check_varied``."""
    for name, running in found.items():
        titles = [f"{name} (band {number + 1})" for number in range(len(running.mean))]
        check_varied(running, folder, titles if len(titles) > 1 else [name])
    return {name: (running.mean, running.std) for name, running in found.items()}


def _circle(degrees: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sine and cosine; (...) to (2, ...)."""
    return np.stack([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


def _look_at(
    paths: Sequence[Path], bands: Sequence[str], declared: Mapping[str, Raster], sensor: Sensor
) -> list[Tile]:
    """Look at tiles; how numbers are read is kept once where it is the same."""
    known: dict[Numbers, Numbers] = {}
    tiles = (look_at(path, bands, declared, sensor) for path in paths)
    return [replace(tile, numbers=known.setdefault(tile.numbers, tile.numbers)) for tile in tiles]


def _looked_at(
    spec: PretrainSpec, like: ModelCard | None
) -> tuple[tuple[str, ...], Listing, dict[str, Raster]]:
    """Return the bands, the tiles and the rasters beside them that a request is about."""
    folder = Path(spec.data)
    sensor = load_sensor(like.sensor if like else spec.sensor)
    listing = read_listing(folder, spec.split)
    declared = read_declared(folder, listing, (sensor.id, *PLACES))
    check_modalities(spec.modalities, (sensor.id, *declared, *PLACES), "The data set")
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
    chosen = choose_bands(list(bands), like, found, sensor, str(first))
    return chosen, listing, declared
