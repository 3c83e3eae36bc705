"""Features and similarity in Processing."""

import json

import numpy as np
import processing
import pytest
from conftest import EMBEDDED
from osgeo import gdal
from qgis.core import (
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsVectorFileWriter,
)
from runs import TILE, Feedback, algorithm, make_features, make_places, wanted

from qgis_mmearth.paths import EMBEDDED_MODELS


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests; none of them changes it."""
    return kept_home


class TestEmbed:
    def test_features_and_their_picture(self, home, tmp_path):
        names = {"OUTPUT": str(tmp_path / "f.tif"), "VIEW": str(tmp_path / "v.tif")}
        feedback = Feedback()
        result = processing.run("mmearth:embed", {"INPUT": TILE, **names}, feedback=feedback)
        assert result == names
        features, view = gdal.Open(names["OUTPUT"]), gdal.Open(names["VIEW"])
        assert features.RasterCount == 108 and view.RasterCount == 3
        assert (features.RasterXSize, features.RasterYSize) == (48, 48)  # 96 / 2
        assert features.GetGeoTransform()[0] == gdal.Open(TILE).GetGeoTransform()[0]
        assert any(f"{features.RasterCount} features" in line for line in feedback.said)
        layer = QgsRasterLayer(names["VIEW"], "v")
        shown = layer.renderer()
        assert (shown.redBand(), shown.greenBand(), shown.blueBand()) == (1, 2, 3)
        assert shown.redContrastEnhancement() is None  # the colours are as they are
        layer = QgsRasterLayer(names["OUTPUT"], "f")
        stretch = layer.renderer().greenContrastEnhancement()
        assert stretch.minimumValue() < stretch.maximumValue()

    def test_features_as_fine_as_is_wished(self, home, tmp_path):
        wished = {"INPUT": TILE, "OUTPUT": str(tmp_path / "f.tif"), "STRIDE": 1}
        features = gdal.Open(processing.run("mmearth:embed", wished)["OUTPUT"])
        assert features.RasterCount == 48
        assert (features.RasterXSize, features.RasterYSize) == (96, 96)

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

    def test_what_has_features_can_be_chosen_and_only_maps_in_segment(self, home):
        """An encoder has no product, so there is nothing that segment could map with it.

        The features of the model for EnMAP would be the bands of the scene.
        """
        card = json.loads((EMBEDDED_MODELS / "landcover-s2" / "model.json").read_text())
        card["id"] = "an-encoder"
        card["properties"]["mmearth:products"] = []
        (home / "models" / "an-encoder").mkdir(parents=True)
        (home / "models" / "an-encoder" / "model.json").write_text(json.dumps(card))
        embed, segment = algorithm("embed"), algorithm("segment")
        expected = {"an-encoder", *EMBEDDED} - {"enmap-potsdam"}
        assert set(embed.parameterDefinition("MODEL").options()) == expected
        offered = segment.parameterDefinition("MODEL")
        assert sorted(offered.options()) == EMBEDDED and offered.defaultValue() == "landcover-s2"


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
        assert "Compared with 1 place of 5 pixels" in feedback.said

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
