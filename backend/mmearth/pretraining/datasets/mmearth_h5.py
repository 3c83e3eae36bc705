"""MMEarth's data sets, of 128 or 64 pixels, and what ``mmearth pair`` makes.

See ``mmearth.pretraining.datasets.mmearth_layout`` for the files. Modalities have the names of
their datasets. A crop is read when it is drawn, so that data sets may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import PretrainSpec, Problem
from mmearth.errors import InputError, listed
from mmearth.models.card import ModelCard
from mmearth.models.parts import Normalisation
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.datasets.listing import ALL, LEARNED
from mmearth.pretraining.datasets.mmearth_layout import (
    METADATA,
    PLACE,
    SENTINEL2,
    Layer,
    Store,
    classes,
    layer_of,
    measured,
    read_json,
)
from mmearth.pretraining.datasets.windows import (
    Arrays,
    WindowedDataset,
    apply_normalisation,
    check_crop,
    check_modalities,
    choose_bands,
)
from mmearth.pretraining.modality import UNKNOWN, Modality
from mmearth.sensors import Sensor, load_sensor

FINEST_M = 10.0  # pixels of MMEarth
USUAL = "L2A"  # level whose statistics the encoder's card states, if the images are of several


class MMEarthTiles(WindowedDataset):
    """Tiles of an h5 file; see ``WindowedDataset``.

    Where the file says which tiles show the same place, they are dates of it.

    Images of each level are standardised by the level's own statistics. ``levels`` and
    ``normalisation`` are what an encoder's card can state: those of one level.
    """

    def __init__(self, spec: PretrainSpec, like: ModelCard | None) -> None:
        super().__init__(spec.crop)
        opened = _Opened(spec, like)
        sensor = opened.sensor
        self.sensor, self.bands = sensor.id, opened.bands
        self._store, self._name = opened.store, opened.name
        self._tiles, self._starts = opened.places(opened.tiles(spec.split))
        self.split, self.parts = opened.split(spec.split), opened.parts
        dataset = self._store.file[self._name]
        self._size = (int(dataset.shape[2]), int(dataset.shape[3]))
        self._scale = float(dataset.attrs.get("scale", sensor.scale))
        nodata = dataset.attrs.get("nodata", [sensor.nodata])
        self._nodata = tuple(float(value) for value in nodata if value is not None)
        held = opened.held
        self._channels = [held.index(band) for band in self.bands]
        finest = min(sensor.band(band).gsd_m or FINEST_M for band in held)
        self.resolution_m = float(dataset.attrs.get("pixel_m", finest))
        self.attribution = spec.attribution
        self.warnings = list(opened.warnings)
        self._levels = opened.normalisations(self.bands, self._scale)
        self.levels, self.normalisation = self._stated(like)
        self._typed = "S2_type" in (self._store.file[METADATA].dtype.names or ())
        self._info = {} if self._typed or len(self._levels) == 1 else opened.types()
        wanted = spec.modalities or tuple(opened.layers)
        self._layers = {name: row for name, row in opened.layers.items() if name in wanted}
        self._spreads = {name: opened.spread(name) for name in self._layers}
        self.modalities = (
            Modality(sensor.id, "continuous", "pixel", len(self.bands), patch_norm=True),
            *(self._modality(name, layer) for name, layer in self._layers.items()),
        )
        self.files = opened.files

    def __len__(self) -> int:
        """Return the number of places; where the file does not tell them, of tiles."""
        return len(self._starts) - 1

    def _dates(self, place: int) -> int:
        return int(self._starts[place + 1] - self._starts[place])

    def _tile(self, place: int, date: int) -> int:
        return int(self._tiles[self._starts[place] + date])

    def _shape(self, place: int) -> tuple[int, int]:
        return self._size

    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        stored = self._store.read(self._name, _part(self._tile(place, date), window))
        stored = stored[self._channels]
        values = stored.astype(np.float64)
        for nothing in self._nodata:
            values[stored == nothing] = np.nan
        values[~np.isfinite(values)] = np.nan
        return (values * self._scale).astype(np.float32)

    def _normalised(self, place: int, date: int, image: torch.Tensor) -> torch.Tensor:
        return apply_normalisation(self._levels[self._level(self._tile(place, date))], image)

    def _others(self, place: int, date: int, window: Window) -> Arrays:
        found: Arrays = {}
        tile = self._tile(place, date)
        for name, layer in self._layers.items():
            pixels = self._store.file[name].ndim == 4
            stored = self._store.read(name, _part(tile, window) if pixels else tile)
            if layer.kind == "continuous":
                found[name] = measured(stored, layer.nodata, *self._spreads[name])
            elif layer.kind == "categorical":
                found[name] = classes(stored[0], layer.codes)
            else:
                found[name] = np.array(stored.argmax() if (stored == 1).sum() == 1 else UNKNOWN)
        return found

    def _level(self, tile: int) -> str:
        """Return the level of a tile, a key of the normalisations."""
        if len(self._levels) == 1:
            return next(iter(self._levels))
        row = self._store.read(METADATA, tile)
        told = row["S2_type"] if self._typed else self._info.get(row["tile_id"].item(), b"")
        level = np.asarray(told).item().decode().upper()
        if level not in self._levels:
            raise InputError(
                f"Tile {tile} of {self._store.path} is of the level {level!r}, whose "
                f"statistics are not stated; those of {listed(self._levels)} are.",
                "Compute them as well, or leave such tiles out of the parts.",
            )
        return level

    def _stated(self, like: ModelCard | None) -> tuple[tuple[str, ...], Normalisation]:
        """Return what the encoder's card states, and take a model's numbers for all if asked."""
        known = tuple(level for level in self._levels if level)
        if like:
            self._levels = dict.fromkeys(self._levels, like.normalisation)
            return known or like.levels, like.normalisation
        level = USUAL if USUAL in known else next(iter(self._levels))
        if len(known) > 1:
            others = listed(name for name in known if name != level)
            self.warnings.append(
                Problem(
                    code="levels",
                    message=f"The images are of the levels {listed(known)}, each standardised by "
                    f"numbers of its own; the encoder's card states those of {level}.",
                    advice=f"Use the encoder on images of {level}: {others} would be taken for "
                    "brighter or darker than they are.",
                )
            )
        return (level,) if level else (), self._levels[level]

    def _modality(self, name: str, layer: Layer) -> Modality:
        shape = self._store.file[name].shape
        level = "pixel" if len(shape) == 4 else "image"
        if layer.kind == "categorical":
            return Modality(name, "categorical", "pixel", len(layer.codes))
        kind = "continuous" if layer.kind == "continuous" else "categorical"
        return Modality(name, kind, level, int(shape[1]))  # type: ignore[arg-type]


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a data set without reading its images, and return the bands that would be read.

    Raises:
        InputError, RasterReadError, ModelError: as of ``open_dataset``.
    """
    opened = _Opened(spec, like)
    opened.tiles(spec.split)
    return opened.bands


