"""What decoders share that read nothing but an encoder's coarsest map."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn
from torch.nn.functional import interpolate


class CoarsestSegmenter(nn.Module):
    """A head on the coarsest map, and bilinear upsampling to the size of the image.

    Shape:
        (B, C, H, W) float32 to (B, classes, H, W).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def channels(self) -> int:
        """Channels of the coarsest map."""
        return int(self.encoder.out_channels[-1])  # type: ignore[index]

    @abstractmethod
    def head_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return the scores of each pixel of the map. (B, channels, h, w) to (B, classes, h, w)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        scores = self.head_scores(self.encoder(x)[-1])
        return interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=False)
