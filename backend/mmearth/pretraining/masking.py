"""Random masks over patches, and ConvNeXt V2 on the visible ones.

A convolution that skips masked sites equals a dense one on an image where these are 0, if they are
set to 0 again after every layer (Woo et al. 2023, section 3.1). Only depthwise convolutions look
beyond a site; everything else, most of the work, is computed at visible sites alone. Global
response normalisation is over the visible sites of each image, as it is over the whole image later:
MMEarth-train's is over those of the whole batch, which no single image can be normalised by.
"""

from __future__ import annotations

import torch
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.encoders.convnextv2 import Block, ConvNeXtV2Encoder


def random_mask(
    count: int, rows: int, cols: int, ratio: float, random: torch.Generator
) -> torch.Tensor:
    """Draw which patches stay visible: as many in each image, and at least one.

    Args:
        count: of images.
        rows: of patches.
        cols: of patches.
        ratio: share that is hidden.
        random: source of chance, on the processor.

    Returns:
        (count, rows, cols) bool, True where visible.
    """
    patches = rows * cols
    # 1e-9: 10 of 25 stay visible at 0.6, whatever the last digit of the product is.
    visible = max(1, int(patches * (1 - ratio) + 1e-9))
    order = torch.rand(count, patches, generator=random).argsort(dim=1)
    mask = torch.zeros(count, patches, dtype=torch.bool)
    mask.scatter_(1, order[:, :visible], True)
    return mask.view(count, rows, cols)


def enlarge(visible: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeat each patch's mark over its sites. (B, h, w) to (B, h x factor, w x factor)."""
    return visible.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


class MaskedConvNeXtV2:
    """A ConvNeXt V2 encoder that sees the visible patches only; its weights are the encoder's own.

    Args:
        encoder: with the padding of segmentation, whose maps lie on the grid of patches.

    Raises:
        ModelError: if the encoder has another padding.
    """

    def __init__(self, encoder: ConvNeXtV2Encoder) -> None:
        if encoder.classification:
            raise ModelError(
                "The maps of an encoder '…-scene' do not lie on a grid of patches.",
                "Choose the encoder of the same name without this ending.",
            )
        self.encoder = encoder
        self.patch = 8 * encoder.stem_stride
        self.width = encoder.widths[-1]

    def __call__(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Encode.

        Args:
            x: (B, C, H, W) float32, normalised, 0 where there is no data; sides are multiples of
                the patch. It is not changed.
            visible: (B, H / patch, W / patch) bool, as many in each image.

        Returns:
            (B, width, H / patch, W / patch), 0 at masked patches.

        Raises:
            ModelError: if the mask does not lie on the patches, or shows more of one image than of
                another.
        """
        self._check(x, visible)
        encoder = self.encoder
        x = x * enlarge(visible, self.patch)[:, None]
        stem = encoder.stem_orig if encoder.original_stem else encoder.initial_conv
        x = stem(x)
        sites = enlarge(visible, 8 if encoder.original_stem else self.patch)
        x = x * sites[:, None]
        if not encoder.original_stem:
            sites = enlarge(visible, 8)
            x = encoder.stem(x) * sites[:, None]
        x = _stage(encoder.stages[0], x, sites)
        for number, downsample in enumerate(encoder.downsample_layers, start=1):
            sites = enlarge(visible, 8 >> number)
            x = downsample(x) * sites[:, None]
            x = _stage(encoder.stages[number], x, sites)
        return x

    def _check(self, x: torch.Tensor, visible: torch.Tensor) -> None:
        grid = (x.shape[0], *(side // self.patch for side in x.shape[-2:]))
        if visible.shape != grid or any(side % self.patch for side in x.shape[-2:]):
            raise ModelError(
                f"A mask of {tuple(visible.shape)} patches does not fit images of "
                f"{tuple(x.shape)} and patches of {self.patch}.",
                f"Expected {grid}, and sides that are multiples of {self.patch}.",
            )
        # Statistics are over the visible sites of each image, which lie in one array as long rows.
        counts = visible.flatten(1).sum(dim=1)
        if (counts != counts[0]).any():
            raise ModelError(
                f"A mask leaves {int(counts.min())} to {int(counts.max())} patches visible.",
                "Leave as many visible in each image.",
            )


def _stage(blocks: nn.Module, x: torch.Tensor, sites: torch.Tensor) -> torch.Tensor:
    places = sites.flatten().nonzero()[:, 0]
    for block in blocks.children():
        x = _block(block, x, places)  # type: ignore[arg-type]
    return x


def _block(block: Block, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Compute a block at some places of the flattened (B, H, W); the others stay as they are."""
    count = x.shape[0]
    y = block.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, C)
    shape = y.shape
    y = block.norm(y.flatten(0, 2).index_select(0, places))  # (visible sites of all images, C)
    y = block.act(block.pwconv1(y))
    y = block.grn(y.view(count, 1, -1, y.shape[-1]))  # an image of one row: its visible sites
    y = block.pwconv2(y).flatten(0, 2)
    whole = y.new_zeros(shape[0] * shape[1] * shape[2], shape[3]).index_copy(0, places, y)
    return x + whole.view(shape).permute(0, 3, 1, 2)
