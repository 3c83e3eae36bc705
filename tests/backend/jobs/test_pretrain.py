"""Pretraining as a job: from a folder of tiles to an encoder that other jobs take up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import rasterio
from PIL import Image
from safetensors.numpy import load_file
from scenes import S2, scene_values

from mmearth import api
from mmearth.cli import main
from mmearth.errors import JobCancelled, OutputError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.jobs.work import taken
from mmearth.models.card import read_card

FILES = {"README.md", "model.json", "model.safetensors", "pretraining.jsonl", "reconstruction.png"}


@pytest.fixture
def tiles(tmp_path, make_raster):
    """A folder of three tiles, of two levels."""
    rows = []
    for number in range(3):
        name = f"tiles/t{number}.tif"
        make_raster(name, scene_values(40, 40, seed=number), bands=S2, nodata=0)
        rows.append(
            {"file": f"t{number}.tif", "split": "train", "level": ("L1C", "L2A")[number % 2]}
        )
    (tmp_path / "tiles" / "index.json").write_text(json.dumps(rows))
    return tmp_path / "tiles"


@pytest.fixture
def settings(settings, tiny_model):
    """Settings with an empty folder for the user's own models."""
    (settings.home / "models").unlink()
    return settings.model_copy(update={"models": tiny_model.folder.parent})


def spec(tiles, folder, **fields) -> api.PretrainSpec:
    usual = {"encoder": "mmearth-zepto-p8", "steps": 3, "batch": 2, "crop": 16, "like": "tiny"}
    usual["options"] = {"decoder_width": 32}
    return api.PretrainSpec(
        data=str(tiles),
        outputs=api.PretrainOutputs(model=str(folder)),
        **{**usual, **fields},
    )


def test_an_encoder_that_features_are_made_with(tiles, scene, settings, out) -> None:
    folder = out / "encoder"
    result = run_job(spec(tiles, folder), JobContext(settings))
    assert (result.model, result.tiles, result.steps) == ("encoder", 3, 3)
    assert set(result.losses) == {"sentinel-2"}  # all tiles lie at one place
    assert {path.name for path in folder.iterdir()} == FILES
    assert len((folder / "pretraining.jsonl").read_text().splitlines()) == 1
    with Image.open(folder / "reconstruction.png") as picture:
        assert picture.mode == "RGB" and picture.height > 3 * 16
    assert not list(settings.work_folder.glob("pretraining-*"))
    install = api.InstallSpec(source=str(folder))
    card = run_job(install, JobContext(settings)).model
    assert (card.id, card.task, card.levels) == ("encoder", "features", ["L1C", "L2A"])
    features = out / "features.tif"
    embed = api.EmbedSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="encoder",
        outputs=api.EmbedOutputs(features=str(features)),
    )
    assert run_job(embed, JobContext(settings)).features == 256
    with rasterio.open(features) as dataset:
        values = dataset.read()
    assert np.nanstd(values, axis=(1, 2)).mean() > 0


