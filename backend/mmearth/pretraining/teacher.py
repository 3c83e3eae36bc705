"""What methods share that learn by comparing looks: features of whole images, and a slow copy.

The copy follows what is trained by a moving average, its batch norm too, and never normalises by
its own batch (EMAN, Cai et al. 2021, arXiv:2101.08482): looks of one batch can then tell each other
nothing through it, which MoCo otherwise needs its shuffling for. What is trained normalises by the
images of a part of a step in one process, as MoCo's code does: several are needed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import InputError
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.pretraining.autoencoder import check_sides
from mmearth.pretraining.group import processes
from mmearth.pretraining.method import Chosen, Pretext, only_image, read_options
from mmearth.pretraining.modality import Modality

Part = TypeVar("Part", bound=nn.Module)


class Comparison(Pretext):
    """Encoder with a head, and a slow copy of both, the teacher.

    Args:
        encoder: of any kind.
        head: makes what looks are compared by from ``pooled`` features.
        image: what the encoder is shown.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, image: Modality) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.modalities = (image,)
        self.teacher, self.teacher_head = slow_copy(encoder), slow_copy(head)
        self._done, self._steps = 0, 1
        self._said: list[torch.Tensor] = []  # by the teacher, in the step under way

    def train(self, mode: bool = True) -> Comparison:
        """Switch between training and use; the teacher never trains."""
        super().train(mode)
        self.teacher.eval()
        self.teacher_head.eval()
        return self

    def begin(self, done: int, steps: int) -> None:
        """Note how far the run is; forget what was said in a step that came to nothing."""
        self._done, self._steps = done, steps
        self._said.clear()

    def follow(self, momentum: float) -> None:
        """Move the teacher, see ``follow``."""
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)


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


def read_request(
    kind: type[Chosen], encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec
) -> tuple[Modality, Chosen]:
    """Return what the encoder is shown, and the options of the method.

    Args:
        kind: of the options.
        encoder: of ``build_encoder``.
        modalities: the image first; the others are left aside.
        spec: the request.

    Raises:
        InputError: if the encoder cannot read crops of this size, other modalities are asked for,
            or an option is wrong.
    """
    options = read_options(kind, spec)
    _check_images(encoder, spec)
    return only_image(modalities, spec), options


def _check_images(encoder: nn.Module, spec: PretrainSpec) -> None:
    """Check that an encoder can learn by comparing looks as large, and as many, as is asked for."""
    if isinstance(encoder, ViTEncoder):
        check_sides(spec.crop, spec.crop, encoder.patch)
        return  # its adapter normalises by pixels, of which there are always several
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
    if batch_norm and spec.batch // spec.accumulate // processes() < 2:
        raise InputError(
            f"The encoder {spec.encoder} normalises by its batch, and parts of one image are none.",
            "Choose more images for a step, or fewer parts or processes.",
        )
