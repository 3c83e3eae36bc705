"""U-Net decoder of segmentation-models-pytorch (Ronneberger et al. 2015)."""

from __future__ import annotations

from torch import nn

from mmearth.models.card import NetworkConfig
from mmearth.models.smp import smp


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
        **config.options,
    )
