"""The models that are shipped: whole, described, small, and chosen for what they suit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from scenes import DATA, ROOT, S2

from mmearth.api import (
    BandChoice,
    DateScene,
    DisturbanceSpec,
    Radiometry,
    RasterInput,
    SegmentOutputs,
    SegmentSpec,
)
from mmearth.jobs.choose import choose_model
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.models.card import read_card
from mmearth.models.network import Network
from mmearth.models.readme import README_NAME, describe
from mmearth.training.metrics import confusion, intersection_over_union

MODELS = ROOT / "resources" / "models"
PICTURE = DATA / "amazon_rgb.tif"
LARGEST_MB, LARGEST_MB_OF_ALL = 12, 20  # the whole plugin may have 25


@pytest.fixture
def shipped(settings, tmp_path):
    """Settings of someone who has no models of their own."""
    return settings.model_copy(update={"models": MODELS, "home": tmp_path / "nobody"})


@pytest.mark.parametrize("folder", sorted(MODELS.iterdir()), ids=lambda folder: folder.name)
class TestEmbeddedModelContract:
    """Every folder in resources/models keeps these rules."""

    def test_tells_what_it_is_what_it_learned_from_and_what_it_does_badly(self, folder) -> None:
        card = read_card(folder)
        assert card.id == folder.name
        assert card.attribution and card.licence and card.accuracy and card.inputs
        assert len(card.limits) >= 3 and card.training["command"].startswith("python tools/")
        assert (folder / README_NAME).read_text("utf-8") == describe(card)

    def test_gives_probabilities(self, folder, settings) -> None:
        card = read_card(folder)
        random = np.random.default_rng(0)
        images = random.uniform(0, 0.4, (1, len(card.bands), 64, 64)).astype(np.float32)
        found = Network(card, settings).probabilities(images, np.ones((1, 64, 64), bool)).numpy()
        assert found.shape == (1, card.class_count, 64, 64)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)

    def test_is_small(self, folder) -> None:
        assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST_MB * 2**20


def test_all_models_together_leave_room_for_the_rest() -> None:
    size = sum(file.stat().st_size for file in MODELS.glob("*/*"))
    assert size <= LARGEST_MB_OF_ALL * 2**20


def request(path: Path, **more) -> SegmentSpec:
    inputs = [RasterInput(path=str(path), label="")]
    return SegmentSpec(inputs=inputs, model="", product="treemask", **more)


def test_the_model_that_suits_the_raster_is_chosen(shipped) -> None:
    assert choose_model(request(PICTURE), shipped).model == "forest-rgb"
    for name in ("terramind_l1c", "terramind_l2a"):
        assert choose_model(request(DATA / f"{name}.tif"), shipped).model == "landcover-s2"


@pytest.fixture
def scene_without(make_raster):
    """Make a scene of Sentinel-2 that lacks a band."""

    def make(band: str) -> SegmentSpec:
        values = np.full((len(S2) - 1, 32, 32), 900, np.uint16)
        path = make_raster("s2.tif", values, bands=[name for name in S2 if name != band])
        return request(path).model_copy(update={"product": "landcover"})

    return make


@pytest.mark.parametrize("band", ["B05", "B12"])
def test_bands_of_10_metres_do_where_one_of_20_is_missing(shipped, scene_without, band) -> None:
    asked = choose_model(scene_without(band), shipped)
    plan = plan_job(asked, shipped)
    assert asked.model == "landcover-s2-10m" and plan.ready
    [said] = [problem for problem in plan.warnings if problem.code == "larger_model"]
    assert "5 bands of the rasters unread" in said.message and band in said.message


def test_nothing_is_said_of_the_larger_model_where_it_could_not_be_had(shipped, make_raster):
    def codes(*bands: str, **more) -> list[str]:
        values = np.full((len(bands), 32, 32), 900, np.uint16)
        asked = request(make_raster("s2.tif", values, bands=bands, **more))
        plan = plan_job(choose_model(asked, shipped), shipped)
        assert plan.ready
        return [problem.code for problem in plan.warnings]

    assert "larger_model" not in codes("B02", "B03", "B04", "B08")
    assert "larger_model" not in codes(*S2)
    # Landsat's bands have these names as well, and no red edge could be added to them.
    landsat = ("blue", "green", "red", "nir", "swir16", "swir22")
    assert "larger_model" not in codes(*landsat, pixel=30.0)
    edges = [f"rededge{number}" for number in (1, 2, 3)]
    assert "larger_model" in codes("blue", "green", "red", "nir", *edges, "nir08", "swir16")


def test_a_band_found_twice_is_asked_for_and_the_model_not_exchanged(shipped, make_raster) -> None:
    values = np.full((len(S2) + 1, 32, 32), 900, np.uint16)
    path = make_raster("s2.tif", values, bands=[*S2, "B05"])
    asked = choose_model(request(path), shipped)
    [problem] = plan_job(asked, shipped).errors
    assert asked.model == "landcover-s2" and "more than once: B05" in problem.message


def test_four_bands_of_common_names_may_be_of_another_sensor(shipped, make_raster) -> None:
    values = np.full((4, 64, 64), 900, np.uint16)
    path = make_raster("aerial.tif", values, bands=["blue", "green", "red", "nir"], pixel=3.0)
    plan = plan_job(choose_model(request(path), shipped), shipped)
    [said] = [problem for problem in plan.warnings if problem.code == "resolution"]
    assert "Nothing in the rasters says that they are of Sentinel-2" in said.message


def test_disturbance_names_the_model_that_does_with_what_is_there(shipped, make_raster) -> None:
    values = np.full((4, 32, 32), 900, np.uint16)
    paths = [make_raster(f"{n}.tif", values, bands=["B02", "B03", "B04", "B08"]) for n in range(2)]
    dates = [DateScene(inputs=[RasterInput(path=str(path))]) for path in paths]
    spec = DisturbanceSpec(before=dates[0], after=dates[1], model="landcover-s2")
    problem = plan_job(spec, shipped).errors[0]
    assert "Sentinel-2 land cover, 10 m bands alone" in problem.advice
    again = plan_job(spec.model_copy(update={"model": "landcover-s2-10m"}), shipped)
    assert again.ready


def test_a_smaller_model_is_named_where_its_bands_are_assigned_by_hand(shipped, make_raster):
    values = np.full((4, 32, 32), 900, np.uint16)
    choices = [
        BandChoice(band=band, input=0, index=index)
        for index, band in enumerate(("B02", "B03", "B04", "B08"), 1)
    ]
    asked = request(make_raster("s.tif", values, bands=["x", "y", "z", "w"]), bands=choices)
    plan = plan_job(asked.model_copy(update={"model": "landcover-s2"}), shipped)
    assert "(landcover-s2-10m)" in plan.errors[0].advice


@pytest.mark.parametrize(
    "name",
    [
        "LC08_L1TP_191025_20200826_02_T1_B{}.TIF",
        "le07_l2sp_191025_20010826_b{}.tif",
        "LC81910252016240LGN00_B{}.TIF",
        "2020-08-26-00_00_Landsat_8-9_L1_B{:02d}_(Raw).tiff",
    ],
)
@pytest.mark.parametrize("said", ["", "B{}"])
def test_the_numbers_of_landsat_are_no_bands_of_sentinel_2(
    shipped, make_raster, name, said
) -> None:
    values = np.full((1, 32, 32), 9000, np.uint16)
    bands = [(said.format(number),) if said else () for number in range(1, 12)]
    paths = [
        make_raster(name.format(number), values, bands=own) for number, own in enumerate(bands, 1)
    ]
    inputs = [
        RasterInput(path=str(path), label=f"Band {number}") for number, path in enumerate(paths, 1)
    ]
    asked = SegmentSpec(inputs=inputs, model="landcover-s2-10m", product="landcover")
    [problem] = plan_job(asked, shipped).errors
    assert "4 of the model's 4 bands not found" in problem.message


def test_a_scene_that_no_model_reads_is_told_what_it_nearly_was(shipped, scene_without) -> None:
    asked = choose_model(scene_without("B08"), shipped)
    [problem] = plan_job(asked, shipped).errors
    assert asked.model.startswith("landcover-s2") and "B08" in problem.message


class TestForestInTrueColour:
    @pytest.fixture
    def mapped(self, shipped, tmp_path):
        outputs = SegmentOutputs(
            classes=str(tmp_path / "classes.tif"), density=str(tmp_path / "density.tif")
        )
        run_job(choose_model(request(PICTURE, outputs=outputs), shipped), JobContext(shipped))
        with rasterio.open(outputs.classes) as classes, rasterio.open(outputs.density) as density:
            return classes.read(1), density.read(1) / 10_000

    def test_finds_the_forest_of_a_picture_it_never_saw(self, mapped) -> None:
        classes, density = mapped
        with rasterio.open(DATA / "amazon_rgb.label.tif") as dataset:
            truth = dataset.read(1)
        matrix = confusion(truth.ravel() - 1, classes.ravel().astype(int) - 1, 2)
        assert intersection_over_union(matrix)[0] >= 0.8
        assert density[truth == 1].mean() > density[truth == 2].mean() + 0.3

    def test_nothing_stands_out(self, shipped) -> None:
        plan = plan_job(choose_model(request(PICTURE), shipped), shipped)
        assert plan.ready and plan.warnings == []
        assert [match.state.value for match in plan.bands] == ["exact"] * 3

    def test_black_is_no_data(self, shipped, tmp_path) -> None:
        """As around a scene in Sentinel-2's own true-colour images, which say nothing of it."""
        path, outputs = tmp_path / "black.tif", SegmentOutputs(classes=str(tmp_path / "c.tif"))
        with rasterio.open(PICTURE) as dataset:
            values, profile = dataset.read(), dataset.profile
        values[:, :40] = 0
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values)
        run_job(choose_model(request(path, outputs=outputs), shipped), JobContext(shipped))
        with rasterio.open(outputs.classes) as dataset:
            found = dataset.read(1)
        assert (found[:40] == 0).all() and (found[40:] > 0).all()

    @pytest.mark.parametrize("scale", [None, 1e-4])
    def test_reflectance_is_no_picture(self, shipped, make_raster, scale) -> None:
        """Numbers of Sentinel-2 under the names of colours, as they are and from 0 to 1."""
        with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
            values = dataset.read([4, 3, 2])
        if scale:
            values = values.astype(np.float32) * np.float32(scale)
        path = make_raster("s2.tif", values, bands=["red", "green", "blue"])
        asked = request(path).model_copy(update={"model": "forest-rgb"})
        [problem] = plan_job(asked, shipped).errors
        assert "no brightness" in problem.message and "(0 to 255)" in problem.advice
        stated = Radiometry(scale=3.0 if scale else 3e-4)
        assert plan_job(asked.model_copy(update={"radiometry": stated}), shipped).errors == []

    def test_without_colours_the_order_is_only_suggested(self, shipped, tmp_path) -> None:
        path = tmp_path / "nameless.tif"
        with rasterio.open(PICTURE) as dataset:
            values, profile = dataset.read(), {**dataset.profile, "photometric": "MINISBLACK"}
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values)
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined]
        asked = choose_model(request(path), shipped)
        [problem] = plan_job(asked, shipped).errors
        assert asked.model == "forest-rgb" and "recognised only by position" in problem.message
