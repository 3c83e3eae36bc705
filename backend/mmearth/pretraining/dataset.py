"""What a data set offers to pretraining."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from mmearth.api import Problem
from mmearth.models.parts import Normalisation
from mmearth.pretraining.modality import Batch, Modality


class Dataset(Protocol):
    """Images, and what else is known of the places that they show.

    Attributes:
        modalities: what batches hold; the image first.
        sensor: of the image.
        bands: of the image, in order.
        levels: processing levels of the images.
        normalisation: from the sensor's quantity to the image in a batch.
        resolution_m: pixel size on the ground.
        attribution: of the images, where it is known.
        split: part of the data set that was read; "all" of all of it.
        parts: of the data set that hold anything; none if it is not divided.
        warnings: about what was read.
        files: all that are read, lists of tiles and modalities too, by which changes are noticed.
    """

    modalities: tuple[Modality, ...]
    sensor: str
    bands: tuple[str, ...]
    levels: tuple[str, ...]
    normalisation: Normalisation
    resolution_m: float
    attribution: str
    split: str
    parts: tuple[str, ...]
    warnings: list[Problem]
    files: tuple[Path, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of places."""

    @abstractmethod
    def draw(self, count: int, generator: np.random.Generator) -> Batch:
        """Draw crops at random; the same state of ``generator`` gives the same crops.

        Returns:
            See ``mmearth.pretraining.modality``; crops of all pixel modalities show one place.
        """

    @abstractmethod
    def draw_views(
        self, count: int, generator: np.random.Generator, views: int
    ) -> list[torch.Tensor]:
        """Draw several looks at the same places, for methods that learn from how they differ.

        All views show the very same crop of the ground, turned alike: smaller crops of it are the
        method's own business. They are of different dates where a place was seen on several, drawn
        at random, none of them twice before all were; where there is one only, all are that image.

        Returns:
            ``views`` tensors (count, C, H, W) float32, standardised, NaN = no data.
        """
