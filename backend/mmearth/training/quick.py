"""Quick: a small head on what a trained network says of the labelled pixels. The network stays.

The network is run once, where labels are; see ``mmearth.training.head`` for what is trained on it.
Everything is tested on units that lie apart from those that were learned from, by heads that were
trained as the one that is kept.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import InputError
from mmearth.models.budget import LANE_BYTES, processor_budget
from mmearth.models.card import NetworkConfig
from mmearth.models.cost import multiply_adds_per_pixel
from mmearth.models.levels import set_budget
from mmearth.models.network import Normaliser, choose_device, memory_explained
from mmearth.models.registry import build_network
from mmearth.settings import Settings
from mmearth.training.baseline import TREES, tested_forests
from mmearth.training.calibration import calibrated
from mmearth.training.design import HYPERCOLUMN, Design, design, load_base
from mmearth.training.head import Head, HeadRecipe, train_heads
from mmearth.training.labels import Labels, require_data, without_data
from mmearth.training.samples import Samples, take_samples, thinned
from mmearth.training.split import fold_count, spatial_folds
from mmearth.training.task import CurvePoint, Task, Tested, Trained, Watch

MOST_FOLDS = 10
SHARES = (0.25, 0.5, 1.0)  # of the units, for the learning curve; the last is the test proper
CURVE_TREES = TREES // 2  # of the forests beside its earlier points; they take longer than all else
# Of the progress: running the network, and training heads; forests may take the rest.
SAMPLES_SHARE, HEADS_SHARE = 0.7, 0.15


@dataclass(frozen=True)
class _Splits:
    """Which pixels are learned from and tested on: S splits of n pixels.

    Attributes:
        learned: (shares, S, n) bool, for each of ``SHARES``.
        tested: (S, n) bool; each pixel once.
    """

    learned: NDArray[np.bool_]
    tested: NDArray[np.bool_]


def train(task: Task, watch: Watch) -> Trained:
    """Train a head; errors as of ``mmearth.training.task.train``."""
    if task.from_scratch:
        raise InputError(
            "The quick protocol builds on what a model has learned; it cannot begin from scratch.",
            "Choose a model to build on, or another protocol.",
        )
    card, settings = task.card, task.settings
    torch.set_num_threads(settings.cpu_threads)
    set_budget(settings)
    base, config, classes = load_base(card)
    network_state = {f"base.{name}": tensor for name, tensor in base.state_dict().items()}
    plan = design(base, len(card.bands), card.stride)
    labels = thinned(task.labels, task.seed)
    samples = _samples(task, base, plan, labels, watch.part(0, SAMPLES_SHARE))
    warnings = without_data(labels, samples.labels)
    labels = samples.labels
    require_data(labels)
    splits = _splits(labels, task.validation, task.seed)

    heads_end = SAMPLES_SHARE + HEADS_SHARE
    # Forests keep one core busy, and heads not even that: side by side they take half the time.
    with ThreadPoolExecutor(1, "forests") as beside:
        growing = beside.submit(_forests, task, samples, splits, watch) if splits else None
        head, *others = _heads(task, samples, plan, splits, watch.part(SAMPLES_SHARE, heads_end))
        if growing:
            watch.report(heads_end, "Comparing with a random forest", None)
        forests = growing.result() if growing else []
    watch.check()
    options = {
        "base": {**config.model_dump(mode="json"), "classes": classes},
        "widths": list(plan.widths),
        "chosen": list(plan.chosen),
        "hidden": head.first.out_features,
    }
    trained = Trained(
        _network(options, len(card.bands), len(labels.names), card.stride),
        {**network_state, **head.state_dict()},
        warnings=warnings,
        facts={
            "levels": list(plan.chosen),
            "pixels": int(labels.classes.size),
            "units": int(np.unique(labels.units).size),
            "folds": len(splits.tested) if splits else 0,
        },
    )
    watch.report(1.0, "Trained", None)
    return _tested(trained, samples, splits, others, forests) if splits else trained


def _samples(task: Task, base: nn.Module, plan: Design, labels: Labels, watch: Watch) -> Samples:
    device = choose_device(task.settings)
    base = base.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with memory_explained(device):
        return take_samples(
            task.stack,
            labels,
            task.layout,
            base,
            Normaliser(task.card.normalisation).to(device),
            chosen=plan.chosen,
            lanes=_lanes(task.settings) if device.type == "cpu" else 1,
            progress=lambda share: watch.report(share, "Looking at what is labelled", None),
            cancelled=watch.cancelled,
        )


def _lanes(settings: Settings) -> int:
    return max(1, min(settings.cpu_threads, processor_budget(settings) // LANE_BYTES))


def _splits(labels: Labels, validation: float, seed: int) -> _Splits | None:
    """Split by spatial folds; None if nothing is to be tested."""
    if not validation:
        return None
    folds = spatial_folds(labels, min(MOST_FOLDS, fold_count(validation)))
    of_pixel = folds[labels.units]
    tested = np.stack([of_pixel == fold for fold in np.unique(of_pixel)])
    learned = np.zeros((len(SHARES), *tested.shape), bool)
    random = np.random.default_rng(seed)
    for fold, others in enumerate(~tested):
        for name in range(len(labels.names)):
            units = np.unique(labels.units[others & (labels.classes == name)])
            units = random.permutation(units)
            for part, share in zip(learned, SHARES, strict=True):
                part[fold] |= np.isin(labels.units, units[: max(1, round(share * units.size))])
    return _Splits(learned, tested)


def _heads(
    task: Task, samples: Samples, plan: Design, splits: _Splits | None, watch: Watch
) -> list[Head]:
    """Train the head that is kept, those of each split, and those of the learning curve."""
    labels = samples.labels
    parts = np.ones((1, labels.classes.size), bool)
    if splits:
        parts = np.concatenate([parts, *splits.learned])
    recipe = HeadRecipe(seed=task.seed)
    return train_heads(
        samples.columns,
        labels.classes,
        labels.units,
        len(labels.names),
        parts,
        recipe,
        members=plan.members,
        watch=lambda step, loss: watch.report(step / recipe.steps, "Learning", None),
        cancelled=watch.cancelled,
    )


def _network(options: dict[str, object], bands: int, classes: int, stride: int) -> NetworkConfig:
    """Return how a head on its base is built, and what it costs."""
    config = NetworkConfig(
        decoder=HYPERCOLUMN, encoder="", options=options, multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=bands, classes=classes).eval()
    cost = multiply_adds_per_pixel(network, bands, max(64, 2 * stride))
    return config.model_copy(update={"multiply_adds_per_pixel": cost})


@torch.inference_mode()
def _scores(
    columns: NDArray[np.float32], heads: list[Head], tested: NDArray[np.bool_], count: int
) -> NDArray[np.float32]:
    """Return what each pixel's head says of it. (n, K)."""
    scores = np.zeros((len(columns), count), np.float32)
    for head, part in zip(heads, tested, strict=True):
        scores[part] = head(torch.from_numpy(columns[part])).numpy()
    return scores


