"""Processing algorithms: the contract of all of them, and what each does."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import processing
import pytest
from conftest import DATA, SCENE
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsRasterLayer,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from qgis_mmearth import shared
from qgis_mmearth.compat import FLAG_ADVANCED, SOURCE_RASTER
from qgis_mmearth.paths import EMBEDDED_MODELS
from qgis_mmearth.processing.algorithms.base import MappingAlgorithm, RastersParameter
from qgis_mmearth.processing.algorithms.model import parse_bands, parse_mask_values
from qgis_mmearth.processing.provider import ALGORITHMS

TILE = str(DATA / "terramind_l2a.tif")


def algorithm(name) -> QgsProcessingAlgorithm:
    return QgsApplication.processingRegistry().createAlgorithmById(f"mmearth:{name}")


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


MAPPING = [name for name in ALGORITHMS if isinstance(algorithm(name), MappingAlgorithm)]


class Feedback(QgsProcessingFeedback):
    """Keeps what is said, and cancels if told to."""

    def __init__(self, cancel_at=101):
        super().__init__()
        self.said = []
        self.cancel_at = cancel_at
        self.progressChanged.connect(self.look)

    def look(self, percent):
        if percent >= self.cancel_at:
            self.cancel()

    def pushInfo(self, text):
        self.said.append(text)

    def pushWarning(self, text):
        self.said.append(text)


def make_features(folder, side=40, bands=4, name="features.tif") -> str:
    """Write a raster of features over the ground of the tile; random, but always the same."""
    path, tile = folder / name, gdal.Open(TILE)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), side, side, bands, gdal.GDT_Float32)
    dataset.SetProjection(tile.GetProjection())
    left, _, _, top, _, _ = tile.GetGeoTransform()
    dataset.SetGeoTransform((left, 20, 0, top, 0, -20))
    random = np.random.default_rng(0)
    for band in range(1, bands + 1):
        dataset.GetRasterBand(band).WriteArray(random.normal(size=(side, side)))
    return str(path)


def make_places(features, *pixels, kind="Point") -> QgsVectorLayer:
    """Make a layer in memory with a place in the middle of each pixel (row, column)."""
    raster = QgsRasterLayer(features, "features")
    layer = QgsVectorLayer(f"{kind}?crs={raster.crs().authid()}", "places", "memory")
    step, corner = raster.rasterUnitsPerPixelX(), raster.extent()
    rows = []
    for row, column in pixels:
        x, y = corner.xMinimum() + (column + 0.5) * step, corner.yMaximum() - (row + 0.5) * step
        geometry = QgsGeometry.fromPointXY(QgsPointXY(x, y))
        rows.append(QgsFeature())
        rows[-1].setGeometry(geometry if kind == "Point" else geometry.buffer(1.2 * step, 8))
    assert layer.dataProvider().addFeatures(rows)[0]
    layer.updateExtents()
    return layer


def wanted(name, folder, **others):
    """Return the least that an algorithm needs, under its own names of INPUT and OUTPUT."""
    parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT"}
    if name == "similarity":
        features = make_features(folder)
        parameters.update(INPUT=features, REFERENCES=make_places(features, (3, 5)))
    if name == "disturbance":
        parameters["AFTER"] = make_later(folder)
    names = {key: getattr(algorithm(name), key) for key in ("INPUT", "OUTPUT")}
    return {names.get(key, key): value for key, value in {**parameters, **others}.items()}


def output_of(name, result):
    """Return the map among an algorithm's results."""
    return result[algorithm(name).OUTPUT]


def make_later(folder, scene=TILE, band_factor=3) -> str:
    """Write a scene as it may look later: a square in its middle has other reflectances."""
    path = str(folder / "later.tif")
    gdal.Translate(path, scene)
    dataset = gdal.Open(path, gdal.GA_Update)
    for index in range(1, dataset.RasterCount + 1):
        band = dataset.GetRasterBand(index)
        values = band.ReadAsArray(40, 40, 20, 20) // band_factor
        band.WriteArray(values, 40, 40)
    del dataset
    return path


RENDERERS = {
    "disturbance": "paletted",
    "embed": "multibandcolor",
    "landcover": "paletted",
    "segment": "paletted",
    "similarity": "singlebandpseudocolor",
    "treedensity": "singlebandpseudocolor",
    "treemask": "paletted",
}


