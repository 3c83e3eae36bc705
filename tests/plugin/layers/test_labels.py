"""Label layers, and labels on their way to the backend."""

import threading
from pathlib import Path

import pytest
from osgeo import gdal, ogr
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsEditFormConfig,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsPalettedRasterRenderer,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from qgis_mmearth.layers import label_copies, labels
from qgis_mmearth.link.errors import LinkError

UTM = QgsCoordinateReferenceSystem("EPSG:32648")
WGS = QgsCoordinateReferenceSystem("EPSG:4326")
CLASSES = [
    {"value": "forest", "title": "Dense forest", "color": "#117733"},
    {"value": "it's", "title": "Quoted", "color": "#ddcc77"},
]


def write_labels(layers, field, target, classes=None):
    return label_copies.write_copies(label_copies.copy_labels(layers, field, classes), target)


def square(x=0.0, y=0.0, size=10.0):
    return QgsGeometry.fromRect(QgsRectangle(x, y, x + size, y + size))


def draw(layer, geometry, value):
    feature = QgsFeature(layer.fields())
    feature.setGeometry(geometry)
    feature.setAttribute(labels.FIELD if "class" in layer.fields().names() else 0, value)
    assert layer.addFeature(feature)
    return feature


def memory(definition, values, geometry=None):
    layer = QgsVectorLayer(definition, "mine", "memory")
    features = []
    for value in values:
        feature = QgsFeature(layer.fields())
        feature.setGeometry(geometry or square())
        feature.setAttribute(0, value)
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    QgsProject.instance().addMapLayer(layer)
    return layer


def written(source):
    dataset = ogr.Open(source["path"])
    table = dataset.GetLayerByName(source["layer"])
    return [
        (f.GetFID(), f.GetField(source["field"]), f.GetGeometryRef().ExportToWkt()) for f in table
    ]


@pytest.fixture
def layers(tmp_path):
    return labels.create_label_layers(tmp_path / "Labels.gpkg", CLASSES, UTM)


class TestCreate:
    def test_a_group_that_is_ready_to_draw(self, layers):
        group = QgsProject.instance().layerTreeRoot().children()[0]
        assert group.name() == "Labels"
        assert [node.name() for node in group.children()] == ["Points", "Lines", "Polygons"]
        assert all(layer.crs() == UTM for layer in layers)
        assert all(layer.isEditable() for layer in layers)
        assert not QgsProject.instance().snappingConfig().enabled()

    def test_undo(self, layers):
        draw(layers[0], square(), "forest")
        assert labels.count_features(layers, "class") == {"forest": 1}
        layers[0].undoStack().undo()
        assert labels.count_features(layers, "class") == {}

    def test_the_style_comes_back_with_the_file(self, layers, tmp_path):
        source = layers[0].source()
        for layer in layers:
            layer.commitChanges()
        QgsProject.instance().clear()
        again = QgsVectorLayer(source, "again", "ogr")
        category = again.renderer().categories()[0]  # owns its symbol
        color = category.symbol().color()
        assert color.name() == "#117733" and color.alpha() < 128
        assert again.editorWidgetSetup(again.fields().lookupField("class")).type() == "ValueMap"
        assert labels.classes_of([again], "class") == CLASSES
        assert labels.drawn_class([again]) == "forest"

    def test_other_classes_replace_style_and_default(self, layers):
        more = [{"value": "rice", "title": "Rice", "color": "#123456"}]
        labels.set_classes(layers, more)
        assert labels.drawn_class(layers) == "rice"
        again = QgsVectorLayer(layers[2].source(), "again", "ogr")
        assert labels.classes_of([again], "class") == more

    def test_the_default_is_the_class_last_chosen(self, layers):
        labels.draw_class(layers, "it's")
        assert [labels.drawn_class([layer]) for layer in layers] == ["it's"] * 3

    def test_no_file_is_overwritten(self, layers, tmp_path):
        with pytest.raises(LinkError, match="there already"):
            labels.create_label_layers(tmp_path / "Labels.gpkg", CLASSES, UTM)

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(LinkError, match="could not be written"):
            labels.create_label_layers(tmp_path / "nowhere" / "l.gpkg", CLASSES, UTM)
        assert not QgsProject.instance().mapLayers()

    def test_layers_of_one_file_belong_together(self, layers, tmp_path):
        labels.create_label_layers(tmp_path / "Other.gpkg", CLASSES, UTM)
        assert labels.siblings(layers[2]) == layers

    def test_a_duplicated_layer_labels_nothing_anew(self, layers):
        draw(layers[1], QgsGeometry.fromWkt("LineString (0 0, 5 5)"), "forest")
        layers[1].commitChanges()
        QgsProject.instance().addMapLayer(layers[1].clone())
        found = labels.siblings(layers[0])
        assert len(found) == 3 and labels.count_features(found, "class") == {"forest": 1}

    def test_each_layer_alone_tells_the_classes(self, layers):
        for layer in layers:
            again = QgsVectorLayer(layer.source(), "again", "ogr")
            assert labels.classes_of([again], "class") == CLASSES

    def test_no_form_comes_between_two_labels(self, layers):
        off = QgsEditFormConfig.FeatureFormSuppress.SuppressOn
        again = QgsVectorLayer(layers[0].source(), "again", "ogr")
        assert {layer.editFormConfig().suppress() for layer in (*layers, again)} == {off}


