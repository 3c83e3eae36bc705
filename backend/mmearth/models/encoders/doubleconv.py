"""Contracting path of the original U-Net, with a feature map at full resolution.

Two 3x3 convolutions a level, each with batch norm and ReLU, then 2x2 max-pooling: Ronneberger,
Fischer and Brox 2015, figure 1, with padding so that sizes are kept. Encoders made for photographs
halve the resolution before their first feature map; at 10 m a pixel, where a hedge or a stream is
one pixel wide, that detail is the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmearth.models.smp import smp

# smp's encoder contract asks for EncoderMixin, which it does not export at top level.
from segmentation_models_pytorch.encoders._base import EncoderMixin  # isort: skip


class DoubleConvEncoder(nn.Module, EncoderMixin):
    """Feature maps at strides 1, 1, 2, 4, …: the input itself, then one map a level."""

    def __init__(
        self,
        *,
        widths: Sequence[int],
        depth: int = 5,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= len(widths):
            raise ValueError(f"Expected a depth of 1 to {len(widths)}, found {depth}.")
        self._depth = depth
        self._in_channels = 3
        self._out_channels = [3, *widths]
        self._output_stride = output_stride
        self.levels = nn.ModuleList(
            _double_conv(before, width)
            for before, width in zip([3, *widths], widths[:depth], strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    @property
    def output_stride(self) -> int:
        """Pixels of input along a side of a pixel of the coarsest feature map."""
        return int(2 ** (self._depth - 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Encode.

        Args:
            x: (B, C, H, W) float32, H and W multiples of ``output_stride``.

        Returns:
            The input, then (B, widths[i], H / 2^i, W / 2^i) for each level i.
        """
        features = [x]
        for number, level in enumerate(self.levels):
            x = level(self.pool(x) if number else x)
            features.append(x)
        return features


def _double_conv(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


WIDTHS = {
    "doubleconv-16": (16, 32, 64, 128, 192),
    "doubleconv-24": (24, 48, 96, 160, 192),
    "doubleconv-32": (32, 64, 128, 192, 256),
}

smp.encoders.encoders.update(
    {
        name: {
            "encoder": DoubleConvEncoder,
            "params": {"widths": widths},
            "pretrained_settings": {},
            "full": True,  # see mmearth.models.encoders.pyramid.is_full
        }
        for name, widths in WIDTHS.items()
    }
)
