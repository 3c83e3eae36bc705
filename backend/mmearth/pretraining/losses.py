"""How far predictions are from their targets, over what is hidden and known.

Every loss comes with the number of values that it was computed from: where that is 0, nothing was
known, and the loss is left out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmearth.pretraining.modality import UNKNOWN, Modality

EPSILON = 1e-6  # of the variance of a patch


def patchify(values: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut into patches. (B, C, H, W) to (B, patches, patch² x C), the channel last and fastest."""
    rows, cols = values.shape[-2] // patch, values.shape[-1] // patch
    parts = values.unflatten(2, (rows, patch)).unflatten(4, (cols, patch))  # (B, C, h, p, w, p)
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: torch.Tensor, patch: int, rows: int) -> torch.Tensor:
    """Put patches together again: the inverse of ``patchify``."""
    parts = patches.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, -1))  # (B, h, w, p, p, C)
    return parts.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each patch over its pixels and channels with data.

    Shape:
        (B, L, n) float32, NaN = no data, to twice (B, L, 1); NaN where no two values are known.
    """
    known = patches.isfinite()
    count = known.sum(dim=-1, keepdim=True)
    total = torch.where(known, patches, 0.0).sum(dim=-1, keepdim=True)
    mean = total / count
    squares = torch.where(known, patches - mean, 0.0).square().sum(dim=-1, keepdim=True)
    # n - 1 as in MAE, whose torch.var is without bias; of one value there is no spread.
    return mean, (squares / (count - 1) + EPSILON).sqrt().where(count > 1, torch.nan)


def target_patches(modality: Modality, target: torch.Tensor, patch: int) -> torch.Tensor:
    """Return what is to be predicted of each patch.

    Returns:
        (B, L, patch² x C) float32 of a continuous modality, (B, L, patch²) int64 of classes.
    """
    if modality.kind == "categorical":
        return patchify(target[:, None], patch)
    patches = patchify(target, patch)
    if not modality.patch_norm:
        return patches
    mean, deviation = patch_statistics(patches)
    return (patches - mean) / deviation


def modality_loss(
    modality: Modality,
    predicted: torch.Tensor,
    target: torch.Tensor,
    hidden: torch.Tensor,
    patch: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of a modality, and how many values it is of.

    Squared error, or cross-entropy of classes: of pixels in hidden patches only, of whole images in
    all of them; nowhere without data.

    Args:
        modality: what is predicted.
        predicted: of pixels (B, L, patch² x C) float32, of images (B, C).
        target: as in a batch.
        hidden: (B, L) bool, patches that were masked.
        patch: side of a patch in pixels.
    """
    counted = known_values(modality, target, hidden, patch)
    if modality.level == "pixel":
        target = target_patches(modality, target, patch)
    count = counted.sum()
    if modality.kind == "categorical":
        scores = predicted.unflatten(-1, (-1, modality.channels))  # (B, L, p², K); (B, 1, K)
        wanted = target.view(counted.shape).masked_fill(~counted, UNKNOWN).flatten()
        total = cross_entropy(
            scores.flatten(0, -2), wanted, ignore_index=UNKNOWN, reduction="sum"
        )  # fmt: skip
    else:
        # Before the square: the gradient of what is not chosen would be NaN otherwise.
        errors = predicted - torch.where(counted, target, predicted.detach())
        total = (errors * counted).square().sum()
    return total / count.clamp_min(1), count


def known_values(
    modality: Modality, target: torch.Tensor, hidden: torch.Tensor, patch: int
) -> torch.Tensor:
    """Tell which values a loss is of; arguments as of ``modality_loss``.

    Returns:
        Bool, (B, L, n) of pixels, (B, n) of whole images.
    """
    if modality.level == "pixel":
        target = target_patches(modality, target, patch)
    elif modality.kind == "categorical":
        target = target[:, None]
    known = target != UNKNOWN if modality.kind == "categorical" else target.isfinite()
    return known & hidden[..., None] if modality.level == "pixel" else known


class Weighting(nn.Module):
    """Weighs tasks by their uncertainty, which is learned (Kendall et al. 2018).

    The total is the sum of exp(-s) x loss + s, s being the logarithm of a task's variance, 0 at
    first; tasks of which nothing was known are left out.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Return the total of a part of a step.

        Args:
            losses: (tasks,) float32, those of all parts add up.
            share: (tasks,) float32 of what is known of each task that is in this part; 0 where
                nothing is.
        """
        each = torch.exp(-self.log_vars) * losses + self.log_vars * share
        return each.where(share > 0, 0.0).sum()


class PlainSum(nn.Module):
    """Adds up the losses as they are; arguments as of ``Weighting``."""

    def forward(self, losses: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Return the total."""
        return losses.where(share > 0, 0.0).sum()
