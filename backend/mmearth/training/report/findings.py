"""What was measured, in words and rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmearth.training.metrics import (
    Reliability,
    accuracy_interval,
    calibration_error,
    difference_interval,
    f1,
    intersection_over_union,
    producers_accuracy,
    reliability,
    users_accuracy,
)
from mmearth.training.task import CurvePoint, Tested

FEW_UNITS = 5  # tested units of a class: with fewer, one polygon moves its figures by 20 % or more
FLAT_POINTS = 1.0  # percent: a gain that is not worth drawing for
HONEST_POINTS = 5.0  # percent: certainties that are off by less are good enough to work with
LEAST_PREDICTIONS = 10  # of a point in the figure of certainty; fewer say nothing


@dataclass(frozen=True)
class Score:
    """A share and the interval that holds it with 95 %.

    Attributes:
        value: 0 to 1; of differences -1 to 1, as are the others.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Headline:
    """How good the model is.

    Attributes:
        model: its accuracy.
        forest: that of the random forest; None if there was none.
        lead: of the model over the forest.
        verdict: the same in a sentence; empty without a forest.
        units: how many were tested.
        pixels: likewise.
    """

    model: Score
    forest: Score | None
    lead: Score | None
    verdict: str
    units: int
    pixels: int


@dataclass(frozen=True)
class ClassFigures:
    """A row of the table of classes; shares are NaN where they cannot be told.

    Attributes:
        number: from 1.
        title: what the user reads.
        color: #rrggbb.
        units: drawn.
        pixels: labelled.
        tested: units that were tested; None if nothing was, as all that follow.
        iou: intersection over union.
        f1: F1 score.
        users: user's accuracy.
        producers: producer's accuracy.
        forest_f1: F1 score of the random forest; None without one.
    """

    number: int
    title: str
    color: str
    units: int
    pixels: int
    tested: int | None = None
    iou: float | None = None
    f1: float | None = None
    users: float | None = None
    producers: float | None = None
    forest_f1: float | None = None


def headline(tested: Tested, baseline: Tested | None, unit: str) -> Headline:
    """Compare the model with the random forest."""
    model, forest, lead = _score(tested), None, None
    if baseline is not None:
        forest = _score(baseline)
        right, other = tested.truth == tested.mapped, baseline.truth == baseline.mapped
        lead = Score(model.value - forest.value, *difference_interval(right, other, tested.units))
    units = int(np.unique(tested.units).size)
    return Headline(model, forest, lead, _verdict(lead, unit), units, tested.truth.size)


def class_figures(
    titles: Sequence[str],
    colors: Sequence[str],
    units: NDArray[np.int64],
    pixels: NDArray[np.int64],
    tested: Tested | None,
    baseline: Tested | None,
) -> list[ClassFigures]:
    """Return the table of classes. titles, colors, units, pixels: of each class, in order."""
    drawn = zip(titles, colors, units.tolist(), pixels.tolist(), strict=True)
    if tested is None:
        return [ClassFigures(number, *row) for number, row in enumerate(drawn, 1)]
    figures: list[NDArray[np.float64] | list[None]] = [
        measure(tested.matrix)
        for measure in (intersection_over_union, f1, users_accuracy, producers_accuracy)
    ]
    figures.append([None] * len(titles) if baseline is None else f1(baseline.matrix))
    counts = tested_units(tested).tolist()
    return [
        ClassFigures(number, *row, *measured)
        for number, (row, *measured) in enumerate(zip(drawn, counts, *figures, strict=True), 1)
    ]


def tested_units(tested: Tested) -> NDArray[np.int64]:
    """Return (K,) int64, the tested units of each class."""
    pairs = np.unique(np.stack([tested.units, tested.truth]), axis=1)
    return np.bincount(pairs[1], minlength=tested.probabilities.shape[1])


