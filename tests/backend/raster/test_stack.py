"""Rasters of any resolution, projection and extent become one stack; no-data stays no-data."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import calculate_default_transform, reproject
from scenes import UTM

from mmearth.api import Extent, RasterInput
from mmearth.errors import EmptyAreaError, InputError, MissingCrsError, RasterReadError
from mmearth.raster import stack as stack_module
from mmearth.raster.radiometry import scale_bands
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack, target_grid
from mmearth.sensors import load_sensor

S2 = load_sensor("sentinel-2")


def read(*paths, extent=None, resolution=10.0):
    sources = list_bands([RasterInput(path=str(path), label="") for path in paths])
    bands, _ = scale_bands(sources, S2)
    with RasterStack(bands, target_grid(sources, resolution, extent)) as stack:
        image, valid = stack.read_rows(0, stack.grid.height)
    return stack.grid, image, valid


def ramp(height, width):
    rows, cols = np.mgrid[:height, :width]
    return (1000 + 10 * rows + 20 * cols).astype(np.uint16)[None]


def test_rows_read_in_parts_are_the_same(make_raster) -> None:
    path = make_raster("s.tif", ramp(50, 40), nodata=0)
    sources = list_bands([RasterInput(path=str(path), label="")])
    bands, _ = scale_bands(sources, S2)
    with RasterStack(bands, target_grid(sources, 10.0)) as stack:
        whole, _ = stack.read_rows(0, 50)
        parts = [stack.read_rows(a, b)[0] for a, b in [(0, 7), (7, 30), (30, 50)]]
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))
    np.testing.assert_allclose(whole, ramp(50, 40) / 10_000, rtol=1e-6)


def test_nodata_of_any_band_is_nodata(make_raster) -> None:
    first, second = ramp(20, 20), ramp(20, 20)
    first[0, 3, 4], second[0, 8, 9] = 0, 0
    paths = [make_raster("a.tif", first, nodata=0), make_raster("b.tif", second, nodata=0)]
    _, image, valid = read(*paths)
    assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(3, 4), (8, 9)]
    assert (image[:, ~valid] == 0).all()


def test_nan_is_nodata(make_raster) -> None:
    values = ramp(20, 20).astype(np.float32) / 10_000
    values[0, 5, 6] = np.nan
    values[0, 7, 8] = np.inf
    _, image, valid = read(make_raster("s.tif", values))
    assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(5, 6), (7, 8)]
    assert np.isfinite(image).all()


def test_undeclared_zero_is_nodata_only_if_all_bands_hold_it(make_raster) -> None:
    values = np.repeat(ramp(20, 20), 3, axis=0)
    values[:, 2, 3] = 0  # empty
    values[1, 4, 5] = 0  # dark water in one band
    _, _, valid = read(make_raster("s.tif", values))
    assert list(zip(*np.nonzero(~valid), strict=True)) == [(2, 3)]


def test_mask_band_is_honoured(make_raster) -> None:
    path = make_raster("s.tif", ramp(20, 20))
    with rasterio.open(path, "r+") as dataset:
        mask = np.full((20, 20), 255, np.uint8)
        mask[10:, 10:] = 0
        dataset.write_mask(mask)
    _, _, valid = read(path)
    assert (valid == (mask > 0)).all()


def test_other_resolution_is_aligned(make_raster) -> None:
    fine = make_raster("fine.tif", ramp(40, 40))
    # A 20 m raster whose values are those of the fine one at its pixel centres.
    rows, cols = np.mgrid[:20, :20]
    coarse = (1000 + 10 * (2 * rows + 0.5) + 20 * (2 * cols + 0.5)).astype(np.float32)[None]
    coarse = make_raster("coarse.tif", coarse, pixel=20.0)
    grid, image, valid = read(fine, coarse)
    assert (grid.width, grid.height) == (40, 40)
    inner = np.s_[2:-2, 2:-2]  # a bilinear kernel finds no neighbours at the rim
    assert valid.all()
    np.testing.assert_allclose(image[0][inner], image[1][inner], atol=2e-4)


def test_other_projection_is_aligned(make_raster, tmp_path) -> None:
    path = make_raster("utm.tif", ramp(120, 120).astype(np.float32))
    mercator = CRS.from_epsg(3857)
    with rasterio.open(path) as source:
        transform, width, height = calculate_default_transform(
            source.crs, mercator, source.width, source.height, *source.bounds
        )
        other = np.full((height, width), np.nan, np.float32)
        reproject(
            rasterio.band(source, 1),
            other,
            dst_transform=transform,
            dst_crs=mercator,
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
        )
    warped = tmp_path / "mercator.tif"
    with rasterio.open(
        warped, "w", driver="GTiff", dtype="float32", count=1, width=width, height=height,
        crs=mercator, transform=transform,
    ) as dataset:  # fmt: skip
        dataset.write(other, 1)
    grid, image, valid = read(path, warped)
    assert grid.crs == UTM
    assert valid.mean() > 0.9
    difference = np.abs(image[0] - image[1])[valid]
    assert np.percentile(difference, 99) < 0.003  # a pixel's step is 0.002


def test_extents_are_intersected(make_raster) -> None:
    first = make_raster("a.tif", ramp(30, 30))
    second = make_raster("b.tif", ramp(30, 30), origin=(600_100.0, 5_399_900.0))
    grid, image, valid = read(first, second)
    assert (grid.width, grid.height) == (20, 20)
    assert valid.all()
    np.testing.assert_allclose(image[0], ramp(30, 30)[0, 10:, 10:] / 10_000, rtol=1e-6)
    np.testing.assert_allclose(image[1], ramp(30, 30)[0, :20, :20] / 10_000, rtol=1e-6)


def test_shifted_by_half_a_pixel_is_interpolated(make_raster) -> None:
    first = make_raster("a.tif", ramp(30, 30))
    second = make_raster("b.tif", ramp(30, 30), origin=(600_005.0, 5_400_000.0))
    _, image, _valid = read(first, second)
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(
        image[1][inner], image[0][inner] - 10 / 10_000, atol=2e-4
    )  # half of 20 per column


def test_extent_in_another_projection(make_raster) -> None:
    path = make_raster("s.tif", ramp(60, 60))
    with rasterio.open(path) as source:
        lon, lat = rasterio.warp.transform(
            source.crs, "EPSG:4326", [600_200.0, 600_400.0], [5_399_600.0, 5_399_800.0]
        )
    extent = Extent(bounds=(lon[0], lat[0], lon[1], lat[1]), crs="EPSG:4326")
    grid, image, _ = read(path, extent=extent)
    assert 20 <= grid.width <= 22 and 20 <= grid.height <= 22
    left, top = grid.transform.c, grid.transform.f
    row, col = round((5_400_000 - top) / 10), round((left - 600_000) / 10)
    expected = ramp(60, 60)[0, row : row + grid.height, col : col + grid.width]
    np.testing.assert_allclose(image[0], expected / 10_000, rtol=1e-6)


def test_far_from_the_models_resolution_is_resampled(make_raster) -> None:
    values = np.full((1, 400, 400), 1000, np.uint16)
    values[0, ::2] = 3000  # stripes of 1 m that vanish at 10 m
    grid, image, valid = read(make_raster("s.tif", values, pixel=1.0))
    assert (grid.width, grid.height) == (40, 40)
    assert valid.all()
    np.testing.assert_allclose(image, 0.2, atol=1e-3)


def test_close_to_the_models_resolution_is_left_alone(make_raster) -> None:
    grid, image, _ = read(make_raster("s.tif", ramp(30, 30), pixel=6.4))
    assert (grid.width, grid.height) == (30, 30)
    np.testing.assert_allclose(image, ramp(30, 30) / 10_000, rtol=1e-6)


def test_rotated_raster_is_straightened(tmp_path) -> None:
    from affine import Affine

    path = tmp_path / "rotated.tif"
    turned = Affine.translation(600_000, 5_400_000) @ Affine.rotation(20) @ Affine.scale(10, -10)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=1, width=60, height=60, crs=UTM,
        transform=turned,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((1, 60, 60), 2000, np.uint16))
    grid, image, valid = read(path)
    assert grid.transform.b == 0
    assert 0.4 < valid.mean() < 0.8  # the corners of the straight grid are empty
    np.testing.assert_allclose(image[:, valid], 0.2, atol=1e-3)


def test_no_overlap_is_said(make_raster) -> None:
    first = make_raster("a.tif", ramp(30, 30))
    second = make_raster("b.tif", ramp(30, 30), origin=(700_000.0, 5_400_000.0))
    with pytest.raises(EmptyAreaError, match="do not overlap"):
        read(first, second)


def test_empty_extent_is_said(make_raster) -> None:
    extent = Extent(bounds=(5, 5, 5, 9), crs="EPSG:32632")
    with pytest.raises(InputError, match="area is empty"):
        read(make_raster("s.tif", ramp(30, 30)), extent=extent)


def test_raster_without_crs_is_refused(make_raster) -> None:
    with pytest.raises(MissingCrsError, match="no coordinate reference system"):
        read(make_raster("s.tif", ramp(30, 30), crs=None))


def test_missing_file_is_said(tmp_path) -> None:
    with pytest.raises(RasterReadError, match="does not exist"):
        read(tmp_path / "nothing.tif")


def test_no_raster_at_all() -> None:
    with pytest.raises(InputError, match="No raster is chosen"):
        read()


def test_truncated_file_is_said(make_raster) -> None:
    path = make_raster("s.tif", ramp(300, 300), compress="deflate", blockysize=16)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(RasterReadError):
        read(path)


@pytest.mark.parametrize("kind", ["mask", "alpha"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("nodata", [None, 9])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_mask_and_alpha_are_heeded_beside_nodata(make_raster, dtype, nodata, aligned, kind) -> None:
    hidden = np.zeros((40, 40), bool)
    hidden[20:, 20:] = True
    missing = np.zeros((40, 40), bool)
    missing[:10, :10] = nodata is not None
    values = np.full((1, 40, 40), 2000, dtype)
    values[0, hidden] = 9000
    values[0, missing] = 9
    if kind == "alpha":
        opaque = np.where(hidden, 0, 1 if dtype == "float32" else 65535).astype(dtype)
        path = make_raster("s.tif", np.concatenate([values, opaque[None]]), nodata=nodata)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    else:
        path = make_raster("s.tif", values, nodata=nodata)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~hidden)
    # The finest raster sets the grid.
    side, pixel = (40, 10.0) if aligned else (50, 8.0)
    frame = make_raster("frame.tif", np.full((1, side, side), 3000, np.uint16), pixel=pixel)
    _, image, valid = read(frame, path)
    np.testing.assert_allclose(image[1, valid], 0.2, atol=1e-6)  # nothing hidden is mixed in
    if aligned:
        np.testing.assert_array_equal(valid, ~hidden & ~missing)
    else:
        assert not valid[26:, 26:].any() and valid[14:24].all()
        assert valid[2:11, 2:11].any() == (nodata is None)


def test_zero_in_all_bands_of_floats_is_nodata(make_raster) -> None:
    values = np.repeat(ramp(20, 20), 3, axis=0).astype(np.float32) / 10_000
    values[:, 2, 3] = 0
    values[1, 4, 5] = 0
    _, _, valid = read(make_raster("s.tif", values))
    assert list(zip(*np.nonzero(~valid), strict=True)) == [(2, 3)]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_one_dark_band_is_no_hole_when_resampled(make_raster, dtype) -> None:
    land = make_raster("land.tif", np.full((1, 40, 40), 2000, dtype))
    water = np.full((1, 20, 20), 2000, dtype)
    water[:, 5:10, 5:10] = 0
    grid, image, valid = read(land, make_raster("water.tif", water, pixel=20.0))
    assert valid.all() and grid.width == 40
    assert (image[1, 12:18, 12:18] == 0).all()


def test_ground_that_one_raster_lacks_is_nodata(make_raster, tmp_path) -> None:
    from affine import Affine

    turned = Affine.translation(600_000, 5_400_000) @ Affine.rotation(-45) @ Affine.scale(10, -10)
    with rasterio.open(
        tmp_path / "turned.tif", "w", driver="GTiff", dtype="uint16", count=1, width=60, height=60,
        crs=UTM, transform=turned,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((1, 60, 60), 2000, np.uint16))
    frame = make_raster("frame.tif", np.full((1, 60, 60), 3000, np.uint16))
    _, image, valid = read(frame, tmp_path / "turned.tif")
    assert 0.2 < valid.mean() < 0.8
    np.testing.assert_allclose(image[1, valid], 0.2, atol=1e-6)


@pytest.mark.parametrize("side", [7, 2048])
def test_pieces_leave_no_seams(make_raster, monkeypatch, side) -> None:
    monkeypatch.setattr(stack_module, "PIECE_SIDE", side)
    frame = make_raster("frame.tif", ramp(40, 40))
    shifted = make_raster("shifted.tif", ramp(40, 40), origin=(600_005.0, 5_400_000.0))
    _, image, valid = read(frame, shifted)
    assert valid[:, 1:].all()
    expected = ramp(40, 40)[0].astype(np.float64) - 10
    np.testing.assert_allclose(image[1, :, 2:], expected[:, 2:] / 10_000, atol=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_an_extent_of_the_whole_world_keeps_the_whole_scene(make_raster, crs) -> None:
    # Astride the central meridian, where a projected world ends.
    path = make_raster("s.tif", ramp(60, 60), origin=(499_700.0, 5_400_000.0))
    world = (-180, -90, 180, 90) if crs == "EPSG:4326" else (-2e7, -2e7, 2e7, 2e7)
    grid, _, valid = read(path, extent=Extent(bounds=world, crs=crs))
    assert (grid.width, grid.height) == (60, 60) and valid.all()
    half = (-180, world[1], 0, world[3]) if crs == "EPSG:4326" else (-2e7, -2e7, 0, 2e7)
    with pytest.raises(EmptyAreaError):
        read(path, extent=Extent(bounds=half, crs=crs))


def test_an_extent_of_the_whole_world_keeps_a_scene_at_the_antimeridian(make_raster) -> None:
    path = make_raster(
        "s.tif", ramp(60, 60), crs=CRS.from_epsg(32660), origin=(735_000.0, 5_050_000.0)
    )
    grid, _, _ = read(path, extent=Extent(bounds=(-180, -90, 180, 90), crs="EPSG:4326"))
    assert (grid.width, grid.height) == (60, 60)


def test_a_raster_of_the_whole_world_covers_a_scene(make_raster) -> None:
    scene = make_raster("s.tif", ramp(60, 60), origin=(499_700.0, 5_400_000.0))
    world = make_raster(
        "world.tif", np.full((1, 180, 360), 3000, np.uint16), crs=CRS.from_epsg(4326), pixel=1.0,
        origin=(-180.0, 90.0),
    )  # fmt: skip
    grid, image, valid = read(scene, world)
    assert (grid.width, grid.height) == (60, 60) and valid.all()
    np.testing.assert_allclose(image[1], 0.3, atol=1e-6)


@pytest.mark.parametrize("east", [500_000.0, 820_000.0])  # central meridian, edge of the zone
@pytest.mark.parametrize("pixel", [5.0, 20.0])
def test_common_pixel_sizes_are_resampled_all_over_a_zone(make_raster, east, pixel) -> None:
    path = make_raster("s.tif", ramp(40, 40), pixel=pixel, origin=(east, 200_000.0))
    grid, _, _ = read(path)
    assert grid.transform.a == pytest.approx(10, rel=0.05)


def test_far_too_coarse_rasters_are_refused(make_raster) -> None:
    read(make_raster("fair.tif", ramp(4, 4), pixel=100.0))
    with pytest.raises(InputError, match="more than ten times the 10 m"):
        read(make_raster("coarse.tif", ramp(60, 60), pixel=5000.0))


@pytest.mark.parametrize("angle", [45, 90])
def test_straightened_pixels_keep_their_size(tmp_path, angle) -> None:
    from affine import Affine

    turned = Affine.translation(600_000, 5_400_000) @ Affine.rotation(angle) @ Affine.scale(10, -10)
    with rasterio.open(
        tmp_path / "s.tif", "w", driver="GTiff", dtype="uint16", count=1, width=60, height=60,
        crs=UTM, transform=turned,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((1, 60, 60), 2000, np.uint16))
    grid, _, _ = read(tmp_path / "s.tif")
    assert (grid.transform.a, grid.transform.e) == pytest.approx((10, -10))


def test_only_a_code_of_the_very_same_system_is_told(make_raster) -> None:
    # GDAL finds EPSG:23032 similar, which lies 80 m off.
    nameless = CRS.from_proj4("+proj=utm +zone=32 +ellps=intl +units=m +no_defs")
    grid, _, _ = read(make_raster("s.tif", ramp(30, 30), crs=nameless))
    assert CRS.from_user_input(grid.info().crs) == nameless
    grid, _, _ = read(make_raster("t.tif", ramp(30, 30)))
    assert grid.info().crs == "EPSG:32632"


LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
MARS = (
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000",3396190,169.894447223612]],'
    'PRIMEM["Greenwich",0],UNIT["Decimal_Degree",0.0174532925199433]]'
)


@pytest.mark.parametrize("wkt", [LOCAL, MARS])
def test_systems_off_the_earth_are_refused(make_raster, wkt) -> None:
    path = make_raster("s.tif", ramp(30, 30), crs=CRS.from_wkt(wkt))
    with pytest.raises(InputError, match="has no place on Earth"):
        read(path)
    extent = Extent(bounds=(0, 0, 10, 10), crs=wkt)
    with pytest.raises(InputError, match="cannot be expressed"):
        read(make_raster("t.tif", ramp(30, 30)), extent=extent)


def test_an_extent_without_limits_is_refused(make_raster) -> None:
    path = make_raster("s.tif", ramp(30, 30))
    unlimited = Extent.model_construct(bounds=(float("-inf"), 0, float("inf"), 90), crs="EPSG:4326")
    with pytest.raises(InputError, match="has no limits"):
        read(path, extent=unlimited)
