"""What all encoders of this package share: the contract of segmentation-models-pytorch.

An encoder computes feature maps at strides 1, 2, 4, …; the library leaves out the first one where a
decoder has no use for it, and expects the plain image there. Encoders whose first map is learned
come in two forms: as they are, for decoders that start at stride 2 or 4, and ``-full``, with the
image put before, so that U-Net keeps the learned map at full resolution too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmearth.models.smp import smp

# The contract's base class, which the library does not export at top level.
from segmentation_models_pytorch.encoders._base import EncoderMixin  # isort: skip

FULL = "-full"  # ending of the names of encoders with the image put before


class PyramidEncoder(nn.Module, EncoderMixin):
    """An encoder with one feature map at each of the strides 1, 2, 4 and so on.

    Args:
        channels: of each map, finest first; 0 where there is none at that stride, 3 for the image.
        full: whether the image itself comes before the maps.
        image_first: whether the image itself is the first map.
        depth: index of the last map wanted, counted as segmentation-models-pytorch does.
        output_stride: accepted for the contract; a stride is never exchanged for dilation here.

    Attributes:
        unpublished: beginnings of the keys that no published file holds; they start untrained.
    """

    unpublished: tuple[str, ...] = ()

    def __init__(
        self,
        channels: Sequence[int],
        *,
        full: bool,
        depth: int,
        output_stride: int,
        image_first: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        last = len(channels) - 1 + full
        if not 1 <= depth <= last:
            raise ValueError(f"Expected a depth of 1 to {last}, found {depth}.")
        self._full = full
        self._image_first = full or image_first
        self._depth = depth
        self._in_channels = 3
        self._out_channels = [3, *channels] if full else list(channels)
        self._output_stride = output_stride

    @abstractmethod
    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps, finest first; see the class for shapes."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Encode.

        Args:
            x: (B, C, H, W) float32, normalised; H and W multiples of ``output_stride``.

        Returns:
            Maps (B, channels[i], H / 2^i, W / 2^i), after the image if ``full``.
        """
        maps = self.maps(x)
        return ([x, *maps] if self._full else maps)[: self._depth + 1]

    @property
    def output_stride(self) -> int:
        """Pixels of input along a side of a pixel of the coarsest feature map."""
        return int(2 ** (self._depth - self._full))

    def make_dilated(self, output_stride: int) -> None:
        """Accept a wish for finer deep maps only where they are that fine already."""
        if self.output_stride > output_stride:
            raise ValueError(
                f"This encoder's coarsest map has stride {self.output_stride}; "
                f"{output_stride} cannot be had."
            )

    def set_in_channels(self, in_channels: int, pretrained: bool = False) -> None:
        """Take another number of input bands; layers that read them start anew."""
        self._in_channels = in_channels
        if self._image_first:
            self._out_channels[0] = in_channels
        self.read_bands(in_channels)

    @abstractmethod
    def read_bands(self, count: int) -> None:
        """Exchange the first layer for one that reads ``count`` bands."""


def register(
    name: str,
    encoder: type[PyramidEncoder],
    depth: int,
    *,
    image_first: bool = False,
    **options: Any,
) -> None:
    """Register an encoder with segmentation-models-pytorch, in both forms where there are two.

    Args:
        name: of the form as it is; the other one ends with ``-full``.
        encoder: class.
        depth: index of its coarsest map, which is the default of decoders built here.
        image_first: whether its first map is the image itself; there is then one form only.
        **options: of its constructor.
    """
    for full in (False,) if image_first else (False, True):
        smp.encoders.encoders[name + FULL * full] = {
            "encoder": encoder,
            "params": {**options, "full": full},
            "pretrained_settings": {},
            "deepest": depth + full,
            "full": full,
        }


def deepest(encoder: str) -> int:
    """Return the depth of an encoder whose maps are all used; the library's own have 5."""
    depth: int = smp.encoders.encoders.get(encoder, {}).get("deepest", 5)
    return depth


def is_full(encoder: str) -> bool:
    """Tell whether the image comes before a map of its own size: maps at strides 1, 1, 2, 4, …."""
    full: bool = smp.encoders.encoders.get(encoder, {}).get("full", False)
    return full
