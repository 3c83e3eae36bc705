"""A model's encoder, from reflectance to features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.card import ModelCard
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.network import PROBE_SIDE, LoadedModel, memory_explained
from mmearth.settings import Settings


class CoarsestMap(nn.Module):
    """An encoder's coarsest feature map; of a transformer, the last block's normalised tokens.

    A transformer's own maps are made by a neck that no published file holds: it is untrained.

    Shape:
        (B, C, H, W) float32 to (B, channels, H / cell, W / cell).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the coarsest map."""
        if isinstance(self.encoder, ViTEncoder):
            return self.encoder.token_maps(x, count=1)[-1]
        coarsest: torch.Tensor = self.encoder(x)[-1]
        return coarsest


class FeatureNetwork(LoadedModel):
    """A model loaded on a device, from reflectance to the features of its encoder.

    Of a model that maps classes the encoder is taken, and its decoder left out.

    Attributes:
        channels: number of features.
        cell: pixels of input along a side of a pixel of the features.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        super().__init__(card, settings)
        side = max(PROBE_SIDE, 2 * card.stride)
        found = self.features(
            np.zeros((1, len(card.bands), side, side), np.float32), np.ones((1, side, side), bool)
        )
        self.channels = found.shape[1]
        self.cell = side // found.shape[2]
        if side % found.shape[2] or card.stride % self.cell:
            raise ModelError(
                f"The encoder of {card.title} makes {found.shape[2]} x {found.shape[3]} pixels of "
                f"features from {side} x {side}, which have no fixed place on the map.",
                "Choose another model.",
            )

    def build(self) -> nn.Module:
        """Build the encoder; the weights of the whole model are checked and loaded.

        Raises:
            ModelError: if the model has no encoder, or its weights do not fit.
        """
        encoder = getattr(super().build(), "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise ModelError(
                f"{self.card.title} has no encoder whose features could be shown.",
                "Choose another model.",
            )
        return CoarsestMap(encoder)

    @torch.inference_mode()
    def features(self, images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        """Compute the features of a batch of tiles.

        Args:
            images: (B, C, H, W) float32, reflectance; H and W multiples of the card's stride.
            masks: (B, H, W) bool, False where there is no data.

        Returns:
            (B, channels, H / cell, W / cell) float32 on this network's device.

        Raises:
            OutOfMemoryError: if the device's memory does not suffice.
        """
        with memory_explained(self.device):
            return self.forward(
                torch.from_numpy(images).to(self.device), torch.from_numpy(masks).to(self.device)
            ).float()
