"""The protocols *Adapter* and *Full*: the network itself learns from the labels.

Labels are split by place: one part is tested on and never learned from, another one decides which
epoch is kept, and from the rest the network learns.

A base whose decoder heads are built on (see ``levels.decodes``), and that does not know all of the
classes, gets the head of Quick first, and everything is tuned from there: a head drawn at random
would spoil what the base knows before it has learned anything (linear probing, then fine-tuning;
Kumar et al. 2022, arXiv:2202.10054). Of other bases, see ``build_base``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import InputError, ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.levels import decodes
from mmearth.models.network import Normaliser, choose_device, memory_explained
from mmearth.models.registry import build_network
from mmearth.sensors import load_sensor
from mmearth.training import quick
from mmearth.training.adapters import add_adapters, layer_speeds, merge_adapters
from mmearth.training.baseline import forest_probabilities
from mmearth.training.bases import build_base, knows
from mmearth.training.calibration import calibrated
from mmearth.training.crops import Crops, Mosaic, read_around
from mmearth.training.design import load_base
from mmearth.training.labels import Labels, require_classes, require_data, without_data
from mmearth.training.labels.base import warning
from mmearth.training.loop import Lessons, Outcome, Recipe, fit
from mmearth.training.losses import find_loss
from mmearth.training.samples import thinned, tiles_with
from mmearth.training.split import fold_count, spatial_folds
from mmearth.training.task import CurvePoint, Task, Tested, Trained, Watch

FINEST_SHARE = 10  # folds at most, of which some are tested on
HELD_FOLDS = 5  # of the units that are not tested on, one fold in so many decides on the epoch
# Of a class that are learned from. With fewer, what is held back is missed more than it helps, and
# says too little of which epoch is best.
LEAST_UNITS = 10
CROP = 64  # pixels a side, or the next multiple of the stride
BATCH = 8
COMMON_COST = 100e3  # multiply-adds a pixel; batches of dearer networks are smaller
STEPS = 12
# For testing, once the user has cancelled: what is kept has to be saved before time is up, see
# ``FinetuneSpec.cancel_seconds``.
TESTING_SECONDS = 45.0
READING, LEARNING, TESTING = 0.1, 0.15, 0.9  # where each begins in the progress

# Highest learning rate, and epochs, by protocol.
RECIPES = {"adapter": (2e-3, 20), "full": (1e-3, 20), "scratch": (2e-3, 40)}


@dataclass(frozen=True)
class Split:
    """Labels by what they are for.

    Attributes:
        learned: from these the network learns.
        held: these decide which epoch is kept; no pixels if there are too few labels.
        tested: on these the result is tested; no pixels if nothing is tested.
    """

    learned: Labels
    held: Labels
    tested: Labels


def train(task: Task, watch: Watch) -> Trained:
    """Train the network itself; see ``mmearth.training.task.train``."""
    torch.set_num_threads(task.settings.cpu_threads)
    loss = find_loss(task.loss)
    if task.protocol == "adapter" and task.from_scratch:
        raise ModelError(
            "Adapters are additions to a trained encoder; from scratch there is none.",
            "Choose the protocol Full, or start from the model's weights.",
        )
    watch.report(0.0, "Building the network", None)
    split = split_labels(task.labels, task.validation)
    config, network, curve = _begin(task, split.learned, watch.part(0.0, READING))
    device = choose_device(task.settings)
    recipe = _recipe(task, config.multiply_adds_per_pixel, device)
    speeds = _prepare(task, network, recipe)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    reading = watch.part(READING, LEARNING)
    mosaic, anchors, empty = read_around(
        task.stack,
        _joined(split.learned, split.held),
        recipe.crop,
        task.seed,
        progress=lambda share: reading.report(share, "Reading the image around the labels", None),
        cancelled=watch.cancelled,
    )
    lessons = _lessons(task, split, mosaic, anchors, recipe, loss)
    outcome = fit(network, speeds, lessons, recipe, task.folder, watch.part(LEARNING, TESTING))
    merge_adapters(network)
    trained = Trained(
        network=config,
        state={name: value.cpu() for name, value in network.state_dict().items()},
        curve=curve,
        history=outcome.history,
        warnings=(*without_data(empty, anchors), *outcome.warnings),
        facts=_facts(recipe, split, outcome),
    )
    if not split.tested.rows.size:
        return trained
    return _test(task, trained, network, split, watch.part(TESTING, 1.0))


def _begin(
    task: Task, learned: Labels, watch: Watch
) -> tuple[NetworkConfig, nn.Module, tuple[CurvePoint, ...]]:
    """Build the network as training begins with it.

    Returns:
        How it is built, the network, and Quick's accuracy after a part of the labels if it began
        with that: the same of tuning would take as many trainings.
    """
    names = task.labels.names
    new = not (task.from_scratch or knows(task.card, names))
    if not (new and decodes(load_base(task.card)[0])):
        base = build_base(task.card, names, from_scratch=task.from_scratch, seed=task.seed)
        return *base, ()
    task = replace(task, labels=learned)
    try:
        probe = quick.train(task, watch)
    except InputError:  # a class may have a single label left, or one with data: none to test on
        probe = quick.train(replace(task, validation=0.0), Watch(cancelled=watch.cancelled))
    network = build_network(probe.network, in_channels=len(task.card.bands), classes=len(names))
    network.load_state_dict(dict(probe.state))
    return probe.network, network.eval(), probe.curve


def split_labels(labels: Labels, validation: float) -> Split:
    """Split labels by place.

    Args:
        labels: drawn labels.
        validation: share of the units that is tested on, up to 0.5; 0 tests nothing.

    Raises:
        InputError: if there is only one class, or too few labels to test on some.
    """
    nothing = np.zeros(labels.rows.size, bool)
    tested = nothing
    if validation:
        part = max(Fraction(validation).limit_denominator(FINEST_SHARE), Fraction(1, FINEST_SHARE))
        folds = spatial_folds(labels, part.denominator)
        tested = (folds < part.numerator)[labels.units]
        if not labels.chosen(~tested).units_per_class.all():
            # Several folds may hold all units of a class; a single one never does.
            tested = (spatial_folds(labels, fold_count(validation)) == 0)[labels.units]
    rest = labels.chosen(~tested)
    require_classes(rest)
    held = _held(rest)
    return Split(rest.chosen(~held), rest.chosen(held), labels.chosen(tested))


def _held(labels: Labels) -> NDArray[np.bool_]:
    """Choose the pixels that decide on the epoch; none where a class would keep too few units."""
    nothing = np.zeros(labels.rows.size, bool)
    if labels.units_per_class.min() <= LEAST_UNITS:
        return nothing
    folds = spatial_folds(labels, HELD_FOLDS)[labels.units]
    best, most = nothing, 0
    for number in range(HELD_FOLDS):
        left = labels.chosen(folds != number).units_per_class
        classes = np.count_nonzero(labels.units_per_class - left)
        if left.min() >= LEAST_UNITS and classes > most:
            best, most = folds == number, int(classes)
    return best


def _joined(first: Labels, second: Labels) -> Labels:
    return replace(
        first,
        rows=np.concatenate([first.rows, second.rows]),
        cols=np.concatenate([first.cols, second.cols]),
        classes=np.concatenate([first.classes, second.classes]),
        units=np.concatenate([first.units, second.units]),
    )


def _recipe(task: Task, cost: float, device: torch.device) -> Recipe:
    learning_rate, epochs = RECIPES["scratch" if task.from_scratch else task.protocol]
    stride = task.card.stride
    return Recipe(
        epochs=task.epochs or epochs,
        steps=STEPS,
        batch=int(np.clip(BATCH * COMMON_COST / cost, BATCH // 2, 2 * BATCH)),
        crop=-(-CROP // stride) * stride,
        learning_rate=learning_rate,
        mixed=faster_in_bfloat16(device),
        frozen_statistics=not task.from_scratch,
        seed=task.seed,
    )


def faster_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 by itself; others imitate it, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    found: dict[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in the oldest torch we run on
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _prepare(task: Task, network: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Freeze what does not learn, and return how fast the rest does; see ``layer_speeds``."""
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    if task.protocol == "adapter":
        torch.manual_seed(task.seed)
        add_adapters(encoder)
    elif not task.from_scratch:
        image = torch.zeros(1, len(task.card.bands), recipe.crop, recipe.crop)
        return layer_speeds(network, encoder, image)
    return {}


