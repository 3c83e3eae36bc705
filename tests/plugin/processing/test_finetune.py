"""``mmearth:finetune``: what it takes as labels, and a model that can be mapped with at once."""

import json
from pathlib import Path

import numpy as np
import processing
import pytest
from conftest import EMBEDDED, SCENE
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from qgis_mmearth.compat import SOURCE_VECTOR
from qgis_mmearth.processing.algorithms.finetune import LabelsParameter

CELL, SIDE = 40, 8  # pixels: in each cell of the scene a square is drawn
GREEN, BARE = "1", "2"


class Feedback(QgsProcessingFeedback):
    """Keeps what is said, and cancels with the first word of progress if told to."""

    def __init__(self, cancel=False):
        super().__init__()
        self.said, self.cancel_first = [], cancel

    def setProgressText(self, _text):
        if self.cancel_first:
            self.cancel()

    def pushInfo(self, text):
        self.said.append(text)

    def pushWarning(self, text):
        self.said.append(text)


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


def greenness(path) -> np.ndarray:
    """Return the vegetation index of a scene."""
    values = gdal.Open(str(path)).ReadAsArray().astype(float)
    return (values[7] - values[3]) / (values[7] + values[3])


@pytest.fixture
def squares(small_scene):
    """Squares of the greenest and the barest ground by turns, one a cell, each with its class."""
    index, place = greenness(small_scene), gdal.Open(str(small_scene)).GetGeoTransform()
    found = []
    for top in range(0, index.shape[0] - CELL + 1, CELL):
        for left in range(0, index.shape[1] - CELL + 1, CELL):
            green = (top + left) // CELL % 2 == 0
            means = {
                (row, col): index[row : row + SIDE, col : col + SIDE].mean()
                for row in range(top, top + CELL - SIDE, 4)
                for col in range(left, left + CELL - SIDE, 4)
            }
            row, col = (max if green else min)(means, key=means.get)
            x, y = place[0] + 10 * col, place[3] - 10 * row
            box = QgsRectangle(x, y - 10 * SIDE, x + 10 * SIDE, y)
            found.append((QgsGeometry.fromRect(box), GREEN if green else BARE))
    assert len(found) == 20
    return found


@pytest.fixture
def draw(small_scene):
    """Return a function that makes a layer in memory of geometries and their classes."""
    own = QgsRasterLayer(str(small_scene), "scene").crs()

    def make(drawn, crs=own, kind="Polygon"):
        layer = QgsVectorLayer(f"{kind}?crs={crs.authid()}&field=cover:string", "drawn", "memory")
        transform = QgsCoordinateTransform(own, crs, QgsProject.instance())
        rows = []
        for geometry, value in drawn:
            rows.append(QgsFeature(layer.fields()))
            moved = QgsGeometry(geometry)
            moved.transform(transform)
            rows[-1].setGeometry(moved)
            rows[-1].setAttribute("cover", value)
        assert layer.dataProvider().addFeatures(rows)[0]
        layer.updateExtents()
        return layer

    return make


@pytest.fixture
def teach(home, small_scene):
    """Return a function that runs the algorithm."""

    def run(labels, feedback=None, **others):
        parameters = {"INPUT": str(small_scene), "LABELS": labels, "FIELD": "cover", **others}
        return processing.run("mmearth:finetune", parameters, feedback=feedback)

    return run


def save(layer, path):
    options = QgsVectorFileWriter.SaveVectorOptions()
    context = QgsProject.instance().transformContext()
    QgsVectorFileWriter.writeAsVectorFormatV2(layer, str(path), context, options)
    return str(path)


def models():
    found = QgsApplication.processingRegistry().algorithmById("mmearth:segment")
    return sorted(found.parameterDefinition("MODEL").options())


