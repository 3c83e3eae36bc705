"""The similarity job: what it compares with, what it measures, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from scenes import write_places

from mmearth.api import SimilarityOutputs, SimilaritySpec
from mmearth.errors import InputError, JobCancelled, MissingCrsError, RasterReadError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.raster import features as feature_reader

LEFT, TOP, PIXEL = 600_000, 5_400_000, 40
SHAPE = (30, 20)


def feature_values(seed=0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(5, *SHAPE)).astype(np.float32)
    values[:, :4, :6] = np.nan
    return values


def at(row, col, inside=0.5) -> tuple[float, float]:
    return LEFT + (col + inside) * PIXEL, TOP - (row + inside) * PIXEL


def square(row, col, side, inside=0.1) -> shapely.Polygon:
    """A square around whole pixels, but for a rim."""
    x, y = at(row, col, inside)
    reach = side - 2 * inside
    return shapely.box(x, y - reach * PIXEL, x + reach * PIXEL, y)


@pytest.fixture
def features(make_raster):
    return make_raster(
        "features.tif", feature_values(), pixel=PIXEL, origin=(LEFT, TOP), nodata=np.nan
    )


@pytest.fixture
def compare(features, settings, out, tmp_path):
    """Return a function that compares with geometries, and gives the map and the result."""

    def run(
        *shapes,
        crs="EPSG:32632",
        file="places.gpkg",
        kind="Unknown",
        path=features,
        references=None,
    ):
        references = references or write_places(tmp_path / file, shapes, crs, kind)
        spec = SimilaritySpec(
            features=str(path),
            references=str(references),
            outputs=SimilarityOutputs(similarity=str(out / "similarity.tif")),
        )
        plan = plan_job(spec, settings)
        try:
            result = run_job(spec, JobContext(settings))
        except Exception:
            assert list(out.iterdir()) == []
            raise
        assert plan.ready and not any(settings.work_folder.iterdir())
        with rasterio.open(out / "similarity.tif") as dataset:
            return dataset.read(1), result

    return run


def cosine(pixels) -> np.ndarray:
    """Return the cosine of each pixel with the mean direction of some pixels."""
    values = feature_values().astype(float)
    units = values / np.linalg.norm(values, axis=0)
    mean = np.mean([units[:, row, col] for row, col in pixels], axis=0)
    return np.tensordot(mean / np.linalg.norm(mean), units, 1)


def test_a_point_is_compared_with_every_pixel(compare, features, out) -> None:
    found, result = compare(shapely.Point(at(10, 7)))
    np.testing.assert_allclose(found, cosine([(10, 7)]), atol=1e-5)
    assert found[10, 7] == pytest.approx(1) and np.isnan(found[:4, :6]).all()
    assert -1 <= np.nanmin(found) and np.nanmax(found) <= 1
    assert (result.references, result.reference_pixels, result.warnings) == (1, 1, [])
    with rasterio.open(out / "similarity.tif") as dataset, rasterio.open(features) as source:
        assert dataset.transform == source.transform and dataset.crs == source.crs
        assert dataset.dtypes == ("float32",) and np.isnan(dataset.nodata)
        assert dataset.tags()["MMEARTH_FEATURES"] == str(features)


def test_of_several_places_the_most_alike_counts(compare) -> None:
    found, result = compare(shapely.Point(at(10, 7)), shapely.Point(at(20, 3)))
    both = np.maximum(cosine([(10, 7)]), cosine([(20, 3)]))
    np.testing.assert_allclose(found, both, atol=1e-5)
    assert result.references == 2


def test_a_polygon_is_the_mean_of_its_pixels(compare) -> None:
    found, result = compare(square(10, 5, 3))
    pixels = [(row, col) for row in (10, 11, 12) for col in (5, 6, 7)]
    np.testing.assert_allclose(found, cosine(pixels), atol=1e-5)
    assert result.reference_pixels == 9


def test_a_polygon_smaller_than_a_pixel_takes_the_one_it_lies_in(compare) -> None:
    x, y = at(12, 9, 0.1)
    found, result = compare(shapely.box(x, y - 4, x + 4, y))
    np.testing.assert_allclose(found, cosine([(12, 9)]), atol=1e-5)
    assert result.reference_pixels == 1


def test_several_parts_are_one_place(compare) -> None:
    """Each of its pixels counts once, however many points lie in it."""
    points = shapely.MultiPoint([at(10, 7), at(10, 7, 0.6), at(20, 3)])
    found, result = compare(points)
    np.testing.assert_allclose(found, cosine([(10, 7), (20, 3)]), atol=1e-5)
    polygons = shapely.MultiPolygon([square(10, 5, 2), square(20, 5, 1)])
    found, result = compare(shapely.GeometryCollection([polygons, shapely.Point(at(5, 15))]))
    pixels = [(10, 5), (10, 6), (11, 5), (11, 6), (20, 5), (5, 15)]
    np.testing.assert_allclose(found, cosine(pixels), atol=1e-5)
    assert (result.references, result.reference_pixels) == (1, 6)


@pytest.mark.parametrize("file", ["places.gpkg", "places.geojson", "places.shp"])
def test_places_in_another_projection_and_format(compare, file) -> None:
    transformer = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    point = shapely.Point(transformer.transform(*at(10, 7)))
    found, _ = compare(point, crs="EPSG:4326", file=file, kind="Point")
    np.testing.assert_allclose(found, cosine([(10, 7)]), atol=1e-5)


def test_points_with_heights(compare) -> None:
    found, _ = compare(shapely.Point(*at(10, 7), 300.0), kind="Point Z")
    np.testing.assert_allclose(found, cosine([(10, 7)]), atol=1e-5)


def test_a_layer_by_name(features, settings, out, tmp_path) -> None:
    path = write_places(tmp_path / "p.gpkg", [shapely.Point(at(20, 3))], layer="first")
    write_places(path, [shapely.Point(at(10, 7))], layer="second", append=True)
    for layer, place in ((None, (20, 3)), ("second", (10, 7))):
        spec = SimilaritySpec(
            features=str(features), references=str(path), layer=layer,
            outputs=SimilarityOutputs(similarity=str(out / "similarity.tif")),
        )  # fmt: skip
        run_job(spec, JobContext(settings))
        with rasterio.open(out / "similarity.tif") as dataset:
            np.testing.assert_allclose(dataset.read(1), cosine([place]), atol=1e-5)
    with pytest.raises(InputError, match="cannot be read"):
        run_job(spec.model_copy(update={"layer": "third"}), JobContext(settings))


def test_places_without_data_are_left_out_and_told(compare) -> None:
    places = [at(10, 7), at(1, 1), at(-3, 5), at(5, 900)]
    found, result = compare(*[shapely.Point(place) for place in places], shapely.Point())
    np.testing.assert_allclose(found, cosine([(10, 7)]), atol=1e-5)
    assert result.references == 1
    [warning] = result.warnings
    assert warning.code == "references" and "3 of 4 places" in warning.message


def test_blocks_of_rows_make_no_difference(compare, monkeypatch, make_raster) -> None:
    tiled = make_raster(
        "tiled.tif", feature_values(), pixel=PIXEL, origin=(LEFT, TOP), blockysize=7
    )
    shapes = [square(5, 8, 20), shapely.Point(at(29, 19))]
    whole, _ = compare(*shapes)
    monkeypatch.setattr(feature_reader, "BLOCK_BYTES", 1)
    parts, _ = compare(*shapes, path=tiled)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_cancelled_leaves_nothing(features, settings, out, tmp_path) -> None:
    told = []
    path = write_places(tmp_path / "p.gpkg", [shapely.Point(at(20, 3))])
    spec = SimilaritySpec(
        features=str(features), references=str(path),
        outputs=SimilarityOutputs(similarity=str(out / "similarity.tif")),
    )  # fmt: skip
    context = JobContext(settings, lambda *report: told.append(report[0]), lambda: told[-1] > 0.9)
    with pytest.raises(JobCancelled):
        run_job(spec, context)
    assert list(out.iterdir()) == []


class TestWhatIsRefused:
    def test_no_usable_place(self, compare) -> None:
        for place in (at(1, 1), at(-3, 5)):
            with pytest.raises(InputError, match="None of the places lies on features"):
                compare(shapely.Point(place))

    def test_lines(self, compare) -> None:
        for line in (
            shapely.LineString([at(1, 1), at(9, 9)]),
            shapely.GeometryCollection([shapely.LineString([at(1, 1), at(9, 9)])]),
        ):
            with pytest.raises(InputError, match="Expected points or polygons, found a LineString"):
                compare(shapely.Point(at(10, 7)), line)

    def test_no_places(self, compare) -> None:
        with pytest.raises(InputError, match="holds no places"):
            compare()

    def test_places_nowhere(self, compare, tmp_path) -> None:
        write_places(tmp_path / "p.shp", [shapely.Point(at(10, 7))], kind="Point")
        (tmp_path / "p.prj").unlink()
        with pytest.raises(MissingCrsError, match="no coordinate reference system"):
            compare(references=tmp_path / "p.shp")

    def test_a_file_of_other_kind(self, compare, features) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            compare(references=features)

    def test_rasters_that_hold_no_features(self, compare, make_raster) -> None:
        place = {"pixel": PIXEL, "origin": (LEFT, TOP)}
        for values in (np.ones((5, *SHAPE), np.uint16), np.ones(SHAPE, np.float32)):
            with pytest.raises(InputError, match="Expected features"):
                compare(shapely.Point(at(9, 9)), path=make_raster("x.tif", values, **place))
        nowhere = make_raster("y.tif", feature_values(), crs=None)
        with pytest.raises(MissingCrsError, match="no place on the map"):
            compare(shapely.Point(at(9, 9)), path=nowhere)

    def test_missing_features(self, compare, tmp_path) -> None:
        with pytest.raises(RasterReadError, match="does not exist"):
            compare(shapely.Point(at(9, 9)), path=tmp_path / "no.tif")
