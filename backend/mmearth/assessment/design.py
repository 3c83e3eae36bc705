"""How many points a sample needs, and how they are shared out among the strata."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmearth.api.assess import Allocation
from mmearth.errors import InputError, counted, listed

LEAST_POINTS = 2  # of a stratum: of a single one, nothing is known of how much they vary


def sample_size(
    weights: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    target_error: float,
    pixels: int,
) -> int:
    """Return how many points give overall accuracy a standard error (Olofsson et al. 2014, eq. 13).

    Args:
        weights: (H,) share of the area of each stratum.
        accuracies: (H,) user's accuracy that is expected of each, 0 to 1.
        target_error: standard error of overall accuracy that is wished for, 0.01 for one percent.
        pixels: of the map.
    """
    deviations = np.sqrt(accuracies * (1 - accuracies))
    mean = float(weights @ deviations)
    return math.ceil(mean**2 / (target_error**2 + float(weights @ deviations**2) / pixels))


def fewest(pixels: NDArray[np.int64], allocation: Allocation, minimum: int) -> NDArray[np.int64]:
    """Return how many points each stratum has at least, see ``allocate``. (H,) int64."""
    least = max(minimum, LEAST_POINTS) if allocation == "compromise" else LEAST_POINTS
    return np.minimum(least, pixels)


def allocate(
    size: int,
    pixels: NDArray[np.int64],
    allocation: Allocation,
    *,
    minimum: int,
    titles: Sequence[str],
) -> NDArray[np.int64]:
    """Share out points among strata; each has two or more, and none more than it has pixels.

    Args:
        size: points in all.
        pixels: (H,) of each stratum.
        allocation: ``proportional`` to the pixels; ``equal``; or ``compromise``, where strata whose
            share in proportion is below the minimum have that, and the others what is left, in
            proportion (Olofsson et al. 2014, section 5.1.1).
        minimum: points of rare strata; for ``compromise`` only.
        titles: of the strata, for messages.

    Returns:
        (H,) int64, points of each.

    Raises:
        InputError: if the sample is too small or too large, or a stratum is a single pixel.
    """
    _check(size, pixels, titles)
    floors = fewest(pixels, allocation, minimum)
    if floors.sum() > size:
        raise InputError(
            f"At least {minimum:,} points in each of {pixels.size} classes are "
            f"{int(floors.sum()):,}, more than the {counted(size, 'point')} of the sample.",
            "Draw more points, or lower the minimum of rare classes.",
        )
    shares = np.ones(pixels.size) if allocation == "equal" else pixels / pixels.sum()
    result = np.zeros(pixels.size, np.int64)
    free = np.ones(pixels.size, bool)
    while True:  # strata whose share lies beyond their bounds get these, the others what is left
        left = size - int(result[~free].sum())
        ideal = left * shares / shares[free].sum()
        over, under = free & (ideal > pixels), free & (ideal < floors)
        # One side at a time: what one stratum cannot take may lift another above its minimum.
        fixed, bounds = (over, pixels) if over.any() else (under, floors)
        if not fixed.any():
            break
        result[fixed], free = bounds[fixed], free & ~fixed
        if not free.any():
            break
    if free.any():
        result[free] = _rounded(ideal[free], left)
    return result


def _check(size: int, pixels: NDArray[np.int64], titles: Sequence[str]) -> None:
    if single := [title for title, count in zip(titles, pixels, strict=True) if count < 2]:
        raise InputError(
            f"Expected two pixels or more of each class, found one of {listed(single)}.",
            "Remove such specks, for example with ‘Sieve’, or join the class with another.",
        )
    if size < LEAST_POINTS * pixels.size:
        raise InputError(
            f"A sample of {counted(size, 'point')} is too small for {pixels.size} classes: each "
            f"needs {LEAST_POINTS}, and far more to tell much.",
            f"Draw {LEAST_POINTS * pixels.size:,} points or more.",
        )
    if size > pixels.sum():
        raise InputError(
            f"A sample of {size:,} points was asked for, but the raster has only "
            f"{int(pixels.sum()):,} pixels with a class.",
            "Draw fewer points.",
        )


def _rounded(ideal: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round to whole numbers of a given sum; the largest remainders go up."""
    result = np.floor(ideal).astype(np.int64)
    order = np.argsort(result - ideal, kind="stable")
    result[order[: total - int(result.sum())]] += 1
    return result
