"""Figures of agreement between two maps, from one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv


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


def users_accuracy(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much of what is mapped as a class is that class; NaN for classes never mapped.

    Also called precision; the complement of the commission error (Congalton 1991, Remote Sensing
    of Environment 37:35).
    """
    mapped = matrix.sum(axis=0)
    return np.where(mapped > 0, np.diag(matrix) / np.maximum(mapped, 1), np.nan)


def producers_accuracy(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much of a class is mapped as such; NaN for classes that the reference lacks.

    Also called recall; the complement of the omission error (Congalton 1991).
    """
    present = matrix.sum(axis=1)
    return np.where(present > 0, np.diag(matrix) / np.maximum(present, 1), np.nan)


def accuracy_interval(
    right: NDArray[np.bool_], units: NDArray[np.int64], *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return a 95 % interval of the share that is right, by drawing whole units again.

    Pixels of one unit are right or wrong together; an interval by pixels would be far too narrow
    (cluster bootstrap, Field and Welsh 2007). Where all units are alike, all of them right for
    example, draws do not differ, and the interval is that of as many trials (Clopper and Pearson
    1934, Biometrika 26:404).

    Args:
        right: (n,) whether a pixel is right.
        units: (n,) unit of each pixel.
        seed: of the draws.
        draws: how often the units are drawn.
    """
    low, high = _interval(right.astype(float), units, seed, draws)
    if high - low > 1e-9:  # more than rounding
        return low, high
    count, share = np.unique(units).size, float(right.mean())
    hits = share * count
    low = betaincinv(hits, count - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, count - hits, 0.975) if hits < count else 1.0
    return float(low), float(high)


def difference_interval(
    right: NDArray[np.bool_],
    other: NDArray[np.bool_],
    units: NDArray[np.int64],
    *,
    seed: int = 0,
    draws: int = 2000,
) -> tuple[float, float]:
    """Return a 95 % interval of how much more is right than of another map of the same pixels.

    Both are judged on the same drawn units, so what makes units easy or hard for both falls out
    (paired bootstrap, Efron and Tibshirani 1993, chapter 8; by units as ``accuracy_interval``).

    Args:
        right: (n,) whether a pixel is right.
        other: (n,) whether it is on the other map.
        units: (n,) unit of each pixel.
        seed: of the draws.
        draws: how often the units are drawn.
    """
    return _interval(right.astype(float) - other, units, seed, draws)


def _interval(
    values: NDArray[np.float64], units: NDArray[np.int64], seed: int, draws: int
) -> tuple[float, float]:
    """Return a 95 % interval of the mean over pixels of units drawn again and again."""
    _, places = np.unique(units, return_inverse=True)
    sums, sizes = np.bincount(places, values), np.bincount(places)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for number in range(draws):  # one by one: a label raster may have 100,000 units
        drawn = random.integers(len(sizes), size=len(sizes))
        means[number] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of like confidence are right.

    Attributes:
        confidence: (bins,) mean probability of the mapped class; NaN of empty bins.
        accuracy: (bins,) share that is right; NaN of empty bins.
        counts: (bins,) int64, predictions.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, equation 3)."""
        gaps = np.abs(self.confidence - self.accuracy) * self.counts
        return float(np.nansum(gaps) / max(1, self.counts.sum()))


def reliability(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_] | NDArray[np.floating],
    bins: int = 10,
) -> Reliability:
    """Sort predictions into bins of confidence (DeGroot and Fienberg 1983, The Statistician 32:12).

    Args:
        confidence: (n,) probability of a class, such as the mapped one.
        right: (n,) whether it is the true one, or how likely it is that it is.
        bins: of equal width.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # empty bins
        return Reliability(
            np.bincount(place, confidence, bins) / counts,
            np.bincount(place, right, bins) / counts,
            counts,
        )


def calibration_error(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3).

    Args:
        confidence: (n,) probability of the mapped class.
        right: (n,) whether it is the true one.
        bins: of equal width.
    """
    return reliability(confidence, right, bins).error
