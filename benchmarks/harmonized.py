"""WorldCover on Harmonized Landsat Sentinel: the embedded model's network beside a random forest.

Labels are ESA's (WorldCover, CC BY 4.0), so nothing hangs on our teacher. Bands are fewer and
pixels larger, 30 m, than the embedded model's, which cannot read them as it is: a network is
trained here, from scratch or from the embedded model's weights. Of those, the first layer keeps the
bands that both have; a band that the embedded model does not know begins with weights of 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from benchmarks.start import begin_with
from mmearth.models.card import ModelCard, Normalisation
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.baseline import forest_probabilities
from mmearth.training.distill import Recipe, distill
from mmearth.training.softlabels import CropSampler, SoftTile
from mmearth.training.tune import faster_in_bfloat16

BANDS = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
CODES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)  # of WorldCover
TREES = CODES.index(10)
SCALE = 1e-4
STEPS = 400
PER_TILE = 500  # pixels that the random forest learns from


@dataclass(frozen=True)
class Tiles:
    """Patches of 128 x 128 pixels.

    Attributes:
        learned: what is learned from.
        tested: in groups, which are places, that nothing is learned from.
    """

    learned: list[SoftTile]
    tested: list[SoftTile]


def read(folder: Path) -> Tiles:
    """Read patches; targets are 1 for WorldCover's class, in the order of ``CODES``."""
    parts: dict[str, list[SoftTile]] = {"train": [], "val": []}
    for facts in json.loads((folder / "index.json").read_text("utf-8")):
        path = folder / facts["file"]
        with rasterio.open(path) as dataset:
            stored = dataset.read([dataset.descriptions.index(name) + 1 for name in BANDS])
        with rasterio.open(path.with_suffix(".worldcover.tif")) as dataset:
            label = dataset.read(1)
        target = np.stack([label == code for code in CODES]).astype(np.float32)
        valid = (stored != 0).any(axis=0) & target.any(axis=0)
        image = stored.astype(np.float32) * np.float32(SCALE)
        parts[facts["split"]].append(SoftTile(facts, path, image, target, valid))
    return Tiles(parts["train"], parts["val"])


def forest(tiles: Tiles, seed: int, *, balanced: bool) -> list[NDArray[np.int64]]:
    """Return the classes, (H, W), that a random forest on the raw bands gives to tested patches."""
    pixels, classes = drawn(tiles.learned, PER_TILE, seed)
    wanted = np.concatenate([tile.image.reshape(len(BANDS), -1) for tile in tiles.tested], axis=1)
    found = forest_probabilities(
        pixels, classes, wanted.T, len(CODES), seed=seed, balanced=balanced
    ).argmax(axis=1)
    return list(found.reshape(len(tiles.tested), *tiles.tested[0].valid.shape))


def drawn(
    tiles: Sequence[SoftTile], count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw as many pixels of each tile, or all that it has: bands (n, C), likeliest class (n,)."""
    random = np.random.default_rng(seed)
    pixels, classes = [], []
    for tile in tiles:
        some = random.permutation(np.flatnonzero(tile.valid))[:count]
        pixels.append(tile.image.reshape(len(tile.image), -1)[:, some].T)
        classes.append(tile.target.reshape(len(tile.target), -1)[:, some].argmax(axis=0))
    return np.concatenate(pixels), np.concatenate(classes)


def network(
    tiles: Tiles, base: ModelCard, seed: int, *, begun: bool, steps: int = STEPS
) -> list[NDArray[np.int64]]:
    """Return the classes, (H, W), that a network like the base's gives to tested patches.

    Args:
        tiles: see ``Tiles``.
        base: the embedded model.
        seed: of weights, crops and changes.
        begun: whether the encoder begins with the base's weights.
        steps: of training.
    """
    torch.manual_seed(seed)
    module = build_network(base.network, in_channels=len(BANDS), classes=len(CODES))
    if begun:
        begin_with(module.encoder, BANDS, base, "encoder.")
    normalise = _normaliser(tiles.learned, base)
    sensor = load_sensor(base.sensor)
    recipe = Recipe(
        steps=steps, batch=160, crop=16, learning_rate=3e-3, warm_up=steps // 8,
        averaging=0.98, seed=seed, mixed=faster_in_bfloat16(torch.device("cpu")),
    )  # fmt: skip
    student = distill(
        module,
        normalise,
        CropSampler(tiles.learned, recipe.crop, seed, step=base.stride),
        recipe,
        RadiometricJitter(),
        torch.tensor([sensor.band(band).wavelength_nm / 1000 for band in BANDS]),
    )
    mapped = []
    with torch.inference_mode():
        for tile in tiles.tested:
            image, valid = torch.from_numpy(tile.image)[None], torch.from_numpy(tile.valid)[None]
            mapped.append(student(normalise(image, valid))[0].argmax(dim=0).numpy())
    return mapped


def _normaliser(tiles: list[SoftTile], base: ModelCard) -> Normaliser:
    """Return the base's function of reflectance, with statistics of these patches."""
    norm = base.normalisation
    values = np.concatenate([tile.image[:, tile.valid] for tile in tiles], axis=1)
    values = np.log1p(norm.gain * np.maximum(values, 0))
    statistics: dict[str, Any] = {
        "mean": tuple(map(float, values.mean(axis=1))), "std": tuple(map(float, values.std(axis=1)))
    }  # fmt: skip
    return Normaliser(Normalisation(function=norm.function, gain=norm.gain, **statistics))
