"""Loss functions for maps of which only some pixels are labelled.

Every loss is ``loss(scores, target, weights) -> scalar``: scores (B, K, H, W) float32; target
(B, H, W) int64, class numbers from 0, ``UNLABELLED`` elsewhere; weights (K,) float32 of the
classes, or None. Unlabelled pixels never count. Without a single labelled pixel it is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import cross_entropy

from mmearth.errors import InputError, listed
from mmearth.models.smp import smp

UNLABELLED = 255  # in targets
BORDER_WEIGHT = 10.0  # w0 and sigma (pixels) of Ronneberger et al. 2015, equation 2
BORDER_WIDTH = 5.0

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

_dice = smp.losses.DiceLoss("multiclass", ignore_index=UNLABELLED)
_focal = smp.losses.FocalLoss("multiclass", ignore_index=UNLABELLED)
_lovasz = smp.losses.LovaszLoss("multiclass", ignore_index=UNLABELLED)


def balanced_cross_entropy(
    scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean cross-entropy, each pixel weighted by its class."""
    return cross_entropy(scores, target, weights, ignore_index=UNLABELLED)


def boundary_cross_entropy(
    scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean cross-entropy, pixels near borders between classes weighted more.

    w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), Ronneberger et al. 2015, equation 2.
    """
    each = cross_entropy(scores, target, ignore_index=UNLABELLED, reduction="none")
    labelled = target != UNLABELLED
    share = torch.ones_like(each)
    if weights is not None:
        share = weights[target.masked_fill(~labelled, 0)]
    borders = np.stack([border_weights(one) for one in target.cpu().numpy()])
    total = (share + torch.from_numpy(borders).to(share)) * labelled
    return (total * each).sum() / total.sum()


def border_weights(target: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what is added to the weights of pixels near a border between two labelled classes.

    Where every pixel belongs to some region, d1, the distance to the nearest one, is 0, and d2 is
    that to the nearest pixel of another class. The rim of what is labelled is no border.

    Args:
        target: (H, W) class numbers, ``UNLABELLED`` elsewhere.

    Returns:
        (H, W) float32 from 0 to ``BORDER_WEIGHT``, 0 where unlabelled.
    """
    labelled = target != UNLABELLED
    found = np.unique(target[labelled])
    added = np.zeros(target.shape, np.float32)
    if len(found) < 2:
        return added
    for number in found:
        own = target == number
        distance = distance_transform_edt(~labelled | own)[own]
        added[own] = BORDER_WEIGHT * np.exp(-(distance**2) / (2 * BORDER_WIDTH**2))
    return added


# Dice and Lovász weigh classes alike by themselves, and focal loss by what is hard.
LOSSES: dict[str, Loss] = {
    "cross-entropy": balanced_cross_entropy,
    "dice": lambda scores, target, weights: _dice(scores, target),
    "focal": lambda scores, target, weights: _focal(scores, target),
    "lovasz": lambda scores, target, weights: _lovasz(scores, target),
    "boundary-cross-entropy": boundary_cross_entropy,
}


def find_loss(name: str) -> Loss:
    """Return a loss by its name.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in LOSSES:
        raise InputError(f"There is no loss function {name!r}.", f"Choose one of {listed(LOSSES)}.")
    loss = LOSSES[name]

    def guarded(
        scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        if not (target != UNLABELLED).any():
            return scores.sum() * 0  # a mean over nothing would be no number
        return loss(scores, target, weights)

    return guarded
