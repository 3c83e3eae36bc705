"""Figures of accuracy, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.training.metrics import (
    accuracy_interval,
    calibration_error,
    confusion,
    difference_interval,
    f1,
    producers_accuracy,
    reliability,
    users_accuracy,
)


def test_f1() -> None:
    matrix = confusion(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 3)
    assert f1(matrix)[:2] == pytest.approx([2 / 3, 1 / 2]) and np.isnan(f1(matrix)[2])


def test_the_interval_is_that_of_units_not_of_pixels() -> None:
    """Ten polygons of 100 pixels, eight of them wholly right: 80 %, and far from certain."""
    units = np.repeat(np.arange(10), 100)
    low, high = accuracy_interval(units < 8, units)
    assert 0.4 <= low <= 0.6 and high == pytest.approx(1.0, abs=0.001)
    alone = np.arange(1000)  # were each pixel a unit, it would be narrow
    low, high = accuracy_interval(alone < 800, alone)
    assert 0.77 < low < 0.8 < high < 0.83


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(3, 1, (0.292, 1)), (3, 0, (0, 0.708)), (100, 1, (0.964, 1)), (1, 1, (0.025, 1))],
)
def test_a_few_units_that_are_all_right_prove_little(count, share, expected) -> None:
    """Exact limits of Clopper and Pearson, for example of 3 in 3: 0.025 to the power of 1/3."""
    units = np.repeat(np.arange(count), 50)
    found = accuracy_interval(np.full(units.size, bool(share)), units)
    assert found == pytest.approx(expected, abs=0.001)


def test_users_and_producers_accuracy() -> None:
    """Rows are the labels, columns the map; the third class is nowhere."""
    matrix = np.array([[3, 2, 0], [1, 1, 0], [0, 0, 0]])
    assert users_accuracy(matrix)[:2] == pytest.approx([3 / 4, 1 / 3])
    assert producers_accuracy(matrix)[:2] == pytest.approx([3 / 5, 1 / 2])
    assert np.isnan(users_accuracy(matrix)[2]) and np.isnan(producers_accuracy(matrix)[2])
    never_mapped = np.array([[2, 0], [6, 0]])
    assert users_accuracy(never_mapped)[0] == 1 / 4 and np.isnan(users_accuracy(never_mapped)[1])
    assert producers_accuracy(never_mapped).tolist() == [1, 0]


def test_a_small_but_constant_lead_is_sure_when_judged_on_the_same_units() -> None:
    """Units range from hard to easy; on each, one map is right on 5 of 100 pixels more."""
    units = np.repeat(np.arange(20), 100)
    place = np.tile(np.arange(100), 20)
    other = place < 4 * units + 10
    right = place < 4 * units + 15
    assert difference_interval(right, other, units) == pytest.approx((0.05, 0.05))
    low, high = accuracy_interval(right, units)
    assert high - low > 0.1  # each figure by itself says little


def test_the_difference_keeps_its_sign() -> None:
    units = np.arange(200)
    low, high = difference_interval(units < 100, units < 180, units)
    assert -0.5 < low < -0.4 < high < -0.3
    assert difference_interval(units < 100, units < 100, units) == (0, 0)


def test_reliability() -> None:
    confidence = np.array([1.0, 0.95, 0.55, 0.5])
    found = reliability(confidence, np.array([True, False, True, True]))
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert found.confidence[[5, 9]] == pytest.approx([0.525, 0.975])
    assert found.accuracy[[5, 9]] == pytest.approx([1, 0.5])
    assert np.isnan(found.accuracy[0]) and np.isnan(found.confidence[0])


def test_calibration_error() -> None:
    confidence = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    assert calibration_error(confidence, right) == pytest.approx(0.05)
