"""Train the example for hyperspectral images: surfaces of Potsdam on 202 bands of EnMAP.

    python tools/train_enmap.py --data <folder with enmap/>

Logistic regression on the spectra of the labelled pixels: with so few of them it does better than a
random forest, and than networks. How strongly its weights are held back is chosen, and both are
compared, on training tiles that nothing was learned from, each in its turn; then both are held
against the validation tiles. Writes resources/models/enmap-potsdam.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from training import MODELS, Log, figure, network_config

from benchmarks.mapped import map_file
from mmearth.models.card import Normalisation
from mmearth.models.inputs import statistics, summary
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.sensors import load_sensor
from mmearth.training.baseline import forest_probabilities
from mmearth.training.calibration import fit_temperature
from mmearth.training.metrics import agreement, confusion, f1

MODEL_ID = "enmap-potsdam"
SENSOR = load_sensor("enmap")
BANDS = SENSOR.orders[1]  # the 202 that hold data
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # 1 / penalty on the weights, of which the best is taken
SEEDS = 3  # of random forests; logistic regression has no chance in it
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
    "(Potsdam, 24 July 2022), 14 tiles of 32 x 32 pixels to learn from and 2 to judge by.",
    "At 30 m most pixels of a town are mixed. Roof and pavement are confused with each other and "
    "with low vegetation; soil is too rare to be learned.",
    "It looks at single pixels and not at what surrounds them: single pixels stand out in the map.",
    "Other seasons, cities and landscapes were never shown: expect nonsense there, and train a "
    "model on labels of your own.",
)


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels of some tiles.

    Attributes:
        spectra: (n, C) float32, reflectance.
        classes: (n,) int64, from 0.
        tiles: (n,) int64, number of the tile.
        labels: files of the labels, one a tile.
        inputs: summaries of all pixels with data, one a tile.
    """

    spectra: NDArray[np.float32]
    classes: NDArray[np.int64]
    tiles: NDArray[np.int64]
    labels: list[Path]
    inputs: list[Any]


def main() -> None:
    """Choose, compare, train, save, measure."""
    options = _options()
    log = Log(options.output, options)
    training, validation = (
        read_folder(options.data / "enmap" / part) for part in ("train", "validation")
    )
    scores = {strength: held_back(training, _scores(strength)) for strength in STRENGTHS}
    right = {strength: _figures(training, found)[0] for strength, found in scores.items()}
    strength = max(right, key=lambda key: right[key])
    log.write(accuracy_by_strength=right, chosen=strength)
    model = _model(strength).fit(training.spectra, training.classes)
    facts = _facts(model, training)
    facts["temperature"] = fit_temperature(scores[strength], training.classes, training.tiles)
    card = save_model(options.output, _weights(model, facts), {**facts, "accuracy": ()})

    labelled = [(path, _label(path)) for path in validation.labels]
    mapped = [map_file(card, image_of(path))[0][:, label > 0].T for path, label in labelled]
    forests = [
        [held_back(training, _forest(seed)), _forest(seed)(training, validation.spectra)]
        for seed in range(SEEDS)
    ]
    rows = []
    for pixels, ours, theirs, where in (
        (training, scores[strength], [both[0] for both in forests], "left out in its turn"),
        (validation, np.concatenate(mapped), [both[1] for both in forests], "for validation"),
    ):
        data = f"Potsdam, {len(pixels.labels)} tiles {where}, {len(pixels.classes)} pixels"
        figures = np.mean([_figures(pixels, found) for found in theirs], axis=0)
        for name, own, forest in zip(
            ("Accuracy", "Mean F1"), _figures(pixels, ours), figures, strict=True
        ):
            rows.append(figure(name, own, data))
            rows.append(figure(f"{name} of random forests on the same pixels", forest, data))
    log.write(final=rows)
    save_model(options.output, _weights(model, facts), {**facts, "accuracy": tuple(rows)})
    for row in rows:
        print(f"{row['value']:.4f}  {row['name']} ({row['data']})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of enmap/")
    parser.add_argument("--output", type=Path, default=MODELS / MODEL_ID)
    return parser.parse_args()