def _tested(
    trained: Trained,
    samples: Samples,
    splits: _Splits,
    heads: list[Head],
    forests: list[NDArray[np.float32]],
) -> Trained:
    """Add what is known of a trained head by those that were trained on its splits."""
    labels, folds = samples.labels, len(splits.tested)
    count, truth, units = len(labels.names), labels.classes, labels.units
    curve = []
    for number, (learned, forest) in enumerate(zip(splits.learned, forests, strict=True)):
        some = heads[number * folds : (number + 1) * folds]
        scores = _scores(samples.columns, some, splits.tested, count)
        point = CurvePoint(
            units=float(np.mean([np.unique(units[part]).size for part in learned])),
            accuracy=float((scores.argmax(axis=1) == truth).mean()),
            baseline=float((forest.argmax(axis=1) == truth).mean()),
        )
        curve.append(point)
    probabilities, temperature = calibrated(scores, truth, units, splits.tested.argmax(axis=0))
    return replace(
        trained,
        tested=Tested(truth, probabilities, units),
        baseline=Tested(truth, forest, units),
        curve=tuple(curve),
        temperature=temperature,
    )


def _forests(
    task: Task, samples: Samples, splits: _Splits, watch: Watch
) -> list[NDArray[np.float32]]:
    """Return what random forests say of the tested pixels, for each of ``SHARES``. (n, K) each."""
    return [
        tested_forests(
            samples.reflectance,
            samples.labels.classes,
            len(samples.labels.names),
            learned,
            splits.tested,
            seed=task.seed,
            trees=TREES if number + 1 == len(SHARES) else CURVE_TREES,
            threads=task.settings.cpu_threads,
            cancelled=watch.cancelled,
        )
        for number, learned in enumerate(splits.learned)
    ]
