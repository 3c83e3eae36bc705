"""DeepLabV3+ decoder of segmentation-models-pytorch (Chen et al. 2018)."""

from __future__ import annotations

from torch import nn

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.encoders.pyramid import FULL, deepest, is_full
from mmearth.models.smp import smp


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build a DeepLabV3+.

    Args:
        config: encoder name, and options of ``smp.DeepLabV3Plus``.
        in_channels: number of input bands.
        classes: number of classes.

    Returns:
        A module from (B, in_channels, H, W) to (B, classes, H, W) float32 scores.

    Raises:
        ModelError: if the encoder has no map at stride 4 in the place where this decoder looks.
    """
    if is_full(config.encoder):
        raise ModelError(
            f"DeepLabV3+ cannot use {config.encoder!r}: it expects its maps at strides 1, 2, 4, ….",
            f"Leave out the ending {FULL!r}, or choose the decoder 'unet'.",
        )
    depth = deepest(config.encoder)
    return smp.DeepLabV3Plus(
        config.encoder,
        encoder_weights=None,
        in_channels=in_channels,
        classes=classes,
        **{
            "encoder_depth": depth,
            "encoder_output_stride": 8 if depth == 3 else 16,
            **config.options,
        },
    )
