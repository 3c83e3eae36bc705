"""Figures of agreement between two maps, from one confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion(
    reference: NDArray[np.integer], mapped: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count pairs of classes.

    Args:
        reference: (n,) class numbers from 0.
        mapped: (n,) class numbers from 0.
        classes: number of classes.

    Returns:
        (classes, classes) int64; rows are the reference, columns the map.
    """
    pairs = reference.astype(np.int64) * classes + mapped
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def agreement(matrix: NDArray[np.int64]) -> float:
    """Return the share of pixels on which both agree."""
    return float(np.trace(matrix) / max(1, matrix.sum()))


def intersection_over_union(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class; NaN for classes that neither has."""
    hits = np.diag(matrix).astype(float)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)
