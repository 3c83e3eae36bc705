"""Areas are those of the ellipsoid."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import Geod
from rasterio.crs import CRS

from mmearth.raster.area import PixelAreas
from mmearth.raster.grid import Grid

GEOD = Geod(ellps="WGS84")


def total(grid: Grid) -> float:
    areas = PixelAreas(grid)
    return sum(areas.rows(start, start + 1).sum() for start in range(grid.height))


def test_degrees_shrink_towards_the_pole() -> None:
    pixel = 1e-4
    grid = Grid(CRS.from_epsg(4326), Affine(pixel, 0, 10, 0, -pixel, 52.03), 300, 300)
    lon = [10, 10.03, 10.03, 10]
    lat = [52.0, 52.0, 52.03, 52.03]
    expected, _ = GEOD.polygon_area_perimeter(lon, lat)
    assert total(grid) == pytest.approx(expected, rel=1e-5)
    flat = (pixel * 111_320) ** 2 * grid.width * grid.height
    assert flat / total(grid) > 1.5  # what a plane in degrees would say


def test_utm_scale_factor() -> None:
    grid = Grid(CRS.from_epsg(32632), Affine(10, 0, 499_000, 0, -10, 5_400_000), 200, 100)
    # On the central meridian lengths are 0.9996 of the true ones.
    assert total(grid) == pytest.approx(200 * 100 * 100 / 0.9996**2, rel=1e-5)


def test_web_mercator_is_far_too_large() -> None:
    grid = Grid(CRS.from_epsg(3857), Affine(10, 0, 1.6e6, 0, -10, 6.4e6), 50, 50)
    assert total(grid) / (50 * 50 * 100) == pytest.approx(0.41, abs=0.03)


def test_interpolation_is_exact_enough_over_a_country() -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(0.01, 0, 5, 0, -0.01, 55), 1000, 800)
    areas = PixelAreas(grid)
    for row in (0, 399, 799):
        computed = areas.rows(row, row + 1)[0, 500]
        assert computed == pytest.approx(grid.pixel_area_m2(row + 0.5, 500.5), rel=1e-4)


def test_one_pixel() -> None:
    grid = Grid(CRS.from_epsg(32632), Affine(10, 0, 500_000, 0, -10, 5_400_000), 1, 1)
    assert PixelAreas(grid).rows(0, 1).shape == (1, 1)
    assert np.isfinite(total(grid))
