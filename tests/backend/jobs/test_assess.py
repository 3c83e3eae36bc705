"""Assessments: the published example from files to figures, references of all kinds, refusals."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject
from scenes import UTM

from mmearth.api import AssessOutputs, AssessSpec, LabelClass, SampleDesignSpec, SampleOutputs
from mmearth.errors import (
    DiskFullError,
    EmptyAreaError,
    InputError,
    JobCancelled,
    MissingCrsError,
    OutputError,
    RasterReadError,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job

LEFT, TOP = 600_000, 5_400_000
TITLES = {1: "Water", 2: "Trees", 3: "Other"}


def classes_raster(seed=0, height=90, width=120) -> np.ndarray:
    """Three classes in patches, and a column without data."""
    random = np.random.default_rng(seed)
    values = random.choice([1, 2, 3], (height // 6, width // 6), p=[0.2, 0.5, 0.3])
    values = np.kron(values, np.ones((6, 6), int)).astype(np.uint8)
    values[:, -1] = 0
    return values


def write_points(path, places, columns, crs="EPSG:32632", pixel=10, **more):
    """Write points in the middle of pixels (row, column)."""
    rows, cols = np.array(places).T
    shapes = shapely.points(LEFT + (cols + 0.5) * pixel, TOP - (rows + 0.5) * pixel)
    if crs != "EPSG:32632":
        change = Transformer.from_crs("EPSG:32632", crs, always_xy=True)
        shapes = shapely.transform(shapes, change.transform, interleaved=False)
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), list(columns.values()), list(columns),
        geometry_type="Point", crs=crs, **more,
    )  # fmt: skip
    return path


def fill_in(path, truth, rows=slice(None)) -> None:
    """Interpret a sample: ``truth`` gives the class of a row of the table, or None.

    Of its rows only those that are named stay; one that is named twice is copied.
    """
    meta, _, geometry, data = pyogrio.raw.read(path, layer="sample")
    geometry, data = geometry[rows], [column[rows] for column in data]
    info = pyogrio.read_info(path, layer="sample")
    columns = dict(zip(meta["fields"], data, strict=True))
    points = shapely.from_wkb(geometry)
    found = [
        truth(point, {name: values[place] for name, values in columns.items()})
        for place, point in enumerate(points)
    ]
    columns["reference"] = np.array([value or 0 for value in found], np.int32)
    gone = np.array([value is None for value in found])
    pyogrio.raw.write(
        path, geometry, list(columns.values()), list(columns),
        [gone if name == "reference" else None for name in columns], layer="sample",
        geometry_type="Point", crs=meta["crs"], layer_metadata=info["layer_metadata"],
        driver="GPKG",
    )  # fmt: skip


@pytest.fixture
def class_map(make_raster):
    """A class map without names."""
    return make_raster("map.tif", classes_raster(), nodata=0)


@pytest.fixture
def assess(settings, out, class_map):
    """Return a function that assesses a map, and gives the result."""

    def run(reference, map=class_map, **more):
        named = {name: str(out / file) for name, file in more.pop("files", {}).items()}
        outputs = AssessOutputs(**(named or {"table": str(out / "t.csv")}))
        spec = AssessSpec(map=str(map), reference=str(reference), outputs=outputs, **more)
        plan = plan_job(spec, settings)
        try:
            result = run_job(spec, JobContext(settings))
        except Exception:
            assert list(out.iterdir()) == []
            raise
        assert plan.ready and not any(settings.work_folder.iterdir())
        return result

    return run


@pytest.fixture
def draw(settings, tmp_path, class_map):
    """Return a function that draws a sample, and gives its file."""

    def run(raster=class_map, size=300, **more):
        path = tmp_path / "sample.gpkg"
        spec = SampleDesignSpec(
            raster=str(raster), size=size, outputs=SampleOutputs(sample=str(path)), **more
        )
        run_job(spec, JobContext(settings))
        return path

    return run


def truth_at(values, pixel=10, left=LEFT, top=TOP):
    """Return what interprets a point by an array of classes."""
    return lambda point, _row: int(
        values[int((top - point.y) / pixel), int((point.x - left) / pixel)]
    )


COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
NAMES = ("Deforestation", "Forest gain", "Stable forest", "Stable non-forest")


@pytest.fixture(scope="module")
def change_map(tmp_path_factory):
    """The map of the example of Olofsson et al. 2014, in pixels of 30 m of an equal-area grid."""
    path = tmp_path_factory.mktemp("change") / "change.tif"
    rows = np.repeat(np.arange(1, 5, dtype=np.uint8), [80, 60, 1280, 2580])
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, width=2500, height=4000, nodata=0,
        crs=CRS.from_epsg(3035), transform=from_origin(4_000_000, 3_000_000, 30, 30),
        compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(np.repeat(rows[:, None], 2500, axis=1), 1)
    return path


def change_classes() -> list[LabelClass]:
    return [LabelClass(value=str(n), title=name) for n, name in enumerate(NAMES, start=1)]


class TestThePublishedExample:
    """Olofsson et al. 2014, section 5.2: see ``test_estimators`` for what the pages print."""

    def check(self, result) -> None:
        assert result.matrix == COUNTS.tolist()
        assert [row.title for row in result.classes] == list(NAMES)
        margin = {
            name: [round(1.96 * getattr(row, name).standard_error, 2) for row in result.classes]
            for name in ("users_accuracy", "producers_accuracy")
        }
        value = {
            name: [round(getattr(row, name).value, 2) for row in result.classes] for name in margin
        }
        assert round(result.accuracy.value, 2) == 0.95
        assert round(1.96 * result.accuracy.standard_error, 2) == 0.02
        assert value["users_accuracy"] == [0.88, 0.73, 0.93, 0.96]
        assert margin["users_accuracy"] == [0.07, 0.10, 0.04, 0.02]
        assert value["producers_accuracy"] == [0.75, 0.85, 0.93, 0.96]
        assert margin["producers_accuracy"] == [0.21, 0.25, 0.03, 0.02]
        areas = [row.hectares for row in result.classes]
        assert [round(area.value) for area in areas] == [21_158, 11_686, 285_770, 581_386]
        assert [round(1.96 * area.standard_error) for area in areas] == [6158, 3756, 15_510, 16_282]
        mapped = [round(row.mapped_hectares) for row in result.classes]
        assert mapped == [18_000, 13_500, 288_000, 580_500]

    def test_with_points_of_any_origin(self, change_map, assess, out, tmp_path) -> None:
        random = np.random.default_rng(0)
        first, rows = np.array([0, 80, 140, 1420]), np.array([80, 60, 1280, 2580])
        mapped, reference = (
            np.repeat(place.ravel(), COUNTS.ravel()) for place in np.indices((4, 4))
        )
        cells = np.concatenate(
            [random.choice(rows[n] * 2500, count, replace=False) for n, count in
             enumerate(COUNTS.sum(axis=1))]
        )  # fmt: skip
        ys = 3_000_000 - 30 * (first[mapped] + cells // 2500 + 0.5)
        xs = 4_000_000 + 30 * (cells % 2500 + 0.5)
        pyogrio.raw.write(
            tmp_path / "points.gpkg", shapely.to_wkb(shapely.points(xs, ys)),
            [np.array(NAMES, object)[reference]], ["seen"], geometry_type="Point",
            crs="EPSG:3035",
        )  # fmt: skip
        files = {"table": "t.csv", "areas": "a.csv", "report": "r.html"}
        result = assess(
            tmp_path / "points.gpkg", change_map, field="seen", files=files,
            classes=change_classes(),
        )  # fmt: skip
        self.check(result)
        assert not result.designed and result.clusters == result.pixels == 640
        assert [problem.code for problem in result.warnings] == ["not_designed"]
        with open(out / "a.csv", encoding="utf-8") as file:
            areas = list(csv.DictReader(file))
        assert [round(float(row["margin_ha"])) for row in areas] == [6158, 3756, 15_510, 16_282]
        with open(out / "t.csv", encoding="utf-8") as file:
            table = list(csv.reader(file))
        assert [row[2:6] for row in table[1:5]] == [list(map(str, row)) for row in COUNTS]
        assert float(table[5][-2]) == pytest.approx(0.94651, abs=1e-5)
        page = (out / "r.html").read_text("utf-8")
        assert "94.7\N{NO-BREAK SPACE}%" in page and "± 6,157.6" in page and NAMES[0] in page
        assert "drawn at random in each class" in page

    def test_with_a_sample_of_ours(self, change_map, assess, draw) -> None:
        classes = change_classes()
        sample = draw(change_map, 660, minimum=75, classes=classes)
        left = COUNTS.copy()  # 75, 75, 169 and 341 were drawn: some more than in the example

        def interpret(_point, row):
            counts = left[row["stratum"] - 1]
            if not counts.any():
                return None
            found = int(np.flatnonzero(counts)[0])
            counts[found] -= 1
            return found + 1

        fill_in(sample, interpret)
        result = assess(sample, change_map, classes=classes)
        assert not left.any()
        self.check(result)
        assert result.designed
        [warning] = result.warnings
        assert warning.code == "uninterpreted" and warning.message.startswith("20 points")


def test_a_designed_sample_judges_another_map(assess, draw, make_raster) -> None:
    """Its weights come from its own strata: the estimated areas are those of the truth."""
    truth = classes_raster(seed=5)
    truth[:, -1] = 1
    sample = draw(size=1500)
    fill_in(sample, truth_at(truth))
    other = classes_raster(seed=9)
    other[:, -1] = 3
    found = assess(sample, make_raster("other.tif", other, nodata=0))
    inside = classes_raster() > 0
    assert found.designed and found.pixels == 1500
    for row in found.classes:
        exact = (truth[inside] == row.value).sum() / 100
        assert abs(row.hectares.value - exact) < 3 * row.hectares.standard_error
        shown = (other[inside] == row.value).sum() / 100
        assert row.mapped_hectares == pytest.approx(shown + (row.value == 3) * 0.9, rel=2e-3)
    exact = (truth == other)[inside].mean()
    assert abs(found.accuracy.value - exact) < 3 * found.accuracy.standard_error


def test_points_stand_for_the_ground_that_they_were_drawn_from(assess, draw, make_raster) -> None:
    """In degrees, pixels are smaller in the north; on an equal-area map, they are all alike."""
    halves = np.ones((120, 40), np.uint8)
    halves[:, 20:] = 2
    degrees = CRS.from_epsg(4326)
    drawn = make_raster("degrees.tif", halves, crs=degrees, pixel=0.5, origin=(0, 60))
    sample = draw(drawn, 2000, allocation="equal")
    fill_in(sample, lambda point, _row: 1 if point.y > 30 else 2)
    right, top = Transformer.from_crs(degrees, 6933, always_xy=True).transform(20, 60)
    squares = np.ones((320, 100), np.uint8)
    squares[:, 50:] = 2
    judged = make_raster(
        "squares.tif", squares, crs=CRS.from_epsg(6933), pixel=right / 100, origin=(0, top)
    )
    north, south = (row.hectares for row in assess(sample, judged).classes)
    exact = 1 - np.sin(np.radians(30)) / np.sin(np.radians(60))
    share = north.value / (north.value + south.value)
    assert share == pytest.approx(exact, abs=0.04)  # of the pixels in degrees, it is a half


def test_one_code_with_two_meanings_is_told(assess, draw, class_map) -> None:
    classes = [LabelClass(value=str(value), title=title) for value, title in TITLES.items()]
    sample = draw(classes=classes)
    fill_in(sample, truth_at(classes_raster()))
    assert assess(sample, classes=classes).warnings == []
    others = [*classes[:2], LabelClass(value="3", title="Loss")]
    [warning] = assess(sample, classes=others).warnings
    assert warning.code == "other_titles"
    assert "codes: 3 is 'Other' in the sample and 'Loss' on the map." in warning.message


class TestClasses:
    """Values of the reference are found in the map by code, name and title."""

    places = tuple((row, col) for row in range(3, 90, 12) for col in range(3, 118, 12))

    def points(self, tmp_path, names):
        mapped = [int(classes_raster()[place]) for place in self.places]
        column = np.array([names[value] for value in mapped], object)
        return write_points(tmp_path / "p.gpkg", self.places, {"class": column})

    @pytest.mark.parametrize(
        "names",
        [{1: "1", 2: "2", 3: "3"}, {1: "water", 2: "TREES", 3: "Other"}, {1: "w", 2: "t", 3: "o"}],
    )
    def test_of_our_own_maps(self, assess, class_map, tmp_path, names) -> None:
        rows = [
            {"value": value, "name": title[0].lower(), "title": title, "color": f"#00{value}000"}
            for value, title in TITLES.items()
        ]
        with rasterio.open(class_map, "r+") as dataset:
            dataset.update_tags(MMEARTH_CLASSES=json.dumps(rows))
        found = assess(self.points(tmp_path, names), field="class")
        assert [row.title for row in found.classes] == list(TITLES.values())
        assert found.accuracy.value == 1 and found.classes[0].color == "#001000"

    def test_of_category_names_and_colours(self, assess, class_map, tmp_path) -> None:
        with rasterio.open(class_map, "r+") as dataset:
            dataset.write_colormap(1, {1: (1, 2, 255, 255), 2: (0, 9, 0, 255)})
        names = "".join(f"<Category>{TITLES.get(n, '')}</Category>" for n in range(4))
        class_map.with_name("map.tif.aux.xml").write_text(
            "<PAMDataset><PAMRasterBand band='1'><CategoryNames>"
            f"{names}</CategoryNames></PAMRasterBand></PAMDataset>"
        )
        found = assess(self.points(tmp_path, TITLES), field="class")
        assert [row.title for row in found.classes] == list(TITLES.values())
        assert [row.color for row in found.classes][:2] == ["#0102ff", "#000900"]

    def test_whole_numbers_with_gaps(self, assess, tmp_path) -> None:
        column = np.array([float(classes_raster()[place]) for place in self.places])
        column[0] = np.nan
        path = write_points(tmp_path / "p.gpkg", self.places, {"class": column})
        found = assess(path, field="class")
        assert found.pixels == len(self.places) - 1 and found.accuracy.value == 1
        assert any("no value in 'class'" in problem.message for problem in found.warnings)

    def test_unmatched_values_are_listed_with_those_of_the_map(self, assess, tmp_path) -> None:
        path = self.points(tmp_path, {1: "1", 2: "spruce", 3: "3"})
        with pytest.raises(InputError, match=r"has 1, 2, 3; the reference has .*of which 'spruce'"):
            assess(path, field="class")


def test_points_in_another_projection_and_off_the_map(assess, tmp_path) -> None:
    values = classes_raster()
    places = [(row, col) for row in range(2, 90, 9) for col in range(2, 119, 9)]
    named = np.array([str(values[place]) for place in places] + ["1", "2"], object)
    far = [*places, (40, 119), (500, 7)]  # no data, and outside
    path = write_points(tmp_path / "p.gpkg", far, {"class": named}, crs="EPSG:4326")
    found = assess(path, field="class")
    assert (found.pixels, found.accuracy.value) == (len(places), 1)
    said = {problem.code: problem.message for problem in found.warnings}
    assert str(len(far)) in said["outside"] and "no data" in said["nodata"]
    assert str(len(places) + 1) in said["nodata"]


def test_polygons_count_as_clusters(assess, tmp_path) -> None:
    """Their pixels are counted, but intervals are as wide as so few polygons warrant."""
    values, random = classes_raster(), np.random.default_rng(3)
    boxes, names = [], []
    for row in range(0, 84, 12):
        for col in range(0, 114, 12):
            x, y = LEFT + 10 * col, TOP - 10 * row
            boxes.append(shapely.box(x, y - 60, x + 60, y))
            names.append(
                str(values[row, col] if random.random() < 0.8 else 1 + values[row, col] % 3)
            )
    path = tmp_path / "p.gpkg"
    pyogrio.raw.write(
        path, shapely.to_wkb(boxes), [np.array(names, object)], ["class"],
        geometry_type="Polygon", crs="EPSG:32632",
    )  # fmt: skip
    found = assess(path, field="class")
    assert (found.clusters, found.pixels) == (len(boxes), 36 * len(boxes))
    share = found.accuracy.value
    alone = np.sqrt(share * (1 - share) / len(boxes))
    assert found.accuracy.standard_error == pytest.approx(alone, rel=0.15)


class TestRasters:
    def test_on_another_grid(self, assess, make_raster, tmp_path) -> None:
        """In degrees; the map's zero is no class, so neither is that of the reference."""
        truth = classes_raster(seed=1)
        truth[:30] = classes_raster()[:30]
        turned = tmp_path / "truth.tif"
        degrees = CRS.from_epsg(4326)
        place, width, height = rasterio.warp.calculate_default_transform(
            UTM, degrees, 120, 90, LEFT, TOP - 900, LEFT + 1200, TOP, resolution=2e-5
        )
        with rasterio.open(
            turned, "w", driver="GTiff", dtype="uint8", count=1, width=width, height=height,
            crs=degrees, transform=place,
        ) as dataset:  # fmt: skip
            values = np.zeros((height, width), np.uint8)
            reproject(
                truth, values, src_transform=from_origin(LEFT, TOP, 10, 10), src_crs=UTM,
                dst_transform=place, dst_crs=degrees, resampling=Resampling.nearest,
            )  # fmt: skip
            dataset.write(values, 1)
        found = assess(turned)
        assert found.pixels == pytest.approx(90 * 119, rel=0.02)
        exact = (truth == classes_raster())[:, :-1].mean()
        assert found.accuracy.value == pytest.approx(exact, abs=0.01)
        assert found.clusters == 12  # blocks of 32 pixels: 3 x 4

    def test_zero_is_a_class_if_it_is_one_of_the_map(self, assess, make_raster) -> None:
        values = (classes_raster() == 2).astype(np.uint8)
        map = make_raster("binary.tif", values)
        found = assess(make_raster("truth.tif", values), map)
        assert [row.value for row in found.classes] == [0, 1] and found.pixels == values.size