def test_a_cancelled_run_goes_on_and_ends_the_same(tiles, settings, out) -> None:
    whole, again = spec(tiles, out / "whole"), spec(tiles, out / "again")
    run_job(whole, JobContext(settings))
    cancelled, stages = threading.Event(), []

    def report(progress, stage, eta) -> None:
        stages.append(stage)
        if stage.startswith("Step 2 "):
            cancelled.set()

    with pytest.raises(JobCancelled):
        run_job(again, JobContext(settings, report, cancelled.is_set))
    assert not (out / "again").exists()
    stages.clear()
    run_job(again, JobContext(settings, lambda progress, stage, eta: stages.append(stage)))
    assert any(stage.startswith("Step 3 ") for stage in stages)
    assert not any(stage.startswith("Step 1 ") for stage in stages)
    first, second = (load_file(out / name / "model.safetensors") for name in ("whole", "again"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_run_with_another_meaning_begins_anew(tiles, make_raster, settings, out) -> None:
    """A wrong number of no data, seen in the curve, put right: nothing learned with it stays."""
    for number in range(3):
        heights = np.arange(1600, dtype=np.int16).reshape(40, 40)
        make_raster(f"tiles/t{number}.dem.tif", heights)
    request, stages = spec(tiles, out / "encoder"), []
    for nodata in (0, 1599):
        listed = {"elevation": {"suffix": ".dem.tif", "kind": "continuous", "nodata": nodata}}
        (tiles / "modalities.json").write_text(json.dumps(listed))
        cancelled = threading.Event()

        def report(progress, stage, eta, cancelled=cancelled) -> None:
            stages.append(stage)
            if stage.startswith("Step 2 "):
                cancelled.set()

        with pytest.raises(JobCancelled):
            run_job(request, JobContext(settings, report, cancelled.is_set))
    assert sum(stage.startswith("Step 1 ") for stage in stages) == 2


def test_tiles_for_validation_are_compared_on_and_shown(tiles, make_raster, settings, out) -> None:
    rows = json.loads((tiles / "index.json").read_text())
    make_raster("tiles/held.tif", scene_values(40, 40, seed=9), bands=S2, nodata=0)
    rows.append({"file": "held.tif", "split": "val", "level": "L1C"})
    (tiles / "index.json").write_text(json.dumps(rows))
    pictures = []
    for name in ("first", "second"):
        result = run_job(spec(tiles, out / name), JobContext(settings))
        assert result.tiles == 3 and result.held_losses.keys() == {"sentinel-2"}
        logged = json.loads((out / name / "pretraining.jsonl").read_text().splitlines()[-1])
        assert logged["held"] == pytest.approx(result.held_losses, abs=1e-5)
        assert "sentinel-2" in read_card(out / name).training["losses held back"]
        pictures.append((out / name / "reconstruction.png").read_bytes())
    assert pictures[0] == pictures[1]
    # What is learned from has no part in the picture's first row, the images as they are.
    with Image.open(out / "first" / "reconstruction.png") as picture:
        before = np.asarray(picture)[:52]
    rows.pop(0)
    (tiles / "index.json").write_text(json.dumps(rows))
    run_job(spec(tiles, out / "fewer"), JobContext(settings))
    with Image.open(out / "fewer" / "reconstruction.png") as picture:
        assert np.array_equal(np.asarray(picture)[:52], before)


def test_the_card_says_what_was_learned_from(tiles, make_raster, settings, out) -> None:
    run_job(spec(tiles, out / "image"), JobContext(settings))
    card = read_card(out / "image")
    assert "from 3 images, without labels" in card.description
    assert card.training["split"] == "train"
    for number in range(3):
        make_raster(f"tiles/t{number}.map.tif", np.ones((40, 40), np.uint8))
    listed = {"cover": {"suffix": ".map.tif", "kind": "categorical", "codes": [1, 2]}}
    (tiles / "modalities.json").write_text(json.dumps(listed))
    run_job(spec(tiles, out / "map"), JobContext(settings))
    assert "from 3 images, and to tell cover of them: it maps" in read_card(out / "map").description


def problem(request, settings) -> str:
    (error,) = plan_job(request, settings).errors
    return f"{error.message} {error.advice}"


def test_what_stands_in_the_way_is_said_before(tiles, settings, out) -> None:
    folder = out / "encoder"
    assert plan_job(spec(tiles, folder), settings).ready
    assert "no pretraining method 'dream'" in problem(spec(tiles, folder, method="dream"), settings)
    assert "No model 'none'" in problem(spec(tiles, folder, like="none"), settings)
    assert "holds no index.json" in problem(spec(out, folder), settings)
    assert "cut into patches of 8" in problem(spec(tiles, folder, crop=20), settings)
    assert "not resnet18" in problem(spec(tiles, folder, encoder="resnet18"), settings)
    assert "there is none of that name" in problem(spec(tiles, folder, encoder="x"), settings)
    assert "in 3 equal parts" in problem(spec(tiles, folder, accumulate=3), settings)
    assert "no full path" in problem(spec(tiles, "encoder"), settings)
    assert "comes with MMEarth" in problem(spec(tiles, out / "tiny"), settings)
    assert "option dreams" in problem(spec(tiles, folder, options={"dreams": 1}), settings)
    folder.mkdir()
    assert plan_job(spec(tiles, folder), settings).ready
    (folder / "model.json").write_text("days of computing")
    assert "holds files already" in problem(spec(tiles, folder), settings)


def test_two_runs_do_not_write_the_same_encoder(tiles, settings, out) -> None:
    with (
        taken(out / "encoder", settings),
        pytest.raises(OutputError, match=r"Another run is writing .*encoder"),
    ):
        run_job(spec(tiles, out / "encoder"), JobContext(settings))


def test_an_interrupted_command_goes_on_where_it_stopped(tiles, settings, out) -> None:
    variables = {
        f"MMEARTH_{name.upper()}": str(getattr(settings, name))
        for name in ("home", "models", "device", "threads")
    }
    command = [
        sys.executable, "-m", "mmearth", "pretrain", "--data", str(tiles), "--like", "tiny",
        "--output", str(out / "encoder"), "--encoder", "mmearth-zepto-p8", "--steps", "200",
        "--batch", "2", "--crop", "16", "--option", "decoder-width=16",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has made them deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    begin = time.monotonic()
    while not any(log.read_text() for log in settings.work_folder.glob("*/pretraining.jsonl")):
        assert process.poll() is None and time.monotonic() - begin < 60
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert len(list(settings.work_folder.glob("*/epoch.pt"))) == 1
    assert not (out / "encoder").exists()


def test_command(tiles, settings, out, capsys, monkeypatch) -> None:
    for name in ("home", "models", "device", "threads"):
        monkeypatch.setenv(f"MMEARTH_{name.upper()}", str(getattr(settings, name)))
    command = [
        "pretrain", "--data", str(tiles), "--output", str(out / "encoder"), "--like", "tiny",
        "--encoder", "mmearth-zepto-p8", "--steps", "2", "--batch", "2", "--crop", "16",
        "--modalities", "sentinel-2", "--option", "decoder_width=16",
    ]  # fmt: skip
    assert main([*command, "--plan"]) == 0
    assert not (out / "encoder").exists()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 steps on 3 images" in said and f"model: {out / 'encoder'}" in said
    assert {path.name for path in (out / "encoder").iterdir()} == FILES
    assert main([*command, "--plan"]) == 1
    assert "holds files already" in capsys.readouterr().out
    command[command.index("--output") + 1] = str(out / "another")
    assert main([*command, "--batch", "1"]) == 1
    assert "--batch: Input should be greater than or equal to 2, found 1" in capsys.readouterr().err
    assert main([*command, "--option", "mask_ratio=2"]) == 1
    assert "option mask_ratio of the method mp-mae: Input should be less" in capsys.readouterr().err
    assert main([*command, "--option", "mask_ratio"]) == 1
    assert "expected NAME=VALUE" in capsys.readouterr().err
