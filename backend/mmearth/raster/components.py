"""Principal components of a raster of features: what three colours show most of it.

The features are read a few rows at a time, three times over, so memory does not grow with the
scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmearth.raster.features import read_features

SHOWN = 3
PERCENTILES = (0.02, 0.98)
# No more than 2 % of any distribution lie beyond 7.1 standard deviations (Chebyshev).
REACH = 7.5
BINS = 4096
FLAT = 1e-9  # share of the variance below which a component is rounding, not variance
MIDDLE = 128  # shown where all pixels are alike


@dataclass(frozen=True)
class Components:
    """The first three principal components of valid pixels.

    Attributes:
        mean: (C,) float64.
        vectors: (3, C) float64, of length 1; 0 where there is no further component. The largest
            part of each is positive, so the same features give the same picture.
        explained: share of the variance of each, 0 to 1.
        low: (3,) 2nd percentile of each.
        high: (3,) 98th percentile of each.
    """

    mean: NDArray[np.float64]
    vectors: NDArray[np.float64]
    explained: tuple[float, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def picture(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return red, green and blue of pixels, 1 to 255 from the low percentile to the high.

        Args:
            values: (C, n) features.

        Returns:
            (3, n) uint8.
        """
        span = self.high - self.low
        shares = _project(values, self.mean, self.vectors) - self.low[:, None]
        shares /= np.where(span > 0, span, 1.0)[:, None]
        shown = 1 + np.rint(254 * shares.clip(0, 1))
        shown[span <= 0] = MIDDLE
        return shown.astype(np.uint8)


def find_components(
    path: str, check_cancelled: Callable[[], None] = lambda: None
) -> Components | None:
    """Find the principal components of a raster of features.

    Args:
        path: of the raster.
        check_cancelled: called for each block of rows; raises to stop.

    Returns:
        None if no pixel is valid.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for rows in read_features(path):
        check_cancelled()
        values = rows.values[:, rows.valid].astype(np.float64)
        if not values.size:
            continue
        if not count:
            mean, scatter = np.zeros(len(values)), np.zeros((len(values), len(values)))
        # Merged as by Chan et al. 1983, because sums of squares would lose digits.
        fresh = values.shape[1]
        centre = values.mean(axis=1)
        step = centre - mean
        values -= centre[:, None]
        scatter += values @ values.T + np.outer(step, step) * (count * fresh / (count + fresh))
        mean = mean + step * (fresh / (count + fresh))
        count += fresh
    if not count:
        return None
    shares, vectors = _largest(scatter)
    spread = np.sqrt(np.maximum(shares * np.trace(scatter) / count, 0))
    low, high = _percentiles(path, mean, vectors, spread, check_cancelled)
    return Components(mean, vectors, tuple(float(share) for share in shares), low, high)


def _largest(scatter: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return share of variance (3,) and direction (3, C) of the largest components."""
    shares, vectors = np.zeros(SHOWN), np.zeros((SHOWN, len(scatter)))
    total = np.trace(scatter)
    if total <= 0:
        return shares, vectors
    sizes, directions = np.linalg.eigh(scatter)
    for number in range(min(SHOWN, len(scatter))):
        share, vector = sizes[-1 - number] / total, directions[:, -1 - number]
        if share > FLAT:
            shares[number] = share
            vectors[number] = vector * np.sign(vector[np.abs(vector).argmax()])
    return shares, vectors


def _project(
    values: NDArray[np.float32], mean: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(vectors @ (values.astype(np.float64) - mean[:, None]))


def _percentiles(
    path: str,
    mean: NDArray[np.float64],
    vectors: NDArray[np.float64],
    spread: NDArray[np.float64],
    check_cancelled: Callable[[], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the low and the high percentile of each component, to a 270th of its deviation."""
    edges = np.linspace(-REACH, REACH, BINS + 1)
    counts = np.zeros((SHOWN, BINS))
    width = np.where(spread > 0, spread, 1.0)[:, None]
    for rows in read_features(path):
        check_cancelled()
        places = _project(rows.values[:, rows.valid], mean, vectors) / width
        for number, row in enumerate(places.clip(-REACH, math.nextafter(REACH, 0))):
            counts[number] += np.histogram(row, edges)[0]
    limits = np.zeros((len(PERCENTILES), SHOWN))
    for number in range(SHOWN):
        if spread[number] > 0:
            below = np.concatenate([[0.0], counts[number].cumsum() / counts[number].sum()])
            limits[:, number] = np.interp(PERCENTILES, below, edges) * spread[number]
    return limits[0], limits[1]
