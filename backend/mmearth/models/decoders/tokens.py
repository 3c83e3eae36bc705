"""What decoders share that read a vision transformer's tokens."""

from __future__ import annotations

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.registry import build_encoder


def build_vit(config: NetworkConfig, in_channels: int) -> ViTEncoder:
    """Build the transformer of a network, without the neck that only other decoders need.

    Raises:
        ModelError: if the encoder is no transformer.
    """
    encoder = build_encoder(config.encoder, in_channels=in_channels)
    if not isinstance(encoder, ViTEncoder):
        raise ModelError(
            f"The decoder {config.decoder!r} expects a vision transformer, found "
            f"{config.encoder!r}.",
            "Choose an encoder vit-… or specvit-…, or the decoder 'unet'.",
        )
    encoder.drop_neck()
    return encoder
