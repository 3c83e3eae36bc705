"""Image tiles with a teacher's class probabilities, held in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.raster.source import open_raster

INDEX = "index.json"
LABEL_SUFFIX = ".teacher.tif"


@dataclass(frozen=True)
class SoftTile:
    """A tile and what the teacher says of it.

    Attributes:
        facts: entry of the index: file, source, group, split, level, …
        path: image file.
        image: (C, H, W) float32, reflectance.
        target: (K, H, W) float32, probabilities; all 0 where there is no data.
        valid: (H, W) bool.
    """

    facts: dict[str, Any]
    path: Path
    image: NDArray[np.float32]
    target: NDArray[np.float32]
    valid: NDArray[np.bool_]


def read_tiles(
    folder: Path,
    bands: Sequence[str],
    *,
    scale: float,
    wanted: Callable[[dict[str, Any]], bool] = lambda facts: True,
) -> list[SoftTile]:
    """Read tiles listed in ``index.json``.

    Args:
        folder: holds the index; images are uint16 with band descriptions, all bands 0 = no data;
            labels lie beside them as ``<name>.teacher.tif``, uint8 in proportion to probability.
        bands: names of the bands to read, in order.
        scale: reflectance = stored value x scale.
        wanted: tells by its entry whether a tile is read.
    """
    entries = json.loads((folder / INDEX).read_text("utf-8"))
    return [_read(folder, facts, bands, scale) for facts in entries if wanted(facts)]


def _read(folder: Path, facts: dict[str, Any], bands: Sequence[str], scale: float) -> SoftTile:
    path = folder / facts["file"]
    with open_raster(str(path)) as dataset:
        stored = dataset.read()
        order = [dataset.descriptions.index(band) for band in bands]
    with open_raster(str(path.with_name(path.stem + LABEL_SUFFIX))) as dataset:
        label = dataset.read().astype(np.float32)
    total = label.sum(axis=0)
    return SoftTile(
        facts=facts,
        path=path,
        image=stored[order].astype(np.float32) * np.float32(scale),
        target=label / np.maximum(total, 1),
        valid=(stored != 0).any(axis=0) & (total > 0),
    )


class CropSampler:
    """Draws square crops at random: tiles by the root of their size, places evenly within them.

    By size itself a few large scenes would be all that is seen; by tile, the small ones.

    Args:
        tiles: to draw from; those smaller than a crop are reflected outwards.
        crop: side of a crop in pixels.
        seed: of everything that is drawn.
        step: crops begin at multiples of it, counted from a tile's corner.
        balance: how much more often tiles of rare classes are drawn: a tile's chance is multiplied
            by the mean over its pixels of the share of their class to the power of -balance. With
            0 no more often, with 1 tiles of a single class come alike for all classes.

    Attributes:
        class_shares: (K,) float64, share of pixels of each of the teacher's classes in what is
            drawn, about.
    """

    def __init__(
        self,
        tiles: Sequence[SoftTile],
        crop: int,
        seed: int,
        step: int = 1,
        balance: float = 0.0,
    ) -> None:
        self._tiles = [_at_least(tile, crop) for tile in tiles]
        self._crop, self._step = crop, step
        self._random = np.random.default_rng(seed)
        chance = np.sqrt([tile.valid.size for tile in self._tiles])
        shares = np.stack([_class_shares(tile) for tile in self._tiles])
        chance *= shares @ rarity(chance @ shares / chance.sum(), balance)
        self._chance = chance / chance.sum()
        self.class_shares = self._chance @ shares

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw crops, each turned and mirrored at random.

        Returns:
            images (B, C, s, s) float32, targets (B, K, s, s) float32, valid (B, s, s) bool.
        """
        crops = [self._one(i) for i in self._random.choice(len(self._tiles), count, p=self._chance)]
        images, targets, valid = (
            torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True)
        )
        return images, targets, valid

    def _one(self, number: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        tile, crop = self._tiles[number], self._crop
        row, col = (
            self._step * self._random.integers((side - crop) // self._step + 1)
            for side in tile.valid.shape
        )
        place = np.s_[..., row : row + crop, col : col + crop]
        turns, mirror = int(self._random.integers(4)), bool(self._random.integers(2))

        def turned(array: NDArray[Any]) -> NDArray[Any]:
            array = np.rot90(array[place], turns, (-2, -1))
            return np.ascontiguousarray(array[..., ::-1] if mirror else array)

        return turned(tile.image), turned(tile.target), turned(tile.valid)


def rarity(shares: NDArray[np.float64], balance: float) -> NDArray[np.float64]:
    """Return what classes of some shares count: share to the power of -balance; (K,) float64.

    A class that never occurs counts nothing.
    """
    return np.where(shares > 0, np.maximum(shares, np.finfo(float).tiny) ** -balance, 0.0)


def _class_shares(tile: SoftTile) -> NDArray[np.float64]:
    classes = tile.target.argmax(axis=0)[tile.valid]
    return np.bincount(classes, minlength=len(tile.target)) / max(classes.size, 1)


def _at_least(tile: SoftTile, side: int) -> SoftTile:
    """Return a tile reflected outwards to a least side."""
    height, width = tile.valid.shape
    grow = ((0, max(0, side - height)), (0, max(0, side - width)))
    if not any(after for _, after in grow):
        return tile
    return SoftTile(
        tile.facts,
        tile.path,
        np.pad(tile.image, ((0, 0), *grow), "reflect"),
        np.pad(tile.target, ((0, 0), *grow), "reflect"),
        np.pad(tile.valid, grow, "reflect"),
    )
