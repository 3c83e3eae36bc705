"""UpConv: learned upsampling of a vision transformer's tokens, from several of its blocks."""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.decoders.tokens import build_vit
from mmearth.models.encoders.vit import TAPS, ViTEncoder

WIDTH = 256  # channels of the first step; each further one has half as many, down to LEAST
LEAST = 32


class UpConv(nn.Module):
    """Tokens of four blocks side by side, then doubled in size until each pixel has its scores.

    Shape:
        (B, C, H, W) float32, H and W multiples of the patch, to (B, classes, H, W).
    """

    def __init__(self, encoder: ViTEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.fuse = nn.Conv2d(TAPS * encoder.width, WIDTH, 1)
        steps: list[nn.Module] = []
        width = WIDTH
        for _ in range(encoder.patch.bit_length() - 1):
            narrower = max(LEAST, width // 2)
            steps += _double(width, narrower)
            width = narrower
        self.decoder = nn.Sequential(*steps)
        self.segmentation_head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        tokens = torch.cat(self.encoder.token_maps(x), dim=1)
        scores: torch.Tensor = self.segmentation_head(self.decoder(self.fuse(tokens)))
        return scores


def _double(before: int, after: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(before, after, 2, stride=2),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return UpConv(build_vit(config, in_channels), classes)
