"""Numbers in words, for the panel."""

import pytest

from qgis_mmearth.gui import words


@pytest.mark.parametrize("count, said", [(1, "1 tile, about "), (1200, "1,200 tiles, about ")])
def test_effort(count, said):
    plan = {
        "grid": {"width": 200, "height": 180, "pixel_m": 10.0}, "tiles": count, "seconds": 3.0,
        "seconds_measured": True, "memory_bytes": 2**30,
    }  # fmt: skip
    assert words.effort(plan).startswith(said)
