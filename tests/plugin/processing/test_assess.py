"""``mmearth:sampledesign`` and ``mmearth:assess``: a sample to fill in, and what comes of it."""

from pathlib import Path

import numpy as np
import processing
import pytest
from osgeo import gdal, osr
from qgis.core import (
    NULL,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProject,
    QgsVectorLayer,
)
from runs import Feedback

from qgis_mmearth.processing.algorithms.sampledesign import parse_expected

LEFT, TOP, PIXEL = 600_000, 5_400_000, 10
TITLES = ("", "Forest", "Water", "Field", "Road")  # there is no road on the map


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


def values() -> np.ndarray:
    found = np.full((60, 80), 1, np.uint8)
    found[40:], found[5:20, 20:45] = 3, 2
    return found


@pytest.fixture
def class_map(tmp_path):
    """A class map with names and colours."""
    path = str(tmp_path / "map.tif")
    dataset = gdal.GetDriverByName("GTiff").Create(path, 80, 60, 1, gdal.GDT_Byte)
    system = osr.SpatialReference()
    system.ImportFromEPSG(32632)
    dataset.SetProjection(system.ExportToWkt())
    dataset.SetGeoTransform((LEFT, PIXEL, 0, TOP, 0, -PIXEL))
    band = dataset.GetRasterBand(1)
    band.WriteArray(values())
    band.SetNoDataValue(0)
    table = gdal.ColorTable()
    for value, color in enumerate(
        [(0, 0, 0, 0), (0, 99, 0, 255), (0, 0, 200, 255), (9, 9, 9, 255), (1, 1, 1, 255)]
    ):
        table.SetColorEntry(value, color)
    band.SetColorTable(table)
    band.SetCategoryNames(list(TITLES))
    del band, dataset
    return path


@pytest.fixture
def sample(class_map, home, tmp_path):
    """A sample, not interpreted yet."""
    output = str(tmp_path / "sample.gpkg")
    wanted = {"INPUT": class_map, "SIZE": 240, "MINIMUM": 40, "OUTPUT": output}
    assert processing.run("mmearth:sampledesign", wanted)["OUTPUT"] == output
    return output


def fill_in(path, wrong=()) -> QgsVectorLayer:
    """Interpret a sample as the map says, but for some points."""
    layer = QgsVectorLayer(f"{path}|layername=sample", "sample", "ogr")
    index = layer.fields().lookupField("reference")
    layer.startEditing()
    for feature in layer.getFeatures():
        found = feature["stratum"]
        if feature["id"] in wrong:
            found = 1 + found % 3
        layer.changeAttributeValue(feature.id(), index, found)
    assert layer.commitChanges()
    return layer


class TestSampleDesign:
    def test_says_what_is_drawn(self, class_map, home, tmp_path):
        feedback = Feedback()
        wanted = {"INPUT": class_map, "TARGET_ERROR": 0.02, "EXPECTED": "0.9, Water=0.7",
                  "OUTPUT": "TEMPORARY_OUTPUT", "TABLE": str(tmp_path / "t.csv")}  # fmt: skip
        result = processing.run("mmearth:sampledesign", wanted, feedback=feedback)
        assert Path(result["TABLE"]).read_text().splitlines()[0].startswith("class,title,pixels")
        assert any(line.startswith("Water: 3.75 ha, 50 points") for line in feedback.said)
        assert any("standard error of overall accuracy: 0.0" in line for line in feedback.said)

    def test_the_form_offers_classes_and_hides_what_the_map_says(self, sample):
        layer = QgsVectorLayer(sample, "s", "ogr")  # as anyone adds it: with the style in the file
        fields = layer.fields()
        setup = layer.editorWidgetSetup(fields.lookupField("reference"))
        assert setup.type() == "ValueMap"
        offered = {title: value for row in setup.config()["map"] for title, value in row.items()}
        assert {title: offered[title] for title in TITLES[1:]} == {
            "Forest": "1", "Water": "2", "Field": "3", "Road": "4"}  # fmt: skip
        assert len(offered) == 5
        for name in ("stratum", "stratum_title"):
            assert layer.editorWidgetSetup(fields.lookupField(name)).type() == "Hidden"
        table = layer.attributeTableConfig()
        hidden = {column.name for column in table.columns() if column.hidden}
        assert {"stratum", "stratum_title"} <= hidden and "reference" not in hidden
        assert table.sortExpression() == '"id"' and layer.displayExpression() == '"id"'
        assert all(feature["reference"] == NULL for feature in layer.getFeatures())

    def test_loads_with_rings_that_turn_into_classes(self, class_map, home):
        wanted = {"INPUT": class_map, "SIZE": 200, "OUTPUT": "TEMPORARY_OUTPUT"}
        processing.runAndLoadResults("mmearth:sampledesign", wanted)
        (layer,) = QgsProject.instance().mapLayers().values()
        renderer = layer.renderer()
        labels = [category.label() for category in renderer.categories()]
        assert labels == [*TITLES[1:], "Not interpreted"]
        colors = [category.symbol().color().name() for category in renderer.categories()]
        assert colors[:2] == ["#006300", "#0000c8"]
        assert layer.labelsEnabled() and renderer.classAttribute() == "reference"
        assert layer.featureCount() == 200

    def test_other_formats_are_refused(self, class_map, home, tmp_path):
        wanted = {"INPUT": class_map, "SIZE": 200, "OUTPUT": str(tmp_path / "s.shp")}
        with pytest.raises(QgsProcessingException, match=r"\.gpkg"):
            processing.run("mmearth:sampledesign", wanted)

    def test_no_raster_is_said(self, home):
        with pytest.raises(QgsProcessingException, match="No raster is chosen"):
            processing.run("mmearth:sampledesign", {"INPUT": None, "OUTPUT": "TEMPORARY_OUTPUT"})

    def test_errors_of_the_backend_are_said(self, class_map, home):
        wanted = {"INPUT": class_map, "SIZE": 5, "OUTPUT": "TEMPORARY_OUTPUT"}
        with pytest.raises(QgsProcessingException, match="too small for 3 classes"):
            processing.run("mmearth:sampledesign", wanted)

    def test_expectations(self):
        found = parse_expected("0.9, 1=0.7; Open water=0.6")
        assert found == {
            "expected_accuracy": 0.9,
            "expected": [
                {"value": "1", "accuracy": 0.7}, {"value": "Open water", "accuracy": 0.6}
            ],
        }  # fmt: skip
        assert parse_expected("") == {"expected": []}
        with pytest.raises(QgsProcessingException, match="found 'Forest'"):
            parse_expected("Forest")


