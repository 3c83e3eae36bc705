"""Processing algorithms: the contract of all of them, and what each does."""

import csv
import subprocess
from pathlib import Path

import processing
import pytest
from conftest import SCENE
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsRasterLayer,
)
from runs import (
    TILE,
    Feedback,
    algorithm,
    make_features,
    make_places,
    output_of,
    wanted,
)

from qgis_mmearth import shared
from qgis_mmearth.compat import FLAG_ADVANCED, SOURCE_RASTER
from qgis_mmearth.processing.algorithms.base import MappingAlgorithm, RastersParameter
from qgis_mmearth.processing.algorithms.model import parse_bands
from qgis_mmearth.processing.provider import ALGORITHMS


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


MAPPING = [name for name in ALGORITHMS if isinstance(algorithm(name), MappingAlgorithm)]


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
