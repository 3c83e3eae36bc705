"""Labels that cover whole scenes: what is used of them.

A map of a Sentinel-2 scene labels 120 million pixels, and training draws some thousands of them. So
labels are taken from some squares of the grid only, within which they are dense as they were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmearth.api import Problem
from mmearth.raster.grid import Grid
from mmearth.training.labels.base import warning

SQUARE = 128  # pixels a side
MOST_SQUARES = 256
MOST_PIXELS = MOST_SQUARES * SQUARE**2  # labels of no more pixels are all used


class Squares:
    """Squares that a grid is divided into, some of which are used.

    Args:
        grid: of the model's input.
    """

    def __init__(self, grid: Grid) -> None:
        shape = -(-grid.height // SQUARE), -(-grid.width // SQUARE)
        self.used = np.ones(shape, bool)

    def choose(self, squares: NDArray[np.int64], classes: NDArray[np.int64]) -> None:
        """Use some squares only: classes take turns, each with one of its own at random.

        Args:
            squares: (n,) number of a square, row by row.
            classes: (n,) class that has labels in it; pairs are unique.
        """
        order = np.random.default_rng(0).permutation(squares.size)
        order = order[np.argsort(repeats(classes[order]), kind="stable")]
        _, first = np.unique(squares[order], return_index=True)
        chosen = squares[order[np.sort(first)[:MOST_SQUARES]]]
        self.used[:] = False
        self.used.ravel()[chosen] = True

    def mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
        """Return which pixels of a rectangle are used. (height, width) bool."""
        rows, cols = np.arange(top, top + height), np.arange(left, left + width)
        return self.used[rows // SQUARE][:, cols // SQUARE]

    def told(self) -> Problem:
        """Say that not all labels are used."""
        return warning(
            "many",
            f"The labels cover more than {MOST_PIXELS:,} pixels; those in {self.used.sum():,} "
            f"squares of {SQUARE} pixels a side, with all classes among them, are used.",
            "That suffices for training. Cut the labels to an area of your own to choose yourself.",
        )


def repeats(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each value has come before. values: (n,); (n,) int64."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    result = np.zeros(values.size, np.int64)
    result[order] = np.arange(values.size) - np.repeat(first, counts)
    return result