class TestAssess:
    def run(self, reference, class_map, tmp_path, **more):
        feedback = Feedback()
        wanted = {"INPUT": class_map, "REFERENCE": reference, "REPORT": str(tmp_path / "r.html"),
                  **more}  # fmt: skip
        return processing.run("mmearth:assess", wanted, feedback=feedback), feedback.said

    def test_a_sample_that_was_filled_in(self, sample, class_map, tmp_path):
        fill_in(sample, wrong=range(1, 25))
        files = {"TABLE": str(tmp_path / "t.csv"), "AREAS": str(tmp_path / "a.csv")}
        for reference in (sample, QgsVectorLayer(f"{sample}|layername=sample", "s", "ogr")):
            result, said = self.run(reference, class_map, tmp_path, **files)
            assert 0.8 < result["ACCURACY"] < 0.97
            assert {name: result[name] for name in files} == files
            page = Path(result["REPORT"]).read_text("utf-8")
            assert "stratified random sample" in page and "Water" in page
            assert said[0].startswith("Overall accuracy: ") and " ± " in said[0]
            assert any(line.startswith("Water: user's accuracy") for line in said)
            assert not any("not drawn by" in line for line in said)

    def test_points_in_memory_and_only_what_is_selected(self, class_map, home, tmp_path):
        layer = QgsVectorLayer("Point?crs=EPSG:32632&field=seen:string", "points", "memory")
        rows = []
        for row in range(1, 60, 3):
            for column in range(1, 80, 4):
                place = QgsPointXY(LEFT + (column + 0.5) * PIXEL, TOP - (row + 0.5) * PIXEL)
                rows.append(QgsFeature(layer.fields()))
                rows[-1].setGeometry(QgsGeometry.fromPointXY(place))
                rows[-1]["seen"] = TITLES[values()[row, column]]
        assert layer.dataProvider().addFeatures(rows)[0]
        result, said = self.run(layer, class_map, tmp_path, FIELD="seen")
        assert result["ACCURACY"] == 1 and any("not drawn by" in line for line in said)
        QgsProject.instance().addMapLayer(layer)
        layer.selectByExpression("$id <= 300")
        chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
        self.run(chosen, class_map, tmp_path, FIELD="seen")
        assert "300 pixels of 300" in " ".join(Path(tmp_path / "r.html").read_text().split())

    def test_a_raster(self, class_map, home, tmp_path):
        truth = str(tmp_path / "truth.tif")
        gdal.Translate(truth, class_map)
        result, said = self.run(truth, class_map, tmp_path)
        assert result["ACCURACY"] == 1 and "Overall accuracy: 100.0 ± 0.0 %" in said

    def test_what_is_refused(self, sample, class_map, tmp_path):
        with pytest.raises(QgsProcessingException, match="is interpreted"):
            self.run(sample, class_map, tmp_path)
        with pytest.raises(QgsProcessingException, match="No reference is chosen"):
            self.run(None, class_map, tmp_path)
        layer = fill_in(sample)
        layer.startEditing()
        layer.changeAttributeValue(1, layer.fields().lookupField("note"), "x")
        with pytest.raises(QgsProcessingException, match="edits that are not saved"):
            self.run(layer, class_map, tmp_path)
        layer.rollBack()
