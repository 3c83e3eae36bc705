"""Temperature scaling (Guo et al. 2017): probabilities that are as sure as they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from mmearth.training.labels import repeats

COOLEST, HOTTEST = 0.2, 5.0  # beyond, the few labels are at fault and not the scores
# Standard deviation of the logarithm of a class's temperature about the common one, as far as is
# known before any unit was seen.
SPREAD = 0.2
MOST_PIXELS = 250_000  # that temperatures of classes are fitted to; neighbours tell little more


def fit_temperature(
    scores: NDArray[np.floating],
    truth: NDArray[np.int64] | NDArray[np.floating],
    units: NDArray[np.int64],
) -> float:
    """Return the temperature at which scores say best how sure they may be.

    Args:
        scores: (n, K), of pixels that were not learned from; log-probabilities will do.
        truth: (n,) class numbers from 0, or (n, K) probabilities of the classes.
        units: (n,) unit of each pixel; units count alike, however large.

    Returns:
        From ``COOLEST`` to ``HOTTEST``; probabilities = softmax(scores / temperature).
    """
    weighted = _weights(units)[:, None] * _shares(truth, scores.shape[1])

    def loss(logarithm: float) -> float:
        return float(-(weighted * log_softmax(scores / np.exp(logarithm), axis=1)).sum())

    found = minimize_scalar(loss, bounds=np.log([COOLEST, HOTTEST]), method="bounded")
    return float(np.exp(found.x))


def fit_temperatures(
    scores: NDArray[np.floating],
    truth: NDArray[np.int64] | NDArray[np.floating],
    units: NDArray[np.int64],
    *,
    seed: int = 0,
) -> tuple[float, ...]:
    """Return a temperature for each class at which scores say best how sure they may be.

    This is the vector scaling of Guo et al. 2017 (section 4.2) without its bias. A class's
    temperature begins at the common one of ``fit_temperature`` and leaves it only as far as units
    speak for it: its logarithm is normal about the common one's (``SPREAD``), and a unit counts as
    one observation, whatever its size. So a class that few units have stays close to the common
    temperature.

    Unlike a common one, temperatures of classes can change which class is the likeliest, where two
    are almost level: ``python -m benchmarks calibration`` measures by how much agreement falls.
    Nor are they indifferent to a number that is added to all scores of a pixel, so they belong to
    the very scores that they were fitted to.

    Args:
        scores: (n, K), of pixels that were not learned from, as the network gives them; of more
            than ``MOST_PIXELS`` some are drawn, as many of each unit.
        truth: (n,) class numbers from 0, or (n, K) probabilities of the classes. Scores fitted to
            class numbers say how often a class is right; fitted to a teacher's probabilities, they
            say what the teacher would, sure or unsure as it is.
        units: (n,) unit of each pixel, such as its tile.
        seed: of the pixels that are drawn.

    Returns:
        K numbers from ``COOLEST`` to ``HOTTEST``; probabilities = softmax(scores / temperatures).
    """
    drawn = _drawn(units, seed)
    scores, truth, units = scores[drawn], truth[drawn], units[drawn]
    shares, weights = _shares(truth, scores.shape[1]), _weights(units)[:, None]
    common = np.log(fit_temperature(scores, shares, units))

    def loss(logarithms: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        divided = scores / np.exp(logarithms)
        likelihood = log_softmax(divided, axis=1)
        away = (logarithms - common) / SPREAD
        slope = (weights * (shares - np.exp(likelihood)) * divided).sum(axis=0) + away / SPREAD
        return float(-(weights * shares * likelihood).sum() + (away**2).sum() / 2), slope

    found = minimize(
        loss,
        np.full(scores.shape[1], common),
        jac=True,
        method="L-BFGS-B",
        bounds=[tuple(np.log([COOLEST, HOTTEST]))] * scores.shape[1],
    )
    return tuple(float(number) for number in np.exp(found.x))


def probabilities_at(
    scores: NDArray[np.floating], temperature: float | tuple[float, ...]
) -> NDArray[np.floating]:
    """Return the probabilities (n, K) of scores (n, K), as a network of such a card gives them."""
    return softmax(scores / np.asarray(temperature, scores.dtype), axis=1)


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
        result[own] = probabilities_at(scores[own], temperature)
    return result, fit_temperature(scores, truth, units)


def _shares(truth: NDArray[np.int64] | NDArray[np.floating], classes: int) -> NDArray[np.float64]:
    """Return how much of a pixel is of each class. (n, K)."""
    return np.asarray(truth if truth.ndim == 2 else np.eye(classes)[truth], np.float64)


def _weights(units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights of pixels, whose sum over each unit is 1."""
    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[place])


def _drawn(units: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the pixels to fit to: as many of each unit, or all that it has."""
    if units.size <= MOST_PIXELS:
        return np.arange(units.size)
    order = np.random.default_rng(seed).permutation(units.size)
    most = max(1, MOST_PIXELS // np.unique(units).size)
    return np.sort(order[repeats(units[order]) < most])
