"""What is kept of each date to compare it with others: how likely trees are, and sums of bands."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.change.rule import Rule, tree_classes
from mmearth.inference.predict import Computation
from mmearth.models.network import Network

QUANTITIES = 3  # that are kept of a date
DARKEST = 0.002  # reflectance; what is less is noise, and 0 has no logarithm


def date_evidence(network: Network, rule: Rule) -> Computation:
    """Return the computation of what is kept of a date, three numbers a pixel: see ``weigh``.

    Blending tiles leaves reflectances as they are, as all tiles hold the same.
    """
    card = network.card
    names = [row.name for row in card.classes]
    trees = [names.index(name) for name in tree_classes(card)]
    bands = [card.bands.index(name) for name in rule.bands]

    def run(images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        probabilities = network.probabilities(images, masks)
        share = probabilities[:, trees].sum(dim=1).clamp(0, 1)
        return weigh(share, torch.from_numpy(images[:, bands]).to(share.device), rule)

    return Computation(run, QUANTITIES, network.device)


def weigh(trees: torch.Tensor, reflectances: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Return what ``compare`` takes of a date.

    Args:
        trees: (B, H, W) float32, probability of trees.
        reflectances: (B, C, H, W) float32, of the rule's bands.
        rule: whose weights count.

    Returns:
        (B, 3, H, W) float32: the probability of trees, and the weighted sums of the logarithms of
        reflectances, as the earlier and as the later date.
    """
    weights = torch.tensor(rule.sums, dtype=torch.float32, device=trees.device)
    sums = torch.einsum("bchw,kc->bkhw", reflectances.clamp_min(DARKEST).log(), weights)
    return torch.cat([trees[:, None], sums], dim=1)
