"""Masked autoencoders: what is hidden of an image is told from the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import InputError
from mmearth.pretraining import pictures
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.losses import (
    known_values,
    modality_loss,
    patch_statistics,
    patchify,
    unpatchify,
)
from mmearth.pretraining.masking import random_mask
from mmearth.pretraining.method import Pretext, Step
from mmearth.pretraining.modality import Batch, Modality

VISIBLE = "visible patches"  # key in a batch; no modality has a name with a space


class MaskedAutoencoder(Pretext):
    """What masked autoencoders share; batches hold the mask too, under ``VISIBLE``.

    Args:
        modalities: what is predicted; the first is the image, which is what the encoder is shown.
        patch: side of a patch in pixels.
        mask_ratio: share of patches that is hidden.
        weighting: adds up the losses; see ``mmearth.pretraining.losses``.
    """

    def __init__(
        self, modalities: Sequence[Modality], patch: int, mask_ratio: float, weighting: nn.Module
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.tasks = tuple(one.name for one in modalities)
        self.patch = patch
        self.mask_ratio = mask_ratio
        self.weighting = weighting

    @abstractmethod
    def tell(
        self, image: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Look at a part of images, and tell all of them.

        Args:
            image: (B, C, H, W) float32, 0 where there is no data.
            visible: (B, h, w) bool, as many in each image.

        Returns:
            Features (B, width) of the visible part, and what is predicted of each modality,
            float32: (B, h x w, n) of pixels, see ``losses.target_patches``; (B, n) of images.
        """

    def draw(self, data: Dataset, count: int, random: np.random.Generator) -> Batch:
        """Draw images, and which of their patches stay visible."""
        batch = data.draw(count, random)
        return self.hide(batch, torch.Generator().manual_seed(int(random.integers(2**62))))

    def hide(self, batch: Batch, random: torch.Generator) -> Batch:
        """Add to a batch which patches stay visible, (B, H / patch, W / patch) bool.

        Raises:
            InputError: if the sides of the images are no multiples of the patch.
        """
        image = batch[self.modalities[0].name]
        count, _, height, width = image.shape
        check_sides(height, width, self.patch)
        rows, cols = height // self.patch, width // self.patch
        visible = random_mask(count, rows, cols, self.mask_ratio, random)
        return {**batch, VISIBLE: visible.to(image.device)}

    def counts(self, batch: Batch) -> torch.Tensor:
        """Return how many hidden values of each modality are known."""
        hidden = ~batch[VISIBLE].flatten(1)
        return torch.stack(
            [
                known_values(one, batch[one.name], hidden, self.patch).sum()
                for one in self.modalities
            ]
        )

    def forward(self, batch: Batch, whole: torch.Tensor | None = None) -> Step:
        """Compute how well everything is told from the visible patches."""
        visible = batch[VISIBLE]
        hidden = ~visible.flatten(1)
        # A copy: the image is a target as well, with its marks of no data.
        image = torch.nan_to_num(batch[self.modalities[0].name], nan=0.0)
        features, told = self.tell(image, visible)
        found = [
            modality_loss(one, told[one.name], batch[one.name], hidden, self.patch)
            for one in self.modalities
        ]
        means, counts = (torch.stack(column) for column in zip(*found, strict=True))
        share = (counts > 0).float() if whole is None else counts / whole.clamp_min(1)
        losses = means * share
        return Step(
            total=self.weighting(losses, share),
            losses=losses.detach(),
            counts=counts,
            features=features.detach().float(),
        )

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> torch.Tensor:
        """Paint the hidden patches of images as they are thought to be.

        A patch that is predicted relative to its own mean and spread is given those of the truth.

        Returns:
            (B, C, H, W) float32, standardised; visible patches are the image's own.
        """
        image, visible = self.modalities[0], batch[VISIBLE]
        target = patchify(batch[image.name], self.patch)
        predicted = self.tell(torch.nan_to_num(batch[image.name], nan=0.0), visible)[1][image.name]
        if image.patch_norm:
            mean, deviation = patch_statistics(target)
            predicted = predicted * deviation + mean
        known = visible.flatten(1)[..., None] | target.isnan()
        return unpatchify(torch.where(known, target, predicted), self.patch, visible.shape[1])

    def picture(
        self, batch: Batch, wavelengths_nm: Sequence[float | None]
    ) -> NDArray[np.uint8] | None:
        """Show images, what is seen of them, and what is made of that."""
        image = batch[self.modalities[0].name]
        painted = self.reconstruct(batch)
        return pictures.three_rows(image, batch[VISIBLE], painted, wavelengths_nm)


def check_sides(height: int, width: int, patch: int) -> None:
    """Check that images can be cut into patches.

    Raises:
        InputError: if they cannot.
    """
    if height % patch or width % patch:
        raise InputError(
            f"Images of {height} x {width} pixels cannot be cut into patches of {patch}.",
            f"Choose a multiple of {patch} as the side of crops.",
        )