def test_a_model_from_files_maps_at_once(teach, squares, draw, small_scene, home, tmp_path):
    """All as texts, as qgis_process hands it over."""
    result = teach(
        save(draw(squares), tmp_path / "labels.gpkg"), MODEL="landcover-s2", PROTOCOL="quick",
        NAME="Green and bare", VALIDATION="0.25", SEED="1", OUTPUT=str(tmp_path / "model"),
        REPORT=str(tmp_path / "report.html"),
    )  # fmt: skip
    assert result["MODEL"] == "green-and-bare" and result["ACCURACY"] > 0.75
    assert result["OUTPUT"] == str(tmp_path / "model")
    assert (tmp_path / "model" / "model.json").is_file()
    assert "<html" in Path(result["REPORT"]).read_text("utf-8")[:200]
    assert models() == sorted([*EMBEDDED, "green-and-bare"])
    output = str(tmp_path / "map.tif")
    parameters = {"INPUT": str(small_scene), "MODEL": result["MODEL"], "OUTPUT": output}
    processing.run("mmearth:segment", parameters)
    mapped, index = gdal.Open(output).ReadAsArray(), greenness(small_scene)
    assert set(np.unique(mapped)) == {1, 2}
    assert index[mapped == int(GREEN)].mean() > index[mapped == int(BARE)].mean() + 0.1


def test_a_layer_in_memory_is_read_as_it_stands(teach, squares, draw, home):
    """In degrees, with unsaved edits, an outline that crosses itself, names and colours."""
    layer = draw(squares[:-1], crs=QgsCoordinateReferenceSystem("EPSG:4326"))
    entries = [{"Green land": GREEN}, {"Bare land": BARE}]
    index = layer.fields().lookupField("cover")
    layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": entries}))
    symbols = {GREEN: "#00aa00", BARE: "#aa5500"}
    categories = [
        QgsRendererCategory(value, QgsFillSymbol.createSimple({"color": color}), value)
        for value, color in symbols.items()
    ]
    layer.setRenderer(QgsCategorizedSymbolRenderer("cover", categories))
    last = QgsFeature(layer.fields())
    box = squares[-1][0].boundingBox()
    corners = [
        (box.xMinimum(), box.yMinimum()), (box.xMaximum(), box.yMaximum()),
        (box.xMaximum(), box.yMinimum()), (box.xMinimum(), box.yMaximum()),
    ]  # fmt: skip
    crossed = QgsGeometry.fromPolygonXY([[QgsPointXY(x, y) for x, y in corners]])
    own = QgsRasterLayer(str(SCENE), "scene").crs()
    crossed.transform(QgsCoordinateTransform(own, layer.crs(), QgsProject.instance()))
    last.setGeometry(crossed)
    last.setAttribute("cover", squares[-1][1])
    layer.startEditing()
    layer.addFeature(last)
    feedback = Feedback()
    result = teach(layer, feedback, NAME="In memory")
    assert any("cross themselves" in line for line in feedback.said)
    assert any("Green land: 10 labels" in line for line in feedback.said)
    assert layer.isEditable() and layer.undoStack().count() == 1  # left as it was
    assert layer.fields().names() == ["cover"] and layer.dataProvider().featureCount() == 19
    card = json.loads((home / "models" / result["MODEL"] / "model.json").read_text("utf-8"))
    (product,) = card["properties"]["mmearth:products"]
    rows = [(row["title"], row["color"]) for row in product["classes"]]
    assert rows == [("Green land", "#00aa00"), ("Bare land", "#aa5500")]
    assert Path(result["REPORT"]) == home / "models" / result["MODEL"] / "report.html"


def test_cancel_leaves_nothing(teach, squares, draw, home, tmp_path):
    feedback = Feedback(cancel=True)
    output, report = tmp_path / "model", tmp_path / "report.html"
    parameters = {"LABELS": draw(squares), "FIELD": "cover", "INPUT": str(SCENE),
                  "OUTPUT": str(output), "REPORT": str(report)}  # fmt: skip
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("mmearth:finetune")
    result, _ = algorithm.run(parameters, QgsProcessingContext(), feedback)
    assert feedback.isCanceled() and result == {}
    assert not output.exists() and not report.exists() and models() == EMBEDDED


