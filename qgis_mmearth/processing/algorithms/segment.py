"""``mmearth:segment``: map the classes of a model."""

import re

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ... import shared
from ...compat import FLAG_ADVANCED
from .base import MappingAlgorithm

_CHOICE = re.compile(r"^(\w+)=(\d+):(\d+)$")


class SegmentAlgorithm(MappingAlgorithm):
    """Land-cover or other class map from one or several rasters."""

    MODEL = "MODEL"
    PRODUCT = "PRODUCT"
    BANDS = "BANDS"
    SCALE = "SCALE"
    OFFSET = "OFFSET"
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
        "INPUT": "One file with all bands, one file a band, layers of different pixel size or "
        "projection, or a Sentinel-2 product folder (.SAFE). Bands are recognised by name, common "
        "name or wavelength. The finest raster sets the grid of the result.",
        "MODEL": "The model to map with; its card says sensor, bands and classes.",
        "PRODUCT": "What to map with the model, for example landcover or treemask; its first "
        "product if empty.",
        "EXTENT": "Only this area is mapped; if empty, all ground that the rasters share.",
        "BANDS": "Which raster band is which band of the model, if the files do not say it: "
        "B02=1:1 B03=1:2 takes B02 from band 1 of raster 1, B03 from its band 2.",
        "SCALE": "Reflectance = value x scale + offset. If empty, as the files or the product "
        "state it, else 0.0001 for Sentinel-2 numbers.",
        "OFFSET": "See scale; -0.1 for products of processing baseline 04.00 and newer whose files "
        "have lost their metadata.",
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
        models = [model.id for model in shared.models() if model.products]
        self.add_input_parameters()
        self.add(
            QgsProcessingParameterEnum(
                self.MODEL,
                self.tr("Model"),
                options=models,
                usesStaticStrings=True,
                defaultValue=models[0] if models else None,
            )
        )
        self.add(QgsProcessingParameterString(self.PRODUCT, self.tr("What to map"), optional=True))
        number = QgsProcessingParameterNumber
        for parameter in (
            QgsProcessingParameterString(self.BANDS, self.tr("Bands"), optional=True),
            number(self.SCALE, self.tr("Scale"), number.Type.Double, optional=True),
            number(self.OFFSET, self.tr("Offset"), number.Type.Double, optional=True),
            number(
                self.MINIMUM_AREA, self.tr("Smallest polygon (ha)"), number.Type.Double,
                defaultValue=0.0, minValue=0.0,
            ),
        ):  # fmt: skip
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)
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
        self.add(
            QgsProcessingParameterFileDestination(
                self.TABLE, self.tr("Area table"), "CSV (*.csv)", optional=True,
                createByDefault=False,
            )
        )  # fmt: skip

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check the scale too: 0 would make every pixel the same."""
        scale = parameters.get(self.SCALE)
        if scale is not None and self.parameterAsDouble(parameters, self.SCALE, context) <= 0:
            return False, self.tr("Scale must be greater than 0; leave it empty if unsure.")
        return super().checkParameterValues(parameters, context)

    def request(self, parameters, context):
        """Return model, product, bands and radiometry."""
        scale = offset = None
        if parameters.get(self.SCALE) is not None:
            scale = self.parameterAsDouble(parameters, self.SCALE, context)
        if parameters.get(self.OFFSET) is not None:
            offset = self.parameterAsDouble(parameters, self.OFFSET, context)
        radiometry = None
        if scale is not None or offset is not None:
            radiometry = {"scale": scale, "offset": offset or 0.0}
        return {
            "model": self.parameterAsEnumString(parameters, self.MODEL, context),
            "product": self.parameterAsString(parameters, self.PRODUCT, context) or None,
            "bands": parse_bands(self.parameterAsString(parameters, self.BANDS, context)),
            "radiometry": radiometry,
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


def parse_bands(text):
    """Read ``B02=1:1 B03=1:2`` into the interface's band choices.

    Raises:
        QgsProcessingException: if a part of it is not of this form.
    """
    choices = []
    for part in re.split(r"[\s,;]+", text.strip()) if text.strip() else []:
        match = _CHOICE.match(part)
        if not match:
            raise QgsProcessingException(
                f"Bands: expected NAME=RASTER:BAND such as B02=1:1, found {part!r}."
            )
        choices.append({"band": match[1], "input": int(match[2]) - 1, "index": int(match[3])})
    return choices