@pytest.mark.parametrize("name", ALGORITHMS)
class TestAlgorithmContract:
    """Rules that every algorithm keeps."""

    def test_is_registered_under_its_name(self, name):
        assert algorithm(name).id() == f"mmearth:{name}"
        assert name == name.lower() and name.isalnum()

    def test_every_parameter_has_help(self, name):
        found = algorithm(name)
        for parameter in found.parameterDefinitions():
            assert parameter.name() == parameter.name().upper()
            text = found.HELP[parameter.name()]
            assert len(text) > 20 and text in found.shortHelpString()
            assert parameter.help() == text  # the dialog's tooltip

    def test_no_help_without_a_parameter(self, name):
        found = algorithm(name)
        assert set(found.HELP) == {p.name() for p in found.parameterDefinitions()}

    def test_help_has_an_example_that_names_the_algorithm(self, name):
        assert f"qgis_process run mmearth:{name}" in algorithm(name).shortHelpString()

    def test_words_to_search_for(self, name):
        assert len(algorithm(name).tags()) >= 5

    def test_has_an_icon(self, name):
        assert not algorithm(name).icon().isNull()

    def test_help_page_exists(self, name):
        from qgis.PyQt.QtCore import QUrl

        assert Path(QUrl(algorithm(name).helpUrl()).toLocalFile()).is_file()

    def test_not_installed_is_said_before_running(self, name, tmp_path, monkeypatch):
        shared.forget_backend()
        monkeypatch.setenv("MMEARTH_HOME", str(tmp_path))
        monkeypatch.delenv("MMEARTH_PYTHON", raising=False)
        good, words = algorithm(name).canExecute()
        shared.forget_backend()
        assert not good and "not installed" in words


@pytest.mark.parametrize("name", MAPPING)
class TestMappingContract:
    """Rules that every algorithm keeps that maps rasters."""

    def test_runs_with_nothing_but_a_raster(self, name, home, tmp_path):
        output = tmp_path / "map.tif"
        parameters = wanted(name, tmp_path, OUTPUT=str(output))
        several, key = name != "similarity", algorithm(name).INPUT
        parameters[key] = [parameters[key]] if several else parameters[key]
        result = processing.run(f"mmearth:{name}", parameters)
        assert output_of(name, result) == str(output)
        assert QgsRasterLayer(str(output), "x").renderer().type() == RENDERERS[name]

    def test_runs_to_a_temporary_file(self, name, home, tmp_path):
        result = processing.run(f"mmearth:{name}", wanted(name, tmp_path))
        assert Path(output_of(name, result)).exists()

    def test_no_raster_is_said(self, name, home, tmp_path):
        with pytest.raises(QgsProcessingException, match="No raster is chosen"):
            processing.run(f"mmearth:{name}", wanted(name, tmp_path, INPUT=[]))

    def test_errors_of_the_backend_are_said(self, name, home, tmp_path):
        picture = str(tmp_path / "picture.tif")
        gdal.Translate(picture, TILE, outputType=gdal.GDT_Byte, scaleParams=[[0, 4000, 1, 255]])
        words = "8-bit picture" if name != "similarity" else "Expected features, several bands"
        with pytest.raises(QgsProcessingException, match=words):
            processing.run(f"mmearth:{name}", wanted(name, tmp_path, INPUT=picture))

    def test_cancel_leaves_nothing(self, name, home, tmp_path):
        # All inputs are large enough that nothing is finished before the wish to cancel arrives.
        feedback = Feedback(cancel_at=3)
        (tmp_path / "out").mkdir()
        output = tmp_path / "out" / "map.tif"
        large = str(tmp_path / "large.vrt")
        gdal.Translate(large, str(SCENE), format="VRT", width=3000, height=3000)
        parameters = wanted(name, tmp_path, INPUT=[large], OUTPUT=str(output))
        if name == "disturbance":
            parameters["AFTER"] = later = str(tmp_path / "large_later.vrt")
            gdal.Translate(later, str(SCENE), format="VRT", width=3000, height=3000)
        if name == "similarity":
            parameters["INPUT"] = features = make_features(tmp_path, side=1000, bands=16)
            pixels = [(row, column) for row in range(0, 1000, 20) for column in range(0, 1000, 20)]
            parameters["REFERENCES"] = make_places(features, *pixels)
        result, _ = algorithm(name).run(parameters, QgsProcessingContext(), feedback)
        assert feedback.isCanceled() and result == {}
        assert list((tmp_path / "out").iterdir()) == []

    def test_loads_styled_into_the_project(self, name, home, tmp_path):
        result = processing.runAndLoadResults(f"mmearth:{name}", wanted(name, tmp_path))
        layers = QgsProject.instance().mapLayers().values()
        (loaded,) = [y for y in layers if y.source() == output_of(name, result)]
        assert loaded.renderer().type() == RENDERERS[name]


