"""Drawn labels become the pixels that the rule names; what cannot be used is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from scenes import UTM

from mmearth.api import LabelClass, LabelSource
from mmearth.errors import InputError, MissingCrsError
from mmearth.raster.grid import Grid
from mmearth.training.labels import (
    read_labels,
    read_raster_labels,
    read_vector_labels,
    squares,
    without_data,
)

LEFT, TOP = 600_000.0, 5_400_000.0
GRID = Grid(UTM, Affine(10, 0, LEFT, 0, -10, TOP), 40, 30)


def box(row, col, rows, cols):
    """Return the rectangle of whole pixels."""
    x, y = LEFT + 10 * col, TOP - 10 * row
    return shapely.box(x, y - 10 * rows, x + 10 * cols, y)


@pytest.fixture
def draw(tmp_path):
    """Return a function that writes shapes and their classes, and returns the file."""

    def write(shapes, values, *, crs="EPSG:32632", name="labels.gpkg", kind=None):
        path = tmp_path / name
        field = np.array(values, dtype=object if kind is None else kind)
        pyogrio.raw.write(
            path, shapely.to_wkb(shapes), [field], ["cover"], geometry_type="Unknown", crs=crs
        )
        return str(path)

    return write


def cells(labels, name):
    wanted = labels.classes == labels.names.index(name)
    return set(zip(labels.rows[wanted].tolist(), labels.cols[wanted].tolist(), strict=True))


def codes(labels) -> set[str]:
    return {warning.code for warning in labels.warnings}


def test_the_rule_for_polygons_lines_and_points(draw) -> None:
    covers_two_centres = shapely.box(LEFT + 14, TOP - 24, LEFT + 34, TOP - 14)
    line = shapely.LineString([(LEFT + 205, TOP - 105), (LEFT + 235, TOP - 105)])
    point = shapely.Point(LEFT + 399.9, TOP - 299.9)
    path = draw([covers_two_centres, line, point], ["wood", "road", "well"])
    labels = read_vector_labels(path, "cover", GRID)
    assert labels.names == ("road", "well", "wood")
    assert cells(labels, "wood") == {(1, 1), (1, 2)}
    assert cells(labels, "road") == {(10, 20), (10, 21), (10, 22), (10, 23)}
    assert cells(labels, "well") == {(29, 39)}
    assert labels.units_per_class.tolist() == [1, 1, 1]
    assert labels.warnings == ()


def test_parts_of_a_dissolved_layer_are_units(draw) -> None:
    wood = shapely.MultiPolygon([box(0, 0, 3, 3), box(10, 10, 2, 2), box(90, 0, 2, 2)])
    path = draw([wood, box(20, 20, 3, 3)], ["wood", "field"])
    labels = read_vector_labels(path, "cover", GRID)
    assert labels.units_per_class.tolist() == [1, 2]  # one part of the wood lies outside
    assert labels.pixels_per_class.tolist() == [9, 13]
    (outside,) = labels.warnings
    assert outside.code == "outside" and "Features 1 lie" in outside.message


def test_labels_in_other_coordinates(draw) -> None:
    change = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    moved = shapely.transform(
        box(3, 4, 5, 6), lambda p: np.stack(change.transform(p[:, 0], p[:, 1]), axis=1)
    )
    labels = read_vector_labels(draw([moved], ["a"], crs="EPSG:4326"), "cover", GRID)
    assert cells(labels, "a") == {(r, c) for r in range(3, 8) for c in range(4, 10)}


def test_numbers_are_classes_in_their_order(draw) -> None:
    path = draw([box(0, 0, 1, 1), box(5, 5, 1, 1)], [10, 9], kind=np.int32)
    assert read_vector_labels(path, "cover", GRID).names == ("9", "10")


def test_what_two_classes_claim_is_left_out(draw) -> None:
    shapes = [box(0, 0, 4, 4), box(2, 2, 4, 4), box(0, 0, 1, 1)]
    labels = read_vector_labels(draw(shapes, ["a", "b", "a"]), "cover", GRID)
    disputed = {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert not (cells(labels, "a") | cells(labels, "b")) & disputed
    assert labels.pixels_per_class.tolist() == [12, 12]  # once each, though drawn twice
    (warning,) = labels.warnings
    assert warning.code == "overlap" and "4 pixels" in warning.message


def test_what_is_left_out_is_said(draw) -> None:
    crossed = shapely.Polygon(
        [(LEFT + 100, TOP - 100), (LEFT + 200, TOP - 200), (LEFT + 200, TOP - 100),
         (LEFT + 100, TOP - 200)]
    )  # fmt: skip
    tiny = shapely.box(LEFT + 1, TOP - 2, LEFT + 2, TOP - 1)
    shapes = [box(0, 0, 2, 2), crossed, tiny, box(100, 100, 2, 2), box(9, 9, 1, 1), None]
    labels = read_vector_labels(draw(shapes, ["a", "b", "a", "a", None, "a"]), "cover", GRID)
    assert codes(labels) == {"crossing", "small", "outside", "empty_class", "no_geometry"}
    assert labels.pixels_per_class[0] == 4 and 40 <= labels.pixels_per_class[1] <= 60


def test_what_is_left_out_is_listed_with_what_to_do(draw) -> None:
    nowhere = shapely.Point(np.inf, TOP)
    shapes = [box(0, 0, 2, 2), nowhere, box(100, 100, 2, 2), box(9, 9, 1, 1), box(5, 5, 1, 1)]
    labels = read_vector_labels(draw(shapes, ["a", "a", "a", None, "b"]), "cover", GRID)
    found = {problem.code: problem for problem in labels.warnings}
    assert set(found) == {"no_place", "outside", "empty_class"}
    for code, feature in (("no_place", "2"), ("outside", "3"), ("empty_class", "4")):
        assert f"Features {feature} " in found[code].message and found[code].advice
    assert [labels.features[unit] for unit in np.unique(labels.units)] == ["1", "5"]


def test_features_without_data_are_listed(draw) -> None:
    shapes = [box(0, 0, 2, 2), box(5, 5, 2, 2), box(9, 9, 2, 2)]
    labels = read_vector_labels(draw(shapes, ["a", "a", "b"]), "cover", GRID)
    (problem,) = without_data(labels, labels.chosen(labels.units != 1))
    assert "1 of 'a' (features 2)" in problem.message and problem.advice
    assert without_data(labels, labels) == ()


def test_texts_of_odd_digits_are_no_numbers(draw) -> None:
    path = draw([box(0, 0, 2, 2), box(5, 5, 2, 2)], ["²", "³"])
    assert read_vector_labels(path, "cover", GRID).names == ("²", "³")


class TestScenesFullOfLabels:
    """Of labels that cover a large scene some squares are used, with all classes in them."""

    @pytest.fixture
    def small(self, monkeypatch):
        """A limit that a small scene exceeds."""
        for module in ("raster", "vector"):
            monkeypatch.setattr(f"mmearth.training.labels.{module}.MOST_PIXELS", 400_000)
        monkeypatch.setattr(squares, "MOST_SQUARES", 16)

    GRID = Grid(UTM, Affine(10, 0, LEFT, 0, -10, TOP), 1000, 900)

    def check(self, labels, rare) -> None:
        assert codes(labels) == {"many"}
        assert len(labels.names) == 3 and cells(labels, "3") == rare
        used = {(row // 128, col // 128) for row, col in zip(labels.rows, labels.cols, strict=True)}
        assert len(used) == 16
        inner = (labels.rows // 128 == min(used)[0]) & (labels.cols // 128 == min(used)[1])
        assert inner.sum() == 128**2  # as dense as they were

    def test_raster(self, small, make_raster) -> None:
        values = np.ones((900, 1000), np.uint8)
        values[:, 500:], values[200:203, 701] = 2, 3
        labels = read_raster_labels(str(make_raster("l.tif", values)), self.GRID)
        self.check(labels, {(200, 701), (201, 701), (202, 701)})

    def test_polygons(self, small, draw) -> None:
        shapes = [box(0, 0, 900, 500), box(0, 500, 200, 500), box(203, 500, 697, 500)]
        path = draw([*shapes, box(200, 701, 3, 1)], ["1", "2", "2", "3"])
        labels = read_vector_labels(path, "cover", self.GRID)
        assert codes(labels) == {"many"}
        assert cells(labels, "3") == {(200, 701), (201, 701), (202, 701)}
        assert labels.pixels_per_class.sum() <= 16 * 128**2
        again = read_vector_labels(path, "cover", self.GRID)
        np.testing.assert_array_equal(labels.rows, again.rows)


@pytest.mark.parametrize(
    ("shapes", "values", "field", "words"),
    [
        ([box(0, 0, 2, 2)], ["a"], "kind", "no field 'kind'; it has cover"),
        ([box(0, 0, 2, 2)], [None], "cover", "No feature has a value"),
        ([box(100, 100, 2, 2)], ["a"], "cover", "None of the 1 labels lies on the rasters"),
        ([box(0, n, 1, 1) for n in range(51)], [str(n) for n in range(51)], "cover",
         "at most 50 classes, found 51 different values"),
        ([box(0, 0, 2, 2)] * 2, ["a", "b"], "cover", "claimed by two classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(draw, shapes, values, field, words) -> None:
    with pytest.raises(InputError, match=words):
        read_vector_labels(draw(shapes, values), field, GRID)


def test_no_more_classes_are_asked_for_than_can_be_learned(draw) -> None:
    wanted = [str(number) for number in range(51)]
    with pytest.raises(InputError, match="at most 50 classes, found 51"):
        read_vector_labels(draw([box(0, 0, 2, 2)], ["1"]), "cover", GRID, wanted=wanted)


def test_labels_that_do_not_say_where_they_are(draw) -> None:
    path = Path(draw([box(0, 0, 1, 1)], ["a"], name="l.shp"))
    path.with_suffix(".prj").unlink()
    with pytest.raises(MissingCrsError, match="no coordinate system"):
        read_vector_labels(str(path), "cover", GRID)


def test_no_file_of_labels(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_vector_labels(str(tmp_path / "none.gpkg"), "cover", GRID)


class TestRasters:
    def test_codes_are_classes(self, make_raster) -> None:
        values = np.zeros((20, 50), np.uint8)
        values[4:6, 10:13], values[10, 49], values[15, 20] = 7, 3, 255
        path = make_raster("l.tif", values, origin=(LEFT - 50, TOP + 20), nodata=255)
        labels = read_raster_labels(str(path), GRID)
        assert labels.names == ("7",)  # what lies beside the image is none of its labels
        assert cells(labels, "7") == {(r, c) for r in (2, 3) for c in (5, 6, 7)}

    def test_units_are_blocks(self, make_raster) -> None:
        values = np.ones((30, 40), np.uint8)
        values[:, 20:] = 2
        labels = read_raster_labels(str(make_raster("l.tif", values)), GRID)
        assert labels.pixels_per_class.tolist() == [600, 600]
        assert labels.units_per_class.tolist() == [1, 2]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"origin": (LEFT + 3, TOP)}, "do not coincide"),
            ({"pixel": 20.0}, "do not coincide"),
            ({"crs": CRS.from_epsg(32633)}, "do not coincide"),
            ({"origin": (LEFT + 5000, TOP)}, "labels no pixel of the image"),
        ],
    )
    def test_other_pixels_are_refused(self, make_raster, options, words) -> None:
        path = make_raster("l.tif", np.ones((30, 40), np.uint8), **options)
        with pytest.raises(InputError, match=words):
            read_raster_labels(str(path), GRID)

    def test_no_class_codes(self, make_raster) -> None:
        path = make_raster("l.tif", np.ones((30, 40), np.float32))
        with pytest.raises(InputError, match="one band of whole numbers, found 1 of float32"):
            read_raster_labels(str(path), GRID)


class TestSource:
    """Labels as a request names them: layers of a file, chosen classes."""

    def test_every_layer_with_the_field_is_read(self, draw) -> None:
        path = draw([box(0, 0, 2, 2)], ["wood"])
        for layer, shape, value in (
            ("points", shapely.Point(LEFT + 105, TOP - 105), "well"),
            ("notes", shapely.Point(LEFT + 55, TOP - 55), "no class"),
        ):
            field = "note" if layer == "notes" else "cover"
            pyogrio.raw.write(
                path, shapely.to_wkb([shape]), [np.array([value], object)], [field],
                layer=layer, geometry_type="Point", crs="EPSG:32632", append=True,
            )  # fmt: skip
        source = LabelSource(path=path, field="cover")
        labels = read_labels(source, GRID)
        assert labels.names == ("well", "wood") and cells(labels, "well") == {(10, 10)}
        alone = read_labels(source.model_copy(update={"layer": "points"}), GRID)
        assert alone.names == ("well",)

    def test_chosen_classes_in_their_order(self, draw) -> None:
        path = draw([box(0, 0, 2, 2), box(5, 5, 2, 2), box(9, 9, 2, 2)], ["a", "b", "c"])
        chosen = [LabelClass(value="c"), LabelClass(value="x"), LabelClass(value="a")]
        labels = read_labels(LabelSource(path=path, field="cover", classes=chosen), GRID)
        assert labels.names == ("c", "a") and len(cells(labels, "c")) == 4
        assert codes(labels) == {"other_class", "no_label"}

    def test_chosen_codes_of_a_raster(self, make_raster) -> None:
        classes = np.full((30, 40), 3, np.uint8)
        classes[:10], classes[10:12] = 7, 0
        path = make_raster("l.tif", classes)
        chosen = [LabelClass(value="7"), LabelClass(value="3")]
        labels = read_labels(LabelSource(path=str(path), classes=chosen), GRID)
        assert labels.names == ("7", "3") and labels.pixels_per_class.tolist() == [400, 720]
        only = read_labels(LabelSource(path=str(path), classes=chosen[:1]), GRID)
        assert only.names == ("7",) and set(only.rows.tolist()) == set(range(10))

    def test_a_file_of_features_needs_a_field(self, draw) -> None:
        path = draw([box(0, 0, 2, 2)], ["wood"])
        with pytest.raises(InputError, match="with the fields cover; which one"):
            read_labels(LabelSource(path=path), GRID)
