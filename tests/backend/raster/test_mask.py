"""Masks: which values leave a pixel out, on which ground, and where they are found."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from products import write_product
from pydantic import ValidationError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import reproject, transform_bounds
from scenes import S2, UTM, scene_values

from mmearth.api import MaskInput, RasterInput
from mmearth.errors import EmptyAreaError, InputError, MissingCrsError, RasterReadError
from mmearth.raster.grid import Grid
from mmearth.raster.mask import SCL_EXCLUDED, MaskReader, check_overlap, find_masks, left_in
from mmearth.raster.source import list_bands

GRID = Grid(UTM, from_origin(600_000, 5_400_000, 10, 10), 40, 30)


def left_out(path, grid=GRID, **rule) -> np.ndarray:
    masks, _ = find_masks([MaskInput(path=str(path), **rule)], [], search=True)
    with MaskReader(masks, grid) as reader:
        return reader.excluded(0, grid.height)


def sources(*paths):
    return list_bands([RasterInput(path=str(path)) for path in paths])


def test_scene_classification(make_raster) -> None:
    values = np.resize(np.arange(12, dtype=np.uint8), (30, 40))
    path = make_raster("T32TNT_SCL_10m.tif", values, nodata=0)
    np.testing.assert_array_equal(left_out(path), np.isin(values, SCL_EXCLUDED))
    np.testing.assert_array_equal(left_out(path, values=[11]), values == 11)
    masks, _ = find_masks([MaskInput(path=str(path))], [], search=True)
    with MaskReader(masks, GRID) as reader:
        clouds = reader.clouded(0, 30)
    np.testing.assert_array_equal(clouds, np.isin(values, SCL_EXCLUDED[1:]))


def test_single_places(make_raster) -> None:
    """On other grids, in another projection, and beyond the mask."""
    values = np.zeros((3000, 2400), np.uint8)
    values[1000:, 1200:] = 1
    left, bottom, right, top = transform_bounds(UTM, CRS.from_epsg(4326), *GRID.bounds)
    path = make_raster("clouds.tif", values, crs=CRS.from_epsg(4326))
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = from_bounds(left, bottom, right, top, 2400, 3000)
    masks, _ = find_masks([MaskInput(path=str(path))], [], search=True)
    places = np.array([(18, 20), (22, 20), (22, 8), (22, 12), (60, 20)], float)
    coarse = Grid(UTM, GRID.transform @ Affine.scale(2), 20, 15)
    for grid, points in ((GRID, places), (coarse, places / 2)):
        (kept,) = left_in(masks, [(grid, points)])
        assert kept.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("nodata", [None, 0, 255])
def test_of_other_masks_all_but_zero(make_raster, nodata) -> None:
    values = np.zeros((30, 40), np.uint8)
    values[3:9, 5:20] = 255
    path = make_raster("clouds.tif", values, nodata=nodata)
    np.testing.assert_array_equal(left_out(path), values > 0)


def test_probability_of_clouds(make_raster) -> None:
    values = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    values[0, 0] = np.nan
    path = make_raster("cloud_probability.tif", values)
    np.testing.assert_array_equal(left_out(path, above=0.4), values > 0.4)


def test_no_rows_are_no_error(make_raster) -> None:
    """Between two rows of tiles there may be nothing left to read."""
    path = make_raster("clouds.tif", np.ones((30, 40), np.uint8))
    masks, _ = find_masks([MaskInput(path=str(path))], [], search=True)
    with MaskReader(masks, GRID) as reader:
        assert reader.excluded(7, 7).shape == (0, 40)


def test_bits_of_a_quality_band(make_raster) -> None:
    values = np.full((30, 40), 21824, np.uint16)  # Landsat's clear land
    values[2, 3], values[4, 5] = 22280, 23888  # cloud: bit 3; shadow: bit 4
    path = make_raster("QA_PIXEL.tif", values, nodata=1)
    found = left_out(path, bits=[3, 4])
    assert sorted(zip(*np.nonzero(found), strict=True)) == [(2, 3), (4, 5)]


def test_the_named_band_is_read(make_raster) -> None:
    values = np.zeros((3, 30, 40), np.uint8)
    values[1] = 4
    values[1, 5], values[2, 7] = 9, 1
    path = make_raster("mask.tif", values, bands=["quality", "SCL", "mine"])
    assert np.flatnonzero(left_out(path).any(axis=1)).tolist() == [5]
    assert np.flatnonzero(left_out(path, band=3).any(axis=1)).tolist() == [7]
    with pytest.raises(InputError, match="3 bands, and band 4"):
        left_out(path, band=4)


def test_on_another_grid_the_nearest_pixel_counts(make_raster) -> None:
    random = np.random.default_rng(3)
    coarse = (random.random((15, 20)) > 0.6).astype(np.uint8)
    path = make_raster("coarse.tif", coarse, pixel=20.0)
    np.testing.assert_array_equal(left_out(path), np.kron(coarse, np.ones((2, 2))) > 0)

    geographic = CRS.from_epsg(4326)
    west, south, east, north = transform_bounds(UTM, geographic, *GRID.bounds)
    transform = from_origin(west, north, (east - west) / 60, (north - south) / 60)
    degrees = (random.random((60, 60)) > 0.6).astype(np.uint8)
    path = make_raster("degrees.tif", degrees, crs=geographic)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = transform
    expected = np.zeros((30, 40), np.uint8)
    reproject(degrees, expected, src_transform=transform, src_crs=geographic,
              dst_transform=GRID.transform, dst_crs=UTM, resampling=Resampling.nearest)  # fmt: skip
    assert (left_out(path) == (expected > 0)).mean() > 0.99


def test_beyond_a_mask_nothing_is_left_out_and_that_is_told(make_raster) -> None:
    path = make_raster("half.tif", np.ones((30, 20), np.uint8))
    found = left_out(path)
    assert found[:, :20].all() and not found[:, 20:].any()
    masks, _ = find_masks([MaskInput(path=str(path))], [], search=True)
    (warning,) = check_overlap(masks, GRID)
    assert "only part" in warning.message
    far = make_raster("far.tif", np.ones((9, 9), np.uint8), origin=(700_000.0, 5_400_000.0))
    masks, _ = find_masks([MaskInput(path=str(far), label="My mask")], [], search=True)
    with pytest.raises(EmptyAreaError, match="My mask and the area to map do not overlap"):
        check_overlap(masks, GRID)


def test_what_is_no_mask_is_refused(make_raster, tmp_path) -> None:
    with pytest.raises(RasterReadError, match="does not exist"):
        left_out(tmp_path / "none.tif")
    with pytest.raises(MissingCrsError):
        left_out(make_raster("nowhere.tif", np.ones((9, 9), np.uint8), crs=None))
    with pytest.raises(InputError, match="have no bits"):
        left_out(make_raster("decimal.tif", np.ones((9, 9), np.float32)), bits=[1])
    with pytest.raises(ValidationError, match="only one of"):
        MaskInput(path="a.tif", above=1, bits=[1])


def test_found_by_itself_as_a_band(make_raster) -> None:
    scene = make_raster("scene.tif", scene_values(30, 40), bands=S2, nodata=0)
    scl = make_raster("SCL_20m.tif", np.full((15, 20), 9, np.uint8), pixel=20.0)
    masks, (told,) = find_masks([], sources(scene, scl), search=True)
    assert [mask.dataset for mask in masks] == [str(scl)]
    assert "SCL_20m.tif" in told.message
    assert find_masks([], sources(scene, scl), search=False) == ([], [])
    assert find_masks([], sources(scene), search=True) == ([], [])


@pytest.mark.parametrize(("dtype", "cloud"), [(np.uint8, 255), (np.uint8, 1), (np.float32, 255)])
def test_a_mere_name_makes_no_scene_classification(make_raster, dtype, cloud) -> None:
    values = np.zeros((30, 40), dtype)
    values[3:9] = cloud
    path = make_raster("clouds_of_SCL.tif", values)
    assert find_masks([], sources(path), search=True) == ([], [])
    np.testing.assert_array_equal(left_out(path), values > 0)


def test_a_scene_classification_of_decimal_numbers(make_raster) -> None:
    """In a file of one type for all bands, it has that of the reflectances."""
    values = np.full((2, 30, 40), 0.3, np.float32)
    values[1], values[1, 7], values[1, 8] = 4, 9, np.nan
    path = make_raster("stack.tif", values, bands=["B04", "SCL"])
    masks, _ = find_masks([], sources(path), search=True)
    with MaskReader(masks, GRID) as reader:
        assert np.flatnonzero(reader.excluded(0, 30).any(axis=1)).tolist() == [7]
    np.testing.assert_array_equal(left_out(path).any(axis=1), np.arange(30) == 7)


def test_no_data_of_a_scene_classification(make_raster) -> None:
    """Software that warps it may state another value than 0."""
    values = np.full((30, 40), 4, np.uint8)
    values[:5], values[9] = 255, 8
    path = make_raster("SCL.tif", values, nodata=255)
    masks, _ = find_masks([], sources(path), search=True)
    assert len(masks) == 1
    with MaskReader(masks, GRID) as reader:
        assert np.flatnonzero(reader.clouded(0, 30).any(axis=1)).tolist() == [9]


def test_found_by_itself_in_a_product(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000, classified=True)
    masks, told = find_masks([], sources(safe), search=True)
    assert [mask.title.rpartition("_")[2] for mask in masks] == ["20m.jp2"]
    assert len(told) == 1
    grid = Grid(UTM, from_origin(600_000, 5_400_000, 10, 10), 120, 120)
    with MaskReader(masks, grid) as reader:
        assert reader.excluded(0, 120).all()
        assert not reader.clouded(0, 120)[:, :6].any()  # where there is no data
        assert reader.clouded(0, 120)[:, 6:].all()


def test_a_level_1c_product_has_none(tmp_path) -> None:
    safe = write_product(tmp_path, "1C", offset=None)
    assert find_masks([], sources(safe), search=True) == ([], [])
