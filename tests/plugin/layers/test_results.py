"""Results are styled, grouped, and stay styled when they are added again."""

from pathlib import Path

import pytest
from conftest import DATA
from qgis.core import QgsPalettedRasterRenderer, QgsProject, QgsRasterLayer, QgsVectorLayer

from qgis_mmearth import shared
from qgis_mmearth.layers import results

EVERYTHING = ["classes", "probabilities", "confidence", "polygons", "table"]


@pytest.fixture
def result(kept_home, tmp_path):
    """A real result with every output."""
    outputs = results.output_paths(tmp_path, "map", EVERYTHING)
    spec = {
        "kind": "segment",
        "inputs": [{"path": str(DATA / "terramind_l2a.tif"), "label": "scene"}],
        "model": "landcover-s2",
        "outputs": outputs,
    }
    return shared.backend().run_job(spec, lambda job: None, lambda: False)["result"]


def legend(layer):
    return [(c.value, c.label, c.color.name()) for c in layer.renderer().classes()]


def test_layers_and_styles(result):
    layers = {layer.name(): layer for layer in results.open_results(result, "Land cover")}
    assert set(layers) == {"Land cover", "Probabilities", "Confidence", "Areas", "Area table"}
    expected = [(row["value"], row["title"], row["color"]) for row in result["classes"]]
    assert legend(layers["Land cover"]) == expected
    categories = layers["Areas"].renderer().categories()
    assert [(c.value(), c.label()) for c in categories] == [e[:2] for e in expected]
    assert layers["Area table"].featureCount() == len(expected)
    assert "MMEarth" in layers["Land cover"].metadata().abstract()


def test_styles_stay_with_the_files(result):
    results.open_results(result, "Land cover")
    again = QgsRasterLayer(result["outputs"]["classes"], "again")
    assert isinstance(again.renderer(), QgsPalettedRasterRenderer)
    assert len(legend(again)) == len(result["classes"])
    polygons = QgsVectorLayer(result["outputs"]["polygons"], "again", "ogr")
    assert polygons.renderer().type() == "categorizedSymbol"


def test_qgis_reads_names_and_percent_without_our_style(result, tmp_path):
    """In another program, or without the .qml, names and colours are in the file."""
    Path(result["outputs"]["classes"]).with_suffix(".qml").unlink(missing_ok=True)
    layer = QgsRasterLayer(result["outputs"]["classes"], "bare")
    found = {row[0]: row[1:] for row in legend(layer)}
    for row in result["classes"]:
        assert found[row["value"]] == (row["title"], row["color"])
    confidence = QgsRasterLayer(result["outputs"]["confidence"], "bare")
    statistics = confidence.dataProvider().bandStatistics(1)
    assert 0 <= statistics.minimumValue and statistics.maximumValue <= 1  # the scale is applied


def test_files_that_cannot_be_opened_are_left_out(result):
    Path(result["outputs"]["classes"]).write_bytes(b"")
    Path(result["outputs"]["polygons"]).unlink()
    names = [layer.name() for layer in results.open_results(result, "Land cover")]
    assert names == ["Probabilities", "Confidence", "Area table"]


def test_a_group_without_rasters(result):
    table = results.open_results({**result, "outputs": {"table": result["outputs"]["table"]}}, "x")
    group = results.add_to_project(table, "Only a table")
    assert [node.name() for node in group.children()] == ["Area table"]


def test_group_on_top_with_the_map_shown(result, scene_layer):
    layers = results.open_results(result, "Land cover")
    results.add_to_project(layers, "Thailand – Land cover")
    root = QgsProject.instance().layerTreeRoot()
    group = root.children()[0]
    assert group.name() == "Thailand – Land cover" and group.isExpanded()
    names = [(node.name(), node.itemVisibilityChecked()) for node in group.children()]
    assert names == [
        ("Area table", False),
        ("Land cover", True),
        ("Areas", False),
        ("Confidence", False),
        ("Probabilities", False),
    ]


def test_group_below_what_stays_in_sight(scene_layer):
    root = QgsProject.instance().layerTreeRoot()
    drawn = QgsVectorLayer("Polygon", "Drawn", "memory")
    QgsProject.instance().addMapLayer(drawn, False)
    root.insertGroup(0, "Labels").addGroup("Of today").addLayer(drawn)
    results.add_to_project([], "Map", below=drawn.id())
    assert [node.name() for node in root.children()] == ["Labels", "Map", "Thailand"]
    results.add_to_project([], "Other", below="gone")
    assert [node.name() for node in root.children()] == ["Other", "Labels", "Map", "Thailand"]


def test_file_names_are_never_taken_twice(tmp_path):
    first = results.output_paths(tmp_path, "scene_landcover", EVERYTHING)
    assert len(set(first.values())) == len(EVERYTHING)
    stems = [Path(path).with_suffix(".qml") for path in first.values() if path.endswith(".tif")]
    assert len(set(stems)) == 3  # styles do not overwrite each other
    Path(first["table"]).touch()
    second = results.output_paths(tmp_path, "scene_landcover", EVERYTHING)
    assert not set(first.values()) & set(second.values())
