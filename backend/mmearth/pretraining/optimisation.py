"""How a method moves its weights: the optimiser of its paper, and how it goes over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mmearth.training.adapters import parameter_groups


@dataclass(frozen=True)
class Optimisation:
    """An optimiser and its numbers; what has a default is MMEarth's.

    Attributes:
        name: AdamW or SGD.
        rate: highest learning rate that is published.
        images: of a step, for which it is published.
        momentum: both betas of AdamW, or the one number of SGD.
        weight_decay: at first and in the end, with half a cosine between them; scales and shifts
            do not decay.
        warm_up: share of the run in which the learning rate rises; it then falls as half a cosine.
        clip: largest norm of the gradient of all weights together, a larger one is scaled down to
            it; None to leave it as it is.
    """

    name: Literal["AdamW", "SGD"] = "AdamW"
    rate: float = 2.4e-3
    images: int = 4096
    momentum: tuple[float, ...] = (0.9, 0.95)
    weight_decay: tuple[float, float] = (0.05, 0.05)
    warm_up: float = 0.2
    clip: float | None = None

    def highest(self, images: int) -> float:
        """Return the highest learning rate for so many images of a step.

        SGD's grows in proportion (Goyal et al. 2017, arXiv:1706.02677), AdamW's with the root
        (Malladi et al. 2022, arXiv:2205.10287): in proportion, as the papers do it from one large
        number to another, runs of a few thousand small steps would hardly learn.
        """
        more = images / self.images
        return float(f"{self.rate * (more if self.name == 'SGD' else math.sqrt(more)):.6g}")

    def build(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return an optimiser of a network's weights.

        Args:
            network: whose weights that need a gradient are moved.
            learning_rate: the highest.
        """
        groups = parameter_groups(network, {}, learning_rate, self.weight_decay[0])
        if self.name == "SGD":
            (momentum,) = self.momentum
            return torch.optim.SGD(groups, momentum=momentum)
        first, second = self.momentum
        return torch.optim.AdamW(groups, betas=(first, second))

    def prepare(
        self, optimizer: torch.optim.Optimizer, learning_rate: float, step: int, steps: int
    ) -> None:
        """Set learning rate and weight decay of a step.

        Args:
            optimizer: of ``build``.
            learning_rate: the highest.
            step: its number, from 0.
            steps: of the whole run.
        """
        begin, end = self.weight_decay
        decay = end + (begin - end) * _half_cosine(step / steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * self.share(step, steps)
            if group["weight_decay"]:
                group["weight_decay"] = decay

    def share(self, step: int, steps: int) -> float:
        """Return the share of the highest learning rate in a step, counted from 0."""
        rise = self.warm_up * steps
        if step + 1 < rise:
            return (step + 1) / rise
        return _half_cosine((step - rise) / max(1.0, steps - rise))

    def facts(self) -> dict[str, Any]:
        """Return what a model card has to say of it, but for the learning rate."""
        return {
            "optimiser": f"{self.name}, momentum {' and '.join(f'{m:g}' for m in self.momentum)}",
            "weight decay": " to ".join(f"{one:g}" for one in dict.fromkeys(self.weight_decay)),
            "warm-up": f"{self.warm_up:.0%} of the steps",
            "clipping": "none" if self.clip is None else f"gradients longer than {self.clip:g}",
        }


def _half_cosine(share: float) -> float:
    """Fall from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))
