"""Sizes of samples and their shares are those that Olofsson et al. 2014 print."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.assessment.design import allocate, sample_size

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
TITLES = ("Deforestation", "Forest gain", "Stable forest", "Stable non-forest")
EXPECTED = np.array([0.70, 0.60, 0.90, 0.95])


def shared(size, allocation, minimum=50, pixels=PIXELS) -> list[int]:
    titles = TITLES[: len(pixels)]
    return allocate(size, np.array(pixels), allocation, minimum=minimum, titles=titles).tolist()


def test_the_size_of_equation_13() -> None:
    """Section 5.1.1 and table 5: 641 points for a standard error of one percent."""
    assert sample_size(PIXELS / PIXELS.sum(), EXPECTED, 0.01, int(PIXELS.sum())) == 641


def test_the_size_is_bounded_by_the_map() -> None:
    """The second term of the equation: of a small map, fewer suffice."""
    weights = PIXELS / PIXELS.sum()
    assert sample_size(weights, EXPECTED, 0.01, 2000) < 641 * 0.85


def test_shares_of_table_5() -> None:
    assert shared(641, "proportional") == [13, 10, 205, 413]
    assert shared(640, "equal") == [160, 160, 160, 160]


def test_the_compromise_gives_rare_classes_the_minimum() -> None:
    for minimum in (50, 75, 100):
        found = shared(641, "compromise", minimum)
        assert found[:2] == [minimum, minimum] and sum(found) == 641
        assert found[2] / found[3] == pytest.approx(3.2 / 6.45, rel=0.02)


@pytest.mark.parametrize("allocation", ["proportional", "equal", "compromise"])
def test_no_stratum_has_fewer_than_two_or_more_than_it_has_pixels(allocation) -> None:
    pixels = [2, 30, 5000, 1_000_000]
    for size in (204, 500, 3001):
        found = shared(size, allocation, pixels=pixels)
        assert sum(found) == size
        assert all(2 <= count <= most for count, most in zip(found, pixels, strict=True))
