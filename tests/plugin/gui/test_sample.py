"""The sample: one click opens it, and what it holds can be mapped and compared."""

import shutil
from pathlib import Path

import pytest
from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from qgis_mmearth.layers import scenes

CHECKED, UNCHECKED = Qt.CheckState.Checked, Qt.CheckState.Unchecked
NAMES = ["Thailand 2020-02-23", "Boadella 2021-07-21", "Boadella 2020-06-21"]


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


@pytest.fixture
def dock(open_panel):
    """The panel with the sample opened."""
    dock = open_panel()
    QTest.mouseClick(dock.sampleButton, Qt.MouseButton.LeftButton)
    return dock


def tick(dock, place):
    """Tick the rasters of a place and no others."""
    for row in range(dock.layersWidget.count()):
        item = dock.layersWidget.item(row)
        item.setCheckState(CHECKED if item.text().startswith(place) else UNCHECKED)


def window(dock, wait):
    """Press the button of disturbance and return the window that opens."""
    before = set(QApplication.topLevelWidgets())
    dock.map.goals.disturbance.click()

    def new():
        found = set(QApplication.topLevelWidgets()) - before
        return [w for w in found if w.isVisible() and "disturbance" in w.windowTitle().lower()]

    wait(new)
    return new()[0]


def test_one_click_opens_it_and_a_second_one_adds_nothing(dock, iface, wait):
    project = QgsProject.instance()
    assert "Boadella" in iface.messageBar().currentItem().text()
    QTest.mouseClick(dock.sampleButton, Qt.MouseButton.LeftButton)
    [group] = project.layerTreeRoot().children()
    assert [node.name() for node in group.children()] == NAMES
    assert all(layer.isValid() for layer in project.mapLayers().values())
    assert dock.layers.ticked_names() == NAMES[:1]
    wait(lambda: project.crs().authid() == "EPSG:3857")
    wait(dock.runButton.isEnabled)
    scene = project.mapLayersByName(NAMES[0])[0]
    assert scene.renderer().type() == "multibandcolor" and iface.activeLayer() == scene


def test_a_sample_written_otherwise_is_known_again(open_panel):
    """As QGIS writes it on some systems when a project is saved."""
    dock = open_panel()
    path = Path(scenes.THAILAND.path)
    source = f"{path.parent}/./{path.name}"
    QgsProject.instance().addMapLayer(QgsRasterLayer(source, "mine"))
    QTest.mouseClick(dock.sampleButton, Qt.MouseButton.LeftButton)
    names = [layer.name() for layer in QgsProject.instance().mapLayers().values()]
    assert sorted(names) == sorted(["mine", *NAMES[1:]])


def test_a_sample_that_is_gone_at_once_is_not_shown(open_panel):
    dock = open_panel()
    dock.sampleButton.click()
    QgsProject.instance().removeAllMapLayers()
    QApplication.processEvents()
    assert QgsProject.instance().crs().authid() != scenes.BOTH_PLACES


def test_a_project_of_ones_own_keeps_its_projection(open_panel, scene_layer, wait):
    project = QgsProject.instance()
    QApplication.processEvents()  # in which QGIS chooses a projection of its own
    project.setCrs(scene_layer.crs())
    dock = open_panel()
    dock.sampleButton.click()
    wait(lambda: dock.iface.activeLayer() == scene_layer)
    # The scene was there already, so it is not added again.
    assert project.crs() == scene_layer.crs() and len(project.mapLayers()) == 3


def test_disturbance_opens_with_the_dates_that_are_ticked(dock, wait):
    tick(dock, "Boadella")
    wait(lambda: "seem to be of several dates" in dock.statusLabel.text())
    assert "Forest disturbance…" in dock.statusLabel.text() and not dock.runButton.isEnabled()
    dialog = window(dock, wait)
    parameters = dialog.createProcessingParameters()
    dialog.close()
    assert [path[-12:-4] for name in ("BEFORE", "AFTER") for path in parameters[name]] == [
        "20200621", "20210721"
    ]  # fmt: skip
    assert not parameters["BETWEEN"] and parameters["MODEL"] == "landcover-s2"


def test_a_date_in_between_and_an_area_are_taken_along(dock, tmp_path, wait):
    path = tmp_path / "wood_2020-12-24.tif"
    layer = QgsProject.instance().mapLayersByName(NAMES[1])[0]
    shutil.copyfile(layer.source(), path)
    QgsProject.instance().addMapLayer(QgsRasterLayer(str(path), "Boadella at Christmas"))
    tick(dock, "Boadella")
    dock.extentWidget.setOutputCrs(layer.crs())
    dock.extentWidget.setOutputExtentFromUser(layer.extent(), layer.crs())
    dialog = window(dock, wait)
    parameters = dialog.createProcessingParameters()
    dialog.close()
    assert [str(path)] == parameters["BETWEEN"]
    assert "EPSG:4326" in str(parameters["EXTENT"])