class TestSegment:
    def test_every_output(self, home, tmp_path):
        names = {"OUTPUT": "m.tif", "PROBABILITIES": "p.tif", "CONFIDENCE": "c.tif",
                 "POLYGONS": "a.gpkg", "TABLE": "t.csv"}  # fmt: skip
        wanted = {name: str(tmp_path / file) for name, file in names.items()}
        feedback = Feedback()
        result = processing.run("mmearth:segment", {"INPUT": TILE, **wanted}, feedback=feedback)
        assert result == wanted
        assert all(Path(path).stat().st_size for path in wanted.values())
        with open(wanted["TABLE"], encoding="utf-8") as file:
            hectares = sum(float(row["area_ha"]) for row in csv.DictReader(file))
        assert hectares == pytest.approx(96 * 96 / 100, rel=0.01)
        assert any(" ha (" in line for line in feedback.said)

    def test_layers_one_file_a_band(self, home, tmp_path):
        layers = []
        source = gdal.Open(TILE)
        for index in range(1, source.RasterCount + 1):
            band = source.GetRasterBand(index).GetDescription()
            path = str(tmp_path / f"{index}.tif")
            gdal.Translate(path, source, bandList=[index], metadataOptions=[])
            with_name = gdal.Open(path, gdal.GA_Update)
            with_name.GetRasterBand(1).SetDescription("")
            del with_name
            layers.append(QgsRasterLayer(path, band))
        apart = processing.run(
            "mmearth:segment", {"INPUT": layers, "OUTPUT": str(tmp_path / "apart.tif")}
        )
        together = processing.run(
            "mmearth:segment", {"INPUT": TILE, "OUTPUT": str(tmp_path / "together.tif")}
        )
        maps = [gdal.Open(r["OUTPUT"]).ReadAsArray() for r in (apart, together)]
        assert (maps[0] == maps[1]).all()

    def test_bands_by_hand(self, home, tmp_path):
        unnamed = str(tmp_path / "unnamed.tif")
        gdal.Translate(unnamed, TILE)
        dataset = gdal.Open(unnamed, gdal.GA_Update)
        for index in range(1, 13):
            dataset.GetRasterBand(index).SetDescription("")
        del dataset
        parameters = {"INPUT": unnamed, "OUTPUT": str(tmp_path / "m.tif")}
        with pytest.raises(QgsProcessingException, match="only by position"):
            processing.run("mmearth:segment", parameters)
        order = "B02=1:2 B03=1:3 B04=1:4 B05=1:5 B06=1:6 B07=1:7 B08=1:8 B8A=1:9 B11=1:11 B12=1:12"
        processing.run("mmearth:segment", {**parameters, "BANDS": order})
        named = processing.run(
            "mmearth:segment", {"INPUT": TILE, "OUTPUT": str(tmp_path / "named.tif")}
        )
        maps = [gdal.Open(p).ReadAsArray() for p in (parameters["OUTPUT"], named["OUTPUT"])]
        assert (maps[0] == maps[1]).all()

    def test_product_folder(self, home, tmp_path):
        script = (
            "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path\n"
            "from products import write_product\n"
            "print(write_product(Path(sys.argv[3]), '2A', offset=-1000))"
        )
        from conftest import INSTALLED, ROOT

        safe = subprocess.check_output(
            [str(INSTALLED), "-c", script, str(ROOT / "tests/backend"), str(ROOT / "backend"),
             str(tmp_path)], text=True,
        ).strip()  # fmt: skip
        for value in (safe, [safe], f"{safe}/MTD_MSIL2A.xml"):
            result = processing.run(
                "mmearth:segment", {"INPUT": value, "OUTPUT": "TEMPORARY_OUTPUT"}
            )
            assert gdal.Open(result["OUTPUT"]).RasterXSize == 120

    def test_extent_in_another_projection(self, home):
        layer = QgsRasterLayer(TILE, "x")
        from qgis.core import (
            QgsCoordinateReferenceSystem,
            QgsCoordinateTransform,
            QgsProject,
            QgsReferencedRectangle,
        )

        wgs84 = QgsCoordinateReferenceSystem("EPSG:4326")
        transform = QgsCoordinateTransform(layer.crs(), wgs84, QgsProject.instance())
        part = layer.extent().buffered(-300)
        extent = QgsReferencedRectangle(transform.transformBoundingBox(part), wgs84)
        result = processing.run(
            "mmearth:segment", {"INPUT": TILE, "EXTENT": extent, "OUTPUT": "TEMPORARY_OUTPUT"}
        )
        assert 34 <= gdal.Open(result["OUTPUT"]).RasterXSize <= 42

    @pytest.mark.parametrize("text", ["B02", "B02=1", "B02=1:x", "=1:1"])
    def test_bands_that_cannot_be_read_are_said(self, text):
        with pytest.raises(QgsProcessingException, match="expected NAME=RASTER:BAND"):
            parse_bands(text)

    def test_numbers_as_texts(self, home):
        """qgis_process hands over every number as text."""
        parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT", "SCALE": "0.0001",
                      "OFFSET": "0.0", "MINIMUM_AREA": "0.5"}  # fmt: skip
        assert Path(processing.run("mmearth:segment", parameters)["OUTPUT"]).exists()


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


