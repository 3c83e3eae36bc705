"""Drawing pixels at random within each class of a raster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmearth.assessment.classraster import ClassRaster, Tally


@dataclass(frozen=True)
class Drawn:
    """Pixels that were drawn, in random order: whoever looks at them in turn can stop at any time.

    Attributes:
        pixels: (n,) int64, row x width + column.
        owners: (n,) int64, number of each one's class.
        square_metres: (n,) float64, ground of each on the ellipsoid.
    """

    pixels: NDArray[np.int64]
    owners: NDArray[np.int64]
    square_metres: NDArray[np.float64]


def draw_pixels(
    raster: ClassRaster,
    tally: Tally,
    points: NDArray[np.int64],
    seed: int,
    watch: Callable[[int], None] = lambda row: None,
) -> Drawn:
    """Draw pixels of each class, each with the same chance and none twice, and shuffle them.

    No least distance is kept: it would make the chances unequal, which the estimators rest on.

    Args:
        raster: of the classes.
        tally: of all of it.
        points: (H,) how many of each of the tally's values.
        seed: decides what is drawn.
        watch: told the row that is looked at; may raise.
    """
    generator = np.random.default_rng(seed)
    ranks = [
        np.sort(generator.choice(tally.pixels[value], count, replace=False))
        for value, count in zip(tally.values, points.tolist(), strict=True)
    ]
    passed = np.zeros(points.size, np.int64)
    pixels: list[NDArray[np.int64]] = []
    owners: list[NDArray[np.int64]] = []
    areas: list[NDArray[np.float64]] = []
    for strip in raster.strips():
        watch(strip.start)
        codes, valid = strip.codes.ravel(), strip.valid.ravel()
        for number, value in enumerate(tally.values):
            there = np.flatnonzero((codes == value) & valid)
            low, high = np.searchsorted(
                ranks[number], (passed[number], passed[number] + there.size)
            )
            chosen = there[ranks[number][low:high] - passed[number]]
            pixels.append(chosen + strip.start * raster.grid.width)
            owners.append(np.full(chosen.size, number, np.int64))
            areas.append(strip.areas.ravel()[chosen])
            passed[number] += there.size
    found, classes = np.concatenate(pixels), np.concatenate(owners)
    # From the order of the pixels, so that it does not matter how many rows are read at once.
    order = np.argsort(found)[generator.permutation(found.size)]
    return Drawn(found[order], classes[order], np.concatenate(areas)[order])
