"""The loop of pretraining: steps, what is kept of them, and when to give up."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmearth.errors import TrainingError
from mmearth.models.network import memory_explained
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.method import Pretext, Step, spread
from mmearth.pretraining.modality import Batch
from mmearth.training import checkpoint
from mmearth.training.adapters import parameter_groups
from mmearth.training.task import Watch

LOG_NAME = "pretraining.jsonl"
COLLAPSED = 1e-3  # spread of features below which all images look alike to the encoder
COLLAPSED_ROWS = 3  # of the log, one after another


@dataclass(frozen=True)
class Recipe:
    """Numbers of a run; those that have a default are MMEarth's.

    Attributes:
        steps: of the optimiser.
        batch: images of a step.
        learning_rate: its highest value; it rises over the share ``warm_up`` of all steps and
            falls as a cosine.
        accumulate: parts that a step is computed in; ``batch`` is shared among them.
        weight_decay, betas: of AdamW.
        warm_up: see ``learning_rate``.
        mixed: compute layers in bfloat16.
        seed: of crops, masks and weights.
        every: steps of a row of the log.
        keep: seconds between two states that are kept to go on from.
    """

    steps: int
    batch: int
    learning_rate: float
    accumulate: int = 1
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warm_up: float = 0.2
    mixed: bool = False
    seed: int = 0
    every: int = 20
    keep: float = 60.0


@dataclass(frozen=True)
class Row:
    """What a stretch of steps came to.

    Attributes:
        step: the last of them, from 1.
        loss: mean of what is minimised.
        losses: mean of each task, of the steps in which something was known of it.
        spread: of the last batch's features, see ``mmearth.pretraining.method.spread``.
        gradient: mean norm.
        learning_rate: of the last step.
    """

    step: int
    loss: float
    losses: dict[str, float]
    spread: float
    gradient: float
    learning_rate: float


@dataclass
class _Stretch:
    """Sums since the last row of the log."""

    totals: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    spread: float = 0.0

    def add(self, steps: list[Step], gradient: float) -> None:
        self.totals.append(sum(step.total.item() for step in steps) / len(steps))
        self.gradients.append(gradient)
        for step in steps:
            for name, value in step.losses.items():
                self.losses.setdefault(name, []).append(value.item())
        self.spread = spread(torch.cat([step.features for step in steps]))


def fit(pretext: Pretext, data: Dataset, recipe: Recipe, folder: Path, watch: Watch) -> list[Row]:
    """Teach an encoder, or go on where an earlier run ended.

    Everything random is drawn anew for each step from its number, so a run that goes on ends with
    the very weights of one that was never interrupted.

    Args:
        pretext: on the device to compute on.
        data: what is learned from.
        recipe: numbers of the run.
        folder: of unfinished work; the log is written there too, as lines of JSON.
        watch: told of every step.

    Returns:
        The log.

    Raises:
        TrainingError: if the loss is no number any more, or the encoder tells images apart no more.
        JobCancelled: if ``watch`` says so; the same run can then go on later.
        OutOfMemoryError: if the device's memory does not suffice.
    """
    device = next(pretext.parameters()).device
    run = _Run(pretext, data, recipe, folder, device)
    run.restore(checkpoint.read(folder, device))
    begun, start = time.monotonic(), run.done
    kept = begun
    with memory_explained(device):
        while run.done < recipe.steps:
            if watch.cancelled() and run.done > start:
                run.keep()  # what was computed is not lost, should the user come back
            watch.check()
            run.step()
            now = time.monotonic()
            if now - kept >= recipe.keep and run.done < recipe.steps:
                run.keep()
                kept = now
            each = (now - begun) / (run.done - start)
            watch.report(run.done / recipe.steps, run.stage, each * (recipe.steps - run.done))
    pretext.eval()
    return run.rows


class _Run:
    """Network, optimiser and log of a run."""

    def __init__(
        self, pretext: Pretext, data: Dataset, recipe: Recipe, folder: Path, device: torch.device
    ) -> None:
        self.rows: list[Row] = []
        self.done = 0
        self._pretext, self._data, self._recipe = pretext.train(), data, recipe
        self._device = device
        self._log = folder / LOG_NAME
        self._folder = folder
        self._stretch = _Stretch()
        self._trained = [part for part in pretext.parameters() if part.requires_grad]
        self._optimizer = torch.optim.AdamW(
            parameter_groups(pretext, {}, recipe.learning_rate, recipe.weight_decay),
            betas=recipe.betas,
        )

    @property
    def stage(self) -> str:
        """Where the run stands, in words."""
        text = f"Step {self.done:,} of {self._recipe.steps:,}"
        if not self.rows:
            return text
        losses = self.rows[-1].losses.items()
        return f"{text}: error {', '.join(f'{name} {value:.3f}' for name, value in losses)}"

    def step(self) -> None:
        """Do a step of the optimiser.

        Raises:
            TrainingError: see ``fit``.
        """
        recipe = self._recipe
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(self.done, recipe)
        self._optimizer.zero_grad(set_to_none=True)
        count = recipe.batch // recipe.accumulate
        steps = [self._part(part, count) for part in range(recipe.accumulate)]
        norm = nn.utils.get_total_norm(
            [part.grad for part in self._trained if part.grad is not None]
        ).item()
        if not (math.isfinite(norm) and all(math.isfinite(s.total.item()) for s in steps)):
            raise TrainingError(
                f"The training went astray in step {self.done + 1:,}: its error is no longer a "
                "number.",
                "Try again with a lower learning rate, and check that the images have no extreme "
                "values.",
            )
        self._optimizer.step()
        self._pretext.advance((self.done + 1) / recipe.steps)
        self.done += 1
        self._stretch.add(steps, norm)
        if self.done % recipe.every == 0 or self.done == recipe.steps:
            self._write_row()

    def keep(self) -> None:
        """Keep all that the next step depends on."""
        checkpoint.write(
            self._folder,
            {
                "network": self._pretext.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "done": self.done,
                "rows": [vars(row) for row in self.rows],
                "stretch": vars(self._stretch),
            },
        )

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from what ``keep`` has kept; the log is cut off where that was.

        A state that belongs to another network is left aside: the run then begins anew.
        """
        if state is not None and _belongs(state, self._pretext):
            self._pretext.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.done = state["done"]
            self.rows = [Row(**row) for row in state["rows"]]
            self._stretch = _Stretch(**state["stretch"])
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("".join(_line(row) for row in self.rows), "utf-8")

    def _part(self, number: int, count: int) -> Step:
        """Compute a part of a step's images, and add its gradients up."""
        random = np.random.default_rng([self._recipe.seed, self.done, number])
        batch = _on(self._data.draw(count, random), self._device)
        masks = torch.Generator().manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))  # of the network's own dropout
        with torch.autocast(self._device.type, torch.bfloat16, self._recipe.mixed):
            step: Step = self._pretext(batch, masks)
        (step.total / self._recipe.accumulate).backward()
        return Step(step.total.detach(), step.losses, step.features)

    def _write_row(self) -> None:
        stretch, self._stretch = self._stretch, _Stretch()
        row = Row(
            step=self.done,
            loss=_mean(stretch.totals),
            losses={name: _mean(values) for name, values in stretch.losses.items()},
            spread=stretch.spread,
            gradient=_mean(stretch.gradients),
            learning_rate=self._optimizer.param_groups[0]["lr"],
        )
        self.rows.append(row)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        last = self.rows[-COLLAPSED_ROWS:]
        if len(last) == COLLAPSED_ROWS and all(one.spread < COLLAPSED for one in last):
            raise TrainingError(
                f"The training collapsed by step {self.done:,}: to the encoder, all images look "
                "alike.",
                "Try again with a lower learning rate, more images in a batch or more varied ones.",
            )


def _schedule(step: int, recipe: Recipe) -> float:
    rise = recipe.warm_up * recipe.steps
    if step + 1 < rise:
        return (step + 1) / rise
    share = (step - rise) / max(1.0, recipe.steps - rise)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))


def _belongs(state: dict[str, Any], pretext: Pretext) -> bool:
    """Tell whether what was kept has the shapes of a network."""
    kept, own = state.get("network", {}), pretext.state_dict()
    return {name: value.shape for name, value in kept.items()} == {
        name: value.shape for name, value in own.items()
    }


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _line(row: Row) -> str:
    """Return a row of the log in JSON, rounded to what is worth reading."""
    facts = {
        name: {key: round(number, 5) for key, number in value.items()}
        if isinstance(value, dict)
        else value if isinstance(value, int) else float(f"{value:.5g}")
        for name, value in vars(row).items()
    }  # fmt: skip
    return json.dumps(facts) + "\n"
