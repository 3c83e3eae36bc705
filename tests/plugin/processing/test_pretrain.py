"""``mmearth:pretrain``: an encoder from tiles, its curve as it grows, and what is built on it."""

import json
import re
from pathlib import Path

import processing
import pytest
from conftest import SCENE
from osgeo import gdal
from qgis.core import QgsProcessingContext, QgsProcessingException
from qgis.PyQt.QtWidgets import QApplication
from runs import Feedback, algorithm

from qgis_mmearth import settings, shared
from qgis_mmearth.gui.curve import nice_ticks
from qgis_mmearth.link.log import Log, Row, Told


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; small networks need one thread."""
    settings.write("threads", 1)
    return kept_home


@pytest.fixture
def tiles(tmp_path):
    """Four corners of the sample scene to learn from, one that is held back, and their list."""
    folder, rows = tmp_path / "tiles", []
    folder.mkdir()
    for number, part in enumerate(["train"] * 4 + ["val"]):
        rows.append({"file": f"t{number}.tif", "level": "L2A", "split": part})
        window = [100 + 60 * number, 100, 48, 48]
        gdal.Translate(str(folder / rows[-1]["file"]), str(SCENE), srcWin=window)
    (folder / "index.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def told():
    """All that a pretraining tells while the test runs."""
    found = []
    shared.events.pretraining_told.connect(found.append)
    yield found
    shared.events.pretraining_told.disconnect(found.append)


def wanted(tiles, **others):
    least = {"DATA": str(tiles), "LIKE": "landcover-s2", "ENCODER": "mmearth-zepto-p8"}
    return {**least, "STEPS": 40, "BATCH": 2, "CROP": 16, **others}


def test_an_encoder_of_ones_own_can_be_built_on(
    tiles, home, tmp_path, told, plugin, open_panel, wait
):
    feedback, output = Feedback(), tmp_path / "copy"
    parameters = wanted(tiles, NAME="My archive", OUTPUT=str(output))
    result = processing.run("mmearth:pretrain", parameters, feedback=feedback)
    assert result["MODEL"] == "my-archive" and result["OUTPUT"] == str(output)
    assert (home / "models" / "my-archive" / "model.json").is_file()
    assert any("at first" in words and "held back" in words for words in feedback.said)
    steps = [words for words in feedback.stages if "error" in words]
    assert 0 < len(steps) <= 2  # a line a row, not a line a step
    QApplication.processEvents()
    assert told[0].begins and not any(one.begins for one in told[1:])
    steps = [len(one.rows) for one in told]
    assert steps == sorted(steps) and steps[-1] == 2  # a row each 20 steps
    assert 1 in steps  # seen before it was over
    assert told[-1].model == "my-archive" and Path(told[-1].picture).is_file()
    tuning = algorithm("finetune")
    assert "my-archive" in tuning.parameterDefinition("MODEL").options()
    dock = plugin.pretraining
    assert dock is not None and dock.build.isVisibleTo(dock) and dock.title.text() == "My archive"
    drawn = dict(dock.curve.last())
    rows = [json.loads(line) for line in (output / "pretraining.jsonl").read_text().splitlines()]
    for name, held in rows[-1]["held"].items():
        assert drawn[name].held[-1] == (40, held)
        words = f"{name} {rows[-1]['losses'][name]:.3f} / {held:.3f}"
        assert dock.curve.legend()[name] == words
    dock.build.click()
    wait(lambda: plugin.dock.teach.baseCombo.currentData() == "my-archive")
    assert plugin.dock.tabs.currentWidget() is plugin.dock.teachTab


def test_two_at_once_are_shown_one_by_one(plugin, told):
    def row(step, loss):
        return Row(step, {"image": loss}, {"image": loss + 0.1})

    def tell(*of, **more):
        shared.events.pretraining_told.emit(Told(*of, **more))

    first, second = [row(20, 0.9)], [row(20, 0.5), row(40, 0.4)]
    tell(-1, "First", "Step 20 of 100", 100, first, begins=True)
    dock = plugin.pretraining
    assert dock.title.isVisible() and not dock.runs.isVisible()
    tell(-2, "Second", "Starting…", 50, [], begins=True)
    tell(-1, "First", "Step 40 of 100", 100, first)
    assert dock.stage.text() == "Starting…" and not dock.curve.last()  # the one just begun
    tell(-2, "Second", "Step 40 of 50", 50, second)
    assert dock.curve.legend() == {"image": "image 0.400 / 0.500"}
    assert dock.runs.isVisible() and not dock.title.isVisible()
    dock.runs.setCurrentIndex(dock.runs.findText("First"))
    assert dock.stage.text() == "Step 40 of 100"
    assert dock.curve.legend() == {"image": "image 0.900 / 1.000"}
    tell(-2, "Second", "Done", 50, second, over=True)
    assert dock.stage.text() == "Step 40 of 100"
    tell(-3, "Third", "Starting…", 50, [], begins=True)  # what is over makes room
    titles = [dock.runs.itemText(number) for number in range(dock.runs.count())]
    assert titles == ["First", "Third"]
    for run in (-1, -3):
        tell(run, "", "Done", 50, [], over=True)
    tell(-4, "Fourth", "Starting…", 50, [], begins=True)
    assert dock.title.text() == "Fourth" and dock.title.isVisible()
    tell(-4, "Fourth", "Done", 50, [], over=True)


def test_a_cancelled_run_goes_on(tiles, home, told):
    parameters = wanted(tiles, STEPS=60, NAME="Stopped", OPTIONS="decoder-width=64")
    feedback = Feedback(cancel_at=50)
    result, _ = algorithm("pretrain").run(parameters, QgsProcessingContext(), feedback)
    assert feedback.isCanceled() and result == {}
    assert not (home / "models" / "stopped").exists()
    assert "Run it again" in told[-1].words and not told[-1].model
    del told[:]
    result = processing.run("mmearth:pretrain", {**parameters})
    assert result["OUTPUT"] == str(home / "models" / "stopped")
    assert not list((home / "pretrained").iterdir())
    begun = [re.match(r"Step (\d+) of", one.words) for one in told]
    assert min(int(step[1]) for step in begun if step) > 20  # where the first run stopped
    steps = [row.step for row in told[-1].rows]
    assert steps == list(range(20, 61, 20))


def test_errors_of_the_backend_are_said(home, tmp_path, told):
    with pytest.raises(QgsProcessingException, match=r"holds no index\.json"):
        processing.run("mmearth:pretrain", wanted(tmp_path))
    assert "holds no index.json" in told[-1].words


def test_a_log_is_read_as_it_grows(tmp_path):
    log, path = Log(), tmp_path / "log.jsonl"
    assert not log.look(path)
    told = {"step": 20, "losses": {"image": 0.5}, "loss": 0.5, "held": {"image": 0.6}}
    row = json.dumps(told) + "\n"
    path.write_text(row + row[:10])
    assert log.look(path) and [one.step for one in log.rows] == [20]
    assert log.rows[0].held == {"image": 0.6}
    assert not log.look(path)
    path.write_text(row + row.replace("20", "40"))
    assert log.look(path) and [one.step for one in log.rows] == [20, 40]
    path.unlink()
    assert not log.look(path) and len(log.rows) == 2


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.31, 0.97), (5.0, 5.0), (-3.0, 12.0), (1e-6, 4e-6)]
)
def test_ticks_are_round_and_hold_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 7
    gaps = [ticks[n + 1] - ticks[n] for n in range(len(ticks) - 1)]
    assert max(gaps) == pytest.approx(min(gaps)) and gaps[0] > 0
