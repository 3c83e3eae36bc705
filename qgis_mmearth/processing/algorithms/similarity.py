"""``mmearth:similarity``: how alike each pixel is to chosen places."""

import uuid
from pathlib import Path

from qgis.core import (
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureSink,
    QgsFields,
    QgsProcessingException,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsVectorFileWriter,
)

from ...compat import SOURCE_POINT, SOURCE_POLYGON
from ...layers import stack
from .base import MappingAlgorithm


class SimilarityAlgorithm(MappingAlgorithm):
    """Likeness of every pixel of a raster of features to points or polygons."""

    KIND = "similarity"
    REFERENCES = "REFERENCES"

    ABOUT = (
        "Finds what looks like chosen places: compares the features of every pixel with those "
        "under points or polygons, and keeps the likeness to the most similar place. No training "
        "is needed, only a raster of features (mmearth:embed)."
    )
    HELP = {
        "INPUT": "Raster of features as mmearth:embed makes it: several bands of floating-point "
        "numbers.",
        "REFERENCES": "Points or polygons of what is looked for, in any projection; only the "
        "selected ones if so chosen. Of a polygon the mean of its pixels counts.",
        "OUTPUT": "GeoTIFF of the cosine between features: 1 the same, 0 unlike, -1 the opposite "
        "(no data: NaN).",
    }
    EXAMPLE = (
        "qgis_process run mmearth:similarity -- INPUT=features.tif REFERENCES=places.gpkg "
        "OUTPUT=similarity.tif"
    )

    def name(self):
        """Return the stable identifier."""
        return "similarity"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Similarity to places")

    def tags(self):
        """Return words that people search for."""
        return "similarity,search,cosine,embedding,features,reference,AI".split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add(QgsProcessingParameterRasterLayer(self.INPUT, self.tr("Features")))
        self.add(
            QgsProcessingParameterFeatureSource(
                self.REFERENCES, self.tr("Places to compare with"), [SOURCE_POINT, SOURCE_POLYGON]
            )
        )
        self.add(QgsProcessingParameterRasterDestination(self.OUTPUT, self.tr("Similarity")))

    def _input_values(self, name, parameters, context):
        layer = self.parameterAsRasterLayer(parameters, name, context)
        return [layer] if layer else []

    def spec(self, parameters, context, scratch):
        """Return the features, and a file of the places."""
        (layer,) = self._sources
        source = self.parameterAsSource(parameters, self.REFERENCES, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, self.REFERENCES))
        return {
            "features": stack.reference(layer, scratch)["path"],
            "references": str(self._write(source, scratch)),
        }

    def outputs_of(self, parameters, context):
        """Return the file of the result."""
        return {"similarity": self.destination(self.OUTPUT, parameters, context)}

    def tell(self, result, feedback):
        """Say what was compared with."""
        places = self.counted(result["references"], self.tr("1 place"), self.tr("{} places"))
        pixels = self.counted(result["reference_pixels"], self.tr("1 pixel"), self.tr("{} pixels"))
        feedback.pushInfo(self.tr("Compared with {} of {}").format(places, pixels))

    def answer(self, outputs, result):
        """Return the result."""
        return {self.OUTPUT: outputs["similarity"]}

    def _write(self, source, scratch: Path) -> Path:
        """Write places to a file: what is selected, filtered, unsaved or in memory has none."""
        if not source.featureCount():
            raise QgsProcessingException(
                self.tr("{} holds no places. Add at least one point or polygon.").format(
                    source.sourceName()
                )
            )
        path = scratch / f"places-{uuid.uuid4().hex[:8]}.gpkg"
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        writer = QgsVectorFileWriter.create(
            str(path), QgsFields(), source.wkbType(), source.sourceCrs(),
            QgsCoordinateTransformContext(), options,
        )  # fmt: skip
        for found in source.getFeatures():
            feature = QgsFeature()
            feature.setGeometry(found.geometry())
            writer.addFeature(feature, QgsFeatureSink.Flag.FastInsert)
        words = writer.errorMessage()
        del writer  # closes the file
        if words:
            raise QgsProcessingException(
                self.tr("The places could not be written to {}: {}").format(path, words)
            )
        return path
