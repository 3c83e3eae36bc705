"""What the tools that train embedded models share: a recipe, calibration, whole tiles, a log."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "resources" / "models"
sys.path[:0] = [str(ROOT / "backend"), str(ROOT)]

from benchmarks.agreement import tile_scores  # noqa: E402
from mmearth.models.card import ModelCard, NetworkConfig  # noqa: E402
from mmearth.models.cost import multiply_adds_per_pixel  # noqa: E402
from mmearth.models.network import Normaliser  # noqa: E402
from mmearth.models.registry import build_network  # noqa: E402
from mmearth.training.calibration import fit_temperatures, probabilities_at  # noqa: E402
from mmearth.training.distill import Recipe  # noqa: E402
from mmearth.training.softlabels import SoftTile  # noqa: E402


def add_recipe(
    parser: argparse.ArgumentParser, *, steps: int, crop: int, threads: int, batch: int = 16
) -> None:
    """Add the options of a run of distillation, with these defaults."""
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--crop", type=int, default=crop, help="pixels a side; a multiple of 8")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--start", type=Path, help="folder of a saved model to go on from")
    parser.add_argument("--mixed", action="store_true", help="layers in bfloat16")


def recipe(options: argparse.Namespace) -> Recipe:
    """Return the numbers of a run from its options."""
    return Recipe(
        steps=options.steps,
        batch=options.batch,
        crop=options.crop,
        learning_rate=options.learning_rate,
        seed=options.seed,
        mixed=options.mixed,
    )


def recipe_words(options: argparse.Namespace) -> str:
    """Return these options as a command names them."""
    return (
        f"--steps {options.steps} --batch {options.batch} --crop {options.crop} "
        f"--learning-rate {options.learning_rate:g} --seed {options.seed} "
        f"--threads {options.threads}"
        + (" --start START" if options.start else "")
        + (" --mixed" if options.mixed else "")
    )


def network_config(
    decoder: str, encoder: str, options: dict[str, Any], *, bands: int, classes: int
) -> NetworkConfig:
    """Return the configuration of a network, with its cost."""
    plain = NetworkConfig(
        decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
    )
    network = build_network(plain, in_channels=bands, classes=classes).eval()
    cost = multiply_adds_per_pixel(network, bands)
    return plain.model_copy(update={"multiply_adds_per_pixel": cost})


def calibrate(
    network: torch.nn.Module, normalise: Normaliser, tiles: Sequence[SoftTile], trees: int
) -> tuple[tuple[float, ...], float]:
    """Fit the temperatures of the classes, and the threshold of trees, on places put aside.

    They are fitted to the teacher's classes: its probabilities are far from certain even where it
    is right, so that forest would never be more than six tenths trees.

    Args:
        network: from (B, C, H, W) to (B, K, H, W) scores.
        normalise: from reflectance to its input.
        tiles: that nothing was learned from.
        trees: number of the class, from 0.

    Returns:
        K temperatures, and the probability of trees from which on a pixel counts as such.
    """
    scores = np.concatenate(
        [tile_scores(network, normalise, t)[:, torch.from_numpy(t.valid)].T.numpy() for t in tiles]
    )
    classes = np.concatenate([t.target.argmax(axis=0)[t.valid] for t in tiles])
    units = np.repeat(np.arange(len(tiles)), [t.valid.sum() for t in tiles])
    found = fit_temperatures(scores, classes, units)
    temperatures = tuple(round(number, 4) for number in found)
    probability = probabilities_at(scores, temperatures)[:, trees]
    return temperatures, best_threshold(probability, classes == trees)


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of a binary map with the highest IoU; (n,) float, (n,) bool.

    Raises:
        ValueError: if there may be a better one beyond those that are tried, .05 to .95.
    """
    tried = np.round(np.arange(5, 96) / 100, 2)
    mapped = [probability >= threshold for threshold in tried]
    scores = np.array([(one & truth).sum() / (one | truth).sum() for one in mapped])
    level = tried[scores == scores.max()]
    best = level[len(level) // 2]
    if best in (tried[0], tried[-1]):
        raise ValueError(
            f"The best threshold, {best:g}, is the last one that was tried: the probabilities are "
            "not calibrated. Calibrate the model first."
        )
    return float(best)


def commands(start: ModelCard) -> list[str]:
    """Return the commands that made a model, the first one first, for one that goes on from it."""
    before = start.training.get("start", [])
    return [*([before] if isinstance(before, str) else before), start.training["command"]]


def figure(name: str, value: float, data: str) -> dict[str, Any]:
    """Return a measured figure as cards hold it."""
    return {"name": name, "value": round(float(value), 4), "data": data}


class Log:
    """A line of JSON for each thing worth knowing of a run, beside the model."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "training.jsonl"
        self._start = time.monotonic()
        self._path.write_text("")
        recorded = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
        self.write(options=recorded, torch=torch.__version__)

    def write(self, **facts: Any) -> None:
        """Write and print a line."""
        line = json.dumps({"seconds": round(time.monotonic() - self._start), **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
