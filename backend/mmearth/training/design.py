"""Which levels of a network a quick head is built on, and what each of its members sees.

Measured with ``python -m benchmarks fewshot``'s data: of a network that was trained to map, the
decoder's last map says more than the encoder's many, and from few labels; of a mere encoder, the
fine maps do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mmearth.models.card import ModelCard, NetworkConfig
from mmearth.models.decoders.hypercolumn import base_of
from mmearth.models.levels import IMAGE, decodes, levels, nothing_to_build_on
from mmearth.models.network import load_weights
from mmearth.models.registry import build_network
from mmearth.training.head import Member

DROPOUT = 0.3  # of what the network says; the bands are few, and each counts
FINE_STRIDE = 4  # of encoders' maps that are used, if there are any
HYPERCOLUMN = "hypercolumn"


@dataclass(frozen=True)
class Design:
    """The plan of a head.

    Attributes:
        chosen: numbers of the levels that are used, see ``mmearth.models.levels``.
        widths: channels of each.
        members: of the head.
    """

    chosen: tuple[int, ...]
    widths: tuple[int, ...]
    members: tuple[Member, ...]


def design(base: nn.Module, bands: int, stride: int) -> Design:
    """Plan a head.

    Args:
        base: a network of ``build_network``, in evaluation mode.
        bands: that it reads.
        stride: sides of its input are multiples of it.

    Raises:
        ModelError: if the network shows nothing but its result.
    """
    side = max(64, 2 * stride)
    device = next(base.parameters()).device
    with torch.no_grad():
        maps = levels(base, torch.zeros(1, bands, side, side, device=device))
    if decodes(base):
        said: tuple[int, ...] = (len(maps) - 1,)
    else:
        strides = [side // level.shape[-1] for level in maps]
        fine = [i for i, s in enumerate(strides) if i != IMAGE and s <= FINE_STRIDE]
        # Of a transformer's maps, which are all alike in size, the last.
        said = tuple(fine) or (max(range(1, len(maps)), key=lambda i: (-strides[i], i)),)
    chosen = (IMAGE, *said)
    widths = tuple(maps[number].shape[1] for number in chosen)
    return Design(chosen, widths, (Member(widths[0]), Member(sum(widths), DROPOUT)))


def load_whole(card: ModelCard) -> nn.Module:
    """Build a model's network, with its weights, in evaluation mode.

    Raises:
        ModelError: if the weights are missing or damaged, or do not fit; if the model shows nothing
            but its result.
    """
    card.check_weights()
    if card.is_onnx:
        raise nothing_to_build_on()
    module = build_network(card.network, in_channels=len(card.bands), classes=card.output_count)
    load_weights(module, card)
    return module.eval()


def load_base(card: ModelCard) -> tuple[nn.Module, NetworkConfig, int]:
    """Build what a head can be built on, with its weights; of a head, what that one is built on.

    Returns:
        The network in evaluation mode, how it is built, and its number of classes.

    Raises:
        ModelError: as of ``load_whole``.
    """
    module = load_whole(card)
    if card.network.decoder != HYPERCOLUMN:
        return module, card.network, card.output_count
    base: nn.Module = module.base  # type: ignore[assignment]
    return base, *base_of(card.network)
