"""Linear probe: what an encoder's features say without a decoder's help."""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.decoders.coarsest import CoarsestSegmenter
from mmearth.models.registry import build_encoder


class LinearProbe(CoarsestSegmenter):
    """A linear map of the coarsest features, normalised; shape as of ``CoarsestSegmenter``.

    The batch norm without parameters is usual for linear probes (He et al. 2022, appendix A.1):
    features of different encoders differ in scale.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__(encoder)
        self.normalise = nn.BatchNorm2d(self.channels, affine=False)
        self.head = nn.Conv2d(self.channels, classes, 1)

    def head_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise and map."""
        scores: torch.Tensor = self.head(self.normalise(features))
        return scores


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return LinearProbe(build_encoder(config.encoder, in_channels=in_channels), classes)
