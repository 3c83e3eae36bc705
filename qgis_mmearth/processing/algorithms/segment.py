"""``mmearth:segment``: map the classes of a model."""

from qgis.core import (
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ... import shared
from .base import MappingAlgorithm
from .model import BAND_HELP, INPUT_HELP, ModelAlgorithm


class SegmentAlgorithm(ModelAlgorithm, MappingAlgorithm):
    """Land-cover or other class map from one or several rasters."""

    PRODUCT = "PRODUCT"
    MINIMUM_AREA = "MINIMUM_AREA"
    PROBABILITIES = "PROBABILITIES"
    CONFIDENCE = "CONFIDENCE"
    POLYGONS = "POLYGONS"
    TABLE = "TABLE"

    ABOUT = (
        "Makes a map of the classes of a model, for example land cover from Sentinel-2. Everything "
        "is computed on this machine."
    )
    HELP = {
        "INPUT": INPUT_HELP,
        "MODEL": "The model to map with; its card says sensor, bands and classes.",
        "PRODUCT": "What to map with the model, for example landcover or treemask; its first "
        "product if empty.",
        "EXTENT": "Only this area is mapped; if empty, all ground that the rasters share.",
        **BAND_HELP,
        "MINIMUM_AREA": "Polygons below this area in hectares join their largest neighbour; "
        "0 keeps every pixel as it is.",
        "OUTPUT": "GeoTIFF of class codes (0 = no data) with colours and names.",
        "PROBABILITIES": "GeoTIFF with the probability of each class in percent, a band a class.",
        "CONFIDENCE": "GeoTIFF with the probability of the mapped class in percent.",
        "POLYGONS": "GeoPackage of the mapped areas with class, area on the ellipsoid and mean "
        "confidence.",
        "TABLE": "CSV with the area of each class in hectares on the ellipsoid.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:segment -- INPUT=scene.tif MODEL=landcover-s2 "
        "OUTPUT=landcover.tif TABLE=areas.csv"
    )

    def name(self):
        """Return the stable identifier."""
        return "segment"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Map classes with a model")

    def tags(self):
        """Return words that people search for."""
        words = "land cover,classification,segmentation,deep learning,sentinel-2,forest,AI,mask"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add_input_parameters()
        self.add_model_parameter([model for model in shared.models() if model.products])
        self.add(QgsProcessingParameterString(self.PRODUCT, self.tr("What to map"), optional=True))
        self.add_band_parameters()
        self.add_advanced(
            QgsProcessingParameterNumber(
                self.MINIMUM_AREA, self.tr("Smallest polygon (ha)"),
                QgsProcessingParameterNumber.Type.Double, defaultValue=0.0, minValue=0.0,
            )
        )  # fmt: skip
        self.add(QgsProcessingParameterRasterDestination(self.OUTPUT, self.tr("Class map")))
        for name, title in (
            (self.PROBABILITIES, self.tr("Probabilities")),
            (self.CONFIDENCE, self.tr("Confidence")),
        ):
            self.add(
                QgsProcessingParameterRasterDestination(
                    name, title, optional=True, createByDefault=False
                )
            )
        self.add(
            QgsProcessingParameterVectorDestination(
                self.POLYGONS, self.tr("Polygons"), optional=True, createByDefault=False
            )
        )
        self.add_table(self.TABLE, self.tr("Area table"))

    def request(self, parameters, context):
        """Return model, product, bands, radiometry and the smallest polygon."""
        return {
            **super().request(parameters, context),
            "product": self.parameterAsString(parameters, self.PRODUCT, context) or None,
            "minimum_area_ha": self.parameterAsDouble(parameters, self.MINIMUM_AREA, context),
        }

    def outputs_of(self, parameters, context):
        """Return the file of each result that is wanted."""
        names = {
            "classes": self.OUTPUT,
            "probabilities": self.PROBABILITIES,
            "confidence": self.CONFIDENCE,
            "polygons": self.POLYGONS,
        }
        files = {key: self.destination(name, parameters, context) for key, name in names.items()}
        table = self.file_destination(self.TABLE, parameters, context)
        return {key: path for key, path in {**files, "table": table}.items() if path}

    def answer(self, outputs, result):
        """Return the files under the names of their parameters."""
        names = {"classes": self.OUTPUT}
        return {names.get(key, key.upper()): path for key, path in outputs.items()}
