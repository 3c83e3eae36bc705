"""How much a network computes."""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.decoders.hypercolumn import Hypercolumn

LAYERS = (nn.Conv2d, nn.Conv3d, nn.Linear)


def multiply_adds_per_pixel(network: nn.Module, bands: int, side: int = 64) -> float:
    """Count the multiply-adds of convolutions and linear layers, for each pixel of the input.

    Args:
        network: in evaluation mode; takes (1, bands, side, side).
        bands: of the input.
        side: of the image to count on, a multiple of the network's stride.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight: torch.Tensor = module.weight  # type: ignore[assignment]
        transposed = isinstance(module, nn.ConvTranspose2d)
        total += (inputs[0] if transposed else output).numel() * weight[0].numel()

    counted = [m for m in network.modules() if isinstance(m, (*LAYERS, nn.ConvTranspose2d))]
    hooks = [module.register_forward_hook(count) for module in counted]
    with torch.inference_mode():
        network(torch.zeros(1, bands, side, side))
    for hook in hooks:
        hook.remove()
    if isinstance(network, Hypercolumn):  # which computes with its layers' weights by itself
        total += (network.first.weight.numel() + network.last.weight.numel()) * side**2
    return float(round(total / side**2))
