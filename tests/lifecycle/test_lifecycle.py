"""What the plugin adds to QGIS, and that all of it goes again.

In a QGIS of its own: switching a plugin off drops its modules, which other tests hold on to.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QEvent
from qgis.PyQt.QtWidgets import QApplication, QDockWidget
from qgis.utils import iface, plugins, startPlugin, unloadPlugin

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("requests", "numpy", "torch", "processing.core", "qgis_mmearth.gui.dock")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the backend's own, with the environment that ``make setup`` made."""
    from qgis_mmearth.link.environment import Environment

    python = Environment(Path(os.environ["MMEARTH_HOME"]), ROOT / "backend").python
    shared().forget_backend()
    monkeypatch.setenv("MMEARTH_HOME", str(tmp_path))
    monkeypatch.setenv("MMEARTH_PYTHON", str(python))
    yield
    shared().forget_backend()


def shared():
    """Return the plugin's module as it is loaded now."""
    import qgis_mmearth.shared

    return qgis_mmearth.shared


def plugin():
    """Return the plugin as it is loaded now."""
    return plugins["qgis_mmearth"]


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        QApplication.processEvents()
        # What is to be deleted waits for an event loop; here there is none but this.
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.01)
    assert condition()


def test_switching_on_opens_and_starts_nothing():
    reload()
    assert iface.mainWindow().findChild(QDockWidget, "MMEarthDock") is None
    assert not shared().backend().running


def test_importing_the_plugin_imports_nothing_heavy():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "import qgis.core, qgis.PyQt.QtGui; before = set(sys.modules)\n"
        "import qgis_mmearth.plugin; print('\\n'.join(set(sys.modules) - before))\n"
    )
    loaded = subprocess.check_output(["/usr/bin/python3", "-c", script, str(ROOT)], text=True)
    assert not [name for name in loaded.split() if name.startswith(HEAVY)]


def test_menu_toolbar_and_settings():
    menus = [action for action in iface.pluginMenu().actions() if "MMEarth" in action.text()]
    assert len(menus) == 1
    names = [action.objectName() for action in menus[0].menu().actions()]
    assert names == [
        "mmearthPanel",
        "mmearthModels",
        "mmearthPretrain",
        "mmearthSettings",
        "mmearthHelp",
    ]
    icons = [action.objectName() for action in iface.pluginToolBar().actions()]
    assert icons.count("mmearthPanel") == 1


def test_panel_opens_and_closes_by_its_action():
    action = plugin()._actions[0]
    action.trigger()
    dock = iface.mainWindow().findChild(QDockWidget, "MMEarthDock")
    assert dock.isVisible() and action.isChecked()
    action.trigger()
    assert not dock.isVisible() and not action.isChecked()
    reload()


def test_switching_off_leaves_nothing_behind():
    plugin()._actions[0].trigger()
    shared().backend().client()
    pid = shared().backend().pid
    unloadPlugin("qgis_mmearth")
    wait_until(lambda: iface.mainWindow().findChild(QDockWidget, "MMEarthDock") is None)
    assert QgsApplication.processingRegistry().providerById("mmearth") is None
    assert not [a for a in iface.pluginMenu().actions() if "MMEarth" in a.text()]
    assert "mmearthPanel" not in [a.objectName() for a in iface.pluginToolBar().actions()]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    reload(unload=False)
    assert QgsApplication.processingRegistry().providerById("mmearth") is not None


def test_the_panel_of_a_pretraining_goes_too():
    from qgis_mmearth.link.log import Row, Told

    def panel():
        return iface.mainWindow().findChild(QDockWidget, "MMEarthPretraining")

    assert panel() is None
    events, held = shared().events, {"image": 0.8}
    rows = [Row(20, {"image": 0.9}, held), Row(40, {"image": 0.7}, held)]
    told = Told(1, "Mine", "Step 40 of 100", 100, rows, begins=True)
    events.pretraining_told.emit(told)
    assert panel().isVisible() and not panel().grab().isNull()
    panel().close()
    events.pretraining_told.emit(told._replace(begins=False))
    assert not panel().isVisible()  # whoever has closed it is left alone
    unloadPlugin("qgis_mmearth")
    wait_until(lambda: panel() is None)
    events.pretraining_told.emit(told)
    assert panel() is None
    reload(unload=False)


@pytest.mark.parametrize("moment", ["starting", "planning", "running"])
def test_switching_off_in_the_middle_of_something(moment, monkeypatch):
    """No task calls back what is gone by then."""
    errors = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    project = QgsProject.instance()
    layer = QgsRasterLayer(str(ROOT / "resources/sample/thailand_20200223.tif"), "scene")
    project.addMapLayer(layer)
    iface.setActiveLayer(layer)
    plugin()._actions[0].trigger()
    dock = iface.mainWindow().findChild(QDockWidget, "MMEarthDock")
    if moment == "planning":
        wait_until(lambda: dock.map.planner.asking, 30)
    if moment == "running":
        wait_until(dock.runButton.isEnabled, 60)
        dock.runButton.click()
        wait_until(lambda: dock.progressBar.value() > 0, 60)
    pid = shared().backend().pid
    unloadPlugin("qgis_mmearth")
    wait_until(lambda: iface.mainWindow().findChild(QDockWidget, "MMEarthDock") is None)
    manager = QgsApplication.taskManager()
    wait_until(lambda: not manager.activeTasks(), 30)
    wait_until(lambda: pid is None or not Path(f"/proc/{pid}").exists(), 10)
    project.clear()
    reload(unload=False)
    assert errors == []


def test_nothing_of_the_backend_is_in_qgis():
    shared().backend().client()
    heavy = {"torch", "rasterio", "fastapi", "mmearth", "pyogrio", "pydantic"}
    assert not heavy & set(sys.modules)


def reload(unload=True):
    """Switch the plugin off and on, as QGIS's plugin manager does."""
    import qgis.utils

    if unload:
        unloadPlugin("qgis_mmearth")
    assert qgis.utils.loadPlugin("qgis_mmearth") and startPlugin("qgis_mmearth")
    assert "qgis_mmearth" in plugins