def read_folder(folder: Path) -> Pixels:
    """Read the labelled pixels of a folder's tiles."""
    labels = sorted(folder.glob("*.label.tif"))
    spectra, classes, tiles, inputs = [], [], [], []
    for number, path in enumerate(labels):
        label = _label(path)
        with rasterio.open(image_of(path)) as dataset:
            stored = dataset.read(_order(dataset))
        values = stored.astype(np.float32) * np.float32(SENSOR.scale)
        spectra.append(values[:, label > 0].T)
        classes.append(label[label > 0].astype(np.int64) - 1)
        tiles.append(np.full(len(classes[-1]), number))
        inputs.append(summary(values[:, (stored != SENSOR.nodata).all(axis=0)]))
    parts = (np.concatenate(part) for part in (spectra, classes, tiles))
    return Pixels(*parts, labels, inputs)


def _order(dataset: rasterio.DatasetReader) -> list[int]:
    """Find the bands by wavelength: these files keep the two detectors apart, the product not."""
    found = [float(dataset.tags(number)["wavelength"]) for number in dataset.indexes]
    wanted = [SENSOR.band(name).wavelength_nm for name in BANDS]
    return [1 + found.index(wavelength) for wavelength in wanted]


def image_of(label: Path) -> Path:
    """Return the image of a file of labels."""
    return label.with_name(label.name.replace(".label", ""))


def _label(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


Classifier = Callable[[Pixels, NDArray[np.float32]], NDArray[np.floating]]


def held_back(pixels: Pixels, classify: Classifier) -> NDArray[np.float32]:
    """Return the scores of each tile's pixels by what was learned from the other tiles. (n, K)."""
    result = np.empty((len(pixels.classes), len(CLASSES)), np.float32)
    for number in range(len(pixels.labels)):
        own = pixels.tiles == number
        others = Pixels(
            pixels.spectra[~own], pixels.classes[~own], pixels.tiles[~own], pixels.labels, []
        )
        result[own] = classify(others, pixels.spectra[own])
    return result


def _model(strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000))


def _scores(strength: float) -> Classifier:
    def classify(pixels: Pixels, wanted: NDArray[np.float32]) -> NDArray[np.floating]:
        return _model(strength).fit(pixels.spectra, pixels.classes).decision_function(wanted)

    return classify


def _forest(seed: int) -> Classifier:
    def classify(pixels: Pixels, wanted: NDArray[np.float32]) -> NDArray[np.floating]:
        return forest_probabilities(pixels.spectra, pixels.classes, wanted, len(CLASSES), seed=seed)

    return classify


def _figures(pixels: Pixels, scores: NDArray[np.floating]) -> tuple[float, float]:
    matrix = confusion(pixels.classes, scores.argmax(axis=1), len(CLASSES))
    return agreement(matrix), float(np.nanmean(f1(matrix)))


def _weights(model: Any, facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the regression as weights of the network; the card standardises the spectra."""
    network = build_network(facts["network"], in_channels=len(BANDS), classes=len(CLASSES))
    network.normalise.running_var.fill_(1 - network.normalise.eps)  # leaves values as they are
    regression = model[-1]
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(regression.coef_)[:, :, None, None])
        network.head.bias.copy_(torch.from_numpy(regression.intercept_))
    return network.state_dict()


def _facts(model: Any, training: Pixels) -> dict[str, Any]:
    scaler = model[0]
    return {
        "id": MODEL_ID,
        "version": "1.0.0",
        "title": "EnMAP surfaces of Potsdam (example)",
        "description": "Six surfaces of a town at 30 m from 202 bands of EnMAP, Level-2A: an "
        "example of a model for hyperspectral images.",
        "licence": "GPL-3.0-or-later",
        "attribution": ATTRIBUTION,
        "limits": LIMITS,
        "sensor": SENSOR.id,
        "levels": ("L2A",),
        "quantity": SENSOR.quantity,
        "bands": BANDS,
        "normalisation": Normalisation(
            mean=tuple(float(v) for v in scaler.mean_), std=tuple(float(v) for v in scaler.scale_)
        ),
        "resolution_m": 30.0,
        "tile_size": 64,
        "stride": 1,
        "overlap": 0,
        "network": network_config("linear", "spectrum", {}, bands=len(BANDS), classes=len(CLASSES)),
        "classes": CLASSES,
        "products": ({"id": "surfaces", "title": "Surfaces of a town", "classes": CLASSES},),
        "inputs": statistics(training.inputs).model_dump(),
        "training": {
            "command": "python tools/train_enmap.py --data DATA",
            "method": "logistic regression on single pixels",
            "seed": 0,
        },
    }


if __name__ == "__main__":
    main()
