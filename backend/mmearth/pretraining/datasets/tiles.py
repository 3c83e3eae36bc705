"""A folder of image tiles with an index, and rasters beside them on the same pixels.

``index.json`` lists the tiles: ``file``, and perhaps ``split`` and ``level``; either all tiles have
a split or none. Images are integers with band descriptions, with the sensor's scale. What else is
known of a tile lies beside it as ``<name><suffix>``; ``modalities.json`` says of each such raster
what it is:

    {"elevation": {"suffix": ".dem.tif", "kind": "continuous", "nodata": -32768},
     "worldcover": {"suffix": ".worldcover.tif", "kind": "categorical", "codes": [10, 20, 30]}}

What is not listed there is not learned from: without the file, the images alone. A tile whose
raster is missing has no data there. Where tiles have coordinates, ``latitude`` and ``longitude``
are modalities too, as sine and cosine (MMEarth).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform

from mmearth.api import PretrainSpec
from mmearth.errors import EmptyAreaError, InputError, ModelError, RasterReadError, listed
from mmearth.models.card import ModelCard
from mmearth.models.network import Normaliser
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
from mmearth.pretraining.modality import UNKNOWN, Batch, Modality, categorical, continuous
from mmearth.sensors import load_sensor

PLACES = ("latitude", "longitude")
EVERY = 7  # of the pixels that statistics are measured on


@dataclass(frozen=True)
class _Tile:
    """A tile in memory.

    Attributes:
        image: (C, H, W), as stored.
        valid: (H, W) bool.
        rasters: name -> (C, H, W) float32 or (H, W) int64; see ``mmearth.pretraining.modality``.
        place: latitude and longitude of the middle in degrees; NaN if unknown.
    """

    image: NDArray[Any]
    valid: NDArray[np.bool_]
    rasters: dict[str, NDArray[Any]]
    place: tuple[float, float]


class Tiles:
    """See ``mmearth.pretraining.dataset.Dataset``; tiles are drawn by the root of their size.

    By size itself a few large scenes would be all that is seen; by tile, the small ones. Crops are
    turned and mirrored at random; beyond the rim of a small tile there is no data.
    """

    def __init__(self, spec: PretrainSpec, like: ModelCard | None) -> None:
        folder = Path(spec.data)
        sensor = load_sensor(like.sensor if like else spec.sensor)
        self.sensor = sensor.id
        self.bands, listing, declared = _looked_at(spec, like)
        self.split = listing.split
        self.levels = tuple(sorted({row.level for row in listing.entries if row.level})) or (
            like.levels if like else ()
        )
        paths = [folder / row.file for row in listing.entries]
        more = [beside(path, raster) for path in paths for raster in declared.values()]
        lists = (folder / INDEX, folder / DECLARED)
        self.files = tuple(path for path in (*lists, *paths, *more) if path.exists())
        self._tiles = [_read(path, self.bands, declared, sensor.nodata) for path in paths]
        self._scale, self._offset, self._crop = sensor.scale, sensor.offset, spec.crop
        self.normalisation = _chosen(like) if like else self._measured()
        self._normalise = Normaliser(self.normalisation)
        gsd = [sensor.band(name).gsd_m for name in self.bands]
        self.resolution_m = like.resolution_m if like else min(filter(None, gsd), default=10.0)
        self.attribution = spec.attribution
        self._standards = {
            name: _standard([tile.rasters[name] for tile in self._tiles if name in tile.rasters])
            for name, raster in declared.items() if raster.kind == "continuous"
        }  # fmt: skip
        self._places = self._located(spec.modalities)
        self.modalities = (
            Modality(sensor.id, "continuous", "pixel", len(self.bands), patch_norm=True),
            *(self._modality(name, raster, paths) for name, raster in declared.items()),
            *(Modality(name, "continuous", "image", 2) for name in self._places),
        )
        size = np.sqrt([tile.valid.size for tile in self._tiles])
        self._chance = size / size.sum()

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._tiles)

    def draw(self, count: int, generator: np.random.Generator) -> Batch:
        """Draw crops at random."""
        chosen = generator.choice(len(self._tiles), count, p=self._chance)
        crops = [self._one(self._tiles[number], generator) for number in chosen]
        images, valid = (torch.from_numpy(np.stack([c[k] for c in crops])) for k in ("", "valid"))
        image = self._normalise(images, valid).masked_fill(~valid[:, None], math.nan)
        names = [one.name for one in self.modalities if one.level == "pixel"][1:]
        return {
            self.sensor: image,
            **{name: torch.from_numpy(np.stack([c[name] for c in crops])) for name in names},
            **{name: torch.from_numpy(rows[chosen]) for name, rows in self._places.items()},
        }

    def _one(self, tile: _Tile, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        crop = self._crop
        row, col = (int(generator.integers(max(0, side - crop) + 1)) for side in tile.valid.shape)
        place = np.s_[..., row : row + crop, col : col + crop]
        turns, mirror = int(generator.integers(4)), bool(generator.integers(2))

        def cut(values: NDArray[Any], filling: float) -> NDArray[Any]:
            part = values[place]
            missing = [(0, crop - side) for side in part.shape[-2:]]
            grow = [(0, 0)] * (part.ndim - 2) + missing
            part = np.rot90(np.pad(part, grow, constant_values=filling), turns, (-2, -1))
            return np.ascontiguousarray(part[..., ::-1] if mirror else part)

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
                rasters[one.name] = cut(values, filling)
            else:
                mean, deviation = self._standards[one.name]
                rasters[one.name] = (cut(values, filling) - mean) / deviation
        reflectance = cut(tile.image, 0).astype(np.float32) * np.float32(self._scale)
        return {"": reflectance + np.float32(self._offset), "valid": cut(tile.valid, 0), **rasters}

    def _measured(self) -> Normalisation:
        """Measure mean and standard deviation of each band."""
        known = [tile.image[:, tile.valid][:, ::EVERY] for tile in self._tiles]
        values = np.concatenate(known, axis=1).astype(np.float64) * self._scale + self._offset
        return Normalisation(
            mean=tuple(float(f"{value:.6g}") for value in values.mean(axis=1)),
            std=tuple(float(f"{max(value, 1e-6):.6g}") for value in values.std(axis=1)),
        )

    def _located(self, wanted: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return sine and cosine of where tiles are, standardised; (tiles, 2), NaN if unknown."""
        degrees = np.array([tile.place for tile in self._tiles])
        found = {}
        for name, column in zip(PLACES, degrees.T, strict=True):
            if (wanted and name not in wanted) or len(np.unique(column[np.isfinite(column)])) < 2:
                continue
            circle = np.stack([np.sin(np.radians(column)), np.cos(np.radians(column))], axis=1)
            deviation = np.maximum(np.nanstd(circle, axis=0), 1e-6)
            circle = (circle - np.nanmean(circle, axis=0)) / deviation
            found[name] = circle.astype(np.float32)
        return found

    def _modality(self, name: str, raster: Raster, paths: Sequence[Path]) -> Modality:
        if raster.kind == "continuous":
            channels = next(t.rasters[name] for t in self._tiles if name in t.rasters).shape[0]
            return Modality(name, "continuous", "pixel", channels)
        if raster.kind == "categorical":
            return Modality(name, "categorical", "pixel", len(raster.codes))
        first = next(path for path in (beside(p, raster) for p in paths) if path.exists())
        with _opened(first) as dataset:
            return Modality(name, "categorical", "pixel", dataset.count)


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


