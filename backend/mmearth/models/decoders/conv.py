"""SpectralEarth's convolutional head for vision transformers.

After spectral_earth's src/models/semantic_segmentation_module.py, ``ConvHead``.
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.decoders.tokens import build_vit
from mmearth.models.encoders.vit import ViTEncoder

WIDTH = 128  # channels after the first step; each further one halves them


class ConvSegmenter(nn.Module):
    """The last block's tokens, doubled in size and convolved until each pixel has its scores.

    Shape:
        (B, C, H, W) float32, H and W multiples of the patch, to (B, classes, H, W).
    """

    def __init__(self, encoder: ViTEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.ModuleDict({"segmentation_conv": _steps(encoder, classes)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        (tokens,) = self.encoder.token_maps(x, count=1)
        scores: torch.Tensor = self.head["segmentation_conv"](tokens)
        return scores


def _steps(encoder: ViTEncoder, classes: int) -> nn.Sequential:
    count = encoder.patch.bit_length() - 1
    layers: list[nn.Module] = []
    before = encoder.width
    for number in range(count):
        last = number == count - 1
        after = classes if last else WIDTH // 2**number
        layers += [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(before, after, 3, padding=1),
        ]
        if not last:
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        before = after
    return nn.Sequential(*layers)


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return ConvSegmenter(build_vit(config, in_channels), classes)
