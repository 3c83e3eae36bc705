"""What a data set offers to pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

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
    warnings: list[Problem]
    files: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of tiles."""

    def draw(self, count: int, generator: np.random.Generator) -> Batch:
        """Draw crops at random; the same state of ``generator`` gives the same crops.

        Returns:
            See ``mmearth.pretraining.modality``; crops of all pixel modalities show one place.
        """
