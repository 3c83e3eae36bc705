"""Fixtures for tests that run inside a real QGIS (see tests/run_pytest.py)."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QEvent, Qt
from qgis.PyQt.QtWidgets import QApplication
from qgis.utils import iface as qgis_iface
from qgis.utils import plugins

from qgis_mmearth import settings, shared
from qgis_mmearth.gui.dock import MMEarthDock
from qgis_mmearth.link.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
SCENE = ROOT / "resources" / "sample" / "thailand_20200223.tif"
DATA = ROOT / "tests" / "data"
EMBEDDED = sorted(folder.name for folder in (ROOT / "resources" / "models").iterdir())
INSTALLED = Environment(Path(os.environ["MMEARTH_HOME"]), ROOT / "backend").python


@pytest.fixture
def iface():
    """QGIS's own interface."""
    return qgis_iface


@pytest.fixture
def plugin():
    """The plugin as QGIS loaded it."""
    return plugins["qgis_mmearth"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of the backend's own, with the environment that ``make setup`` made."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("MMEARTH_HOME", str(folder))
    monkeypatch.setenv("MMEARTH_PYTHON", str(INSTALLED))
    shared.forget_backend()  # also what a late task of the test before has made meanwhile
    yield folder
    shared.forget_backend()
    shutil.rmtree(folder / "models", ignore_errors=True)
    shared.events.models_changed.emit()  # no test sees another's models


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    """A home for all tests of a module whose backend may stay up from one to the next.

    It is in use between them, too: a late task of one would make a backend of another home,
    and all that follow would share it.
    """
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMEARTH_HOME", str(folder))
        patch.setenv("MMEARTH_PYTHON", str(INSTALLED))
        shared.forget_backend()
        yield folder
        shared.forget_backend()


@pytest.fixture
def kept_home(module_home):
    """The module's home; models that a test puts there go at its end."""
    yield module_home
    shutil.rmtree(module_home / "models", ignore_errors=True)
    shared.events.models_changed.emit()


@pytest.fixture
def panel_home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


@pytest.fixture
def open_panel(iface, panel_home):
    """Return a function that opens the panel; it is closed at the end."""
    docks = []

    def open_it() -> MMEarthDock:
        dock = MMEarthDock(iface)
        iface.mainWindow().addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        docks.append(dock)
        return dock

    yield open_it
    for dock in docks:
        dock.shut_down()
        iface.mainWindow().removeDockWidget(dock)
        dock.deleteLater()
    # What is to be deleted waits for an event loop; here there is none but this.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture(autouse=True)
def fresh_settings():
    """No test sees another's settings."""
    before = {name: settings.read(name) for name in settings.KEYS}
    yield
    for name, value in before.items():
        settings.write(name, value)


@pytest.fixture(autouse=True)
def fresh_project():
    """No test sees another's layers."""
    QgsProject.instance().clear()
    yield
    for layer in QgsProject.instance().mapLayers().values():
        if isinstance(layer, QgsVectorLayer):
            layer.rollBack()  # or QGIS would ask whether to save what was drawn
    QgsProject.instance().clear()
    QApplication.processEvents()


@pytest.fixture
def scene_layer():
    """The sample scene as a layer of the project, active."""
    layer = QgsRasterLayer(str(SCENE), "Thailand")
    assert layer.isValid()
    QgsProject.instance().addMapLayer(layer)
    qgis_iface.setActiveLayer(layer)
    return layer


@pytest.fixture
def small_scene(tmp_path):
    """A corner of the sample scene, quick to map."""
    path = tmp_path / "corner.tif"
    window = ["-srcwin", "100", "100", "200", "180"]
    subprocess.run(["gdal_translate", "-q", *window, str(SCENE), str(path)], check=True)
    return path


@pytest.fixture
def own_model(tmp_path):
    """A zip file of a model of the user's own, beside its folder ``own-model``."""
    folder = tmp_path / "own-model"
    shutil.copytree(ROOT / "resources" / "models" / "landcover-s2", folder)
    card = json.loads((folder / "model.json").read_text("utf-8"))
    card["id"], card["properties"]["title"] = "own-model", "My <own> model"
    (folder / "model.json").write_text(json.dumps(card), "utf-8")
    return shutil.make_archive(str(tmp_path / "own"), "zip", tmp_path, "own-model")


def wait_until(condition, seconds=60.0):
    """Let QGIS work until a condition holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("It did not come about in time.")


@pytest.fixture
def wait():
    """The function ``wait_until``."""
    return wait_until
