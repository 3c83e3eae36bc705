"""Folds keep what was drawn together, and what lies together, together."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.errors import InputError
from mmearth.training.labels import Labels
from mmearth.training.split import spatial_folds


def labels_at(places, classes, names=("a", "b")) -> Labels:
    """Return labels of 3 x 3 pixels around each place."""
    rows, cols, numbers, units = [], [], [], []
    for unit, ((row, col), number) in enumerate(zip(places, classes, strict=True)):
        for drow in range(3):
            for dcol in range(3):
                rows.append(row + drow)
                cols.append(col + dcol)
                numbers.append(number)
                units.append(unit)
    return Labels(names, *(np.array(part, np.int64) for part in (rows, cols, numbers, units)))


def test_each_class_is_in_several_folds_and_neighbours_share_one() -> None:
    """Eight clusters, far apart, of four polygons each."""
    random = np.random.default_rng(0)
    places, classes = [], []
    for number in range(8):
        centre = np.array([200 * (number // 4), 200 * (number % 4)])
        for part in range(4):
            places.append(centre + random.integers(0, 12, 2) * 3)
            classes.append(part % 2)
    folds = spatial_folds(labels_at(places, classes), 4)
    assert set(folds) == {0, 1, 2, 3}
    for number in range(8):
        assert len(set(folds[4 * number : 4 * number + 4])) == 1
    for kind in (0, 1):
        assert len(set(folds[np.array(classes) == kind])) == 4


def test_two_polygons_of_a_class_are_told_apart_even_side_by_side() -> None:
    places = [(0, 0), (0, 4), (0, 8), (0, 12)]
    folds = spatial_folds(labels_at(places, [0, 0, 1, 1]), 4)
    assert folds[0] != folds[1] and folds[2] != folds[3]


def test_folds_are_of_like_size() -> None:
    random = np.random.default_rng(1)
    places, classes = random.integers(0, 500, (60, 2)), random.integers(0, 2, 60)
    folds = spatial_folds(labels_at(places, classes), 4)
    for kind in (0, 1):
        sizes = np.bincount(folds[classes == kind], minlength=4)
        assert sizes.min() >= sizes.sum() / 4 * 0.5


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="two classes or more, found only 'a'"):
        spatial_folds(labels_at([(0, 0), (50, 50)], [0, 0]), 4)


def test_a_single_label_of_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="class 'b' within the image, found 1"):
        spatial_folds(labels_at([(0, 0), (50, 50), (90, 0)], [0, 0, 1]), 4)
