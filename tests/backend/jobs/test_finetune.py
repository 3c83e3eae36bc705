"""Training by request: what is installed, what is refused, and that it can be told again."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from scenes import S2

from mmearth import api
from mmearth.errors import InputError, MMEarthError, ModelError, OutputError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.models.card import read_card
from mmearth.training import tune

LEFT, TOP, SIDE = 600_000.0, 5_400_000.0, 96


@pytest.fixture(scope="module")
def field():
    """Class of each pixel of the scene: fields of 16 pixels of two kinds."""
    rows, cols = np.mgrid[:SIDE, :SIDE] // 16
    return ((rows + cols) % 2).astype(np.int64)


@pytest.fixture
def scene(make_raster, field):
    """A scene whose fields differ by their spectra, and by more than its noise."""
    random = np.random.default_rng(0)
    spectra = random.uniform(400, 3000, (2, 12))
    values = spectra[field].transpose(2, 0, 1) * random.uniform(0.9, 1.1, (1, SIDE, SIDE))
    return make_raster("scene.tif", values.astype(np.uint16), bands=S2, nodata=0)


@pytest.fixture
def draw(tmp_path, field):
    """Return a function that draws a square in each field, with the field's class."""

    def write(names=("wood", "field"), count=36, name="labels.gpkg"):
        corners = [(row, col) for row in range(0, SIDE, 16) for col in range(0, SIDE, 16)][:count]
        boxes = [
            shapely.box(
                LEFT + 10 * (col + 4), TOP - 10 * (row + 12),
                LEFT + 10 * (col + 12), TOP - 10 * (row + 4),
            )
            for row, col in corners
        ]  # fmt: skip
        values = np.array([names[field[row, col]] for row, col in corners], object)
        path = tmp_path / name
        pyogrio.raw.write(
            path, shapely.to_wkb(boxes), [values], ["cover"], geometry_type="Polygon",
            crs="EPSG:32632",
        )  # fmt: skip
        return path

    return write


@pytest.fixture
def settings(settings, tiny_model, tmp_path):
    """Settings with an empty folder of the user's own models."""
    (settings.home / "models").unlink()
    return settings.model_copy(update={"models": tiny_model.folder.parent})


@pytest.fixture
def request_for(scene, draw):
    def make(**changes) -> api.FinetuneSpec:
        facts = {
            "inputs": [api.RasterInput(path=str(scene))],
            "model": "tiny",
            "title": "Wood and field",
        }
        if "labels" not in changes:
            facts["labels"] = api.LabelSource(path=str(draw()), field="cover")
        return api.FinetuneSpec(**{**facts, **changes})

    return make


UNTESTED = {"validation": 0.0}  # for what hangs on no figure: it takes a tenth of the time


def train(spec, settings) -> api.FinetuneResult:
    return run_job(spec, JobContext(settings))


