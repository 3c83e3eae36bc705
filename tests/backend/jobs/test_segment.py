"""The segmentation job: what it writes, what it refuses, how it goes on when interrupted."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
from scenes import DATA, S2, scene_values

from mmearth.api import (
    BandChoice,
    Extent,
    MatchState,
    Radiometry,
    RasterInput,
    SegmentOutputs,
    SegmentSpec,
)
from mmearth.errors import (
    BandMatchError,
    EmptyAreaError,
    InputError,
    JobCancelled,
    MissingCrsError,
    ModelError,
    OutputError,
    RadiometryError,
    RasterReadError,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job

EVERYTHING = ("classes", "probabilities", "confidence", "polygons", "table")
ENDINGS = {"polygons": "gpkg", "table": "csv"}


def spec_of(folder: Path, *paths, outputs=("classes",), **more) -> SegmentSpec:
    named = {name: str(folder / f"{name}.{ENDINGS.get(name, 'tif')}") for name in outputs}
    inputs = [RasterInput(path=str(path), label="") for path in paths]
    return SegmentSpec(inputs=inputs, model="tiny", outputs=SegmentOutputs(**named), **more)


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture
def work(settings) -> Path:
    return settings.work_folder


def test_every_output(scene, settings, out, work) -> None:
    result = run_job(spec_of(out, scene, outputs=EVERYTHING), JobContext(settings))
    classes = read(out / "classes.tif")[0]
    empty = (read(scene) == 0).any(axis=0)
    np.testing.assert_array_equal(classes == 0, empty)
    assert set(np.unique(classes)) <= {0, 1, 2, 3}

    probabilities = read(out / "probabilities.tif")
    assert probabilities.shape[0] == 3
    assert (probabilities[:, empty] == 255).all()
    sums = probabilities[:, ~empty].astype(int).sum(axis=0)
    assert (np.abs(sums - 100) <= 2).all()
    best = probabilities[:, ~empty].max(axis=0)
    mapped = np.take_along_axis(probabilities[:, ~empty], classes[~empty][None] - 1, 0)[0]
    np.testing.assert_array_equal(mapped, best)

    confidence = read(out / "confidence.tif")[0]
    np.testing.assert_array_equal(confidence[~empty], best)

    meta, _, wkb, columns = pyogrio.raw.read(out / "polygons.gpkg")
    areas = dict(zip(meta["fields"], columns, strict=True))
    with (out / "table.csv").open() as file:
        table = {int(row["class"]): row for row in csv.DictReader(file)}
    for row in result.classes:
        count = (classes == row.value).sum()
        assert row.pixels == count == int(table[row.value]["pixels"])
        mine = areas["class"] == row.value
        assert areas["pixels"][mine].sum() == count
        assert areas["area_ha"][mine].sum() == pytest.approx(row.hectares, rel=1e-6)
        assert float(table[row.value]["area_ha"]) == pytest.approx(row.hectares, abs=1e-4)
    assert sum(row.percent for row in result.classes) == pytest.approx(100)
    assert result.nodata_pixels == empty.sum()
    assert result.polygon_count == len(wkb)
    assert not any(work.iterdir())


def test_provenance_is_in_the_file(scene, settings, out, tiny_model) -> None:
    run_job(spec_of(out, scene), JobContext(settings))
    with rasterio.open(out / "classes.tif") as dataset:
        tags = dataset.tags()
    assert tags["MMEARTH_MODEL"] == "tiny"
    assert tags["MMEARTH_MODEL_SHA256"] == tiny_model.sha256
    assert json.loads(tags["MMEARTH_INPUTS"]) == [str(scene)]
    assert "x 0.0001" in json.loads(tags["MMEARTH_BANDS"])["B02"]


def test_one_file_a_band_gives_the_same_map(scene, settings, out, make_raster) -> None:
    run_job(spec_of(out, scene), JobContext(settings))
    values = read(scene)
    paths = [
        make_raster(f"bands/T32TNT_{name}.tif", values[n], nodata=0) for n, name in enumerate(S2)
    ]
    (out / "apart").mkdir()
    run_job(spec_of(out / "apart", *reversed(paths)), JobContext(settings))
    np.testing.assert_array_equal(read(out / "classes.tif"), read(out / "apart" / "classes.tif"))


def test_level_1c_and_2a_of_one_place(settings, out) -> None:
    """Real tiles of both levels run; they differ, so the maps may, but not the grids."""
    for level in ("l1c", "l2a"):
        (out / level).mkdir()
        result = run_job(
            spec_of(out / level, DATA / f"terramind_{level}.tif"), JobContext(settings)
        )
        assert result.warnings == []
        assert sum(row.pixels for row in result.classes) == 96 * 96


def test_tree_mask_is_the_threshold_on_the_probability(scene, settings, out) -> None:
    run_job(spec_of(out, scene, outputs=("classes", "probabilities")), JobContext(settings))
    trees = read(out / "probabilities.tif")[1].astype(int)
    (out / "mask").mkdir()
    run_job(spec_of(out / "mask", scene, product="treemask"), JobContext(settings))
    mask = read(out / "mask" / "classes.tif")[0]
    assert (mask[trees > 40] == 1)[trees[trees > 40] != 255].all()
    assert (mask[trees < 40] == 2).all()
    assert set(np.unique(mask)) == {0, 1, 2}


def test_extent_and_resolution(scene, settings, out) -> None:
    extent = Extent(bounds=(600_500, 5_399_000, 600_900, 5_399_300), crs="EPSG:32632")
    result = run_job(spec_of(out, scene, extent=extent), JobContext(settings))
    assert (result.grid.width, result.grid.height) == (40, 30)
    whole, part = out / "whole", read(out / "classes.tif")
    whole.mkdir()
    run_job(spec_of(whole, scene), JobContext(settings))
    agreement = read(whole / "classes.tif")[0, 70:100, 50:90] == part[0]
    assert agreement.mean() > 0.9  # at the rim the network sees reflections, not the scene


def test_smaller_than_a_tile(settings, out, make_raster) -> None:
    path = make_raster("small.tif", scene_values(40, 9)[:, 10:], bands=S2, nodata=0)
    result = run_job(spec_of(out, path), JobContext(settings))
    assert sum(row.pixels for row in result.classes) == 30 * 9


def test_progress_rises_to_the_end(scene, settings, out) -> None:
    told = []
    context = JobContext(settings, lambda *report: told.append(report))
    run_job(spec_of(out, scene, outputs=("classes", "table")), context)
    shares = [share for share, _, _ in told]
    assert shares == sorted(shares) and 0.9 < shares[-1] <= 1
    assert any(eta is not None for _, _, eta in told)


class Interrupted:
    """Says "cancelled" once a share of the job is done."""

    def __init__(self, settings, share: float) -> None:
        self.share, self.done = share, 0.0
        self.context = JobContext(settings, self.report, lambda: self.done >= share)

    def report(self, share, _stage, _eta) -> None:
        self.done = share


def test_cancelled_at_half_leaves_nothing_and_goes_on_from_there(
    settings, out, work, make_raster
) -> None:
    path = make_raster("tall.tif", scene_values(700, 80), bands=S2, nodata=0)
    spec = spec_of(out, path, outputs=EVERYTHING)
    with pytest.raises(JobCancelled):
        run_job(spec, Interrupted(settings, 0.5).context)
    assert list(out.iterdir()) == []
    (state,) = work.glob("*/rows_done")
    done = int(state.read_text())
    assert 200 < done < 500

    # Only the rest is computed: what is done is not touched again.
    working = next(work.glob("*/classes.tif"))
    with rasterio.open(working, "r+") as dataset:
        mark = np.full((1, 10, 80), 3, np.uint8)
        dataset.write(mark, window=rasterio.windows.Window(0, 150, 80, 10))
    run_job(spec, JobContext(settings))
    assert (read(out / "classes.tif")[0, 150:160] == 3).all()
    assert not any(work.iterdir())

    again = out / "again"
    again.mkdir()
    run_job(spec_of(again, path), JobContext(settings))
    np.testing.assert_array_equal(
        read(again / "classes.tif")[0, 160:], read(out / "classes.tif")[0, 160:]
    )


def test_changed_input_starts_anew(settings, out, work, make_raster) -> None:
    path = make_raster("tall.tif", scene_values(700, 80), bands=S2, nodata=0)
    with pytest.raises(JobCancelled):
        run_job(spec_of(out, path), Interrupted(settings, 0.5).context)
    make_raster("tall.tif", scene_values(700, 80, seed=5), bands=S2, nodata=0)
    run_job(spec_of(out, path), JobContext(settings))
    assert len(list(work.iterdir())) == 1  # the stale one; pruned when the service starts


def test_changed_nodata_starts_anew(settings, out, work, make_raster) -> None:
    path = make_raster("tall.tif", scene_values(700, 80), bands=S2)
    with pytest.raises(JobCancelled):
        run_job(spec_of(out, path), Interrupted(settings, 0.5).context)
    value = int(read(path)[0, 600, 40])
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset>"
        + "".join(
            f'<PAMRasterBand band="{n}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
            for n in range(1, 13)
        )
        + "</PAMDataset>"
    )
    run_job(spec_of(out, path), JobContext(settings))
    assert len(list(work.iterdir())) == 1  # the one of before


def test_models_with_the_same_weights_are_told_apart(scene, settings, out, tiny_model) -> None:
    """The second differs by its temperature only, so it is less sure of itself."""
    models = settings.home / "models"
    models.unlink()
    shutil.copytree(tiny_model.folder, models / "tiny")
    warm = shutil.copytree(tiny_model.folder, models / "warm")
    card = json.loads((warm / "model.json").read_text())
    card["id"], card["properties"]["mmearth:temperature"] = "warm", 4.0
    (warm / "model.json").write_text(json.dumps(card))
    spec = spec_of(out, scene, outputs=("confidence",))
    run_job(spec, JobContext(settings))
    sure = read(out / "confidence.tif")
    run_job(spec.model_copy(update={"model": "warm"}), JobContext(settings))
    assert read(out / "confidence.tif").mean() < sure.mean() - 1


def test_later_failure_leaves_earlier_results(scene, settings, out) -> None:
    (out / "classes.tif").write_text("yesterday's")

    def open_elsewhere(_share, stage, _eta) -> None:
        if stage.startswith("Writing polygons"):
            (out / "polygons.gpkg-wal").touch()

    spec = spec_of(out, scene, outputs=("classes", "polygons"))
    with pytest.raises(OutputError, match="open in another program"):
        run_job(spec, JobContext(settings, open_elsewhere))
    assert (out / "classes.tif").read_text() == "yesterday's"
    assert {path.name for path in out.iterdir()} == {"classes.tif", "polygons.gpkg-wal"}


def test_plan_says_everything_beforehand(scene, settings, tmp_path) -> None:
    plan = plan_job(spec_of(tmp_path, scene, outputs=()), settings)
    assert plan.ready and plan.tiles == 12
    assert [match.state for match in plan.bands] == [MatchState.exact] * 10
    assert len(plan.sources) == 12
    assert plan.memory_bytes > 500 * 2**20
    assert plan.seconds and not plan.seconds_measured


def test_plan_learns_the_speed_of_the_machine(scene, settings, out) -> None:
    run_job(spec_of(out, scene), JobContext(settings))
    assert plan_job(spec_of(out, scene, outputs=()), settings).seconds_measured


def test_plan_tells_the_memory_of_large_tiles(scene, settings, tmp_path) -> None:
    small, large = (
        plan_job(spec_of(tmp_path, scene, outputs=(), tile_size=tile), settings).memory_bytes
        for tile in (64, 2048)
    )
    assert large > small + 8 * 2**30


@pytest.mark.parametrize("content", ["{", "7", "[1]", '{"a": null}', '{"a": {}}'])
def test_odd_speeds_do_not_matter(scene, settings, out, content) -> None:
    speeds = settings.home / "speed.json"
    speeds.write_text(content)
    assert not plan_job(spec_of(out, scene, outputs=()), settings).seconds_measured
    speeds.unlink()
    speeds.mkdir()  # it cannot be written either
    if content == "{":
        run_job(spec_of(out, scene), JobContext(settings))


def test_empty_tiles_do_not_count_as_speed(settings, out, make_raster, monkeypatch) -> None:
    values = scene_values(700, 80)
    values[:, 60:] = 0
    path = make_raster("empty.tif", values, bands=S2, nodata=0)
    counted = []
    monkeypatch.setattr("mmearth.jobs.segment.remember_speed", lambda *a: counted.append(a[1]))
    run_job(spec_of(out, path), JobContext(settings))
    tiles = plan_job(spec_of(out, path, outputs=()), settings).tiles
    assert counted[0] == 4 and tiles > 20  # two by two


def test_plan_collects_what_stands_in_the_way(settings, make_raster, tmp_path) -> None:
    path = make_raster("s.tif", scene_values(40, 40)[:3], bands=S2[:3])
    plan = plan_job(spec_of(tmp_path, path, outputs=()), settings)
    assert [error.code for error in plan.errors] == ["bands"]
    assert sum(match.state is MatchState.missing for match in plan.bands) == 8


def test_suggested_order_runs_once_it_is_confirmed(settings, out, make_raster) -> None:
    path = make_raster("unnamed.tif", scene_values(60, 60), nodata=0)
    spec = spec_of(out, path)
    plan = plan_job(spec, settings)
    assert {match.state for match in plan.bands} == {MatchState.suggested}
    choices = [
        BandChoice(band=match.band, input=match.source.input, index=match.source.index)
        for match in plan.bands
    ]
    run_job(spec.model_copy(update={"bands": choices}), JobContext(settings))
    named = make_raster("named.tif", scene_values(60, 60), bands=S2, nodata=0)
    (out / "named").mkdir()
    run_job(spec_of(out / "named", named), JobContext(settings))
    np.testing.assert_array_equal(read(out / "classes.tif"), read(out / "named" / "classes.tif"))


class TestBadInput:
    """Each gets a message that says what was expected and found; nothing is left behind."""

    def refused(self, settings, out, error, match, *paths, **more) -> None:
        with pytest.raises(error, match=match):
            run_job(spec_of(out, *paths, **more), JobContext(settings))
        assert list(out.iterdir()) == []

    def test_no_raster(self, settings, out) -> None:
        self.refused(settings, out, InputError, "No raster is chosen")

    def test_no_crs(self, settings, out, make_raster) -> None:
        path = make_raster("s.tif", scene_values(40, 40), bands=S2, crs=None)
        self.refused(settings, out, MissingCrsError, "no coordinate reference system", path)

    def test_picture(self, settings, out, make_raster) -> None:
        values = np.random.default_rng(0).integers(1, 255, (12, 40, 40)).astype(np.uint8)
        path = make_raster("picture.tif", values, bands=S2)
        self.refused(settings, out, RadiometryError, "8-bit picture", path)

    def test_true_colour_picture(self, settings, out, make_raster) -> None:
        """Nine bands are missing, but adding more such pictures would not help."""
        values = np.random.default_rng(0).integers(1, 255, (3, 40, 40)).astype(np.uint8)
        path = make_raster("picture.tif", values, photometric="RGB")
        self.refused(settings, out, RadiometryError, "8-bit picture", path)

    def test_missing_bands(self, settings, out, make_raster) -> None:
        path = make_raster("s.tif", scene_values(40, 40)[:4], bands=S2[:4])
        self.refused(settings, out, BandMatchError, "7 of the model's 10 bands not found", path)

    def test_nothing_but_nodata(self, settings, out, make_raster) -> None:
        path = make_raster("s.tif", np.zeros((12, 90, 90), np.uint16), bands=S2, nodata=0)
        self.refused(settings, out, EmptyAreaError, "no data in the chosen area", path)
        assert not any(settings.work_folder.iterdir())

    def test_truncated(self, settings, out, make_raster) -> None:
        path = make_raster(
            "s.tif", scene_values(600, 300), bands=S2, compress="deflate", interleave="band"
        )
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size * 3 // 4)
        self.refused(settings, out, RasterReadError, r"damaged|cannot be opened", path)

    def test_not_a_raster(self, settings, out, tmp_path) -> None:
        path = tmp_path / "notes.tif"
        path.write_text("Not pixels.")
        self.refused(settings, out, RasterReadError, "cannot be opened as a raster", path)

    def test_folder_of_results_missing(self, settings, out, scene) -> None:
        spec = spec_of(out / "nowhere", scene)
        with pytest.raises(OutputError, match="does not exist"):
            run_job(spec, JobContext(settings))

    def test_result_over_input(self, settings, out, scene) -> None:
        copy = Path(shutil.copy(scene, out / "classes.tif"))
        with pytest.raises(InputError, match="one of the input rasters"):
            run_job(spec_of(out, copy), JobContext(settings))
        assert read(copy).shape[0] == 12

    def test_result_over_the_source_of_a_vrt(self, settings, out, scene, tmp_path) -> None:
        copy = Path(shutil.copy(scene, out / "classes.tif"))
        vrt = tmp_path / "scene.vrt"
        rasterio.shutil.copy(copy, vrt, driver="VRT")
        with pytest.raises(InputError, match="one of the input rasters"):
            run_job(spec_of(out, vrt), JobContext(settings))
        assert read(copy).shape[0] == 12

    @pytest.mark.parametrize(
        ("output", "name"), [("polygons", "p.shp"), ("classes", "m.img"), ("table", "t")]
    )
    def test_ending_of_another_kind(self, settings, out, scene, output, name) -> None:
        spec = spec_of(out, scene)
        setattr(spec.outputs, output, str(out / name))
        with pytest.raises(InputError, match=r"Expected a name that ends with \."):
            run_job(spec, JobContext(settings))
        assert list(out.iterdir()) == []

    def test_no_result_asked(self, settings, out, scene) -> None:
        self.refused(settings, out, InputError, "No result is asked for", scene, outputs=())

    def test_relative_path(self, settings, out, scene) -> None:
        spec = spec_of(out, scene)
        spec.outputs.classes = "classes.tif"
        with pytest.raises(InputError, match="no full path"):
            run_job(spec, JobContext(settings))

    def test_unknown_product(self, settings, out, scene) -> None:
        self.refused(settings, out, ModelError, "cannot map 'gold'", scene, product="gold")

    def test_odd_tile(self, settings, out, scene) -> None:
        self.refused(settings, out, InputError, "multiple of 8", scene, tile_size=65)

    @pytest.mark.parametrize("tile", [8, 0, -64, 4096])
    def test_tile_too_small_or_large(self, settings, out, scene, tile) -> None:
        self.refused(settings, out, InputError, "does not suit", scene, tile_size=tile)

    def test_users_scale(self, settings, out, scene) -> None:
        nonsense = Radiometry(scale=1.0)
        self.refused(settings, out, RadiometryError, "no reflectance", scene, radiometry=nonsense)
