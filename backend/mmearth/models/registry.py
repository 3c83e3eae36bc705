"""Installed models, and the parts that networks are built from.

A new decoder or encoder is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth.errors import ModelError
from mmearth.models.card import CARD_NAME, ModelCard, NetworkConfig, read_card

if TYPE_CHECKING:
    from torch import nn

# Decoder name -> module with build(config, in_channels, classes) -> nn.Module giving class scores.
DECODERS = {
    "conv": "mmearth.models.decoders.conv",
    "deeplabv3plus": "mmearth.models.decoders.deeplabv3plus",
    "fcn": "mmearth.models.decoders.fcn",
    "features": "mmearth.models.decoders.features",
    "linear": "mmearth.models.decoders.linear",
    "onnx": "mmearth.models.decoders.onnx",
    "mmearth-unet": "mmearth.models.decoders.mmearth_unet",
    "unet": "mmearth.models.decoders.unet",
    "upconv": "mmearth.models.decoders.upconv",
}

# Encoder family, the name up to a hyphen -> module that registers its members with
# segmentation-models-pytorch when imported. Families that are not listed are the library's own.
ENCODERS = {
    "detail": "mmearth.models.encoders.detail",
    "doubleconv": "mmearth.models.encoders.doubleconv",
    "mmearth": "mmearth.models.encoders.convnextv2",
    "specresnet50": "mmearth.models.encoders.spectral",
    "specvit": "mmearth.models.encoders.vit",
    "vit": "mmearth.models.encoders.vit",
}


def build_network(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build a network with random weights.

    Returns:
        A module from (B, in_channels, H, W) to (B, classes, H, W) float32.

    Raises:
        ModelError: if the decoder or the encoder is unknown, or does not take the options.
    """
    if config.decoder not in DECODERS:
        raise ModelError(
            f"Unknown decoder {config.decoder!r}; known are {', '.join(sorted(DECODERS))}.",
            "Update MMEarth: the model is made for a newer version.",
        )
    register_encoder(config.encoder)
    build: Callable[..., nn.Module] = import_module(DECODERS[config.decoder]).build
    try:
        return build(config, in_channels=in_channels, classes=classes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"The network {config.decoder!r} on {config.encoder!r} cannot be built: {error}.",
            "Update MMEarth: the model is made for a newer version.",
        ) from error


def build_encoder(name: str, *, in_channels: int) -> nn.Module:
    """Build an encoder with random weights, all of its maps in use.

    Raises:
        ModelError: if it is unknown, or does not read so many bands.
    """
    register_encoder(name)
    from mmearth.models.encoders.pyramid import deepest
    from mmearth.models.smp import smp

    try:
        encoder: nn.Module = smp.encoders.get_encoder(
            name, in_channels=in_channels, depth=deepest(name)
        )
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The encoder {name!r} for {in_channels} bands cannot be built: {error}.",
            "Choose another encoder, or another number of bands.",
        ) from error
    return encoder


def register_encoder(encoder: str) -> None:
    """Import the module that tells segmentation-models-pytorch of an encoder of ours."""
    family = encoder.partition("-")[0]
    if family in ENCODERS:
        import_module(ENCODERS[family])


def installed_models(folders: Iterable[Path]) -> list[ModelCard]:
    """Read the cards of all installed models; of two with one identifier the first folder's wins.

    Damaged models are left out; naming one of them to ``find_model`` says what is wrong with it.
    """
    cards: dict[str, ModelCard] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*/{CARD_NAME}")):
            try:
                card = read_card(path.parent)
            except ModelError:
                continue
            cards.setdefault(card.id, card)
    return list(cards.values())


def find_model(model_id: str, folders: Iterable[Path]) -> ModelCard:
    """Return the card of an installed model.

    Raises:
        ModelError: if there is none, or it is damaged.
    """
    folders = list(folders)
    cards = installed_models(folders)
    for card in cards:
        if card.id == model_id:
            return card
    for folder in folders:
        if Path(model_id).name == model_id and (folder / model_id / CARD_NAME).is_file():
            read_card(folder / model_id)  # says what is wrong with it
    known = ", ".join(card.id for card in cards) or "none"
    raise ModelError(f"No model {model_id!r} is installed.", f"Installed models: {known}.")