class TestQuick:
    def test_the_tuned_model_maps_what_was_drawn(self, request_for, scene, field, settings) -> None:
        result = train(request_for(), settings)
        assert result.model.id == "wood-and-field" and result.accuracy > 0.95
        assert result.accuracy_low <= result.accuracy <= result.accuracy_high
        assert result.baseline_accuracy > 0.9
        assert [(row.value, row.units, row.pixels) for row in result.classes] == [
            ("field", 18, 18 * 64),
            ("wood", 18, 18 * 64),
        ]
        output = settings.home / "map.tif"
        run_job(
            api.SegmentSpec(
                inputs=[api.RasterInput(path=str(scene))],
                model=result.model.id,
                outputs=api.SegmentOutputs(classes=str(output)),
            ),
            JobContext(settings),
        )
        with rasterio.open(output) as dataset:
            mapped = dataset.read(1)
        # "field" comes first in the alphabet; "wood", the class of 0, is 2.
        assert (mapped == np.where(field == 0, 2, 1)).mean() > 0.95

    def test_the_card_says_how_it_came_to_be(self, request_for, settings, tiny_model) -> None:
        result = train(request_for(seed=3), settings)
        card = read_card(settings.own_models / result.model.id)
        assert card.title == "Wood and field" and card.bands == tiny_model.bands
        facts = card.training
        assert facts["base"] == "tiny" and facts["base SHA-256"] == tiny_model.sha256
        assert (facts["protocol"], facts["seed"], facts["labels"]) == ("quick", 3, "labels.gpkg")
        assert len(facts["labels SHA-256"]) == 64
        measured = {row.name: row.value for row in card.accuracy}
        assert measured["Overall accuracy"] == pytest.approx(result.accuracy)
        assert measured["Random forest on the raw bands"] == pytest.approx(result.baseline_accuracy)
        report = settings.own_models / result.model.id / "report.html"
        assert result.outputs.report == str(report)
        assert "Wood and field" in report.read_text("utf-8")

    def test_same_labels_and_seed_same_weights(self, request_for, settings) -> None:
        first = train(request_for(**UNTESTED), settings)
        again = train(request_for(**UNTESTED), settings)
        other = train(request_for(seed=1, **UNTESTED), settings)
        assert (first.model.id, again.model.id) == ("wood-and-field", "wood-and-field-2")
        assert first.model.sha256 == again.model.sha256 != other.model.sha256

    def test_classes_of_the_request(self, request_for, settings) -> None:
        wanted = [
            api.LabelClass(value="wood", title="Forest & shrub", color="#102030"),
            api.LabelClass(value="field"),
        ]
        spec = request_for(**UNTESTED)
        labels = spec.labels.model_copy(update={"classes": wanted})
        result = train(spec.model_copy(update={"labels": labels}), settings)
        rows = read_card(settings.own_models / result.model.id).classes
        assert [(row.value, row.name, row.title) for row in rows] == [
            (1, "forest_shrub", "Forest & shrub"),
            (2, "field", "field"),
        ]
        assert rows[0].color == "#102030" != rows[1].color

    def test_codes_stay_values_and_the_base_lends_its_colours(
        self, request_for, draw, settings, tiny_model
    ) -> None:
        codes = api.LabelSource(path=str(draw(("7", "3"), name="codes.gpkg")), field="cover")
        result = train(request_for(labels=codes, **UNTESTED), settings)
        assert [row.value for row in read_card(settings.own_models / result.model.id).classes] == [
            3,
            7,
        ]
        named = api.LabelSource(
            path=str(draw(("trees", "Water"), name="named.gpkg")), field="cover"
        )
        result = train(request_for(labels=named, **UNTESTED), settings)
        rows = read_card(settings.own_models / result.model.id).classes
        assert [(row.title, row.color) for row in rows] == [
            (tiny_model.classes[0].title, tiny_model.classes[0].color),
            (tiny_model.classes[1].title, tiny_model.classes[1].color),
        ]

    def test_copies_where_they_are_wanted(self, request_for, settings, tmp_path) -> None:
        outputs = api.FinetuneOutputs(model=str(tmp_path / "copy"), report=str(tmp_path / "r.html"))
        for _ in range(2):  # the second takes the place of the first
            result = train(request_for(outputs=outputs, **UNTESTED), settings)
        assert result.outputs == outputs
        assert read_card(tmp_path / "copy").id == "wood-and-field-2"
        assert (tmp_path / "r.html").read_text() == (tmp_path / "copy/report.html").read_text()
        inside = outputs.model_copy(update={"report": str(tmp_path / "copy" / "r.html")})
        for _ in range(2):
            train(request_for(outputs=inside, **UNTESTED), settings)
        assert (tmp_path / "copy" / "r.html").stat().st_size
        hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert hidden == []


class TestTuned:
    def test_a_tuned_model_is_like_any_other(
        self, request_for, draw, scene, field, settings, tmp_path, monkeypatch
    ) -> None:
        """It maps, goes into an ONNX file, and is a base itself, by every protocol."""
        monkeypatch.setattr(tune, "STEPS", 2)
        few = {"epochs": 1, **UNTESTED}
        first = train(request_for(protocol="full", title="First", **few), settings).model
        request = api.SegmentSpec(
            inputs=[api.RasterInput(path=str(scene))],
            model=first.id,
            outputs=api.SegmentOutputs(classes=str(tmp_path / "map.tif")),
        )
        for _ in range(2):  # from memory, then
            run_job(request, JobContext(settings))
            with rasterio.open(tmp_path / "map.tif") as dataset:
                assert (dataset.read(1) == np.where(field == 0, 2, 1)).mean() > 0.95
        target = tmp_path / "first.onnx"
        run_job(api.ExportSpec(model=first.id, target=str(target)), JobContext(settings))
        assert target.stat().st_size
        other = api.LabelSource(path=str(draw(("beech", "oak"), name="o.gpkg")), field="cover")
        network = read_card(settings.own_models / first.id).network
        assert network.decoder == "hypercolumn"
        for protocol, changes in (
            ("full", {}), ("adapter", {"labels": other}), ("quick", {"labels": other})
        ):  # fmt: skip
            result = train(
                request_for(protocol=protocol, model=first.id, **changes, **few), settings
            )
            assert read_card(settings.own_models / result.model.id).network == network


