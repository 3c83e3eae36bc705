"""Labels of a whole image: a linear layer on an encoder's pooled features.

Pooled as those who publish the encoders do: vision transformers by their class token
(SpectralEarth, SSL4EO-S12), MMEarth's ConvNeXt V2 by the average of its coarsest map,
layer-normalised (MMEarth-train's models/convnextv2.py), all others by that average alone
(SpectralEarth, torchvision).
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.encoders.convnextv2 import EPSILON, ConvNeXtV2Encoder
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.registry import build_encoder

from segmentation_models_pytorch.base import ClassificationHead  # isort: skip  after the encoders


class SceneClassifier(nn.Module):
    """Scores of the labels that an image may bear, each apart from the others.

    Shape:
        (B, C, H, W) float32 to (B, classes).
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = _head(encoder, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of labels."""
        if isinstance(self.encoder, ViTEncoder):
            features = self.encoder.class_token(x)
        else:
            features = self.encoder(x)[-1]
        scores: torch.Tensor = self.head(features)
        return scores


def _head(encoder: nn.Module, classes: int) -> nn.Module:
    if isinstance(encoder, ViTEncoder):
        return nn.Linear(encoder.width, classes)
    channels = int(encoder.out_channels[-1])  # type: ignore[index]
    head = ClassificationHead(channels, classes, dropout=0)
    if isinstance(encoder, ConvNeXtV2Encoder):
        pool, flatten, *rest = head
        return nn.Sequential(pool, flatten, nn.LayerNorm(channels, eps=EPSILON), *rest)
    return head


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``."""
    encoder = build_encoder(config.encoder, in_channels=in_channels)
    if isinstance(encoder, ViTEncoder):
        encoder.drop_neck()
    return SceneClassifier(encoder, classes)