def _lessons(
    task: Task,
    split: Split,
    mosaic: Mosaic,
    anchors: Labels,
    recipe: Recipe,
    loss: Callable[..., torch.Tensor],
) -> Lessons:
    def near(labels: Labels) -> Labels:
        return anchors.chosen(np.isin(anchors.units, np.unique(labels.units)))

    def crops(labels: Labels) -> Crops:
        return Crops(mosaic, labels, near(labels), recipe.crop)

    require_data(near(split.learned))
    learned = crops(split.learned)
    count = len(task.labels.names)
    pixels = learned.pixels_per_class(count, np.random.default_rng(task.seed))
    shares = pixels.sum() / pixels.clip(1)  # classes have as much a say as each other
    weights = torch.tensor(shares / shares.mean(), dtype=torch.float32)
    return Lessons(
        crops=learned,
        held=crops(split.held).centred() if split.held.rows.size else (),
        normalise=Normaliser(task.card.normalisation),
        loss=loss,
        weights=weights,
        wavelengths=_wavelengths(task),
    )


def _wavelengths(task: Task) -> torch.Tensor | None:
    """Return the bands' wavelengths in micrometres, if they measure reflectance."""
    sensor = load_sensor(task.card.sensor)
    known = [sensor.band(name).wavelength_nm for name in task.card.bands]
    if task.card.quantity != "reflectance" or None in known:
        return None
    return torch.tensor([value / 1000 for value in known if value])


