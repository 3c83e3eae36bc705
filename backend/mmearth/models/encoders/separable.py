"""Blocks of separable convolutions at half resolution, beneath one layer at full resolution.

The plan of Dynamic World's network (Brown et al. 2022, doi:10.1038/s41597-022-01307-4; its diagram
stands in github.com/google/dynamicworld, there with 64 channels): one convolution at full
resolution, an antialiased halving, and at half resolution blocks of three separable convolutions,
each block with a shortcut and 1.5 times as wide as the one before. What the first layer saw is put
in again before the last block. It looks 20 pixels far, has few weights and computes little. SiLU
stands for Mish, which hardly differs and takes PyTorch several times as long.
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.encoders.pyramid import PyramidEncoder, register

LAYERS = 3  # separable convolutions of a block


class SeparableEncoder(PyramidEncoder):
    """Feature maps at strides 1 and 2.

    Shape:
        (B, C, H, W) float32, H and W even, to (B, width, H, W) and (B, 9/4 width, H/2, W/2); before
        them the image itself if ``full``.

    Args:
        width: channels of the first layer, a multiple of 4.
        full, depth, output_stride: see ``PyramidEncoder``.
    """

    def __init__(self, *, width: int, full: bool, depth: int = 1, output_stride: int = 2) -> None:
        wider, widest, beside = width * 3 // 2, width * 9 // 4, width * 3 // 4
        super().__init__([width, widest], full=full, depth=depth, output_stride=output_stride)
        self._width = width
        self.read_bands(3)
        self.halve = nn.Conv2d(width, width, 4, stride=2, padding=1, groups=width, bias=False)
        # Bilinear and antialiased to begin with: one half of a pixel's weight lies beyond its own.
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        with torch.no_grad():
            self.halve.weight.copy_(taps[:, None] * taps)
        self.blocks = nn.Sequential(_Block(width, wider), _Block(wider, widest))
        self.beside = _separable(width, beside)
        self.last = _Block(widest + beside, widest)

    def read_bands(self, count: int) -> None:
        """Begin the layer at full resolution anew."""
        self.first = _convolution(count, self._width, 3)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return both maps."""
        fine = self.first(x)
        half = self.halve(fine)
        return [fine, self.last(torch.cat([self.blocks(half), self.beside(half)], dim=1))]


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        widths = [before, *[after] * LAYERS]
        self.layers = nn.Sequential(*map(_separable, widths[:-1], widths[1:]))
        self.shortcut = _convolution(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.layers(x) + self.shortcut(x)
        return total


def _separable(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(before, after, 1), _convolution(after, after, 3, groups=after)
    )


def _convolution(before: int, after: int, side: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, side, padding=side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.SiLU(inplace=True),
    )


for _width in (32, 48, 64):
    register(f"separable-{_width}", SeparableEncoder, depth=1, width=_width)
