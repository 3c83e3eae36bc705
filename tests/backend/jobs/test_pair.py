"""Pairing one's own rasters: what a tile holds, that no run is lost, and that it can be learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from pydantic import ValidationError
from pyproj import Transformer
from rasterio.crs import CRS
from scenes import S2, UTM
from shapely import Polygon

from mmearth import api
from mmearth.cli import main
from mmearth.errors import DiskFullError, EmptyAreaError, InputError, JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.pretraining.registry import open_dataset

WIDTH, HEIGHT, SIZE = 200, 130, 32  # six columns and four rows of tiles
LEFT, TOP = 600_000.0, 5_400_000.0
DATES = ("2023-04-10", "2023-08-20")
ENDINGS = {".h5", "_splits.json", "_band_stats.json", "_tile_info.json"}


def ground(left, top, pixel, shape):
    """Return a quantity that follows from the position alone, the same at every resolution."""
    rows, cols = (np.arange(size) + 0.5 for size in shape)
    x, y = left + pixel * cols[None] - LEFT, TOP - (top - pixel * rows[:, None])
    return 500 + 0.2 * x + 0.1 * y


@pytest.fixture
def rasters(make_raster):
    """Two dated images; elevation of 30 m, radar of two dates, and land cover of 5 m."""
    random = np.random.default_rng(0)
    for number, date in enumerate(DATES):
        values = np.stack([ground(LEFT, TOP, 10, (HEIGHT, WIDTH))] * 12)
        values = 1000 * (number + 1) + values + random.integers(0, 20, values.shape)
        if number:
            values[:, :, 64:96] = 0  # the third column of tiles, on the second date
        make_raster(f"s2-{date}.tif", values.astype(np.uint16), bands=S2, nodata=0)
    height = ground(LEFT - 60, TOP + 60, 30, (60, 80)).astype(np.float32)
    height[:, :3] = -9999
    make_raster("dem.tif", height, pixel=30.0, origin=(LEFT - 60, TOP + 60), nodata=-9999)
    for date, level in (("2023-04-15", -10.0), ("2023-07-30", -20.0)):
        values = np.full((2, 70, 210), level, np.float32)  # the upper half only
        make_raster(f"s1-{date}.tif", values + random.normal(0, 1, values.shape))
    cover = np.where(np.arange(400) < 200, 10, 40) * np.ones((260, 1), int)
    cover[:, ::7] = 20  # a seventh of the pixels, nowhere most of them
    make_raster("cover.tif", cover.astype(np.uint8), pixel=5.0)
    return make_raster("other.tif", np.ones((9, 9), np.uint8), origin=(LEFT + 5e5, TOP)).parent


def spec(folder, out, dates=DATES, **fields) -> api.PairSpec:
    path = str(folder / "{}.tif")
    modalities = [
        {"name": "elevation", "kind": "continuous", "rasters": [{"path": path.format("dem")}]},
        {"name": "radar", "kind": "continuous", "rasters": [
            {"path": path.format(f"s1-{date}"), "date": date}
            for date in ("2023-04-15", "2023-07-30")]},
        {"name": "cover", "kind": "categorical", "codes": [10, 20, 40],
         "rasters": [{"path": path.format("cover")}]},
    ]  # fmt: skip
    usual = {
        "images": [{"inputs": [{"path": path.format(f"s2-{date}")}], "date": date, "level": "L2A"}
                   for date in dates],
        "modalities": modalities, "size": SIZE, "block_km": 0.33, "validation": 0.25,
        "outputs": {"folder": str(out / "mine")},
    }  # fmt: skip
    return api.PairSpec.model_validate({**usual, **fields})


def request(folder, **fields) -> api.PretrainSpec:
    usual = {"dataset": "mmearth-h5", "crop": 16, "outputs": {"model": "/nowhere"}}
    return api.PretrainSpec.model_validate({"data": str(folder), **usual, **fields})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_what_the_rasters_hold(rasters, settings, out) -> None:
    result = run_job(spec(rasters, out), JobContext(settings))
    folder = out / "mine"
    assert set(contents(folder)) == {f"mine{ending}" for ending in ENDINGS}
    assert (result.tiles, result.places) == (44, 24)  # the gap is left out
    assert any("4 tiles of 48 have data in less than 90%" in one.message
               for one in result.warnings)  # fmt: skip
    assert not list(settings.work_folder.glob("pair-*"))
    info = json.loads((folder / "mine_tile_info.json").read_text())
    with h5py.File(folder / "mine.h5") as file:
        assert file["sentinel2"].shape == (44, 13, SIZE, SIZE)
        for row, (identifier, level) in enumerate(file["metadata"][:]):
            told = info[identifier.decode()]
            assert level == b"l2a" and told["S2_type"] == "l2a" and told["CRS"] == "EPSG:32632"
            left, bottom, right, top = told["bounds"]
            expected = ground(left, top, 10, (SIZE, SIZE))
            date = DATES.index(told["S2_DATE"])
            image = file["sentinel2"][row].astype(float)
            off = image - expected - 1000 * (date + 1)
            assert np.abs(off[[7, 8]]).max() < 21  # B8A and B08
            assert (image[10] == 0).all()  # B10
            height = file["elevation"][row, 0]
            known = np.isfinite(height)
            # A value at the rim of a gap is that of the nearest pixel with data.
            known[:, left + 10 * (np.arange(SIZE) + 0.5) < LEFT + 45] = False
            assert np.abs(height - expected)[known].max() < 0.01
            assert np.isfinite(height).all() == (left > LEFT)  # as far as the gap reaches
            radar = file["radar"][row]
            assert told["dates"]["radar"] == (
                ("2023-04-15", "2023-07-30")[date] if top > TOP - 700 else ""
            )
            seen = np.isfinite(radar)
            assert seen.any() == (top > TOP - 700)
            if seen.any():
                assert abs(radar[seen].mean() + 10 * (date + 1)) < 0.3
            cover = file["cover"][row, 0]
            half = np.where(left + 10 * np.arange(SIZE) < LEFT + 1000, 10, 40)
            assert (cover == half).mean() > 0.8 and set(np.unique(cover)) <= {10, 20, 40}
            east, north = Transformer.from_crs(UTM, 4326, always_xy=True).transform(
                (left + right) / 2, (bottom + top) / 2
            )
            assert (told["lon"], told["lat"]) == pytest.approx((east, north))
            assert file["lat"][row] == pytest.approx(
                [np.sin(np.radians(north)), np.cos(np.radians(north))], rel=1e-5
            )
        learned = json.loads((folder / "mine_splits.json").read_text())["train"]
        stats = json.loads((folder / "mine_band_stats.json").read_text())
        red = file["sentinel2"][:, 3][learned].astype(float)
        assert stats["sentinel2_l2a"]["mean"][3] == pytest.approx(red[red > 0].mean())
        assert stats["sentinel2_l2a"]["std"][3] == pytest.approx(red[red > 0].std())
        assert stats["sentinel2_l2a"]["mean"][10] is None
        heights = file["elevation"][:][learned]
        assert stats["elevation"]["max"] == [pytest.approx(np.nanmax(heights))]
        assert stats["elevation"]["std"] == [pytest.approx(np.nanstd(heights), rel=1e-5)]
    splits = json.loads((folder / "mine_splits.json").read_text())
    rows = list(info.values())
    assert result.parts == {part: len(held) for part, held in splits.items()}
    assert sorted(splits["train"] + splits["val"]) == list(range(44)) and not splits["test"]
    blocks = [{tuple(rows[tile]["block"]) for tile in splits[part]} for part in ("train", "val")]
    assert blocks[0] and blocks[1] and not blocks[0] & blocks[1]
    assert result.known["cover"] == 1 and 0.4 < result.known["radar"] < 0.7


def test_the_reader_finds_all_of_it_and_an_encoder_learns(rasters, settings, out) -> None:
    run_job(spec(rasters, out), JobContext(settings))
    data = open_dataset(request(out / "mine", split="", crop=SIZE), None)
    assert (len(data), data.levels, data.resolution_m) == (24, ("L2A",), pytest.approx(10, abs=0.1))
    assert "B10" not in data.bands and len(data.bands) == 12 and not data.warnings
    assert {(one.name, one.kind, one.channels) for one in data.modalities} == {
        ("sentinel-2", "continuous", 12), ("elevation", "continuous", 1),
        ("radar", "continuous", 2), ("cover", "categorical", 3), ("lat", "continuous", 2),
        ("lon", "continuous", 2), ("month", "continuous", 2),
    }  # fmt: skip
    batch = data.draw(60, np.random.default_rng(0))
    assert set(batch["cover"].unique().tolist()) == {0, 1, 2}
    assert batch["radar"].isnan().any() and not batch["radar"].isnan().all()
    first, second = data.draw_views(60, np.random.default_rng(0), 2)
    apart = (first - second).abs().mean(dim=(1, 2, 3)) * data.normalisation.std[0]
    one_date = apart == 0
    assert 0 < one_date.float().mean() < 0.5 and apart[~one_date].min() > 0.09

    result = run_job(
        request(
            out / "mine", encoder="mmearth-zepto-p8", steps=2, batch=4,
            options={"decoder_width": 16}, outputs={"model": str(out / "encoder")},
        ),
        JobContext(settings),
    )  # fmt: skip
    assert {"sentinel-2", "elevation", "cover"} <= set(result.losses)
    assert (out / "encoder" / "model.safetensors").exists()


def test_a_killed_run_goes_on_and_ends_the_same(rasters, settings, out) -> None:
    radar = spec(rasters, out).model_dump(mode="json")["modalities"][1:2]
    run_job(spec(rasters, out, DATES[:1], modalities=radar), JobContext(settings))
    path = out / "spec.json"
    (out / "again").mkdir()
    outputs = {"folder": str(out / "again" / "mine")}
    again = spec(rasters, out, DATES[:1], modalities=radar, outputs=outputs)
    path.write_text(again.model_dump_json())
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mmearth.api import PairSpec\n"
        "from mmearth.jobs.context import JobContext\n"
        "from mmearth.jobs.registry import run_job\n"
        "from mmearth.settings import Settings\n"
        "def report(progress, stage, eta):\n"
        "    if stage.startswith(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "spec = PairSpec.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "run_job(spec, JobContext(Settings(), report))\n"
    )
    variables = {"MMEARTH_HOME": str(settings.home)}
    for stage, strips in (("Cutting tiles: strip 2 ", 2), ("Writing mine.h5", 4)):
        ended = subprocess.run(
            [sys.executable, "-c", script, str(path), stage], env={**os.environ, **variables}
        )
        assert ended.returncode == -signal.SIGKILL
        assert len(list(settings.work_folder.glob("pair-*/*.npz"))) == strips
        assert not list((out / "again" / "mine").glob("mine*"))
    begin = max(path.stat().st_mtime_ns for path in settings.work_folder.glob("pair-*/*.npz"))
    kept = []

    def report(progress, stage, eta) -> None:
        files = settings.work_folder.glob("pair-*/*.npz")
        kept.append(max([path.stat().st_mtime_ns for path in files], default=begin))

    run_job(again, JobContext(settings, report))
    assert set(kept) == {begin}  # nothing was cut again
    assert contents(out / "again" / "mine") == contents(out / "mine")
    assert not [path for path in (out / "again" / "mine").iterdir() if path.name.startswith(".")]


def test_a_cancelled_run_leaves_nothing(rasters, settings, out) -> None:
    stages = []
    context = JobContext(
        settings, lambda progress, stage, eta: stages.append(stage), lambda: len(stages) > 3
    )
    with pytest.raises(JobCancelled):
        run_job(spec(rasters, out), context)
    assert not (out / "mine").exists()


def test_places_are_drawn_evenly(rasters, make_raster, settings, out) -> None:
    def columns(**fields):
        run_job(spec(rasters, out, DATES[:1], modalities=[], **fields), JobContext(settings))
        rows = json.loads((out / "mine" / "mine_tile_info.json").read_text()).values()
        return [round((row["bounds"][0] - LEFT) / 320) for row in rows]

    # One of six columns is of the second class: half of the places are drawn there.
    classes = np.ones((HEIGHT, WIDTH), np.uint8)
    classes[:, 160:192] = 7
    make_raster("classes.tif", classes)
    drawn = columns(count=8, strata=str(rasters / "classes.tif"))
    assert len(drawn) == 8 and drawn.count(5) == 4
    assert columns(count=8, strata=str(rasters / "classes.tif")) == drawn
    assert len(set(columns(count=8))) >= 4  # over the blocks
    extent = {"bounds": [LEFT, TOP - 1300, LEFT + 640, TOP], "crs": "EPSG:32632"}
    assert set(columns(extent=extent)) == {0, 1}


def test_other_sensors_are_stored_as_they_measure(make_raster, settings, out) -> None:
    random = np.random.default_rng(0)
    values = random.normal([[[-12.0]], [[-20.0]]], 2, (2, 64, 64)).astype(np.float32)
    values[:, :2] = np.nan
    path = make_raster("radar.tif", values, bands=["VV", "VH"])
    request_ = api.PairSpec.model_validate(
        {"sensor": "sentinel-1", "images": [{"inputs": [{"path": str(path)}]}], "size": 32,
         "outputs": {"folder": str(out / "sar")}}
    )  # fmt: skip
    result = run_job(request_, JobContext(settings))
    assert result.parts == {"train": 4, "val": 0, "test": 0}
    assert "No tile is in the part val" in result.warnings[0].message
    data = open_dataset(request(out / "sar", sensor="sentinel-1", split="", crop=SIZE), None)
    assert (data.bands, data.levels) == (("VV", "VH"), ())
    assert data.normalisation.mean[0] == pytest.approx(-12, abs=0.3)
    image = data.draw(30, np.random.default_rng(0))["sentinel-1"]
    assert image.isnan().any() and image.nan_to_num().abs().max() < 6


def problem(spec, settings) -> str:
    (error,) = plan_job(spec, settings).errors
    return f"{error.code}: {error.message} {error.advice}"


def test_what_stands_in_the_way_is_said_before(rasters, make_raster, settings, out) -> None:
    plan = plan_job(spec(rasters, out), settings)
    assert (plan.errors, plan.tiles, plan.grid.width) == ([], 48, WIDTH)
    assert plan_job(spec(rasters, out, count=5), settings).tiles == 10
    assert not (out / "mine").exists() and not settings.work_folder.exists()
    assert "of 160 pixels do not fit" in problem(spec(rasters, out, size=160), settings)
    (image,) = spec(rasters, out, dates=DATES[:1]).model_dump(mode="json")["images"]
    told = problem(spec(rasters, out, images=[{**image, "level": ""}]), settings)
    assert "Expected L1C or L2A" in told
    make_raster("bare.tif", np.ones((12, 64, 64), np.uint16), bands=S2, crs=None)
    bare = {**image, "inputs": [{"path": str(rasters / "bare.tif")}]}
    assert problem(spec(rasters, out, images=[bare]), settings).startswith("missing_crs:")
    elsewhere = {"name": "dem", "kind": "continuous",
                 "rasters": [{"path": str(rasters / "other.tif")}]}  # fmt: skip
    assert "No raster of dem overlaps" in problem(
        spec(rasters, out, modalities=[elsewhere]), settings
    )
    assert "The name month " in problem(
        spec(rasters, out, modalities=[{**elsewhere, "name": "month"}]), settings
    )
    assert "does not exist" in problem(
        spec(rasters, out, outputs={"folder": str(out / "no" / "mine")}), settings
    )
    far = {"bounds": [0, 0, 1, 1], "crs": "EPSG:4326"}
    with pytest.raises(EmptyAreaError, match="2 of 2 images do not overlap"):
        run_job(spec(rasters, out, extent=far), JobContext(settings))
    cover = {"name": "cover", "kind": "categorical", "codes": [10, 20],
             "rasters": [{"path": str(rasters / "cover.tif")}]}  # fmt: skip
    with pytest.raises(InputError, match=r"cover\.tif: Expected the codes 10, 20, found 40"):
        run_job(spec(rasters, out, modalities=[cover]), JobContext(settings))
    assert not (out / "mine").exists()


def test_a_full_disk_is_told(rasters, settings, small_disk) -> None:
    with pytest.raises(DiskFullError, match="free"):
        run_job(spec(rasters, small_disk), JobContext(settings))
    assert not (small_disk / "mine").exists()


def test_images_of_two_systems_do_not_share_a_place(rasters, make_raster, settings, out) -> None:
    values = np.full((12, 64, 64), 2000, np.uint16)
    values += np.random.default_rng(0).integers(0, 99, values.shape).astype(np.uint16)
    make_raster("zone33.tif", values, bands=S2, crs=CRS.from_epsg(32633), origin=(160_000.0, TOP))
    (image,) = spec(rasters, out, dates=DATES[:1]).model_dump(mode="json")["images"]
    other = {**image, "inputs": [{"path": str(rasters / "zone33.tif")}], "date": DATES[1]}
    result = run_job(
        spec(rasters, out, images=[image, other], modalities=[]),
        JobContext(settings),
    )
    assert (result.tiles, result.places) == (28, 28)
    info = json.loads((out / "mine" / "mine_tile_info.json").read_text()).values()
    assert {row["CRS"] for row in info} == {"EPSG:32632", "EPSG:32633"}


def image_of(path, date=None) -> dict[str, object]:
    return {"inputs": [{"path": str(path)}], "date": date, "level": "L2A"}


def test_parts_of_two_systems_share_no_ground(make_raster, settings, out) -> None:
    """The same ground in two zones, as at the rim of each: their lattices overlap anyhow."""
    random = np.random.default_rng(0)
    images = []
    for zone, origin in ((32, (LEFT, TOP)), (33, (158_960.0, 5_409_500.0))):
        values = random.integers(100, 3000, (12, 160, 160)).astype(np.uint16)
        path = make_raster(f"zone{zone}.tif", values, bands=S2, origin=origin,
                           crs=CRS.from_epsg(32600 + zone))  # fmt: skip
        images.append(image_of(path))
    asked = {"images": images, "size": 16, "block_km": 0.5, "validation": 0.2,
             "outputs": {"folder": str(out / "mine")}}  # fmt: skip
    result = run_job(api.PairSpec.model_validate(asked), JobContext(settings))
    splits = json.loads((out / "mine" / "mine_splits.json").read_text())
    rows = list(json.loads((out / "mine" / "mine_tile_info.json").read_text()).values())
    sharing = 0
    parts = {part: [ground_of(rows[tile]) for tile in held] for part, held in splits.items()}
    for val in parts["val"]:
        assert not any(val.intersection(one).area > 0.02 * val.area for one in parts["train"])
        sharing += any(val.intersection(one).area > 0.02 * val.area for one in parts["shared"])
    assert sharing > 3 and len(parts["train"]) > len(parts["val"])
    assert sum(result.parts.values()) == result.tiles
    assert "are in the part 'shared'" in result.warnings[-1].message


def ground_of(row) -> Polygon:
    """Return the ground of a tile, as pyproj and shapely see it, on one map."""
    left, bottom, right, top = row["bounds"]
    onto = Transformer.from_crs(row["CRS"], 32632, always_xy=True)
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return Polygon([onto.transform(*corner) for corner in corners])


def test_chips_of_an_archive_are_not_lost(make_raster, settings, out) -> None:
    random = np.random.default_rng(0)
    images = []
    for chip in range(6):
        values = random.integers(100, 3000, (12, 64, 64)).astype(np.uint16)
        origin = (LEFT + 10 * (100 * chip + random.integers(30)), TOP + 10 * random.integers(30))
        images.append(image_of(make_raster(f"chip{chip}.tif", values, bands=S2, origin=origin)))
    asked = {"images": images, "size": 32, "validation": 0,
             "outputs": {"folder": str(out / "mine")}}  # fmt: skip
    result = run_job(api.PairSpec.model_validate(asked), JobContext(settings))
    assert result.tiles == 6 * 4 and not result.warnings
    # Of chips that overlap, the second holds no whole tile of the lattice that both share.
    for chip in range(2):
        values = random.integers(100, 3000, (12, 64, 64)).astype(np.uint16)
        origin = (LEFT + 200 * chip, TOP)
        images.append(image_of(make_raster(f"more{chip}.tif", values, bands=S2, origin=origin)))
    asked = {**asked, "images": images[-2:], "size": 64}
    (warning,) = run_job(api.PairSpec.model_validate(asked), JobContext(settings)).warnings
    assert warning.message.startswith("1 of 2 images hold no whole tile of 64 pixels")


def test_the_nearest_date_that_covers_a_tile(make_raster, settings, out) -> None:
    values = np.random.default_rng(0).integers(1000, 3000, (12, 64, 32)).astype(np.uint16)
    image = image_of(make_raster("s2.tif", values, bands=S2), "2023-06-10")
    near = np.full((64, 32), np.nan, np.float32)
    near[0, 0], near[32:] = 1, 1  # one pixel of the first tile, all of the second
    rasters = []
    for day, height in (("11", near), ("13", np.full((64, 32), 3, np.float32))):
        path = make_raster(f"{day}.tif", height)
        rasters.append({"path": str(path), "date": f"2023-06-{day}"})
    asked = {"images": [image], "size": 32, "validation": 0,
             "modalities": [{"name": "height", "kind": "continuous", "rasters": rasters}],
             "outputs": {"folder": str(out / "mine")}}  # fmt: skip
    assert run_job(api.PairSpec.model_validate(asked), JobContext(settings)).known["height"] == 1
    rows = json.loads((out / "mine" / "mine_tile_info.json").read_text()).values()
    assert [row["dates"]["height"] for row in rows] == ["2023-06-13", "2023-06-11"]
    asked["modalities"][0]["rasters"] = rasters[:1]  # none covers it: the fullest there is
    result = run_job(api.PairSpec.model_validate(asked), JobContext(settings))
    assert 0.5 < result.known["height"] < 0.51


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nodata": 0}, "0 cannot be a class and stand for no data"),
        ({"nodata": 1.5e10}, "no whole number of 32 bits"),
        ({"nodata": 0.5}, "no whole number of 32 bits"),
        ({"codes": [1, 2**40]}, "1099511627776 is no code"),
    ],
)
def test_codes_that_cannot_be(fields, words) -> None:
    usual = {"name": "cover", "kind": "categorical", "codes": [0, 1], "rasters": [{"path": "x"}]}
    with pytest.raises(ValidationError, match=words):
        api.PairModality.model_validate({**usual, **fields})


def test_command(rasters, settings, out, capsys, monkeypatch) -> None:
    for name in ("home", "models", "device", "threads"):
        monkeypatch.setenv(f"MMEARTH_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.chdir(rasters)
    command = [
        "pair", *(f"--image={date}=s2-{date}.tif" for date in DATES), "--level", "L2A",
        "--measured", "elevation=dem.tif", "--measured", "radar@2023-04-15=s1-2023-04-15.tif",
        "--measured", "radar@2023-07-30=s1-2023-07-30.tif", "--classes", "cover=cover.tif",
        "--codes", "cover=10,20,40", "--nodata", "elevation=-9999", "--size", "32",
        "--block", "0.33", "--validation", "0.25", "--output", str(out / "mine"),
    ]  # fmt: skip
    assert main([*command, "--plan"]) == 0 and not (out / "mine").exists()
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.err.count("2 images of 2: Even the darkest pixels hold 1528") == 1
    said = told.out
    assert "44 tiles of 24 places: " in said and "cover: 100.0% of the pixels" in said
    assert main([*command, "--codes", "dem=1"]) == 1
    assert "--codes speaks of dem" in capsys.readouterr().err
    assert main([*command, "--size", "8"]) == 1
    assert "--size: Input should be greater" in capsys.readouterr().err
    assert main(["pair", "--image", "April=x.tif", "--output", str(out / "x")]) == 1
    assert "--image" in capsys.readouterr().err
