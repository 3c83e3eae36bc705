"""The preview job: what it maps, what it keeps in memory, what it suggests and refuses."""

from __future__ import annotations

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import torch
from scenes import S2, scene_values
from service.client import Service

from mmearth.api import (
    Extent,
    LabelClass,
    LabelSource,
    PreviewOutputs,
    PreviewSpec,
    RasterInput,
)
from mmearth.errors import EmptyAreaError, InputError, JobCancelled
from mmearth.jobs import preview as job
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.training import scene as memory

LEFT, TOP, PIXEL = 600_000, 5_400_000, 10
HEIGHT, WIDTH = 200, 240
DARK, BRIGHT = "1", "2"


@pytest.fixture(autouse=True)
def nothing_kept():
    """No test sees what another has kept."""
    job.forget()
    yield
    job.forget()


@pytest.fixture
def field(make_raster):
    """A scene that is dark at the left and bright at the right, with an empty corner."""
    values = np.maximum(scene_values(HEIGHT, WIDTH), 400)
    values[:, :, :90] //= 4
    values[:, :, 150:] += 3000
    values[:, :30, :30] = 0
    return make_raster("field.tif", values, bands=S2, nodata=0)


@pytest.fixture
def encoder(settings, tiny_facts):
    """An encoder that is not trained, whose maps are coarser than the image."""
    torch.manual_seed(2)
    config = NetworkConfig(decoder="features", encoder="mmearth-atto-p8", multiply_adds_per_pixel=1)
    network = build_network(config, in_channels=10, classes=0)
    facts = {**tiny_facts, "id": "encoder", "task": "features", "network": config}
    facts |= {"classes": (), "products": ()}
    (settings.home / "models").unlink()  # the tiny model is shared by all tests
    return save_model(settings.home / "models" / "encoder", network.state_dict(), facts)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def square(row, col, side=12):
    return shapely.box(
        LEFT + col * PIXEL,
        TOP - (row + side) * PIXEL,
        LEFT + (col + side) * PIXEL,
        TOP - row * PIXEL,
    )


BOTH = [(square(60, 20), DARK), (square(140, 60), DARK), (square(50, 200), BRIGHT),
        (square(150, 170), BRIGHT)]  # fmt: skip


def view(top, left, height, width) -> Extent:
    """An extent a little inside of pixels' outer edges, as a map canvas has it."""
    bounds = (LEFT + left * PIXEL + 2, TOP - (top + height) * PIXEL + 2,
              LEFT + (left + width) * PIXEL - 2, TOP - top * PIXEL - 2)  # fmt: skip
    return Extent(bounds=bounds, crs="EPSG:32632")


@pytest.fixture
def make_spec(field, out, tmp_path):
    """Return a function that makes a request for a preview of drawn shapes."""

    def make(drawn=BOTH, extent=None, classes=(), path=field, **more) -> PreviewSpec:
        file = tmp_path / "drawn.gpkg"
        pyogrio.raw.write(
            file,
            np.array([shapely.to_wkb(shape) for shape, _ in drawn], object),
            field_data=[np.array([value for _, value in drawn], object)],
            fields=["class"], geometry_type="Polygon", crs="EPSG:32632",
        )  # fmt: skip
        return PreviewSpec(
            inputs=[RasterInput(path=str(path))],
            model="tiny",
            extent=extent,
            labels=LabelSource(path=str(file), field="class", classes=list(classes)),
            outputs=PreviewOutputs(
                classes=str(out / "classes.tif"), uncertainty=str(out / "uncertainty.tif")
            ),
            **more,
        )

    return make


@pytest.fixture
def run(make_spec, settings, out):
    """Return a function that makes a preview, and gives both maps and the result."""

    def run_it(*drawn, **more):
        result = run_job(make_spec(*drawn, **more), JobContext(settings))
        assert {path.name for path in out.iterdir()} == {"classes.tif", "uncertainty.tif"}
        with (
            rasterio.open(out / "classes.tif") as first,
            rasterio.open(out / "uncertainty.tif") as second,
        ):
            assert first.transform == second.transform
            return first.read(1), second.read(1), result

    return run_it


