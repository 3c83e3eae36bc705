"""The tab "Teach", used as a person would: new label layer, draw, press Train, use the model."""

import re
from pathlib import Path

import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QEvent, Qt
from qgis.PyQt.QtWidgets import QApplication, QPushButton, QWidget

from qgis_mmearth import shared
from qgis_mmearth.gui.dock import MMEarthDock
from qgis_mmearth.layers import labels


@pytest.fixture
def teach(iface, kept_home, small_scene):
    """The tab, shown, with a small scene."""
    layer = QgsRasterLayer(str(small_scene), "Corner")
    QgsProject.instance().addMapLayer(layer)
    QgsProject.instance().setCrs(layer.crs())
    iface.setActiveLayer(layer)
    dock = MMEarthDock(iface)
    iface.mainWindow().addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    dock.tabs.setCurrentWidget(dock.teachTab)
    dock.teach.dock = dock
    yield dock.teach
    dock.shut_down()
    # A button that nobody hears any more goes, too.
    shown = iface.messageBar().items()
    assert not [item for item in shown if item.findChild(QPushButton, "useModelButton")]
    iface.messageBar().clearWidgets()
    iface.mainWindow().removeDockWidget(dock)
    dock.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def words(label):
    return re.sub(r"<[^>]+>", "", label.text())


def column(teach, number):
    return [teach.classTable.item(row, number).text() for row in range(teach.classTable.rowCount())]


def titles(teach):
    return column(teach, 1)


def draw(layer, value, places, size=60.0):
    """Draw squares in the corner's own coordinates: pixels from its upper left corner."""
    scene = QgsProject.instance().mapLayersByName("Corner")[0].extent()
    for x, y in places:
        feature = QgsFeature(layer.fields())
        left, top = scene.xMinimum() + 10 * x, scene.yMaximum() - 10 * y
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(left, top - size, left + size, top)))
        feature.setAttribute(layer.fields().lookupField("class"), value)
        assert layer.addFeature(feature)


def grid(column_, count=6):
    return [(column_, 10 + 28 * number) for number in range(count)]


def ready(teach):
    return lambda: teach.trainButton.isEnabled()


def test_object_names(teach):
    dock = teach.dock
    for name in ("tabs", "mapTab", "teachTab", "baseCombo", "labelsCombo", "fieldCombo",
                 "newLabelsButton", "classTable", "quickRadio", "adapterRadio", "fullRadio",
                 "liveCheck", "trainButton", "trainBar", "teachStatusLabel"):  # fmt: skip
        assert dock.findChild(QWidget, name) is not None, name


def test_from_the_first_polygon_to_a_map(iface, teach, wait):
    """New label layer (1), draw, Train (2): the map is there; Use it (3): others can be run."""
    teach.newLabelsButton.click()
    polygons = teach.labels.layers()[0]
    assert iface.activeLayer() is polygons and polygons.isEditable()
    assert iface.actionAddFeature().isChecked()
    assert titles(teach)[:2] == ["Water", "Trees"]
    draw(polygons, "1", grid(10))
    draw(polygons, "2", grid(80))
    wait(ready(teach))
    assert column(teach, 2)[:3] == ["6", "6", "–"]
    assert int(column(teach, 3)[0].replace(",", "")) == 6 * 36
    teach.modelNameEdit.setText("My <corner>")
    before = QApplication.topLevelWidgets()
    teach.trainButton.click()
    assert teach.trainButton.text() == "Stop"
    draw(polygons, "1", [(150, 150)])  # what is drawn meanwhile is for the next one
    wait(lambda: not teach.training.running)
    said = words(teach.teachStatusLabel)
    assert re.search(r"My &lt;corner&gt; is ready: \d+ % right .* \(random forest \d+ %\)", said), (
        said
    )
    assert polygons.isModified()  # the layer is as it was
    assert not [w for w in QApplication.topLevelWidgets() if w.isModal() and w not in before]
    (tuned,) = [model for model in shared.models() if model.title == "My <corner>"]
    wait(lambda: "My &lt;corner&gt; is ready" in iface.messageBar().currentItem().text())
    item = iface.messageBar().currentItem()
    assert item.findChild(QPushButton, "openReportButton") is not None
    assert list(tuned.folder.glob("*.html"))
    item.findChild(QPushButton, "useModelButton").click()
    dock = teach.dock
    assert dock.tabs.currentWidget() is dock.mapTab
    assert dock.modelCombo.currentData().startswith(tuned.id + "/")
    wait(dock.runButton.isEnabled)
    assert teach.baseCombo.findData(tuned.id) >= 0
    # The map lies below the labels, in their colours.
    top = QgsProject.instance().layerTreeRoot().children()
    assert [node.name() for node in top][::2] == ["Labels", "Corner"]
    (mapped,) = [node.layer() for node in top[1].findLayers() if node.itemVisibilityChecked()]
    legend = {row.label: row.color.name() for row in mapped.renderer().classes()}
    named = {row["title"]: row["color"] for row in teach.classes.classes()}
    assert legend == {title: named[title] for title in ("Water", "Trees")}
    assert mapped.extent() == QgsProject.instance().mapLayersByName("Corner")[0].extent()
    dock.tabs.setCurrentWidget(dock.teachTab)
    wait(ready(teach))
    assert column(teach, 2)[0] == "7"


