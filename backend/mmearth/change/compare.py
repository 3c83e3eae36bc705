"""From what is known of each date to what has changed.

Dates in between: the series of a pixel's probabilities of trees is split once, where the squared
deviations from the means before and after the split are least (the single change in mean of
Hinkley, 1970, Biometrika 57, 1-17; "at most one change" in Killick and Eckley, 2014, Journal of
Statistical Software 58(3)). What is compared are then the means of both parts.

Dates differ in light, haze and season. Probabilities are compared as they are; reflectances less
their median over forest that both dates show, so that what has shifted for the whole scene cancels
out (pseudo-invariant features; Schott, Salvaggio and Volchok, 1988, Remote Sensing of Environment
26, 1-16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import expit, logit

from mmearth.change.rule import Rule

SMALLEST = 1e-3  # probability; less is noise
LEAST_FOREST = 100  # pixels of stable forest that make a median


class Change(IntEnum):
    """Values of the class map."""

    none = 0
    stable_forest = 1
    loss = 2
    gain = 3
    stable_other = 4


@dataclass(frozen=True)
class Compared:
    """What was found in some rows.

    Attributes:
        classes: (h, w) uint8, values of ``Change``.
        probability: (h, w) float32, of a change, 0 to 1; NaN without data.
    """

    classes: NDArray[np.uint8]
    probability: NDArray[np.float32]


def forest_medians(dates: Sequence[NDArray[np.float32]], rule: Rule) -> NDArray[np.float32]:
    """Return what to take from each date: the medians of its bands over stable forest.

    Args:
        dates: in order, each (1 + B, n) float32: probability of trees, then log reflectances; NaN
            where there is no data.
        rule: what is compared.

    Returns:
        (D, B) float32; typical values for all dates if there is too little forest in a date.
    """
    forest = (dates[0][0] >= rule.forest) & (dates[-1][0] >= rule.forest)
    medians = []
    for date in dates:
        seen = forest & np.isfinite(date[0])
        if seen.sum() < LEAST_FOREST:
            return np.tile(np.array(rule.typical, np.float32), (len(dates), 1))
        medians.append(np.median(date[1:, seen], axis=1))
    return np.array(medians, np.float32).reshape(len(dates), -1)


def compare(
    dates: Sequence[NDArray[np.float32]], medians: NDArray[np.float32], rule: Rule
) -> Compared:
    """Tell what has changed.

    Args:
        dates: in order, each (1 + B, h, w) float32, as of ``forest_medians``. Pixels without data
            on the first or last date are left out; other dates count where they have data.
        medians: (D, B) float32, of ``forest_medians``.
        rule: by which to tell.
    """
    centred = np.stack(dates)
    centred[:, 1:] -= medians[:, :, None, None]
    valid = np.isfinite(centred[0, 0]) & np.isfinite(centred[-1, 0])
    before, after = _parts(centred)
    loss = change_odds(before, after, valid, rule)
    gain = change_odds(after, before, valid, rule)
    was, became = before[0] >= rule.forest, after[0] >= rule.forest
    limit = logit(rule.threshold)
    classes = np.where(was, Change.stable_forest, Change.stable_other).astype(np.uint8)
    # A gain is a loss read backwards.
    classes[~was & became & (gain >= limit)] = Change.gain
    could_lose = before[0] >= rule.least
    classes[could_lose & (loss >= limit)] = Change.loss
    odds = np.maximum(np.where(could_lose, loss, -np.inf), np.where(was, -np.inf, gain))
    probability = expit(odds).astype(np.float32)
    classes[~valid] = Change.none
    probability[~valid] = np.nan
    return Compared(classes, probability)


def change_odds(
    before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_], rule: Rule
) -> NDArray[np.float32]:
    """Return the log odds that forest was lost.

    Args:
        before: (1 + B, h, w) float32, probability of trees and centred log reflectances.
        after: the same of the later date.
        valid: (h, w) bool.
        rule: by which to tell.

    Returns:
        (h, w) float32; not valid beside ``valid``.
    """
    odds = np.full(valid.shape, rule.bias, np.float32)
    for date, weights in ((before, rule.before), (after, rule.after)):
        for quantity, weight in zip(describe(date), weights, strict=True):
            odds += np.float32(weight) * quantity
    around = window_means(odds, valid, rule.windows)
    shares = np.array(rule.window_weights, np.float32)[:, None, None]
    return np.asarray((around * shares).sum(axis=0) + np.float32(rule.window_bias))


def describe(date: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the terms of the sum. (1 + B, h, w) float32 to (2 + B, h, w): with log odds second."""
    odds = logit(date[:1].clip(SMALLEST, 1 - SMALLEST))
    return np.concatenate([date[:1], odds, date[1:]])


def window_means(
    values: NDArray[np.float32], valid: NDArray[np.bool_], windows: Sequence[int]
) -> NDArray[np.float32]:
    """Return the means over squares around each pixel, of valid pixels only: (W, h, w) float32."""
    known = np.where(valid, values, np.float32(0))
    shares = valid.astype(np.float32)
    means = []
    for side in windows:
        total = uniform_filter(known, side, mode="constant")
        share = uniform_filter(shares, side, mode="constant")
        means.append(total / np.maximum(share, 0.5 / side**2))
    return np.stack(means)


def _parts(dates: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means before and after the best split. (D, C, h, w) to two of (C, h, w)."""
    count = len(dates)
    if count == 2:
        return dates[0], dates[1]
    known = np.isfinite(dates[:, 0])
    trees = np.where(known, dates[:, 0], 0)
    least = np.full(dates.shape[2:], np.inf, np.float32)
    split = np.ones(dates.shape[2:], np.int64)
    for first in range(1, count):
        rest = _deviations(trees[:first], known[:first]) + _deviations(trees[first:], known[first:])
        better = rest < least
        least[better], split[better] = rest[better], first
    number = np.arange(count)[:, None, None]
    return _mean(dates, known & (number < split)), _mean(dates, known & (number >= split))


def _deviations(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the sum of squared deviations from the mean of known values. (D, h, w) to (h, w)."""
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray((values**2).sum(axis=0) - values.sum(axis=0) ** 2 / count)


def _mean(dates: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean of the chosen dates, NaN if there is none. (D, C, h, w) to (C, h, w)."""
    total = np.where(chosen[:, None], dates, 0).sum(axis=0)
    count = chosen.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float32)
