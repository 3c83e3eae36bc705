"""Training a network on crops: epochs, early stopping, and what is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from mmearth.api import Problem
from mmearth.errors import JobCancelled, TrainingError
from mmearth.models.network import Normaliser, memory_explained
from mmearth.training import checkpoint
from mmearth.training.adapters import parameter_groups
from mmearth.training.augment import RadiometricJitter
from mmearth.training.crops import Crop, stacked
from mmearth.training.losses import UNLABELLED, Loss
from mmearth.training.schedule import warm_up_and_cosine
from mmearth.training.task import Epoch, Watch

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
DIVERGED = (
    "Try again with fewer epochs or the loss function cross-entropy, and check that the labels "
    "show what they say and the image has no extreme values there."
)


@dataclass(frozen=True)
class Recipe:
    """Numbers of a training run.

    Attributes:
        epochs: most of them.
        steps: batches of an epoch.
        batch: crops in a batch.
        crop: side of a crop in pixels.
        learning_rate: its highest value; it rises over the share ``warm_up`` of all steps and
            falls as a cosine.
        weight_decay: of AdamW.
        averaging: share of the average of weights that stays at each step, once settled.
        clip: largest norm of a gradient.
        patience: epochs without a better one, after which training ends. Half of a usual run: much
            of what is gained is gained as the learning rate falls.
        mixed: compute layers in bfloat16.
        frozen_statistics: keep the means and deviations of batch norms: those of a few polygons
            are no better than those of pretraining.
        seed: of crops and changes.
    """

    epochs: int
    steps: int
    batch: int
    crop: int
    learning_rate: float
    weight_decay: float = 1e-2
    warm_up: float = 0.1
    averaging: float = 0.95
    clip: float = 1.0
    patience: int = 10
    mixed: bool = False
    frozen_statistics: bool = True
    seed: int = 0


class Source(Protocol):
    """Where crops come from; see ``mmearth.training.crops.Crops``."""

    def draw(self, count: int, random: np.random.Generator) -> list[Crop]:
        """Draw crops."""


@dataclass(frozen=True)
class Lessons:
    """What is learned from.

    Attributes:
        crops: drawn anew at each step.
        held: crops whose labels decide which epoch is kept; empty if labels are too few.
        normalise: from reflectance to the network's input.
        loss: of ``mmearth.training.losses``.
        weights: (K,) of the classes.
        wavelengths: (C,) in micrometres, for changes of reflectance; None for other quantities.
    """

    crops: Source
    held: Sequence[Crop]
    normalise: Normaliser
    loss: Loss
    weights: torch.Tensor
    wavelengths: torch.Tensor | None


@dataclass(frozen=True)
class Outcome:
    """What came of a run; the network holds the best epoch's weights.

    Attributes:
        history: of all epochs.
        best: number of the epoch that is kept.
        warnings: why it ended early, if it did.
    """

    history: tuple[Epoch, ...]
    best: int
    warnings: tuple[Problem, ...]


def fit(
    network: nn.Module,
    speeds: dict[str, float],
    lessons: Lessons,
    recipe: Recipe,
    folder: Path,
    watch: Watch,
) -> Outcome:
    """Train a network, or go on where an earlier run ended.

    Everything random is drawn anew for each epoch from its number, so a run that goes on ends with
    the very weights of one that was never interrupted.

    Args:
        network: on the device to compute on; parameters that need no gradient stay as they are.
        speeds: name of a parameter -> its speed, see ``layer_speeds``.
        lessons: what is learned from.
        recipe: numbers of the run.
        folder: of unfinished work.
        watch: told of every step.

    Raises:
        TrainingError: if it diverges before the first epoch is over.
        JobCancelled: if ``watch`` says so before the first epoch is over.
        OutOfMemoryError: if the device's memory does not suffice.
    """
    device = next(network.parameters()).device
    run = _Run(network, speeds, lessons, recipe, device)
    run.restore(checkpoint.read(folder, device))
    warnings: list[Problem] = []
    start, before = time.monotonic(), len(run.history)
    with memory_explained(device):
        while not run.finished:
            number = len(run.history) + 1
            try:
                run.epoch(number, watch)
            except JobCancelled:
                if not run.history:
                    raise
                warnings.append(_ended("stopped_early", f"Stopped in round {number}", run))
                break
            except _Diverged:
                if not run.history:
                    raise TrainingError(
                        "The training went astray in its first round: its error is no longer a "
                        "number.",
                        DIVERGED,
                    ) from None
                warnings.append(_ended("diverged", f"Training went astray in round {number}", run))
                break
            checkpoint.write(folder, run.state())
            done = len(run.history)
            each = (time.monotonic() - start) / (done - before)
            watch.report(done / recipe.epochs, run.stage, each * (recipe.epochs - done))
    run.keep_best()
    return Outcome(tuple(run.history), run.best, tuple(warnings))


def _ended(code: str, what: str, run: _Run) -> Problem:
    return Problem(
        code=code,
        message=f"{what}; the model is that of round {run.best}.",
        advice=DIVERGED if code == "diverged" else "",
    )


class _Diverged(Exception):
    """Raised when a loss, a gradient or a weight is no number."""


class _Run:
    """Network, optimiser, average and history of a run."""

    def __init__(
        self,
        network: nn.Module,
        speeds: dict[str, float],
        lessons: Lessons,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.history: list[Epoch] = []
        self.best = 0
        self._network, self._lessons, self._recipe = network, lessons, recipe
        self._device = device
        self._trained = [part for part in network.parameters() if part.requires_grad]
        self._optimizer = torch.optim.AdamW(
            parameter_groups(network, speeds, recipe.learning_rate, recipe.weight_decay)
        )
        self._normalise = lessons.normalise.to(device)
        self._weights = lessons.weights.to(device)
        self._jitter = RadiometricJitter()
        self._average = _copied(self._learned())
        self._best_weights = _copied(self._average)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, or to gain."""
        done = len(self.history)
        stale = bool(self._lessons.held) and done - self.best >= self._recipe.patience
        return done >= self._recipe.epochs or (done > 0 and stale)

    @property
    def stage(self) -> str:
        """What the last epoch came to, in words."""
        last = self.history[-1]
        text = f"Round {last.number} of {self._recipe.epochs}"
        if last.validation_accuracy is None:
            return f"{text}: error {last.loss:.2f}"
        return f"{text}: {last.validation_accuracy:.0%} of the labels held back are right"

    def epoch(self, number: int, watch: Watch) -> None:
        """Train for an epoch and see how good the average of weights is."""
        recipe = self._recipe
        random = np.random.default_rng([recipe.seed, number])
        noise = torch.Generator().manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))  # of the network's own dropout
        self._to_training()
        losses = []
        for step in range((number - 1) * recipe.steps, number * recipe.steps):
            watch.check()
            losses.append(self._step(step, random, noise))
        if not all(value.isfinite().all() for value in self._average.values()):
            raise _Diverged
        self._network.eval()
        self.history.append(Epoch(number, sum(losses) / len(losses), *self._validate()))
        if self.best == 0 or _goodness(self.history[-1]) >= _goodness(self.history[self.best - 1]):
            self.best, self._best_weights = number, _copied(self._average)

    def keep_best(self) -> None:
        """Leave the best epoch's weights in the network."""
        _assign(self._learned(), self._best_weights)
        self._network.eval()

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on."""
        return {
            "learned": self._learned(),
            "average": self._average,
            "best_weights": self._best_weights,
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "history": [
                [row.number, row.loss, row.validation_loss, row.validation_accuracy]
                for row in self.history
            ],
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from what ``state`` returned."""
        if state is None:
            return
        _assign(self._learned(), state["learned"])
        _assign(self._average, state["average"])
        _assign(self._best_weights, state["best_weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.history = [Epoch(*row) for row in state["history"]]

    def _to_training(self) -> None:
        self._network.train()
        if self._recipe.frozen_statistics:
            for part in self._network.modules():
                if isinstance(part, BATCH_NORMS):
                    part.eval()

    def _step(self, step: int, random: np.random.Generator, noise: torch.Generator) -> float:
        recipe = self._recipe
        total = recipe.epochs * recipe.steps
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * warm_up_and_cosine(step, total, recipe.warm_up * total)
        images, target, valid = stacked(self._lessons.crops.draw(recipe.batch, random))
        if self._lessons.wavelengths is not None:
            images = self._jitter(images, self._lessons.wavelengths, noise)
        scores = self._scores(images, valid)
        loss = self._lessons.loss(scores, target.to(self._device), self._weights)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._trained, recipe.clip)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise _Diverged
        self._optimizer.step()
        keep = min(recipe.averaging, (1 + step) / (10 + step))
        _mix(self._average, self._learned(), keep)
        return value

    def _scores(self, images: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        values = self._normalise(images.to(self._device), valid.to(self._device))
        values = values.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, self._recipe.mixed):
            scores: torch.Tensor = self._network(values)
        return scores.float()

    def _validate(self) -> tuple[float | None, float | None]:
        """Return loss and accuracy of the averaged network on the labels held back."""
        held = self._lessons.held
        if not held:
            return None, None
        now = _copied(self._learned())
        _assign(self._learned(), self._average)
        total = right = labelled = 0.0
        with torch.inference_mode():
            for first in range(0, len(held), self._recipe.batch):
                images, target, valid = stacked(held[first : first + self._recipe.batch])
                scores, target = self._scores(images, valid), target.to(self._device)
                counted = target != UNLABELLED
                count = float(counted.sum())
                total += count * float(self._lessons.loss(scores, target, self._weights))
                right += float((scores.argmax(dim=1) == target)[counted].sum())
                labelled += count
        _assign(self._learned(), now)
        return total / max(1.0, labelled), right / max(1.0, labelled)

    def _learned(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training changes, by their names; not copies."""
        wanted = {name for name, part in self._network.named_parameters() if part.requires_grad}
        if not self._recipe.frozen_statistics:
            wanted |= {name for name, _ in self._network.named_buffers()}
        state = self._network.state_dict()
        return {name: value for name, value in state.items() if name in wanted}


def _goodness(epoch: Epoch) -> tuple[float, float]:
    """Return what epochs are compared by; the loss grows with sureness while maps still improve."""
    return epoch.validation_accuracy or 0.0, -(epoch.validation_loss or 0.0)


def _copied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


@torch.no_grad()
def _assign(state: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    for name, value in state.items():
        value.copy_(values[name])


@torch.no_grad()
def _mix(average: dict[str, torch.Tensor], state: dict[str, torch.Tensor], keep: float) -> None:
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(state[name], 1 - keep)
        else:
            value.copy_(state[name])
