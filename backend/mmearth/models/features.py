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

# Of models that map classes. What tells places of one kind from others lies in maps as fine as
# this; the coarsest of a U-Net sees little but its surroundings.
USUAL_STRIDE = 4


class EncoderMaps(nn.Module):
    """An encoder's feature maps, one a stride; of a transformer, the last block's tokens alone.

    A transformer's own maps are made by a neck that no published file holds: it is untrained.

    Shape:
        (B, C, H, W) float32 to maps (B, channels, H / stride, W / stride), the finest first.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps; the image itself is none."""
        if isinstance(self.encoder, ViTEncoder):
            return self.encoder.token_maps(x, count=1)[-1:]
        return [level for level in self.encoder(x) if level is not x and level.shape[1]]


class FeatureNetwork(LoadedModel):
    """A model loaded on a device, from reflectance to the features of its encoder.

    Of a model that maps classes the encoder is taken, and its decoder left out.

    Args:
        card: of the model.
        settings: settings of the backend.
        stride: pixels of input along a side of a pixel of the features; see ``EmbedSpec``.

    Attributes:
        channels: number of features.
        cell: pixels of input along a side of a pixel of the features.
    """

    def __init__(self, card: ModelCard, settings: Settings, stride: int | None = None) -> None:
        super().__init__(card, settings)
        side = max(PROBE_SIDE, 2 * card.stride)
        image = torch.zeros(1, len(card.bands), side, side, device=self.device)
        with torch.inference_mode():
            maps = self.forward(image, torch.ones(1, side, side, dtype=torch.bool).to(image.device))
        places = {
            side // level.shape[2]: place
            for place, level in enumerate(maps)
            if side % level.shape[2] == 0 and card.stride % (side // level.shape[2]) == 0
        }
        if not places:
            raise ModelError(
                f"The encoder of {card.title} makes {maps[-1].shape[2]} x {maps[-1].shape[3]} "
                f"pixels of features from {side} x {side}, which have no fixed place on the map.",
                "Choose another model.",
            )
        if stride is None:
            coarsest = max(places)
            usual = min(places, key=lambda found: (abs(found - USUAL_STRIDE), found))
            stride = coarsest if card.task == "features" else usual
        if stride not in places:
            offered = ", ".join(str(found) for found in sorted(places))
            raise ModelError(
                f"{card.title} has no features of which one pixel covers {stride} x {stride} "
                f"pixels; it offers {offered}.",
                "Choose one of these.",
            )
        self.cell = stride
        self._place = places[stride]
        self.channels = int(maps[self._place].shape[1])

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
        return EncoderMaps(encoder)

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
            maps = self.forward(
                torch.from_numpy(images).to(self.device), torch.from_numpy(masks).to(self.device)
            )
            return maps[self._place].float()
