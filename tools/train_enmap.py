"""Train the example for hyperspectral images: land cover of Potsdam on 202 bands of EnMAP.

    python tools/train_enmap.py --data <folder with train/ and validation/ of EnMAP tiles>

Prints how the network and a random forest on the same pixels do on the validation tiles, seed by
seed, and writes the model of the first seed if ``--output`` says where to.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from training import figure, fit_soft_temperature, map_file, network_config, tile_scores

from mmearth.models.card import NetworkConfig, Normalisation
from mmearth.models.inputs import statistics, summary
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.baseline import forest_probabilities
from mmearth.training.distill import Recipe, distill
from mmearth.training.metrics import agreement, confusion, f1
from mmearth.training.softlabels import CropSampler, SoftTile

MODEL_ID = "enmap-potsdam"
SENSOR = load_sensor("enmap")
BANDS = SENSOR.orders[1]  # the 202 that hold data
SIDE = 32  # of a tile
CALIBRATION = 4  # one training tile in so many is put aside for the temperature
# Classes of the labels (level 3) and their colours: EnMAP-Box, example data of Potsdam.
CLASSES = tuple(
    {"value": number, "name": name, "title": title, "color": color}
    for number, (name, title, color) in enumerate(
        [
            ("roof", "Roof", "#e60000"),
            ("pavement", "Pavement", "#9c9c9c"),
            ("low_vegetation", "Low vegetation", "#98e600"),
            ("tree", "Tree", "#267300"),
            ("soil", "Soil", "#a87000"),
            ("water", "Water", "#0064ff"),
        ],
        start=1,
    )
)
ATTRIBUTION = (
    "EnMAP data © DLR 2022, licensed by DLR; all rights reserved. Labels: example data of "
    "EnMAP-Box (GPL-3.0-or-later), drawn on aerial images of Potsdam."
)
LIMITS = (
    "An example of what can be trained on hyperspectral images, not a product: one city, one day "
    "(Potsdam, 24 July 2022), 16 tiles of 32 x 32 pixels.",
    "At 30 m most pixels of a town are mixed. Roof and pavement are confused with each other and "
    "with low vegetation; soil is too rare to be learned.",
    "Water was learned from lakes and the Havel, trees from parks and woods in full leaf.",
    "Other seasons, cities and landscapes were never shown: expect nonsense there, and train a "
    "model on labels of your own.",
)


def main() -> None:
    """Train and compare; save if wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train/, validation/")
    parser.add_argument("--output", type=Path, help="folder of the model; none is saved without")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixed", action="store_true", help="layers in bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tiles, validation = (read_folder(options.data / part) for part in ("train", "validation"))
    calibration = tiles[::CALIBRATION]
    training = [t for number, t in enumerate(tiles) if number % CALIBRATION]
    truth = np.concatenate([labels(t) for t in validation])
    norm = _normalisation(training)
    config = network_config(
        "unet",
        "doubleconv-16",
        {"encoder_depth": 2, "decoder_channels": [32, 16]},
        bands=len(BANDS),
        classes=len(CLASSES),
    )
    rows, students = [], []
    for seed in range(options.seeds):
        student = _train(config, norm, training, seed, options)
        students.append(student)
        scores = [tile_scores(student, Normaliser(norm), t) for t in validation]
        mapped = np.concatenate(
            [s.argmax(0).numpy()[_labelled(t)] for s, t in zip(scores, validation, strict=True)]
        )
        forest = forest_probabilities(
            np.concatenate([spectra(t) for t in tiles]),
            np.concatenate([labels(t) for t in tiles]),
            np.concatenate([spectra(t) for t in validation]),
            len(CLASSES),
            seed=seed,
        ).argmax(axis=1)
        rows.append([*_figures(truth, mapped), *_figures(truth, forest)])
        print(f"seed {seed}: network {rows[-1][0]:.3f} accuracy, {rows[-1][1]:.3f} mean F1; "
              f"forest {rows[-1][2]:.3f}, {rows[-1][3]:.3f}", flush=True)  # fmt: skip
    print("mean", np.mean(rows, axis=0).round(3), "spread", np.ptp(rows, axis=0).round(3))
    if options.output:
        _save(config, norm, students[0], calibration, validation, tiles, np.array(rows), options)


def read_folder(folder: Path) -> list[SoftTile]:
    """Read tiles; pixels without a label have data, but no class."""
    order = [int(name[1:]) for name in BANDS]
    tiles = []
    for path in sorted(folder.glob("*.label.tif")):
        with rasterio.open(path) as dataset:
            label = dataset.read(1)
        image = path.with_name(path.name.replace(".label", ""))
        with rasterio.open(image) as dataset:
            stored = dataset.read(order)
        target = np.stack([label == row["value"] for row in CLASSES]).astype(np.float32)
        valid = (stored != SENSOR.nodata).all(axis=0)
        values = stored.astype(np.float32) * np.float32(SENSOR.scale)
        tiles.append(SoftTile({}, image, values, target, valid))
    return tiles


