"""Momentum contrast (MoCo v2): which look is of the same place, among many of other places?

He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297; as SSL4EO-S12 (Wang et al.
2023) and SpectralEarth (Braham et al. 2025) train it: the two looks are of different dates where a
place was seen on several. For the slow copy see ``mmearth.pretraining.teacher``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from mmearth.api import PretrainSpec
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.method import Options, Pretext, Step, only_image, read_options
from mmearth.pretraining.modality import Batch, Modality
from mmearth.pretraining.teacher import (
    check_images,
    follow,
    momentum_at,
    pooled,
    pooled_width,
    slow_copy,
)
from mmearth.pretraining.looks import Look

QUERY, KEY = "query", "key"  # looks in a batch


class MoCoOptions(Options):
    """Options of MoCo; the defaults are SSL4EO-S12's.

    Attributes:
        temperature: of the similarities; SpectralEarth's is 0.1.
        queue: looks at other places that each is compared with.
        momentum: of the slow copy.
        width: numbers that looks are compared by.
        least_crop: share of the image's area that is cut out at least.
        brightness: see ``mmearth.pretraining.looks.Look``; 0 with SpectralEarth.
    """

    temperature: float = Field(0.2, gt=0)
    queue: int = Field(16384, ge=1)
    momentum: float = Field(0.999, ge=0, lt=1)
    width: int = Field(128, ge=2)
    least_crop: float = Field(0.2, gt=0, le=1)
    brightness: float = Field(0.4, ge=0, lt=1)


class MoCo(Pretext):
    """Encoder with a head, a slow copy of both, and a queue of what that said of late.

    Args:
        encoder: of any kind.
        image: what it is shown.
        crop: side of looks in pixels.
        options: see there.
    """

    queue: torch.Tensor
    place: torch.Tensor

    def __init__(
        self, encoder: nn.Module, image: Modality, crop: int, options: MoCoOptions
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.modalities = (image,)
        self.tasks = ("contrast",)
        self._options = options
        self._look = Look(crop, (options.least_crop, 1.0), options.brightness)
        inside = pooled_width(encoder)
        self.head = nn.Sequential(
            nn.Linear(inside, inside), nn.ReLU(), nn.Linear(inside, options.width)
        )
        self.slow_encoder, self.slow_head = slow_copy(encoder), slow_copy(self.head)
        self.register_buffer("queue", normalize(torch.randn(options.queue, options.width)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._new: list[torch.Tensor] = []  # keys of the step under way
        self._done = 0

    def train(self, mode: bool = True) -> MoCo:
        """Switch between training and use; the slow copy never trains."""
        super().train(mode)
        self.slow_encoder.eval()
        self.slow_head.eval()
        return self

    def draw(self, data: Dataset, count: int, random: np.random.Generator) -> Batch:
        """Draw two looks at each place, of different dates where it was seen on several."""
        chance = torch.Generator().manual_seed(int(random.integers(2**62)))
        views = data.draw_views(count, random, 2)
        return {
            name: torch.cat([self._look(image, data, chance) for image in view.split(1)])
            for name, view in zip((QUERY, KEY), views, strict=True)
        }

    def forward(self, batch: Batch, whole: torch.Tensor | None = None) -> Step:
        """Compute how well the other look at each place is found among the queue."""
        features = pooled(self.encoder, batch[QUERY])
        query = normalize(self.head(features).float())
        with torch.no_grad():
            key = normalize(self.slow_head(pooled(self.slow_encoder, batch[KEY])).float())
        right = (query * key).sum(dim=1, keepdim=True)
        scores = torch.cat([right, query @ self.queue.T], dim=1) / self._options.temperature
        first = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        counts = self.counts(batch)
        of = (counts if whole is None else whole).squeeze()
        total = cross_entropy(scores, first, reduction="sum") / of
        if self.training:
            self._new.append(key)
        return Step(total, total.detach()[None], counts, features.detach().float())

    def begin(self, done: int, steps: int) -> None:
        """Forget the keys of a step that came to nothing."""
        self._done = done
        self._new.clear()

    @torch.no_grad()
    def advance(self, group: Group = ALONE) -> None:
        """Move the slow copy, and let the newest keys take the place of the oldest."""
        momentum = momentum_at(self._done, self._options.momentum)
        follow(self.slow_encoder, self.encoder, momentum)
        follow(self.slow_head, self.head, momentum)
        keys = group.gather(torch.cat(self._new))[-len(self.queue) :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))
        self._new.clear()

    def facts(self) -> dict[str, Any]:
        """Return temperature, queue, momentum and looks."""
        return {
            "temperature": self._options.temperature,
            "queue": self._options.queue,
            "momentum": self._options.momentum,
            "looks": f"crops from {self._options.least_crop:g} of the area, turned and mirrored, "
            f"brightness ± {self._options.brightness:g}",
        }


def build(encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec) -> MoCo:
    """Build the method.

    Args:
        encoder: of ``build_encoder``.
        modalities: the image first; the others are left aside.
        spec: the request.

    Raises:
        InputError: if the encoder cannot read crops of this size, other modalities are asked for,
            or an option is wrong.
    """
    options = read_options(MoCoOptions, spec)
    check_images(encoder, spec, spec.crop)
    return MoCo(encoder, only_image(modalities, spec), spec.crop, options)
