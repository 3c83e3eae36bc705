"""Masks of clouds, and disturbance between dates, in Processing."""

import re
from pathlib import Path

import numpy as np
import processing
import pytest
from osgeo import gdal
from qgis.core import (
    QgsProcessingException,
    QgsRasterLayer,
    QgsVectorLayer,
)
from runs import TILE, Feedback, make_later, wanted

from qgis_mmearth.layers import scenes
from qgis_mmearth.processing.algorithms.model import parse_mask_values


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


class TestMask:
    def test_what_is_masked_is_no_data(self, home, tmp_path):
        mask = str(tmp_path / "clouds.tif")
        gdal.Translate(
            mask, TILE, bandList=[1], outputType=gdal.GDT_Byte, scaleParams=[[0, 1, 0, 0]]
        )
        dataset = gdal.Open(mask, gdal.GA_Update)
        values = np.zeros((96, 96), np.uint8)
        values[:30], values[30:40] = 9, 4
        dataset.GetRasterBand(1).WriteArray(values)
        del dataset
        common = {"INPUT": TILE, "MASK": QgsRasterLayer(mask, "My clouds")}
        for number, (rule, rows) in enumerate({"": 40, "9": 30, "> 8": 30, "bits 2": 40}.items()):
            output = str(tmp_path / f"{number}.tif")
            bits = {"bits 2": (values & 4) > 0}
            processing.run("mmearth:segment", {**common, "MASK_VALUES": rule, "OUTPUT": output})
            lacking = gdal.Open(output).ReadAsArray() == 0
            expected = bits.get(rule, np.arange(96)[:, None] < np.full((1, 96), rows))
            assert (lacking == expected).all()

    def test_a_rule_that_is_none(self):
        assert parse_mask_values(" 3, 8;9 ") == {"values": [3, 8, 9]}
        assert parse_mask_values(">0.4") == {"above": 0.4}
        assert parse_mask_values("bits 3 4") == {"bits": [3, 4]}
        assert parse_mask_values("") == {}
        for text in ("clouds", "> much", "bits", ">", "3 x"):
            with pytest.raises(QgsProcessingException, match="expected 3 8 9"):
                parse_mask_values(text)


