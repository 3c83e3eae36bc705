"""What the algorithms share: help, inputs, running a job, styling, and errors in words."""

from collections import deque
from pathlib import Path
from typing import Any, Dict, List

from qgis.core import (
    QgsFeatureRequest,
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon

from ... import paths, shared
from ...compat import SOURCE_RASTER
from ...layers import results, stack
from ...link.errors import LinkError

PRODUCT_METADATA = ("MTD_MSIL1C.xml", "MTD_MSIL2A.xml")


class RastersParameter(QgsProcessingParameterMultipleLayers):
    """Raster layers or files, or folders of Sentinel-2 products, which QGIS alone cannot open."""

    def checkValueIsAcceptable(self, value, context=None):  # noqa: N802
        """Accept paths of products beside what is accepted anyway."""
        others = [item for item in _as_list(value) if not product_folder(item)]
        if not others and _as_list(value):
            return True
        return super().checkValueIsAcceptable(others, context)

    def clone(self):
        """Return a copy that is of this class too."""
        return RastersParameter(self)


class LabelsParameter(QgsProcessingParameterFeatureSource):
    """A vector layer or its selected features, or a raster.

    Dialogs offer vector layers only: those of QGIS 3.22 crash if a field depends on a raster.
    """

    def checkValueIsAcceptable(self, value, context=None):  # noqa: N802
        """Accept rasters beside what is accepted anyway."""
        if isinstance(value, (str, QgsRasterLayer)) and value:
            return True
        return super().checkValueIsAcceptable(value, context)

    def clone(self):
        """Return a copy that is of this class too."""
        return LabelsParameter(self)


class KeptStyle(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer the style beside its file, which Processing leaves aside when it loads it."""

    def postProcessLayer(self, layer, context, feedback):  # noqa: N802
        """Load the style."""
        layer.loadDefaultStyle()


# QGIS deletes each when its layer is loaded, which may be after its algorithm is gone; until then
# it is for us to keep.
_stylers = deque(maxlen=256)


class MMEarthAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that lets the backend run a job.

    Subclasses define ``HELP`` (a line for each parameter), ``ABOUT`` and ``EXAMPLE``.
    """

    HELP: Dict[str, str] = {}
    ABOUT = ""
    EXAMPLE = ""

    def createInstance(self):  # noqa: N802
        """Return a fresh instance, as Processing asks for each run."""
        return type(self)()

    def icon(self):
        """Return the icon in the toolbox."""
        return QIcon(str(paths.ICONS / "mmearth.svg"))

    def helpUrl(self):  # noqa: N802
        """Return the page of the manual."""
        return f"{paths.MANUAL.as_uri()}#processing"

    def shortHelpString(self):  # noqa: N802
        """Return what the algorithm does, each parameter, and an example."""
        rows = "".join(
            f"<h3>{self.parameterDefinition(name).description()}</h3>\n<p>{text}</p>\n"
            for name, text in self.HELP.items()
        )
        return f"<p>{self.ABOUT}</p>\n{rows}<h3>Example</h3>\n<pre>{self.EXAMPLE}</pre>"

    def tr(self, text):
        """Translate."""
        return QCoreApplication.translate("MMEarth", text)

    @staticmethod
    def counted(number: int, one: str, many: str) -> str:
        """Return how many there are of something, in the words for one or for many."""
        return one if number == 1 else many.format(f"{number:,}")

    def add(self, parameter: QgsProcessingParameterDefinition) -> None:
        """Add a parameter with its help, which the dialog shows as a tooltip."""
        parameter.setHelp(self.HELP.get(parameter.name(), ""))
        self.addParameter(parameter)

    def run_job(self, spec: Dict[str, Any], feedback) -> "Dict[str, Any] | None":
        """Run a job, and return its result; None if it was cancelled. Warnings are told.

        Raises:
            QgsProcessingException: if it fails.
        """
        said = ""

        def report(job):
            nonlocal said
            feedback.setProgress(job["progress"] * 100)
            words = self.follow(job)
            if words != said:
                said = words
                feedback.setProgressText(said)

        try:
            job = shared.backend().run_job(spec, report, feedback.isCanceled)
        except LinkError as error:
            feedback.pushDebugInfo(error.details)
            raise QgsProcessingException(str(error)) from error
        if job["state"] == "cancelled":
            return None
        for warning in job["result"]["warnings"]:
            feedback.pushWarning(f"{warning['message']} {warning['advice']}")
        return job["result"]

    def follow(self, job: Dict[str, Any]) -> str:
        """Hear how far a job is, in Processing's thread; return what the log is to say of it."""
        return job["stage"]

    def canExecute(self):  # noqa: N802
        """Tell whether the backend is installed; asking costs a look at a few files."""
        state = shared.backend().environment.state()
        if state.value in ("ready", "external"):
            return True, ""
        return False, self.tr(
            "The backend is not installed. Open the MMEarth panel and press its button, or run "
            "tools/install_backend.py."
        )


class SceneAlgorithm(MMEarthAlgorithm):
    """An algorithm that reads rasters of a scene.

    Subclasses define ``KIND``, ``request``, ``outputs_of``, ``tell`` and ``answer``.
    """

    KIND = ""
    INPUT = "INPUT"
    EXTENT = "EXTENT"
    OUTPUT = "OUTPUT"

    def add_input_parameters(self):
        """Add the rasters and the area."""
        self.add(RastersParameter(self.INPUT, self.tr("Rasters of the scene"), SOURCE_RASTER))
        self.add(QgsProcessingParameterExtent(self.EXTENT, self.tr("Area to map"), optional=True))

    def request(self, parameters, context) -> Dict[str, Any]:
        """Return what the job needs beside inputs, extent and outputs."""
        raise NotImplementedError

    def spec(self, parameters, context, scratch: Path) -> Dict[str, Any]:
        """Return what the job needs beside its kind and outputs.

        Args:
            parameters: of this run.
            context: of this run.
            scratch: folder for copies of layers that have no file.
        """
        return {
            "inputs": [reference(source, scratch) for source in self._sources],
            "extent": self._extent(parameters, context),
            **self.request(parameters, context),
        }

    def outputs_of(self, parameters, context) -> Dict[str, str]:
        """Return the file of each result that is wanted, by its name in the interface."""
        raise NotImplementedError

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take products and clones of layers along, in the main thread."""
        self._sources = self.sources(self.INPUT, parameters, context)
        if not self._sources:
            raise QgsProcessingException(
                self.tr("No raster is chosen. Choose at least one raster layer or file.")
            )
        return True

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Run the job in the backend, in Processing's thread."""
        outputs = self.outputs_of(parameters, context)
        scratch = Path(QgsProcessingUtils.tempFolder())
        try:
            spec = {
                "kind": self.KIND,
                "outputs": outputs,
                **self.spec(parameters, context, scratch),
            }
        except LinkError as error:
            feedback.pushDebugInfo(error.details)
            raise QgsProcessingException(str(error)) from error
        result = self.run_job(spec, feedback)
        if result is None:
            return {}
        self.tell(result, feedback)
        self.finish(outputs, result, context)
        return self.answer(outputs, result)

    def add_table(self, name, title):
        """Add a table that is made if it is asked for."""
        self.add(
            QgsProcessingParameterFileDestination(
                name, title, "CSV (*.csv)", optional=True, createByDefault=False
            )
        )

    def tell(self, result, feedback) -> None:
        """Say what came out."""
        raise NotImplementedError

    def finish(self, outputs, result, context) -> None:
        """Do what is left to do with the files of a result."""

    def keep_styles(self, outputs, context) -> None:
        """Let layers be loaded with the styles that stand with their files."""
        for path in outputs.values():
            if context.willLoadLayerOnCompletion(path):
                _stylers.append(KeptStyle())
                context.layerToLoadOnCompletionDetails(path).setPostProcessor(_stylers[-1])

    def answer(self, outputs, result) -> Dict[str, Any]:
        """Return the algorithm's outputs."""
        raise NotImplementedError

    def destination(self, name, parameters, context) -> str:
        """Return the full path of an output, empty if it is not wanted."""
        return _full_path(self.parameterAsOutputLayer(parameters, name, context))

    def file_destination(self, name, parameters, context) -> str:
        """Return the full path of an output that is no layer, empty if it is not wanted."""
        return _full_path(self.parameterAsFileOutput(parameters, name, context))

    def sources(self, name, parameters, context) -> "List[Path | QgsRasterLayer]":
        """Return the products and clones of the layers of a parameter; in the main thread."""
        return [
            product_folder(item) or self._layer(item).clone()
            for item in self._input_values(name, parameters, context)
        ]

    def _input_values(self, name, parameters, context) -> List[Any]:
        raw = _as_list(parameters.get(name))
        if not raw or all(product_folder(item) for item in raw):
            return raw
        mixed = [item for item in raw if product_folder(item)]
        plain = {**parameters, name: [item for item in raw if not product_folder(item)]}
        return [*self.parameterAsLayerList(plain, name, context), *mixed]

    def _layer(self, item) -> QgsRasterLayer:
        if isinstance(item, QgsRasterLayer):
            return item
        raise QgsProcessingException(
            self.tr("{} is no raster layer. Choose raster layers or files.").format(item.name())
        )

    def _extent(self, parameters, context):
        if not parameters.get(self.EXTENT):
            return None
        rectangle = self.parameterAsExtent(parameters, self.EXTENT, context)
        crs = self.parameterAsExtentCrs(parameters, self.EXTENT, context)
        bounds = [
            rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()
        ]  # fmt: skip
        return {"bounds": bounds, "crs": crs.authid() or crs.toWkt()}

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check what can be checked at once, in words."""
        if not _as_list(parameters.get(self.INPUT)):
            return False, self.tr("No raster is chosen. Choose at least one raster layer or file.")
        words = self._inputs_problem(parameters[self.INPUT], context)
        if words:
            return False, words
        return super().checkParameterValues(parameters, context)

    def _inputs_problem(self, value, context) -> str:
        """Return what is wrong with the rasters of a parameter; empty if nothing is."""
        problems = (self._input_problem(item, context) for item in _as_list(value))
        return next(filter(None, problems), "")

    def _input_problem(self, item, context) -> str:
        """Return what is wrong with an input that is given as text; empty if nothing is."""
        if not isinstance(item, str) or product_folder(item):
            return ""
        layer = QgsProcessingUtils.mapLayerFromString(
            item, context, True, QgsProcessingUtils.LayerHint.Raster
        )
        if layer is not None:
            return ""
        if Path(item).exists():
            return self.tr("{} cannot be opened as a raster. Is the file whole?").format(item)
        return self.tr("{} does not exist. Choose raster layers or files.").format(item)


class MappingAlgorithm(SceneAlgorithm):
    """An algorithm that makes rasters of rasters.

    Subclasses define ``outputs_of``, ``request`` and ``answer``; those of another kind of job than
    mapping classes define ``KIND`` and ``tell`` too.
    """

    KIND = "segment"

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Maps")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "maps"

    def tell(self, result, feedback) -> None:
        """Say what came out."""
        for row in result["classes"]:
            feedback.pushInfo(f"{row['title']}: {row['hectares']:,.2f} ha ({row['percent']:.2f} %)")
        self.tell_masked(result, feedback)

    def tell_masked(self, result, feedback) -> None:
        """Say how much a mask of clouds has left out, if any."""
        if result["masked_pixels"]:
            count = result["masked_pixels"]
            pixels = self.counted(count, self.tr("1 pixel"), self.tr("{} pixels"))
            feedback.pushInfo(self.tr("Left out by a mask: {}").format(pixels))

    def finish(self, outputs, result, context):
        """Style the layers."""
        # Makes the layers once, to write their styles beside the files: everyone who adds them
        # later loads them so.
        results.open_results(result, result.get("product", ""))
        self.keep_styles(outputs, context)

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check names of files too."""
        for definition in self.destinationParameterDefinitions():
            words = self._destination_problem(definition, parameters)
            if words:
                return False, words
        return super().checkParameterValues(parameters, context)

    def _destination_problem(self, definition, parameters) -> str:
        """Return what is wrong with the file of an output; empty if nothing is."""
        value = parameters.get(definition.name())
        if isinstance(value, QgsProcessingOutputLayerDefinition):
            value = value.sink.staticValue()
        suffixes = {
            QgsProcessingParameterRasterDestination.typeName():
                self.provider().supportedOutputRasterLayerExtensions(),
            QgsProcessingParameterVectorDestination.typeName():
                self.provider().supportedOutputVectorLayerExtensions(),
        }.get(definition.type())  # fmt: skip
        if not suffixes or not value or not isinstance(value, str):
            return ""
        if value == QgsProcessing.TEMPORARY_OUTPUT:
            return ""
        if Path(value).suffix.lower().lstrip(".") in suffixes:
            return ""
        return self.tr("{}: {} is no file name ending in .{}, the only format written.").format(
            definition.description(), value, suffixes[0]
        )


def layer_of(value, context) -> QgsMapLayer:
    """Return the layer that a value of a ``LabelsParameter`` names.

    Raises:
        LinkError: if there is none.
    """
    if isinstance(value, QgsProcessingFeatureSourceDefinition):
        value = value.source.staticValue()
    if value is None or value == "":
        raise LinkError("No labels are chosen.", "Choose a vector layer or a label raster.")
    if not isinstance(value, QgsMapLayer):
        layer = QgsProcessingUtils.mapLayerFromString(str(value), context)
        if layer is None or not layer.isValid():
            raise LinkError(
                f"{value} cannot be opened as labels.", "Choose a vector layer or a label raster."
            )
        return layer
    return value


def only_selected(value) -> bool:
    """Tell whether only the selected features of a layer are meant."""
    chosen = isinstance(value, QgsProcessingFeatureSourceDefinition)
    return chosen and value.selectedFeaturesOnly


def selected(layer: QgsVectorLayer) -> QgsVectorLayer:
    """Return a layer in memory of the selected features."""
    part = layer.materialize(QgsFeatureRequest().setFilterFids(layer.selectedFeatureIds()))
    part.setName(layer.name())
    return part


def product_folder(item) -> "Path | None":
    """Return the folder of a Sentinel-2 product that a parameter's value names, if it does."""
    if not isinstance(item, str):
        return None
    path = Path(item)
    if path.name in PRODUCT_METADATA:
        path = path.parent
    return path if path.suffix == ".SAFE" and path.is_dir() else None


def reference(source: "Path | QgsRasterLayer", scratch: Path) -> Dict[str, str]:
    """Return what the backend needs to open a product folder or layer."""
    if isinstance(source, Path):
        return {"path": str(source), "label": ""}
    return stack.reference(source, scratch)


def _full_path(value: str) -> str:
    """Return the full path of a file: the backend has a working folder of its own."""
    return str(Path(value).resolve()) if value else ""


def _as_list(value) -> List[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and ";" in value:
        return value.split(";")
    return [value]
