"""``mmearth:embed``: features of a model's encoder."""

from qgis.core import QgsProcessingParameterNumber, QgsProcessingParameterRasterDestination

from ... import shared
from .base import MappingAlgorithm
from .model import BAND_HELP, INPUT_HELP, ModelAlgorithm


class EmbedAlgorithm(ModelAlgorithm, MappingAlgorithm):
    """Features of the encoder of any installed model, and a picture of them."""

    KIND = "embed"
    VIEW = "VIEW"
    STRIDE = "STRIDE"

    ABOUT = (
        "Computes what the encoder of a model sees: a raster with many numbers, features, for each "
        "place. Places that are alike have features that are alike; compare them with "
        "mmearth:similarity, or use them in any other classifier. Pixels are larger than those of "
        "the scene: 4 times with a model that maps classes, up to 32 times with an encoder."
    )
    HELP = {
        "INPUT": INPUT_HELP,
        "MODEL": "The model whose encoder computes: any installed model or published encoder, but "
        "for those that look at the bands of single pixels alone.",
        "EXTENT": "Only this area is computed; if empty, all ground that the rasters share.",
        **BAND_HELP,
        "STRIDE": "Pixels of the scene along a side of a pixel of features: 1, 2, 4, 8, 16 or 32, "
        "as far as the encoder offers it. Small ones tell fine detail, large ones surroundings. "
        "If empty, 4 with a model that maps classes, and the largest with an encoder.",
        "OUTPUT": "GeoTIFF of the features, a band each, as floating-point numbers (no data: NaN).",
        "VIEW": "GeoTIFF of a picture: the first three principal components of the features as "
        "red, green and blue.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:embed -- INPUT=scene.tif MODEL=landcover-s2 OUTPUT=features.tif "
        "VIEW=view.tif"
    )

    def name(self):
        """Return the stable identifier."""
        return "embed"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Features of an encoder")

    def tags(self):
        """Return words that people search for."""
        words = "embedding,features,encoder,foundation model,principal components,PCA,AI"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add_input_parameters()
        self.add_model_parameter([model for model in shared.models() if model.has_features])
        self.add_band_parameters()
        number = QgsProcessingParameterNumber
        words = self.tr("Size of pixels, in pixels of the scene")
        self.add_advanced(
            number(self.STRIDE, words, number.Type.Integer, optional=True, minValue=1)
        )
        self.add(QgsProcessingParameterRasterDestination(self.OUTPUT, self.tr("Features")))
        self.add(
            QgsProcessingParameterRasterDestination(
                self.VIEW, self.tr("Picture of the features"), optional=True, createByDefault=False
            )
        )

    def request(self, parameters, context):
        """Return model, bands, radiometry and the size of pixels."""
        stride = None
        if parameters.get(self.STRIDE) is not None:
            stride = self.parameterAsInt(parameters, self.STRIDE, context)
        return {**super().request(parameters, context), "stride": stride}

    def outputs_of(self, parameters, context):
        """Return the file of each result that is wanted."""
        names = {"features": self.OUTPUT, "view": self.VIEW}
        files = {key: self.destination(name, parameters, context) for key, name in names.items()}
        return {key: path for key, path in files.items() if path}

    def tell(self, result, feedback):
        """Say how many features there are, and what the picture shows of them."""
        feedback.pushInfo(self.tr("{} features a pixel").format(result["features"]))
        if result["explained"]:
            shown = f"{100 * sum(result['explained']):.0f} %"
            feedback.pushInfo(self.tr("The picture shows {} of their variance").format(shown))

    def answer(self, outputs, result):
        """Return the files under the names of their parameters."""
        names = {"features": self.OUTPUT, "view": self.VIEW}
        return {names[key]: path for key, path in outputs.items()}
