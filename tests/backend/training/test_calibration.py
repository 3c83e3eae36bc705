"""Temperatures make probabilities as sure as they are right, by units and within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from mmearth.training import calibration
from mmearth.training.calibration import (
    COOLEST,
    HOTTEST,
    calibrated,
    fit_temperature,
    fit_temperatures,
    probabilities_at,
)
from mmearth.training.metrics import calibration_error


def test_overconfident_scores_are_cooled() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(4000, 3)) * 1.5
    truth = np.array([random.choice(3, p=row) for row in softmax(scores, axis=1)])
    assert fit_temperature(scores * 2.5, truth, np.arange(4000)) == pytest.approx(2.5, rel=0.1)
    found = softmax(scores, axis=1)
    right = found.argmax(axis=1) == truth
    sure = softmax(scores * 2.5, axis=1).max(axis=1)
    assert calibration_error(found.max(axis=1), right) < 0.3 * calibration_error(sure, right)


def test_a_large_unit_counts_as_much_as_a_small_one() -> None:
    scores = np.tile([2.0, 0.0], (110, 1))
    truth = np.array([0] * 100 + [1] * 10)
    units = np.array([0] * 100 + [1] * 10)
    by_unit = fit_temperature(scores, truth, units)
    by_pixel = fit_temperature(scores, truth, np.arange(110))
    assert by_unit > 4.5 and by_pixel == pytest.approx(2 / np.log(10), rel=0.01)


def test_scores_that_are_always_right_stay_within_bounds() -> None:
    scores, truth = np.eye(2)[[0, 1]] * 5, np.array([0, 1])
    assert fit_temperature(scores, truth, truth) == pytest.approx(COOLEST, rel=0.01)
    assert fit_temperature(scores, 1 - truth, truth) == pytest.approx(HOTTEST, rel=0.01)


def test_no_pixel_is_tested_with_a_temperature_that_it_helped_to_fit() -> None:
    """One fold is always right and the other always wrong: each is judged by the other."""
    scores = np.tile(np.array([3.0, 0.0], np.float32), (40, 1))
    folds = np.repeat([0, 1], 20)
    found, temperature = calibrated(scores, folds, np.arange(40), folds)
    assert found[0] == pytest.approx(softmax(scores[0] / HOTTEST), abs=0.01)
    assert found[20] == pytest.approx(softmax(scores[0] / COOLEST), abs=0.01)
    assert temperature == fit_temperature(scores, folds, np.arange(40))
    alone, _ = calibrated(scores, folds, np.arange(40), folds * 0)
    assert alone == pytest.approx(softmax(scores, axis=1))


def test_what_says_nothing_does_not_seem_calibrated() -> None:
    """Few pixels, pure chance: fitted on what it is tested on, it would look better than it is."""
    random = np.random.default_rng(0)
    gaps = []
    for _ in range(60):
        scores = random.normal(size=(12, 2)).astype(np.float32) * 2
        truth = random.integers(0, 2, 12)
        found, temperature = calibrated(scores, truth, np.arange(12), np.arange(12) % 4)
        pair = [
            values[np.arange(12), truth] for values in (found, softmax(scores / temperature, 1))
        ]
        gaps.append(-np.log(pair[0]).mean() + np.log(pair[1]).mean())
    assert np.mean(gaps) > 0.01


@pytest.fixture
def drawn():
    """Scores whose classes are too sure by 2, 2 and 3; 20 pixels of each of 1,000 units."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(20_000, 3)) * 1.5
    chances = softmax(scores, axis=1)
    truth = (chances.cumsum(axis=1) < random.uniform(size=(20_000, 1))).sum(axis=1)
    return scores * [2, 2, 3], chances, truth, np.arange(20_000) // 20


def test_many_units_speak_for_a_temperature_of_a_class(drawn) -> None:
    scores, chances, truth, units = drawn
    found = fit_temperatures(scores, truth, units)
    assert found == pytest.approx((2, 2, 3), rel=0.1)
    common = probabilities_at(scores, fit_temperature(scores, truth, units))
    better = probabilities_at(scores, found)
    assert np.abs(better - chances).mean() < 0.3 * np.abs(common - chances).mean()


def test_few_units_stay_near_the_common_temperature(drawn) -> None:
    scores, _, truth, units = drawn
    few = units < 12
    found = fit_temperatures(scores[few], truth[few], units[few])
    common = fit_temperature(scores[few], truth[few], units[few])
    assert found == pytest.approx((common,) * 3, rel=0.1)
    # A class that is nowhere, at scores that say so, has nothing to run away for.
    scores, never = np.eye(3)[[0, 1] * 50] * 4, np.array([0, 1] * 50)
    assert fit_temperatures(scores, never, never) == pytest.approx((COOLEST,) * 3, rel=0.02)


def test_temperatures_may_be_fitted_to_probabilities(drawn) -> None:
    """Then scores say what a teacher says, as unsure as it is."""
    scores, chances, truth, units = drawn
    assert fit_temperatures(scores, chances, units) == pytest.approx((2, 2, 3), rel=0.05)
    flat = fit_temperature(scores, 0.5 * chances + 0.5 / 3, units)
    assert flat > 1.5 * fit_temperature(scores, truth, units)


def test_some_pixels_of_each_unit_tell_what_all_do(drawn, monkeypatch) -> None:
    scores, _, truth, units = drawn
    whole = fit_temperatures(scores, truth, units)
    monkeypatch.setattr(calibration, "MOST_PIXELS", 10_000)
    some = fit_temperatures(scores, truth, units, seed=1)
    assert some == pytest.approx(whole, rel=0.05) and some != whole
    assert some == fit_temperatures(scores, truth, units, seed=1)
