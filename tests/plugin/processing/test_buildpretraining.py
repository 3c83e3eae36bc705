"""Data for pretraining in Processing."""

import json

import numpy as np
import processing
import pytest
from osgeo import gdal
from qgis.core import (
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QColor
from runs import TILE, Feedback, algorithm

from qgis_mmearth.processing.algorithms.buildpretraining import name_and_date, parse_codes


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


def beside(path, values):
    """Write a raster on the ground of the tile."""
    tile = gdal.Open(TILE)
    kind = gdal.GDT_Byte if values.dtype == np.uint8 else gdal.GDT_Float32
    made = gdal.GetDriverByName("GTiff").Create(str(path), 96, 96, 1, kind)
    made.SetProjection(tile.GetProjection())
    made.SetGeoTransform(tile.GetGeoTransform())
    made.GetRasterBand(1).WriteArray(values)
    del made
    return str(path)


@pytest.fixture
def parameters(tmp_path):
    """Two dates of an image, elevation, radar of two dates, and a map."""
    images = []
    for date in ("20230410", "20230820"):
        images.append(str(tmp_path / f"s2_{date}.tif"))
        gdal.Translate(images[-1], TILE)
    slope = np.add.outer(np.arange(96), np.arange(96)).astype(np.float32)
    measured = [beside(tmp_path / "Height (m).tif", slope)]
    for date in ("2023-04-15", "2023-07-30"):
        measured.append(beside(tmp_path / f"radar {date}.tif", slope + 1))
    cover = beside(tmp_path / "cover.tif", np.where(slope < 90, 10, 20).astype(np.uint8))
    return {
        "INPUT": images, "MEASURED": measured, "CLASSES": [cover], "CODES": "cover=10,20",
        "SIZE": 32, "BLOCK": 0.4, "VALIDATION": 0.25, "OUTPUT": str(tmp_path / "mine"),
    }  # fmt: skip


def test_a_data_set_of_layers(home, parameters, tmp_path):
    feedback = Feedback()
    result = processing.run("mmearth:buildpretraining", parameters, feedback=feedback)
    folder = tmp_path / "mine"
    assert result == {"OUTPUT": str(folder)}
    endings = (".h5", "_band_stats.json", "_splits.json", "_tile_info.json")
    assert sorted(path.name for path in folder.iterdir()) == [f"mine{one}" for one in endings]
    info = json.loads((folder / "mine_tile_info.json").read_text()).values()
    assert len(info) == 18
    assert {row["S2_DATE"]: row["dates"]["radar"] for row in info} == {
        "2023-04-10": "2023-04-15", "2023-08-20": "2023-07-30",
    }  # fmt: skip
    stats = json.loads((folder / "mine_band_stats.json").read_text())
    assert {"sentinel2_l2a", "height_m", "radar"} <= set(stats)
    assert any("18 tiles of 9 places: train " in line for line in feedback.said)
    assert "cover: 100.0 % of the pixels" in feedback.said


def test_classes_of_a_palette(home, parameters, tmp_path):
    (path,) = parameters["CLASSES"]
    layer = QgsRasterLayer(path, "cover")
    with pytest.raises(QgsProcessingException, match=r"has no palette. Write them as cover=1,2,3"):
        processing.run("mmearth:buildpretraining", {**parameters, "CODES": ""})
    classes = [QgsPalettedRasterRenderer.Class(value, QColor("red")) for value in (10, 20)]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, classes))
    QgsProject.instance().addMapLayer(layer)
    given = {**parameters, "CLASSES": [layer], "CODES": "", "COUNT": 4}
    processing.run("mmearth:buildpretraining", given)
    info = json.loads((tmp_path / "mine" / "mine_tile_info.json").read_text())
    assert len(info) == 8


def test_what_stands_in_the_way_is_said(home, parameters):
    with pytest.raises(QgsProcessingException, match="Tiles of 128 pixels do not fit"):
        processing.run("mmearth:buildpretraining", {**parameters, "SIZE": 128})
    with pytest.raises(QgsProcessingException, match="Expected L1C or L2A"):
        processing.run("mmearth:buildpretraining", {**parameters, "LEVEL": "other"})
    with pytest.raises(QgsProcessingException, match="No raster is chosen"):
        processing.run("mmearth:buildpretraining", {**parameters, "INPUT": []})
    with pytest.raises(QgsProcessingException, match="height_m is among what is measured and"):
        processing.run(
            "mmearth:buildpretraining", {**parameters, "CLASSES": parameters["MEASURED"][:1]}
        )


def test_cancel_leaves_nothing(home, parameters, tmp_path):
    feedback = Feedback(cancel_at=1)
    result, _ = algorithm("buildpretraining").run(parameters, QgsProcessingContext(), feedback)
    assert feedback.isCanceled() and result == {}
    assert not list((tmp_path / "mine").glob("*"))


@pytest.mark.parametrize(
    ("title", "found"),
    [
        ("Radar 2023-04-15", ("radar", "2023-04-15")),
        ("S1_20230415T054500_VV", ("s1_vv", "2023-04-15")),
        ("S1 20230415 VV", ("s1_vv", "2023-04-15")),
        ("elevation", ("elevation", None)),
        ("2021", ("raster_2021", None)),
        ("tile 123456789", ("tile_123456789", None)),
    ],
)
def test_names_and_dates_of_layers(title, found):
    assert name_and_date(title) == found


def test_codes():
    assert parse_codes("cover=10,20; Leaf type=0, 1") == {"cover": [10, 20], "leaf_type": [0, 1]}
    with pytest.raises(QgsProcessingException, match="found 'cover'"):
        parse_codes("cover")
