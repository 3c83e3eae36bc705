"""The encoders that are evaluated: their cards, and networks on them with weights of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mmearth.api import EncoderChoice
from mmearth.errors import InputError, ModelError, listed
from mmearth.evaluation.tiles import Kind
from mmearth.models.card import CARD_NAME, ModelCard, NetworkConfig, read_card
from mmearth.models.decoders.hypercolumn import base_of
from mmearth.models.decoders.scene import SceneClassifier
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.features import EncoderMaps
from mmearth.models.levels import nothing_to_build_on
from mmearth.models.registry import build_network, find_model
from mmearth.settings import Settings
from mmearth.training.bases import build_base
from mmearth.training.design import HYPERCOLUMN, load_base


@dataclass(frozen=True)
class Candidate:
    """An encoder to be evaluated.

    Attributes:
        name: in tables and figures.
        card: of its model.
        random: whether its weights are drawn at random.
    """

    name: str
    card: ModelCard
    random: bool

    def encoder(self, seed: int) -> nn.Module:
        """Return the encoder, in evaluation mode; of a random one the weights of a seed.

        Raises:
            ModelError: if the model has none, or is damaged.
        """
        if self.random:
            torch.manual_seed(seed)
            network = build_network(
                _config(self.card), in_channels=len(self.card.bands), classes=_count(self.card)
            )
        else:
            network = load_base(self.card)[0]
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise nothing_to_build_on()
        return encoder.eval()

    def network(self, kind: Kind, classes: int, seed: int) -> nn.Module:
        """Return a network with a head or decoder of a seed on the encoder.

        Pixels are told by the decoder that ``mmearth finetune`` would train, images by a linear
        layer on pooled features (``mmearth.models.decoders.scene``).

        Args:
            kind: of the labels.
            classes: their number.
            seed: of the weights that are drawn at random.

        Raises:
            ModelError: as of ``encoder``.
        """
        if kind == "pixel":
            # No class of the model has such a name, so no head is taken over.
            names = [f"class {number} to be learned" for number in range(classes)]
            return build_base(self.card, names, from_scratch=self.random, seed=seed)[1]
        encoder = self.encoder(seed)
        if isinstance(encoder, ViTEncoder):
            encoder.drop_neck()
        torch.manual_seed(seed)
        return SceneClassifier(encoder, classes).eval()


def find_candidates(choices: list[EncoderChoice], settings: Settings) -> list[Candidate]:
    """Return the encoders of a request.

    Raises:
        InputError: if two have the same name.
        ModelError: if there is none of a name, or it cannot be built on.
    """
    found = []
    for choice in choices:
        folder = Path(choice.model)
        if (folder / CARD_NAME).is_file():
            card = read_card(folder)
        else:
            card = find_model(choice.model, settings.model_folders)
        if card.is_onnx:
            raise ModelError(
                f"{card.title} is an ONNX file, whose features are out of reach.",
                "Choose a model that did not come as ONNX.",
            )
        if card.normalisation.inside and choice.random:
            raise ModelError(
                f"{card.title} normalises its input by weights of its own, which cannot be drawn "
                "at random.",
                "Choose another model.",
            )
        usual = f"{card.id} (random)" if choice.random else card.id
        found.append(Candidate(choice.name or usual, card, choice.random))
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"Two encoders have the same name: {listed(twice)}.", "Give each a name of its own."
        )
    return found


def pooled(encoder: nn.Module, classes: int = 1) -> nn.Module:
    """Return what gives one row of features an image, as the scene head of the encoder pools.

    Shape:
        (B, C, H, W) float32 to (B, channels).
    """
    network = SceneClassifier(encoder, classes)
    head = network.head
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    last = max(n for n, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    network.head = nn.Sequential(*layers[:last])
    return network.eval()


def mapped(encoder: nn.Module) -> nn.Module:
    """Return what gives the coarsest map of features. (B, C, H, W) to (B, channels, h, w)."""
    return _Coarsest(EncoderMaps(encoder)).eval()


class _Coarsest(nn.Module):
    def __init__(self, maps: EncoderMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last map."""
        coarsest: torch.Tensor = self.maps(x)[-1]
        return coarsest


def _config(card: ModelCard) -> NetworkConfig:
    """Return how the network is built that holds the encoder."""
    return base_of(card.network)[0] if card.network.decoder == HYPERCOLUMN else card.network


def _count(card: ModelCard) -> int:
    return base_of(card.network)[1] if card.network.decoder == HYPERCOLUMN else card.output_count
