"""What the algorithms share that make one product, with the model that suits the rasters."""

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
)

from ... import shared
from ...link.fitting import first_that_fits, that_map
from .base import MappingAlgorithm
from .model import BAND_HELP, ModelAlgorithm

PRODUCT_HELP = {
    "INPUT": "One file with all bands, one file a band, layers of different pixel size or "
    "projection, or a Sentinel-2 product folder (.SAFE).",
    "EXTENT": "Only this area is mapped; if empty, all ground that the rasters share.",
    "MODEL": "The model to map with; if none is chosen, the installed one that suits the rasters "
    "best.",
    **BAND_HELP,
}
MAP_HELP = {
    "MINIMUM_AREA": "Polygons below this area in hectares join their largest neighbour; 0 keeps "
    "every pixel as it is.",
    "CONFIDENCE": "GeoTIFF with the probability of the mapped class in percent.",
    "POLYGONS": "GeoPackage of the mapped areas with class, area on the ellipsoid and mean "
    "confidence.",
    "TABLE": "CSV with the area of each class in hectares on the ellipsoid.",
}


class ProductAlgorithm(ModelAlgorithm, MappingAlgorithm):
    """An algorithm that makes one product of a model.

    Subclasses define ``PRODUCT``, an identifier in the cards of models, and ``FILES``: the
    parameter of each result by the result's name in the interface.
    """

    PRODUCT = ""
    FILES = {}
    MINIMUM_AREA = "MINIMUM_AREA"
    CONFIDENCE = "CONFIDENCE"
    POLYGONS = "POLYGONS"
    TABLE = "TABLE"

    def add_choices(self):
        """Add rasters and area and, among the advanced parameters, model, bands and reflectance."""
        self.add_input_parameters()
        names = [model for model, _ in that_map(shared.models(), self.PRODUCT)]
        self.add_advanced(
            QgsProcessingParameterEnum(
                self.MODEL, self.tr("Model"), options=names, usesStaticStrings=True, optional=True
            )
        )
        self.add_band_parameters()

    def add_raster(self, name, title, default=True):
        """Add a raster that is made, unless it is optional and not asked for."""
        self.add(
            QgsProcessingParameterRasterDestination(
                name, title, optional=name != self.OUTPUT, createByDefault=default
            )
        )

    def request(self, parameters, context):
        """Return product, bands and radiometry, and the model if one is chosen."""
        return {**super().request(parameters, context), "product": self.PRODUCT}

    def spec(self, parameters, context, scratch):
        """Return what the job needs, with the model that suits the rasters if none is chosen."""
        spec = super().spec(parameters, context, scratch)
        if spec["model"]:
            return spec
        candidates = that_map(shared.models(), self.PRODUCT)
        if not candidates:
            raise QgsProcessingException(
                self.tr("No model for this is installed. See MMEarth > Models…")
            )
        if len(candidates) == 1:
            return {**spec, "model": candidates[0][0]}
        asked = {"kind": self.KIND, "outputs": {}, **spec}
        (model, _), _ = first_that_fits(shared.backend().client(), asked, candidates)
        return {**spec, "model": model}

    def outputs_of(self, parameters, context):
        """Return the file of each result that is wanted."""
        files = {}
        for result, name in self.FILES.items():
            find = self.file_destination if name == self.TABLE else self.destination
            files[result] = find(name, parameters, context)
        return {result: path for result, path in files.items() if path}

    def tell(self, result, feedback):
        """Say which model it was, and what came out."""
        feedback.pushInfo(self.tr("Model: {}").format(result["model_title"]))
        super().tell(result, feedback)

    def answer(self, outputs, result):
        """Return the files under the names of their parameters."""
        return {self.FILES[key]: path for key, path in outputs.items()}


class ClassMapAlgorithm(ProductAlgorithm):
    """An algorithm that makes a map of classes, and on demand polygons of it."""

    FILES = {
        "classes": ProductAlgorithm.OUTPUT,
        "confidence": ProductAlgorithm.CONFIDENCE,
        "polygons": ProductAlgorithm.POLYGONS,
        "table": ProductAlgorithm.TABLE,
    }

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add_choices()
        self.add_advanced(
            QgsProcessingParameterNumber(
                self.MINIMUM_AREA, self.tr("Smallest polygon (ha)"),
                QgsProcessingParameterNumber.Type.Double, defaultValue=0.0, minValue=0.0,
            )
        )  # fmt: skip
        self.add_raster(self.OUTPUT, self.displayName())
        self.add_raster(self.CONFIDENCE, self.tr("Confidence"), default=False)
        self.add(
            QgsProcessingParameterVectorDestination(
                self.POLYGONS, self.tr("Polygons"), optional=True, createByDefault=False
            )
        )
        self.add_table(self.TABLE, self.tr("Area table"))

    def request(self, parameters, context):
        """Return the smallest polygon too."""
        return {
            **super().request(parameters, context),
            "minimum_area_ha": self.parameterAsDouble(parameters, self.MINIMUM_AREA, context),
        }
