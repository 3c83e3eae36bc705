"""Values in the map are the codes of the field where these tell classes apart."""

from __future__ import annotations

import pytest

from mmearth.training.classes import class_rows


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("3", "7"), [3, 7]),
        (("1", "01"), [1, 2]),  # two texts, one number
        (("²", "³"), [1, 2]),
        (("-1", "4"), [1, 2]),
        (("0", "300"), [1, 2]),
    ],
)
def test_values(tiny_model, names, values) -> None:
    assert [row.value for row in class_rows(names, (), tiny_model)] == values