def test_cancelled_leaves_nothing(class_map, draw, settings, out) -> None:
    told = []
    sample = draw()
    fill_in(sample, truth_at(classes_raster()))
    spec = AssessSpec(
        map=str(class_map), reference=str(sample), outputs=AssessOutputs(report=str(out / "r.html"))
    )
    context = JobContext(settings, lambda *report: told.append(report[0]), lambda: told[-1] > 0.9)
    with pytest.raises(JobCancelled):
        run_job(spec, context)
    assert list(out.iterdir()) == []


class TestWhatIsRefused:
    places = ((3, 3), (20, 20), (40, 50), (60, 70))

    def points(self, tmp_path, *names):
        columns = {"class": np.array(names, object)}
        return write_points(tmp_path / "p.gpkg", self.places[: len(names)], columns)

    def test_no_overlap(self, assess, make_raster, tmp_path) -> None:
        path = write_points(
            tmp_path / "p.gpkg", [(900, 900), (910, 900)], {"class": np.array(["1", "2"], object)}
        )
        with pytest.raises(InputError, match="None of the 2 labels lies on the rasters"):
            assess(path, field="class")
        far = make_raster("far.tif", classes_raster(), origin=(700_000, 5_000_000))
        with pytest.raises(EmptyAreaError, match="do not overlap"):
            assess(far)

    def test_a_sample_off_the_map(self, assess, draw, make_raster) -> None:
        sample = draw()
        fill_in(sample, truth_at(classes_raster()))
        far = make_raster("far.tif", classes_raster(), origin=(700_000, 5_000_000))
        with pytest.raises(EmptyAreaError, match="do not overlap"):
            assess(sample, far)

    def test_a_sample_that_nobody_has_interpreted(self, assess, draw) -> None:
        with pytest.raises(InputError, match="Of the sample's 300 points none is interpreted"):
            assess(draw())

    def test_a_sample_with_points_that_were_copied(self, assess, draw) -> None:
        sample = draw()
        fill_in(sample, truth_at(classes_raster()), rows=[*range(300), 7])
        with pytest.raises(InputError, match=r"The sample has \d+ points of '\d', but \d+ were"):
            assess(sample)

    def test_points_that_were_deleted_are_told(self, assess, draw) -> None:
        sample = draw()
        fill_in(sample, truth_at(classes_raster()), rows=range(4, 300))
        [warning] = assess(sample).warnings
        assert warning.code == "deleted" and "4 are no longer in the sample" in warning.message

    def test_missing_and_empty_fields(self, assess, tmp_path) -> None:
        path = self.points(tmp_path, "1", "2", "3", "1")
        with pytest.raises(InputError, match="has no field 'kind'; it has class"):
            assess(path, field="kind")
        with pytest.raises(InputError, match="which one is the class is not said"):
            assess(path)
        path = self.points(tmp_path, None, None, None, None)
        with pytest.raises(InputError, match="No feature has a value in the field 'class'"):
            assess(path, field="class")

    def test_one_class_only(self, assess, tmp_path) -> None:
        path = self.points(tmp_path, "2", "2", "2", "2")
        with pytest.raises(InputError, match=r"reference of two classes or more.*found only '2'"):
            assess(path, field="class")

    def test_strata_with_fewer_than_two_points(self, assess, tmp_path) -> None:
        path = self.points(tmp_path, "1", "2", "3", "1")
        with pytest.raises(InputError, match=r"Expected 2 points or more .* class of the map"):
            assess(path, field="class")

    def test_rasters_that_hold_no_classes(self, assess, make_raster, tmp_path) -> None:
        path = self.points(tmp_path, "1", "2", "3", "1")
        floats = make_raster("f.tif", np.ones((90, 120), np.float32))
        with pytest.raises(InputError, match=r"one band of whole numbers.*1 of float32"):
            assess(path, floats, field="class")
        with pytest.raises(InputError, match=r"has 2 of uint8"):
            assess(path, make_raster("b.tif", np.ones((2, 90, 120), np.uint8)), field="class")
        many = np.arange(90 * 120, dtype=np.uint16).reshape(90, 120)
        with pytest.raises(InputError, match="at most 50 classes"):
            assess(path, make_raster("m.tif", many), field="class")
        nowhere = make_raster("n.tif", classes_raster(), crs=None)
        with pytest.raises(MissingCrsError, match="no place on the map"):
            assess(path, nowhere, field="class")
        with pytest.raises(RasterReadError, match="does not exist"):
            assess(path, tmp_path / "no.tif", field="class")

    def test_a_reference_without_a_place(self, assess, tmp_path, make_raster) -> None:
        path = write_points(
            tmp_path / "p.shp", self.places, {"class": np.array(["1", "2", "3", "1"], object)}
        )
        path.with_suffix(".prj").unlink()
        with pytest.raises(MissingCrsError, match="does not say where it is"):
            assess(path, field="class")
        with pytest.raises(MissingCrsError, match="does not say where it is"):
            assess(make_raster("n.tif", classes_raster(), crs=None))

    def test_results_over_what_they_are_made_from(self, settings, class_map, tmp_path) -> None:
        path = shutil.copy(class_map, tmp_path / "copy.csv")  # the name says nothing of the format
        spec = AssessSpec(
            map=str(path), reference=str(class_map), outputs=AssessOutputs(table=str(path))
        )
        with pytest.raises(InputError, match="is one of the input"):
            run_job(spec, JobContext(settings))

    def test_names_and_folders_of_results(self, settings, class_map, tmp_path) -> None:
        for name, words in (("t.txt", "ends with .csv"), ("no/t.csv", "does not exist")):
            spec = AssessSpec(
                map=str(class_map), reference=str(class_map),
                outputs=AssessOutputs(table=str(tmp_path / name)),
            )  # fmt: skip
            with pytest.raises((InputError, OutputError), match=words):
                run_job(spec, JobContext(settings))

    def test_no_room_on_the_disk(self, settings, class_map, small_disk) -> None:
        (small_disk / "fill").write_bytes(bytes(900_000))
        spec = AssessSpec(
            map=str(class_map), reference=str(class_map),
            outputs=AssessOutputs(report=str(small_disk / "r.html")),
        )  # fmt: skip
        with pytest.raises(DiskFullError, match="free"):
            run_job(spec, JobContext(settings))
        assert [file.name for file in small_disk.iterdir()] == ["fill"]