class TestRefusals:
    """Each says what is wrong; the plan says the same without raising, and nothing is written."""

    def refused(self, spec, settings, words, error=InputError) -> None:
        assert any(words in problem.message for problem in plan_job(spec, settings).errors)
        with pytest.raises(error) as caught:
            train(spec, settings)
        assert words in caught.value.message and caught.value.advice
        assert not list(settings.own_models.glob("*")) if settings.own_models.exists() else True

    def test_one_class_only(self, request_for, draw, settings) -> None:
        labels = api.LabelSource(path=str(draw(("wood", "wood"))), field="cover")
        self.refused(request_for(labels=labels), settings, "found only 'wood'")

    def test_a_class_with_one_polygon(self, request_for, draw, settings) -> None:
        labels = api.LabelSource(path=str(draw(count=2)), field="cover")
        self.refused(request_for(labels=labels), settings, "within the image, found 1")

    def test_too_many_classes(self, request_for, tmp_path, settings) -> None:
        points = [shapely.Point(LEFT + 5 + place, TOP - 5) for place in range(300)]
        path = tmp_path / "many.gpkg"
        pyogrio.raw.write(
            path, shapely.to_wkb(points), [np.arange(300)], ["cover"], geometry_type="Point",
            crs="EPSG:32632",
        )  # fmt: skip
        labels = api.LabelSource(path=str(path), field="cover")
        self.refused(request_for(labels=labels), settings, "found 300 different values")

    def test_no_such_field(self, request_for, draw, settings) -> None:
        labels = api.LabelSource(path=str(draw()), field="class")
        self.refused(request_for(labels=labels), settings, "has no field 'class'; it has cover")

    def test_a_base_for_other_bands(self, request_for, make_raster, settings) -> None:
        rgb = make_raster("rgb.tif", np.ones((3, SIDE, SIDE), np.uint16), bands=["R", "G", "B"])
        spec = request_for(inputs=[api.RasterInput(path=str(rgb))])
        assert plan_job(spec, settings).errors
        with pytest.raises(MMEarthError):
            train(spec, settings)

    def test_an_identifier_that_is_taken(self, request_for, settings) -> None:
        train(request_for(id="mine", **UNTESTED), settings)
        with pytest.raises(ModelError, match="mine is installed already"):
            train(request_for(id="mine", **UNTESTED), settings)
        with pytest.raises(ModelError, match="comes with MMEarth"):
            train(request_for(id="tiny"), settings)

    def test_a_folder_of_other_files(self, request_for, settings, tmp_path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.odt").touch()
        outputs = api.FinetuneOutputs(model=str(tmp_path / "full"))
        self.refused(request_for(outputs=outputs), settings, "holds other files")

    def test_a_folder_of_a_model_and_something_else(self, request_for, settings, tmp_path) -> None:
        folder = tmp_path / "copy"
        outputs = api.FinetuneOutputs(model=str(folder))
        train(request_for(outputs=outputs, **UNTESTED), settings)
        (folder / "thesis.odt").touch()
        errors = plan_job(request_for(outputs=outputs), settings).errors
        assert any("holds other files" in problem.message for problem in errors)

    def test_a_copy_over_an_installed_model(self, request_for, settings, tiny_model) -> None:
        for folder in (tiny_model.folder, settings.own_models / "copy"):
            outputs = api.FinetuneOutputs(model=str(folder))
            self.refused(request_for(outputs=outputs), settings, "is among the installed models")

    def test_a_report_over_the_scene(self, request_for, scene, settings) -> None:
        outputs = api.FinetuneOutputs(report=str(scene))
        self.refused(request_for(outputs=outputs), settings, "is one of the input rasters")

    def test_a_folder_that_is_not_there(self, request_for, settings, tmp_path) -> None:
        outputs = api.FinetuneOutputs(report=str(tmp_path / "none" / "r.html"))
        self.refused(request_for(outputs=outputs), settings, "does not exist", OutputError)


class TestPlan:
    def test_counts_labels_and_warns_of_few(self, request_for, draw, settings) -> None:
        labels = api.LabelSource(path=str(draw(count=6)), field="cover")
        plan = plan_job(request_for(labels=labels), settings)
        assert plan.ready
        assert [(row.title, row.units, row.pixels) for row in plan.labels] == [
            ("field", 3, 192),
            ("wood", 3, 192),
        ]
        assert "thin_class" in {warning.code for warning in plan.warnings}

    def test_costs_no_torch(self, request_for, settings) -> None:
        """The service answers plans, and has no torch in its memory."""
        program = (
            "import json, sys; from mmearth.jobs.registry import plan_job, read_spec;"
            "from mmearth.settings import Settings;"
            "print(plan_job(read_spec(json.loads(sys.argv[1])), Settings()).ready,"
            " 'torch' in sys.modules)"
        )
        said = subprocess.run(
            [sys.executable, "-c", program, json.dumps(request_for().model_dump(mode="json"))],
            env={
                "MMEARTH_HOME": str(settings.home),
                "MMEARTH_MODELS": str(settings.models),
                "PYTHONPATH": ":".join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.split() == ["True", "False"]
