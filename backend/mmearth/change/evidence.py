"""What is kept of each date to compare it with another: how likely trees are, and reflectances."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.change.rule import Rule, tree_classes
from mmearth.inference.predict import Computation
from mmearth.models.network import Network

DARKEST = 0.002  # reflectance; what is less is noise, and 0 has no logarithm


def date_evidence(network: Network, rule: Rule) -> Computation:
    """Return the computation of what is kept of a date, as ``compare`` takes it.

    The probability of trees, then the logarithm of the reflectance in each band of the rule.
    Blending tiles leaves reflectances as they are, as all tiles hold the same.
    """
    card = network.card
    names = [row.name for row in card.classes]
    trees = [names.index(name) for name in tree_classes(card)]
    bands = [card.bands.index(name) for name in rule.bands]

    def run(images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        probabilities = network.probabilities(images, masks)
        share = probabilities[:, trees].sum(dim=1, keepdim=True).clamp(0, 1)
        reflectances = torch.from_numpy(images[:, bands]).to(share.device)
        return torch.cat([share, reflectances.clamp_min(DARKEST).log()], dim=1)

    return Computation(run, 1 + len(bands), network.device)
