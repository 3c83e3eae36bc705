"""The U-Net decoder that MMEarth publishes results with.

After MMEarth-train's models/convnextv2_unet.py, in whose names the parameters are.
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.encoders.convnextv2 import EPSILON, ConvNeXtV2Encoder
from mmearth.models.smp import smp

from timm.layers.norm import LayerNorm2d  # isort: skip  after mmearth.models.smp


class MMEarthUNet(nn.Module):
    """ConvNeXt V2 with skips from its stem and from its second and third stage.

    Shape:
        (B, C, H, W) float32, H and W multiples of the patch, to (B, classes, H, W).
    """

    def __init__(self, encoder: ConvNeXtV2Encoder, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        first, second, third, last = widths
        self.upsample_layers = nn.ModuleList(
            [
                _Upsample(last, last // 2, 2),
                _Upsample(2 * third, third // 2, 2),
                _Upsample(2 * second, second // 2, 2),
                _Upsample(2 * first, first, encoder.stem_stride),
            ]
        )
        self.initial_conv_upsample = nn.Sequential(
            nn.Conv2d(first if encoder.original_stem else 2 * first, first // 2, 3, padding=1),
            LayerNorm2d(first // 2, eps=EPSILON),
            nn.GELU(),
        )
        self.head = nn.Conv2d(first // 2, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        stem = self.encoder.stem_maps(x)
        _, second, third, x = self.encoder.stage_maps(stem[-1])
        # The stem itself, before the first stage, is what the third step meets.
        for step, skip in zip(self.upsample_layers, (third, second, stem[-1]), strict=False):
            x = torch.cat([step(x), skip], dim=1)
        x = self.upsample_layers[3](x)
        if not self.encoder.original_stem:
            x = torch.cat([x, stem[0]], dim=1)
        scores: torch.Tensor = self.head(self.initial_conv_upsample(x))
        return scores


class _Upsample(nn.Module):
    def __init__(self, before: int, after: int, factor: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=factor, mode="nearest")
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.norm = LayerNorm2d(after, eps=EPSILON)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act(self.norm(self.conv(self.upsample(x))))
        return y


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments as of ``build_network``.

    Raises:
        ModelError: if the encoder is not one of MMEarth's, with the padding for segmentation.
    """
    encoder = smp.encoders.get_encoder(config.encoder, in_channels=in_channels, depth=3)
    if not isinstance(encoder, ConvNeXtV2Encoder) or encoder.classification:
        raise ModelError(
            f"Expected an encoder mmearth-…, found {config.encoder!r}.",
            "Choose the decoder 'unet' for other encoders.",
        )
    return MMEarthUNet(encoder, encoder.widths, classes)
