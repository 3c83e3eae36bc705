"""A scene becomes a picture: its natural colours, its labels, and nothing where it has no data."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from scenes import S2, scene_values

from mmearth.api import RasterInput
from mmearth.raster.radiometry import scale_bands
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack, target_grid
from mmearth.sensors import load_sensor
from mmearth.training.labels import Labels
from mmearth.training.pictures import View, data_uri, draw_labels, draw_map, view

SENSOR = load_sensor("sentinel-2")
WAVELENGTHS = [SENSOR.band(name).wavelength_nm for name in S2]
RED, GREEN, BLUE, NEAR_INFRARED = (S2.index(name) for name in ("B04", "B03", "B02", "B08"))
WHITE, CLEAR = (255, 255, 255, 255), (0, 0, 0, 0)


def open_stack(path, bands=None) -> RasterStack:
    sources = list_bands([RasterInput(path=str(path), label="")])
    scaled, _ = scale_bands(sources, SENSOR)
    return RasterStack(
        scaled if bands is None else [scaled[b] for b in bands], target_grid(sources, 10.0)
    )


def labels_at(*pixels: tuple[int, int, int]) -> Labels:
    """pixels: row, column and class."""
    rows, cols, classes = np.array(pixels, np.int64).T
    return Labels(("a", "b"), rows, cols, classes, np.arange(len(pixels)))


def grey(height: int, width: int, step: float = 1) -> View:
    shape = (height, width)
    return View(np.full((*shape, 3), 90, np.uint8), np.ones(shape, bool), step, "natural colours")


def test_natural_colours_whatever_the_order_of_bands(make_raster) -> None:
    values = np.full((12, 40, 50), 1000, np.uint16)
    values[RED, :, :20], values[GREEN, :20], values[BLUE, 20:] = 3000, 3000, 3000
    seen = view(open_stack(make_raster("s.tif", values, bands=S2)), WAVELENGTHS)
    assert seen.colours == "natural colours" and seen.step == 1
    assert seen.image[5, 5].tolist() == [255, 255, 0]
    assert seen.image[35, 45].tolist() == [0, 0, 255]


def test_infrared_is_shown_as_red_where_blue_is_missing(make_raster) -> None:
    values = np.full((12, 20, 20), 1000, np.uint16)
    values[NEAR_INFRARED, :10] = 3000
    bands = [GREEN, RED, NEAR_INFRARED]
    stack = open_stack(make_raster("s.tif", values, bands=S2), bands)
    seen = view(stack, [WAVELENGTHS[band] for band in bands])
    assert seen.colours.startswith("false colours: near infrared as red")
    assert seen.image[5, 5].tolist() == [255, 0, 0]


def test_bands_without_wavelengths(make_raster) -> None:
    stack = open_stack(make_raster("s.tif", scene_values(40, 40), bands=S2), [0, 1])
    seen = view(stack, [None, None])
    assert seen.colours == "the first band in grey" and seen.image.shape == (40, 40, 3)
    assert (seen.image[:, :, 0] == seen.image[:, :, 2]).all() and np.ptp(seen.image) == 255


def test_a_large_scene_is_reduced_and_keeps_its_shape_and_gaps(scene) -> None:
    seen = view(open_stack(scene), WAVELENGTHS, side=75)
    assert seen.image.shape == (75, 65, 3) and seen.step == 2
    assert not seen.valid[:15, :16].any() and seen.valid[16:].all()
    picture = draw_labels(seen, labels_at((149, 129, 0)), ("#102030", "#405060"))
    factor = picture.shape[0] // 75
    assert tuple(picture[0, 0])[3] == 0
    assert tuple(picture[74 * factor + 2, 64 * factor + 2])[3] == 255


def test_labels_have_the_colour_of_their_class_and_a_white_rim() -> None:
    seen = grey(100, 80)
    picture = draw_labels(seen, labels_at((10, 20, 0), (50, 60, 1)), ("#ff0000", "#00ff00"))
    assert picture.shape == (400, 320, 4)  # small scenes are enlarged
    assert picture[40, 80].tolist() == [255, 0, 0, 255]
    assert picture[200, 240].tolist() == [0, 255, 0, 255]
    assert picture[39, 80].tolist() == picture[204, 240].tolist() == list(WHITE)
    assert picture[300, 20].tolist() == [90, 90, 90, 255]


def test_a_single_pixel_is_seen_in_a_reduced_scene() -> None:
    picture = draw_labels(grey(500, 400, step=8), labels_at((3999, 0, 1)), ("#ff0000", "#0000ff"))
    assert picture[499, 0].tolist() == [0, 0, 255, 255]
    assert (picture == (0, 0, 255, 255)).all(axis=2).sum() == 4  # in the corner, a pixel wider


def test_a_map_of_any_pixel_size() -> None:
    classes = np.array([[1, 2], [0, 1]], np.uint8)
    picture = draw_map(grey(500, 400), classes, ("#ff0000", "#00ff00"))
    assert picture.shape == (500, 400, 4)
    assert picture[100, 100].tolist() == [255, 0, 0, 255]
    assert picture[249, 399].tolist() == [0, 255, 0, 255]
    assert tuple(picture[250, 0]) == CLEAR


def test_a_picture_is_a_png() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 4), np.uint8)
    kind, _, text = data_uri(picture).partition(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(text)))), picture)
