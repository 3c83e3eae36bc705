"""Tiles as they are cut: a file for each strip of them, whole or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmearth.api import PairSpec
from mmearth.files import explained
from mmearth.pretraining.datasets.mmearth_layout import SENTINEL2
from mmearth.pretraining.pairing.images import Images
from mmearth.pretraining.pairing.partners import Partner
from mmearth.pretraining.pairing.places import Place
from mmearth.raster.stack import RasterStack
from mmearth.sensors import Sensor

DARKEST = 1  # of stored numbers of Sentinel-2: 0 is no data
BRIGHTEST = 65535
STRIP_BYTES = 2**28  # of a strip in memory
GAP = 2  # tiles from one to the next in a strip; what lies between is read in vain


@dataclass(frozen=True)
class Strip:
    """Tiles of an image that lie in a row of a lattice, near each other.

    Attributes:
        image: number of the image.
        places: of the tiles, from left to right.
    """

    image: int
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """Of its file."""
        first = self.places[0]
        return f"{self.image:05d}_{first.lattice}_{first.row}_{first.col}.npz"


def make_strips(
    places: dict[Place, list[int]], chosen: Sequence[Place], tile_bytes: int
) -> list[Strip]:
    """Return the strips that chosen places make, image by image, from top to bottom.

    Args:
        places: with the numbers of the images that cover each.
        chosen: of these.
        tile_bytes: of a tile in memory; a strip is held as a whole.
    """
    rows: dict[tuple[int, int, int], list[Place]] = {}
    for place in sorted(chosen):
        for image in places[place]:
            rows.setdefault((image, place.lattice, place.row), []).append(place)
    widest = max(1, STRIP_BYTES // tile_bytes)
    strips: list[Strip] = []
    for key, held in sorted(rows.items()):
        part = [held[0]]
        for place in held[1:]:
            if place.col - part[-1].col > GAP or place.col - part[0].col >= widest:
                strips.append(Strip(key[0], tuple(part)))
                part = []
            part.append(place)
        strips.append(Strip(key[0], tuple(part)))
    return strips


class Cutter:
    """Cuts tiles and pairs them."""

    def __init__(
        self, spec: PairSpec, images: Images, partners: Sequence[Partner], sensor: Sensor
    ) -> None:
        self._spec, self._images, self._partners = spec, images, partners
        self._sensor = sensor
        self._layout = layout_of(sensor, images.bands)

    def cut(self, strip: Strip, file: Path) -> None:
        """Cut the tiles of a strip, and write those that hold enough data.

        Args:
            strip: to cut.
            file: is whole or not there when this is over, however it ends.

        Raises:
            DiskFullError: if the disk is full.
            InputError: if a raster holds a code that is not listed.
            RasterReadError: if a raster is damaged.
        """
        size, spec, images = self._spec.size, self._spec, self._images
        ready = images.ready[strip.image]
        first, last = strip.places[0], strip.places[-1]
        grid = images.tile_grid(first.lattice, first.row, first.col, size, last.col - first.col + 1)
        with RasterStack(ready.bands, grid, ready.masks) as stack:
            image, valid = stack.read_rows(0, size)
        kept, cut, dates, clipped = [], [], [], np.zeros(2, np.int64)
        others: dict[str, list[NDArray[Any]]] = {partner.name: [] for partner in self._partners}
        for number, place in enumerate(strip.places):
            left = (place.col - first.col) * size
            part = np.s_[:, left : left + size]
            if valid[part].mean() < spec.minimum_valid:
                continue
            stored, off = self._stored(image[(slice(None), *part)], valid[part])
            tile = images.tile_grid(place.lattice, place.row, place.col, size)
            days = {}
            for partner in self._partners:
                found, day = partner.read(tile, ready.image.date, spec.minimum_valid)
                others[partner.name].append(found)
                days[partner.name] = day
            kept.append(number)
            cut.append(stored)
            dates.append(days)
            clipped += off
        arrays: dict[str, Any] = {
            "kept": np.array(kept, np.int64),
            "clipped": clipped,
            "dates": np.array(json.dumps(dates)),
            "image": np.array(cut),
            **{f"of_{name}": np.array(rows) for name, rows in others.items()},
        }
        temporary = file.with_suffix(".part")
        with explained(file):
            with temporary.open("wb") as target:
                np.savez(target, **arrays)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(file)

    def _stored(
        self, image: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return a tile as it is stored, and how many numbers were too small and too large."""
        values = np.where(valid, image, np.nan)
        if not self._layout.integers:
            return values.astype(np.float32), np.zeros(2, np.int64)
        numbers = np.round(values.astype(np.float64) / self._sensor.scale)
        off = np.array([(numbers < DARKEST).sum(), (numbers > BRIGHTEST).sum()])
        stored = np.zeros((len(self._layout.bands), *valid.shape), np.uint16)
        numbers = np.nan_to_num(numbers.clip(DARKEST, BRIGHTEST), nan=0)
        stored[[self._layout.bands.index(band) for band in self._images.bands]] = numbers
        return stored, off


@dataclass(frozen=True)
class Layout:
    """How images are stored.

    Attributes:
        name: of their dataset.
        bands: of each channel.
        integers: as MMEarth's: reflectance x 10000, 0 is no data; else what is measured, NaN.
    """

    name: str
    bands: tuple[str, ...]
    integers: bool


def layout_of(sensor: Sensor, bands: tuple[str, ...]) -> Layout:
    """Return how images of a sensor are stored."""
    if sensor.id == "sentinel-2":
        return Layout("sentinel2", SENTINEL2, integers=True)
    return Layout(sensor.id.replace("-", ""), bands, integers=False)


def tile_bytes(spec: PairSpec, images: Images, partners: Sequence[Partner], sensor: Sensor) -> int:
    """Return how many bytes a tile takes at most."""
    layout = layout_of(sensor, images.bands)
    each = len(layout.bands) * (2 if layout.integers else 4)
    each += sum(partner.channels * partner.dtype.itemsize for partner in partners)
    return each * spec.size**2 + 2048
