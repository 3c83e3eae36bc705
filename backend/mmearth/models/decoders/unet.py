"""U-Net decoder of segmentation-models-pytorch (Ronneberger et al. 2015)."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.encoders.pyramid import deepest
from mmearth.models.smp import smp

WIDTHS = (256, 128, 64, 32, 16)  # of the decoder, coarsest first: the library's own


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build a U-Net.

    Args:
        config: encoder name, and options of ``smp.Unet`` (encoder_depth, decoder_channels, …).
        in_channels: number of input bands.
        classes: number of classes.

    Returns:
        A module from (B, in_channels, H, W) to (B, classes, H, W) float32 scores.
    """
    return smp.Unet(
        config.encoder,
        encoder_weights=None,
        in_channels=in_channels,
        classes=classes,
        **with_defaults(config),
    )


def with_defaults(config: NetworkConfig) -> dict[str, Any]:
    """Return the options with the encoder's whole depth, and a width for each step of it."""
    depth = config.options.get("encoder_depth", deepest(config.encoder))
    return {"encoder_depth": depth, "decoder_channels": WIDTHS[-depth:], **config.options}