class TestEmbed:
    def test_features_and_their_picture(self, home, tmp_path):
        names = {"OUTPUT": str(tmp_path / "f.tif"), "VIEW": str(tmp_path / "v.tif")}
        feedback = Feedback()
        result = processing.run("mmearth:embed", {"INPUT": TILE, **names}, feedback=feedback)
        assert result == names
        features, view = gdal.Open(names["OUTPUT"]), gdal.Open(names["VIEW"])
        assert features.RasterCount == 96 and view.RasterCount == 3
        assert (features.RasterXSize, features.RasterYSize) == (24, 24)  # 96 / 4
        assert features.GetGeoTransform()[0] == gdal.Open(TILE).GetGeoTransform()[0]
        assert any(f"{features.RasterCount} features" in line for line in feedback.said)
        layer = QgsRasterLayer(names["VIEW"], "v")
        shown = layer.renderer()
        assert (shown.redBand(), shown.greenBand(), shown.blueBand()) == (1, 2, 3)
        assert shown.redContrastEnhancement() is None  # the colours are as they are
        layer = QgsRasterLayer(names["OUTPUT"], "f")
        stretch = layer.renderer().greenContrastEnhancement()
        assert stretch.minimumValue() < stretch.maximumValue()

    def test_features_as_coarse_as_is_wished(self, home, tmp_path):
        wished = {"INPUT": TILE, "OUTPUT": str(tmp_path / "f.tif"), "STRIDE": 16}
        features = gdal.Open(processing.run("mmearth:embed", wished)["OUTPUT"])
        assert features.RasterCount == 192
        assert (features.RasterXSize, features.RasterYSize) == (6, 6)  # 96 / 16

    def test_features_are_loaded_with_their_stretch(self, home):
        processing.runAndLoadResults("mmearth:embed", {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT"})
        (loaded,) = QgsProject.instance().mapLayers().values()
        renderer = loaded.renderer()
        found = [
            (stretch.minimumValue(), stretch.maximumValue())
            for stretch in (
                renderer.redContrastEnhancement(),
                renderer.greenContrastEnhancement(),
                renderer.blueContrastEnhancement(),
            )
        ]
        cuts = [loaded.dataProvider().cumulativeCut(band, 0.02, 0.98) for band in (1, 2, 3)]
        varying = [number for number, (low, high) in enumerate(cuts) if low < high]
        assert varying
        for number, given in enumerate(found):
            assert given == (pytest.approx(cuts[number]) if number in varying else (0, 1))

    def test_every_installed_model_can_be_chosen_and_only_maps_in_segment(self, home):
        """An encoder has no product, so there is nothing that segment could map with it."""
        card = json.loads((EMBEDDED_MODELS / "landcover-s2" / "model.json").read_text())
        card["id"] = "an-encoder"
        card["properties"]["mmearth:products"] = []
        (home / "models" / "an-encoder").mkdir(parents=True)
        (home / "models" / "an-encoder" / "model.json").write_text(json.dumps(card))
        embed, segment = algorithm("embed"), algorithm("segment")
        assert set(embed.parameterDefinition("MODEL").options()) == {"an-encoder", "landcover-s2"}
        offered = segment.parameterDefinition("MODEL")
        assert (offered.options(), offered.defaultValue()) == (["landcover-s2"], "landcover-s2")


class TestSimilarity:
    def run(self, references, features, feedback=None):
        parameters = {"INPUT": features, "REFERENCES": references, "OUTPUT": "TEMPORARY_OUTPUT"}
        result = processing.run("mmearth:similarity", parameters, feedback=feedback)
        return gdal.Open(result["OUTPUT"]).ReadAsArray()

    def like(self, found):
        return {tuple(place) for place in np.argwhere(found > 0.9999)}

    def test_places_in_memory(self, home, tmp_path):
        features, feedback = make_features(tmp_path), Feedback()
        found = self.run(make_places(features, (3, 5), (20, 9)), features, feedback)
        assert self.like(found) == {(3, 5), (20, 9)} and found.min() >= -1
        assert "Compared with 2 places of 2 pixels" in feedback.said

    def test_a_file_of_polygons(self, home, tmp_path):
        features, path = make_features(tmp_path), str(tmp_path / "places.geojson")
        layer = make_places(features, (10, 10), kind="Polygon")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GeoJSON"  # in degrees
        context = QgsProject.instance().transformContext()
        QgsVectorFileWriter.writeAsVectorFormatV2(layer, path, context, options)
        feedback = Feedback()
        self.run(path, features, feedback)
        assert "Compared with 1 places of 5 pixels" in feedback.said

    def test_only_what_is_selected(self, home, tmp_path):
        features = make_features(tmp_path)
        layer = make_places(features, (3, 5), (20, 9))
        QgsProject.instance().addMapLayer(layer)
        layer.selectByIds([2])
        chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
        assert self.like(self.run(chosen, features)) == {(20, 9)}

    def test_only_what_is_filtered(self, home, tmp_path):
        features = make_features(tmp_path)
        layer = make_places(features, (3, 5), (20, 9))
        layer.setSubsetString("$id = 1")
        assert self.like(self.run(layer, features)) == {(3, 5)}

    def test_places_outside_are_told(self, home, tmp_path):
        features, feedback = make_features(tmp_path), Feedback()
        found = self.run(make_places(features, (3, 5), (900, 9)), features, feedback)
        assert self.like(found) == {(3, 5)}
        assert any("1 of 2 places lie outside" in line for line in feedback.said)

    def test_no_places(self, home, tmp_path):
        features = make_features(tmp_path)
        with pytest.raises(QgsProcessingException, match="places holds no places"):
            self.run(make_places(features), features)

    def test_colours_from_unlike_to_alike(self, home, tmp_path):
        parameters = wanted("similarity", tmp_path)
        result = processing.run("mmearth:similarity", parameters)
        layer = QgsRasterLayer(result["OUTPUT"], "s")
        ramp = layer.renderer().shader().rasterShaderFunction()
        values = [item.value for item in ramp.colorRampItemList()]
        found = layer.dataProvider().cumulativeCut(1, 0.02, 0.98)
        assert (values[0], values[-1]) == pytest.approx(found)
        assert values == sorted(values) and len(set(values)) == len(values)


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

    def test_layers_are_styled(self, home, tmp_path):
        parameters = wanted("disturbance", tmp_path, PROBABILITY="TEMPORARY_OUTPUT")
        result = processing.run("mmearth:disturbance", parameters)
        layer = QgsRasterLayer(result["CLASSES"], "x")
        titles = [entry.label for entry in layer.renderer().classes()]
        assert titles == ["Stable forest", "Forest loss", "Forest gain", "Stable non-forest"]
        shown = QgsRasterLayer(result["PROBABILITY"], "p")
        assert shown.renderer().type() == "singlebandpseudocolor"

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


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", MAPPING)
    @pytest.mark.parametrize("file", ["map.png", "map", "map.gpkg"])
    def test_rasters_in_other_formats(self, name, home, tmp_path, file):
        with pytest.raises(QgsProcessingException, match=r"no file name ending in \.tif"):
            parameters = wanted(name, tmp_path, OUTPUT=str(tmp_path / file))
            processing.run(f"mmearth:{name}", parameters)

    @pytest.mark.parametrize(
        "target", ["a.shp", "a.geojson", "memory:", "ogr:dbname='a.gpkg' table=\"t\""]
    )
    def test_polygons_in_other_formats(self, home, target):
        parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT", "POLYGONS": target}
        with pytest.raises(QgsProcessingException, match=r"no file name ending in \.gpkg"):
            processing.run("mmearth:segment", parameters)

    @pytest.mark.parametrize("name", MAPPING)
    def test_a_missing_file_is_named(self, name, home, tmp_path):
        missing = str(tmp_path / "missing.tif")
        rasters = [TILE, missing] if name != "similarity" else missing
        with pytest.raises(QgsProcessingException, match=r"missing\.tif does not exist"):
            processing.run(f"mmearth:{name}", wanted(name, tmp_path, INPUT=rasters))

    @pytest.mark.parametrize("name", MAPPING)
    def test_a_damaged_file_is_named(self, name, home, tmp_path):
        damaged = tmp_path / "damaged.tif"
        damaged.write_bytes(b"II*\0 and no more")
        with pytest.raises(QgsProcessingException, match=r"damaged\.tif cannot be opened"):
            processing.run(f"mmearth:{name}", wanted(name, tmp_path, INPUT=str(damaged)))

    def test_scale_of_zero(self, home):
        parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT", "SCALE": 0}
        with pytest.raises(QgsProcessingException, match="greater than 0"):
            processing.run("mmearth:segment", parameters)


def test_temporary_polygons_are_a_geopackage(home):
    """QGIS's settings may prefer another format."""
    provider = QgsApplication.processingRegistry().providerById("mmearth")
    assert provider.defaultVectorFileExtension(True) == "gpkg"
    assert not provider.supportsNonFileBasedOutput()
    parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT", "POLYGONS": "TEMPORARY_OUTPUT"}
    assert processing.run("mmearth:segment", parameters)["POLYGONS"].endswith(".gpkg")


def test_names_of_files_without_a_folder(home, tmp_path, monkeypatch):
    """As in the example: the backend has another working folder than qgis_process."""
    monkeypatch.chdir(tmp_path)
    names = {"OUTPUT": "m.tif", "TABLE": "t.csv"}
    result = processing.run("mmearth:segment", {"INPUT": TILE, **names})
    assert result == {name: str(tmp_path / file) for name, file in names.items()}
    assert (tmp_path / "t.csv").is_file()


def test_offset_alone_leaves_the_scale_to_the_files():
    found = algorithm("segment")
    context = QgsProcessingContext()
    parameters = {"MODEL": "landcover-s2", "OFFSET": -0.1}
    assert found.request(parameters, context)["radiometry"] == {"scale": None, "offset": -0.1}
    assert found.request({"MODEL": "landcover-s2"}, context)["radiometry"] is None


def test_copies_of_the_rasters_parameter_are_whole():
    original = RastersParameter("INPUT", "Rasters", SOURCE_RASTER)
    original.setHelp("Rasters of a scene.")
    original.setFlags(original.flags() | FLAG_ADVANCED)
    original.setMinimumNumberInputs(2)
    original.setMetadata({"key": "value"})
    copy = original.clone()
    assert isinstance(copy, RastersParameter) and copy.description() == "Rasters"
    assert (copy.help(), copy.flags()) == (original.help(), original.flags())
    assert (copy.minimumNumberInputs(), copy.metadata()) == (2, {"key": "value"})


def test_tree_mask_is_the_product_of_the_model(home, tmp_path):
    mask = processing.run("mmearth:treemask", {"INPUT": TILE, "OUTPUT": str(tmp_path / "a.tif")})
    same = processing.run(
        "mmearth:segment",
        {"INPUT": TILE, "PRODUCT": "treemask", "OUTPUT": str(tmp_path / "b.tif")},
    )
    maps = [gdal.Open(r["OUTPUT"]).ReadAsArray() for r in (mask, same)]
    assert (maps[0] == maps[1]).all() and set(maps[0].ravel()) <= {0, 1, 2}


def test_in_a_model_of_the_model_designer(home):
    model = QgsProcessingModelAlgorithm("trees of a scene", "tests")
    model.addModelParameter(
        QgsProcessingParameterRasterLayer("scene", "Scene"), QgsProcessingModelParameter("scene")
    )
    child = QgsProcessingModelChildAlgorithm("mmearth:treemask")
    child.setChildId("mask")
    child.addParameterSources(
        "INPUT", [QgsProcessingModelChildParameterSource.fromModelParameter("scene")]
    )
    output = QgsProcessingModelOutput("trees", "trees")
    output.setChildId("mask")
    output.setChildOutputName("OUTPUT")
    child.setModelOutputs({"trees": output})
    model.addChildAlgorithm(child)
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback()
    (defined,) = model.outputDefinitions()  # its name differs between versions of QGIS
    wanted = {"scene": TILE, defined.name(): "TEMPORARY_OUTPUT"}
    result, good = model.run(wanted, context, feedback)
    assert good, feedback.textLog()
    assert gdal.Open(result[defined.name()]).RasterXSize == 96
