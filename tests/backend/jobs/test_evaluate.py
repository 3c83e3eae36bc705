"""Evaluation as a job: from labelled tiles to tables, figures and a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rasterio
from pages import Page, values
from pydantic import ValidationError

from mmearth import api
from mmearth.cli import main
from mmearth.errors import InputError, JobCancelled
from mmearth.evaluation.cells import Cell, Finished, keep, read_finished
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job

EVERY = ["knn", "linear", "frozen", "adapter", "full"]


def spec(tiles: Path, folder: Path, **fields) -> api.EvaluateSpec:
    labels = fields.pop("labels", {"field": "cover"})
    usual = {
        "encoders": [
            api.EncoderChoice(model="tiny"),
            api.EncoderChoice(model="tiny", random=True, name="random"),
        ],
        "seeds": 2, "steps": 6, "batch": 4, "crop": 16,
    }  # fmt: skip
    return api.EvaluateSpec(
        data=str(tiles),
        labels=api.TileLabels(**labels),
        outputs=api.EvaluateOutputs(folder=str(folder)),
        **{**usual, **fields},
    )


@pytest.fixture
def tiles(make_tiles) -> Path:
    return make_tiles(24, mixed=False)


def test_all_protocols_and_what_they_leave(tiles, settings, out) -> None:
    folder = out / "results"
    request = spec(tiles, folder, protocols=EVERY, shares=[0.5, 1.0])
    assert len(plan_job(request, settings).cells) == 2 * 2 * 5 * 2
    result = run_job(request, JobContext(settings))
    assert (result.score, result.classes) == ("accuracy", ["dark", "grey", "light"])
    assert len(result.rows) == 2 * 5 * 2 and result.warnings == []
    by = {(row.encoder, row.protocol, row.share): row for row in result.rows}
    assert by["tiny", "knn", 1.0].scores["accuracy"] == 1.0  # brightness tells them apart
    assert by["tiny", "knn", 1.0].trained == 0 and by["tiny", "knn", 0.5].images == 9
    assert by["tiny", "full", 1.0].trained > by["tiny", "adapter", 1.0].trained > 0
    assert not list(settings.work_folder.glob("evaluation-*"))

    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        known = by[row["encoder"], row["protocol"], float(row["share"])]
        assert float(row["accuracy_mean"]) == pytest.approx(known.scores["accuracy"], abs=1e-6)
        assert float(row["F1_sd"]) == pytest.approx(known.spreads["F1"], abs=1e-6)
    facts = json.loads((folder / "results.json").read_text())
    steps = {(one["cell"]["protocol"], tuple(one["steps"])) for one in facts["cells"]}
    every = tuple(range(1, 7))
    assert len(facts["cells"]) == 40
    assert steps == {("knn", (0,)), *((name, every) for name in EVERY[1:])}
    figures = {path.stem for path in folder.glob("*.svg")}
    assert figures == {"parameters", *(f"labels-{one}" for one in EVERY)} | {
        f"convergence-{one}" for one in EVERY[1:]
    }
    for path in folder.glob("*.svg"):
        ElementTree.parse(path)
    page = Page((folder / "report.html").read_text())
    assert page.tags.count("svg") == len(figures)
    assert "random Linear probe 50" in page.words and "Parameter efficiency" in page.words
    assert not [value for value in values(page, "src", "href") if not value.startswith("#")]


def test_pixels_and_several_labels(make_tiles, settings, out) -> None:
    tiles = make_tiles(24)
    protocols = ["knn", "linear", "frozen"]
    labels = {"suffix": ".label.tif"}
    request = spec(tiles, out / "pixels", protocols=protocols, labels=labels, seeds=1, steps=40)
    result = run_job(request, JobContext(settings))
    assert (result.score, result.classes) == ("mIoU", ["1", "2", "3"])
    assert all(row.scores["mIoU"] > 0.5 for row in result.rows if row.encoder == "tiny")
    request = spec(tiles, out / "multi", labels={"field": "shows"}, seeds=1, steps=40)
    result = run_job(request, JobContext(settings))
    assert result.score == "mAP" and set(result.rows[0].scores) == {"mAP", "F1"}
    assert result.rows[0].spreads == {"mAP": 0.0, "F1": 0.0}


def test_a_cancelled_run_goes_on_and_ends_the_same(tiles, settings, out) -> None:
    fields = {"protocols": ["linear", "full"]}
    whole = run_job(spec(tiles, out / "whole", **fields), JobContext(settings))
    stages: list[str] = []

    def cancelled() -> bool:
        return len(stages) > 3

    context = JobContext(settings, lambda progress, stage, eta: stages.append(stage), cancelled)
    with pytest.raises(JobCancelled):
        run_job(spec(tiles, out / "again", **fields), context)
    assert not (out / "again").exists()
    (work,) = settings.work_folder.glob("evaluation-*")
    kept = (work / "cells.jsonl").read_text().splitlines()
    assert len(kept) == 2
    with (work / "cells.jsonl").open("a") as file:
        file.write(kept[0][:40])  # as if the machine had gone down
    stages = []
    context = JobContext(settings, lambda progress, stage, eta: stages.append(stage))
    again = run_job(spec(tiles, out / "again", **fields), context)
    assert len(stages) == 1 + 8 - 2 and stages[1].endswith("3 of 8 cells")
    assert again.rows == whole.rows


def test_what_follows_a_line_that_was_cut_off_is_kept(tmp_path) -> None:
    path = tmp_path / "cells.jsonl"
    cells = [
        Finished(Cell("tiny", "knn", 1.0, seed), 4, 0, (0,), ({"accuracy": 0.5},))
        for seed in range(3)
    ]
    keep(path, cells[0])
    with path.open("a") as file:
        file.write('{"cell": {"enc')
    for cell in cells[1:]:
        keep(path, cell)
    assert list(read_finished(path)) == [cell.cell for cell in cells]


def test_masks_of_0_and_1_are_two_classes(make_tiles, settings, out) -> None:
    tiles = make_tiles(24)
    for path in tiles.glob("*.label.tif"):
        with rasterio.open(path, "r+") as raster:
            raster.write((raster.read() == 2).astype(raster.dtypes[0]))
            raster.nodata = None
    labels = {"suffix": ".label.tif"}
    request = spec(tiles, out / "it", protocols=["knn"], labels=labels, seeds=1)
    assert run_job(request, JobContext(settings)).classes == ["0", "1"]
    with pytest.raises(ValidationError, match="0 cannot be a class and stand for no label"):
        spec(tiles, out / "it", labels={**labels, "codes": [0, 1], "nodata": 0})


def test_what_is_refused(tiles, relabel, settings, out) -> None:
    def errors(**fields) -> str:
        return " ".join(one.message for one in plan_job(spec(tiles, out / "it", **fields), settings)
                        .errors)  # fmt: skip

    assert "do not suit tiny" in errors(crop=20)
    assert "the same name: tiny" in errors(encoders=[api.EncoderChoice(model="tiny")] * 2)
    assert "No model 'nothing'" in errors(encoders=[api.EncoderChoice(model="nothing")])
    (out / "it").mkdir()
    (out / "it" / "letter.txt").touch()
    assert "holds other files than an evaluation's" in errors()
    (out / "it" / "letter.txt").unlink()
    relabel(tiles, [3], group="t00")
    with pytest.raises(InputError, match="in both parts"):
        run_job(spec(tiles, out / "it"), JobContext(settings))
    assert not any((out / "it").iterdir())


def test_on_the_command_line(tiles, tiny_model, settings, out, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MMEARTH_HOME", str(settings.home))
    monkeypatch.setenv("MMEARTH_THREADS", "1")
    folder = out / "results"
    words = [
        "evaluate", "--data", str(tiles), "--output", str(folder), "--field", "cover",
        "--encoder", f"own={tiny_model.folder}", "--random", "tiny", "--shares", "0.5,1",
        "--seeds", "1", "--crop", "16", "--steps", "6",
    ]  # fmt: skip
    assert main([*words, "--plan"]) == 0
    planned = capsys.readouterr().out
    assert "own, knn, 50% of the labels, seed 0" in planned and "8 cells" in planned
    assert not folder.exists()
    assert main(words) == 0
    assert "own, knn, 100% of the labels: accuracy 1.000 ± 0.000" in capsys.readouterr().out
    assert (folder / "report.html").is_file()
    assert main([*words[:-1], "0"]) == 1
    assert "--steps:" in capsys.readouterr().err
    for wrong in ("lots", "1,10,100", "0"):
        assert main([*words, "--shares", wrong]) == 1
        assert "--shares: expected numbers above 0, up to 1" in capsys.readouterr().err
