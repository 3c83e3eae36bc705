"""From what is known of each date to what has changed.

Dates in between: the series of a pixel is split once, where the squared deviations from the means
before and after the split are least (the single change in mean of Hinkley, 1970, Biometrika 57,
1-17; "at most one change" in Killick and Eckley, 2014, Journal of Statistical Software 58(3)). They
are summed over all that is kept of a date, since trees that turn red may still be taken for trees.
What is compared are then the medians of both parts, on which a cloud that no mask has found has
little weight.

Dates differ in light, haze and season. Probabilities are compared as they are; reflectances
against those of forest that both dates show (pseudo-invariant features; Schott, Salvaggio and
Volchok, 1988, Remote Sensing of Environment 26, 1-16). A date is first made as bright there as the
first one in the near infrared, where haze counts least. Then the median over that forest is taken
off, and with it the haze, which adds to whatever is visible (dark objects; Chavez, 1988, Remote
Sensing of Environment 24, 459-479).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit, logit

from mmearth.change.rule import Rule

LEAST_FOREST = 100  # pixels of stable forest that make a median
MAPPED = 0.0  # log odds from which on a change is mapped, as ``loss_odds`` counts them


class Change(IntEnum):
    """Values of the class map.

    A change is possible where the probability of trees alone tells it: forest before and none
    after, or the other way round, without the evidence that a loss or gain is mapped from.
    """

    none = 0
    stable_forest = 1
    loss = 2
    gain = 3
    stable_other = 4
    possible_loss = 5
    possible_gain = 6


@dataclass(frozen=True)
class Compared:
    """What was found in some rows.

    Attributes:
        classes: (h, w) uint8, values of ``Change``.
        probability: (h, w) float32, of a change, 0 to 1; NaN without data.
    """

    classes: NDArray[np.uint8]
    probability: NDArray[np.float32]


def stable_forest(dates: Sequence[NDArray[np.float32]], rule: Rule) -> NDArray[np.bool_]:
    """Return the surer half of what is forest on the first and the last date: (n,) bool.

    What is forest by a hair is thin or ailing, and no measure of a date's light.

    Args:
        dates: as of ``forest_medians``.
        rule: what counts as forest.
    """
    trees = np.minimum(dates[0][0], dates[-1][0])
    forest = trees >= rule.forest
    return forest & (trees >= np.median(trees[forest])) if forest.any() else forest


def forest_medians(dates: Sequence[NDArray[np.float32]], rule: Rule) -> NDArray[np.float32]:
    """Return what the stable forest shows on each date.

    Args:
        dates: in order, each (4, n) float32, as ``evidence.weigh`` gives it; NaN where there is no
            data.
        rule: by which they were summed up.

    Returns:
        (D, 3) float32, medians of index, shade and light; NaN for a date in between that shows too
        little of that forest, typical values for all dates if there is too little of it.
    """
    forest = stable_forest(dates, rule)
    if forest.sum() < LEAST_FOREST:
        return np.tile(np.array(rule.typical_sums, np.float32), (len(dates), 1))
    medians = np.full((len(dates), 3), np.nan, np.float32)
    for number, date in enumerate(dates):
        seen = forest & np.isfinite(date[0])
        if seen.sum() >= LEAST_FOREST:
            medians[number] = np.median(date[1:, seen], axis=1)
    return medians


def in_same_light(
    dates: NDArray[np.float32], medians: NDArray[np.float32], rule: Rule
) -> NDArray[np.float32]:
    """Return the dates as if all were seen in the light of the first one.

    Args:
        dates: (D, 4, h, w) float32, as of ``forest_medians``.
        medians: (D, 3), of ``forest_medians``.
        rule: by which they were summed up.

    Returns:
        (D, 3, h, w) float32: the probability of trees, and index and shade less what stable forest
        shows.
    """
    gains = medians[0, 2] / medians[:, 2] if rule.bands else np.ones(len(dates), np.float32)
    corrected = dates[:, :3].copy()
    corrected[:, 1:] -= medians[:, :2, None, None]
    corrected[:, 1:] *= gains[:, None, None, None]
    return corrected


def compare(
    dates: Sequence[NDArray[np.float32]], medians: NDArray[np.float32], rule: Rule
) -> Compared:
    """Tell what has changed.

    Args:
        dates: in order, each (4, h, w) float32, as of ``forest_medians``. Pixels without data on
            the first or last date are left out; other dates count where they have data.
        medians: (D, 3) float32, of ``forest_medians``; dates in between without them do not count.
        rule: by which to tell.
    """
    alike = in_same_light(np.stack(dates), medians, rule)
    known = np.asarray(np.isfinite(alike).all(axis=1))
    valid = known[0] & known[-1]
    before, after = _parts(alike, known)
    loss = loss_odds(before, after, valid, rule)
    gain = loss_odds(after, before, valid, rule)
    was, became = before[0] >= rule.forest, after[0] >= rule.forest
    classes = np.where(was, Change.stable_forest, Change.stable_other).astype(np.uint8)
    classes[possible_loss(before[0], after[0], rule)] = Change.possible_loss
    classes[possible_loss(after[0], before[0], rule)] = Change.possible_gain
    # A gain is a loss read backwards.
    gain[was | ~became] = -np.inf
    classes[gain >= MAPPED] = Change.gain
    classes[loss >= MAPPED] = Change.loss
    probability = probability_of(np.maximum(loss, gain), rule)
    classes[~valid] = Change.none
    probability[~valid] = np.nan
    return Compared(classes, probability)


def possible_loss(
    before: NDArray[np.float32], after: NDArray[np.float32], rule: Rule
) -> NDArray[np.bool_]:
    """Return where trees were and are no more, by their probability alone, of any shape."""
    return np.asarray((before >= rule.forest) & (after < rule.forest))


def nothing_to_lose(
    before: NDArray[np.float32], after: NDArray[np.float32], rule: Rule
) -> NDArray[np.bool_]:
    """Return where no loss can be, by the probability of trees, of any shape.

    What becomes forest is not lost, whatever its colours.
    """
    return np.asarray((before < rule.least) | possible_loss(after, before, rule))


def loss_odds(
    before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_], rule: Rule
) -> NDArray[np.float32]:
    """Return the log odds that forest was lost, less those at the rule's threshold.

    Args:
        before: (3, h, w) float32, of ``in_same_light``.
        after: the same of the later date.
        valid: (h, w) bool.
        rule: by which to tell.

    Returns:
        (h, w) float32, at least ``MAPPED`` where a loss is mapped, least where there was nothing
        to lose; means nothing where not valid.
    """
    evidence, shade = loss_evidence(before, after, valid, rule)
    odds = (evidence - np.float32(rule.threshold)) / np.float32(rule.spread)
    odds[shade > rule.brightest] = -np.inf
    odds[nothing_to_lose(before[0], after[0], rule)] = -np.inf
    return odds


def probability_of(odds: NDArray[np.float32], rule: Rule) -> NDArray[np.float32]:
    """Return the probability of a change, 0 to 1, by odds of ``loss_odds`` of any shape."""
    return np.asarray(expit(odds + np.float32(logit(rule.mapped))), np.float32)


def loss_evidence(
    before: NDArray[np.float32], after: NDArray[np.float32], valid: NDArray[np.bool_], rule: Rule
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return evidence of a loss, and how bright in the band ``shade`` it was before.

    Args:
        before: as of ``loss_odds``.
        after: as of ``loss_odds``.
        valid: as of ``loss_odds``.
        rule: how to weigh both dates.

    Returns:
        Two of (h, w) float32, weighted means over the rule's square.
    """
    parts = [
        np.float32(weight) * date[number]
        for date, weights in ((before, rule.before), (after, rule.after))
        for number, weight in enumerate(weights)
    ]
    evidence = np.minimum(np.sum(parts, axis=0), np.float32(rule.most))
    evidence = window_mean(evidence, valid, rule.window)
    return evidence, window_mean(before[2], valid, rule.window)


