"""Sample designs: what is drawn, how points are shared out, what is refused."""

from __future__ import annotations

import csv
import json
import sqlite3

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely

from mmearth.api import ExpectedAccuracy, SampleDesignSpec, SampleOutputs
from mmearth.assessment import classraster
from mmearth.errors import (
    DiskFullError,
    EmptyAreaError,
    InputError,
    JobCancelled,
    MissingCrsError,
    OutputError,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job

LEFT, TOP = 600_000, 5_400_000
CODES = np.array([1, 2, 5])


def classes_raster(height=90, width=120) -> np.ndarray:
    """Half of it 2, a third 5, 120 pixels of 1, and a column without data."""
    values = np.full((height, width), 2, np.uint8)
    values[60:] = 5
    values[10:20, 20:32] = 1
    values[:, -1] = 0
    return values


@pytest.fixture
def class_map(make_raster):
    return make_raster("map.tif", classes_raster(), nodata=0)


@pytest.fixture
def draw(settings, out, class_map):
    """Return a function that draws a sample, and gives the result and its table."""

    def run(raster=class_map, **more):
        named = SampleOutputs(sample=str(out / "s.gpkg"), table=str(out / "s.csv"))
        spec = SampleDesignSpec(raster=str(raster), outputs=named, **more)
        assert plan_job(spec, settings).ready
        try:
            result = run_job(spec, JobContext(settings))
        except Exception:
            assert list(out.iterdir()) == []
            raise
        assert not any(settings.work_folder.iterdir())
        meta, _, geometry, data = pyogrio.raw.read(out / "s.gpkg", layer="sample")
        return result, shapely.from_wkb(geometry), dict(zip(meta["fields"], data, strict=True))

    return run


def pixels_of(points) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = (TOP - shapely.get_y(points)) / 10, (shapely.get_x(points) - LEFT) / 10
    assert np.array_equal(rows % 1, np.full(rows.size, 0.5)) and (cols % 1 == 0.5).all()
    return rows.astype(int), cols.astype(int)


def test_points_lie_in_the_middle_of_pixels_of_their_stratum(draw) -> None:
    result, points, table = draw(size=400, minimum=60)
    rows, cols = pixels_of(points)
    np.testing.assert_array_equal(classes_raster()[rows, cols], table["stratum"])
    assert np.unique(rows * 120 + cols).size == 400  # none twice
    assert table["id"].tolist() == list(range(1, 401))
    np.testing.assert_allclose(table["area_ha"], 0.01, rtol=2e-3)
    assert np.isnan(table["reference"]).all() and set(table["note"]) == {None}
    assert [(row.value, row.points) for row in result.strata] == [(1, 60), (2, 225), (5, 115)]


def test_the_strata_stay_with_the_points(draw, out) -> None:
    result, _, _ = draw(size=400)
    info = pyogrio.read_info(out / "s.gpkg", layer="sample")
    kept = json.loads(info["layer_metadata"]["MMEARTH_STRATA"])
    assert kept == [row.model_dump() for row in result.strata]
    assert info["layer_metadata"]["MMEARTH_SEED"] == "0"
    assert [row.pixels for row in result.strata] == [120, 7020, 3570]
    assert sum(row.weight for row in result.strata) == pytest.approx(1)
    assert result.strata[0].hectares == pytest.approx(1.2, rel=2e-3)
    meta, _, _, data = pyogrio.raw.read(out / "s.gpkg", layer="strata")
    table = dict(zip(meta["fields"], data, strict=True))
    assert table["points"].tolist() == [row.points for row in result.strata]
    with open(out / "s.csv", encoding="utf-8") as file:
        assert [int(row["points"]) for row in csv.DictReader(file)] == table["points"].tolist()


def test_points_come_in_random_order(draw) -> None:
    """Whoever stops in the middle has interpreted of all strata what is due to them."""
    _, _, table = draw(size=600, allocation="equal", minimum=2)
    half = table["stratum"][:300]
    expected = [(table["stratum"] == code).sum() / 2 for code in CODES]
    found = [(half == code).sum() for code in CODES]
    assert np.abs(np.subtract(found, expected)).max() < 35


def test_a_seed_decides_and_strips_make_no_difference(draw, monkeypatch) -> None:
    _, first, table = draw(size=200, seed=4)
    monkeypatch.setattr(classraster, "STRIP_PIXELS", 500)
    _, again, others = draw(size=200, seed=4)
    assert (first == again).all() and (table["stratum"] == others["stratum"]).all()
    _, other, _ = draw(size=200, seed=5)
    assert (first != other).any()


def test_every_pixel_has_the_same_chance(draw) -> None:
    counts = np.zeros((90, 120))
    for seed in range(4):
        _, points, table = draw(size=6000, allocation="proportional", seed=seed)
        rows, cols = pixels_of(points[table["stratum"] == 2])
        counts[rows, cols] += 1
    wanted = classes_raster() == 2
    assert (counts[~wanted] == 0).all()
    halves = counts[:30].sum(), counts[30:60].sum()
    share = wanted[:30].sum() / wanted.sum()
    assert halves[0] / sum(halves) == pytest.approx(share, abs=0.01)


def test_all_pixels_of_a_small_class(draw) -> None:
    result, _, table = draw(size=900, allocation="equal")
    assert [row.points for row in result.strata] == [120, 390, 390]
    assert (table["stratum"] == 1).sum() == 120


def test_the_size_that_a_target_error_needs(draw) -> None:
    expected = [
        ExpectedAccuracy(value="1", accuracy=0.7),
        ExpectedAccuracy(value="5", accuracy=0.9),
    ]
    result, points, _ = draw(
        target_error=0.02, expected=expected, expected_accuracy=0.8, allocation="proportional"
    )
    weights = np.array([row.weight for row in result.strata])
    deviation = weights @ np.sqrt([0.7 * 0.3, 0.8 * 0.2, 0.9 * 0.1])
    variance = weights @ [0.7 * 0.3, 0.8 * 0.2, 0.9 * 0.1]
    assert result.size == np.ceil(deviation**2 / (0.02**2 + variance / 10_710)) == len(points)
    assert result.expected_error == pytest.approx(0.02, abs=0.002)


def test_rare_classes_have_their_minimum_whatever_the_target_error_needs(draw) -> None:
    result, points, _ = draw(target_error=0.1, minimum=40)
    assert result.size == len(points) == 3 * 40
    assert result.expected_error < 0.1


def test_zero_is_a_class_unless_the_file_says_otherwise(draw, make_raster) -> None:
    values = (classes_raster() == 5).astype(np.int16)
    result, _, _ = draw(make_raster("binary.tif", values), size=100)
    assert [row.value for row in result.strata] == [0, 1]


def test_a_raster_in_degrees(draw, make_raster) -> None:
    values = np.repeat([[1], [2]], 60, axis=0).astype(np.uint8).repeat(40, axis=1)
    degrees = rasterio.crs.CRS.from_epsg(4326)
    path = make_raster("d.tif", values, crs=degrees, pixel=0.5, origin=(0, 60))
    result, points, table = draw(path, size=100, allocation="equal")
    south, north = result.strata[1].hectares, result.strata[0].hectares
    assert south > 1.2 * north  # as many pixels, but nearer to the equator
    assert result.strata[0].pixels == result.strata[1].pixels
    assert shapely.get_y(points).max() < 60
    ground = np.cos(np.radians(shapely.get_y(points)))  # on a sphere
    np.testing.assert_allclose(
        table["area_ha"] / table["area_ha"].max(), ground / ground.max(), rtol=0.02
    )


def test_cancelled_leaves_nothing(class_map, settings, out) -> None:
    told = []
    spec = SampleDesignSpec(
        raster=str(class_map), size=300, outputs=SampleOutputs(sample=str(out / "s.gpkg"))
    )
    context = JobContext(settings, lambda *report: told.append(report[0]), lambda: told[-1] > 0.9)
    with pytest.raises(JobCancelled):
        run_job(spec, context)
    assert list(out.iterdir()) == []


class TestWhatIsRefused:
    def test_too_small_a_sample(self, draw) -> None:
        with pytest.raises(InputError, match="5 points is too small for 3 classes"):
            draw(size=5)
        with pytest.raises(InputError, match=r"50 points in each of 3 classes are 150.*the 100"):
            draw(size=100)

    def test_too_large_a_sample(self, draw) -> None:
        with pytest.raises(InputError, match="only 10,710 pixels with a class"):
            draw(size=20_000)

    def test_a_class_of_a_single_pixel(self, draw, make_raster) -> None:
        values = classes_raster()
        values[0, 0] = 9
        with pytest.raises(InputError, match="two pixels or more of each class, found one of 9"):
            draw(make_raster("speck.tif", values, nodata=0), size=300)

    def test_one_class_only(self, draw, make_raster) -> None:
        with pytest.raises(InputError, match="two classes or more, found only '7'"):
            draw(make_raster("one.tif", np.full((90, 120), 7, np.uint8)), size=300)

    def test_codes_that_no_field_holds(self, draw, make_raster) -> None:
        values = classes_raster().astype(np.uint32)
        values[values == 0] = 2**32 - 1
        with pytest.raises(InputError, match=r"at most, found 4,294,967,295") as caught:
            draw(make_raster("wide.tif", values), size=300)
        assert "no data" in caught.value.advice

    def test_no_data(self, draw, make_raster) -> None:
        with pytest.raises(EmptyAreaError, match="no data at all"):
            draw(make_raster("none.tif", np.zeros((90, 120), np.uint8), nodata=0), size=300)

    def test_expectations_of_no_class(self, draw) -> None:
        with pytest.raises(InputError, match=r"has 1, 2, 5; .*'3' cannot be told"):
            draw(expected=[ExpectedAccuracy(value="3", accuracy=0.5)])

    @pytest.mark.parametrize(
        ("more", "error", "words"),
        [({"crs": None}, MissingCrsError, "no place on the map"), ({}, InputError, "of float32")],
    )
    def test_rasters_that_hold_no_classes(self, settings, make_raster, out, more, error, words):
        kind = np.uint8 if more else np.float32
        path = make_raster("x.tif", classes_raster().astype(kind), **more)
        spec = SampleDesignSpec(raster=str(path), outputs=SampleOutputs(sample=str(out / "s.gpkg")))
        assert words in plan_job(spec, settings).errors[0].message
        with pytest.raises(error, match=words):
            run_job(spec, JobContext(settings))

    def test_names_and_folders_of_results(self, settings, class_map, tmp_path) -> None:
        for name, words in (("s.shp", "ends with .gpkg"), ("no/s.gpkg", "does not exist")):
            spec = SampleDesignSpec(
                raster=str(class_map), outputs=SampleOutputs(sample=str(tmp_path / name))
            )
            with pytest.raises((InputError, OutputError), match=words):
                run_job(spec, JobContext(settings))

    def test_a_sample_that_is_interpreted_is_kept(self, draw, class_map, settings, out) -> None:
        draw(size=300)
        draw(size=310)  # nobody has looked at it
        with sqlite3.connect(out / "s.gpkg") as database:
            for (name,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'sample'"
            ).fetchall():  # they call functions that only GDAL has
                database.execute(f'DROP TRIGGER "{name}"')
            database.execute("UPDATE sample SET reference = 2 WHERE id = 7")
        database.close()
        before = (out / "s.gpkg").read_bytes()
        spec = SampleDesignSpec(
            raster=str(class_map), outputs=SampleOutputs(sample=str(out / "s.gpkg"))
        )
        with pytest.raises(OutputError, match="sample of which 1 point is interpreted"):
            run_job(spec, JobContext(settings))
        assert (out / "s.gpkg").read_bytes() == before

    def test_a_sample_that_is_open_elsewhere(self, settings, class_map, out) -> None:
        (out / "s.gpkg-wal").touch()
        spec = SampleDesignSpec(
            raster=str(class_map), outputs=SampleOutputs(sample=str(out / "s.gpkg"))
        )
        with pytest.raises(OutputError, match="open in another program"):
            run_job(spec, JobContext(settings))

    def test_no_room_on_the_disk(self, settings, class_map, small_disk) -> None:
        (small_disk / "fill").write_bytes(bytes(900_000))
        spec = SampleDesignSpec(
            raster=str(class_map), outputs=SampleOutputs(sample=str(small_disk / "s.gpkg"))
        )
        with pytest.raises(DiskFullError, match="free"):
            run_job(spec, JobContext(settings))
        assert [file.name for file in small_disk.iterdir()] == ["fill"]
