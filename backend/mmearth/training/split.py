"""Splits that are honest: what is tested on lies apart from what was learned from.

Neighbouring pixels, and neighbouring polygons, resemble each other; a random split of pixels tells
how well a model remembers, not how well it maps (Roberts et al. 2017, Ecography 40:913).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmearth.errors import InputError
from mmearth.training.labels import Labels, require_classes

FINEST = 64  # halvings of the scene at which blocks hold no more than one unit anyhow


def fold_count(validation: float) -> int:
    """Return how many folds there are if each is such a share of the labels, at least 2."""
    return max(2, round(1 / validation))


def spatial_folds(labels: Labels, count: int) -> NDArray[np.int64]:
    """Assign each unit to one of several folds, so that units of a block share a fold.

    Blocks are as large as allows every class to be in every fold, as far as it has units enough.

    Args:
        labels: drawn labels.
        count: number of folds, at least 2.

    Returns:
        (units,) int64 fold of each unit, by its number; -1 for numbers without pixels.

    Raises:
        InputError: if there is only one class, or a class has a single unit.
    """
    _check(labels)
    units, centres, classes = _units(labels)
    extent = float(np.ptp(centres, axis=0).max()) + 1
    best: NDArray[np.int64] | None = None
    divisions = max(2, int(np.ceil(np.sqrt(count))))
    while divisions <= FINEST:
        blocks = _blocks(centres, extent / divisions)
        folds = _assign(blocks, classes, count)
        if _each_class_everywhere(folds, classes, count):
            best = folds
            break
        divisions *= 2
    if best is None:  # units so near each other that only they themselves are apart
        best = _assign(np.arange(len(units)), classes, count)
    result = np.full(int(labels.units.max()) + 1, -1, np.int64)
    result[units] = best
    return result


def _check(labels: Labels) -> None:
    require_classes(labels)
    for name, count in zip(labels.names, labels.units_per_class, strict=True):
        if count < 2:
            raise InputError(
                f"Expected two labels or more of the class {name!r} within the image, found "
                f"{count}.",
                "Draw another one elsewhere: one is learned from, the other tests what was "
                "learned.",
            )


def _units(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return numbers, centres (row, col) and classes of the units."""
    units, first, inverse, counts = np.unique(
        labels.units, return_index=True, return_inverse=True, return_counts=True
    )
    centres = np.stack(
        [np.bincount(inverse, axis) / counts for axis in (labels.rows, labels.cols)], axis=1
    )
    return units, centres, labels.classes[first]


def _blocks(centres: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    cells = np.floor((centres - centres.min(axis=0)) / side).astype(np.int64)
    _, blocks = np.unique(cells, axis=0, return_inverse=True)
    return blocks.reshape(-1)


def _assign(blocks: NDArray[np.int64], classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Give blocks to folds, the fullest first, each to the fold that lacks its classes most."""
    members = np.zeros((int(blocks.max()) + 1, int(classes.max()) + 1))
    np.add.at(members, (blocks, classes), 1)
    share = members / members.sum(axis=0).clip(1)  # a rare class counts as much as a common one
    held = np.zeros((count, members.shape[1]))
    folds = np.zeros(members.shape[0], np.int64)
    for block in np.argsort(-share.max(axis=1), kind="stable"):
        fold = int(np.argmin(((held + share[block]) ** 2 - held**2).sum(axis=1)))
        held[fold] += share[block]
        folds[block] = fold
    return folds[blocks]


def _each_class_everywhere(
    folds: NDArray[np.int64], classes: NDArray[np.int64], count: int
) -> bool:
    found, units = np.unique(classes, return_counts=True)
    return all(
        len(np.unique(folds[classes == number])) == min(count, total)
        for number, total in zip(found, units, strict=True)
    )
