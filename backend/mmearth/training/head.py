"""Training a small head on the columns of labelled pixels: seconds, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from mmearth.errors import JobCancelled

LEAST_DEVIATION = 1e-3  # of a feature; constant ones are not blown up


@dataclass(frozen=True)
class HeadRecipe:
    """Numbers of a training run.

    Attributes:
        steps: number of batches.
        batch: pixels in a batch, drawn class by class and unit by unit.
        learning_rate: its highest value; it rises and falls over the run (one-cycle).
        weight_decay: of AdamW.
        smoothing: of the labels, which are drawn by hand.
        dropout: share of features left out at each step.
        hidden: channels between the two layers.
        seed: of weights and batches.
    """

    steps: int = 200
    batch: int = 1024
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    smoothing: float = 0.05
    dropout: float = 0.3
    hidden: int = 64
    seed: int = 0


class Head(nn.Module):
    """Standardisation and two linear layers; the tail of ``Hypercolumn``, with its names.

    Shape:
        (n, D) float32 to (n, classes).
    """

    def __init__(self, columns: torch.Tensor, classes: int, hidden: int) -> None:
        super().__init__()
        deviation, mean = torch.std_mean(columns, dim=0, correction=0)
        self.mean = nn.Parameter(mean, requires_grad=False)
        self.scale = nn.Parameter(1 / deviation.clamp_min(LEAST_DEVIATION), requires_grad=False)
        self.first = nn.Linear(columns.shape[1], hidden)
        self.last = nn.Linear(hidden, classes)

    def forward(self, columns: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """Return class scores."""
        values = (columns - self.mean) * self.scale
        values = nn.functional.dropout(values, dropout, self.training)
        scores: torch.Tensor = self.last(self.first(values).relu())
        return scores


def train_head(
    columns: NDArray[np.float32],
    classes: NDArray[np.int64],
    units: NDArray[np.int64],
    count: int,
    recipe: HeadRecipe,
    *,
    watch: Callable[[int, float], None] = lambda step, loss: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Head:
    """Train a head; the same arguments give the same weights on the same machine.

    Args:
        columns: (n, D) float32.
        classes: (n,) class numbers from 0.
        units: (n,) what was drawn at once; small polygons count as much as large ones.
        count: number of classes.
        recipe: numbers of the run.
        watch: called now and then with the step and the loss.
        cancelled: asked at every step.

    Raises:
        JobCancelled: if ``cancelled`` says so.
    """
    torch.manual_seed(recipe.seed)
    data, target = torch.from_numpy(columns), torch.from_numpy(classes)
    head = Head(data, count, recipe.hidden)
    chances = torch.from_numpy(_chances(classes, units))
    random = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        (p for p in head.parameters() if p.requires_grad),
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps
    )
    head.train()
    for step in range(recipe.steps):
        if cancelled():
            raise JobCancelled("Cancelled.")
        chosen = torch.multinomial(chances, recipe.batch, replacement=True, generator=random)
        scores = head(data[chosen], recipe.dropout)
        loss = cross_entropy(scores, target[chosen], label_smoothing=recipe.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step + 1 == recipe.steps:
            watch(step + 1, loss.item())
    return head.eval()


def _chances(classes: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the chance of each pixel: classes alike, units of a class alike."""
    pairs = np.stack([classes, units])
    unique, place, pixels = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    of_class = np.bincount(unique[0])
    chance = 1 / (pixels * of_class[unique[0]])
    found: NDArray[np.float64] = chance[place.reshape(-1)]
    return found
