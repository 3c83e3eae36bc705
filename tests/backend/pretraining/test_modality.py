"""Stored numbers become targets without the defects of the published code."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.errors import InputError
from mmearth.pretraining.modality import UNKNOWN, categorical, continuous

WORLDCOVER = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)


@pytest.mark.parametrize("nodata", [0, 255])
def test_the_first_class_is_not_taken_for_no_data(nodata) -> None:
    # MMEarth-train looks for no data again among class numbers: tree cover, number 0, is lost.
    stored = np.array([[10, 20], [100, nodata]], np.uint8)
    classes = categorical(stored, WORLDCOVER, nodata)
    assert classes.tolist() == [[0, 1], [10, UNKNOWN]]


def test_an_unlisted_code_is_refused() -> None:
    with pytest.raises(InputError, match=r"Expected the codes 10, 20.*found 25"):
        categorical(np.array([10, 25], np.uint8), (10, 20), 0)


@pytest.mark.parametrize("nodata", [255, -1.5])
def test_no_data_that_a_type_cannot_hold_is_refused(nodata) -> None:
    # Canopy heights of MMEarth are int8 with 255 as no data: nothing is ever missing.
    heights = np.array([3, 127, -1], np.int8)
    with pytest.raises(InputError, match=rf"{nodata:g} .* type int8 cannot be that"):
        continuous(heights, nodata)
    with pytest.raises(InputError, match="cannot be that"):
        categorical(heights, (3,), nodata)


def test_no_data_of_measurements() -> None:
    stored = np.array([100, 0, 250], np.uint16)
    np.testing.assert_allclose(continuous(stored, 0, scale=0.01, offset=1), [2, np.nan, 3.5])
    infinite = np.array([-12.5, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(continuous(infinite, -np.inf), [-12.5, np.nan, np.nan])
    np.testing.assert_array_equal(continuous(stored, None), [100, 0, 250])
