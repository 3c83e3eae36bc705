"""ConvNeXt V2 as MMEarth pretrains it, with a stem for small images.

Nedungadi et al. 2024 (MMEarth); Woo et al. 2023 (ConvNeXt V2). After MMEarth-train's
models/convnextv2.py and models/convnextv2_unet.py, in whose names the parameters are.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import nn

from mmearth.models.encoders.pyramid import PyramidEncoder, register

from timm.layers.norm import LayerNorm2d  # isort: skip  after mmearth.models.smp

EPSILON = 1e-6
GRN_EPSILON = 1e-4  # of the dense network; it normalises each image by itself

SIZES = {
    "zepto": ((2, 2, 4, 2), (32, 64, 128, 256)),  # as timm's ConvNeXt of that name
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}
PATCHES = (8, 16, 32)


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (Woo et al. 2023, section 3.2). (B, H, W, C) to the same.

    It looks at the whole image: what else a tile shows changes every pixel of its features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh each channel by its share in the response of all."""
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = response / (response.mean(dim=-1, keepdim=True) + GRN_EPSILON)
        return self.gamma * (x * share) + self.beta + x


class Block(nn.Module):
    """Residual block of ConvNeXt V2. (B, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the block computes."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(self.act(self.pwconv1(y))))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXtV2Encoder(PyramidEncoder):
    """Encoder of MMEarth.

    Maps: the image or the first convolution at stride 1, then one map a stage; with a patch of 8
    the first stage is at stride 1 itself. Where a stride has no map, one of 0 channels stands.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage.
        patch: pixels of input along a side of a pixel of the coarsest map: 8, 16 or 32.
        original_stem: a single convolution of patch / 8 (the paper's stem), instead of a 3 x 3
            convolution at full resolution before a depthwise one.
        padding: the published segmentation and classification networks pad differently. Only the
            first keeps maps at even strides, and has the grid of pretraining.
        full, depth, output_stride: see ``PyramidEncoder``.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        patch: int,
        original_stem: bool = False,
        padding: Literal["segmentation", "classification"] = "segmentation",
        full: bool = False,
        depth: int = 5,
        output_stride: int = 32,
    ) -> None:
        self.stem_stride = patch // 8
        channels = list(widths)
        if self.stem_stride > 1:
            gap = [0] * (self.stem_stride.bit_length() - 2)
            channels = [3 if original_stem else widths[0], *gap, *channels]
        super().__init__(
            channels,
            full=full,
            depth=depth,
            output_stride=output_stride,
            image_first=original_stem and self.stem_stride > 1,
        )
        self.original_stem = original_stem
        self.classification = padding == "classification"
        self.widths = widths
        self.read_bands(3)
        if not original_stem:
            self.stem = nn.Sequential(
                nn.Conv2d(
                    widths[0],
                    widths[0],
                    self.stem_stride,
                    self.stem_stride,
                    padding=self.stem_stride // 2 if self.classification else 0,
                    groups=widths[0],
                ),
                LayerNorm2d(widths[0], eps=EPSILON),
            )
        self.downsample_layers = nn.ModuleList(
            nn.Sequential(LayerNorm2d(before, eps=EPSILON), nn.Conv2d(before, after, 2, 2))
            for before, after in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(blocks)))
            for blocks, width in zip(depths, widths, strict=True)
        )
        self.apply(_initialise)

    def read_bands(self, count: int) -> None:
        """Exchange the first layer for one that reads ``count`` bands."""
        width = self.widths[0]
        if self.original_stem:
            stride = self.stem_stride
            self.stem_orig = nn.Sequential(
                nn.Conv2d(count, width, stride, stride), LayerNorm2d(width, eps=EPSILON)
            )
        else:
            self.initial_conv = nn.Sequential(
                nn.Conv2d(count, width, 3, padding=0 if self.classification else 1),
                LayerNorm2d(width, eps=EPSILON),
                nn.GELU(),
            )

    def stem_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return what comes before the first stage, finest first: 2 maps, or 1 of the old stem."""
        if self.original_stem:
            return [self.stem_orig(x)]
        first = self.initial_conv(x)
        return [first, self.stem(first)]

    def stage_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the output of each of the four stages, from the stem's. (B, widths[i], h, w)."""
        maps = [self.stages[0](x)]
        for number, downsample in enumerate(self.downsample_layers, start=1):
            maps.append(self.stages[number](downsample(maps[-1])))
        return maps

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps, finest first."""
        stem = self.stem_maps(x)
        stages = self.stage_maps(stem[-1])
        if self.stem_stride == 1:
            return stages
        height, width = x.shape[-2:]
        gap = [x.new_empty(x.shape[0], 0, height // 2, width // 2)] * (self.stem_stride == 4)
        return [x if self.original_stem else stem[0], *gap, *stages]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


for _size, (_depths, _widths) in SIZES.items():
    for _patch in PATCHES:
        for _stem, _original in (("", False), ("-original", True)):
            for _ending, _padding in (("", "segmentation"), ("-scene", "classification")):
                if _original and _padding == "classification":
                    continue  # the original stem needs no padding
                register(
                    f"mmearth-{_size}-p{_patch}{_stem}{_ending}",
                    ConvNeXtV2Encoder,
                    depth=_patch.bit_length() - 1,
                    image_first=_original and _patch > 8,
                    depths=_depths,
                    widths=_widths,
                    patch=_patch,
                    original_stem=_original,
                    padding=_padding,
                )