def test_stop_keeps_the_best_round(teach, wait):
    teach.newLabelsButton.click()
    polygons = teach.labels.layers()[0]
    draw(polygons, "1", grid(10, 2))
    draw(polygons, "2", grid(80, 2))
    teach.adapterRadio.setChecked(True)
    teach.validationSpin.setValue(0)
    teach.modelNameEdit.setText("Stopped")
    wait(ready(teach))
    teach.trainButton.click()
    wait(lambda: "Round 1" in words(teach.teachStatusLabel))
    teach.trainButton.click()
    assert not teach.trainButton.isEnabled() and "is kept" in words(teach.teachStatusLabel)
    wait(lambda: not teach.training.running)
    assert "Stopped is ready" in words(teach.teachStatusLabel)
    assert [model.title for model in shared.models()][:1] == ["Stopped"]
    assert len(QgsProject.instance().mapLayers()) == 4  # no map of it
    assert teach.trainButton.text() == "Train" and teach.trainButton.isEnabled()


class TestLive:
    @pytest.fixture
    def live(self, iface, teach, wait):
        """The tab with labels of two classes and a first preview."""
        iface.mapCanvas().setExtent(QgsProject.instance().mapLayersByName("Corner")[0].extent())
        teach.newLabelsButton.click()
        draw(teach.labels.layers()[0], "1", [(10, 10)])
        draw(teach.labels.layers()[0], "2", [(80, 10)])
        teach.liveCheck.click()
        wait(lambda: "up to date" in words(teach.liveLabel))
        yield teach
        teach.live.stop()

    def renewed(self, live, wait, change):
        """Return the colours of the classes in the preview after a change."""
        canvas = live.iface.mapCanvas()
        own = set(QgsProject.instance().mapLayers())

        def overlay():
            return next((layer for layer in canvas.layers() if layer.id() not in own), None)

        before = overlay().id()
        change()
        wait(lambda: overlay() is not None and overlay().id() != before)
        return [row.color.name() for row in overlay().renderer().classes()[1:4]]

    def test_it_follows_what_is_drawn_and_set(self, live, wait):
        polygons = live.labels.layers()[0]

        def first_of_its_class():
            draw(polygons, "4", [(150, 100)])

        water, _, third = self.renewed(live, wait, first_of_its_class)
        assert third == live.classes.classes()[3]["color"]

        def recolor():
            live.classTable.selectRow(1)
            live.classes.recolor("#123456")

        assert self.renewed(live, wait, recolor) == [water, "#123456", third]
        live.showCombo.setCurrentIndex(1)
        assert not [
            row.name() for row in live.iface.mapCanvas().layers() if row.name() == "classes"
        ]

    def test_each_place_to_label_is_another(self, live, wait):
        canvas, seen = live.iface.mapCanvas(), []
        for _ in range(3):
            wait(live.nextButton.isEnabled)
            live.nextButton.click()
            seen.append(canvas.center())
            wait(lambda: live.live._live._timer.isActive() or live.live._live._task)
            wait(lambda: not (live.live._live._timer.isActive() or live.live._live._task))
        assert min(one.distance(other) for one in seen for other in seen if one != other) > 100
        assert len({point.asWkt() for point in seen}) == 3

    def test_no_map_of_labels_that_are_gone(self, live, wait):
        live.newLabelsButton.click()
        wait(lambda: "Draw some labels" in words(live.liveLabel))
        names = {layer.name() for layer in live.iface.mapCanvas().layers()}
        assert live.live.is_on and "classes" not in names
        draw(live.labels.layers()[0], "1", [(10, 10)])
        draw(live.labels.layers()[0], "4", [(80, 10)])
        wait(lambda: live.iface.mapCanvas().layers()[3].name() == "classes")

    def test_why_it_ended_is_seen(self, live, wait):
        live.dock.layersWidget.item(0).setCheckState(Qt.CheckState.Unchecked)
        wait(lambda: not live.liveCheck.isChecked())
        assert "Choose rasters" in words(live.liveLabel) and live.liveLabel.isVisibleTo(live)
        assert not live.keepButton.isVisibleTo(live)

    def test_keep_makes_a_model(self, live, wait):
        draw(live.labels.layers()[0], "1", grid(10)[1:3])
        draw(live.labels.layers()[0], "2", grid(80)[1:3])
        live.mapCheck.setChecked(False)
        live.fullRadio.setChecked(True)
        name = live.modelNameEdit.placeholderText()
        live.keepButton.click()
        wait(lambda: not live.training.running)
        assert words(live.teachStatusLabel).startswith(f"{name} is ready")
        assert [model.title for model in shared.models()][:1] == [name]
        assert live.quickRadio.isChecked() and live.live.is_on
        assert live.modelNameEdit.placeholderText() == f"{name} 2"  # the next is told from it