def test_maps_what_was_drawn(run, out) -> None:
    classes, uncertainty, result = run()
    assert classes.shape == (HEIGHT, WIDTH) == uncertainty.shape
    empty = np.zeros((HEIGHT, WIDTH), bool)
    empty[:30, :30] = True
    assert ((classes == 0) == empty).all() and ((uncertainty == 255) == empty).all()
    assert (classes[40:, :80] == 1).mean() > 0.95
    assert (classes[:, 160:] == 2).mean() > 0.95
    assert uncertainty[~empty].max() <= 100
    between = uncertainty[:, 100:140].mean()  # neither dark nor bright
    assert uncertainty[60:72, 20:32].mean() < between > uncertainty[:, 160:].mean()
    counts = [(row.value, row.units, row.pixels) for row in result.classes]
    assert counts == [(DARK, 2, 288), (BRIGHT, 2, 288)]
    assert result.warnings == []
    with rasterio.open(out / "classes.tif") as dataset:
        assert dataset.nodata == 0 and dataset.dtypes == ("uint8",)
        assert len({dataset.colormap(1)[number] for number in (1, 2)}) == 2
        assert dataset.tags()["MMEARTH_MODEL"] == "tiny"


def test_a_view_shows_what_the_whole_map_does_there(run) -> None:
    """Tiles lie at the same places whatever is seen."""
    whole, unsure, _ = run()
    classes, uncertainty, result = run(extent=view(40, 90, 77, 101))
    assert classes.shape == (77, 101)
    assert (classes == whole[40:117, 90:191]).all()
    assert (uncertainty == unsure[40:117, 90:191]).all()
    assert result.grid.transform[2] == LEFT + 900 and result.grid.transform[5] == TOP - 400


def test_only_what_is_new_is_computed(run) -> None:
    extent = view(0, 0, 100, 100)
    assert run(extent=extent)[2].tiles_computed > 0
    _, _, again = run([*BOTH, (square(70, 60), DARK)], extent=extent)
    assert again.tiles_computed == 0
    _, _, panned = run(extent=view(0, 100, 100, 140))
    assert panned.tiles_computed > 0
    assert run(extent=view(0, 40, 100, 180))[2].tiles_computed < panned.tiles_computed


def test_the_same_labels_give_the_same_map_whatever_was_drawn_before(run) -> None:
    first = run()
    run(BOTH[1:])
    again = run()
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    job.forget()
    fresh = run()
    assert (first[1] == fresh[1]).all() and fresh[2].tiles_computed > 0


def test_forgetting_frees_the_memory(run) -> None:
    run()
    assert memory._last is not None
    job.forget()
    assert memory._last is None


def test_a_raster_that_has_changed_is_read_anew(run, field) -> None:
    before, _, _ = run()
    with rasterio.open(field, "r+") as dataset:
        dataset.write(dataset.read()[:, :, ::-1])
    after, _, result = run()
    assert result.tiles_computed > 0
    assert not (before == after).all()


def test_classes_are_numbered_as_asked(run, out) -> None:
    asked = [
        LabelClass(value="water", title="Water", color="#0000ff"),
        LabelClass(value=BRIGHT, title="Bright", color="#ffff00"),
        LabelClass(value=DARK, title="Dark", color="#101010"),
    ]
    classes, _, result = run(classes=asked)
    assert set(np.unique(classes)) == {0, 2, 3}
    assert classes[60, 200] == 2 and classes[65, 25] == 3
    counts = [(row.title, row.units) for row in result.classes]
    assert counts == [("Water", 0), ("Bright", 2), ("Dark", 2)]
    assert result.warnings == []  # that there is no water yet is nothing to warn of
    with rasterio.open(out / "classes.tif") as dataset:
        assert dataset.colormap(1)[2] == (255, 255, 0, 255)


