"""What the algorithms share that let the user choose a model and say what its bands are."""

import re

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ...compat import FLAG_ADVANCED
from .base import SceneAlgorithm

_CHOICE = re.compile(r"^(\w+)=(\d+):(\d+)$")

INPUT_HELP = (
    "One file with all bands, one file a band, layers of different pixel size or projection, or a "
    "Sentinel-2 product folder (.SAFE). Bands are recognised by name, common name or wavelength. "
    "The finest raster sets the grid of the result."
)
BAND_HELP = {
    "BANDS": "Which raster band is which band of the model, if the files do not say it: "
    "B02=1:1 B03=1:2 takes B02 from band 1 of raster 1, B03 from its band 2.",
    "SCALE": "Reflectance = value x scale + offset. If empty, as the files or the product "
    "state it, else 0.0001 for Sentinel-2 numbers.",
    "OFFSET": "See scale; -0.1 for products of processing baseline 04.00 and newer whose files "
    "have lost their metadata.",
}


class ModelAlgorithm(SceneAlgorithm):
    """An algorithm with the parameters MODEL, BANDS, SCALE and OFFSET."""

    MODEL = "MODEL"
    BANDS = "BANDS"
    SCALE = "SCALE"
    OFFSET = "OFFSET"

    def add_model_parameter(self, models):
        """Add the choice of a model.

        Args:
            models: those that suit this algorithm; the first one is the default.
        """
        names = [model.id for model in models]
        self.add(
            QgsProcessingParameterEnum(
                self.MODEL,
                self.tr("Model"),
                options=names,
                usesStaticStrings=True,
                defaultValue=names[0] if names else None,
            )
        )

    def add_band_parameters(self):
        """Add bands, scale and offset, among the advanced parameters."""
        number = QgsProcessingParameterNumber
        self.add_advanced(
            QgsProcessingParameterString(self.BANDS, self.tr("Bands"), optional=True),
            number(self.SCALE, self.tr("Scale"), number.Type.Double, optional=True),
            number(self.OFFSET, self.tr("Offset"), number.Type.Double, optional=True),
        )

    def add_advanced(self, *parameters):
        """Add parameters that the dialog folds away."""
        for parameter in parameters:
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check the scale too: 0 would make every pixel the same."""
        scale = parameters.get(self.SCALE)
        if scale is not None and self.parameterAsDouble(parameters, self.SCALE, context) <= 0:
            return False, self.tr("Scale must be greater than 0; leave it empty if unsure.")
        return super().checkParameterValues(parameters, context)

    def request(self, parameters, context):
        """Return model, bands and radiometry."""
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
            "bands": parse_bands(self.parameterAsString(parameters, self.BANDS, context)),
            "radiometry": radiometry,
        }


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
