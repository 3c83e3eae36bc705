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

QUERY, KEY = "query", "key"  # looks in a batch
# Of ResNets; what has layer norm hardly learns by SGD, and is taught as by MoCo v3 (Chen et al.
# 2021, arXiv:2104.02057).
OPTIMISATION = Optimisation(
    name="SGD", rate=0.03, images=256, momentum=(0.9,), weight_decay=(1e-4, 1e-4), warm_up=0.0
)
OF_LAYER_NORM = Optimisation(momentum=(0.9, 0.999), weight_decay=(0.1, 0.1), warm_up=40 / 300)


class MoCoOptions(Options):
    """Options of MoCo; the defaults are SSL4EO-S12's.

    Attributes:
        temperature: of the similarities; SpectralEarth's is 0.1.
        queue: looks at other places that each is compared with; never more than half as many as
            there are places, so that few of them are of its own.
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


class MoCo(Comparison):
    """Encoder with a head, a slow copy of both, and a queue of what that said of late.

    Args:
        encoder: of any kind.
        image: what it is shown.
        crop: side of looks in pixels.
        options: see there.
        places: that it learns from; None if they are not known yet.
    """

    queue: torch.Tensor
    place: torch.Tensor

    def __init__(
        self,
        encoder: nn.Module,
        image: Modality,
        crop: int,
        options: MoCoOptions,
        places: int | None = None,
    ) -> None:
        inside = pooled_width(encoder)
        head = nn.Sequential(nn.Linear(inside, inside), nn.ReLU(), nn.Linear(inside, options.width))
        super().__init__(encoder, head, image)
        self.tasks = ("contrast",)
        layer_norm = any(isinstance(part, nn.LayerNorm) for part in encoder.modules())
        self.optimisation = OF_LAYER_NORM if layer_norm else OPTIMISATION
        self._options = options
        self._look = Look(crop, (options.least_crop, 1.0), options.brightness)
        length = options.queue if places is None else min(options.queue, max(1, places // 2))
        self.register_buffer("queue", normalize(torch.randn(length, options.width)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def draw(self, data: Dataset, count: int, random: np.random.Generator) -> Batch:
        """Draw two looks at each place, of different dates where it was seen on several."""
        chance = torch.Generator().manual_seed(int(random.integers(2**62)))
        views = data.draw_views(count, random, 2)
        return {
            name: self._look.each(view, data, chance)
            for name, view in zip((QUERY, KEY), views, strict=True)
        }

    def forward(self, batch: Batch, whole: torch.Tensor | None = None) -> Step:
        """Compute how well the other look at each place is found among the queue."""
        query = normalize(self.head(pooled(self.encoder, batch[QUERY])).float())
        with torch.no_grad():
            key = normalize(self.teacher_head(pooled(self.teacher, batch[KEY])).float())
        right = (query * key).sum(dim=1, keepdim=True)
        scores = torch.cat([right, query @ self.queue.T], dim=1) / self._options.temperature
        first = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        counts = self.counts(batch)
        of = (counts if whole is None else whole).squeeze()
        total = cross_entropy(scores, first, reduction="sum") / of
        if self.training:
            self._said.append(key)
        return Step(total, total.detach()[None], counts, query.detach())

    @torch.no_grad()
    def advance(self, group: Group = ALONE) -> None:
        """Move the slow copy, and let the newest keys take the place of the oldest."""
        self.follow(momentum_at(self._done, self._options.momentum))
        keys = group.gather(torch.cat(self._said))[-len(self.queue) :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))
        self._said.clear()

    def facts(self) -> dict[str, Any]:
        """Return temperature, queue, momentum and looks."""
        queue = len(self.queue)
        return {
            "temperature": self._options.temperature,
            "queue": queue if queue == self._options.queue else f"{queue}, half of the places",
            "momentum": self._options.momentum,
            "looks": f"crops from {self._options.least_crop:g} of the area, turned and mirrored, "
            f"brightness ± {self._options.brightness:g}",
        }


def build(
    encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec, places: int | None
) -> MoCo:
    """Build the method; see ``read_request``."""
    image, options = read_request(MoCoOptions, encoder, modalities, spec)
    return MoCo(encoder, image, spec.crop, options, places)
