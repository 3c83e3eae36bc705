"""What a protocol is given to train, and what it gives back.

A protocol is one module with ``train(task, watch) -> Trained`` and a line in ``PROTOCOLS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmearth.api import Problem
from mmearth.errors import JobCancelled
from mmearth.inference.tiles import Layout
from mmearth.models.card import ModelCard, NetworkConfig
from mmearth.raster.stack import RasterStack
from mmearth.settings import Settings
from mmearth.training.labels import Labels
from mmearth.training.metrics import confusion

if TYPE_CHECKING:
    import torch

PROTOCOLS = {
    "quick": "mmearth.training.quick",
    "adapter": "mmearth.training.tune",
    "full": "mmearth.training.tune",
}


@dataclass(frozen=True)
class Task:
    """All that decides what is learned.

    Attributes:
        card: of the base.
        stack: bands of the scene, in the base's order; opened by whoever reads.
        layout: tiles over it, as for mapping.
        labels: on the stack's grid.
        settings: settings of the backend.
        protocol: name in ``PROTOCOLS``.
        from_scratch: take the base's architecture, and none of its weights.
        loss: name in ``mmearth.training.losses.LOSSES``.
        validation: share of the units that is tested on; 0 tests nothing.
        epochs: most epochs; the protocol's own number if None.
        seed: of everything that is drawn at random.
        folder: of unfinished work; what lies there when training begins was left by an earlier run
            of the very same task, which goes on.
    """

    card: ModelCard
    stack: RasterStack
    layout: Layout
    labels: Labels
    settings: Settings
    protocol: str
    folder: Path
    from_scratch: bool = False
    loss: str = "cross-entropy"
    validation: float = 0.25
    epochs: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Watch:
    """Two lines to whoever waits.

    Attributes:
        report: called with progress (0..1), what is being done, and seconds left if known.
        cancelled: asked time and again. Before anything worth keeping is learned, training then
            raises ``JobCancelled``; later it ends early and keeps the best.
    """

    report: Callable[[float, str, float | None], None] = lambda progress, stage, eta: None
    cancelled: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise ``JobCancelled`` if the user has had enough."""
        if self.cancelled():
            raise JobCancelled("Cancelled.")

    def part(self, begin: float, end: float) -> Watch:
        """Return a watch whose whole progress is a part of this one's."""

        def report(progress: float, stage: str, eta: float | None) -> None:
            self.report(begin + (end - begin) * progress, stage, eta)

        return Watch(report, self.cancelled)


@dataclass(frozen=True)
class Tested:
    """What was said of pixels of units that were not learned from.

    Attributes:
        truth: (n,) int64, class numbers from 0.
        probabilities: (n, K) float32.
        units: (n,) int64.
    """

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    units: NDArray[np.int64]

    @cached_property
    def mapped(self) -> NDArray[np.int64]:
        """(n,) int64, the likeliest class."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """(K, K) int64; rows are the labels, columns what was said."""
        return confusion(self.truth, self.mapped, self.probabilities.shape[1])

    @cached_property
    def accuracy(self) -> float:
        """Share of pixels that is right."""
        return float((self.truth == self.mapped).mean())


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after learning from a part of the labels.

    Attributes:
        units: number of units learned from, on average over the splits.
        accuracy: of the model.
        baseline: of the random forest.
    """

    units: float
    accuracy: float
    baseline: float


@dataclass(frozen=True)
class Epoch:
    """An epoch of training.

    Attributes:
        number: from 1.
        loss: mean over the training batches.
        validation_loss: on units held back for early stopping; None if there are too few.
        validation_accuracy: likewise.
    """

    number: int
    loss: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Trained:
    """A trained network and what is known of it.

    Attributes:
        network: how it is built.
        state: its weights.
        tested: what it, or models trained in the same way on other splits, said of pixels that
            they had not learned from; None if nothing was tested.
        baseline: the same of a random forest on the raw bands, on the same splits.
        curve: with growing numbers of labels, of what tuning began with if the network was tuned;
            may be empty.
        history: of the epochs; empty if the protocol has none.
        temperature: probabilities = softmax(scores / temperature).
        warnings: what the user should know.
        facts: further facts for the report and the card's provenance, in JSON's types.
    """

    network: NetworkConfig
    state: Mapping[str, torch.Tensor]
    tested: Tested | None = None
    baseline: Tested | None = None
    curve: tuple[CurvePoint, ...] = ()
    history: tuple[Epoch, ...] = ()
    temperature: float = 1.0
    warnings: tuple[Problem, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def train(task: Task, watch: Watch) -> Trained:
    """Train by the task's protocol.

    Raises:
        InputError: if the labels do not suffice.
        EmptyAreaError: if the rasters have no data where the labels are.
        TrainingError: if the training fails, by diverging for example.
        ModelError: if the base cannot be trained so.
        JobCancelled: if ``watch`` says so before there is anything to keep.
    """
    module = import_module(PROTOCOLS[task.protocol])
    trained: Trained = module.train(task, watch)
    return trained
