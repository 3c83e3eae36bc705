"""The panel, used as a person would: open, look, press Run."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import DATA, SCENE
from osgeo import gdal
from qgis.core import QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QColor, QWheelEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QDoubleSpinBox, QLabel, QWidget

from qgis_mmearth import settings, shared
from qgis_mmearth.gui import map_panel
from qgis_mmearth.gui.words import COLORS, color, folder_link
from qgis_mmearth.link.errors import LinkError

CHECKED, UNCHECKED = Qt.CheckState.Checked, Qt.CheckState.Unchecked


@pytest.fixture
def corner(small_scene):
    """A small scene as the active layer."""
    return add(small_scene, "Corner")


def add(path, name):
    from qgis.utils import iface

    layer = QgsRasterLayer(str(path), name)
    QgsProject.instance().addMapLayer(layer)
    iface.setActiveLayer(layer)
    return layer


def ready(dock):
    return lambda: dock.runButton.isEnabled()


def idle(dock):
    return lambda: dock.map._job is None


def marks(dock):
    return [dock.bandTable.item(row, 0).text() for row in range(dock.bandTable.rowCount())]


def chosen(dock):
    return [dock.bandTable.item(row, 2).text() for row in range(dock.bandTable.rowCount())]


def opened(dock, row):
    """Click on what a band is read from, and return the combo box that opens."""
    table = dock.bandTable
    place = table.visualItemRect(table.item(row, 2)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    return table.cellWidget(row, 2)


def words(label):
    return re.sub(r"<[^>]+>", "", label.text())


def test_object_names(open_panel):
    dock = open_panel()
    assert dock.objectName() == "MMEarthDock" and isinstance(dock, QDockWidget)
    for name in ("layersWidget", "modelCombo", "bandTable", "extentWidget", "runButton",
                 "progressBar", "statusLabel", "backendButton"):  # fmt: skip
        assert dock.findChild(QWidget, name) is not None, name


def test_three_clicks_from_layer_to_map(iface, plugin, home, corner, wait):
    """Open the panel (1), press Run (2): the map is there. Nothing else has to be touched."""
    plugin._actions[0].trigger()
    dock = plugin.dock
    try:
        wait(ready(dock))
        assert dock.layersWidget.item(0).checkState() == CHECKED
        assert dock.modelCombo.currentText().startswith("Land cover")
        assert marks(dock) == ["✔"] * 10
        assert chosen(dock) == [
            "B02",
            "B03",
            "B04",
            "B05",
            "B06",
            "B07",
            "B08",
            "B8A",
            "B11",
            "B12",
        ]
        assert re.match(r"\d+ tiles, about .*, [\d.]+ GB of memory", dock.planLabel.text())
        before = QApplication.topLevelWidgets()
        dock.runButton.click()
        assert dock.runButton.text() == "Cancel"
        wait(idle(dock))
        group = QgsProject.instance().layerTreeRoot().children()[0]
        assert group.name() == "Corner – Land cover (Sentinel-2 land cover)"
        layer = next(n.layer() for n in group.children() if n.name() == "Land cover")
        assert layer.renderer().type() == "paletted"
        assert dock.resultTable.isVisibleTo(dock) and dock.resultTable.rowCount() == 9
        assert dock.resultLabel.text() == "Corner – Land cover"
        assert "Temporary files" in words(dock.statusLabel)
        assert not [w for w in QApplication.topLevelWidgets() if w.isModal() and w not in before]
        assert iface.messageBar().currentItem() is not None
    finally:
        plugin._actions[0].trigger()


def test_area_table_can_be_copied(open_panel, corner, wait):
    dock = open_panel()
    wait(ready(dock))
    dock.runButton.click()
    wait(idle(dock))
    dock.copyButton.click()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0] == "Class\tArea (ha)\t%" and len(lines) == 10
    hectares = sum(float(line.split("\t")[1]) for line in lines[1:])
    assert hectares == pytest.approx(200 * 180 / 100, rel=0.01)


def test_every_output_that_is_ticked(open_panel, corner, wait, tmp_path):
    dock = open_panel()
    for box in (dock.polygonsCheck, dock.confidenceCheck, dock.probabilitiesCheck):
        box.setChecked(True)
    dock.findChild(QDoubleSpinBox, "minimumAreaSpin").setValue(0.2)
    folder = tmp_path / "Ergebnisse für Zoë"
    folder.mkdir()
    dock.folderWidget.setFilePath(str(folder))
    wait(ready(dock))
    dock.runButton.click()
    wait(idle(dock))
    group = QgsProject.instance().layerTreeRoot().children()[0]
    assert len(group.children()) == 5
    areas = next(n.layer() for n in group.children() if n.name() == "Areas")
    assert isinstance(areas, QgsVectorLayer) and areas.featureCount() > 0
    assert len(list(folder.glob("Corner_landcover*.tif"))) == 3
    assert "Saved in Ergebnisse für Zoë." in words(dock.statusLabel)
    assert folder.as_uri() in dock.statusLabel.text() and dock.statusLabel.toolTip() == str(folder)


def test_results_lie_beside_a_saved_project(open_panel, corner, wait, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    QgsProject.instance().write(str(project / "p.qgz"))
    dock = open_panel()
    wait(ready(dock))
    dock.runButton.click()
    wait(idle(dock))
    assert (project / "Corner_landcover.tif").exists()


def test_cancel_within_two_seconds(open_panel, wait, tmp_path):
    big = tmp_path / "big.tif"
    gdal.Translate(str(big), str(SCENE), width=2048, height=2048)
    add(big, "Big")
    dock = open_panel()
    dock.folderWidget.setFilePath(str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    wait(ready(dock))
    dock.runButton.click()
    wait(lambda: dock.progressBar.value() > 3)
    assert "left" in words(dock.statusLabel)
    begin = time.monotonic()
    dock.runButton.click()
    wait(idle(dock))
    assert time.monotonic() - begin < 2
    assert "Cancelled" in words(dock.statusLabel)
    assert list((tmp_path / "out").iterdir()) == []
    assert dock.runButton.text() == "Run" and dock.runButton.isEnabled()


def test_backend_killed_in_the_middle_of_a_job(open_panel, wait, tmp_path):
    big = tmp_path / "big.tif"
    gdal.Translate(str(big), str(SCENE), width=1536, height=1536)
    add(big, "Big")
    dock = open_panel()
    wait(ready(dock))
    dock.runButton.click()
    wait(lambda: dock.progressBar.value() > 3)
    os.kill(shared.backend().pid, signal.SIGKILL)
    wait(idle(dock))
    assert "ended in the middle of the job" in words(dock.statusLabel)
    assert dock.backendButton.text() == "Start backend"
    dock.backendButton.click()
    wait(lambda: dock.backendButton.text() == "Stop backend")
    wait(ready(dock))


def test_several_layers_make_one_stack(open_panel, wait, small_scene, tmp_path):
    source = gdal.Open(str(small_scene))
    for index in range(1, source.RasterCount + 1):
        name = source.GetRasterBand(index).GetDescription()
        path = tmp_path / f"scene_{name}.tif"
        gdal.Translate(str(path), source, bandList=[index])
        add(path, name)
    dock = open_panel()
    wait(lambda: "not found" in words(dock.statusLabel))
    assert not dock.runButton.isEnabled()
    assert marks(dock).count("✖") == 9 or marks(dock).count("✖") == 10
    for row in range(dock.layersWidget.count()):
        dock.layersWidget.item(row).setCheckState(CHECKED)
    wait(ready(dock))
    assert marks(dock) == ["✔"] * 10


def test_two_layers_of_one_band_are_a_choice(open_panel, wait, corner, tmp_path):
    extra = tmp_path / "other_B04.tif"
    gdal.Translate(str(extra), str(corner.source()), bandList=[4])
    other = add(extra, "other B04")
    dock = open_panel()
    dock.layers.tick_only(corner)
    row = next(
        r for r in range(dock.layersWidget.count())
        if dock.layersWidget.item(r).text().startswith("other")
    )  # fmt: skip
    dock.layersWidget.item(row).setCheckState(CHECKED)
    wait(lambda: "found more than once" in words(dock.statusLabel))
    assert marks(dock)[2] == "≠" and not dock.runButton.isEnabled()
    combo = opened(dock, 2)
    combo.setCurrentIndex(1)
    combo.activated.emit(1)
    wait(ready(dock))
    assert marks(dock)[2] == "✔"
    assert other.isValid()


def test_suggested_order_is_confirmed_by_one_click(open_panel, wait, small_scene, tmp_path):
    path = tmp_path / "unnamed.tif"
    gdal.Translate(str(path), str(small_scene))
    dataset = gdal.Open(str(path), gdal.GA_Update)
    for index in range(1, 13):
        dataset.GetRasterBand(index).SetDescription("")
    del dataset
    add(path, "Unnamed")
    dock = open_panel()
    wait(lambda: "only by position" in words(dock.statusLabel))
    assert marks(dock) == ["?"] * 10
    assert dock.confirmButton.isVisibleTo(dock) and not dock.runButton.isEnabled()
    dock.confirmButton.click()
    wait(ready(dock))
    assert marks(dock) == ["✔"] * 10


def test_extent_is_mapped_alone(open_panel, wait, corner):
    dock = open_panel()
    wait(ready(dock))
    whole = dock.planLabel.text()
    box = corner.extent()
    part = QgsRectangle(box.xMinimum(), box.yMinimum(), box.center().x(), box.center().y())
    dock.extentWidget.setOutputExtentFromUser(part, corner.crs())
    wait(lambda: dock.runButton.isEnabled() and dock.planLabel.text() != whole)
    assert "100 × 90 pixels" in dock.planLabel.text()


def test_no_raster_is_said(open_panel, wait):
    dock = open_panel()
    wait(lambda: "Tick at least one raster" in words(dock.statusLabel))
    assert not dock.runButton.isEnabled()


def test_picture_is_said_before_run(open_panel, wait, small_scene, tmp_path):
    path = tmp_path / "picture.tif"
    gdal.Translate(str(path), str(small_scene), outputType=gdal.GDT_Byte,
                   scaleParams=[[0, 4000, 1, 255]])  # fmt: skip
    add(path, "Picture")
    dock = open_panel()
    wait(lambda: "8-bit picture" in words(dock.statusLabel))
    assert not dock.runButton.isEnabled()


def test_product_folder_added_by_hand(open_panel, wait, tmp_path):
    dock = open_panel()
    dock.layers.add_path(str(DATA / "terramind_l1c.tif"))
    wait(ready(dock))
    assert "terramind_l1c.tif" in dock.layersWidget.item(0).text()


def test_list_follows_the_project(open_panel, corner):
    dock = open_panel()
    assert dock.layersWidget.count() == 1
    assert "EPSG:32648 · 10 m · 12 bands · UInt16" in dock.layersWidget.item(0).text()
    second = add(SCENE, "Second")
    assert dock.layersWidget.count() == 2
    items = [dock.layersWidget.item(row) for row in range(2)]
    checks = {item.text().split("\n")[0]: item.checkState() for item in items}
    assert checks == {"Corner": CHECKED, "Second": UNCHECKED}
    QgsProject.instance().removeMapLayer(second.id())
    assert dock.layersWidget.count() == 1


def test_tree_mask_by_choice(open_panel, corner, wait):
    dock = open_panel()
    wait(ready(dock))
    index = next(i for i in range(dock.modelCombo.count())
                 if dock.modelCombo.itemText(i).startswith("Tree mask"))  # fmt: skip
    dock.modelCombo.setCurrentIndex(index)
    dock.modelCombo.activated.emit(index)
    wait(lambda: dock.runButton.isEnabled() and dock.map._plan is not None)
    dock.runButton.click()
    wait(idle(dock))
    assert (
        QgsProject.instance().layerTreeRoot().children()[0].name()
        == "Corner – Tree mask (Sentinel-2 land cover)"
    )
    assert dock.resultTable.rowCount() == 2


class TestBackendButton:
    @pytest.fixture
    def panel_home(self, home):
        """One of its own: here the backend comes and goes."""
        return home

    def test_not_installed(self, open_panel, corner, wait, monkeypatch):
        monkeypatch.delenv("MMEARTH_PYTHON")
        shared.forget_backend()
        dock = open_panel()
        assert dock.backendButton.text() == "Install backend"
        assert "not installed" in words(dock.backendLabel)
        assert not dock.runButton.isEnabled()
        assert marks(dock) == [""] * 10  # the model's bands are shown all the same
        wait(lambda: "First press the button “Install backend”" in words(dock.statusLabel))

    def test_outdated(self, open_panel, home, monkeypatch):
        monkeypatch.delenv("MMEARTH_PYTHON")
        shared.forget_backend()
        (home / "install.json").write_text('{"status": "ok", "lock": "of last year"}')
        assert open_panel().backendButton.text() == "Update backend"

    def test_start_and_stop(self, open_panel, corner, wait):
        dock = open_panel()
        wait(lambda: dock.backendButton.text() == "Stop backend")
        assert "Backend ready" in words(dock.backendLabel)
        dock.backendButton.click()
        assert dock.backendButton.text() == "Start backend"
        assert not shared.backend().running

    def test_failed_installation_is_told(self, open_panel, monkeypatch, wait, tmp_path):
        monkeypatch.delenv("MMEARTH_PYTHON")
        settings.write("wheels", str(tmp_path / "nowhere"))
        shared.forget_backend()
        dock = open_panel()
        dock.backendButton.click()
        wait(lambda: "does not exist" in words(dock.statusLabel))
        assert dock.backendButton.text() == "Install backend"

    def test_opening_the_panel_starts_an_installed_backend_only(self, open_panel, wait):
        dock = open_panel()
        wait(lambda: shared.backend().running)
        wait(lambda: dock.backendButton.text() == "Stop backend")


@pytest.fixture
def unnamed_pair(small_scene, tmp_path):
    """Two layers whose bands have no names: only by hand can they be told apart."""
    layers = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.tif"
        gdal.Translate(str(path), str(small_scene))
        dataset = gdal.Open(str(path), gdal.GA_Update)
        for index in range(1, dataset.RasterCount + 1):
            dataset.GetRasterBand(index).SetDescription("")
        del dataset
        layers.append(add(path, name))
    return layers


class TestBandsByHand:
    def choose_from_second(self, dock, wait):
        """Assign B02 to band 3 of the raster "second"; return a function that looks it up."""
        for row in range(dock.layersWidget.count()):
            dock.layersWidget.item(row).setCheckState(CHECKED)
        wait(lambda: dock.layers.ticked_names() and dock.map._plan is not None)
        number = dock.layers.ticked_names().index("second")
        combo = opened(dock, 0)
        index = combo.findData(f"{number}:3")
        combo.setCurrentIndex(index)
        combo.activated.emit(index)

        def look_up():
            spec = dock.map.spec()
            (choice,) = spec["bands"]
            return Path(spec["inputs"][choice["input"]]["path"]).stem, choice["index"]

        assert look_up() == ("second", 3)
        return look_up

    def test_stay_with_their_raster_when_a_layer_is_added(self, open_panel, unnamed_pair, wait):
        dock = open_panel()
        look_up = self.choose_from_second(dock, wait)
        root = QgsProject.instance().layerTreeRoot()
        first = root.findLayer(unnamed_pair[0].id())
        root.insertChildNode(0, first.clone())
        root.removeChildNode(first)
        add(SCENE, "another")
        assert dock.layers.ticked_names() == ["first", "second"]
        assert look_up() == ("second", 3)

    def test_another_order_is_planned_anew(self, open_panel, unnamed_pair, wait):
        dock = open_panel()
        self.choose_from_second(dock, wait)
        wait(lambda: dock.map._plan is not None)
        root = QgsProject.instance().layerTreeRoot()
        before = dock.layers.ticked_keys()
        upper = root.children()[0]
        root.addChildNode(upper.clone())
        root.removeChildNode(upper)
        assert dock.layers.ticked_keys() == before[::-1]
        assert dock.map._plan is None

    def test_go_with_their_raster(self, open_panel, unnamed_pair, wait):
        dock = open_panel()
        self.choose_from_second(dock, wait)
        QgsProject.instance().removeMapLayer(unnamed_pair[1].id())
        assert dock.map.spec()["bands"] == []


def test_a_failed_plan_does_not_hide_the_next(open_panel, corner, wait, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    real = map_panel.first_that_fits

    def slow_then_real(*arguments):
        if begun.is_set():
            return real(*arguments)
        begun.set()
        go_on.wait(30)
        raise LinkError("A raster cannot be opened.")

    monkeypatch.setattr(map_panel, "first_that_fits", slow_then_real)
    dock = open_panel()
    wait(begun.is_set)
    add(SCENE, "Second")
    dock.layersWidget.item(0).setCheckState(CHECKED)
    dock.layersWidget.item(0).setCheckState(UNCHECKED)
    wait(lambda: not dock.map.planner.waiting)
    go_on.set()
    wait(ready(dock))
    assert "cannot be opened" not in words(dock.statusLabel)


class TestWhatIsListed:
    def test_background_maps_are_not(self, open_panel, corner):
        source = "type=xyz&url=file:///nowhere/{z}/{x}/{y}.png&zmax=3&zmin=0"
        background = QgsRasterLayer(source, "Streets", "wms")
        assert background.isValid()
        QgsProject.instance().addMapLayer(background)
        from qgis.utils import iface

        iface.setActiveLayer(background)
        dock = open_panel()
        assert dock.layersWidget.count() == 1
        assert dock.layers.ticked_names() == ["Corner"]

    def test_a_scene_added_to_the_open_panel_is_ticked(self, open_panel, small_scene, wait):
        dock = open_panel()
        add(small_scene, "Late")
        assert dock.layers.ticked_names() == ["Late"]
        add(SCENE, "Later")
        assert dock.layers.ticked_names() == ["Late"]

    def test_who_unticks_decides(self, open_panel, corner):
        dock = open_panel()
        dock.layersWidget.item(0).setCheckState(UNCHECKED)
        add(SCENE, "Late")
        assert dock.layers.ticked_names() == []

    def test_a_new_name_is_shown(self, open_panel, corner):
        dock = open_panel()
        corner.setName("Renamed")
        assert dock.layers.ticked_names() == ["Renamed"]


def test_nothing_of_the_last_raster_stays(open_panel, corner, wait, tmp_path):
    bare = tmp_path / "bare.tif"
    gdal.Translate(str(bare), corner.source(), outputSRS="")
    dock = open_panel()
    wait(ready(dock))
    assert marks(dock) == ["✔"] * 10
    dock.layers.tick_only(add(bare, "Bare"))
    assert marks(dock) == [""] * 10
    assert dock.planLabel.text() == "" and not dock.confirmButton.isVisibleTo(dock)


class TestNarrowPanel:
    def test_long_words_do_not_widen_it(self, open_panel, corner, wait):
        dock = open_panel()
        wait(ready(dock))
        folder = Path("/") / ("a" * 120) / ("b<b>" * 60)
        dock.map.status.say(f"Saved in {folder_link(folder)}.")
        dock.planLabel.setText("c" * 300)
        QApplication.processEvents()
        assert dock.minimumSizeHint().width() <= 280
        dock.resize(280, 800)
        assert dock.width() == 280
        assert "b&lt;b&gt;" in dock.statusLabel.text() and "…" in words(dock.statusLabel)

    def test_every_band_is_seen_without_scrolling_in_the_table(self, open_panel, corner, wait):
        dock = open_panel()
        wait(ready(dock))
        QApplication.processEvents()
        table = dock.bandTable
        height = sum(table.rowHeight(row) for row in range(table.rowCount()))
        assert table.viewport().height() >= height
        assert not dock.layersWidget.horizontalScrollBar().isVisibleTo(dock)
        assert corner.name() in dock.layersWidget.item(0).toolTip()

    def test_scrolling_over_the_table_chooses_no_band(self, open_panel, corner, wait):
        dock = open_panel()
        wait(ready(dock))
        before = chosen(dock)
        for row in range(dock.bandTable.rowCount()):
            down = QPoint(0, -120)
            event = QWheelEvent(
                QPointF(5, 5), QPointF(5, 5), down, down, Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
            )  # fmt: skip
            QApplication.sendEvent(opened(dock, row), event)
        assert chosen(dock) == before and dock.map.spec()["bands"] == []


def contrast(one, other):
    def luminance(color):
        parts = (color.redF(), color.greenF(), color.blueF())
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(QColor(one)), luminance(QColor(other))))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("text", "grounds"),
    [("#000000", ("#ffffff", "#f7f7f7", "#efefef")), ("#aaaaaa", ("#323232", "#222222"))],
)
@pytest.mark.parametrize("kind", COLORS)
def test_colours_can_be_read(text, grounds, kind):
    """On the default theme and on Night Mapping, which change text by style sheet."""
    label = QLabel()
    label.setStyleSheet(f"color: {text}")
    label.ensurePolished()
    assert min(contrast(color(kind, label), ground) for ground in grounds) >= 4.5


class TestWhereResultsGo:
    def test_the_setting_counts_when_it_is_changed_later(self, open_panel, tmp_path):
        dock = open_panel()
        settings.write("output_folder", str(tmp_path))
        assert dock.map._output_folder() == tmp_path
        dock.folderWidget.setFilePath(str(tmp_path / "other"))
        assert dock.map._output_folder() == tmp_path / "other"

    def test_not_into_another_project(self, open_panel, corner, wait, tmp_path, monkeypatch):
        told = []
        dock = open_panel()
        monkeypatch.setattr(dock.map.status, "push", lambda message, _level: told.append(message))
        dock.folderWidget.setFilePath(str(tmp_path))
        wait(ready(dock))
        dock.runButton.click()
        QgsProject.instance().clear()
        wait(idle(dock))
        assert not QgsProject.instance().mapLayers()
        assert any(str(tmp_path) in text for text in told), words(dock.statusLabel)
        assert "Saved in" in words(dock.statusLabel)

    def test_a_lost_result_is_said(self, open_panel, corner, wait, monkeypatch):
        dock = open_panel()
        wait(ready(dock))
        monkeypatch.setattr(map_panel.results, "open_results", lambda *_: [])
        dock.runButton.click()
        wait(idle(dock))
        assert "could be opened as a layer" in words(dock.statusLabel)
