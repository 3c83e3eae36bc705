"""Scale and offset are applied once, whoever states them; nonsense is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.api import Radiometry, RasterInput
from mmearth.errors import RadiometryError
from mmearth.raster.radiometry import refuse_pictures, scale_bands
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack, target_grid
from mmearth.sensors import load_sensor

S2 = load_sensor("sentinel-2")


def reflectance(path, override=None, sensor=S2):
    """Return what the stack reads, and the warnings."""
    sources = list_bands([RasterInput(path=str(path), label="")])
    refuse_pictures(sources, sensor, override)
    bands, warnings = scale_bands(sources, sensor, override)
    with RasterStack(bands, target_grid(sources, 10.0)) as stack:
        image, valid = stack.read_rows(0, stack.grid.height)
    assert valid.all()
    return image, warnings


def spread(low, high, dtype, shape=(1, 32, 32)):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)


def test_integers_are_ten_thousandths(make_raster) -> None:
    image, warnings = reflectance(make_raster("s.tif", spread(100, 4000, np.uint16)))
    assert image.min() == pytest.approx(0.01) and image.max() == pytest.approx(0.4)
    assert warnings == []


def test_int16_is_read_too(make_raster) -> None:
    image, _ = reflectance(make_raster("s.tif", spread(-21, 4000, np.int16)))
    assert image.min() == pytest.approx(-0.0021)


def test_floats_of_reflectance_stay(make_raster) -> None:
    image, _ = reflectance(make_raster("s.tif", spread(0.01, 0.6, np.float32)))
    assert image.max() == pytest.approx(0.6)


def test_floats_of_ten_thousandths_are_scaled(make_raster) -> None:
    image, _ = reflectance(make_raster("s.tif", spread(100, 6000, np.float32)))
    assert image.max() == pytest.approx(0.6)


def test_stated_scale_and_offset_are_applied_once(make_raster) -> None:
    path = make_raster("s.tif", spread(1100, 5000, np.uint16), scale=0.0001, offset=-0.1)
    image, warnings = reflectance(path)
    assert image.min() == pytest.approx(0.01) and image.max() == pytest.approx(0.4)
    assert warnings == []


def test_stated_scale_makes_bytes_welcome(make_raster) -> None:
    image, _ = reflectance(make_raster("s.tif", spread(2, 250, np.uint8), scale=0.002))
    assert image.max() == pytest.approx(0.5)


def test_pictures_are_refused(make_raster) -> None:
    with pytest.raises(RadiometryError, match=r"8-bit picture.*Sentinel-2 reflectance"):
        reflectance(make_raster("s.tif", spread(0, 255, np.uint8)))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (30_000, 65_000)])
def test_numbers_that_are_no_reflectance_are_refused(make_raster, low, high) -> None:
    with pytest.raises(RadiometryError, match="no reflectance"):
        reflectance(make_raster("s.tif", spread(low, high, np.uint16)))


def test_the_users_numbers_win(make_raster) -> None:
    path = make_raster("s.tif", spread(1, 200, np.uint8))
    image, _ = reflectance(path, Radiometry(scale=0.002, offset=0.1))
    assert image.min() == pytest.approx(0.102) and image.max() == pytest.approx(0.5)


def test_the_users_offset_alone_keeps_the_scale(make_raster) -> None:
    unstated = make_raster("unstated.tif", spread(2000, 4000, np.uint16))
    image, warnings = reflectance(unstated, Radiometry(offset=-0.1))
    assert image.min() == pytest.approx(0.1) and warnings == []
    stated = make_raster("stated.tif", spread(2, 250, np.uint8), scale=0.002, offset=0.5)
    image, _ = reflectance(stated, Radiometry(offset=0.1))
    assert image.max() == pytest.approx(0.6)


def test_the_users_offset_alone_makes_no_picture_welcome(make_raster) -> None:
    with pytest.raises(RadiometryError, match="8-bit picture"):
        reflectance(make_raster("s.tif", spread(0, 255, np.uint8)), Radiometry(offset=-0.1))


def test_a_left_over_offset_is_told_not_removed(make_raster) -> None:
    image, warnings = reflectance(make_raster("s.tif", spread(1090, 4000, np.uint16)))
    assert [warning.code for warning in warnings] == ["offset"]
    assert image.min() == pytest.approx(0.109)


def test_large_rasters_are_sampled_all_over(make_raster) -> None:
    values = np.zeros((1, 2000, 700), np.uint16)
    values[:, 1900:] = 3000  # the only light is at the bottom
    image, _ = reflectance_large(make_raster("s.tif", values))
    assert image == pytest.approx(0.3)


def reflectance_large(path):
    sources = list_bands([RasterInput(path=str(path), label="")])
    bands, warnings = scale_bands(sources, S2)
    return bands[0].scale * 3000, warnings


def test_an_island_between_the_sampled_windows_is_found(make_raster) -> None:
    values = np.full((1, 2000, 2000), np.nan, np.float32)
    values[:, 740:1240, 740:1240] = 0.3
    sources = list_bands([RasterInput(path=str(make_raster("s.tif", values)), label="")])
    bands, _ = scale_bands(sources, S2)
    assert bands[0].scale == 1.0
    values *= 30  # up to 9, no reflectance at either scale
    sources = list_bands([RasterInput(path=str(make_raster("t.tif", values)), label="")])
    with pytest.raises(RadiometryError, match="no reflectance"):
        scale_bands(sources, S2)


def test_a_dark_band_is_scaled_like_its_bright_neighbours(make_raster) -> None:
    values = spread(100, 6000, np.float32, (2, 32, 32))
    values[0] = 2.0
    sources = list_bands([RasterInput(path=str(make_raster("s.tif", values)), label="")])
    bands, _ = scale_bands(sources, S2)
    assert [band.scale for band in bands] == [0.0001, 0.0001]


def test_a_raster_without_any_data_is_left_to_the_map(make_raster) -> None:
    values = np.full((1, 600, 600), np.nan, np.float32)
    sources = list_bands([RasterInput(path=str(make_raster("s.tif", values)), label="")])
    assert scale_bands(sources, S2)[1] == []


def test_landsat_has_a_scale_and_an_offset_of_its_own(make_raster) -> None:
    landsat = load_sensor("landsat-8-9")
    path = make_raster("s.tif", np.full((1, 32, 32), 18_639, np.uint16))
    image, warnings = reflectance(path, sensor=landsat)
    assert image == pytest.approx(0.313, abs=5e-4)  # the example of USGS
    assert warnings == []  # all above 1000, but no offset of Sentinel-2
    with pytest.raises(RadiometryError, match=r"Landsat 8/9 numbers \(7273 to 43636\)"):
        reflectance(make_raster("dark.tif", np.full((1, 32, 32), 3, np.uint16)), sensor=landsat)


def test_aerial_pictures_are_brightness_from_0_to_1(make_raster) -> None:
    aerial = load_sensor("aerial-rgb")
    image, warnings = reflectance(
        make_raster("s.tif", spread(0, 255, np.uint8, (3, 32, 32))), sensor=aerial
    )
    assert (image.min(), image.max()) == pytest.approx((0, 1))
    assert warnings == []
    with pytest.raises(RadiometryError, match=r"no brightness.*\(0 to 255\)"):
        reflectance(make_raster("16.tif", spread(9000, 40_000, np.uint16)), sensor=aerial)


def test_radiance_has_no_largest_value(make_raster) -> None:
    hyperion = load_sensor("eo1-hyperion")
    image, _ = reflectance(make_raster("s.tif", spread(900, 14_000, np.int16)), sensor=hyperion)
    assert image.max() == 14_000


def test_backscatter_is_decibels_and_stays_as_it_is(make_raster) -> None:
    radar = load_sensor("sentinel-1")
    path = make_raster("s1.tif", spread(-25, -5, np.float32, (2, 32, 32)), bands=["VV", "VH"])
    image, warnings = reflectance(path, sensor=radar)
    assert image.min() == pytest.approx(-25) and image.max() == pytest.approx(-5)
    assert warnings == []
    path = make_raster("s1_int.tif", spread(-2500, -500, np.int16), scale=0.01)
    image, _ = reflectance(path, sensor=radar)
    assert image.min() == pytest.approx(-25) and image.max() == pytest.approx(-5)


@pytest.mark.parametrize(
    ("low", "high", "dtype"), [(0.001, 0.4, np.float32), (-2500, -500, np.int16)]
)
def test_backscatter_in_other_units_is_refused(make_raster, low, high, dtype) -> None:
    with pytest.raises(RadiometryError, match="no backscatter in decibels"):
        reflectance(
            make_raster("s1.tif", spread(low, high, dtype)), sensor=load_sensor("sentinel-1")
        )


def test_pictures_are_refused_for_hyperspectral_reflectance_too(make_raster) -> None:
    with pytest.raises(RadiometryError, match="this model reads EnMAP reflectance"):
        reflectance(make_raster("s.tif", spread(0, 255, np.uint8)), sensor=load_sensor("enmap"))
