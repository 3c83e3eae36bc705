"""Figures of accuracy, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.training.metrics import accuracy_interval, calibration_error, confusion, f1


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


def test_calibration_error() -> None:
    confidence = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    assert calibration_error(confidence, right) == pytest.approx(0.05)
