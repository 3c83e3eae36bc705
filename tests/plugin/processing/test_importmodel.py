"""``mmearth:importmodel``: what it installs can be mapped with at once."""

import json
from pathlib import Path

import processing
import pytest
from conftest import DATA, EMBEDDED
from osgeo import gdal
from qgis.core import QgsApplication, QgsProcessingException

TILE = str(DATA / "terramind_l2a.tif")


def models():
    found = QgsApplication.processingRegistry().algorithmById("mmearth:segment")
    return sorted(found.parameterDefinition("MODEL").options())


@pytest.mark.parametrize("name", ["own.zip", "own-model"])
def test_a_model_is_mapped_with(home, own_model, tmp_path, name):
    result = processing.run("mmearth:importmodel", {"FILE": str(tmp_path / name)})
    assert result["MODEL"] == "own-model"
    assert Path(result["FOLDER"]) == home / "models" / "own-model"
    assert (home / "models" / "own-model" / "model.json").is_file()
    assert models() == sorted([*EMBEDDED, "own-model"])
    mapped = {}
    for model in ("own-model", "landcover-s2"):
        parameters = {"INPUT": TILE, "MODEL": model, "OUTPUT": str(tmp_path / f"{model}.tif")}
        mapped[model] = gdal.Open(processing.run("mmearth:segment", parameters)["OUTPUT"])
    own, embedded = (raster.ReadAsArray() for raster in mapped.values())
    assert (own == embedded).all()  # the same weights under another name


def test_a_model_gets_a_name_of_ones_own(home, own_model):
    named = {"FILE": own_model, "ID": "renamed", "TITLE": "Renamed"}
    assert processing.run("mmearth:importmodel", named)["MODEL"] == "renamed"
    assert models() == sorted([*EMBEDDED, "renamed"])
    card = json.loads((home / "models" / "renamed" / "model.json").read_text("utf-8"))
    assert card["properties"]["title"] == "Renamed"


def test_nothing_named_is_said(home):
    with pytest.raises(QgsProcessingException, match="Nothing to install is named"):
        processing.run("mmearth:importmodel", {})


def test_a_missing_file_is_named(home, tmp_path):
    with pytest.raises(QgsProcessingException, match=r"missing\.zip does not exist"):
        processing.run("mmearth:importmodel", {"FILE": str(tmp_path / "missing.zip")})


def test_a_licence_that_is_not_accepted_is_said(home):
    with pytest.raises(QgsProcessingException, match=r"has the licence CC-BY-4\.0"):
        processing.run("mmearth:importmodel", {"PUBLISHED": "ssl4eo-resnet18-all-moco"})
    assert not list((home / "models").glob("*/model.json"))


def test_an_unknown_encoder_is_said(home):
    with pytest.raises(QgsProcessingException, match="No published model is called 'nothing'"):
        processing.run("mmearth:importmodel", {"PUBLISHED": "nothing", "ACCEPT_LICENCE": True})


def test_a_damaged_file_installs_nothing(home, tmp_path):
    (tmp_path / "damaged.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(QgsProcessingException, match=r"damaged\.zip"):
        processing.run("mmearth:importmodel", {"FILE": str(tmp_path / "damaged.zip")})
    assert not list((home / "models").glob("*/model.json")) and models() == EMBEDDED
