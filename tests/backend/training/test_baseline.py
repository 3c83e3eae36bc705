"""The forest learns from its split alone, the same with the same seed on any number of cores."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.errors import JobCancelled
from mmearth.training import baseline


@pytest.fixture
def pixels():
    """Return two of three classes, told apart by the first band."""
    random = np.random.default_rng(0)
    classes = np.arange(120, dtype=np.int64) % 2 * 2
    reflectance = random.normal(size=(120, 4)).astype(np.float32)
    reflectance[:, 0] += classes * 3
    return reflectance, classes


def test_probabilities_of_known_and_unknown_classes(pixels) -> None:
    found = baseline.forest_probabilities(*pixels, pixels[0], 3)
    assert found.shape == (120, 3) and (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == pixels[1]).all()


def test_rare_classes_are_found_more_often_if_classes_count_alike() -> None:
    random = np.random.default_rng(0)
    classes = (np.arange(400) % 10 == 0).astype(np.int64)
    reflectance = random.normal(size=(400, 1)).astype(np.float32).round(1)
    reflectance[:, 0] += classes
    shares = [
        (baseline.forest_probabilities(reflectance, classes, reflectance, 2, balanced=balanced)
         .argmax(axis=1) == 1).mean()
        for balanced in (True, False)
    ]  # fmt: skip
    assert shares[0] > 2 * shares[1]


def test_each_split_is_classified_by_its_own_forest(pixels) -> None:
    half = np.arange(120) < 60
    learned, tested = np.stack([half, ~half]), np.stack([~half, half])
    found = baseline.tested_forests(*pixels, 3, learned, tested)
    again = baseline.tested_forests(*pixels, 3, learned, tested, threads=2)
    np.testing.assert_array_equal(found, again)
    own = baseline.forest_probabilities(pixels[0][half], pixels[1][half], pixels[0][~half], 3)
    np.testing.assert_array_equal(found[~half], own)
    assert (found.argmax(axis=1) == pixels[1]).mean() > 0.9


def test_cancel(pixels) -> None:
    half = np.arange(120) < 60
    with pytest.raises(JobCancelled):
        baseline.tested_forests(*pixels, 3, half[None], ~half[None], cancelled=lambda: True)