class TestWrite:
    def test_polygons_lines_and_points_with_unsaved_edits(self, layers, tmp_path):
        draw(layers[0], square(), "forest")
        layers[0].commitChanges(False)
        draw(layers[0], square(20), "it's")
        draw(layers[1], QgsGeometry.fromPolylineXY([QgsPointXY(0, 0), QgsPointXY(5, 5)]), "forest")
        draw(layers[2], QgsGeometry.fromPointXY(QgsPointXY(1, 1)), "forest")
        source = write_labels(layers, "class", tmp_path / "out.gpkg")
        rows = written(source)
        assert [row[1] for row in rows] == ["forest", "it's", "forest", "forest"]
        kinds = ["POLYGON", "POLYGON", "LINESTRING", "POINT"]
        assert [row[2].split(" ")[0].replace("MULTI", "") for row in rows] == kinds
        assert source["classes"] == CLASSES
        assert layers[0].isEditable() and layers[0].isModified()

    def test_moved_and_deleted_features_as_they_are_seen(self, layers, tmp_path):
        for place in (0, 20):
            draw(layers[0], square(place), "forest")
        layers[0].commitChanges(False)
        first, second = sorted(feature.id() for feature in layers[0].getFeatures())
        layers[0].deleteFeature(first)
        layers[0].changeGeometry(second, square(100))
        ((number, _, shape),) = written(write_labels(layers, "class", tmp_path / "o.gpkg"))
        assert number == second and "100 0" in shape

    def test_each_layers_own_coordinates(self, tmp_path):
        utm = memory("Polygon?crs=EPSG:32648&field=class:string", ["a"], square(500000, 1500000))
        wgs = memory("Point?crs=EPSG:4326&field=class:string", ["a"],
                     QgsGeometry.fromPointXY(QgsPointXY(105.0, 13.0)))  # fmt: skip
        source = write_labels([utm, wgs], "class", tmp_path / "out.gpkg")
        dataset = ogr.Open(source["path"])
        assert dataset.GetLayer(0).GetSpatialRef().GetAuthorityCode(None) == "32648"
        features = list(dataset.GetLayer(0))  # own their geometries
        point = features[1].GetGeometryRef()
        assert point.GetX() == pytest.approx(500000, abs=0.1)  # of the zone's central meridian
        assert point.GetY() == pytest.approx(1437206, abs=100)
        assert wgs.crs() == WGS

    @pytest.mark.parametrize(("own", "copied"), [("kind", "kind"), ("fid", "class")])
    def test_the_field_keeps_its_name(self, tmp_path, own, copied):
        """The backend names it where values are missing."""
        layer = memory(f"Polygon?field={own}:string", ["a", None])
        source = write_labels([layer], own, tmp_path / "copy.gpkg")
        assert source["field"] == copied
        assert [value for _, value, _ in written(source)] == ["a", None]

    def test_only_what_a_filter_shows(self, tmp_path):
        layer = memory("Polygon?crs=EPSG:4326&field=class:string", ["a", "b", "a"])
        layer.setSubsetString("\"class\" = 'b'")
        rows = written(write_labels([layer], "class", tmp_path / "out.gpkg"))
        assert [row[1] for row in rows] == ["b"]
        assert labels.count_features([layer], "class") == {"b": 1}

    def test_numbers_and_empty_values(self, tmp_path):
        layer = memory("Polygon?crs=EPSG:4326&field=code:double", [3.0, None, 1.5])
        source = write_labels([layer], "code", tmp_path / "out.gpkg")
        assert [row[1] for row in written(source)] == ["3", None, "1.5"]
        assert [row["value"] for row in source["classes"]] == ["1.5", "3"]
        assert len({row["color"] for row in source["classes"]}) == 2

    def test_written_in_another_thread(self, layers, tmp_path):
        draw(layers[0], square(), "forest")
        copies = label_copies.copy_labels(layers, "class")
        layers[0].rollBack()  # what was taken stays as it was
        found = []
        thread = threading.Thread(
            target=lambda: found.append(label_copies.write_copies(copies, tmp_path / "out.gpkg"))
        )
        thread.start()
        thread.join()
        assert [row[1] for row in written(found[0])] == ["forest"]

    def test_a_field_that_is_not_there(self, layers, tmp_path):
        with pytest.raises(LinkError, match="has no field kind; it has fid, class"):
            write_labels(layers, "kind", tmp_path / "out.gpkg")

    def test_chosen_classes(self, layers, tmp_path):
        source = write_labels(layers, "class", tmp_path / "out.gpkg", CLASSES[:1])
        assert source["classes"] == CLASSES[:1]


class TestClasses:
    def test_names_and_colours_of_a_style(self):
        layer = memory("Polygon?crs=EPSG:4326&field=code:int", [7, 8])
        symbol = QgsFillSymbol.createSimple({"color": "10,20,30,40"})
        layer.setRenderer(
            QgsCategorizedSymbolRenderer("code", [QgsRendererCategory(7, symbol, "Seven")])
        )
        rows = labels.classes_of([layer], "code")
        assert rows[0] == {"value": "7", "title": "Seven", "color": "#0a141e"}
        assert rows[1]["value"] == rows[1]["title"] == "8"

    def test_a_label_raster_stays_where_it_is(self, tmp_path):
        path = tmp_path / "codes.tif"
        dataset = gdal.GetDriverByName("GTiff").Create(str(path), 4, 4, 1, gdal.GDT_Byte)
        dataset.GetRasterBand(1).Fill(2)
        del dataset
        layer = QgsRasterLayer(str(path), "codes")
        entries = [
            QgsPalettedRasterRenderer.Class(0, QColor("#000000"), "nothing"),
            QgsPalettedRasterRenderer.Class(2, QColor("#00ff00"), "Trees"),
        ]
        layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))
        source = write_labels([layer], None, tmp_path / "unused.gpkg")
        assert source == {
            "path": str(path),
            "layer": None,
            "field": None,
            "classes": [{"value": "2", "title": "Trees", "color": "#00ff00"}],
        }
        assert not Path(tmp_path / "unused.gpkg").exists()
