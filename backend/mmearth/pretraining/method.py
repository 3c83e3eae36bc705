"""What the training loop asks of a pretext method.

A method is one module with ``Options``, ``build(encoder, modalities, spec, places) -> Pretext`` and
a line in ``mmearth.pretraining.registry.METHODS``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import InputError, listed
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.modality import Batch, Modality
from mmearth.pretraining.optimisation import Optimisation


class Options(BaseModel):
    """Base of a method's own options; what is unknown is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Chosen = TypeVar("Chosen", bound=Options)


def read_options(kind: type[Chosen], spec: PretrainSpec) -> Chosen:
    """Read the options of a request's method.

    Raises:
        InputError: if the method has none of that name, or not of that value.
    """
    try:
        return kind.model_validate(spec.options)
    except ValidationError as error:
        found = error.errors()[0]
        name = ".".join(map(str, found["loc"]))
        raise InputError(
            f"The option {name} of the method {spec.method}: {found['msg']}, "
            f"found {found['input']!r}.",
            f"Its options are {listed(kind.model_fields)}.",
        ) from error


@dataclass(frozen=True)
class Step:
    """What came of a batch, or of a part of a step's images.

    Attributes:
        total: what is minimised; a scalar. Those of all parts of a step add up.
        losses: (tasks,) float32 without gradients; those of all parts add up.
        counts: (tasks,) int64, what was known of each in this part.
        features: (B, width) float32, what is said of each image, for ``Pretext.spread``; without
            gradients.
    """

    total: torch.Tensor
    losses: torch.Tensor
    counts: torch.Tensor
    features: torch.Tensor


class Pretext(nn.Module):
    """An encoder, and what is needed to teach it.

    All that changes as it learns is in its ``state_dict``, so that a run can go on from there.

    Attributes:
        encoder: under this very name, which its weights have in a model folder.
        modalities: what it learns to tell; the image first.
        tasks: names of its losses.
        optimisation: how its weights are moved.
    """

    encoder: nn.Module
    modalities: tuple[Modality, ...]
    tasks: tuple[str, ...]
    optimisation: Optimisation

    def draw(self, data: Dataset, count: int, random: np.random.Generator) -> Batch:
        """Draw images, and whatever else is left to chance; in a thread of its own.

        Returns:
            Tensors of ``count`` rows each, in which images can be told apart: of the batches that
            ``forward`` is given, each holds some of the rows.
        """
        return data.draw(count, random)

    @abstractmethod
    def forward(self, batch: Batch, whole: torch.Tensor | None = None) -> Step:
        """Compute the loss of a batch.

        Args:
            batch: of ``draw``, on the network's device.
            whole: (tasks,) int64, the sum of ``counts`` over all parts of a step of which this is
                one; None if this is all of it.
        """

    def counts(self, batch: Batch) -> torch.Tensor:
        """Return how much is known of each task. (tasks,) int64; by default the images."""
        first = next(iter(batch.values()))
        return torch.tensor([len(first)] * len(self.tasks), device=first.device)

    def spread(self, features: torch.Tensor) -> float:
        """Return how much images differ to the network, next to nothing if it has collapsed.

        Args:
            features: (B, width) float32, of ``Step``.

        Returns:
            Standard deviation over the batch as a share of the features' size, as one number; of
            a method that collapses otherwise, what that is told by: below
            ``mmearth.pretraining.loop.COLLAPSED`` it has.
        """
        size = features.square().mean().sqrt()
        deviation = features.var(dim=0, unbiased=False).mean().sqrt()
        return float(deviation / size.clamp_min(1e-12))

    def begin(self, done: int, steps: int) -> None:
        """Take note of how far a run is, before each of its steps.

        Args:
            done: steps of the optimiser that are done.
            steps: of the whole run.
        """

    def advance(self, group: Group = ALONE) -> None:
        """Do what is due after a step of the optimiser, such as moving an averaged teacher.

        Args:
            group: the processes that computed it.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a model card has to say of the method, in JSON's types."""

    def picture(
        self, batch: Batch, wavelengths_nm: Sequence[float | None]
    ) -> NDArray[np.uint8] | None:
        """Show what has become of images.

        Args:
            batch: of ``draw``, a few images on the network's device.
            wavelengths_nm: of the image's bands.

        Returns:
            (height, width, 3); None of a method that paints nothing.
        """
        return None


def only_image(modalities: Sequence[Modality], spec: PretrainSpec) -> Modality:
    """Return the image, for a method that learns from nothing else.

    Raises:
        InputError: if the request names other modalities.
    """
    image = modalities[0]
    others = [name for name in spec.modalities if name != image.name]
    if others:
        raise InputError(
            f"The method {spec.method} learns from the image alone, not from {listed(others)}.",
            "Leave the modalities out, or choose the method mp-mae.",
        )
    return image
