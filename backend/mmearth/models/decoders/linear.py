"""Linear probe: what an encoder's features say without a decoder's help."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate

from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder


class LinearProbe(nn.Module):
    """A linear map of the coarsest features, normalised, and bilinear upsampling.

    The batch norm without parameters is usual for linear probes (He et al. 2022, appendix A.1):
    features of different encoders differ in scale.

    Shape:
        (B, C, H, W) float32 to (B, classes, H, W).
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        channels = int(encoder.out_channels[-1])  # type: ignore[index]
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        scores = self.head(self.normalise(self.encoder(x)[-1]))
        return interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=False)


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return LinearProbe(build_encoder(config.encoder, in_channels=in_channels), classes)
