"""Labelled pixels, whatever they were read from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmearth.api import Problem
from mmearth.errors import EmptyAreaError, InputError, listed

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
        features: of each unit, by its number, what its layer calls it; empty of a label raster.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    classes: NDArray[np.int64]
    units: NDArray[np.int64]
    warnings: tuple[Problem, ...] = ()
    features: tuple[str, ...] = ()

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
        return replace(
            self,
            rows=self.rows[wanted],
            cols=self.cols[wanted],
            classes=self.classes[wanted],
            units=self.units[wanted],
        )

    @property
    def classes_with_pixels(self) -> list[str]:
        """Names of the classes that have any."""
        return [self.names[number] for number in np.unique(self.classes)]


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number in digits."""
    return re.fullmatch(r"-?[0-9]+", text) is not None


def class_text(value: object) -> str | None:
    """Return a class as text, None if there is none.

    A column of whole numbers with gaps is read as one of decimals.
    """
    if value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value))):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip() or None


def limit_classes(count: int, where: str) -> None:
    """Refuse what is no field or raster of classes."""
    if count > MOST_CLASSES:
        raise InputError(
            f"Expected at most {MOST_CLASSES} classes, found {count:,} different values in "
            f"{where}.",
            CHOOSE_FIELD,
        )


def require_classes(labels: Labels, where: str = "") -> None:
    """Refuse labels of a single class.

    Args:
        labels: that are learned from.
        where: follows the expectation in the message, for example "where the rasters have data".

    Raises:
        InputError: if there are fewer than two classes with pixels.
    """
    found = labels.classes_with_pixels
    if len(found) < 2:
        raise InputError(
            f"Expected labels of two classes or more{where and ' '}{where}, found "
            f"{f'only {found[0]!r}' if found else 'none'}.",
            "Draw some of another class too: a model learns from differences.",
        )


def require_data(labels: Labels) -> None:
    """Refuse a class of which no label has data.

    Args:
        labels: pixels that have data.

    Raises:
        InputError: if there is one, or fewer than two have some.
    """
    require_classes(labels, "where the rasters have data")
    there = set(labels.classes_with_pixels)
    if missing := [repr(name) for name in labels.names if name not in there]:
        raise InputError(
            f"No label of {listed(missing)} lies where the rasters have data.",
            "Draw some, or leave the class out.",
        )


def no_data_at_labels() -> EmptyAreaError:
    """Return what is to be raised where the rasters have no data at any label."""
    return EmptyAreaError(
        "The rasters have no data where the labels are.",
        "Draw labels where the image shows something.",
    )


def without_data(drawn: Labels, found: Labels) -> tuple[Problem, ...]:
    """Say which units have no data at all.

    Args:
        drawn: labels that were looked at.
        found: those of them that have data.
    """
    lost = drawn.chosen(~np.isin(drawn.units, found.units))
    parts = []
    for number, (name, count) in enumerate(zip(lost.names, lost.units_per_class, strict=True)):
        if count:
            units = np.unique(lost.units[lost.classes == number]).tolist()
            known = listed(lost.features[unit] for unit in units) if lost.features else ""
            parts.append(f"{count} of {name!r}" + (f" (features {known})" if known else ""))
    if not parts:
        return ()
    return (
        warning(
            "nodata",
            f"Some labels lie where the rasters have no data: {listed(parts)}; left out.",
            "Draw them where the image shows something.",
        ),
    )


def warning(code: str, message: str, advice: str = "") -> Problem:
    """Return what is told, and not raised."""
    return Problem(code=code, message=message, advice=advice)
