"""Fully convolutional head on an encoder's coarsest map.

After spectral_earth's src/models/semantic_segmentation_module.py, ``FCNHead`` (torchvision's head
without dropout, and narrower).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate

from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder

NARROWING = 8


class FCN(nn.Module):
    """Two convolutions on the coarsest map, and bilinear upsampling to the size of the image.

    Shape:
        (B, C, H, W) float32 to (B, classes, H, W).
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        channels = int(encoder.out_channels[-1])  # type: ignore[index]
        inside = channels // NARROWING
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, inside, 3, padding=1, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, classes, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        scores = self.classifier(self.encoder(x)[-1])
        return interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=False)


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return FCN(build_encoder(config.encoder, in_channels=in_channels), classes)
