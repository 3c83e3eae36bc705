"""Footprints, and which of them show the same ground."""

from __future__ import annotations

import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from mmearth.pretraining.datasets.blocks import block_at
from mmearth.raster.grid import Grid
from mmearth.raster.ground import footprint, overlaps

SIDE = 128


def grid(epsg: int, lon: float, lat: float, pixel: float = 10.0) -> Grid:
    """Return a grid around a place."""
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    half = pixel * SIDE / 2
    corner = Affine(pixel, 0, x - half, 0, -pixel, y + half)
    return Grid(CRS.from_epsg(epsg), corner, SIDE, SIDE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (grid(32733, 15.0, 50.0), grid(32733, 15.005, 50.0)),
        (grid(32733, 17.99, 50.0), grid(32734, 18.0, 50.0)),  # two systems
        (grid(32760, 179.995, -17.0), grid(32760, -179.999, -17.0)),  # Fiji
        (grid(32760, -179.999, -17.0), grid(32701, -179.999, -17.0)),
        (grid(3031, 0.0, -90.0), grid(3031, 70.0, -89.999)),
        (grid(3995, 0.0, 90.0), grid(3995, -120.0, 89.995)),
    ],
)
def test_shared_ground_is_found(first: Grid, second: Grid) -> None:
    assert overlaps([footprint(first)], [footprint(second)]) == [(0, 0)]
    assert overlaps([footprint(second)], [footprint(first)]) == [(0, 0)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (grid(32733, 15.0, 50.0), grid(32733, 15.02, 50.0)),
        (grid(32760, 179.98, -17.0), grid(32760, -179.99, -17.0)),
        (grid(3031, 0.0, -90.0), grid(3031, 70.0, -89.9)),
        (grid(3995, 0.0, 90.0), grid(3031, 0.0, -90.0)),
    ],
)
def test_other_ground_is_not_shared(first: Grid, second: Grid) -> None:
    assert overlaps([footprint(first)], [footprint(second)]) == []


def test_what_has_no_place_shares_nothing() -> None:
    here = footprint(grid(32733, 15.0, 50.0))
    assert overlaps([None, here], [None, here]) == [(1, 1)]
    assert overlaps([], [here]) == []


def test_a_place_told_by_two_longitudes_is_in_one_block() -> None:
    assert block_at(181.0, -17.0, 50) == block_at(-179.0, -17.0, 50)
    assert block_at(179.0, -17.0, 50) != block_at(-179.0, -17.0, 50)