def open_dataset(
    spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None = None
) -> MMEarthTiles:
    """Open a data set; all its parts are standardised by the statistics of its file.

    Raises:
        InputError: if it does not hold what is asked for, or a file of it is missing.
        RasterReadError: if it is damaged.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    return MMEarthTiles(spec, like)


class _Opened:
    """What the files of a data set say, as far as a request asks for it."""

    def __init__(self, spec: PretrainSpec, like: ModelCard | None) -> None:
        path = _find(Path(spec.data))
        stem = path.with_suffix("")
        beside = {
            part: stem.with_name(f"{stem.name}_{part}.json")
            for part in ("splits", "band_stats", "tile_info")
        }
        self.files = (path, *(file for file in beside.values() if file.exists()))
        self.sensor: Sensor = load_sensor(like.sensor if like else spec.sensor)
        self.store, self.name = Store(path), self.sensor.id.replace("-", "")
        self._splits: Mapping[str, list[int]] = read_json(beside["splits"])
        self._stats: Mapping[str, Any] = read_json(beside["band_stats"])
        self._tile_info = beside["tile_info"]
        file = self.store.file
        if self.name not in file or METADATA not in file:
            raise InputError(
                f"{path} holds no images of {self.sensor.title}: there is no {self.name}, only "
                f"{listed(file)}.",
                "Choose another sensor, or a file of MMEarth's layout.",
            )
        image = file[self.name]
        check_crop(spec.crop, min(image.shape[2:]), path.name)
        named = image.attrs.get("bands")
        self.held = SENTINEL2 if named is None else tuple(str(band) for band in named)
        if len(self.held) != image.shape[1]:
            raise InputError(
                f"{self.name} of {path} has {image.shape[1]} bands, expected {len(self.held)}.",
                "Choose a file of MMEarth's layout.",
            )
        # Bands that are known of every level; MMEarth leaves out B10 because L2A has none.
        self.known = tuple(
            band
            for number, band in enumerate(self.held)
            if all(_spread(row, number) for row in self._level_rows().values())
        )
        if not self.known:
            raise InputError(
                f"{path} holds images of the levels {listed(sorted(self._level_rows()))}, and the "
                "statistics of no band are known of all of them.",
                "Make the data set anew, so that every level is among what is learned from.",
            )
        self.bands = choose_bands(spec.bands, like, self.known, self.sensor, path.name)
        told = {name: layer_of(name, file[name]) for name in file if name not in self._no_layers()}
        self.layers = {name: layer for name, layer in told.items() if layer}
        check_modalities(spec.modalities, (self.sensor.id, *self.layers), path.name)
        self.warnings: list[Problem] = []

    def tiles(self, split: str | None) -> NDArray[np.int64]:
        """Return the numbers of the tiles of a part.

        Raises:
            InputError: if there is none, or one is not in the file.
        """
        count = len(self.store.file[METADATA])
        name = self.split(split)
        if name == ALL:
            return np.arange(count)
        tiles = np.unique(np.asarray(self._splits.get(name, []), np.int64))
        if not len(tiles):
            raise InputError(
                f"No tile of {self.store.path} belongs to the part {name!r}.",
                f"Choose {listed(map(repr, self.parts))}, or an empty one for all tiles.",
            )
        if tiles[0] < 0 or tiles[-1] >= count:
            raise InputError(
                f"The part {name!r} of {self.store.path} has the tile {tiles[-1]:,}, the file has "
                f"{count:,}.",
                "The files do not belong together: copy or download them again.",
            )
        return tiles

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that hold any tile."""
        return tuple(part for part, held in self._splits.items() if held)

    def places(self, tiles: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return tiles, place by place, and where each place begins among them, and the end."""
        if PLACE not in self.store.file:
            return tiles, np.arange(len(tiles) + 1)
        of = self.store.read(PLACE, slice(None))[tiles]
        order = np.argsort(of, kind="stable")
        begins = np.flatnonzero(np.diff(of[order], prepend=-1))
        return tiles[order], np.append(begins, len(tiles))

    def split(self, split: str | None) -> str:
        """Return the name of a part."""
        if split is None:
            return LEARNED if LEARNED in self.parts else ALL
        return split or ALL

    def normalisations(self, bands: tuple[str, ...], scale: float) -> dict[str, Normalisation]:
        """Return how images of each level are standardised; the level is empty if not known."""
        chosen = [self.held.index(band) for band in bands]
        return {
            level: Normalisation(
                mean=tuple(row["mean"][number] * scale for number in chosen),
                std=tuple(row["std"][number] * scale for number in chosen),
            )
            for level, row in self._level_rows().items()
        }

    def spread(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of each channel of a modality, NaN if not known."""
        if self.layers[name].kind != "continuous":
            return np.empty(0), np.empty(0)
        if name not in self._stats:
            raise InputError(
                f"The statistics of {self.store.path} lack {name}.",
                "Leave that modality out, or copy or download the file of statistics again.",
            )
        row = self._stats[name]
        mean, std = (np.atleast_1d(np.array(row[key], np.float64)) for key in ("mean", "std"))
        return mean, std

    def types(self) -> dict[bytes, bytes]:
        """Return the level of each tile by its identifier, where only the JSON file tells it."""
        rows = read_json(self._tile_info)
        return {name.encode(): str(row.get("S2_type", "")).encode() for name, row in rows.items()}

    def _level_rows(self) -> dict[str, Any]:
        """Return the statistics of images by level."""
        prefix = f"{self.name}_"
        rows = {
            key[len(prefix) :].upper(): row
            for key, row in self._stats.items()
            if key.startswith(prefix) and key not in self.store.file
        }
        if not rows and self.name in self._stats:
            rows = {"": self._stats[self.name]}
        if not rows:
            raise InputError(
                f"The statistics of {self.store.path} lack {self.name}.",
                "Copy or download the file of statistics again.",
            )
        return rows

    def _no_layers(self) -> set[str]:
        return {METADATA, PLACE, self.name}


def _part(tile: int, window: Window) -> tuple[int | slice, ...]:
    row, col = int(window.row_off), int(window.col_off)
    rows, cols = slice(row, row + int(window.height)), slice(col, col + int(window.width))
    return tile, slice(None), rows, cols


def _find(data: Path) -> Path:
    """Return the h5 file of a folder, or the file itself.

    Raises:
        InputError: if there is none, or several.
    """
    if data.suffix == ".h5" and data.is_file():
        return data
    found = sorted(data.glob("*.h5"))
    if len(found) != 1:
        names = listed(path.name for path in found) or "none"
        raise InputError(
            f"Expected one h5 file in {data}, found {names}.", "Choose the file itself."
        )
    return found[0]


def _spread(row: Mapping[str, Any], number: int) -> bool:
    mean, std = row["mean"][number], row["std"][number]
    return mean is not None and std is not None and bool(std > 0)