def _looked_at(
    spec: PretrainSpec, like: ModelCard | None
) -> tuple[tuple[str, ...], Listing, dict[str, Raster]]:
    """Return the bands, the tiles and the rasters beside them that a request is about."""
    folder = Path(spec.data)
    sensor = load_sensor(like.sensor if like else spec.sensor)
    listing = read_listing(folder, spec.split)
    declared = read_declared(folder, listing)
    _check_wanted(spec.modalities, (sensor.id, *declared, *PLACES))
    if spec.modalities:
        declared = {name: row for name, row in declared.items() if name in spec.modalities}
    first = folder / listing.entries[0].file
    found = _bands(first)
    bands = tuple(spec.bands) or (like.bands if like else found)
    _check_bands(first, bands, found)
    for name in bands:
        sensor.band(name)
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


def _bands(path: Path) -> tuple[str, ...]:
    with _opened(path) as dataset:
        return tuple(name or "" for name in dataset.descriptions)


def _check_bands(path: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    missing = [band for band in wanted if band not in found]
    if missing:
        raise InputError(
            f"{path} has no band {listed(missing)}; it has {listed(found)}.",
            "Choose other bands, or name those of the file.",
        )


def _chosen(like: ModelCard) -> Normalisation:
    if like.normalisation.inside:
        raise ModelError(
            f"{like.title} normalises its input by itself, in a way that cannot be taken over.",
            "Choose another model, or none.",
        )
    return like.normalisation


def _opened(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise RasterReadError(f"{path} cannot be read: {error}.", "Mend or remove it.") from error


def _read(
    path: Path, bands: Sequence[str], declared: dict[str, Raster], nodata: float | None
) -> _Tile:
    with _opened(path) as dataset:
        names = [name or "" for name in dataset.descriptions]
        _check_bands(path, bands, names)
        image = dataset.read([names.index(band) + 1 for band in bands])
        place = _middle(dataset)
    valid = np.ones(image.shape[1:], bool)
    if nodata is not None:
        valid = (image != nodata).any(axis=0)
    rasters = {}
    for name, raster in declared.items():
        if (file := beside(path, raster)).exists():
            rasters[name] = _read_raster(file, raster, valid.shape)
    return _Tile(image, valid, rasters, place)


def _read_raster(path: Path, raster: Raster, shape: tuple[int, ...]) -> NDArray[Any]:
    with _opened(path) as dataset:
        stored = dataset.read()
    if stored.shape[1:] != shape:
        raise InputError(
            f"{path} has {stored.shape[2]} x {stored.shape[1]} pixels, its image "
            f"{shape[1]} x {shape[0]}.",
            "Bring it onto the pixels of the image.",
        )
    try:
        if raster.kind == "continuous":
            return continuous(stored, raster.nodata)
        if raster.kind == "categorical":
            return categorical(stored[0], raster.codes, raster.nodata)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.advice) from error
    known = stored.any(axis=0)
    return np.where(known, stored.argmax(axis=0), UNKNOWN)


def _middle(dataset: Any) -> tuple[float, float]:
    if dataset.crs is None:
        return math.nan, math.nan
    x, y = dataset.transform @ (dataset.width / 2, dataset.height / 2)
    (lon,), (lat,) = transform(dataset.crs, "EPSG:4326", [x], [y])
    return lat, lon


def _standard(arrays: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel, (C, 1, 1) each.

    Raises:
        EmptyAreaError: if there is no data at all.
    """
    values = np.concatenate([array.reshape(array.shape[0], -1) for array in arrays], axis=1)
    if not np.isfinite(values).any(axis=1).all():
        raise EmptyAreaError(
            "A raster beside the tiles has no data in any of them.",
            "Leave it out, or check the value that stands for no data.",
        )
    mean, deviation = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
    return (
        mean.astype(np.float32)[:, None, None],
        np.maximum(deviation, 1e-6).astype(np.float32)[:, None, None],
    )
