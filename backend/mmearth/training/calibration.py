"""Temperature scaling (Guo et al. 2017): probabilities that are as sure as they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

COOLEST, HOTTEST = 0.2, 5.0  # beyond, the few labels are at fault and not the scores


def fit_temperature(
    scores: NDArray[np.floating], truth: NDArray[np.int64], units: NDArray[np.int64]
) -> float:
    """Return the temperature at which scores say best how sure they may be.

    Args:
        scores: (n, K), of pixels that were not learned from; log-probabilities will do.
        truth: (n,) class numbers from 0.
        units: (n,) unit of each pixel; units count alike, however large.

    Returns:
        From ``COOLEST`` to ``HOTTEST``; probabilities = softmax(scores / temperature).
    """
    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    weights = 1 / sizes[place]
    pixels = np.arange(len(truth))

    def loss(logarithm: float) -> float:
        likelihood = log_softmax(scores / np.exp(logarithm), axis=1)[pixels, truth]
        return float(-(weights * likelihood).sum())

    found = minimize_scalar(loss, bounds=np.log([COOLEST, HOTTEST]), method="bounded")
    return float(np.exp(found.x))


def calibrated(
    scores: NDArray[np.float32],
    truth: NDArray[np.int64],
    units: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> tuple[NDArray[np.float32], float]:
    """Return probabilities that can be tested, and the temperature of the model.

    The temperature of the model is fitted on all pixels. Were they tested with it, they would seem
    surer and truer than others will; so each is tested with that of the other folds.

    Args:
        scores: (n, K) float32, of pixels that were not learned from.
        truth: (n,) class numbers from 0.
        units: (n,) unit of each pixel.
        folds: (n,) fold of each pixel; pixels of a unit share one. Of a single fold, scores are
            taken as they are.

    Returns:
        (n, K) float32, and the temperature as of ``fit_temperature``.
    """
    result = np.empty_like(scores)
    for fold in np.unique(folds):
        own = folds == fold
        others = scores[~own], truth[~own], units[~own]
        temperature = 1.0 if own.all() else fit_temperature(*others)
        result[own] = softmax(scores[own] / np.float32(temperature), axis=1)
    return result, fit_temperature(scores, truth, units)
