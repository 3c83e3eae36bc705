"""Maps coarser than the scene: cells lie where their pixels do, and are blended like pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import S2, scene_values

from mmearth.api import RasterInput
from mmearth.inference.predict import Computation, compute_rows
from mmearth.inference.tiles import Axis, Layout
from mmearth.models.network import Workload
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack

WORKLOAD = Workload(batch_size=3, lanes=2)


def mean_of_cells(cell: int, rim: int = 0) -> Computation:
    """Average cells; wrong in ``rim`` cells along the rim of each tile."""

    def run(images, masks):
        means = torch.nn.functional.avg_pool2d(torch.from_numpy(images), cell)
        wrong = torch.ones(means.shape[-2:], dtype=torch.bool)
        wrong[rim : wrong.shape[0] - rim, rim : wrong.shape[1] - rim] = False
        return torch.where(wrong, torch.full_like(means, 9.0), means)

    return Computation(run, 1, torch.device("cpu"), cell)


def run(path, computation, *, tile=64, stride=8, **options):
    (band, *_) = list_bands([RasterInput(path=str(path), label="")])
    stack = RasterStack([ScaledBand(band, 1.0, 0.0, 0, None)], band.grid)
    layout = Layout.of(band.grid.height, band.grid.width, tile, stride=stride)
    parts = list(compute_rows(stack, computation, layout, WORKLOAD, **options))
    assert [part.start for part in parts[1:]] == [
        part.start + part.valid.shape[0] for part in parts[:-1]
    ]
    values = torch.cat([part.values for part in parts], dim=1).numpy()
    return values[0], np.concatenate([part.valid for part in parts])


def expected(values: np.ndarray, cell: int) -> np.ndarray:
    """Return the mean of each cell, the scene reflected beyond its edges."""
    rows, cols = (-size % cell for size in values.shape)
    padded = np.pad(values.astype(float), ((0, rows), (0, cols)), mode="reflect")
    return padded.reshape(padded.shape[0] // cell, cell, -1, cell).mean(axis=(1, 3))


@pytest.mark.parametrize("size", [(150, 130), (64, 64), (20, 15), (129, 64), (65, 300)])
@pytest.mark.parametrize("cell", [1, 2, 8])
def test_cells_are_the_means_of_their_pixels(make_raster, size, cell) -> None:
    values = np.random.default_rng(0).integers(100, 9000, size).astype(np.uint16)
    found, valid = run(make_raster("s.tif", values, nodata=0), mean_of_cells(cell))
    np.testing.assert_allclose(found, expected(values, cell), rtol=1e-4)
    assert valid.all()


def test_wrong_rims_of_tiles_do_not_reach_the_map(make_raster) -> None:
    values = np.random.default_rng(0).integers(1000, 2000, (300, 260)).astype(np.uint16)
    path = make_raster("s.tif", values, nodata=0)
    found, _ = run(path, mean_of_cells(4, rim=1), tile=64, stride=4)
    assert np.abs(found / expected(values, 4) - 1).max() < 0.05


def test_a_cell_has_no_data_where_none_of_its_pixels_has(make_raster) -> None:
    values = scene_values(150, 130)[1]
    values[40:48, 64:72] = values[80:88, 16:23] = values[144:150, 0:8] = 0
    _, valid = run(make_raster("s.tif", values, bands=S2[1:2], nodata=0), mean_of_cells(8))
    padded = np.pad(values > 0, ((0, 2), (0, 6)))
    np.testing.assert_array_equal(valid, padded.reshape(19, 8, 17, 8).any(axis=(1, 3)))
    assert not valid[5, 8] and valid[10, 2] and not valid[18, 0]


@pytest.mark.parametrize("done", [1, 5, 12, 18])
def test_goes_on_where_it_stopped(make_raster, done) -> None:
    path = make_raster("s.tif", scene_values(150, 130)[1], bands=S2[1:2], nodata=0)
    whole, valid = run(path, mean_of_cells(8))
    rest, rest_valid = run(path, mean_of_cells(8), first_row=done)
    np.testing.assert_allclose(rest, whole[done:], rtol=1e-6)
    np.testing.assert_array_equal(rest_valid, valid[done:])


def test_cells_of_one_pixel_are_the_layout_itself() -> None:
    layout = Layout.of(300, 200, 64, stride=16)
    assert layout.in_cells(1) is layout


def test_cells_that_do_not_fit_the_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected cells that 8 pixels hold"):
        Layout(Axis(100, 64, 16, 8), Axis(100, 64, 16, 8)).in_cells(3)
