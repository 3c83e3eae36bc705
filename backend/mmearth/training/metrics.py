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


def f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the F1 score of each class; NaN for classes that neither has."""
    hits = np.diag(matrix).astype(float)
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), np.nan)


def accuracy_interval(
    right: NDArray[np.bool_], units: NDArray[np.int64], *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return a 95 % interval of the share that is right, by drawing whole units again.

    Pixels of one unit are right or wrong together; an interval by pixels would be far too narrow
    (cluster bootstrap, Field and Welsh 2007).

    Args:
        right: (n,) whether a pixel is right.
        units: (n,) unit of each pixel.
        seed: of the draws.
        draws: how often the units are drawn.
    """
    _, places = np.unique(units, return_inverse=True)
    hits, sizes = np.bincount(places, right), np.bincount(places)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(draws, len(sizes)))
    shares = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3).

    Args:
        confidence: (n,) probability of the mapped class.
        right: (n,) whether it is the true one.
        bins: of equal width.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    sizes = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, confidence, bins) - np.bincount(place, right, bins)
    return float(np.abs(gaps).sum() / max(1, sizes.sum()))