def test_suggestions_are_uncertain_apart_and_not_labelled(run) -> None:
    _, uncertainty, result = run()
    places = result.suggestions
    assert 2 <= len(places) <= 5
    known = uncertainty[uncertainty <= 100]
    spots = []
    for place in places:
        row, col = int((TOP - place.y) / PIXEL), int((place.x - LEFT) / PIXEL)
        assert uncertainty[row, col] != 255
        assert not any(shape.contains(shapely.Point(place.x, place.y)) for shape, _ in BOTH)
        assert place.uncertainty > np.median(known)
        spots.append((row, col))
    assert len(set(spots)) == len(spots)


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (BOTH[:2], "only '1'"),
        ([(square(900, 900), DARK), (square(950, 900), BRIGHT)], "None of"),
        ([(square(10, 10), DARK), (square(50, 200), BRIGHT)], "only '2'"),
    ],
    ids=["one class", "outside", "one class has data"],
)
def test_labels_that_do_not_suffice(drawn, words, make_spec, settings, out) -> None:
    with pytest.raises(InputError, match=words):
        run_job(make_spec(drawn), JobContext(settings))
    assert list(out.iterdir()) == []


def test_labels_without_any_data(make_spec, settings) -> None:
    drawn = [(square(2, 2), DARK), (square(16, 16), BRIGHT)]
    with pytest.raises(EmptyAreaError, match="no data where the labels are"):
        run_job(make_spec(drawn), JobContext(settings))


def test_a_view_that_is_too_large(make_spec, settings, make_raster) -> None:
    wide = make_raster("wide.tif", scene_values(40, 2100), bands=S2, nodata=0)
    spec = make_spec([(square(10, 10), DARK), (square(10, 90), BRIGHT)], path=wide)
    with pytest.raises(InputError) as caught:
        run_job(spec, JobContext(settings))
    assert "2,100 x 40" in caught.value.message and caught.value.advice == "Zoom in."
    assert [problem.message for problem in plan_job(spec, settings).errors] == [
        caught.value.message
    ]


def test_a_view_beside_the_rasters(make_spec, settings) -> None:
    with pytest.raises(EmptyAreaError, match="What is seen"):
        run_job(make_spec(extent=view(900, 900, 50, 50)), JobContext(settings))


def test_a_plan_counts_labels(make_spec, settings) -> None:
    plan = plan_job(make_spec(extent=view(40, 90, 77, 101)), settings)
    assert plan.ready and (plan.grid.height, plan.grid.width) == (77, 101)
    assert [row.units for row in plan.labels] == [2, 2]


def test_cancelled_in_the_middle_keeps_what_was_computed(make_spec, settings, out) -> None:
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(JobCancelled):
        run_job(make_spec(), JobContext(settings, is_cancelled=cancelled))
    assert list(out.iterdir()) == []
    assert memory._last._pixels.size > 0


def test_an_encoder_is_built_on_as_well(make_spec, settings, encoder, out) -> None:
    spec = make_spec().model_copy(update={"model": encoder.id})
    result = run_job(spec, JobContext(settings))
    with rasterio.open(out / "classes.tif") as dataset:
        classes = dataset.read(1)
    assert result.tiles_computed > 0
    assert (classes[60:190, :74] == 1).mean() > 0.9


def test_the_service_makes_previews_and_forgets_them(make_spec, settings) -> None:
    with Service(settings.home) as service:
        first = service.wait_for(service.submit(make_spec()), "succeeded")
        second = service.submit(make_spec())
        assert service.wait_for(second, "succeeded")["result"]["tiles_computed"] == 0
        assert service.get("/jobs")["jobs"] == []  # previews leave no records
        answer = service.http.delete("/previews")
        assert answer.status_code == 200
        assert service.http.get(f"/jobs/{second}").status_code == 404
        third = service.wait_for(service.submit(make_spec()), "succeeded")
        again = third["result"]["tiles_computed"]
        assert again == first["result"]["tiles_computed"] > 0
