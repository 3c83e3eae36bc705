"""``mmearth:importmodel``: install a model from a file or folder, or a published encoder."""

import re
from pathlib import Path

from qgis.core import (
    QgsProcessingOutputFolder,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ... import settings, shared
from ...compat import FLAG_ADVANCED
from .base import MMEarthAlgorithm


class FileOrFolderParameter(QgsProcessingParameterFile):
    """A file or a folder; QGIS's own parameter takes either the one or the other."""

    def checkValueIsAcceptable(self, value, context=None):  # noqa: N802
        """Accept folders beside what is accepted anyway."""
        if isinstance(value, str) and Path(value).is_dir():
            return True
        return super().checkValueIsAcceptable(value, context)

    def clone(self):
        """Return a copy that is of this class too."""
        return FileOrFolderParameter(self)


class ImportModelAlgorithm(MMEarthAlgorithm):
    """Installs a model, for the panel and for the other algorithms."""

    FILE = "FILE"
    PUBLISHED = "PUBLISHED"
    LEVEL = "LEVEL"
    SENSOR = "SENSOR"
    BANDS = "BANDS"
    RESOLUTION = "RESOLUTION"
    ID = "ID"
    TITLE = "TITLE"
    ACCEPT_LICENCE = "ACCEPT_LICENCE"
    MODEL = "MODEL"
    FOLDER = "FOLDER"

    ABOUT = (
        "Installs a model from a file or folder of yours, or downloads a published encoder. "
        "Afterwards it is found in the panel and in the other algorithms."
    )
    HELP = {
        "FILE": "A model folder, its zip file, an ONNX file, or a file of weights of a published "
        "encoder (.pth, .pt, .ckpt, .safetensors). If empty, the published encoder is downloaded.",
        "PUBLISHED": "Identifier of the published encoder that is downloaded, or that the file "
        "holds. The window of models lists them, and so does: mmearth models published.",
        "LEVEL": "Processing level of your images, for encoders that know several: L1C or L2A. "
        "The encoder's first one if empty.",
        "SENSOR": "Sensor that an ONNX file is made for, if it does not say so, for example "
        "sentinel-2 or aerial-rgb.",
        "BANDS": "Bands that an ONNX file reads, in its order, if it does not say so, for example "
        "red green blue.",
        "RESOLUTION": "Size of a pixel on the ground in metres that an ONNX file was made for, if "
        "it does not say so.",
        "ID": "Identifier of the installed model, by which the other algorithms know it. Its own "
        "if empty.",
        "TITLE": "Title of the installed model. Its own if empty.",
        "ACCEPT_LICENCE": "Nothing is downloaded before you accept the licence. It stands in the "
        "window of models; running without accepting it says it, too.",
    }
    EXAMPLE = "qgis_process run mmearth:importmodel -- FILE=landcover.zip"

    def name(self):
        """Return the stable identifier."""
        return "importmodel"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Import a model")

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Models")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "models"

    def tags(self):
        """Return words that people search for."""
        return "model,import,install,download,onnx,weights,encoder,AI".split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        text, tr = QgsProcessingParameterString, self.tr
        self.add(FileOrFolderParameter(self.FILE, tr("File or folder"), optional=True))
        self.add(text(self.PUBLISHED, tr("Published encoder"), optional=True))
        self.add(text(self.LEVEL, tr("Processing level"), optional=True))
        for name, title in (
            (self.SENSOR, tr("Sensor")),
            (self.BANDS, tr("Bands")),
            (self.ID, tr("Identifier of the installed model")),
            (self.TITLE, tr("Title of the installed model")),
        ):
            parameter = text(name, title, optional=True)
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)
        number = QgsProcessingParameterNumber
        resolution = number(
            self.RESOLUTION, tr("Pixel size (m)"), number.Type.Double, optional=True, minValue=0.0
        )
        resolution.setFlags(resolution.flags() | FLAG_ADVANCED)
        self.add(resolution)
        self.add(
            QgsProcessingParameterBoolean(
                self.ACCEPT_LICENCE, tr("I accept the licence"), defaultValue=False
            )
        )
        self.addOutput(QgsProcessingOutputString(self.MODEL, tr("Model")))
        self.addOutput(QgsProcessingOutputFolder(self.FOLDER, tr("Model folder")))

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check what can be checked at once, in words."""
        file = self.parameterAsString(parameters, self.FILE, context)
        if not file and not self.parameterAsString(parameters, self.PUBLISHED, context):
            return False, self.tr(
                "Nothing to install is named. Name a file or a published encoder."
            )
        if file and not Path(file).exists():
            return False, self.tr("{} does not exist. Choose a file or folder that does.").format(
                file
            )
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Run the job in the backend, in Processing's thread."""

        def text(name):
            return self.parameterAsString(parameters, name, context).strip()

        spec = {
            "kind": "install",
            "source": str(Path(text(self.FILE)).resolve()) if text(self.FILE) else None,
            "published": text(self.PUBLISHED) or None,
            "level": text(self.LEVEL) or None,
            "sensor": text(self.SENSOR) or None,
            "bands": re.split(r"[\s,;]+", text(self.BANDS)) if text(self.BANDS) else [],
            "resolution_m": self.parameterAsDouble(parameters, self.RESOLUTION, context) or None,
            "accept_licence": self.parameterAsBool(parameters, self.ACCEPT_LICENCE, context),
        }
        for field, name in (("id", self.ID), ("title", self.TITLE)):
            if text(name):
                spec[field] = text(name)
        result = self.run_job(spec, feedback)
        if result is None:
            return {}
        model = result["model"]
        feedback.pushInfo(f"{model['id']}: {model['title']}, {model['licence']}")
        feedback.pushInfo(model["attribution"])
        folder = settings.home() / "models" / model["id"]
        return {self.MODEL: model["id"], self.FOLDER: str(folder)}

    def postProcessAlgorithm(self, context, feedback):  # noqa: N802
        """Tell the panel and the other algorithms, in the main thread."""
        shared.events.models_changed.emit()
        return {}
