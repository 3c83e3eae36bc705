"""Land cover, tree mask and tree density in Processing."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import processing
import pytest
from conftest import DATA
from osgeo import gdal
from qgis.core import (
    QgsProcessingException,
    QgsRasterLayer,
    QgsVectorLayer,
)
from runs import (
    TILE,
    Feedback,
)

from qgis_mmearth import shared


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


class TestProducts:
    def test_density_by_pixel_and_by_cell(self, home, tmp_path):
        names = {"OUTPUT": "d.tif", "CELLS": "c.tif", "TABLE": "t.csv"}
        files = {name: str(tmp_path / file) for name, file in names.items()}
        feedback = Feedback()
        result = processing.run(
            "mmearth:treedensity", {"INPUT": TILE, "CELL_SIZE": 200, **files}, feedback=feedback
        )
        assert result == files
        pixels, cells = (QgsRasterLayer(files[name], name) for name in ("OUTPUT", "CELLS"))
        assert cells.rasterUnitsPerPixelX() == 200 and cells.extent().xMinimum() % 200 == 0
        # As QGIS reads them they are percent already.
        statistics = pixels.dataProvider().bandStatistics(1)
        assert 0 <= statistics.minimumValue < statistics.maximumValue <= 100
        with open(files["TABLE"], encoding="utf-8") as file:
            trees = next(csv.DictReader(file))
        assert float(trees["cover_percent"]) == pytest.approx(statistics.mean, abs=0.1)
        assert any(f"{trees['cover_percent']} % of the ground" in line for line in feedback.said)
        for layer in (pixels, cells):
            items = layer.renderer().shader().rasterShaderFunction().colorRampItemList()
            assert [item.label for item in items] == ["0 %", "25 %", "50 %", "75 %", "100 %"]

    def test_cells_in_degrees_are_refused_in_words(self, home, tmp_path):
        degrees = str(tmp_path / "degrees.tif")
        gdal.Warp(degrees, TILE, dstSRS="EPSG:4326")
        parameters = {"INPUT": degrees, "OUTPUT": str(tmp_path / "d.tif")}
        with pytest.raises(QgsProcessingException, match="Cells of 100 m need a map in metres"):
            processing.run("mmearth:treedensity", {**parameters, "CELLS": "TEMPORARY_OUTPUT"})
        assert processing.run("mmearth:treedensity", parameters)["OUTPUT"]

    def test_the_area_of_a_density_is_told_apart_from_that_of_the_mask(
        self, home, own_model, tmp_path
    ):
        """By a model that calls trees only what it is all but certain of."""
        strict = home / "models" / "strict"
        shutil.copytree(Path(own_model).parent / "own-model", strict)
        card = json.loads((strict / "model.json").read_text("utf-8"))
        card["id"] = "strict"
        [product] = (
            product
            for product in card["properties"]["mmearth:products"]
            if product["id"] == "treemask"
        )
        product["threshold"] = 0.99
        (strict / "model.json").write_text(json.dumps(card), "utf-8")
        shared.events.models_changed.emit()
        feedback = Feedback()
        parameters = {"INPUT": TILE, "OUTPUT": str(tmp_path / "d.tif"), "MODEL": "strict"}
        processing.run("mmearth:treedensity", parameters, feedback=feedback)
        [line] = [line for line in feedback.said if "the probabilities add up to" in line]
        mask, cover = re.findall(r"([\d.]+) ha", line)
        assert float(mask) < float(cover) and "in doubt" in line

    def test_a_mask_of_clouds_and_an_endless_area(self, home, tmp_path):
        clouds = str(tmp_path / "clouds.tif")
        gdal.Translate(clouds, TILE, bandList=[1], srcWin=[0, 0, 10, 96])
        parameters = {"INPUT": TILE, "MASK": clouds, "OUTPUT": str(tmp_path / "m.tif")}
        processing.run("mmearth:treemask", parameters)
        assert (gdal.Open(parameters["OUTPUT"]).ReadAsArray()[:, :10] == 0).all()
        with pytest.raises(QgsProcessingException, match="MINIMUM_AREA"):
            processing.run("mmearth:treemask", {**parameters, "MINIMUM_AREA": math.inf})

    def test_polygons_of_a_mask(self, home, tmp_path):
        files = {"OUTPUT": str(tmp_path / "m.tif"), "POLYGONS": str(tmp_path / "m.gpkg")}
        parameters = {"INPUT": TILE, "MINIMUM_AREA": 0.5, **files}
        assert processing.run("mmearth:treemask", parameters) == files
        layer = QgsVectorLayer(files["POLYGONS"], "m", "ogr")
        assert {feature["class"] for feature in layer.getFeatures()} == {1, 2}

    def test_the_model_that_suits_the_rasters_is_taken(self, home, own_model, tmp_path):
        """Of two models that map trees, one of which the raster lacks a band for."""
        lacking = home / "models" / "aaa"
        shutil.copytree(Path(own_model).parent / "own-model", lacking)
        card = json.loads((lacking / "model.json").read_text("utf-8"))
        card["id"] = "aaa"
        for bands in (card["properties"]["bands"], card["properties"]["mlm:input"][0]["bands"]):
            bands[0] = {**bands[0], "name": "B10"} if isinstance(bands[0], dict) else "B10"
        (lacking / "model.json").write_text(json.dumps(card), "utf-8")
        shared.events.models_changed.emit()
        feedback = Feedback()
        parameters = {"INPUT": TILE, "OUTPUT": str(tmp_path / "m.tif")}
        assert shared.models()[0].id == "aaa"
        processing.run("mmearth:landcover", parameters, feedback=feedback)
        assert "Model: Sentinel-2 land cover" in feedback.said
        with pytest.raises(QgsProcessingException, match="B10"):
            processing.run("mmearth:landcover", {**parameters, "MODEL": "aaa"})

    @pytest.mark.parametrize(
        ("raster", "title"),
        [(TILE, "Sentinel-2 land cover"), (str(DATA / "amazon_rgb.tif"), "Forest in true colour")],
    )
    def test_trees_of_a_scene_and_of_a_picture(self, home, tmp_path, raster, title):
        feedback = Feedback()
        parameters = {"INPUT": raster, "OUTPUT": str(tmp_path / "m.tif")}
        processing.run("mmearth:treemask", parameters, feedback=feedback)
        assert f"Model: {title}" in feedback.said
