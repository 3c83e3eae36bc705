"""Forest in pictures of the Amazon (Bragagnolo et al. 2019), and a random forest on their colours.

The files' tag SPLIT tells pictures to learn from (train) and pictures that are held back (val).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from mmearth.training.baseline import forest_probabilities

PER_PICTURE = 10_000  # pixels that the random forest learns from


@dataclass(frozen=True)
class Picture:
    """A picture and its published mask.

    Attributes:
        path: of the picture.
        split: train or val.
        image: (3, H, W) uint8, red, green and blue.
        label: (H, W) uint8: 1 forest, 2 other, 0 not known.
    """

    path: Path
    split: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pixels with a label. (H, W)."""
        return self.label > 0


def read(folder: Path) -> list[Picture]:
    """Read all pictures of the folder amazon_rgb."""
    pictures = []
    for path in sorted(folder.glob("[0-9][0-9].tif")):
        with rasterio.open(path) as dataset:
            image, split = dataset.read(), dataset.tags()["SPLIT"]
        with rasterio.open(path.with_suffix(".label.tif")) as dataset:
            label = dataset.read(1)[:, : image.shape[2]]  # one mask is 3 columns wider
        pictures.append(Picture(path, split, image, label))
    return pictures


def of_split(pictures: Sequence[Picture], split: str) -> list[Picture]:
    """Return the pictures of a split."""
    return [one for one in pictures if one.split == split]


def truth(pictures: Sequence[Picture]) -> NDArray[np.bool_]:
    """Return where there is forest, of all pixels with a label. (n,)."""
    return np.concatenate([one.label[one.known] == 1 for one in pictures])


def forest_on_colours(pictures: Sequence[Picture], *, balanced: bool = True) -> NDArray[np.bool_]:
    """Return where a random forest on colours finds forest in what is held back. (n,).

    Pixels are those of ``truth`` of the held-back pictures. ``balanced``: classes count alike.
    """
    random = np.random.default_rng(0)
    pixels, classes = [], []
    for one in of_split(pictures, "train"):
        some = random.permutation(np.flatnonzero(one.known))[:PER_PICTURE]
        pixels.append(one.image.reshape(3, -1)[:, some].T)
        classes.append((one.label.ravel()[some] == 1).astype(np.int64))
    held = of_split(pictures, "val")
    wanted = np.concatenate([one.image[:, one.known] for one in held], axis=1)
    # Pictures of 8 bits hold few colours: each is asked for once.
    colours, place = np.unique(wanted, axis=1, return_inverse=True)
    learned = np.concatenate(pixels).astype(np.float32)
    found = forest_probabilities(
        learned,
        np.concatenate(classes),
        colours.T.astype(np.float32),
        2,
        balanced=balanced,
    )
    return np.asarray((found[:, 1] >= 0.5)[place.ravel()])
