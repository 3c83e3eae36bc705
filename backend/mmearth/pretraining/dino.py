"""Self-distillation without labels (DINO): looks at a place are to mean what a teacher sees in it.

Caron et al. 2021, arXiv:2104.14294, as SSL4EO-S12 (Wang et al. 2023) and SpectralEarth (Braham et
al. 2025) train it: the looks are of different dates where a place was seen on several. The teacher
is a slow copy, see ``mmearth.pretraining.teacher``. It cannot say the same of all images, because
what it says is centred and sharpened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import linear, normalize

from mmearth.api import PretrainSpec
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.looks import Look
from mmearth.pretraining.method import Options, Step
from mmearth.pretraining.modality import Batch, Modality
from mmearth.pretraining.optimisation import Optimisation
from mmearth.pretraining.teacher import (
    Comparison,
    momentum_at,
    pooled,
    pooled_width,
    read_request,
)

LARGE, SMALL = "large look", "small look"  # in a batch, with their numbers
LOOKS = 2  # large ones; these alone are shown to the teacher
STUDENT_TEMPERATURE = 0.1
FIRST_TEMPERATURE, WARM = 0.04, 0.3  # of the teacher, and the share of the run in which it rises
FROZEN = 0.01  # share of the run in which the last layer stays as it is: DINO's one epoch of 100
SMALL_SIDE = 96 / 224  # of small looks, against that of large ones
STRIDE = 8  # of which their side is a multiple, where the encoder asks for none
STD = 0.02
# The published code clips each weight's gradient by itself.
OPTIMISATION = Optimisation(
    rate=2e-3, images=1024, momentum=(0.9, 0.999), weight_decay=(0.04, 0.4), warm_up=0.1, clip=3.0
)


class DINOOptions(Options):
    """Options of DINO; the defaults are the paper's, with fewer meanings.

    Attributes:
        meanings: numbers that teacher and student agree upon; 65536 in the paper and with
            SSL4EO-S12, 128 with SpectralEarth.
        hidden: channels of the head.
        bottleneck: channels before its last layer.
        momentum: of the teacher at first; it rises to 1.
        temperature: of the teacher, after a rise from 0.04; less than the student's 0.1, or all
            images come to mean the same.
        centre_momentum: of the mean that is taken off what the teacher says.
        small_crops: small looks at each place (multi-crop), 8 in the paper; none as with SSL4EO-S12
            on ResNets and with SpectralEarth.
        least_crop: share of the image's area that is cut out at least; small looks show 0.05 to
            this much.
        brightness: see ``mmearth.pretraining.looks.Look``; 0 with SpectralEarth.
    """

    meanings: int = Field(4096, ge=2)
    hidden: int = Field(2048, ge=2)
    bottleneck: int = Field(256, ge=2)
    momentum: float = Field(0.996, ge=0, lt=1)
    temperature: float = Field(0.07, gt=0, lt=STUDENT_TEMPERATURE)
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    small_crops: int = Field(0, ge=0)
    least_crop: float = Field(0.4, gt=0.05, le=1)
    brightness: float = Field(0.4, ge=0, lt=1)


class Head(nn.Module):
    """From features to meanings: three layers, and directions that are compared with."""

    def __init__(self, inside: int, hidden: int, bottleneck: int, meanings: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inside, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.last = nn.Parameter(torch.empty(meanings, bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=STD)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.last, std=STD)

    def forward(self, features: torch.Tensor, *, frozen: bool = False) -> torch.Tensor:
        """Return how well each meaning fits. (B, inside) to (B, meanings) float32."""
        last = self.last.detach() if frozen else self.last
        return linear(normalize(self.layers(features)), normalize(last)).float()


class DINO(Comparison):
    """Encoder with a head, and a slow copy of both that teaches them.

    Args:
        encoder: of any kind.
        image: what it is shown.
        crop: side of large looks in pixels.
        options: see there.
    """

    optimisation = OPTIMISATION
    head: Head
    centre: torch.Tensor

    def __init__(
        self, encoder: nn.Module, image: Modality, crop: int, options: DINOOptions
    ) -> None:
        head = Head(pooled_width(encoder), options.hidden, options.bottleneck, options.meanings)
        super().__init__(encoder, head, image)
        self.tasks = ("agreement",)
        self._options = options
        self._large = Look(crop, (options.least_crop, 1.0), options.brightness)
        small = (0.05, options.least_crop)
        self._small = Look(small_side(encoder, crop), small, options.brightness)
        self.register_buffer("centre", torch.zeros(options.meanings))

    def draw(self, data: Dataset, count: int, random: np.random.Generator) -> Batch:
        """Draw looks at each place, of different dates where it was seen on several."""
        chance = torch.Generator().manual_seed(int(random.integers(2**62)))
        views = data.draw_views(count, random, LOOKS)
        large = {
            f"{LARGE} {n}": self._large.each(view, data, chance) for n, view in enumerate(views)
        }
        small = {
            f"{SMALL} {n}": self._small.each(views[n % LOOKS], data, chance)
            for n in range(self._options.small_crops)
        }
        return {**large, **small}

    def forward(self, batch: Batch, whole: torch.Tensor | None = None) -> Step:
        """Compute how far what is seen in each look is from what the teacher sees in others."""
        large = torch.cat([value for name, value in batch.items() if name.startswith(LARGE)])
        small = [value for name, value in batch.items() if name.startswith(SMALL)]
        with torch.no_grad():
            said = self.teacher_head(pooled(self.teacher, large))
            wanted = ((said - self.centre) / self._temperature()).softmax(dim=1).chunk(LOOKS)
        sizes = [large] if not small else [large, torch.cat(small)]
        seen = [pooled(self.encoder, images) for images in sizes]
        frozen = self.training and self._done < FROZEN * self._steps
        likely = (self.head(torch.cat(seen), frozen=frozen) / STUDENT_TEMPERATURE).log_softmax(1)
        looks = likely.chunk(LOOKS + len(small))
        pairs = [
            -(target * look).sum(dim=1)
            for a, target in enumerate(wanted)
            for b, look in enumerate(looks)
            if a != b
        ]
        counts = self.counts(batch)
        of = (counts if whole is None else whole).squeeze()
        total = torch.stack(pairs).mean(dim=0).sum() / of
        if self.training:
            self._said.append(said)
        return Step(total, total.detach()[None], counts, looks[0].detach().exp())

    def spread(self, features: torch.Tensor) -> float:
        """Return how much is learned of an image's looks from what it is said to mean, in nats.

        The encoder may tell all images apart and yet the method collapse, in two ways: all mean
        one thing for certain, or each means everything alike. In both this is 0.

        Args:
            features: (B, meanings) float32, how likely each meaning is.
        """
        mean = features.mean(dim=0)
        return float(_entropy(mean) - _entropy(features).mean())

    @torch.no_grad()
    def advance(self, group: Group = ALONE) -> None:
        """Move the teacher, and the centre of what it says."""
        options = self._options
        rest = 0.5 * (1 + math.cos(math.pi * self._done / self._steps))
        momentum = 1 - (1 - momentum_at(self._done, options.momentum)) * rest
        self.follow(momentum)
        said = torch.cat(self._said)
        mean = group.add(said.mean(dim=0)) / group.size
        self.centre.lerp_(mean, 1 - options.centre_momentum)
        self._said.clear()

    def facts(self) -> dict[str, Any]:
        """Return meanings, momentum, temperature and looks."""
        options = self._options
        return {
            "meanings": options.meanings,
            "momentum": options.momentum,
            "temperature": options.temperature,
            "looks": f"{LOOKS} crops from {options.least_crop:g} of the area and "
            f"{options.small_crops} small ones, turned and mirrored, brightness ± "
            f"{options.brightness:g}",
        }

    def _temperature(self) -> float:
        """Return the teacher's: too sharp at first, it would be sure of what it cannot know."""
        share = min(1.0, self._done / (WARM * self._steps))
        return FIRST_TEMPERATURE + (self._options.temperature - FIRST_TEMPERATURE) * share


def small_side(encoder: nn.Module, crop: int) -> int:
    """Return the side of small looks, a multiple of what the encoder reads at once.

    Args:
        encoder: that they are shown to.
        crop: side of large looks.
    """
    step = encoder.patch if isinstance(encoder, ViTEncoder) else STRIDE
    return max(step, round(SMALL_SIDE * crop / step) * step)


def _entropy(likely: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each row of shares, in nats."""
    return torch.special.entr(likely).sum(dim=-1)


def build(
    encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec, places: int | None
) -> DINO:
    """Build the method; see ``read_request``. How many places there are is no matter."""
    image, options = read_request(DINOOptions, encoder, modalities, spec)
    return DINO(encoder, image, spec.crop, options)
