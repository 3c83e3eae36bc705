"""The spectrum as it is: no features but the bands.

Under the decoder "linear" it is logistic regression, which a few labelled pixels of an image of
hundreds of bands do not mislead as they mislead a network of many weights.
"""

from __future__ import annotations

import torch

from mmearth.models.encoders.pyramid import PyramidEncoder
from mmearth.models.smp import smp


class SpectrumEncoder(PyramidEncoder):
    """The image twice: as itself, and as the one feature map.

    Shape:
        (B, C, H, W) float32 to itself and (B, C, H, W).

    Args:
        depth, output_stride: see ``PyramidEncoder``.
    """

    def __init__(self, *, depth: int = 1, output_stride: int = 1) -> None:
        super().__init__([3], full=True, depth=depth, output_stride=output_stride)

    def read_bands(self, count: int) -> None:
        """Give as many features as there are bands."""
        self._out_channels = [count, count]

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the only map: a copy, as who asks for features leaves out the image itself."""
        return [x.clone()]


smp.encoders.encoders["spectrum"] = {
    "encoder": SpectrumEncoder,
    "params": {},
    "pretrained_settings": {},
    "deepest": 1,
    "full": True,
}
