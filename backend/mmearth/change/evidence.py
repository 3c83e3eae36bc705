"""What is kept of each date to compare it with others: how likely trees are, and a few bands."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.change.rule import Rule, tree_classes
from mmearth.inference.predict import Computation
from mmearth.models.network import Network

QUANTITIES = 4  # that are kept of a date


def date_evidence(network: Network, rule: Rule) -> Computation:
    """Return the computation of what is kept of a date, four numbers a pixel: see ``weigh``.

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
        (B, 4, H, W) float32: the probability of trees, the index, and the reflectances of the bands
        ``shade`` and ``light``; zeros where the rule has none.
    """
    weights = torch.tensor(rule.sums, dtype=torch.float32, device=trees.device)
    sums = torch.einsum("bchw,kc->bkhw", reflectances, weights)
    return torch.cat([trees[:, None], sums], dim=1)
