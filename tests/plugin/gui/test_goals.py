"""The first question of the panel: what is pressed decides model, results and words."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import DATA
from osgeo import gdal
from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QPushButton

from qgis_mmearth import shared
from qgis_mmearth.gui.goals import GOALS

TILE = str(DATA / "terramind_l2a.tif")


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


@pytest.fixture
def tile(iface):
    """A small scene as the active layer."""
    return show(iface, TILE)


def show(iface, path, name="Tile"):
    layer = QgsRasterLayer(str(path), name)
    QgsProject.instance().addMapLayer(layer)
    iface.setActiveLayer(layer)
    return layer


def button(dock, goal) -> QPushButton:
    return dock.findChild(QPushButton, f"{goal}Button")


def press(dock, goal, wait):
    QTest.mouseClick(button(dock, goal), Qt.MouseButton.LeftButton)
    wait(lambda: dock.runButton.isEnabled() and not dock.map.planner.asking)


def pressed(dock):
    return [goal.id for goal in GOALS if button(dock, goal.id).isChecked()]


def run(dock, wait):
    dock.runButton.click()
    wait(lambda: dock.map._job is None)
    return QgsProject.instance().layerTreeRoot().children()[0]


def test_land_cover_is_ready_unasked(open_panel, tile, wait):
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    assert pressed(dock) == ["landcover"]
    assert dock.goalLabel.text().startswith("You get a map of 9 classes")


def test_a_true_colour_picture_is_mapped_unasked(iface, open_panel, wait):
    """No land cover can be had of three colours, but the forest can."""
    show(iface, DATA / "amazon_rgb.tif", "Picture")
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    assert pressed(dock) == ["treemask"]
    assert dock.modelCombo.currentData() == "forest-rgb/treemask"
    assert dock.statusLabel.text() == ""
    press(dock, "treedensity", wait)
    assert dock.modelCombo.currentData() == "forest-rgb/treemask"
    assert run(dock, wait).name() == "Picture – Tree density (Forest in true colour)"


def bands_of_tile(path, change):
    """Write the tile with the bands that ``change`` makes of their names."""
    source = gdal.Open(TILE)
    numbers = range(1, source.RasterCount + 1)
    names = [source.GetRasterBand(number).GetDescription() for number in numbers]
    wanted = [names.index(name) + 1 for name in change(names)]
    gdal.Translate(str(path), source, bandList=wanted)
    return path


def test_a_smaller_model_is_not_taken_in_silence(iface, open_panel, wait, tmp_path):
    few = bands_of_tile(tmp_path / "few.tif", lambda names: [n for n in names if n != "B12"])
    show(iface, few)
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    assert dock.modelCombo.currentData() == "landcover-s2-10m/landcover"
    assert "would read more, but the rasters lack B12" in dock.statusLabel.text()


def test_a_band_found_twice_is_asked_for(iface, open_panel, wait, tmp_path):
    show(iface, bands_of_tile(tmp_path / "twice.tif", lambda names: [*names, "B05"]))
    dock = open_panel()
    wait(lambda: "more than once: B05" in dock.statusLabel.text())
    assert dock.modelCombo.currentData() == "landcover-s2/landcover"
    assert not dock.runButton.isEnabled()


def test_density_by_pixel_and_cell(open_panel, tile, wait, tmp_path):
    dock = open_panel()
    dock.folderWidget.setFilePath(str(tmp_path))
    wait(dock.runButton.isEnabled)
    press(dock, "treedensity", wait)
    assert "percent of each pixel and of cells of 100 m" in dock.goalLabel.text()
    dock.cellSpin.setValue(200)
    assert "cells of 200 m" in dock.goalLabel.text()
    wait(dock.runButton.isEnabled)
    group = run(dock, wait)
    assert group.name() == "Tile – Tree density (Sentinel-2 land cover)"
    layers = {node.name(): node for node in group.children()}
    assert set(layers) == {"Tree density", "Mean by cell", "Area table"}
    assert layers["Tree density"].isVisible() and not layers["Mean by cell"].isVisible()
    assert layers["Mean by cell"].layer().rasterUnitsPerPixelX() == 200
    names = {"Tile_treedensity.tif", "Tile_treedensity_cells.tif", "Tile_treedensity_areas.csv"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    with (tmp_path / "Tile_treedensity_areas.csv").open() as file:
        trees = next(csv.DictReader(file))
    shown = dock.resultTable.item(0, 1).text().replace(",", "")
    assert float(shown) == pytest.approx(float(trees["cover_ha"]), abs=0.006)
    assert trees["cover_ha"] != trees["area_ha"]


def test_no_cells_if_none_are_wanted(open_panel, tile, wait):
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    press(dock, "treedensity", wait)
    dock.cellSpin.setValue(0)
    assert "cells" not in dock.goalLabel.text()
    wait(dock.runButton.isEnabled)
    assert "Mean by cell" not in [node.name() for node in run(dock, wait).children()]


def test_a_scene_in_degrees_is_mapped_without_cells(iface, open_panel, tmp_path, wait):
    degrees = str(tmp_path / "degrees.tif")
    gdal.Warp(degrees, TILE, dstSRS="EPSG:4326")
    show(iface, degrees)
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    press(dock, "treedensity", wait)
    assert "Cells need rasters in metres" in dock.goalLabel.text()
    assert "Tree density" in [node.name() for node in run(dock, wait).children()]


def test_cells_that_are_too_small_are_told_before_the_run(open_panel, tile, wait):
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    press(dock, "treedensity", wait)
    dock.cellSpin.setValue(5)
    wait(lambda: "too small for pixels of 10 m" in dock.statusLabel.text())
    assert not dock.runButton.isEnabled()


def test_a_product_chosen_by_hand_presses_its_button(open_panel, tile, wait):
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    index = dock.modelCombo.findData("landcover-s2/treemask")
    dock.modelCombo.setCurrentIndex(index)
    dock.modelCombo.activated.emit(index)
    assert pressed(dock) == ["treemask"] and "trees and everything else" in dock.goalLabel.text()
    wait(dock.runButton.isEnabled)
    press(dock, "landcover", wait)
    assert dock.modelCombo.currentData() == "landcover-s2/landcover"


@pytest.fixture
def model_of_another_kind(home, own_model):
    """A model whose only product no button stands for, and that needs a band of Level-1C."""
    folder = home / "models" / "aaa"
    shutil.copytree(Path(own_model).parent / "own-model", folder)
    card = json.loads((folder / "model.json").read_text("utf-8"))
    card["id"] = "aaa"
    properties = card["properties"]
    for bands in (properties["bands"], properties["mlm:input"][0]["bands"]):
        bands[0] = {**bands[0], "name": "B10"} if isinstance(bands[0], dict) else "B10"

    def install(product):
        properties["mmearth:products"] = [{**properties["mmearth:products"][0], "id": product}]
        (folder / "model.json").write_text(json.dumps(card), "utf-8")
        shared.events.models_changed.emit()

    return install


def test_no_button_for_a_product_of_ones_own(open_panel, tile, wait, model_of_another_kind):
    model_of_another_kind("orchards")
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    assert pressed(dock) == ["landcover"]
    index = dock.modelCombo.findData("aaa/orchards")
    dock.modelCombo.setCurrentIndex(index)
    dock.modelCombo.activated.emit(index)
    assert pressed(dock) == [] and "9 classes" in dock.goalLabel.text()
    assert dock.map._outputs() == ["classes", "table"]


def test_of_several_models_the_one_that_fits(open_panel, tile, wait, model_of_another_kind):
    model_of_another_kind("landcover")
    dock = open_panel()
    assert shared.models()[0].id == "aaa"
    wait(dock.runButton.isEnabled)
    press(dock, "landcover", wait)
    assert dock.modelCombo.currentData() == "landcover-s2/landcover"
    # Whoever wants the other one gets it, with what stands in its way.
    index = dock.modelCombo.findData("aaa/landcover")
    dock.modelCombo.setCurrentIndex(index)
    dock.modelCombo.activated.emit(index)
    wait(lambda: "B10" in dock.statusLabel.text())
    assert dock.modelCombo.currentData() == "aaa/landcover" and not dock.runButton.isEnabled()


def test_what_no_model_maps_cannot_be_pressed(open_panel):
    models = [model for model in shared.models() if model.id == "landcover-s2"]
    only = [m._replace(products=m.products[:1]) for m in models]
    dock = open_panel()
    assert button(dock, "treedensity").isEnabled()
    dock.map.goals.offer(product.id for model in only for product in model.products)
    assert button(dock, "landcover").isEnabled() and not button(dock, "treemask").isEnabled()
    assert "Models…" in button(dock, "treemask").toolTip()


def test_a_scene_unlike_the_training_images_is_told(open_panel, tile, wait):
    dock = open_panel()
    wait(dock.runButton.isEnabled)
    assert dock.statusLabel.text() == ""
    dock.offsetSpin.setValue(0.3)
    wait(lambda: "brighter" in dock.statusLabel.text() and dock.runButton.isEnabled())
    words = re.sub(r"<[^>]+>", "", dock.statusLabel.text())
    assert "than the images that the model was trained on" in words and "Check scale" in words


def test_disturbance_has_a_window_of_its_own(open_panel, wait):
    before = set(QApplication.topLevelWidgets())
    goals = open_panel().map.goals
    assert not goals.disturbance.isHidden()
    goals.disturbance.click()

    def dialogs():
        new = set(QApplication.topLevelWidgets()) - before
        return [w for w in new if w.isVisible() and "disturbance" in w.windowTitle().lower()]

    wait(dialogs)
    [dialog] = dialogs()
    assert not dialog.isModal() and dialog.algorithm().id() == "mmearth:disturbance"
    dialog.close()


def test_what_processing_lacks_is_not_offered(open_panel, monkeypatch):
    monkeypatch.setattr("qgis_mmearth.gui.disturbance.DISTURBANCE", "mmearth:switched_off")
    assert open_panel().map.goals.disturbance.isHidden()