def window_mean(
    values: NDArray[np.float32], valid: NDArray[np.bool_], side: int
) -> NDArray[np.float32]:
    """Return the weighted mean over a square around each pixel, of valid pixels only.

    Weights fall with the distance as a Gaussian, whose standard deviation is a quarter of the side
    and which is cut off at the square's rim.

    Returns:
        (h, w) float32; 0 where nothing is valid.
    """

    def smoothed(layer: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(gaussian_filter(layer, side / 4, mode="constant", radius=side // 2))

    total = smoothed(np.where(valid, values, np.float32(0)))
    share = smoothed(valid.astype(np.float32))
    return np.asarray(np.divide(total, share, out=np.zeros_like(total), where=share > 0))


def _parts(
    dates: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the medians before and after the best split.

    Args:
        dates: (D, C, h, w).
        known: (D, h, w), where there is data.

    Returns:
        Two of (C, h, w).
    """
    count = len(dates)
    if count == 2:
        return dates[0], dates[1]
    values = np.where(known[:, None], dates, np.float32(0))
    least = np.full(dates.shape[2:], np.inf, np.float32)
    split = np.ones(dates.shape[2:], np.int64)
    for first in range(1, count):
        rest = _deviations(values[:first], known[:first])
        rest += _deviations(values[first:], known[first:])
        better = rest < least
        least[better], split[better] = rest[better], first
    number = np.arange(count)[:, None, None]
    return _median(dates, known & (number < split)), _median(dates, known & (number >= split))


def _deviations(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the sum of squared deviations from the means of known values.

    Args:
        values: (D, C, h, w), 0 where not known.
        known: (D, h, w).

    Returns:
        (h, w), over all of C.
    """
    count = np.maximum(known.sum(axis=0), 1)
    return np.asarray(((values**2).sum(axis=0) - values.sum(axis=0) ** 2 / count).sum(axis=0))


def _median(dates: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the median of the chosen dates, NaN if there is none. (D, C, h, w) to (C, h, w)."""
    ordered = np.sort(np.where(chosen[:, None], dates, np.float32(np.nan)), axis=0)  # NaN last
    count = np.maximum(chosen.sum(axis=0), 1)
    middle = np.stack([(count - 1) // 2, count // 2])[:, None]
    return np.take_along_axis(ordered, middle, axis=0).mean(axis=0)
