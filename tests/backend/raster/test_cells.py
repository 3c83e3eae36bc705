"""Means over cells: which cells there are, and what their means are made of."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from scenes import UTM

from mmearth.errors import InputError
from mmearth.raster.cells import cell_grid, cell_means, ground_side_m
from mmearth.raster.grid import Grid


def grid_at(left: float, top: float, width: int, height: int, pixel=10.0, crs=UTM) -> Grid:
    return Grid(crs, Affine(pixel, 0, left, 0, -pixel, top), width, height)


def averaged(grid: Grid, values: np.ndarray, valid: np.ndarray, cell_m: float):
    """Return cells, means and shares of a whole map."""
    cells = cell_grid(grid, cell_m)

    def read(start: int, stop: int):
        return values[start:stop], valid[start:stop]

    parts = list(cell_means(grid, cells, read))
    assert [first for first, _, _ in parts] == list(
        np.cumsum([0, *(len(means) for _, means, _ in parts[:-1])])
    )
    return cells, *(np.concatenate([part[n] for part in parts]) for n in (1, 2))


def test_cells_lie_at_multiples_of_their_side() -> None:
    cells = cell_grid(grid_at(600_030, 5_400_040, 57, 31), 100)
    assert cells.bounds == (600_000, 5_399_700, 600_600, 5_400_100)
    assert (cells.width, cells.height) == (6, 4)
    exact = cell_grid(grid_at(600_000, 5_400_000, 30, 20), 100)
    assert (exact.width, exact.height) == (3, 2)


def test_means_and_shares_of_a_map_with_gaps() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0, 100, (1230, 40)).astype(np.float32)  # more rows than read at once
    valid = random.random(values.shape) < 0.9
    valid[:7, :10] = False
    grid = grid_at(600_000, 5_400_000, 40, 1230)
    cells, means, shares = averaged(grid, values, valid, 100)
    assert means.shape == (cells.height, cells.width) == (123, 4)
    blocks = values.reshape(123, 10, 4, 10).astype(float)
    known = valid.reshape(123, 10, 4, 10)
    np.testing.assert_allclose(shares, known.mean(axis=(1, 3)), atol=1e-9)
    assert shares[0, 0] < 0.5 and np.isnan(means[0, 0])
    expected = (blocks * known).sum(axis=(1, 3)) / known.sum(axis=(1, 3))
    enough = known.mean(axis=(1, 3)) >= 0.5
    np.testing.assert_allclose(means[enough], expected[enough], rtol=1e-6)
    assert np.isnan(means[~enough]).all()


def test_neighbouring_scenes_share_their_cells() -> None:
    """Two halves of a map have the cells of the whole, but where the cut goes through."""
    values = np.random.default_rng(1).uniform(0, 100, (40, 60)).astype(np.float32)
    valid = np.ones(values.shape, bool)
    whole, means, _ = averaged(grid_at(600_000, 5_400_000, 60, 40), values, valid, 100)
    part, right, shares = averaged(
        grid_at(600_260, 5_400_000, 34, 40), values[:, 26:], valid[:, 26:], 100
    )
    assert part.offset_of(whole) == (0, 2)
    np.testing.assert_allclose(right[:, 1:], means[:, 3:], rtol=1e-6)
    assert np.isnan(right[:, 0]).all() and shares[0, 0] == pytest.approx(0.4)


def test_pixels_that_a_cell_cuts_count_by_their_share() -> None:
    values = np.array([[0, 60, 90, 30, 0]], np.float32).repeat(5, axis=0)
    valid = np.ones((5, 5), bool)
    cells, means, shares = averaged(grid_at(600_000, 5_400_000, 5, 5), values, valid, 25)
    assert cells.width == cells.height == 2
    np.testing.assert_allclose(shares, 1)
    np.testing.assert_allclose(means, [[(0 + 60 + 45) / 2.5, (45 + 30 + 0) / 2.5]] * 2, rtol=1e-6)


def test_a_map_in_degrees_has_no_cells_in_metres() -> None:
    with pytest.raises(InputError, match="in degrees") as caught:
        cell_grid(grid_at(11.0, 50.0, 100, 100, pixel=0.0001, crs=CRS.from_epsg(4326)), 100)
    assert "UTM" in caught.value.advice


def test_cells_must_be_larger_than_pixels() -> None:
    with pytest.raises(InputError, match="too small for pixels of 10 m") as caught:
        cell_grid(grid_at(600_000, 5_400_000, 30, 20), 15)
    assert "20 m or more" in caught.value.advice
    assert cell_grid(grid_at(600_000, 5_400_000, 30, 20), 20).width == 15


def test_cells_of_which_a_map_covers_less_than_half_are_refused() -> None:
    with pytest.raises(InputError, match="too large for this map: it covers less than half"):
        cell_grid(grid_at(600_000, 5_400_000, 70, 70), 1000)
    assert cell_grid(grid_at(600_000, 5_400_000, 71, 71), 1000).width == 1


def test_a_map_in_feet_has_cells_in_metres() -> None:
    feet = CRS.from_epsg(2263)  # New York Long Island, US survey feet
    cells = cell_grid(grid_at(980_000, 200_000, 100, 100, pixel=32.8, crs=feet), 100)
    assert cells.transform.a == pytest.approx(328.083, abs=0.001)


def test_web_mercator_stretches_cells() -> None:
    mercator = grid_at(1_700_000, 6_400_000, 100, 100, crs=CRS.from_epsg(3857))
    assert ground_side_m(cell_grid(mercator, 100), 100) == pytest.approx(64.4, abs=0.5)
    assert ground_side_m(cell_grid(grid_at(600_000, 5_400_000, 30, 20), 100), 100) is None
