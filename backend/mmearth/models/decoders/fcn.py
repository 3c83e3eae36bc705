"""Fully convolutional head on an encoder's coarsest map.

After spectral_earth's src/models/semantic_segmentation_module.py, ``FCNHead`` (torchvision's head
without dropout, and narrower).
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.decoders.coarsest import CoarsestSegmenter
from mmearth.models.registry import build_encoder

NARROWING = 8


class FCN(CoarsestSegmenter):
    """Two convolutions on the coarsest map; shape as of ``CoarsestSegmenter``."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__(encoder)
        inside = self.channels // NARROWING
        self.classifier = nn.Sequential(
            nn.Conv2d(self.channels, inside, 3, padding=1, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, classes, 1),
        )

    def head_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        scores: torch.Tensor = self.classifier(features)
        return scores


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return FCN(build_encoder(config.encoder, in_channels=in_channels), classes)
