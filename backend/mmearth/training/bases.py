"""The network that is trained on, built from a base with a head for new classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.card import ModelCard, NetworkConfig
from mmearth.models.cost import multiply_adds_per_pixel
from mmearth.models.decoders.hypercolumn import base_of
from mmearth.models.decoders.unet import WIDTHS
from mmearth.models.encoders.pyramid import FULL, deepest
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.registry import build_network, register_encoder
from mmearth.models.smp import smp
from mmearth.training.design import HYPERCOLUMN, load_base, load_whole

SCENE = "-scene"  # ends the names of encoders whose maps have no even strides
ENCODERS_ONLY = {"features", "scene"}  # decoders that give no map


def build_base(
    card: ModelCard, names: Sequence[str], *, from_scratch: bool, seed: int
) -> tuple[NetworkConfig, nn.Module]:
    """Build a network for new classes on a base.

    A base that maps keeps its encoder and decoder, and of its head the rows of classes that have
    the name or title of a new one. One with a head on hypercolumns keeps that if it knows them all.
    An encoder gets a U-Net decoder; a vision transformer learned upsampling of its tokens.

    Args:
        card: of the base.
        names: of the new classes.
        from_scratch: build the same, and load no weights.
        seed: of the weights that are drawn at random.

    Returns:
        How the network is built, and the network, in evaluation mode.

    Raises:
        ModelError: if the base is an ONNX file, damaged, or has no encoder.
    """
    if card.is_onnx:
        raise ModelError(
            f"{card.title} is an ONNX file, which can be run but not trained.",
            "Choose a model or an encoder with weights of its own.",
        )
    bands = len(card.bands)
    old: nn.Module | None
    if from_scratch:
        old, old_config = None, _config(card)
    elif knows(card, names):
        old, old_config = load_whole(card), card.network
    else:
        old, old_config = load_base(card)[:2]
    maps = old_config.decoder not in ENCODERS_ONLY
    config = old_config if maps else _with_decoder(old_config)
    torch.manual_seed(seed)
    network = build_network(config, in_channels=bands, classes=len(names)).eval()
    if old and maps:
        _load_all_but_head(network, old)
        if config == card.network:
            _copy_rows(network, old, card, names)
    elif old:
        _load_encoder(network, old)
    cost = multiply_adds_per_pixel(network, bands, max(64, 2 * card.stride))
    return config.model_copy(update={"multiply_adds_per_pixel": max(1.0, cost)}), network


def knows(card: ModelCard, names: Sequence[str]) -> bool:
    """Tell whether all of the classes are, by name or title, among those of a base."""
    return {name.casefold() for name in names} <= set(_rows(card))


def head_name(network: nn.Module) -> str:
    """Return the name of the layer that gives the scores: the last one of a network."""
    layers = [
        name for name, part in network.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    return layers[-1]


def _config(card: ModelCard) -> NetworkConfig:
    """Return how the network of a base is built, without a head on hypercolumns."""
    return base_of(card.network)[0] if card.network.decoder == HYPERCOLUMN else card.network


def _with_decoder(config: NetworkConfig) -> NetworkConfig:
    """Return how a network that maps is built on an encoder."""
    name = config.encoder.removesuffix(SCENE)
    register_encoder(name)
    known = smp.encoders.encoders
    if known.get(name, {}).get("encoder") is ViTEncoder:
        return NetworkConfig(decoder="upconv", encoder=name, multiply_adds_per_pixel=1)
    # A U-Net leaves out an encoder's first map, unless the image stands before it.
    if name + FULL in known and deepest(name + FULL) <= len(WIDTHS):
        name += FULL
    return NetworkConfig(decoder="unet", encoder=name, multiply_adds_per_pixel=1)


def _load_encoder(network: nn.Module, old: nn.Module) -> None:
    """Load the weights of an encoder; of a transformer without the neck, which is untrained."""
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    known = old.encoder.state_dict()  # type: ignore[union-attr]
    encoder.load_state_dict({name: known[name] for name in encoder.state_dict()})


def _load_all_but_head(network: nn.Module, old: nn.Module) -> None:
    head = head_name(network) + "."
    kept = {name: value for name, value in network.state_dict().items() if name.startswith(head)}
    network.load_state_dict({**old.state_dict(), **kept})


def _rows(card: ModelCard) -> dict[str, int]:
    """Return the place of each class in a base's result, by name and by title."""
    return {name.casefold(): place for place, row in enumerate(card.classes)
            for name in (row.name, row.title)}  # fmt: skip


def _copy_rows(network: nn.Module, old: nn.Module, card: ModelCard, names: Sequence[str]) -> None:
    """Give classes that the base knows their rows of its head."""
    known = _rows(card)
    new_head, old_head = (part.get_submodule(head_name(part)) for part in (network, old))
    with torch.no_grad():
        for number, name in enumerate(names):
            place = known.get(name.casefold())
            if place is not None:
                for new, before in zip(new_head.parameters(), old_head.parameters(), strict=True):
                    new[number] = before[place]
