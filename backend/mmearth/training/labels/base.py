"""Labelled pixels, whatever they were read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmearth.api import Problem
from mmearth.errors import InputError

MOST_CLASSES = 50  # a field of more values is no field of classes
CHOOSE_FIELD = "Choose the field that holds the class of each feature."


@dataclass(frozen=True)
class Labels:
    """Labelled pixels of a grid.

    A unit is what was drawn at once: a polygon, line or point; of a label raster, a block. Pixels
    of one unit resemble each other, so a unit is either learned from or tested on, never both.

    Attributes:
        names: of the classes, in the order of their numbers from 0.
        rows: (n,) int64.
        cols: (n,) int64.
        classes: (n,) int64, number of each pixel's class.
        units: (n,) int64, number of each pixel's unit, from 0.
        warnings: what was left out, and why.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    classes: NDArray[np.int64]
    units: NDArray[np.int64]
    warnings: tuple[Problem, ...] = ()

    @property
    def pixels_per_class(self) -> NDArray[np.int64]:
        """(K,) labelled pixels of each class."""
        return np.bincount(self.classes, minlength=len(self.names))

    @property
    def units_per_class(self) -> NDArray[np.int64]:
        """(K,) units of each class."""
        pairs = np.unique(np.stack([self.units, self.classes]), axis=1)
        return np.bincount(pairs[1], minlength=len(self.names))

    def chosen(self, wanted: NDArray[np.bool_]) -> Labels:
        """Return some of the pixels; the classes stay as they are. wanted: (n,) bool."""
        return Labels(
            self.names,
            self.rows[wanted],
            self.cols[wanted],
            self.classes[wanted],
            self.units[wanted],
            self.warnings,
        )


def limit_classes(count: int, where: str) -> None:
    """Refuse what is no field or raster of classes."""
    if count > MOST_CLASSES:
        raise InputError(
            f"Expected at most {MOST_CLASSES} classes, found {count:,} different values in "
            f"{where}.",
            CHOOSE_FIELD,
        )


def warning(code: str, message: str, advice: str = "") -> Problem:
    """Return what is told, and not raised."""
    return Problem(code=code, message=message, advice=advice)