class TestWhatIsRefused:
    def test_no_labels(self, teach):
        with pytest.raises(QgsProcessingException, match="No labels are chosen"):
            teach("")

    def test_a_missing_file(self, teach, tmp_path):
        missing = str(tmp_path / "missing.gpkg")
        with pytest.raises(QgsProcessingException, match=r"missing\.gpkg cannot be opened as"):
            teach(missing)

    def test_no_field(self, teach, squares, draw):
        with pytest.raises(QgsProcessingException, match="class is not said; it has cover"):
            teach(draw(squares), FIELD="")

    def test_an_unknown_field(self, teach, squares, draw):
        with pytest.raises(QgsProcessingException, match="has no field kind; it has cover"):
            teach(draw(squares), FIELD="kind")

    def test_a_field_of_300_values(self, teach, squares, draw):
        layer = draw([(squares[0][0], f"Plot {number}") for number in range(300)])
        words = "at most 50 classes, found 300 different values in the field cover"
        with pytest.raises(QgsProcessingException, match=words):
            teach(layer)

    def test_one_class(self, teach, squares, draw):
        layer = draw([square for square in squares if square[1] == GREEN])
        with pytest.raises(QgsProcessingException, match="two classes or more, found only"):
            teach(layer)

    def test_only_empty_values(self, teach, squares, draw):
        layer = draw([(geometry, None) for geometry, _ in squares])
        with pytest.raises(QgsProcessingException, match="No feature of drawn has a value"):
            teach(layer)

    def test_nothing_is_selected(self, teach, squares, draw):
        layer = draw(squares)
        QgsProject.instance().addMapLayer(layer)
        chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
        with pytest.raises(QgsProcessingException, match="No feature of drawn has a value"):
            teach(chosen)

    def test_only_what_is_selected_counts(self, teach, squares, draw):
        layer = draw(squares)
        QgsProject.instance().addMapLayer(layer)
        layer.selectByExpression(f"cover = '{BARE}'")
        chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
        with pytest.raises(QgsProcessingException, match=f"found only '{BARE}'"):
            teach(chosen)

    def test_labels_elsewhere(self, teach, squares, draw):
        moved = []
        for geometry, value in squares:
            moved.append((QgsGeometry(geometry), value))
            moved[-1][0].translate(100_000, 0)
        with pytest.raises(QgsProcessingException, match="lies on the rasters"):
            teach(draw(moved))

    def test_a_label_raster_of_another_grid(self, teach, small_scene, tmp_path):
        path = str(tmp_path / "codes.tif")
        gdal.Translate(path, str(small_scene), bandList=[1], xRes=7, yRes=7)
        for labels in (path, QgsRasterLayer(path, "codes")):
            with pytest.raises(QgsProcessingException, match="do not coincide"):
                teach(labels, FIELD="")

    @pytest.mark.parametrize("text", ["25", "-0.1"])
    def test_a_share_out_of_bounds(self, teach, squares, draw, text):
        with pytest.raises(QgsProcessingException, match="VALIDATION"):
            teach(draw(squares), VALIDATION=text)


def test_all_layers_of_a_file_count(teach, squares, draw, tmp_path):
    """Labels that were drawn in the panel: polygons and points side by side, in one file."""
    path = str(tmp_path / "labels.gpkg")
    points = [(geometry.centroid(), GREEN) for geometry, value in squares if value == GREEN]
    for name, drawn, kind in (("polygons", squares[:0], "Polygon"), ("points", points, "Point")):
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.layerName = name
        if Path(path).exists():
            options.actionOnExistingFile = QgsVectorFileWriter.CreateOrOverwriteLayer
        context = QgsProject.instance().transformContext()
        QgsVectorFileWriter.writeAsVectorFormatV2(draw(drawn, kind=kind), path, context, options)
    with pytest.raises(QgsProcessingException, match=f"found only '{GREEN}'"):
        teach(path)


def test_copies_of_the_labels_parameter_are_whole():
    original = LabelsParameter("LABELS", "Labels", [SOURCE_VECTOR], optional=True)
    original.setHelp("Labels of a scene.")
    copy = original.clone()
    assert isinstance(copy, LabelsParameter) and copy.description() == "Labels"
    assert (copy.help(), copy.flags()) == (original.help(), original.flags())
    assert copy.dataTypes() == original.dataTypes()


def test_the_dialog_offers_the_fields_of_the_labels(home, squares, draw, scene_layer):
    layer = draw(squares)
    QgsProject.instance().addMapLayer(layer)
    dialog = processing.createAlgorithmDialog("mmearth:finetune", {})
    combo = dialog.mainWidget().wrappers["FIELD"].wrappedWidget()
    offered = [combo.itemText(row) for row in range(combo.count())]
    dialog.close()
    assert offered == ["", "cover"]
