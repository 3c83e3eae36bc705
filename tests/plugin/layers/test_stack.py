"""Layers become references; layers without a file become files."""

from pathlib import Path

import pytest
from conftest import DATA, SCENE
from osgeo import gdal
from qgis.core import QgsProject, QgsRasterLayer

from qgis_mmearth.layers import stack
from qgis_mmearth.link.errors import LinkError


def test_a_file_is_its_path(scene_layer, tmp_path):
    assert stack.reference(scene_layer, tmp_path) == {"path": str(SCENE), "label": "Thailand"}
    assert not list(tmp_path.iterdir())


def test_odd_characters_in_a_path(tmp_path):
    folder = tmp_path / "Zoë Ünal's & co"
    folder.mkdir()
    path = folder / "B04 red.tif"
    gdal.Translate(str(path), str(DATA / "terramind_l2a.tif"))
    assert stack.file_of(QgsRasterLayer(str(path), "x")) == str(path)


def test_a_virtual_raster_is_its_path(tmp_path):
    path = str(tmp_path / "stack.vrt")
    gdal.BuildVRT(path, [str(DATA / "terramind_l2a.tif")]).FlushCache()
    assert stack.file_of(QgsRasterLayer(path, "x")) == path


def test_a_zipped_file_keeps_its_prefix(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(DATA / "terramind_l2a.tif", "scene.tif")
    layer = QgsRasterLayer(f"/vsizip/{tmp_path}/scene.zip/scene.tif", "x")
    assert layer.isValid()
    assert gdal.Open(stack.file_of(layer)) is not None


@pytest.mark.parametrize("place", ["file", "memory"])
def test_a_copy_keeps_what_the_bands_are(tmp_path, place):
    """With open options, or in QGIS's own memory, no other program can open it."""
    source = gdal.Open(str(DATA / "terramind_l2a.tif"))
    names = [source.GetRasterBand(i).GetDescription() for i in range(1, source.RasterCount + 1)]
    path = str(DATA / "terramind_l2a.tif") + "|option:NUM_THREADS=2"
    if place == "memory":
        path = "/vsimem/scene.tif"
        gdal.Translate(path, source)
    layer = QgsRasterLayer(path, "scene")
    assert layer.isValid() and stack.file_of(layer) == ""
    copy = gdal.Open(stack.reference(layer, tmp_path)["path"])
    assert [copy.GetRasterBand(i).GetDescription() for i in range(1, len(names) + 1)] == names
    assert (copy.ReadAsArray() == source.ReadAsArray()).all()


def test_a_layer_without_a_file_is_copied(tmp_path):
    """A layer of QGIS's raster calculator has no file that another program could open."""
    project = QgsProject.instance()
    source = QgsRasterLayer(str(DATA / "terramind_l2a.tif"), "scene")
    project.addMapLayer(source)
    layer = virtual_layer(source)
    assert layer.isValid(), layer.error().summary()
    assert stack.file_of(layer) == ""
    reference = stack.reference(layer, tmp_path)
    assert reference["label"] == "doubled"
    copy = gdal.Open(reference["path"])
    assert (copy.RasterXSize, copy.RasterYSize) == (96, 96)
    original = gdal.Open(str(DATA / "terramind_l2a.tif"))
    assert (copy.ReadAsArray() == 2.0 * original.ReadAsArray()[3]).all()
    assert Path(reference["path"]).parent == tmp_path


def virtual_layer(source):
    from qgis.core import QgsRasterDataProvider

    definition = QgsRasterDataProvider.VirtualRasterParameters()
    definition.crs = source.crs()
    definition.extent = source.extent()
    definition.width, definition.height = source.width(), source.height()
    definition.formula = '"scene@4" * 2'
    part = QgsRasterDataProvider.VirtualRasterInputLayers()
    part.name, part.uri, part.provider = "scene", source.source(), "gdal"
    definition.rInputLayers = [part]
    uri = QgsRasterDataProvider.encodeVirtualRasterProviderUri(definition)
    return QgsRasterLayer(uri, "doubled", "virtualraster")


def test_a_layer_without_pixels_is_said(tmp_path):
    layer = QgsRasterLayer("type=xyz&url=file:///nowhere/{z}/{x}/{y}.png&zmax=3&zmin=0", "x", "wms")
    assert not stack.has_pixels(layer)
    with pytest.raises(LinkError, match=r"no pixels of its own|could not be copied|cannot be read"):
        stack.reference(layer, tmp_path)