def _labelled(tile: SoftTile) -> np.ndarray:
    return tile.target.sum(axis=0) > 0


def labels(tile: SoftTile) -> np.ndarray:
    """Return the class numbers of the labelled pixels, from 0. (n,) int64."""
    return tile.target.argmax(axis=0)[_labelled(tile)].astype(np.int64)


def spectra(tile: SoftTile) -> np.ndarray:
    """Return the reflectance of the labelled pixels. (n, C) float32."""
    return tile.image[:, _labelled(tile)].T


def _figures(truth: np.ndarray, mapped: np.ndarray) -> tuple[float, float]:
    matrix = confusion(truth, mapped, len(CLASSES))
    return agreement(matrix), float(np.nanmean(f1(matrix)))


def _normalisation(tiles: list[SoftTile]) -> Normalisation:
    values = np.concatenate([t.image[:, t.valid] for t in tiles], axis=1)
    return Normalisation(
        mean=tuple(round(float(v), 5) for v in values.mean(axis=1)),
        std=tuple(round(float(v), 5) for v in values.std(axis=1)),
    )


def _train(
    config: NetworkConfig,
    norm: Normalisation,
    tiles: list[SoftTile],
    seed: int,
    options: argparse.Namespace,
) -> torch.nn.Module:
    """Train with strong regularisation: light changes, decay of weights, an average of them."""
    torch.manual_seed(seed)
    return distill(
        build_network(config, in_channels=len(BANDS), classes=len(CLASSES)),
        Normaliser(norm),
        CropSampler(tiles, SIDE, seed),
        Recipe(
            steps=options.steps,
            batch=8,
            crop=SIDE,
            learning_rate=3e-3,
            warm_up=20,
            weight_decay=0.1,
            averaging=0.98,
            seed=seed,
            mixed=options.mixed,
        ),
        RadiometricJitter(gain=0.08, band_gain=0.01, haze=0.01, offset=0.003, chance=0.9),
        torch.tensor([SENSOR.band(name).wavelength_nm / 1000 for name in BANDS]),
    )


def _save(
    config: NetworkConfig,
    norm: Normalisation,
    student: torch.nn.Module,
    calibration: list[SoftTile],
    validation: list[SoftTile],
    tiles: list[SoftTile],
    rows: np.ndarray,
    options: argparse.Namespace,
) -> None:
    scores = [tile_scores(student, Normaliser(norm), t) for t in calibration]
    facts: dict[str, Any] = {
        "id": MODEL_ID,
        "version": "1.0.0",
        "title": "EnMAP land cover, Potsdam (example)",
        "description": "Six surfaces of a town at 30 m from 202 bands of EnMAP, Level-2A: an "
        "example of a small network for hyperspectral images.",
        "licence": "GPL-3.0-or-later",
        "attribution": ATTRIBUTION,
        "limits": LIMITS,
        "sensor": SENSOR.id,
        "levels": ("L2A",),
        "quantity": SENSOR.quantity,
        "bands": BANDS,
        "normalisation": norm,
        "resolution_m": 30.0,
        "tile_size": 64,
        "stride": 16,
        "overlap": 16,
        "temperature": fit_soft_temperature(scores, calibration),
        "network": config,
        "classes": CLASSES,
        "products": ({"id": "surfaces", "title": "Surfaces of a town", "classes": CLASSES},),
        "inputs": statistics([summary(t.image[:, t.valid]) for t in tiles]).model_dump(),
        "training": {
            "command": f"python tools/train_enmap.py --data DATA --steps {options.steps} "
            f"--seeds {options.seeds}" + (" --mixed" if options.mixed else "") + " --output OUTPUT",
            "method": "supervised, on sparse labels, with radiometric jitter",
            "seed": 0,
        },
    }
    card = save_model(options.output, student.state_dict(), {**facts, "accuracy": ()})
    truth = np.concatenate([labels(t) for t in validation])
    mapped = [map_file(card, t.path)[0].argmax(axis=0)[_labelled(t)] for t in validation]
    accuracy, mean_f1 = _figures(truth, np.concatenate(mapped))
    where = f"Potsdam, 2 validation tiles, {len(truth)} labelled pixels"
    seeds = f"{where}, mean of {options.seeds} seeds"
    means = rows.mean(axis=0)
    facts["accuracy"] = (
        figure("Accuracy", accuracy, where),
        figure("Mean F1", mean_f1, where),
        figure("Accuracy", means[0], seeds),
        figure("Mean F1", means[1], seeds),
        figure("Accuracy of a random forest on raw bands", means[2], seeds),
        figure("Mean F1 of a random forest on raw bands", means[3], seeds),
    )
    save_model(options.output, student.state_dict(), facts)


if __name__ == "__main__":
    main()
