"""Borders of a forest map: boundary-weighted loss and detail-preserving stem, with and without.

Dense labels of the Brazilian Amazon (Bragagnolo et al.), split by tile; both see the same crops
in the same order for as many steps. ``--data`` names the folder that holds ``amazon_rgb``. About
an hour on a processor.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
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
from mmearth.training.losses import find_loss
from mmearth.training.metrics import confusion, intersection_over_union
from mmearth.training.task import Watch
from mmearth.training.tune import faster_in_bfloat16

BAND = 3  # pixels on the inner side of a border
SEEDS = 5
TESTED = 5  # tiles of each split
SIDE = 512  # of a tile; some have a few pixels more
EPOCHS, STEPS, CROP = 12, 50, 96
ENCODERS = {"plain ResNet-18": "resnet18", "detail stem": "detail-resnet18-full"}
LOSSES = ("cross-entropy", "boundary-cross-entropy")
PLAIN, BETTER = ("plain ResNet-18", LOSSES[0]), ("detail stem", LOSSES[1])

Tile = tuple[np.ndarray, np.ndarray]  # image (3, H, W) float32 0..1, classes (H, W) int64


def measure(
    scratch: Path, seeds: int = SEEDS, epochs: int = EPOCHS, steps: int = STEPS
) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    folder = Path(os.environ.get("MMEARTH_DATA", "")) / "amazon_rgb"
    if not folder.is_dir():
        print(f"  left out: no folder {folder}; --data names the folder that holds amazon_rgb")
        return []
    tiles = _read(folder)
    device = choose_device(Settings())
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed, arm in itertools.product(range(seeds), (PLAIN, BETTER)):
        order = np.random.default_rng(seed).permutation(len(tiles))
        tested = [tiles[number] for number in order[:TESTED]]
        learned = [tiles[number] for number in order[TESTED:]]
        recipe = Recipe(
            epochs=epochs, steps=steps, batch=8, crop=CROP, learning_rate=2e-3, averaging=0.99,
            mixed=faster_in_bfloat16(device), frozen_statistics=False, seed=seed,
        )  # fmt: skip
        network, normalise = _train(arm, learned, recipe, device, scratch / f"{seed} {arm}")
        found.setdefault(arm, []).append(_figures(network, normalise, tested, device))
        print(f"  seed {seed}, {', '.join(arm)}: {found[arm][-1][0]:.4f}", flush=True)
    rows = []
    for arm, figures in found.items():
        boundary, whole = np.mean(figures, axis=0)
        rows.append(row(f"{', '.join(arm)}: boundary IoU ({BAND} px), mean", boundary))
        rows.append(row(f"{', '.join(arm)}: IoU, mean", whole))
    gains = [
        better[0] - plain[0] for better, plain in zip(found[BETTER], found[PLAIN], strict=True)
    ]
    rows.append(row("boundary IoU gained by both, mean", float(np.mean(gains)), "more than 0",
                    float(np.mean(gains)) > 0))  # fmt: skip
    rows.append(row(f"seeds of {seeds} in which both gain", sum(gain > 0 for gain in gains)))
    return rows


def _read(folder: Path) -> list[Tile]:
    tiles = []
    for path in sorted(folder.glob("*.label.tif")):
        with rasterio.open(path.with_name(path.name.replace(".label", ""))) as dataset:
            image = dataset.read()[:, :SIDE, :SIDE].astype(np.float32) / 255
        with rasterio.open(path) as dataset:
            tiles.append((image, dataset.read(1)[:SIDE, :SIDE].astype(np.int64) - 1))
    return tiles


class DenseCrops:
    """Crops of tiles that are labelled all over."""

    def __init__(self, tiles: Sequence[Tile], side: int) -> None:
        self._tiles, self._side = tiles, side

    def draw(self, count: int, random: np.random.Generator) -> list[Crop]:
        return [self._one(random) for _ in range(count)]

    def _one(self, random: np.random.Generator) -> Crop:
        image, classes = self._tiles[random.integers(len(self._tiles))]
        top, left = (int(random.integers(size - self._side + 1)) for size in classes.shape)
        part = np.s_[..., top : top + self._side, left : left + self._side]
        crop = Crop(image[part], classes[part], np.ones((self._side, self._side), bool))
        return turned(crop, int(random.integers(4)), bool(random.integers(2)))


def _train(
    arm: tuple[str, str], tiles: Sequence[Tile], recipe: Recipe, device: torch.device, folder: Path
) -> tuple[torch.nn.Module, Normaliser]:
    torch.manual_seed(recipe.seed)
    config = NetworkConfig(decoder="unet", encoder=ENCODERS[arm[0]], multiply_adds_per_pixel=1)
    network = build_network(config, in_channels=3, classes=2)
    network.to(device, memory_format=torch.channels_last)
    pixels = np.concatenate([image.reshape(3, -1) for image, _ in tiles], axis=1)
    normalise = Normaliser(
        Normalisation(mean=tuple(pixels.mean(axis=1)), std=tuple(pixels.std(axis=1)))
    )
    counts = sum(np.bincount(classes.reshape(-1), minlength=2) for _, classes in tiles)
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
        values = torch.from_numpy(image)[None].to(device)
        valid = torch.ones(1, *classes.shape, dtype=torch.bool, device=device)
        mapped = network(normalise(values, valid))[0].argmax(dim=0).cpu().numpy()
        matrix += confusion(classes.reshape(-1), mapped.reshape(-1), 2)
        for number in range(2):
            truth, found = _rim(classes == number), _rim(mapped == number)
            inside[number] += (truth & found).sum()
            union[number] += (truth | found).sum()
    return float((inside / union).mean()), float(intersection_over_union(matrix).mean())


def _rim(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask no farther than ``BAND`` from its outline (Cheng et al. 2021).

    The rim of the image is no outline: what lies beyond is unknown.
    """
    square = np.ones((3, 3), bool)
    return mask & ~binary_erosion(mask, square, BAND, border_value=1)
