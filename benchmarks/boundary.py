"""Borders of a forest map: boundary-weighted loss and detail-preserving stem, with and without.

Two tasks with dense labels: the tree masks of a teacher on Sentinel-2 scenes, tested on the places
that its index sets aside; and forest of the Brazilian Amazon in true colour (Bragagnolo et al.), 15
tiles, of which a third is tested on in turns. Both arms see the same crops in the same order for as
many steps. ``--data`` names the folder that holds ``s2`` and ``amazon_rgb``. An hour and a half on
a core.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from scipy.ndimage import binary_erosion

from benchmarks.common import row
from mmearth.models.card import NetworkConfig, Normalisation
from mmearth.models.network import Normaliser, choose_device
from mmearth.models.registry import build_network
from mmearth.settings import Settings
from mmearth.training.crops import Crop, turned
from mmearth.training.loop import Lessons, Recipe, fit
from mmearth.training.losses import UNLABELLED, find_loss
from mmearth.training.metrics import confusion, intersection_over_union
from mmearth.training.softlabels import read_tiles
from mmearth.training.task import Watch
from mmearth.training.tune import faster_in_bfloat16

BAND = 3  # pixels on the inner side of a border
SEEDS = 3
TESTED = 5  # tiles of the Amazon
STEPS = 50  # of an epoch
SIDE = 512  # of a tile of the Amazon; some have a few pixels more
STRIDE = 32  # of the networks
LEAST = 64  # pixels of a side; smaller scenes are not learned from
ENCODERS = {"plain ResNet-18": "resnet18", "detail stem": "detail-resnet18-full"}
LOSSES = ("cross-entropy", "boundary-cross-entropy")
PLAIN, BETTER = ("plain ResNet-18", LOSSES[0]), ("detail stem", LOSSES[1])
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
TREES = 1  # number of the teacher's class

# image (C, H, W) float32 0..1, classes (H, W) int64: 0 forest, 1 other, UNLABELLED without data
Tile = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """What is mapped.

    Attributes:
        read: returns the tiles to learn from and to test on, of a folder and a seed.
        epochs: of ``STEPS`` batches.
        batch: crops in a batch.
        crop: side of a crop in pixels.
    """

    read: Callable[[Path, int], tuple[list[Tile], list[Tile]]]
    epochs: int
    batch: int
    crop: int


def measure(
    scratch: Path, seeds: int = SEEDS, epochs: int | None = None, steps: int = STEPS
) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", ""))
    rows = []
    for name, task in TASKS.items():
        try:
            task.read(data, 0)
        except OSError as error:
            print(f"  left out: {error}; --data names the folder that holds s2 and amazon_rgb")
            continue
        rows += _compared(name, task, data, scratch, seeds, epochs or task.epochs, steps)
    return rows


def _compared(
    name: str, task: Task, data: Path, scratch: Path, seeds: int, epochs: int, steps: int
) -> list[dict[str, Any]]:
    device = choose_device(Settings())
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed, arm in itertools.product(range(seeds), (PLAIN, BETTER)):
        learned, tested = task.read(data, seed)
        recipe = Recipe(
            epochs=epochs, steps=steps, batch=task.batch, crop=task.crop, learning_rate=2e-3,
            averaging=0.99, mixed=faster_in_bfloat16(device), frozen_statistics=False, seed=seed,
        )  # fmt: skip
        network, normalise = _train(arm, learned, recipe, device, scratch / f"{seed} {arm}")
        found.setdefault(arm, []).append(_figures(network, normalise, tested, device))
        print(f"  {name}, seed {seed}, {', '.join(arm)}: {found[arm][-1][0]:.4f}", flush=True)
    rows = []
    for arm, figures in found.items():
        boundary, whole = np.mean(figures, axis=0)
        rows.append(row(f"{name}, {', '.join(arm)}: boundary IoU ({BAND} px)", boundary))
        rows.append(row(f"{name}, {', '.join(arm)}: IoU", whole))
    gains = [
        better[0] - plain[0] for better, plain in zip(found[BETTER], found[PLAIN], strict=True)
    ]
    mean = float(np.mean(gains))
    rows.append(row(f"{name}: boundary IoU gained by both", mean, "more than 0", mean > 0))
    rows.append(row(f"{name}: standard deviation of that", float(np.std(gains, ddof=1))))
    rows.append(row(f"{name}: seeds of {seeds} in which it is gained", sum(g > 0 for g in gains)))
    return rows


def _amazon(data: Path, seed: int) -> tuple[list[Tile], list[Tile]]:
    paths = sorted((data / "amazon_rgb").glob("*.label.tif"))
    if not paths:
        raise FileNotFoundError(f"no labels in {data / 'amazon_rgb'}")
    tiles = []
    for path in paths:
        with rasterio.open(path.with_name(path.name.replace(".label", ""))) as dataset:
            image = dataset.read()[:, :SIDE, :SIDE].astype(np.float32) / 255
        with rasterio.open(path) as dataset:
            tiles.append((image, dataset.read(1)[:SIDE, :SIDE].astype(np.int64) - 1))
    order = np.random.default_rng(seed).permutation(len(tiles))
    return [tiles[n] for n in order[TESTED:]], [tiles[n] for n in order[:TESTED]]


@cache
def _trees(data: Path, _seed: int = 0) -> tuple[list[Tile], list[Tile]]:
    parts: dict[str, list[Tile]] = {"train": [], "val": []}
    for tile in read_tiles(data / "s2", BANDS, scale=1e-4):
        classes = (tile.target.argmax(axis=0) != TREES).astype(np.int64)
        classes[~tile.valid] = UNLABELLED
        parts[tile.facts["split"]].append((tile.image, classes))
    return [tile for tile in parts["train"] if min(tile[1].shape) >= LEAST], parts["val"]


TASKS = {
    "Sentinel-2 tree masks": Task(lambda data, seed: _trees(data), epochs=8, batch=16, crop=LEAST),
    "Amazon": Task(_amazon, epochs=12, batch=8, crop=96),
}


class DenseCrops:
    """Crops of tiles that are labelled all over; by tile, as small ones tell as much."""

    def __init__(self, tiles: Sequence[Tile], side: int) -> None:
        self._tiles, self._side = tiles, side

    def draw(self, count: int, random: np.random.Generator) -> list[Crop]:
        return [self._one(random) for _ in range(count)]

    def _one(self, random: np.random.Generator) -> Crop:
        image, classes = self._tiles[random.integers(len(self._tiles))]
        top, left = (int(random.integers(size - self._side + 1)) for size in classes.shape)
        part = np.s_[..., top : top + self._side, left : left + self._side]
        crop = Crop(image[part], classes[part], classes[part] != UNLABELLED)
        return turned(crop, int(random.integers(4)), bool(random.integers(2)))


def _train(
    arm: tuple[str, str], tiles: Sequence[Tile], recipe: Recipe, device: torch.device, folder: Path
) -> tuple[torch.nn.Module, Normaliser]:
    torch.manual_seed(recipe.seed)
    config = NetworkConfig(decoder="unet", encoder=ENCODERS[arm[0]], multiply_adds_per_pixel=1)
    network = build_network(config, in_channels=len(tiles[0][0]), classes=2)
    network.to(device, memory_format=torch.channels_last)
    pixels = np.concatenate([image[:, classes != UNLABELLED] for image, classes in tiles], axis=1)
    normalise = Normaliser(
        Normalisation(mean=tuple(pixels.mean(axis=1)), std=tuple(pixels.std(axis=1)))
    )
    counts = sum(np.bincount(classes.ravel(), minlength=UNLABELLED + 1)[:2] for _, classes in tiles)
    weights = torch.tensor(counts.sum() / counts / 2, dtype=torch.float32)
    crops = DenseCrops(tiles, recipe.crop)
    lessons = Lessons(crops, (), normalise, find_loss(arm[1]), weights, None)
    fit(network, {}, lessons, recipe, folder, Watch())
    shutil.rmtree(folder)
    return network, normalise.to(device)


@torch.inference_mode()
def _figures(
    network: torch.nn.Module, normalise: Normaliser, tiles: Sequence[Tile], device: torch.device
) -> tuple[float, float]:
    """Return boundary IoU and IoU over all tiles, averaged over the classes."""
    inside, union = np.zeros(2), np.zeros(2)
    matrix = np.zeros((2, 2), np.int64)
    for image, classes in tiles:
        known = classes != UNLABELLED
        grow = [(0, -side % STRIDE) for side in classes.shape]
        values = torch.from_numpy(np.pad(image, [(0, 0), *grow], "reflect"))[None].to(device)
        valid = torch.from_numpy(np.pad(known, grow, "reflect"))[None].to(device)
        scores = network(normalise(values, valid))[0, :, : classes.shape[0], : classes.shape[1]]
        mapped = scores.argmax(dim=0).cpu().numpy()
        matrix += confusion(classes[known], mapped[known], 2)
        for number in range(2):
            truth, found = rim(classes == number, known), rim((mapped == number) & known, known)
            inside[number] += (truth & found).sum()
            union[number] += (truth | found).sum()
    return float((inside / union).mean()), float(intersection_over_union(matrix).mean())


def rim(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask no farther than ``BAND`` from its outline (Cheng et al. 2021).

    The rim of what is known is no outline: what lies beyond is unknown.
    """
    square = np.ones((3, 3), bool)
    return mask & ~binary_erosion(mask | ~known, square, BAND, border_value=1)