class TestCounts:
    def test_follow_what_is_drawn_and_undone(self, teach, wait):
        teach.newLabelsButton.click()
        layer = teach.labels.layers()[0]
        draw(layer, "1", [(10, 10)])
        wait(lambda: column(teach, 2)[0] == "1")
        assert column(teach, 0)[0] == "⚠"
        assert "Few labels" in teach.classTable.item(0, 0).toolTip()
        layer.undoStack().undo()
        wait(lambda: column(teach, 2)[0] == "–")
        draw(layer, "1", grid(10, 5))
        wait(lambda: column(teach, 2)[0] == "5")
        assert column(teach, 0)[0] == ""

    def test_one_class_only_is_said(self, teach, wait):
        teach.newLabelsButton.click()
        draw(teach.labels.layers()[0], "1", grid(10))
        wait(lambda: "two classes" in words(teach.teachStatusLabel))
        wait(lambda: "found only" in words(teach.teachStatusLabel))
        assert not teach.trainButton.isEnabled()

    def test_the_class_drawn_last_is_the_next_ones(self, teach, wait):
        teach.newLabelsButton.click()
        layers = teach.labels.layers()
        draw(layers[0], "4", [(10, 10)])
        assert labels.drawn_class(layers) == "4"
        wait(lambda: teach.classTable.currentRow() == 3)
        teach.classTable.selectRow(6)
        assert labels.drawn_class(layers) == "7"


class TestClasses:
    def test_edits_reach_the_label_layers(self, teach):
        teach.newLabelsButton.click()
        layers = teach.labels.layers()
        teach.classTable.selectRow(0)
        teach.removeClassButton.click()
        teach.addClassButton.click()
        row = teach.classTable.rowCount() - 1
        teach.classTable.item(row, 1).setText("Rice field")
        teach.classes.recolor("#123456")
        again = QgsVectorLayer(layers[1].source(), "again", "ogr")
        rows = labels.classes_of([again], "class")
        assert "Water" not in [row["title"] for row in rows]
        assert rows[-1] == {"value": "10", "title": "Rice field", "color": "#123456"}

    def test_what_the_table_shows_is_drawn(self, teach):
        teach.newLabelsButton.click()
        layers = teach.labels.layers()
        teach.classes.show_classes(
            [{"value": f"class-{n}", "title": f"Class {n}", "color": "#000000"} for n in (1, 2, 3)]
        )
        teach.classTable.selectRow(1)
        teach.classTable.item(1, 1).setText("Rice field")
        assert teach.classes.classes()[1]["value"] == labels.drawn_class(layers) == "rice_field"
        teach.removeClassButton.click()
        assert titles(teach) == ["Class 1", "Class 3"] and teach.classTable.currentRow() == 1
        assert labels.drawn_class(layers) == "class-3"

    def test_names_that_are_taken_are_not(self, teach):
        teach.newLabelsButton.click()
        teach.classTable.item(0, 1).setText("Trees")
        teach.classTable.item(1, 1).setText("  ")
        assert titles(teach)[:2] == ["Water", "Trees"]

    def test_a_layer_of_the_users_is_left_as_it_is(self, teach, wait):
        layer = QgsVectorLayer("Polygon?crs=EPSG:32648&field=class:string", "Mine", "memory")
        layer.startEditing()
        QgsProject.instance().addMapLayer(layer)
        draw(layer, "pond", grid(10))
        draw(layer, "wood", grid(80))
        layer.commitChanges()
        style = layer.renderer().type()
        teach.labels.choose(layer)
        assert titles(teach) == ["pond", "wood"] and teach.fieldCombo.isVisibleTo(teach)
        wait(ready(teach))
        teach.classTable.item(0, 1).setText("Ponds")
        teach.classTable.selectRow(1)
        teach.removeClassButton.click()
        assert titles(teach) == ["Ponds"]
        assert teach._wanted_classes()[0]["value"] == "pond"
        wait(lambda: "found only" in words(teach.teachStatusLabel))
        assert layer.renderer().type() == style and not layer.isEditable()
        assert titles(teach) == ["Ponds"]  # what was removed stays away


