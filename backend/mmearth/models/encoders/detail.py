"""ResNet with a stem that keeps detail: no max-pooling, and a first convolution of stride 1.

The stride of 2 moves into the first residual block, so maps lie at strides 1, 2, 4, 8 and 16 rather
than 2 to 32; at 10 m a pixel the finest is where hedges and gaps are. SSL4EO-S12's pretraining code
carries the same idea as a comment. Parameters keep torchvision's names and, the strides apart, all
published weights fit; their statistics differ at this scale, so fine-tune rather than freeze.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmearth.models.encoders.pyramid import PyramidEncoder, register

from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # isort: skip

LAYERS = {"18": (BasicBlock, (2, 2, 2, 2)), "34": (BasicBlock, (3, 4, 6, 3)),
          "50": (Bottleneck, (3, 4, 6, 3))}  # fmt: skip


class DetailResNetEncoder(PyramidEncoder):
    """ResNet whose maps lie at strides 1 (64 channels, the stem), 2, 4, 8 and 16.

    Args:
        block: residual block.
        layers: blocks of each stage.
        full, depth, output_stride: see ``PyramidEncoder``.
    """

    def __init__(
        self,
        *,
        block: type[BasicBlock | Bottleneck],
        layers: tuple[int, ...],
        full: bool = False,
        depth: int = 4,
        output_stride: int = 16,
    ) -> None:
        widths = [64 * 2**number * block.expansion for number in range(4)]
        super().__init__([64, *widths], full=full, depth=depth, output_stride=output_stride)
        base = ResNet(block, list(layers))
        self.read_bands(3)
        self.bn1, self.relu = base.bn1, base.relu
        self.layer1, self.layer2 = base.layer1, base.layer2
        self.layer3, self.layer4 = base.layer3, base.layer4
        if _halve(self.layer1[0]):
            self.unpublished = ("layer1.0.downsample.",)

    def read_bands(self, count: int) -> None:
        """Exchange the stem's convolution for one of ``count`` bands."""
        self.conv1 = nn.Conv2d(count, 64, 7, stride=1, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the stem and the output of each stage."""
        maps = [self.relu(self.bn1(self.conv1(x)))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        return maps


def _halve(block: Any) -> bool:
    """Give a residual block a stride of 2, where torchvision's other stages have it.

    Returns:
        Whether that took a convolution for which published files hold no weights.
    """
    if isinstance(block, Bottleneck):
        block.conv2.stride = (2, 2)
        block.downsample[0].stride = (2, 2)
        return False
    block.conv1.stride = (2, 2)
    block.downsample = nn.Sequential(nn.Conv2d(64, 64, 1, stride=2, bias=False), nn.BatchNorm2d(64))
    return True


for _number, (_block, _layers) in LAYERS.items():
    register(f"detail-resnet{_number}", DetailResNetEncoder, depth=4, block=_block, layers=_layers)