@dataclass(frozen=True)
class _Seen:
    """Labelled pixels that have data.

    Attributes:
        labels: n pixels.
        reflectance: (n, C) float32.
        scores: (n, K) float32 of those that are tested on, 0 of others.
        tested: (n,) bool.
    """

    labels: Labels
    reflectance: NDArray[np.float32]
    scores: NDArray[np.float32]
    tested: NDArray[np.bool_]


def _test(task: Task, trained: Trained, network: nn.Module, split: Split, watch: Watch) -> Trained:
    """Add what is known of a network by labels that it has not learned from."""
    seen = _see(task, network, np.unique(split.tested.units), watch)
    if seen is None:
        words = "Testing was stopped, so nothing is known of how well the model does."
        return replace(trained, warnings=(*trained.warnings, warning("untested", words)))
    learned, tested = ~seen.tested, seen.tested
    if not tested.any() or not learned.any():
        return trained
    watch.report(1.0, "Comparing with a random forest", None)
    truth, units = seen.labels.classes[tested], seen.labels.units[tested]
    folds = np.unique(units, return_inverse=True)[1] % HELD_FOLDS
    probabilities, temperature = calibrated(seen.scores[tested], truth, units, folds)
    forest = forest_probabilities(
        seen.reflectance[learned],
        seen.labels.classes[learned],
        seen.reflectance[tested],
        len(task.labels.names),
        seed=task.seed,
    )
    return replace(
        trained,
        tested=Tested(truth, probabilities, units),
        baseline=Tested(truth, forest, units),
        temperature=temperature,
    )


@torch.inference_mode()
def _see(task: Task, network: nn.Module, wanted: NDArray[np.int64], watch: Watch) -> _Seen | None:
    """Read labelled pixels, and map those of the wanted units as a user would: tile by tile.

    Returns:
        None if the user has cancelled and it takes long.
    """
    deadline = time.monotonic() + TESTING_SECONDS
    labels = thinned(task.labels, task.seed)
    device = next(network.parameters()).device
    normalise = Normaliser(task.card.normalisation).to(device)
    count = labels.rows.size
    tested = np.isin(labels.units, wanted)
    valid = np.zeros(count, bool)
    reflectance = np.zeros((count, len(task.stack.bands)), np.float32)
    scores = np.zeros((count, len(labels.names)), np.float32)
    done = 0
    with task.stack, memory_explained(device):
        for tile in tiles_with(task.stack, labels, task.layout):
            if watch.cancelled() and time.monotonic() > deadline:
                return None
            members, place = tile.members, (tile.rows, tile.cols)
            valid[members] = tile.mask[place]
            reflectance[members] = tile.image[:, tile.rows, tile.cols].T
            if tested[members].any():
                image, mask = torch.from_numpy(tile.image)[None], torch.from_numpy(tile.mask)[None]
                values = normalise(image.to(device), mask.to(device))
                found = network(values.contiguous(memory_format=torch.channels_last))[0].float()
                scores[members] = found.cpu().numpy()[:, tile.rows, tile.cols].T
            done += members.size
            watch.report(done / count, "Testing on labels that were not learned from", None)
    return _Seen(labels.chosen(valid), reflectance[valid], scores[valid], tested[valid])


def _facts(recipe: Recipe, split: Split, outcome: Outcome) -> dict[str, object]:
    def units(labels: Labels) -> int:
        return len(np.unique(labels.units))

    return {
        "epoch": outcome.best,
        "epochs": len(outcome.history),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "crop": recipe.crop,
        "learning_rate": recipe.learning_rate,
        "units_learned": units(split.learned),
        "units_held_back": units(split.held),
        "units_tested": units(split.tested),
    }
