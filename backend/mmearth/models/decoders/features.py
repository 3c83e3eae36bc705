"""No decoder: an encoder's coarsest feature map, for what is trained or compared on it later."""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder


class Features(nn.Module):
    """(B, C, H, W) float32 to (B, channels, H / stride, W / stride)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the coarsest map."""
        features: torch.Tensor = self.encoder(x)[-1]
        return features


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``, ``classes`` aside."""
    return Features(build_encoder(config.encoder, in_channels=in_channels))
