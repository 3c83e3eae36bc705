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

# Decoder name -> module with build(config, in_channels, classes) -> nn.Module giving scores of each
# pixel's classes, or of its value where classes is 1; "scene" scores whole images, "features" none.
DECODERS = {
    "conv": "mmearth.models.decoders.conv",
    "cosine": "mmearth.models.decoders.cosine",
    "deeplabv3plus": "mmearth.models.decoders.deeplabv3plus",
    "fcn": "mmearth.models.decoders.fcn",
    "features": "mmearth.models.decoders.features",
    "hypercolumn": "mmearth.models.decoders.hypercolumn",
    "linear": "mmearth.models.decoders.linear",
    "onnx": "mmearth.models.decoders.onnx",
    "mmearth-unet": "mmearth.models.decoders.mmearth_unet",
    "scene": "mmearth.models.decoders.scene",
    "unet": "mmearth.models.decoders.unet",
    "upconv": "mmearth.models.decoders.upconv",
}

# Encoder family, the name up to a hyphen -> module that registers its members with
# segmentation-models-pytorch when imported. Families that are not listed are the library's own.
ENCODERS = {
    "detail": "mmearth.models.encoders.detail",
    "doubleconv": "mmearth.models.encoders.doubleconv",
    "mmearth": "mmearth.models.encoders.convnextv2",
    "separable": "mmearth.models.encoders.separable",
    "specresnet50": "mmearth.models.encoders.spectral",
    "spectrum": "mmearth.models.encoders.spectrum",
    "specvit": "mmearth.models.encoders.vit",
    "vit": "mmearth.models.encoders.vit",
}

TIMM = "tu-"  # begins the names under which segmentation-models-pytorch reaches timm's encoders
# What the libraries raise when parts do not fit each other.
MISFITS = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def build_network(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build a network with random weights.

    Returns:
        A module from (B, in_channels, H, W) to (B, classes, H, W) float32; to (B, classes) of the
        decoder "scene".

    Raises:
        ModelError: if the decoder or the encoder is unknown, or does not take the options.
    """
    if config.decoder not in DECODERS:
        raise ModelError(
            f"Unknown decoder {config.decoder!r}; known are {', '.join(sorted(DECODERS))}.",
            "Update MMEarth: the model is made for a newer version.",
        )
    if config.encoder:
        register_encoder(config.encoder)
    build: Callable[..., nn.Module] = import_module(DECODERS[config.decoder]).build
    try:
        return build(config, in_channels=in_channels, classes=classes)
    except MISFITS as error:
        raise ModelError(
            f"The network {config.decoder!r} on {config.encoder!r} cannot be built: "
            f"{_reason(error)}.",
            "Choose another encoder or decoder. If the model came ready made, update MMEarth: it "
            "is made for a newer version.",
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
    except MISFITS as error:
        raise ModelError(
            f"The encoder {name!r} for {in_channels} bands cannot be built: {_reason(error)}.",
            "Choose another encoder, or another number of bands.",
        ) from error
    return encoder


def register_encoder(encoder: str) -> None:
    """Import the module that tells segmentation-models-pytorch of an encoder of ours.

    Raises:
        ModelError: if there is no encoder of that name, or it reads one size of image only.
    """
    family = encoder.partition("-")[0]
    if family in ENCODERS:
        import_module(ENCODERS[family])
    from mmearth.models.encoders.pyramid import FULL
    from mmearth.models.smp import smp

    if encoder.startswith(TIMM):
        _check_timm(encoder)
    elif encoder not in smp.encoders.encoders:
        plain = encoder.removesuffix(FULL)
        raise ModelError(
            f"The encoder {encoder!r} cannot be built: there is none of that name.",
            f"Choose {plain!r}, which begins with the image as it is."
            if plain in smp.encoders.encoders
            else f"Check the name; those of timm's encoders begin with {TIMM!r}. If the model came "
            "ready made, update MMEarth: it is made for a newer version.",
        )


def _check_timm(encoder: str) -> None:
    import timm

    name = encoder.removeprefix(TIMM)
    if not timm.is_model(name):
        raise ModelError(
            f"The encoder {encoder!r} cannot be built: timm has none of that name.",
            "Check the name. If the model came ready made, update MMEarth: it is made for a newer "
            "version.",
        )
    facts = timm.models.get_pretrained_cfg(name)
    if facts and facts.fixed_input_size:
        raise ModelError(
            f"The encoder {encoder!r} cannot be used: it reads images of "
            f"{facts.input_size[-1]} pixels a side only, and tiles come in many sizes.",
            "Choose an encoder that reads any size.",
        )


def _reason(error: Exception) -> str:
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return words.rstrip(".!") or "the two do not go together"


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
