"""Cosine classifier: a pixel belongs to the class whose direction its features point to.

The head of Dynamic World's network (Brown et al. 2022, doi:10.1038/s41597-022-01307-4): features
are brought to the size of the image first, and to length 1 then, so that scores stay small and
probabilities modest; a model's temperature makes up for that.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate

from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder

SHORTEST = 1e-3  # length of features; what is shorter is rounding, in bfloat16 at least


class CosineClassifier(nn.Module):
    """A linear map of the direction of the coarsest features.

    Shape:
        (B, C, H, W) float32, H and W multiples of the encoder's stride, to (B, classes, H, W).
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Conv2d(int(encoder.out_channels[-1]), classes, 1)  # type: ignore[index]
        nn.init.normal_(self.head.weight)  # of vectors of length 1, whose parts are small

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        features = self.encoder(x)[-1].float()  # lengths in bfloat16 are rough
        wide = interpolate(features, size=x.shape[-2:], mode="bilinear", align_corners=False)
        # Divided after the linear map: the same scores, from an eighth of the divisions.
        lengths = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(SHORTEST)
        bias = self.head.bias[:, None, None]  # type: ignore[index]
        scores: torch.Tensor = (self.head(wide) - bias) / lengths + bias
        return scores


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    return CosineClassifier(build_encoder(config.encoder, in_channels=in_channels), classes)
