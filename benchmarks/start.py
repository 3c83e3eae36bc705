"""Networks that begin with the weights of a saved model, though they read other bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmearth.models.card import ModelCard
from mmearth.models.network import load_weights
from mmearth.models.registry import build_network


@torch.no_grad()
def begin_with(
    module: torch.nn.Module, bands: Sequence[str], base: ModelCard, part: str = ""
) -> None:
    """Load a saved model's weights: of its first layer, those of the bands that both have.

    A band that the saved model does not know begins with weights of 0.

    Args:
        module: network of the same shape but for its bands, or a part of one.
        bands: that it reads.
        base: of the saved model.
        part: name of the part in the saved network, such as ``encoder.``; empty for all of it.
    """
    whole = build_network(base.network, in_channels=len(base.bands), classes=len(base.classes))
    load_weights(whole, base)
    known = [name for name in bands if name in base.bands]
    here, there = ([names.index(name) for name in known] for names in (bands, base.bands))
    state = whole.state_dict()
    for name, weights in module.state_dict().items():
        found = state[part + name]
        if weights.shape == found.shape:
            weights.copy_(found)
        else:
            weights.zero_()
            weights[:, here] = found[:, there]
