"""The command line does what the plugin does."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from downloads import serving
from goldens import mmearth_file
from scenes import S2, scene_values, write_places

from mmearth.cli import main
from mmearth.settings import PUBLISHED_MODELS


@pytest.fixture
def mmearth(settings, monkeypatch, capfd):
    """Return a function that runs a command and returns its status, output and errors.

    It runs here, since a process takes seconds to import torch; ``process`` runs it in one of its
    own, and ``start`` returns that as soon as it is up.
    """
    monkeypatch.setenv("MMEARTH_HOME", str(settings.home))
    monkeypatch.setenv("MMEARTH_THREADS", "1")
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody is there to answer

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    def start(*arguments: object, **options: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "mmearth", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # A shell that starts the tests in the background has made them deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **{"stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip

    def process(*arguments: object) -> tuple[int, str, str]:
        started = start(*arguments)
        out, err = started.communicate(timeout=120)
        return started.returncode, out, err

    run.start, run.process = start, process
    return run


def test_some_classes_are_taught(mmearth, scene, tmp_path) -> None:
    shapes = [shapely.Point(600_505 + 20 * place, 5_399_505) for place in range(12)]
    values = np.array(["wood", "field", "road"] * 4, object)
    pyogrio.raw.write(
        tmp_path / "labels.gpkg", shapely.to_wkb(shapes), [values], ["cover"],
        geometry_type="Point", crs="EPSG:32632",
    )  # fmt: skip
    code, out, err = mmearth(
        "finetune", scene, "--model", "tiny", "--labels", tmp_path / "labels.gpkg",
        "--field", "cover", "--classes", "wood", "field", "--plan",
    )  # fmt: skip
    assert code == 0, err
    counted = [line.split()[0] for line in out.splitlines() if " 4 labels" in line]
    assert counted == ["wood", "field"]


def test_segment(mmearth, scene, tmp_path) -> None:
    code, out, err = mmearth.process(
        "segment", scene, "--model", "tiny", "--output", tmp_path / "m.tif",
        "--table", tmp_path / "t.csv", "--extent", "600500", "5399000", "600900", "5399300",
        "EPSG:32632",
    )  # fmt: skip
    assert code == 0, err
    assert "Trees" in out and " ha " in out and str(tmp_path / "m.tif") in out
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.shape == (30, 40)


def test_products_by_name(mmearth, scene, tmp_path) -> None:
    code, out, err = mmearth(
        "treedensity", scene, "--output", tmp_path / "density.tif",
        "--cells", tmp_path / "cells.tif", "--cell", "50", "--table", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0, err
    assert "Model: Tiny test model" in out
    with rasterio.open(tmp_path / "cells.tif") as dataset:
        assert dataset.shape == (30, 26)
    table = (tmp_path / "t.csv").read_text().splitlines()
    assert table[0].endswith("cover_ha,cover_percent")
    assert table[1].split(",")[-1] in next(line for line in out.splitlines() if "Trees" in line)

    more = ["--polygons", tmp_path / "p.gpkg", "--minimum-area", "0.5", "--plan"]
    for name in ("landcover", "treemask"):
        code, out, err = mmearth(name, scene, "--output", tmp_path / "m.tif", *more)
        assert code == 0 and "12 tiles" in out, err
    small = ["--cells", tmp_path / "c.tif", "--cell", "5", "--plan"]
    code, out, _ = mmearth("treedensity", scene, "--output", tmp_path / "d.tif", *small)
    assert code == 1 and "too small for pixels of 10 m" in out
    small[3] = "0"
    code, _, err = mmearth("treedensity", scene, "--output", tmp_path / "d.tif", *small)
    assert code == 1 and "--cell:" in err
    code, _, err = mmearth("treedensity", scene, "--output", tmp_path / "d.tif", *small[2:])
    assert code == 1 and "Give --cells too" in err


def test_bands_by_hand(mmearth, make_raster, tmp_path) -> None:
    path = make_raster("unnamed.tif", scene_values(40, 40), nodata=0)
    order = {name: n for n, name in enumerate(S2, start=1)}
    from scenes import MODEL_BANDS

    bands = [part for name in MODEL_BANDS for part in ("--band", f"{name}=1:{order[name]}")]
    common = ["segment", path, "--model", "tiny", "--output", tmp_path / "m.tif"]
    code, _, err = mmearth(*common)
    assert code == 1 and "recognised only by position" in err
    code, _, err = mmearth(*common, *bands)
    assert code == 0, err


def test_plan(mmearth, scene, tmp_path) -> None:
    code, out, _ = mmearth(
        "segment", scene, "--model", "tiny", "--output", tmp_path / "m.tif", "--plan"
    )
    assert code == 0 and "12 tiles" in out and "B8A" in out
    assert not (tmp_path / "m.tif").exists()


def test_errors_are_words(mmearth, tmp_path) -> None:
    code, out, err = mmearth.process(
        "segment", tmp_path / "no.tif", "--model", "tiny", "--output", tmp_path / "m.tif"
    )
    assert code == 1 and "does not exist" in err and "Traceback" not in err + out


def test_offset_alone_is_honoured(mmearth, scene, tmp_path) -> None:
    code, _, err = mmearth(
        "segment", scene, "--model", "tiny", "--output", tmp_path / "m.tif", "--offset", "-0.01"
    )
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert "x 0.0001 -0.01" in json.loads(dataset.tags()["MMEARTH_BANDS"])["B02"]


@pytest.mark.parametrize(
    "option",
    [
        ("--scale", "-1"),
        ("--scale", "0"),
        ("--minimum-area", "-3"),
        ("--minimum-area", "inf"),
        ("--offset", "nan"),
    ],
)
def test_values_out_of_range_are_words(mmearth, scene, tmp_path, option) -> None:
    code, out, err = mmearth(
        "segment", scene, "--model", "tiny", "--output", tmp_path / "m.tif", *option
    )
    assert code == 1 and option[0] in err and "Traceback" not in err + out


def test_settings_out_of_range_are_words(mmearth, monkeypatch) -> None:
    monkeypatch.setenv("MMEARTH_MEMORY_MB", "abc")
    code, out, err = mmearth("models")
    assert code == 1 and "MMEARTH_MEMORY_MB" in err and "Traceback" not in err + out


def test_interrupt_leaves_nothing(mmearth, make_raster, tmp_path, settings) -> None:
    path = make_raster("long.tif", scene_values(3000, 1500), bands=S2, nodata=0)
    out = tmp_path / "out"
    out.mkdir()
    process = mmearth.start("segment", path, "--model", "tiny", "--output", out / "m.tif")
    begin = time.monotonic()
    while not any(settings.work_folder.glob("*/rows_done")):
        assert process.poll() is None and time.monotonic() - begin < 60
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Cancelled" in err and "Traceback" not in err
    assert list(out.iterdir()) == []


def test_models(mmearth) -> None:
    code, out, _ = mmearth("models")
    assert code == 0 and "tiny" in out and "treemask" in out
    code, out, _ = mmearth.process("models", "--json")
    assert "tiny" in [model["id"] for model in json.loads(out)]


def test_a_published_encoder_is_installed_from_its_file(mmearth, scene, tmp_path) -> None:
    name = "mmearth-all-mod-atto-1m-64-uncertainty-56-8"
    _, out, _ = mmearth("models", "published")
    assert name in out and "CC-BY-NC" in out and "spec_rn50_moco.pth from https://" in out
    file = mmearth_file(tmp_path)
    code, out, err = mmearth("models", "import", file, "--as", name, "--level", "L2A")
    assert code == 0, err
    assert "not for commercial use" in out
    _, out, _ = mmearth("models")
    assert f"{name}-l2a" in out and "an encoder, to be trained" in out
    code, _, err = mmearth(
        "segment", scene, "--model", f"{name}-l2a", "--output", tmp_path / "m.tif"
    )
    assert code == 1 and "maps nothing by itself" in err
    code, _, err = mmearth("models", "import", tmp_path / "absent.pth", "--as", name)
    assert code == 1 and "does not exist" in err and "Traceback" not in err


@pytest.fixture
def own_models(settings, tiny_model, tmp_path, monkeypatch):
    """The user's own models, at first none; the tiny one, alone, comes with the backend."""
    (settings.home / "models").unlink()
    shutil.copytree(tiny_model.folder, tmp_path / "embedded" / "tiny")
    monkeypatch.setenv("MMEARTH_MODELS", str(tmp_path / "embedded"))
    return settings.home / "models"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A published encoder on a server of this test; returns its identifier."""
    with serving(mmearth_file(tmp_path).read_bytes()) as server:
        table = PUBLISHED_MODELS.read_text("utf-8")
        host = server.url.removesuffix("/weights.pth")
        (tmp_path / "list.toml").write_text(table.replace("https://sid.erda.dk", host), "utf-8")
        monkeypatch.setenv("MMEARTH_PUBLISHED", str(tmp_path / "list.toml"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield "mmearth-all-mod-atto-1m-64-uncertainty-56-8"


def test_a_published_encoder_is_downloaded(mmearth, own_models, published) -> None:
    code, out, err = mmearth("models", "get", published)
    assert code == 1 and "not for commercial use" in err and "--accept-licence" in err
    assert not own_models.exists()
    code, out, err = mmearth("models", "get", published, "--accept-licence", "--level", "L2A")
    assert code == 0, err
    assert f"{published}-l2a" in out and str(own_models) in out
    _, out, _ = mmearth("models", "published", "--json")
    (found,) = [model for model in json.loads(out) if model["installed"]]
    assert found["installed"] == [f"{published}-l2a"] and found["file"] == "checkpoint-199.pth"


@pytest.mark.parametrize(("answer", "accepted"), [("n", False), ("", False), ("y", True)])
def test_the_licence_is_asked_for_at_a_terminal(
    mmearth, own_models, published, monkeypatch, answer, accepted
) -> None:
    monkeypatch.setenv("MMEARTH_PROXY", "http://127.0.0.1:9")  # it gets no further
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    process = mmearth.start("models", "get", published, stdin=theirs)
    out, err = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert "MIT and CC-BY-NC-4.0" in out and "[y/N]" in out and process.returncode == 1
    assert ("through the proxy" in err) is accepted
    assert ("--accept-licence" in err) is not accepted


def test_models_travel(mmearth, own_models, tiny_model, tmp_path) -> None:
    code, out, err = mmearth("models", "export", "tiny", tmp_path / "tiny.zip")
    assert code == 0 and str(tmp_path / "tiny.zip") in out, err
    code, _, err = mmearth("models", "import", tmp_path / "tiny.zip")
    assert code == 1 and "comes with MMEarth" in err
    copy = shutil.copytree(tiny_model.folder, tmp_path / "copy")
    card = (copy / "model.json").read_text("utf-8").replace('"id": "tiny"', '"id": "mine"')
    (copy / "model.json").write_text(card, "utf-8")
    code, out, err = mmearth("models", "import", copy)
    assert code == 0 and str(own_models / "mine") in out and "CC0-1.0" in out, err
    _, out, _ = mmearth("models", "list")
    assert "mine  Tiny" in out and "tiny  Tiny" in out
    assert "mine" in [model["id"] for model in json.loads(mmearth("models", "list", "--json")[1])]
    code, out, _ = mmearth("models", "remove", "mine")
    assert code == 0 and "mine is removed" in out and list(own_models.iterdir()) == []
    code, _, err = mmearth("models", "remove", "tiny")
    assert code == 1 and "comes with MMEarth and cannot be removed" in err
    code, _, err = mmearth("models", "export", "tiny", tmp_path / "tiny.rar")
    assert code == 1 and "ends with .onnx, .zip" in err


def test_home_that_cannot_be_written_to_is_words(
    mmearth, scene, tmp_path, monkeypatch, settings
) -> None:
    for folder in ("work", "jobs"):  # a file where a folder should be stops root too
        (settings.home / folder).write_text("")
    monkeypatch.setenv("MMEARTH_TOKEN", "secret")
    commands = [
        ("segment", scene, "--model", "tiny", "--output", tmp_path / "m.tif"),
        ("serve",),
    ]
    for command in commands:
        code, out, err = mmearth.process(*command)
        assert code == 1 and "MMEARTH_HOME" in err and "Traceback" not in err + out


def test_models_of_another_folder(mmearth, tiny_model, tmp_path, monkeypatch) -> None:
    other = tmp_path / "others" / "copy"
    other.mkdir(parents=True)
    card = (tiny_model.folder / "model.json").read_text().replace('"id": "tiny"', '"id": "other"')
    (other / "model.json").write_text(card)
    monkeypatch.setenv("MMEARTH_MODELS", str(other.parent))
    _, out, _ = mmearth("models")
    assert "other" in out and "tiny" in out and "landcover" not in out.replace("maps landcover", "")


def test_doctor(mmearth, settings) -> None:
    code, out, _ = mmearth.process("doctor")
    assert code == 0 and "FAIL" not in out
    (settings.home / "models" / "broken").mkdir()
    weights = settings.home / "models" / "tiny" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    try:
        code, out, _ = mmearth("doctor")
        assert code == 1 and "FAIL  Models" in out and "damaged" in out
    finally:
        weights.write_bytes(good)
        (settings.home / "models" / "broken").rmdir()


def test_polygons_and_probabilities(mmearth, scene, tmp_path) -> None:
    code, _, err = mmearth(
        "segment", scene, "--model", "tiny", "--product", "treemask",
        "--output", tmp_path / "m.tif", "--polygons", tmp_path / "p.gpkg",
        "--probabilities", tmp_path / "q.tif", "--minimum-area", "0.1",
    )  # fmt: skip
    assert code == 0, err
    with rasterio.open(tmp_path / "q.tif") as dataset:
        values = dataset.read()
        assert dataset.count == 2 and (values[values != 255] <= 100).all()
    with rasterio.open(tmp_path / "m.tif") as dataset:
        classes = dataset.read(1)
    np.testing.assert_array_equal(values[0] == 255, classes == 0)
    # Percent are rounded, and the product's threshold is 40 %.
    assert (classes[(values[0] > 40) & (values[0] != 255)] == 1).all()
    assert (classes[values[0] < 40] == 2).all()
    assert (tmp_path / "p.gpkg").stat().st_size > 0


def test_features_and_similarity(mmearth, scene, tmp_path) -> None:
    features, view, similar = (tmp_path / f"{name}.tif" for name in ("f", "v", "s"))
    code, out, err = mmearth(
        "embed", scene, "--model", "tiny", "--output", features, "--view", view
    )
    assert code == 0, err
    assert "features, 65 x 75 pixels of 20" in out and str(view) in out
    points = [shapely.Point(600_810, 5_399_390), shapely.Point(600_010, 0)]
    places = write_places(tmp_path / "places.gpkg", points, layer="chosen")
    code, out, err = mmearth(
        "similarity", features, "--references", places, "--layer", "chosen", "--output", similar
    )
    assert code == 0 and "1 place of 1 pixel" in out, err
    assert "Warning: 1 of 2 places" in err
    with rasterio.open(similar) as dataset:
        assert dataset.shape == (75, 65)
        assert dataset.read(1)[30, 40] == pytest.approx(1)


def test_clouds_are_left_out(mmearth, scene, make_raster, tmp_path) -> None:
    values = np.zeros((150, 130), np.uint8)
    values[100:120] = 60
    mask = make_raster("clouds.tif", values)
    command = ("segment", scene, "--model", "tiny", "--mask", mask, "--output", tmp_path / "m.tif")
    code, _, err = mmearth(*command, "--mask-above", "40")
    assert code == 0, err
    with rasterio.open(tmp_path / "m.tif") as dataset:
        np.testing.assert_array_equal((dataset.read(1) == 0)[40:].all(axis=1), values[40:, 0] > 0)
    code, _, err = mmearth(*command, "--mask-band", "2")
    assert code == 1 and "has 1 bands, and band 2 is asked for" in err
    code, _, err = mmearth(*command, "--mask-bits", "40")
    assert code == 1 and "bits are counted from 0 to 31" in err and "Traceback" not in err
    code, _, err = mmearth("segment", scene, "--model", "tiny", "--mask-values", "8",
                           "--output", tmp_path / "m.tif")  # fmt: skip
    assert code == 1 and "--mask-values speaks of a mask, and none is given" in err


def test_disturbance(mmearth, scene, make_raster, tmp_path) -> None:
    with rasterio.open(scene) as source:
        values, names = source.read(), source.descriptions
    values[:, 60:100, 60:100] //= 3
    later = make_raster("later.tif", values, bands=names, nodata=0)
    clouds = np.zeros((150, 130), np.uint8)
    clouds[:, 120:] = 1
    mask = make_raster("clouds.tif", clouds)
    files = {name: tmp_path / f"out.{name}" for name in ("tif", "gpkg", "csv")}
    command = (
        "disturbance", "--before", scene, "--after", later, "--model", "tiny",
        "--mask-after", mask, "--output", files["tif"], "--polygons", files["gpkg"],
        "--table", files["csv"], "--minimum-area", "0.2",
    )  # fmt: skip
    code, out, err = mmearth(*command, "--plan")
    assert code == 0 and "130 x 150 pixels" in out and not files["tif"].exists(), err
    code, out, err = mmearth(*command)
    assert code == 0, err
    assert "after: later.tif (1,500 pixels left out by a mask" in out
    assert "Forest loss" in out
    with rasterio.open(files["tif"]) as dataset:
        assert (dataset.read(1)[:, 120:] == 0).all()
    assert all(path.stat().st_size for path in files.values())
    code, _, err = mmearth("disturbance", "--before", scene, "--after", scene, "--model", "tiny",
                           "--output", files["tif"])  # fmt: skip
    assert code == 1 and "the same image" in err
    code, _, err = mmearth(*command, "--between", later, "--between", scene, "--mask-between", mask)
    assert code == 1 and "Expected a mask for each of the 2 dates in between, found 1" in err


def test_a_sample_and_an_assessment(mmearth, make_raster, tmp_path) -> None:
    values = np.repeat([[1], [2]], 40, axis=0).repeat(60, axis=1).astype(np.uint8)
    path = make_raster("map.tif", values)
    sample, areas, report = (tmp_path / name for name in ("s.gpkg", "a.csv", "r.html"))
    code, out, err = mmearth(
        "sampledesign", path, "--output", sample, "--target-error", "0.03", "--expected", "1=0.7",
        "--expected-accuracy", "0.9",
    )  # fmt: skip
    assert code == 0 and " points; standard error of overall accuracy about 0.03" in out, err
    code, _, err = mmearth("assess", path, "--reference", sample, "--areas", areas)
    assert code == 1 and "is interpreted" in err
    code, out, err = mmearth(
        "assess", path, "--reference", sample, "--field", "stratum", "--areas", areas, "--report",
        report,
    )  # fmt: skip
    assert code == 0 and "Overall accuracy 100.0 ± 0.0 %" in out, err
    assert "24.0" in out and report.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "Warning" not in err
    code, out, err = mmearth(
        "sampledesign", path, "--output", sample, "--target-error", "2", "--expected", "x"
    )
    assert code == 1 and "--expected: expected CLASS=ACCURACY" in err
    code, out, err = mmearth("sampledesign", path, "--output", sample, "--target-error", "2")
    assert code == 1 and "--target-error" in err and "Traceback" not in err + out


def test_plan_of_features(mmearth, scene, tmp_path) -> None:
    code, out, _ = mmearth(
        "embed", scene, "--model", "tiny", "--output", tmp_path / "f.tif", "--plan"
    )
    assert code == 0 and "12 tiles" in out
    assert not (tmp_path / "f.tif").exists()
