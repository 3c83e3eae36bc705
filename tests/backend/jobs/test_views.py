"""Scenes of several dates become patches: whole, of stored numbers, no ground twice."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scenes import S2, scene_values

from mmearth import api
from mmearth.cli import main
from mmearth.errors import (
    DiskFullError,
    EmptyAreaError,
    InputError,
    JobCancelled,
    OutputError,
    RasterReadError,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.pretraining.temporal.scenes import find_scenes, positions

SIZE = 32
LEFT, TOP = 600_000, 5_400_000


@pytest.fixture
def one_process(settings):
    """Settings with which everything is done in this process."""
    return settings.model_copy(update={"threads": 1})


@pytest.fixture
def scenes(make_raster, tmp_path):
    """Three dates whose frames are 16 pixels apart, the last with a corner without data."""
    for number, date in enumerate(["20210501", "20210601", "20220501"]):
        values = np.maximum(scene_values(100, 120, seed=number), 1)
        if number == 2:
            values[:, :40, :40] = 0
        make_raster(
            f"scenes/frame_{date}T101010_20230101.tif", values, bands=S2, nodata=0, scale=1e-4,
            origin=(LEFT + 160 * number, TOP), band_tags=[{"wavelength": "490"}] * 12,
        )  # fmt: skip
    return tmp_path / "scenes"


def spec(scenes, folder, **fields) -> api.ViewsSpec:
    usual = {"size": SIZE, "step": 8, "validation": 0}
    outputs = api.ViewsOutputs(folder=str(folder))
    return api.ViewsSpec(scenes=str(scenes), outputs=outputs, **{**usual, **fields})


def mask(make_raster, date: str, clouded: slice, name: str = "frame") -> None:
    """Write a mask beside a scene, clouds in some of its columns."""
    values = np.zeros((100, 120), np.uint8)
    values[:, clouded] = 1
    number = ["20210501", "20210601", "20220501"].index(date)
    make_raster(
        f"scenes/{name}_{date}T101010_20230101_CLOUD.tif", values, origin=(LEFT + 160 * number, TOP)
    )


def index(folder) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads((folder / "index.json").read_text())
    return rows


def places(folder) -> dict[str, set[str]]:
    """Return the dates of each place."""
    found: dict[str, set[str]] = {}
    for row in index(folder):
        found.setdefault(row["place"], set()).add(row["date"])
    return found


def bounds(folder) -> list[rasterio.coords.BoundingBox]:
    """Return the ground of each place, having seen that all its dates share it."""
    result = []
    for place in places(folder):
        each = set()
        for path in (folder / place).iterdir():
            with rasterio.open(path) as patch:
                each.add((patch.bounds, patch.shape, patch.crs))
        ((ground, shape, _),) = each
        assert shape == (SIZE, SIZE)
        result.append(ground)
    return result


def test_patches_are_pixels_of_the_scenes(scenes, one_process, out) -> None:
    folder = out / "patches"
    result = run_job(spec(scenes, folder), JobContext(one_process))
    dates = Counter(len(dates) for dates in places(folder).values())
    assert result.places == dates and set(dates) == {1, 2, 3}
    assert not result.warnings
    for row in index(folder):
        with rasterio.open(folder / row["file"]) as patch, rasterio.open(row["scene"]) as scene:
            assert row["date"].replace("-", "") in row["scene"]
            window = rasterio.windows.from_bounds(*patch.bounds, scene.transform)
            values = patch.read()
            np.testing.assert_array_equal(values, scene.read(window=window.round_offsets()))
            assert values.all()  # the corner without data is in none
            assert (patch.descriptions, patch.scales) == (scene.descriptions, scene.scales)
            assert (patch.nodata, patch.crs) == (scene.nodata, scene.crs)
            assert patch.tags(3)["wavelength"] == "490"
    for one, other in itertools.combinations(bounds(folder), 2):
        assert abs(one.left - other.left) >= 320 or abs(one.top - other.top) >= 320


def test_an_encoder_can_learn_from_them(scenes, one_process, out) -> None:
    folder = out / "patches"
    run_job(spec(scenes, folder), JobContext(one_process))
    learn = api.PretrainSpec(
        data=str(folder),
        encoder="mmearth-zepto-p8",
        steps=1,
        batch=2,
        crop=16,
        outputs=api.PretrainOutputs(model=str(out / "encoder")),
    )
    assert run_job(learn, JobContext(one_process)).tiles == len(places(folder))


def test_a_date_counts_once(scenes, make_raster, one_process, out) -> None:
    """Frames of one pass overlap; that is no second date."""
    values = np.maximum(scene_values(100, 120, seed=9), 1)
    make_raster("scenes/neighbour_20210501.tif", values, bands=S2, nodata=0, scale=1e-4,
                origin=(LEFT, TOP - 320))  # fmt: skip
    folder = out / "patches"
    result = run_job(spec(scenes, folder), JobContext(one_process))
    assert max(result.places) == 3
    rows = index(folder)
    assert len({(row["place"], row["date"]) for row in rows}) == len(rows)
    assert any("neighbour" in row["scene"] for row in rows)  # where it alone shows that date


def test_clouds_cost_a_place_that_date(scenes, make_raster, one_process, out) -> None:
    for date, clouded in (("20210501", slice(0)), ("20210601", slice(60, 120)),
                          ("20220501", slice(0))):  # fmt: skip
        mask(make_raster, date, clouded)
    folder = out / "patches"
    asked = {"images": "*0101.tif", "masks": "*0101_CLOUD.tif", "clouds": 0.0}
    run_job(spec(scenes, folder, **asked), JobContext(one_process))
    edge = LEFT + 160 + 600  # where the clouds of June begin
    seen = {row["place"] for row in index(folder) if row["date"] == "2021-06-01"}
    right = {place: float(place.split("_")[1]) + SIZE * 10 for place in places(folder)}
    assert seen and all(right[place] <= edge for place in seen)
    assert any(right[place] > edge for place in places(folder))
    run_job(spec(scenes, out / "all", **{**asked, "clouds": 1.0}), JobContext(one_process))
    assert len(index(out / "all")) > len(index(folder))


def test_the_scene_classification_of_the_scenes_is_found(
    scenes, make_raster, one_process, out
) -> None:
    for path in scenes.iterdir():
        with rasterio.open(path) as scene:
            values, left = scene.read(), scene.bounds.left
        classes = np.full((1, 100, 120), 4, np.uint16)
        classes[:, :, :70] = 9  # cloud
        make_raster(f"classified/{path.name}", np.concatenate([values, classes]),
                    bands=[*S2, "SCL"], nodata=0, origin=(left, TOP))  # fmt: skip
    folder = out / "patches"
    run_job(spec(scenes.with_name("classified"), folder, clouds=0.0), JobContext(one_process))
    assert min(ground.left for ground in bounds(folder)) >= LEFT + 700


def test_gaps_as_large_as_is_allowed(scenes, one_process, out) -> None:
    """One patch of the scene lies half in its corner of 40 x 40 pixels without data."""
    lonely = {"images": "frame_2022*.tif", "size": 80, "step": 80}
    with pytest.raises(EmptyAreaError):
        run_job(spec(scenes, out / "whole", **lonely, minimum_valid=0.76), JobContext(one_process))
    run_job(spec(scenes, out / "gaps", **lonely, minimum_valid=0.75), JobContext(one_process))
    (row,) = index(out / "gaps")
    with rasterio.open(out / "gaps" / row["file"]) as patch:
        assert (patch.read(1) == 0).sum() == 40 * 40


def test_other_pixels_make_patches_of_their_own(scenes, make_raster, one_process, out) -> None:
    values = np.maximum(scene_values(64, 64), 1)
    make_raster("scenes/half_20230501.tif", values, bands=S2, nodata=0, scale=1e-4,
                origin=(LEFT + 5, TOP))  # fmt: skip
    result = run_job(spec(scenes, out / "patches"), JobContext(one_process))
    assert [warning.code for warning in result.warnings] == ["several_grids"]
    half = [row for row in index(out / "patches") if "half" in row["scene"]]
    assert half
    assert all(len(places(out / "patches")[row["place"]]) == 1 for row in half)


def test_parts_are_blocks_that_share_no_ground(scenes, make_raster, one_process, out) -> None:
    values = np.maximum(scene_values(100, 120, seed=5), 1)
    make_raster("scenes/half_20230501.tif", values, bands=S2, nodata=0, scale=1e-4,
                origin=(LEFT + 5, TOP))  # fmt: skip
    asked = {"validation": 0.3, "block_km": 0.4}
    result = run_job(spec(scenes, out / "patches", **asked), JobContext(one_process))
    parts = {row["place"]: row["split"] for row in index(out / "patches")}
    grounds = dict(zip(places(out / "patches"), bounds(out / "patches"), strict=True))
    assert set(result.parts) == {"train", "val", "shared"}
    assert sum(result.parts.values()) == len(index(out / "patches"))
    assert min(Counter(parts.values()).values()) > 0
    assert "are in the part 'shared'" in result.warnings[-1].message
    for one, other in itertools.product(grounds, repeat=2):
        if (parts[one], parts[other]) == ("train", "val"):
            assert rasterio.coords.disjoint_bounds(grounds[one], grounds[other]) or not (
                rasterio.windows.intersect(
                    *(
                        rasterio.windows.from_bounds(*grounds[name], from_origin(LEFT, TOP, 10, 10))
                        for name in (one, other)
                    )
                )
            )


def test_scenes_that_show_no_patch_are_told(scenes, make_raster, one_process, out) -> None:
    make_raster("scenes/small_20230501.tif", np.ones((12, 20, 20), np.uint16), bands=S2, nodata=0,
                scale=1e-4)  # fmt: skip
    result = run_job(spec(scenes, out / "patches"), JobContext(one_process))
    assert any("1 of 4 scenes show no whole patch" in one.message for one in result.warnings)


def test_a_full_disk_is_told(scenes, make_raster, one_process, small_disk) -> None:
    make_raster("scenes/wide_20230501.tif", np.ones((12, 200, 200), np.uint16), bands=S2, nodata=0,
                scale=1e-4)  # fmt: skip
    with pytest.raises(DiskFullError, match="free"):
        run_job(spec(scenes, small_disk / "patches"), JobContext(one_process))
    assert not (small_disk / "patches").exists()


def test_a_cancelled_run_goes_on(scenes, one_process, out) -> None:
    whole = out / "whole"
    run_job(spec(scenes, whole), JobContext(one_process))
    cancelled = threading.Event()

    def stop(_progress: float, stage: str, _eta: float | None) -> None:
        if stage.startswith("Writing"):
            cancelled.set()

    folder = out / "patches"
    with pytest.raises(JobCancelled):
        run_job(spec(scenes, folder), JobContext(one_process, stop, cancelled.is_set))
    assert not folder.exists()
    unfinished = out / "patches.unfinished"
    before = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*.tif")}
    assert 0 < len(before) < len(index(whole))
    next(iter(before)).with_name(".killed.tif").touch()
    run_job(spec(scenes, folder), JobContext(one_process))
    assert not unfinished.exists()
    kept = {path: folder / path.relative_to(unfinished) for path in before}
    assert {path: new.stat().st_mtime_ns for path, new in kept.items()} == before
    assert index(folder) == index(whole)
    names = [sorted(path.relative_to(root) for path in root.rglob("*")) for root in (folder, whole)]
    assert names[0] == names[1]


def test_another_request_begins_anew(scenes, one_process, out) -> None:
    unfinished = out / "patches.unfinished"
    unfinished.mkdir()
    (unfinished / "request.txt").write_text("of another run")
    (unfinished / "old").mkdir()
    run_job(spec(scenes, out / "patches"), JobContext(one_process))
    assert not (out / "patches" / "old").exists()
    (out / "other.unfinished").mkdir()
    (out / "other.unfinished" / "mine.txt").touch()
    with pytest.raises(OutputError, match="holds other files"):
        run_job(spec(scenes, out / "other"), JobContext(one_process))


def test_several_processes_do_the_same(scenes, settings, one_process, out) -> None:
    run_job(spec(scenes, out / "one"), JobContext(one_process))
    several = settings.model_copy(update={"threads": 2})
    run_job(spec(scenes, out / "several"), JobContext(several))
    assert index(out / "several") == index(out / "one")


def test_what_stands_in_the_way(scenes, one_process, out) -> None:
    context = JobContext(one_process)
    for fields, words in (
        ({"step": 7}, "do not divide"),
        ({"images": "*.jp2"}, "No file"),
        ({"images": "*_*.tif"}, "Expected a name"),
        ({"masks": "*_CLOUD.tif"}, "has no mask"),
    ):
        with pytest.raises(InputError, match=words):
            run_job(spec(scenes, out / "patches", **fields), context)
    with pytest.raises(EmptyAreaError, match="3 scenes shows a patch of 128"):
        run_job(spec(scenes, out / "patches", size=128), context)
    with pytest.raises(InputError, match="lies in the folder of the scenes"):
        run_job(spec(scenes, scenes / "patches"), context)
    (out / "there").mkdir()
    assert plan_job(spec(scenes, out / "there"), one_process).errors
    path = sorted(scenes.iterdir())[1]
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(RasterReadError, match="damaged"):
        run_job(spec(scenes, out / "patches"), context)
    assert {path.name for path in out.iterdir()} == {"there"}


def test_command(scenes, one_process, out, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MMEARTH_HOME", str(one_process.home))
    monkeypatch.setenv("MMEARTH_THREADS", "1")
    asked = ["views", str(scenes), "--output", str(out / "patches"), "--size", "32", "--step", "8"]
    assert main([*asked, "--plan"]) == 0
    assert "At most 27 tiles" in capsys.readouterr().out
    assert main([*asked, "--least-dates", "2"]) == 0
    printed = capsys.readouterr().out
    assert "3 dates:" in printed and "1 date:" not in printed
    assert min(map(len, places(out / "patches").values())) == 2


def test_dates_and_names(make_raster, one_process, tmp_path, out) -> None:
    values = np.ones((40, 40), np.uint16)
    make_raster("scenes/2021-05-01/image.tif", values, nodata=0)
    make_raster(
        "scenes/ENMAP01-____L2A-DT0000004950_20221103T162438Z_20230922.tif", values, nodata=0
    )
    with rasterio.open(
        tmp_path / "scenes" / "plain.tif", "w", driver="GTiff", dtype="uint16", count=1, height=40,
        width=40, nodata=0, crs="EPSG:32632", transform=from_origin(LEFT, TOP, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
        dataset.update_tags(TIFFTAG_DATETIME="2020:03:04 10:00:00")
    make_raster("scenes/without.tif", values, nodata=0)
    result = run_job(spec(tmp_path / "scenes", out / "patches"), JobContext(one_process))
    assert [warning.code for warning in result.warnings] == ["no_date"]
    rows = index(out / "patches")
    assert sorted(row["date"] for row in rows) == ["", "2020-03-04", "2021-05-01", "2022-11-03"]
    assert "2021-05-01_image.tif" in {row["file"].split("/")[1] for row in rows}


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_positions_are_those_without_gaps(make_raster, tmp_path, layout) -> None:
    """Whatever the blocks of the file, against counting the pixels of each patch."""
    random = np.random.default_rng(0)
    values = np.ones((3, 150, 170), np.uint16)
    rows, cols = random.integers(0, 150, (2, 60))
    values[:, rows, cols] = 0
    values[1, 20, 120] = 0  # of one band only
    make_raster("scenes/s_20200101.tif", values, nodata=0, origin=(LEFT + 70, TOP - 130), **layout)
    make_raster("scenes/first_20190101.tif", values[:, :40, :40], nodata=0)
    _, scene = find_scenes(tmp_path / "scenes", "*.tif", "")
    assert (scene.col, scene.row) == (7, 13)
    found = {tuple(place) for place in positions(scene, 32, 8, 0.002, 1.0).tolist()}
    empty = (values == 0).any(axis=0)
    expected = {
        (col + scene.col, row + scene.row)
        for row in range(-scene.row % 8, 150 - 32 + 1, 8)
        for col in range(-scene.col % 8, 170 - 32 + 1, 8)
        if empty[row : row + 32, col : col + 32].sum() <= 0.002 * 32**2
    }
    assert found == expected
    assert 10 < len(found) < 200
