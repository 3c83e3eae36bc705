"""Training small heads on the columns of labelled pixels: seconds, on any machine.

A head is the mean of a few members, of which each sees a part of the features only. What a network
says of a place may help or mislead, by what is to be told apart; no handful of polygons suffices
to find out which. A member that sees the bands alone holds its ground where features mislead, and
is outvoted where they are sure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from mmearth.errors import JobCancelled, TrainingError
from mmearth.models.decoders.hypercolumn import HIDDEN

LEAST_DEVIATION = 1e-3  # of a feature; what hardly varies among labels is left out
MOST_NUMBERS = 16 * 2**20  # of features in a step; more heads than that are trained in turns


@dataclass(frozen=True)
class Member:
    """One of the networks whose mean a head is.

    Attributes:
        features: number of features that it sees, from the first on.
        dropout: share of them that is left out at each step.
    """

    features: int
    dropout: float = 0.0


@dataclass(frozen=True)
class HeadRecipe:
    """Numbers of a training run.

    Attributes:
        steps: number of batches.
        batch: pixels in a batch, drawn class by class and unit by unit.
        learning_rate: its highest value; it rises and falls over the run (one-cycle).
        weight_decay: of AdamW.
        smoothing: of the labels, which are drawn by hand.
        dropout: of a head's only member, if none are named.
        hidden: channels between the two layers of each member; of quick heads, there are two.
        seed: of weights and batches.
    """

    steps: int = 100
    batch: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    smoothing: float = 0.05
    dropout: float = 0.3
    hidden: int = HIDDEN // 2
    seed: int = 0


class Head(nn.Module):
    """Standardisation and two linear layers; the tail of ``Hypercolumn``, with its names.

    Shape:
        (n, D) float32 to (n, classes).
    """

    def __init__(self, features: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(features), requires_grad=False)
        self.first = nn.Linear(features, hidden)
        self.last = nn.Linear(hidden, classes)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        values = (columns - self.mean) * self.scale
        scores: torch.Tensor = self.last(self.first(values).relu())
        return scores


def train_head(
    columns: NDArray[np.float32],
    classes: NDArray[np.int64],
    units: NDArray[np.int64],
    count: int,
    recipe: HeadRecipe,
    *,
    members: Sequence[Member] = (),
    watch: Callable[[int, float], None] = lambda step, loss: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Head:
    """Train a head on all pixels; arguments and errors as of ``train_heads``."""
    everything = np.ones((1, classes.size), bool)
    (head,) = train_heads(
        columns, classes, units, count, everything, recipe, members=members, watch=watch,
        cancelled=cancelled,
    )  # fmt: skip
    return head


def train_heads(
    columns: NDArray[np.float32],
    classes: NDArray[np.int64],
    units: NDArray[np.int64],
    count: int,
    parts: NDArray[np.bool_],
    recipe: HeadRecipe,
    *,
    members: Sequence[Member] = (),
    watch: Callable[[int, float], None] = lambda step, loss: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Head]:
    """Train several heads side by side, each on its own part of the pixels.

    They share nothing but the time: a step of many small heads takes little longer than one of a
    single head. The same arguments give the same weights on the same machine.

    Args:
        columns: (n, D) float32.
        classes: (n,) class numbers from 0.
        units: (n,) what was drawn at once; small polygons count as much as large ones.
        count: number of classes.
        parts: (R, n) bool, the pixels that each head learns from; none is empty.
        recipe: numbers of the run.
        members: of each head; one that sees all features if empty.
        watch: called now and then with the number of steps done and the loss.
        cancelled: asked at every step.

    Returns:
        R heads, in evaluation mode.

    Raises:
        TrainingError: if the columns hold numbers that are not finite, or the training diverges.
        JobCancelled: if ``cancelled`` says so.
    """
    if not np.isfinite(columns).all():
        raise TrainingError(
            "What the model says of the labelled pixels holds numbers that are not finite.",
            "Check the rasters for odd values, or choose another base.",
        )
    members = members or [Member(columns.shape[1], recipe.dropout)]
    size = len(members) * recipe.batch * columns.shape[1]
    at_once = max(1, MOST_NUMBERS // size)
    heads: list[Head] = []

    def report(step: int, loss: float) -> None:
        steps = len(heads) * recipe.steps + len(some) * step
        watch(steps // len(parts), loss)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the numbers are few; cores would wait for each other
    try:
        for begin in range(0, len(parts), at_once):
            some = parts[begin : begin + at_once]
            turn = _Heads(columns, classes, units, count, some, recipe, members)
            heads += turn.train(report, cancelled)
    finally:
        torch.set_num_threads(threads)
    return heads


class _Heads:
    """Weights of R heads of M members, along the first two axes."""

    def __init__(
        self,
        columns: NDArray[np.float32],
        classes: NDArray[np.int64],
        units: NDArray[np.int64],
        count: int,
        parts: NDArray[np.bool_],
        recipe: HeadRecipe,
        members: Sequence[Member],
    ) -> None:
        self._recipe, self._members = recipe, members
        self._columns, self._classes = torch.from_numpy(columns), torch.from_numpy(classes)
        self._random = torch.Generator().manual_seed(recipe.seed)
        self._chances = torch.from_numpy(_chances(classes, units, parts))
        found = [torch.std_mean(self._columns[part], dim=0, correction=0) for part in parts]
        # As they are stored, so that what is learned fits them.
        self._mean = torch.stack([mean for _, mean in found]).half().float()
        deviation = torch.stack([deviation for deviation, _ in found])
        varies = deviation >= LEAST_DEVIATION
        # Nothing is learned of what is constant at the labels, but elsewhere it may be large.
        self._scale = torch.where(varies, 1 / deviation, 0).half().float()
        heads, features = len(parts), columns.shape[1]
        seen = torch.arange(features) < torch.tensor([[m.features] for m in members])
        self._seen = seen[:, None].float()  # (M, 1, D)
        self._kept = torch.tensor([1 - m.dropout for m in members])[:, None, None]
        shape = heads, len(members)
        wide = torch.tensor([float(m.features) for m in members])[:, None, None]
        self._first = self._draw((*shape, features, recipe.hidden), wide)
        self._bias = self._draw((*shape, 1, recipe.hidden), wide)
        self._last = self._draw((*shape, recipe.hidden, count), torch.tensor(recipe.hidden))
        self._shift = self._draw((*shape, 1, count), torch.tensor(recipe.hidden))

    def train(
        self, watch: Callable[[int, float], None], cancelled: Callable[[], bool]
    ) -> list[Head]:
        recipe = self._recipe
        weights = [self._first, self._bias, self._last, self._shift]
        optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.steps
        )
        for step in range(recipe.steps):
            if cancelled():
                raise JobCancelled("Cancelled.")
            loss = self._loss()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 20 == 0 or step + 1 == recipe.steps:
                watch(step + 1, loss.item() / self._first.shape[0])
        heads = [self._head(number) for number in range(self._first.shape[0])]
        if not all(value.isfinite().all() for head in heads for value in head.parameters()):
            raise TrainingError(
                "The training went astray: its weights are no longer numbers.",
                "Check the rasters for extreme values where the labels are, or choose another "
                "base.",
            )
        return heads

    def _loss(self) -> torch.Tensor:
        """Return the sum of the heads' losses, of which each is the mean of its members'."""
        recipe = self._recipe
        chosen = torch.multinomial(
            self._chances, recipe.batch, replacement=True, generator=self._random
        )
        values = (self._columns[chosen] - self._mean[:, None]) * self._scale[:, None]
        values = values[:, None] * self._seen  # (R, M, batch, D)
        if any(member.dropout for member in self._members):
            drawn = torch.rand(values.shape, generator=self._random)
            values = values * (drawn < self._kept) / self._kept
        scores = (values @ self._first + self._bias).relu() @ self._last + self._shift
        target = self._classes[chosen][:, None].expand(scores.shape[:-1])
        total = cross_entropy(
            scores.flatten(0, 2), target.flatten(), label_smoothing=recipe.smoothing,
            reduction="sum",
        )  # fmt: skip
        return total / (len(self._members) * recipe.batch)

    @torch.no_grad()
    def _head(self, number: int) -> Head:
        """Put the members of a head side by side: their mean is one network with zeros in it."""
        members, features, hidden = self._first.shape[1:]
        head = Head(features, self._last.shape[-1], members * hidden)
        first = self._first[number] * self._seen.mT
        head.mean.copy_(self._mean[number])
        head.scale.copy_(self._scale[number])
        head.first.weight.copy_(first.mT.flatten(0, 1))
        head.first.bias.copy_(self._bias[number].flatten())
        head.last.weight.copy_(self._last[number].flatten(0, 1).T / members)
        head.last.bias.copy_(self._shift[number].mean(dim=(0, 1)))
        return head.eval()

    def _draw(self, shape: tuple[int, ...], inputs: torch.Tensor) -> torch.Tensor:
        """Return weights at the size that torch's linear layers begin with."""
        drawn = torch.rand(shape, generator=self._random) * 2 - 1
        return (drawn / inputs.sqrt()).requires_grad_()


def _chances(
    classes: NDArray[np.int64], units: NDArray[np.int64], parts: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the chance of each pixel of a part: classes alike, units of a class alike. (R, n)."""
    result = np.zeros(parts.shape)
    for chance, part in zip(result, parts, strict=True):
        pairs = np.stack([classes[part], units[part]])
        unique, place, pixels = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        of_class = np.bincount(unique[0])
        chance[part] = (1 / (pixels * of_class[unique[0]]))[place.reshape(-1)]
    return result
