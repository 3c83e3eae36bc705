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
from qgis_mmearth.link.log import Log


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; small networks need one thread."""
    settings.write("threads", 1)
    return kept_home


@pytest.fixture
def tiles(tmp_path):
    """Four corners of the sample scene, and their list."""
    folder, rows = tmp_path / "tiles", []
    folder.mkdir()
    for number in range(4):
        rows.append({"file": f"t{number}.tif", "level": "L2A"})
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
    assert any("error" in words and "at first" in words for words in feedback.said)
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
    assert [name for name, _ in dock.curve.last()]
    dock.build.click()
    wait(lambda: plugin.dock.teach.baseCombo.currentData() == "my-archive")
    assert plugin.dock.tabs.currentWidget() is plugin.dock.teachTab


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
    row = json.dumps({"step": 20, "losses": {"image": 0.5}, "loss": 0.5}) + "\n"
    path.write_text(row + row[:10])
    assert log.look(path) and [one.step for one in log.rows] == [20]
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