class TestWhatCanHoldLabels:
    def test_a_label_raster(self, teach, wait, tmp_path):
        scene = QgsProject.instance().mapLayersByName("Corner")[0]
        source = gdal.Open(scene.source())
        path = tmp_path / "codes.tif"
        target = gdal.GetDriverByName("GTiff").Create(
            str(path), source.RasterXSize, source.RasterYSize, 1, gdal.GDT_Byte
        )
        target.SetGeoTransform(source.GetGeoTransform())
        target.SetProjection(source.GetProjection())
        codes = target.GetRasterBand(1).ReadAsArray()
        codes[:, :90], codes[:, 110:] = 1, 2
        target.GetRasterBand(1).WriteArray(codes)
        del target
        layer = QgsRasterLayer(str(path), "Codes")
        QgsProject.instance().addMapLayer(layer)
        teach.labels.choose(layer)
        assert not teach.fieldCombo.isVisibleTo(teach) and teach.labels.field() is None
        wait(ready(teach))

    def test_removed_layers_go(self, teach, wait):
        teach.newLabelsButton.click()
        for layer in teach.labels.layers():
            layer.rollBack()
            QgsProject.instance().removeMapLayer(layer.id())
        assert teach.labels.layers() == [] and teach.classTable.rowCount() == 0
        wait(lambda: "New label layer" in words(teach.teachStatusLabel))

    def test_many_values_are_no_classes(self, teach, wait):
        layer = QgsVectorLayer("Polygon?crs=EPSG:32648&field=class:string", "Mine", "memory")
        layer.startEditing()
        QgsProject.instance().addMapLayer(layer)
        for number in range(60):
            draw(layer, f"v{number}", [(10, 10)])
        layer.commitChanges()
        teach.labels.choose(layer)
        wait(lambda: "60 different values" in words(teach.teachStatusLabel))
        assert not teach.trainButton.isEnabled()


def test_labels_lie_beside_a_saved_project(teach, tmp_path):
    QgsProject.instance().write(str(tmp_path / "p.qgz"))
    teach.newLabelsButton.click()
    first = labels.file_of(teach.labels.layers()[0])
    assert Path(first) == tmp_path / "Labels.gpkg"
    teach.newLabelsButton.click()
    assert labels.file_of(teach.labels.layers()[0]) == str(tmp_path / "Labels 2.gpkg")
    assert teach.labelsCombo.currentText() == "Labels 2"
    crs = QgsProject.instance().crs()
    assert teach.labels.layers()[0].crs() == crs == QgsCoordinateReferenceSystem("EPSG:32648")


def test_what_is_asked_for(teach):
    teach.fullRadio.setChecked(True)
    assert teach.lossCombo.isEnabled()
    teach.lossCombo.setCurrentIndex(teach.lossCombo.findData("boundary-cross-entropy"))
    teach.epochsSpin.setValue(7)
    teach.validationSpin.setValue(30)
    teach.seedSpin.setValue(5)
    wanted = teach.spec()
    assert wanted["protocol"] == "full" and wanted["loss"] == "boundary-cross-entropy"
    assert (wanted["epochs"], wanted["validation"], wanted["seed"]) == (7, 0.3, 5)
    teach.quickRadio.setChecked(True)
    assert not teach.lossCombo.isEnabled()
    assert teach.spec()["loss"] == "cross-entropy" and teach.spec()["epochs"] is None


def test_a_narrow_panel_needs_no_scrolling_sideways(teach):
    teach.newLabelsButton.click()
    teach.teachAdvancedGroup.setCollapsed(False)
    teach.dock.setFloating(True)
    teach.dock.resize(300, 900)
    QApplication.processEvents()
    assert teach.dock.minimumSizeHint().width() <= 280
    assert teach.teachScrollArea.horizontalScrollBar().maximum() == 0


def test_keyboard_goes_from_top_to_bottom(teach):
    """Each control is reached by the tabulator, in the order in which it is seen."""
    teach.newLabelsButton.click()
    chain, widget = [], teach.baseModelsButton
    for _ in range(200):
        chain.append(widget.objectName())
        widget = widget.nextInFocusChain()
    wanted = ["baseModelsButton", "baseCombo", "newLabelsButton", "labelsCombo", "classTable",
              "addClassButton", "liveCheck", "quickRadio", "modelNameEdit",
              "trainButton"]  # fmt: skip
    places = [chain.index(name) for name in wanted]
    assert places == sorted(places)
