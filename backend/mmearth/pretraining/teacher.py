"""What methods share that learn by comparing looks: features of whole images, and a slow copy.

The copy follows what is trained by a moving average, its batch norm too, and never normalises by
its own batch (EMAN, Cai et al. 2021, arXiv:2101.08482): looks of one batch can then tell each other
nothing through it, which MoCo otherwise needs its shuffling for, and parts of a step are no matter.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import InputError
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.pretraining.autoencoder import check_sides

Part = TypeVar("Part", bound=nn.Module)


def pooled(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what an encoder says of whole images: the class token, or the mean of its last map.

    Shape:
        (B, C, H, W) to (B, width).
    """
    if isinstance(encoder, ViTEncoder):
        return encoder.class_token(images)
    last: torch.Tensor = encoder(images)[-1]
    return last.mean(dim=(2, 3))


def pooled_width(encoder: nn.Module) -> int:
    """Return the width of ``pooled``."""
    if isinstance(encoder, ViTEncoder):
        return encoder.width
    return int(encoder.out_channels[-1])  # type: ignore[index]


def slow_copy(part: Part) -> Part:
    """Return a copy that no gradient reaches."""
    copied = copy.deepcopy(part)
    copied.requires_grad_(False)
    return copied.eval()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move a slow copy towards what it was copied from: momentum x slow + (1 - momentum) x fast."""
    there = dict(fast.named_parameters()) | dict(fast.named_buffers())
    for name, value in (*slow.named_parameters(), *slow.named_buffers()):
        if value.is_floating_point():
            value.lerp_(there[name].detach().to(value.dtype), 1 - momentum)
        else:
            value.copy_(there[name])


def momentum_at(step: int, highest: float) -> float:
    """Return a momentum that is no slower than the run is long: 0.1 at first, then rising.

    The published ones suppose hundreds of thousands of steps; of a few thousand, a third would be
    over before the copy had forgotten its random weights.
    """
    return min(highest, (1 + step) / (10 + step))


def check_images(encoder: nn.Module, spec: PretrainSpec, side: int) -> None:
    """Check that an encoder can learn by comparing looks of a size, in parts of some size.

    Raises:
        InputError: if it cannot.
    """
    if isinstance(encoder, ViTEncoder):
        check_sides(side, side, encoder.patch)
        return  # its adapter normalises by pixels, of which there are always several
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
    if batch_norm and spec.batch // spec.accumulate < 2:
        raise InputError(
            f"The encoder {spec.encoder} normalises by its batch, and parts of one image are none.",
            "Choose more images for a step, or fewer parts.",
        )
