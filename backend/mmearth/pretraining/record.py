"""Numbers of a run, and what is recorded of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch

from mmearth.api import Problem


@dataclass(frozen=True)
class Recipe:
    """Numbers of a run, beside those that a method's ``optimisation`` holds.

    Attributes:
        steps: of the optimiser.
        batch: images of a step.
        learning_rate: its highest value.
        accumulate: parts that a step is computed in, one after another; ``batch`` is shared among
            them, and among the processes. The weights are the same to rounding, but where a network
            normalises by its batch, which is then a part in one process (batch norm).
        mixed: compute layers in bfloat16.
        seed: of crops, masks and weights.
        every: steps of a row of the log.
        held: images that are compared on at each row.
        keep: seconds between two states that are kept to go on from.
    """

    steps: int
    batch: int
    learning_rate: float
    accumulate: int = 1
    mixed: bool = False
    seed: int = 0
    every: int = 20
    held: int = 64
    keep: float = 60.0


@dataclass(frozen=True)
class Row:
    """What a stretch of steps came to.

    Attributes:
        step: the last of them, from 1.
        loss: mean of what is minimised.
        losses: mean of each task, of the steps in which something was known of it.
        held: of each task after these steps, on images that are not learned from and masks that
            stay the same; empty if there are none.
        spread: how much the images of the last step differ to the network, in the method's own
            words: see ``spread`` of ``mmearth.pretraining.method.Pretext`` and of DINO.
        gradient: mean norm, before it is clipped.
        learning_rate: of the last step.
    """

    step: int
    loss: float
    losses: dict[str, float]
    spread: float
    gradient: float
    learning_rate: float
    held: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        rows: its log.
        warnings: what the user should know.
    """

    rows: list[Row]
    warnings: list[Problem]


@dataclass
class Stretch:
    """Sums since the last row of the log, on the device: reading them there takes time.

    Attributes:
        steps: so many.
        sums: of what is minimised, and of each task's loss, (1 + tasks,).
        known: steps in which something was known of each task, (tasks,).
        gradient: sum of norms.
    """

    steps: int
    sums: torch.Tensor
    known: torch.Tensor
    gradient: torch.Tensor

    def on(self, device: torch.device) -> Stretch:
        """Return the same on a device."""
        return Stretch(
            self.steps, self.sums.to(device), self.known.to(device), self.gradient.to(device)
        )


def line(row: Row) -> str:
    """Return a row of the log in JSON, rounded to what is worth reading."""
    facts = {
        name: {key: round(number, 5) for key, number in value.items()}
        if isinstance(value, dict)
        else value if isinstance(value, int) else float(f"{value:.5g}")
        for name, value in vars(row).items()
    }  # fmt: skip
    return json.dumps(facts) + "\n"
