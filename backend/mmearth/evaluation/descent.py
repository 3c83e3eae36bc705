"""Learning for so many steps, with a look at the scores on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mmearth.errors import JobCancelled, TrainingError
from mmearth.training.schedule import warm_up_and_cosine

LOOKS = 6  # at the scores, evenly spread over the steps; the last one is at the end
WARM_UP = 0.1  # of the steps
CLIP = 1.0  # largest norm of a gradient


@dataclass(frozen=True)
class Curve:
    """What came of learning.

    Attributes:
        steps: at which was looked, rising; the last is the end.
        scores: of each.
    """

    steps: tuple[int, ...]
    scores: tuple[dict[str, float], ...]


def descend(
    groups: Iterable[dict[str, object]],
    steps: int,
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    look: Callable[[], dict[str, float]],
    *,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> Curve:
    """Learn by AdamW, whose rate rises over a tenth of the steps and falls as a cosine.

    Args:
        groups: of parameters, with "peak", their highest rate (``adapters.parameter_groups``).
        steps: of the optimiser.
        loss_of: draws a batch and returns its loss.
        look: returns scores as things stand.
        seed: of the batches.
        cancelled: asked at each step.

    Raises:
        JobCancelled: if ``cancelled`` says so.
        TrainingError: if it diverges.
    """
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(groups)
    learned = [one for group in optimizer.param_groups for one in group["params"]]
    looks = {round(steps * number / LOOKS) for number in range(1, LOOKS + 1)} - {0}
    seen, scores = [], []
    for step in range(steps):
        if cancelled():
            raise JobCancelled("Cancelled.")
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * warm_up_and_cosine(step, steps, WARM_UP * steps)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(random)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(learned, CLIP)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            raise TrainingError(
                f"The training went astray in step {step + 1}: its error is no longer a number.",
                "Choose a lower learning rate.",
            )
        optimizer.step()
        if step + 1 in looks:
            seen.append(step + 1)
            scores.append(look())
    return Curve(tuple(seen), tuple(scores))
