"""Live mode with a real canvas, label layers that are drawn in, and a real backend."""

import os
import signal

import pytest
from osgeo import gdal
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)

from qgis_mmearth import settings, shared
from qgis_mmearth.gui.live import LiveMode
from qgis_mmearth.layers import labels

CLASSES = [
    {"value": "a", "title": "First", "color": "#117733"},
    {"value": "b", "title": "Second", "color": "#ddcc77"},
]


class Stage:
    """A canvas with a scene and label layers, and what live mode said of them."""

    def __init__(self, iface, scene, folder, wait):
        self.iface, self.canvas, self.wait = iface, iface.mapCanvas(), wait
        self.scene = QgsRasterLayer(str(scene), "Corner")
        crs = self.scene.crs()
        QgsProject.instance().setCrs(crs)
        QgsProject.instance().addMapLayer(self.scene)
        self.layers = labels.create_label_layers(folder / "drawn.gpkg", CLASSES, crs)
        self.polygons = self.layers[0]
        iface.setActiveLayer(self.polygons)
        self.canvas.setExtent(self.scene.extent())
        self.said, self.suggested, self.ends = [], [], []
        self.lacking = False
        self.live = LiveMode(iface, self.request, lambda: self.layers)
        self.live.said.connect(lambda *words: self.said.append(words))
        self.live.suggested.connect(self.suggested.append)
        self.live.ended.connect(lambda: self.ends.append(True))

    def request(self):
        if self.lacking or self.scene.id() not in QgsProject.instance().mapLayers():
            return None
        return {
            "inputs": [{"path": self.scene.source(), "label": "Corner"}],
            "model": "landcover-s2",
            "bands": [],
            "radiometry": None,
            "labels": {"path": self.polygons.source(), "layer": None, "field": "class",
                       "classes": CLASSES},
        }  # fmt: skip

    def draw(self, col, row, value, side=15):
        """Draw a square, given in pixels of the scene, as the digitising tools do."""
        box, size = self.scene.extent(), self.scene.rasterUnitsPerPixelX()
        corner = QgsPointXY(box.xMinimum() + col * size, box.yMaximum() - row * size)
        far = QgsPointXY(corner.x() + side * size, corner.y() - side * size)
        feature = QgsFeature(self.polygons.fields())
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(corner, far)))
        feature.setAttribute("class", value)
        self.polygons.beginEditCommand("draw")
        assert self.polygons.addFeature(feature)
        self.polygons.endEditCommand()
        return feature.id()

    def both(self):
        for place in ((20, 20, "a"), (120, 30, "b"), (30, 120, "a"), (150, 130, "b")):
            self.draw(*place)

    @property
    def overlay(self):
        """The overlay that is seen; None if there is none."""
        names = {layer.id() for layer in QgsProject.instance().mapLayers().values()}
        own = [layer for layer in self.canvas.layers() if layer.id() not in names]
        assert len(own) <= 1
        return own[0] if own else None

    def source(self):
        return self.overlay.source() if self.overlay else ""

    def await_new(self):
        before = self.source()
        self.wait(lambda: self.source() not in ("", before))
        return self.overlay

    def await_words(self, part):
        self.wait(lambda: any(part in text for text, _ in self.said))
        return next((text, kind) for text, kind in self.said if part in text)

    def files(self):
        return list(settings.temporary_folder().glob("mmearth-live-*/*"))

    def folders(self):
        return list(settings.temporary_folder().glob("mmearth-live-*"))


@pytest.fixture
def stage(iface, home, small_scene, tmp_path, wait):
    found = Stage(iface, small_scene, tmp_path, wait)
    yield found
    found.live.stop()
    for layer in found.layers:
        if layer.id() in QgsProject.instance().mapLayers() and layer.isEditable():
            layer.rollBack()


def pixels(layer):
    dataset = gdal.Open(layer.source())
    return dataset.GetRasterBand(1).ReadAsArray(), dataset.GetGeoTransform()


