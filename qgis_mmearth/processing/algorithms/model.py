"""What the algorithms share that let the user choose a model and say what its bands are."""

import re

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ...compat import FLAG_ADVANCED
from .base import SceneAlgorithm, reference

_RULE = re.compile(r"^(?:>\s*(?P<above>-?[\d.]+)|(?P<bits>bits?\s)?(?P<numbers>[-\d\s,;]+))$", re.I)
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
    "MASK": "A raster that says which pixels to leave out, such as a cloud mask, of any pixel size "
    "or projection. If empty, a band named SCL among the rasters or in the product folder is used.",
    "MASK_BAND": "The band of the mask; if empty, the one named SCL, or the first.",
    "MASK_VALUES": "Which pixels of the mask are left out: 3 8 9 those of these values, > 40 "
    "those with more, bits 3 4 those with one of these bits set. If empty, clouds, shadows and "
    "defects of a band named SCL, and of other masks whatever is not 0.",
    "KEEP_CLOUDS": "Do not look for a band named SCL: clouds are mapped like anything else.",
}


class ModelAlgorithm(SceneAlgorithm):
    """An algorithm with the parameters MODEL, BANDS, SCALE, OFFSET and those of a mask."""

    MODEL = "MODEL"
    BANDS = "BANDS"
    SCALE = "SCALE"
    OFFSET = "OFFSET"
    MASK = "MASK"
    MASK_BAND = "MASK_BAND"
    MASK_VALUES = "MASK_VALUES"
    KEEP_CLOUDS = "KEEP_CLOUDS"

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
        """Add bands, scale, offset and mask, among the advanced parameters."""
        number = QgsProcessingParameterNumber
        self.add_advanced(
            QgsProcessingParameterString(self.BANDS, self.tr("Bands"), optional=True),
            number(self.SCALE, self.tr("Scale"), number.Type.Double, optional=True),
            number(self.OFFSET, self.tr("Offset"), number.Type.Double, optional=True),
            *(
                QgsProcessingParameterRasterLayer(name, title, optional=True)
                for name, title in self.mask_titles().items()
            ),
            number(
                self.MASK_BAND, self.tr("Band of the mask"), number.Type.Integer, optional=True,
                minValue=1,
            ),
            QgsProcessingParameterString(
                self.MASK_VALUES, self.tr("Values of the mask to leave out"), optional=True
            ),
            QgsProcessingParameterBoolean(
                self.KEEP_CLOUDS, self.tr("Keep clouds"), defaultValue=False
            ),
        )  # fmt: skip

    def mask_titles(self):
        """Return the parameters that are masks, with their titles."""
        return {self.MASK: self.tr("Mask of clouds and bad pixels")}

    def mask_names(self):
        """Return all parameters that are masks."""
        return list(self.mask_titles())

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take clones of the masks along too, in the main thread."""
        self._masks = {}
        for name in self.mask_titles():
            layer = self.parameterAsRasterLayer(parameters, name, context)
            if layer is not None:
                self._masks[name] = layer.clone()
            elif parameters.get(name):
                raise QgsProcessingException(self.invalidRasterError(parameters, name))
        return super().prepareAlgorithm(parameters, context, feedback)

    def spec(self, parameters, context, scratch):
        """Return what the job needs beside its kind and outputs, the mask among it."""
        masks = self.mask_fields(self.MASK, parameters, context, scratch)
        return {**super().spec(parameters, context, scratch), **masks}

    def mask_fields(self, name, parameters, context, scratch):
        """Return what a scene needs to know of its mask.

        Args:
            name: of the mask's parameter.
            parameters: of this run.
            context: of this run.
            scratch: folder for copies of layers that have no file.
        """
        masks = []
        if name in self._masks:
            band = None
            if parameters.get(self.MASK_BAND) is not None:
                band = self.parameterAsInt(parameters, self.MASK_BAND, context)
            rule = parse_mask_values(self.parameterAsString(parameters, self.MASK_VALUES, context))
            masks = [{**reference(self._masks[name], scratch), "band": band, **rule}]
        keep = self.parameterAsBool(parameters, self.KEEP_CLOUDS, context)
        return {"masks": masks, "scene_classification": "ignore" if keep else "use"}

    def add_advanced(self, *parameters):
        """Add parameters that the dialog folds away."""
        for parameter in parameters:
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check the scale too, as 0 would make every pixel the same, and what is said of a mask."""
        ruled = parameters.get(self.MASK_BAND) is not None or parameters.get(self.MASK_VALUES)
        if ruled and not any(parameters.get(name) for name in self.mask_names()):
            return False, self.tr("A band or values of a mask are given, but no mask: choose it.")
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


def parse_mask_values(text):
    """Read ``3 8 9``, ``> 40`` or ``bits 3 4`` into the interface's rule of a mask.

    Raises:
        QgsProcessingException: if it is none of these.
    """
    if not text.strip():
        return {}
    match = _RULE.match(text.strip())
    try:
        if match.group("above"):
            return {"above": float(match.group("above"))}
        numbers = [int(part) for part in re.split(r"[\s,;]+", match.group("numbers")) if part]
        return {"bits" if match.group("bits") else "values": numbers}
    except (AttributeError, ValueError):  # no match, or no number
        raise QgsProcessingException(
            f"Values of the mask: expected 3 8 9, > 40 or bits 3 4, found {text!r}."
        ) from None


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
