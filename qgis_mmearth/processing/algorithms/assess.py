"""``mmearth:assess``: how right a map is, and how much there is of each class."""

import uuid
from pathlib import Path

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterLayer,
    QgsProviderRegistry,
    QgsVectorLayer,
)

from ...compat import SOURCE_VECTOR
from ...layers import label_copies, stack
from ...link.errors import LinkError
from .base import LabelsParameter, layer_of, only_selected, selected
from .sampledesign import AccuracyAlgorithm

HALF_INTERVAL = 1.96  # standard errors


class AssessAlgorithm(AccuracyAlgorithm):
    """Accuracies of a map, and areas with their intervals, by a reference."""

    KIND = "assess"
    REFERENCE = "REFERENCE"
    FIELD = "FIELD"
    TABLE = "TABLE"
    AREAS = "AREAS"
    ACCURACY = "ACCURACY"

    ABOUT = (
        "Compares a class map with what is known to be true: confusion matrix, user's and "
        "producer's accuracy, F1, IoU, and the area of each class corrected for the errors of the "
        "map, all with 95 % intervals (Olofsson et al. 2014, Stehman 2014). The intervals hold for "
        "a sample of mmearth:sampledesign, whichever map it judges; for other references only if "
        "these were drawn at random in each class of the map."
    )
    HELP = {
        "INPUT": "Class map: one band of whole numbers. Only what the file states as no data is "
        "none.",
        "REFERENCE": "A sample of mmearth:sampledesign that is filled in, or another vector layer "
        "of points or polygons, in any projection; in scripts and qgis_process also a raster of "
        "class codes. Save your edits first.",
        "FIELD": "Field that holds the class, by value, name or title; a sample's is ‘reference’ "
        "unless you choose another, and a raster has none.",
        "TABLE": "CSV: confusion matrix in pixels, rows the map and columns the reference, and "
        "accuracies with half their 95 % intervals.",
        "AREAS": "CSV: hectares of each class on the map, corrected, and with their 95 % interval.",
        "REPORT": "HTML page with all of it, in words and figures.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:assess -- INPUT=landcover.tif REFERENCE=sample.gpkg "
        "AREAS=areas.csv REPORT=report.html"
    )
    REPORT = "REPORT"

    def name(self):
        """Return the stable identifier."""
        return "assess"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Accuracy and areas of a map")

    def tags(self):
        """Return words that people search for."""
        words = "accuracy,validation,confusion matrix,error matrix,area estimation,Olofsson,IoU"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        tr, file = self.tr, QgsProcessingParameterFileDestination
        self.add(QgsProcessingParameterRasterLayer(self.INPUT, tr("Class map")))
        self.add(LabelsParameter(self.REFERENCE, tr("Reference"), [SOURCE_VECTOR]))
        self.add(
            QgsProcessingParameterField(
                self.FIELD, tr("Field of the class"), parentLayerParameterName=self.REFERENCE,
                optional=True,
            )
        )  # fmt: skip
        for name, title in ((self.TABLE, tr("Confusion matrix")), (self.AREAS, tr("Areas"))):
            self.add(file(name, title, "CSV (*.csv)", optional=True, createByDefault=False))
        self.add(file(self.REPORT, tr("Report"), "HTML (*.html)"))
        self.addOutput(QgsProcessingOutputNumber(self.ACCURACY, tr("Overall accuracy")))

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check the reference too, in words."""
        try:
            self._take_reference(parameters, context)
        except LinkError as error:
            return False, str(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take the reference along as it stands, in the main thread."""
        self._reference = self._take_reference(parameters, context)
        return super().prepareAlgorithm(parameters, context, feedback)

    def spec(self, parameters, context, scratch):
        """Return map and reference."""
        reference = self._reference
        if isinstance(reference, label_copies.LabelCopies):
            target = scratch / f"reference-{uuid.uuid4().hex[:8]}.gpkg"
            copy = label_copies.write_copies(reference, target)
            reference = {"reference": copy["path"], "layer": copy["layer"], "field": copy["field"]}
        (layer,) = self._sources
        return {
            "map": stack.reference(layer, scratch)["path"],
            "classes": self._classes,
            **reference,
        }

    def outputs_of(self, parameters, context):
        """Return the files that are wanted."""
        names = {"table": self.TABLE, "areas": self.AREAS, "report": self.REPORT}
        files = {
            key: self.file_destination(name, parameters, context) for key, name in names.items()
        }
        return {key: path for key, path in files.items() if path}

    def tell(self, result, feedback):
        """Say how right the map is, and how much there is of each class."""
        feedback.pushInfo(self.tr("Overall accuracy: {}").format(_percent(result["accuracy"])))
        for row in result["classes"]:
            words = self.tr(
                "{}: user's accuracy {}, producer's accuracy {}, {} ({:,.2f} ha mapped)"
            )
            feedback.pushInfo(
                words.format(
                    row["title"],
                    _percent(row["users_accuracy"]),
                    _percent(row["producers_accuracy"]),
                    _hectares(row["hectares"]),
                    row["mapped_hectares"],
                )
            )

    def answer(self, outputs, result):
        """Return the files, and overall accuracy."""
        names = {"table": self.TABLE, "areas": self.AREAS, "report": self.REPORT}
        found = {names[key]: path for key, path in outputs.items()}
        return {**found, self.ACCURACY: result["accuracy"]["value"]}

    def _take_reference(self, parameters, context):
        """Return the fields of the request that name the reference, or what is to be copied.

        Raises:
            LinkError: if it cannot be taken.
        """
        value = parameters.get(self.REFERENCE)
        if value is None or value == "":
            raise LinkError("No reference is chosen.", "Choose a vector layer, or a raster.")
        layer = layer_of(value, context)
        if not isinstance(layer, QgsVectorLayer):
            return label_copies.copy_labels([layer], None)
        field = self.parameterAsString(parameters, self.FIELD, context) or None
        if layer.isEditable() and layer.isModified():
            raise LinkError(
                f"{layer.name()} has edits that are not saved.", "Save them, then run again."
            )
        parts = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())
        path = str(parts.get("path") or "")
        whole = not only_selected(value) and not layer.subsetString()
        # The file itself, so that a sample keeps the strata that it was drawn from.
        if whole and layer.providerType() == "ogr" and Path(path).is_file():
            name = parts.get("layerName")  # NULL if the source names none
            name = name if isinstance(name, str) else None
            return {"reference": path, "layer": name, "field": field}
        if not field:
            raise LinkError(
                f"Which field of {layer.name()} holds the class is not said.",
                "Choose the field that holds the class of each feature.",
            )
        return label_copies.copy_labels([selected(layer) if only_selected(value) else layer], field)


def _percent(figure) -> str:
    if figure["value"] is None:
        return "–"
    margin = HALF_INTERVAL * figure["standard_error"]
    return f"{100 * figure['value']:.1f} ± {100 * margin:.1f} %"


def _hectares(figure) -> str:
    if figure["value"] is None:
        return "–"
    return f"{figure['value']:,.2f} ± {HALF_INTERVAL * figure['standard_error']:,.2f} ha"
