"""What the training loop asks of a pretext method.

A method is one module with ``build(encoder, modalities, spec) -> Pretext`` and a line in
``mmearth.pretraining.registry.METHODS``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from mmearth.pretraining.modality import Batch


@dataclass(frozen=True)
class Step:
    """What came of a batch.

    Attributes:
        total: what is minimised; a scalar.
        losses: of each task of which something was known; scalars without gradients.
        features: (B, width) float32, what the encoder says of each image; without gradients.
    """

    total: torch.Tensor
    losses: dict[str, torch.Tensor]
    features: torch.Tensor


class Pretext(nn.Module):
    """An encoder, and what is needed to teach it.

    All that changes as it learns is in its ``state_dict``, so that a run can go on from there.

    Attributes:
        encoder: under this very name, which its weights have in a model folder.
    """

    encoder: nn.Module

    @abstractmethod
    def forward(self, batch: Batch, random: torch.Generator) -> Step:
        """Compute the loss of a batch.

        Args:
            batch: see ``mmearth.pretraining.modality``, on the network's device.
            random: source of chance, on the processor.
        """

    def advance(self, share: float) -> None:
        """Do what is due after a step of the optimiser, such as moving an averaged teacher.

        Args:
            share: of the run that is done, 0 to 1.
        """


def spread(features: torch.Tensor) -> float:
    """Return how much images differ to the encoder, next to nothing if it has collapsed.

    Args:
        features: (B, width) float32.

    Returns:
        Standard deviation over the batch as a share of the features' size, as one number.
    """
    size = features.square().mean().sqrt()
    deviation = features.var(dim=0, unbiased=False).mean().sqrt()
    return float(deviation / size.clamp_min(1e-12))
