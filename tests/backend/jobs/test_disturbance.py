"""The disturbance job: which ground it compares, what it calls a loss, what it leaves out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject
from scenes import DATA, S2

from mmearth import api
from mmearth.errors import EmptyAreaError, InputError, JobCancelled, ModelError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.settings import EMBEDDED_MODELS

MODEL = "landcover-s2"
SIDE = 96
# Stored numbers of the bands of S2 for closed forest, bare ground and grass, as in September.
FOREST = [300, 280, 380, 280, 650, 1700, 2050, 2150, 2250, 2300, 1050, 500]
BARE = [700, 900, 1200, 1600, 1900, 2100, 2250, 2400, 2550, 2600, 3300, 2700]
GRASS = [450, 480, 780, 450, 1150, 2900, 3500, 3600, 3700, 3700, 2100, 1050]
FIELD = np.s_[:, :, 70:]
CUT = np.s_[:, 30:60, 20:50]
PLANTED = np.s_[:, 70:, 76:]
ENDINGS = {"polygons": "gpkg", "table": "csv", "transitions": "csv"}


def values(cut=None, planted: bool = False, brighter: float = 1.0, seed=0) -> np.ndarray:
    """Return forest with a bare field at the right: (12, SIDE, SIDE) uint16.

    ``cut`` are the bands of what a part of the forest has become.
    """
    scene = np.tile(np.array(FOREST, float)[:, None, None], (1, SIDE, SIDE))
    bare = np.array(BARE, float)[:, None, None]
    scene[FIELD] = bare
    if cut:
        scene[CUT] = np.array(cut, float)[:, None, None]
    if planted:
        scene[PLANTED] = np.array(FOREST, float)[:, None, None]
    scene *= np.random.default_rng(seed).normal(1, 0.03, scene.shape) * brighter
    return scene.round().astype(np.uint16)


@pytest.fixture
def settings(settings):
    """Settings with the model that is shipped, which knows trees."""
    return settings.model_copy(update={"models": EMBEDDED_MODELS})


@pytest.fixture
def before(make_raster) -> Path:
    return make_raster("before.tif", values(), bands=S2, nodata=0)


@pytest.fixture
def after(make_raster) -> Path:
    return make_raster("after.tif", values(cut=BARE, planted=True, seed=1), bands=S2, nodata=0)


def date(*paths, **more) -> api.DateScene:
    return api.DateScene(inputs=[api.RasterInput(path=str(path)) for path in paths], **more)


def spec_of(folder, before, after, outputs=("classes",), **more) -> api.DisturbanceSpec:
    named = {name: str(folder / f"{name}.{ENDINGS.get(name, 'tif')}") for name in outputs}
    dates = [
        found if isinstance(found, api.DateScene) else date(found) for found in (before, after)
    ]
    facts = {"model": MODEL, "tile_size": 128, "outputs": api.DisturbanceOutputs(**named), **more}
    return api.DisturbanceSpec(before=dates[0], after=dates[1], **facts)


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def inner(part) -> tuple[slice, slice]:
    """Return a part of the scene less its rims, where the network sees both sides."""
    rows, cols = part[1:]
    shrunk = [slice((one.start or 0) + 4, (one.stop or SIDE) - 4) for one in (rows, cols)]
    return shrunk[0], shrunk[1]


def test_every_output(before, after, settings, out) -> None:
    outputs = ("classes", "probability", "polygons", "table", "transitions")
    result = run_job(spec_of(out, before, after, outputs), JobContext(settings))
    classes, percent = read(out / "classes.tif"), read(out / "probability.tif")
    assert (classes[inner(CUT)] == 2).all()
    assert (classes[inner(PLANTED)] == 3).all()
    assert (classes[4:66, 76:92] == 4).all()
    assert (classes[4:92, 4:16] == 1).all()
    assert percent[inner(CUT)].min() > percent[4:92, 4:16].max()
    assert 0 < result.mapped_percent < 50
    np.testing.assert_array_equal(percent >= result.mapped_percent, np.isin(classes, (2, 3)))
    areas = {row.value: row.hectares for row in result.classes}
    assert sum(areas.values()) == pytest.approx(SIDE**2 / 100, rel=2e-3)
    assert 6 < areas[2] < 10

    _, _, _, columns = pyogrio.raw.read(out / "polygons.gpkg")
    assert {2, 3} <= set(columns[0]) <= {2, 3, 5, 6}
    assert result.polygon_count == len(columns[0])
    with (out / "transitions.csv").open() as file:
        rows = list(csv.reader(file))
    forest, other = ([float(cell) for cell in line[1:]] for line in rows[1:3])
    assert forest[:3] == pytest.approx([areas[1], areas[5], areas[2]], abs=1e-4)
    assert other[:3] == pytest.approx([areas[3], areas[6], areas[4]], abs=1e-4)
    assert forest[3] == pytest.approx(sum(forest[:3]), abs=1e-3)
    assert float(rows[3][4]) == pytest.approx(sum(areas.values()), abs=1e-3)
    with (out / "table.csv").open() as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names == [
        "stable_forest", "loss", "gain", "stable_non_forest", "possible_loss", "possible_gain"
    ]  # fmt: skip
    assert [(info.role, info.title) for info in result.dates] == [
        ("before", "before.tif"),
        ("after", "after.tif"),
    ]
    with rasterio.open(out / "classes.tif") as dataset:
        tags = dataset.tags()
        assert dataset.colormap(1)[2][:3] == (0xD7, 0x19, 0x1C)
    described = json.loads(tags["MMEARTH_CLASSES"])
    assert [(row["value"], row["title"]) for row in described] == [
        (row.value, row.title) for row in result.classes
    ]
    assert tags["MMEARTH_RULE"] == result.rule == "sentinel-2"
    assert tags["MMEARTH_MAPPED_PERCENT"] == str(result.mapped_percent)
    assert [entry["inputs"] for entry in json.loads(tags["MMEARTH_DATES"])] == [
        [str(before)],
        [str(after)],
    ]
    assert not any(settings.work_folder.iterdir())


def test_what_is_felled_and_green_is_possible_and_counted_apart(
    before, settings, make_raster, out
) -> None:
    after = make_raster("after.tif", values(cut=GRASS, seed=1), bands=S2, nodata=0)
    result = run_job(
        spec_of(out, before, after, ("classes", "transitions", "polygons")), JobContext(settings)
    )
    assert (read(out / "classes.tif")[inner(CUT)] == 5).all()
    areas = {row.name: row.hectares for row in result.classes}
    with (out / "transitions.csv").open() as file:
        head, forest, *_ = csv.reader(file)
    assert float(forest[head.index("possible change")]) == pytest.approx(
        areas["possible_loss"], abs=1e-4
    )
    assert areas["possible_loss"] == pytest.approx(9, rel=0.2)
    _, _, _, columns = pyogrio.raw.read(out / "polygons.gpkg")
    assert 5 in columns[0] and 2 not in columns[0]


def test_dates_the_other_way_round(before, after, settings, out) -> None:
    run_job(spec_of(out, after, before), JobContext(settings))
    classes = read(out / "classes.tif")
    assert (classes[inner(CUT)] == 3).all()
    assert (classes[inner(PLANTED)] == 2).all()


def test_another_light_is_no_change(before, make_raster, settings, out) -> None:
    bright = make_raster("bright.tif", values(BARE, True, 1.3, 2), bands=S2, nodata=0)
    run_job(spec_of(out, before, bright), JobContext(settings))
    classes = read(out / "classes.tif")
    assert (classes[inner(CUT)] == 2).all()
    assert (classes[4:92, 4:16] == 1).all()


def test_another_grid_and_projection(before, after, settings, out, tmp_path, make_raster) -> None:
    """The second date in degrees and shifted: only ground of both, on the grid of the first."""
    with rasterio.open(after) as source:
        whole, transform, crs = source.read(), source.transform, source.crs
        part = np.s_[:, 10:, 10:]
        moved = transform @ Affine.translation(10, 10)
        bounds = (moved.c, moved.f - 860, moved.c + 860, moved.f)
        to, width, height = calculate_default_transform(crs, "EPSG:4326", 86, 86, *bounds)
        degrees = np.zeros((12, height, width), np.uint16)
        reproject(whole[part], degrees, src_transform=moved, src_crs=crs, dst_transform=to,
                  dst_crs="EPSG:4326", resampling=Resampling.bilinear)  # fmt: skip
    path = make_raster("degrees.tif", degrees, bands=S2, nodata=0, crs="EPSG:4326")
    with rasterio.open(path, "r+") as target:
        target.transform = to
    result = run_job(spec_of(out, before, path), JobContext(settings))
    assert result.grid.crs == "EPSG:32632"
    assert 86 <= result.grid.width <= 90 and 600_060 <= result.grid.transform[2] <= 600_100
    left, top = (round(one) for one in (
        (result.grid.transform[2] - 600_000) / 10, (5_400_000 - result.grid.transform[5]) / 10
    ))  # fmt: skip
    classes = read(out / "classes.tif")
    assert (classes[34 - top : 56 - top, 24 - left : 46 - left] == 2).mean() > 0.95
    assert result.nodata_pixels == (classes == 0).sum() < 1200

    extent = api.Extent(bounds=(600_200, 5_399_400, 600_500, 5_399_700), crs="EPSG:32632")
    result = run_job(spec_of(out, before, path, extent=extent), JobContext(settings))
    assert (result.grid.width, result.grid.height) == (30, 30)


def test_clouds_of_either_date_are_left_out_and_counted(
    before, after, make_raster, settings, out
) -> None:
    early, late = np.zeros((2, SIDE, SIDE), np.uint8)
    early[:10], late[:, :10] = 1, 1
    first = api.MaskInput(path=str(make_raster("early.tif", early)))
    # Of another resolution and grid.
    second = api.MaskInput(path=str(make_raster("late.tif", late[::2, ::2], pixel=20.0)))
    spec = spec_of(out, date(before, masks=[first]), date(after, masks=[second]))
    result = run_job(spec, JobContext(settings))
    classes = read(out / "classes.tif")
    np.testing.assert_array_equal(classes == 0, (early > 0) | (late > 0))
    assert [info.masked_pixels for info in result.dates] == [early.sum(), late.sum()]
    assert (result.masked_pixels, result.nodata_pixels) == ((classes == 0).sum(), 0)


def test_dates_in_between(before, after, make_raster, settings, out) -> None:
    """A loss that all later dates show is certain; one hazy date in between makes none."""
    steady = make_raster("steady.tif", values(BARE, True, seed=3), bands=S2)
    spec = spec_of(out, before, after, between=[date(steady)])
    result = run_job(spec, JobContext(settings))
    classes = read(out / "classes.tif")
    assert (classes[inner(CUT)] == 2).all()
    assert [info.role for info in result.dates] == ["before", "between", "after"]

    fooled = values(seed=5)
    fooled[:, :20, :60] = np.array(BARE)[:, None, None]
    odd = make_raster("odd.tif", fooled, bands=S2)
    same = make_raster("same.tif", values(seed=6), bands=S2)
    calm = [make_raster(f"c{n}.tif", values(seed=n), bands=S2) for n in (7, 8)]
    between = [date(path) for path in (calm[0], odd, calm[1])]
    run_job(spec_of(out, before, same, between=between), JobContext(settings))
    assert (read(out / "classes.tif")[4:16, 4:56] == 1).all()


def test_goes_on_where_it_was_cancelled(before, after, settings, out) -> None:
    whole = out / "whole"
    whole.mkdir()
    run_job(spec_of(whole, before, after, tile_size=32), JobContext(settings))
    stages: list[str] = []

    def cancelled() -> bool:
        return any("after.tif: tile 1" in stage for stage in stages)

    context = JobContext(settings, lambda _, stage, __: stages.append(stage), cancelled)
    with pytest.raises(JobCancelled):
        run_job(spec_of(out, before, after, tile_size=32), context)
    assert [path.name for path in out.iterdir()] == ["whole"]
    stages.clear()
    context = JobContext(settings, lambda _, stage, __: stages.append(stage))
    run_job(spec_of(out, before, after, tile_size=32), context)
    assert not any("before.tif: tile" in stage for stage in stages)
    np.testing.assert_array_equal(read(out / "classes.tif"), read(whole / "classes.tif"))


def test_minimum_mapping_unit(before, after, settings, out) -> None:
    outputs = ("classes", "polygons")
    spec = spec_of(out, before, after, outputs, minimum_area_ha=5.8)
    run_job(spec, JobContext(settings))
    _, _, _, columns = pyogrio.raw.read(out / "polygons.gpkg")
    assert list(columns[0]) == [2]
    assert columns[3][0] >= 5.8


def test_plan_says_what_is_wrong_with_which_date(before, settings, out, tmp_path) -> None:
    plan = plan_job(spec_of(out, before, tmp_path / "none.tif"), settings)
    (error,) = plan.errors
    assert error.message.startswith("Last date (none.tif): The file")
    good = plan_job(spec_of(out, before, DATA / "terramind_l2a.tif"), settings)
    assert [error.code for error in good.errors] == ["empty_area"]
    assert "before.tif and terramind_l2a.tif do not overlap" in good.errors[0].message


def test_a_warning_of_one_date_names_it(before, after, settings, out) -> None:
    bright = [date(path, radiometry=api.Radiometry(scale=5e-4)) for path in (before, after)]
    (warning,) = plan_job(spec_of(out, before, bright[1]), settings).warnings
    assert warning.code == "unlike_training"
    assert warning.message.startswith("Last date (after.tif): The scene is much brighter")
    (warning,) = plan_job(spec_of(out, *bright), settings).warnings
    assert warning.message.startswith("The scene is much brighter")


def test_plan_counts_all_dates(before, after, settings, out) -> None:
    plan = plan_job(spec_of(out, before, after, tile_size=32), settings)
    assert plan.ready
    assert plan.tiles % 2 == 0
    assert (plan.grid.width, plan.grid.height) == (SIDE, SIDE)
    assert plan.seconds > 0


def test_the_same_image_twice(before, settings, out, tmp_path) -> None:
    with pytest.raises(InputError, match="the same image"):
        run_job(spec_of(out, before, before), JobContext(settings))
    copy = tmp_path / "copy.tif"
    copy.write_bytes(before.read_bytes())
    result = run_job(spec_of(out, before, copy), JobContext(settings))
    assert [warning.code for warning in result.warnings] == ["same_pixels"]


def test_where_no_forest_stayed_that_is_told(before, make_raster, settings, out) -> None:
    bare = np.tile(np.array(BARE, np.uint16)[:, None, None], (1, SIDE, SIDE))
    felled = make_raster("felled.tif", bare, bands=S2, nodata=0)
    result = run_job(spec_of(out, before, felled), JobContext(settings))
    assert [warning.code for warning in result.warnings] == ["little_forest"]
    assert (read(out / "classes.tif")[4:92, 4:66] == 2).all()


def test_a_model_without_trees(before, after, settings, out, tiny_facts, tmp_path) -> None:
    from mmearth.models.registry import build_network
    from mmearth.models.save import save_model

    classes = tuple({**row, "name": f"c{row['value']}"} for row in tiny_facts["classes"])
    facts = {**tiny_facts, "id": "treeless", "classes": classes,
             "products": ({"id": "all", "title": "All", "classes": classes},)}  # fmt: skip
    network = build_network(facts["network"], in_channels=10, classes=3)
    save_model(tmp_path / "models" / "treeless", network.state_dict(), facts)
    own = settings.model_copy(update={"models": tmp_path / "models"})
    spec = spec_of(out, before, after, model="treeless")
    assert "maps no trees" in plan_job(spec, own).errors[0].message
    with pytest.raises(ModelError, match="maps no trees"):
        run_job(spec, JobContext(own))


def test_everything_clouded(before, after, make_raster, settings, out) -> None:
    mask = api.MaskInput(path=str(make_raster("all.tif", np.ones((SIDE, SIDE), np.uint8))))
    with pytest.raises(EmptyAreaError, match=r"No pixel is clear on both.*after.tif: 0 pixels "):
        run_job(spec_of(out, before, date(after, masks=[mask])), JobContext(settings))
    assert list(out.iterdir()) == []


def test_a_missing_mask_is_told_with_its_date(before, after, settings, out) -> None:
    spec = spec_of(out, date(before, masks=[api.MaskInput(path="/none/mask.tif")]), after)
    with pytest.raises(InputError, match=r"First date \(before.tif\): The file /none/mask.tif"):
        run_job(spec, JobContext(settings))