def too_few(rows: Sequence[ClassFigures], unit: str) -> str:
    """Say which classes' figures rest on few units; empty if none do."""
    thin = [row for row in rows if row.tested is not None and row.tested < FEW_UNITS]
    if not thin:
        return ""
    named = ", ".join(f"{row.title} ({row.tested})" for row in thin)
    return (
        f"Fewer than {FEW_UNITS} tested {unit}s: {named}. One {unit} more or less changes the "
        f"figures of these classes a lot, and the interval above may be too narrow. Draw more "
        f"{unit}s of them, in other places."
    )


def confusions(matrix: NDArray[np.int64], titles: Sequence[str], most: int = 3) -> list[str]:
    """Name the most frequent mistakes. matrix: (K, K), rows are the labels."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    present = matrix.sum(axis=1)
    sentences = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most].tolist():
        row, column = divmod(place, len(titles))
        if wrong[row, column]:
            share = wrong[row, column] / present[row]
            sentences.append(
                f"{titles[row]} mapped as {titles[column]}: {wrong[row, column]:,} pixels, "
                f"{100 * share:.0f} % of what is {titles[row]}"
            )
    return sentences


def curve_words(curve: Sequence[CurvePoint], model: str, unit: str) -> str:
    """Say what more labels would bring. curve: two points or more, by growing numbers."""
    before, last = curve[-2], curve[-1]
    gain = 100 * (last.accuracy - before.accuracy)
    grew = f"From {before.units:.0f} to {last.units:.0f} {unit}s the accuracy of {model} "
    if gain >= FLAT_POINTS:
        advice = (
            f"rose by {gain:.1f} points. More {unit}s should help further, though each step "
            "usually brings less than the one before."
        )
    elif gain > -FLAT_POINTS:
        advice = (
            f"hardly changed ({gain:+.1f} points). More {unit}s of the same kind will bring "
            f"little; {unit}s in places that look different, or where the map is wrong, bring more."
        )
    else:
        advice = (
            f"fell by {-gain:.1f} points. Newer {unit}s may contradict older ones: check that each "
            "class means the same everywhere."
        )
    return grew + advice


def certainty(tested: Tested) -> tuple[Reliability, float, str]:
    """Compare what the map says of its own certainty with how often it is right.

    Returns:
        Points of the figure (those of few predictions left out), expected calibration error, and
        both in words.
    """
    confidence = tested.probabilities.max(axis=1)
    right = tested.truth == tested.mapped
    found = reliability(confidence, right)
    error = calibration_error(confidence, right)
    excess = float(confidence.mean()) - tested.accuracy
    states = f"On average the map states {100 * confidence.mean():.0f} % certainty"
    against = f"and is right in {100 * tested.accuracy:.0f} % of the pixels."
    if 100 * error < HONEST_POINTS:
        words = f"{states} {against} Its certainty can be taken at its word."
    elif excess > 0:
        words = f"{states} {against} It is too sure of itself: read its certainty with caution."
    else:
        words = f"{states} {against} It is better than it says: its certainty is on the low side."
    shown = found.counts >= LEAST_PREDICTIONS
    accuracy = np.where(shown, found.accuracy, np.nan)
    return Reliability(found.confidence, accuracy, found.counts), error, words


def _score(tested: Tested) -> Score:
    right = tested.truth == tested.mapped
    return Score(tested.accuracy, *accuracy_interval(right, tested.units))


def _verdict(lead: Score | None, unit: str) -> str:
    if lead is None:
        return ""
    points = f"{abs(100 * lead.value):.1f} points"
    if lead.low > 0:
        return f"The new model is better than the random forest, by {points}."
    if lead.high < 0:
        return (
            f"The new model is worse than the random forest, by {points}. Draw more {unit}s, or "
            "try another base or way of training before you rely on it."
        )
    return (
        f"The new model is level with the random forest: with other {unit}s of the same kind the "
        f"difference of {points} could as well be nothing."
    )