def test_from_the_first_polygon_to_off(stage):
    stage.live.start()
    assert stage.live.is_on
    stage.draw(20, 20, "a")
    _, kind = stage.await_words("two classes or more")  # in words, and it stays on
    assert kind == "error" and stage.live.is_on and stage.overlay is None

    stage.draw(120, 30, "b")
    overlay = stage.await_new()
    values, place = pixels(overlay)
    assert values[25, 25] == 1 and values[35, 125] == 2
    assert (place[0], place[3]) == (
        stage.scene.extent().xMinimum(),
        stage.scene.extent().yMaximum(),
    )
    order = [layer.name() for layer in stage.canvas.layers()]
    assert order == ["Points", "Lines", "Polygons", "classes", "Corner"]
    assert 0 < overlay.renderer().opacity() < 1
    assert stage.iface.activeLayer() is stage.polygons and stage.polygons.isEditable()
    assert stage.suggested[-1] and stage.suggested[-1][0]["crs"] == "EPSG:32648"
    # The project knows nothing of it.
    names = [layer.name() for layer in QgsProject.instance().mapLayers().values()]
    assert sorted(names) == ["Corner", "Lines", "Points", "Polygons"]

    # What is drawn next, not saved either, counts.
    number = stage.draw(30, 120, "b")
    changed, _ = pixels(stage.await_new())
    assert changed[127, 37] == 2
    stage.polygons.undoStack().undo()
    undone, _ = pixels(stage.await_new())
    assert (undone == values).all()
    stage.polygons.undoStack().redo()
    again, _ = pixels(stage.await_new())
    assert (again == changed).all()
    stage.polygons.deleteFeature(number)
    assert (pixels(stage.await_new())[0] == values).all()
    # Old files go.
    assert len(stage.files()) == 2

    stage.live.show("uncertainty")
    unsure, _ = pixels(stage.overlay)
    assert set(values[unsure == 255]) <= {0} and unsure[unsure != 255].max() <= 100
    stage.live.show("classes")

    stage.live.stop()
    assert not stage.live.is_on and stage.ends == [True]
    assert stage.overlay is None and stage.folders() == [] and stage.suggested[-1] == []
    assert [layer.name() for layer in stage.canvas.layers()] == ["Points", "Lines", "Polygons",
                                                                  "Corner"]  # fmt: skip
    stage.said.clear()
    stage.draw(60, 60, "a")
    stage.canvas.zoomByFactor(0.8)
    assert not stage.live._timer.isActive() and stage.live._links == []
    client = shared.backend().client()
    stage.wait(lambda: client.health()["running"] is None)
    assert client._get("/jobs")["jobs"] == []
    assert stage.said == []


def test_the_map_follows_the_view(stage):
    stage.both()
    stage.live.start()
    whole, corner = pixels(stage.await_new())
    box = stage.scene.extent()
    near = QgsRectangle(box.xMinimum() + 300, box.yMinimum() + 300, box.center().x() + 300,
                        box.center().y() + 300)  # fmt: skip
    stage.canvas.setExtent(near)
    part, place = pixels(stage.await_new())
    col, row = round((place[0] - corner[0]) / 10), round((corner[3] - place[3]) / 10)
    assert part.shape < whole.shape and row + col > 0
    assert (whole[row : row + part.shape[0], col : col + part.shape[1]] == part).all()
    # Beside the scene there is nothing to map; back again there is.
    stage.canvas.setExtent(QgsRectangle(0, 0, 1000, 1000))
    _, kind = stage.await_words("do not overlap")
    assert kind == "error" and stage.live.is_on
    stage.canvas.setExtent(near)
    stage.await_new()


def test_layers_that_come_and_go_leave_it_in_its_place(stage, small_scene):
    stage.both()
    stage.live.start()
    stage.await_new()
    other = QgsRasterLayer(str(small_scene), "Other")
    QgsProject.instance().addMapLayer(other)
    stage.wait(lambda: len(stage.canvas.layers()) == 6)
    stage.wait(lambda: [layer.name() for layer in stage.canvas.layers()][3] == "classes")
    QgsProject.instance().removeMapLayer(other)
    stage.wait(lambda: len(stage.canvas.layers()) == 5)
    assert stage.overlay is not None and stage.live.is_on


@pytest.mark.parametrize("what", ["labels", "raster", "project"])
def test_what_it_needs_goes(stage, what):
    stage.both()
    stage.live.start()
    stage.await_new()
    if what == "labels":
        stage.polygons.rollBack()
        QgsProject.instance().removeMapLayer(stage.polygons)
    elif what == "raster":
        QgsProject.instance().removeMapLayer(stage.scene)
    else:
        QgsProject.instance().clear()
    stage.wait(lambda: not stage.live.is_on)
    assert stage.overlay is None and stage.folders() == [] and stage.ends == [True]
    assert stage.live._links == []


def test_a_backend_that_died_is_started_anew(stage):
    stage.both()
    stage.live.start()
    stage.await_new()
    os.kill(shared.backend().pid, signal.SIGKILL)
    stage.draw(70, 70, "b")
    stage.await_new()
    assert stage.live.is_on


def test_switched_off_while_it_computes(stage):
    stage.both()
    stage.live.start()
    stage.wait(lambda: stage.live._task is not None)
    stage.live.stop()
    assert stage.folders() == [] and stage.overlay is None
    stage.wait(lambda: not shared.backend().busy)
    assert stage.folders() == [] and stage.overlay is None
    # And on again.
    stage.live.start()
    stage.await_new()


def test_something_is_lacking(stage):
    stage.lacking = True
    stage.live.start()
    _, kind = stage.await_words("Choose rasters")
    assert kind == "error" and not stage.live.is_on and stage.ends == [True]