class TestDisturbance:
    def test_every_output(self, home, tmp_path):
        names = {"CLASSES": "m.tif", "PROBABILITY": "p.tif", "POLYGONS": "a.gpkg",
                 "TABLE": "t.csv", "TRANSITIONS": "r.csv"}  # fmt: skip
        files = {name: str(tmp_path / file) for name, file in names.items()}
        feedback = Feedback()
        mask = str(tmp_path / "clouds.tif")
        gdal.Translate(mask, TILE, bandList=[1], srcWin=[0, 0, 10, 96])
        parameters = {"BEFORE": TILE, "AFTER": make_later(tmp_path), "MASK_AFTER": mask, **files}
        result = processing.run("mmearth:disturbance", parameters, feedback=feedback)
        assert result == files
        assert all(Path(path).stat().st_size for path in files.values())
        classes = gdal.Open(files["CLASSES"]).ReadAsArray()
        assert (classes[:, :10] == 0).all() and (classes[:, 10:] > 0).all()
        said = "\n".join(feedback.said)
        assert "First date: terramind_l2a (0 pixels left out by a mask" in said
        assert "Last date: later (960 pixels left out by a mask" in said
        assert "Forest loss: " in said
        probable = gdal.Open(files["PROBABILITY"]).ReadAsArray()
        least = int(re.search(r"mapped from a probability of (\d+) % on", said)[1])
        assert ((probable >= least) == np.isin(classes, (2, 3)))[:, 10:].all()

    def test_layers_are_styled(self, home, tmp_path):
        parameters = wanted("disturbance", tmp_path, PROBABILITY="TEMPORARY_OUTPUT")
        result = processing.run("mmearth:disturbance", parameters)
        layer = QgsRasterLayer(result["CLASSES"], "x")
        titles = [entry.label for entry in layer.renderer().classes()]
        assert titles == [
            "Stable forest", "Forest loss", "Forest gain", "Stable non-forest", "Possible loss",
            "Possible gain",
        ]  # fmt: skip
        shown = QgsRasterLayer(result["PROBABILITY"], "p")
        assert shown.renderer().type() == "singlebandpseudocolor"
        shader = shown.renderer().shader().rasterShaderFunction()
        legend, ramp = shader.legendSettings().maximumLabel(), shader.colorRampItemList()
        assert re.fullmatch(r"100 % \(mapped from \d+ % on\)", legend)
        assert [ramp[0].label, ramp[-1].label] == ["0 %", "100 %"] and ramp[-1].value == 1

    def test_the_sample_has_lost_something(self, home, tmp_path):
        parameters = {"BEFORE": scenes.BEFORE.path, "AFTER": scenes.AFTER.path}
        files = {"CLASSES": str(tmp_path / "m.tif"), "POLYGONS": str(tmp_path / "m.gpkg")}
        processing.run("mmearth:disturbance", {**parameters, **files})
        assert (gdal.Open(files["CLASSES"]).ReadAsArray() == 2).any()
        # Polygons hold changes alone, and so does their legend.
        layer = QgsVectorLayer(files["POLYGONS"], "areas", "ogr")
        shown = [int(entry.value()) for entry in layer.renderer().categories()]
        assert shown == [2, 3, 5, 6]

    def test_masks_of_dates_in_between(self, home, tmp_path):
        between = []
        for number in (1, 2):
            between.append(str(tmp_path / f"between{number}.tif"))
            gdal.Translate(between[-1], TILE, scaleParams=[[0, 10_000, 0, 10_000 - number]])
        parameters = wanted("disturbance", tmp_path, BETWEEN=between)
        clouds = str(tmp_path / "clouds.tif")
        gdal.Translate(clouds, TILE, bandList=[1], srcWin=[0, 0, 10, 96])
        with pytest.raises(QgsProcessingException, match="each date in between, found 1 for 2"):
            processing.run("mmearth:disturbance", {**parameters, "MASK_BETWEEN": [clouds]})
        nothing = str(tmp_path / "nothing.tif")
        gdal.Translate(nothing, TILE, bandList=[1], scaleParams=[[0, 1, 0, 0]])
        feedback = Feedback()
        parameters["MASK_BETWEEN"] = [nothing, clouds]
        processing.run("mmearth:disturbance", parameters, feedback=feedback)
        said = [line for line in feedback.said if line.startswith("In between")]
        assert "(0 pixels left out" in said[0] and "(960 pixels left out" in said[1]

    def test_without_a_last_date(self, home):
        parameters = {"BEFORE": TILE, "CLASSES": "TEMPORARY_OUTPUT"}
        with pytest.raises(QgsProcessingException, match=r"AFTER|last date is missing"):
            processing.run("mmearth:disturbance", parameters)

    @pytest.mark.parametrize("name", ["AFTER", "BETWEEN"])
    def test_a_date_that_does_not_exist(self, home, name):
        dates = {"BEFORE": TILE, "AFTER": TILE, name: ["/none/date.tif"]}
        with pytest.raises(QgsProcessingException, match=r"/none/date\.tif does not exist"):
            processing.run("mmearth:disturbance", {**dates, "CLASSES": "TEMPORARY_OUTPUT"})

    def test_values_of_no_mask(self, home, tmp_path):
        with pytest.raises(QgsProcessingException, match="but no mask"):
            processing.run("mmearth:disturbance", wanted("disturbance", tmp_path, MASK_VALUES="8"))

    def test_the_same_image_twice(self, home):
        parameters = {"BEFORE": TILE, "AFTER": TILE, "CLASSES": "TEMPORARY_OUTPUT"}
        with pytest.raises(QgsProcessingException, match="the same image"):
            processing.run("mmearth:disturbance", parameters)
