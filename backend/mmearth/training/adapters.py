"""Small additions to a frozen encoder, and how fast each of its layers learns.

Low-rank updates (LoRA, Hu et al. 2021, arXiv:2106.09685) of linear and convolutional weights, and
the scales and shifts of normalisation layers; of SpectralEarth's encoders, their spectral adapter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrize

from mmearth.models.encoders.convnextv2 import GlobalResponseNorm
from mmearth.models.encoders.spectral import SpectralAdapter

RANK = 8
STRENGTH = 2.0  # of an update: alpha / rank of the paper
LEVELS = 12  # groups of layers by depth, each with a speed of its own
SLOWEST = 0.1  # speed of the first layer, against 1 of the decoder

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, GlobalResponseNorm)


class LowRank(nn.Module):
    """weight + strength x (second @ first), in the weight's own shape.

    Args:
        weight: of a linear or convolutional layer, (out, in, ...).
        rank: of the update.
    """

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        out, inside = weight.shape[0], weight[0].numel()
        self.first = nn.Parameter(weight.new_empty(rank, inside))
        self.second = nn.Parameter(weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.first, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight."""
        return weight + STRENGTH * (self.second @ self.first).view_as(weight)


def add_adapters(encoder: nn.Module) -> list[nn.Parameter]:
    """Freeze an encoder but for what an adapter changes.

    Returns:
        What is to be trained.
    """
    encoder.requires_grad_(False)
    spectral = [part for part in encoder.modules() if isinstance(part, SpectralAdapter)]
    for part in spectral:
        part.requires_grad_(True)
    if not spectral:
        for norm in _of(encoder, NORMS):
            norm.requires_grad_(True)
        for layer in _of(encoder, (nn.Linear, nn.Conv2d)):
            _add_low_rank(layer)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def _of(encoder: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    return [module for module in encoder.modules() if isinstance(module, kinds)]


def _add_low_rank(layer: nn.Module) -> None:
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    # A depthwise kernel is so small that an update of low rank would be no smaller.
    if min(weight.shape[0], weight[0].numel()) > RANK and weight.shape[1] > 1:
        parametrize.register_parametrization(layer, "weight", LowRank(weight, RANK))


def merge_adapters(network: nn.Module) -> None:
    """Add low-rank updates to the weights, which have their own names again."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def layer_speeds(network: nn.Module, encoder: nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Return how fast each parameter learns: the earlier in the encoder, the slower.

    What a network's first layers know holds for every task (layer-wise learning-rate decay, Clark
    et al. 2020, arXiv:2003.10555). Layers are ordered as an image meets them.

    Args:
        network: in evaluation mode.
        encoder: part of it.
        image: (1, C, H, W), of any content.

    Returns:
        Name of each parameter of the network -> ``SLOWEST`` to 1.
    """
    met: list[nn.Module] = []
    leaves = [
        part for part in encoder.modules() if next(iter(part.parameters(recurse=False)), None)
        is not None and not list(part.children())
    ]  # fmt: skip
    hooks = [
        leaf.register_forward_hook(lambda module, inputs, output: met.append(module))
        for leaf in leaves
    ]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    places = {id(layer): place for place, layer in reversed(list(enumerate(met)))}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    speeds = dict.fromkeys(names.values(), 1.0)
    for name, parameter in encoder.named_parameters():
        owner = encoder.get_submodule(name.rpartition(".")[0])
        level = places.get(id(owner), 0) * LEVELS // max(1, len(met))
        speeds[names[id(parameter)]] = SLOWEST ** (1 - level / LEVELS)
    return speeds


def parameter_groups(
    network: nn.Module, speeds: dict[str, float], learning_rate: float, weight_decay: float
) -> Iterable[dict[str, object]]:
    """Return groups of parameters for an optimiser; scales and shifts do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((speeds.get(name, 1.0), decay), []).append(parameter)
    return [
        {"params": members, "lr": learning_rate * speed, "peak": learning_rate * speed,
         "weight_decay": decay}
        for (speed, decay), members in groups.items()
    ]  # fmt: skip
