"""``mmearth:finetune``: teach a model classes that were drawn on the map."""

import uuid
from pathlib import Path
from typing import List

from qgis.core import (
    QgsDataProvider,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QMetaObject, Qt

from ... import paths, shared, teaching
from ...compat import SOURCE_RASTER, SOURCE_VECTOR
from ...layers import label_copies, labels
from ...link.errors import LinkError
from .base import LabelsParameter, RastersParameter, layer_of, only_selected, selected
from .model import BAND_HELP, ModelAlgorithm

PROTOCOLS = list(teaching.PROTOCOLS)
LOSSES = list(teaching.LOSSES)


class FinetuneAlgorithm(ModelAlgorithm):
    """A model of one's own, from labels and any installed model."""

    KIND = "finetune"
    LABELS = "LABELS"
    FIELD = "FIELD"
    PROTOCOL = "PROTOCOL"
    NAME = "NAME"
    VALIDATION = "VALIDATION"
    EPOCHS = "EPOCHS"
    LOSS = "LOSS"
    SEED = "SEED"
    FROM_SCRATCH = "FROM_SCRATCH"
    REPORT = "REPORT"
    ACCURACY = "ACCURACY"

    ABOUT = (
        "Teaches a model classes of your own from labels on a scene: polygons, lines or points "
        "with a class, or a raster of class codes. The tuned model is found in the panel and in "
        "the other algorithms at once. A part of the labels is kept back to test on, and the "
        "report says how well it did, beside a random forest on the raw bands."
    )
    HELP = {
        "INPUT": "One file with all bands, one file a band, layers of different pixel size or "
        "projection, or a Sentinel-2 product folder (.SAFE). Bands are recognised by name, common "
        "name or wavelength.",
        "LABELS": "A vector layer of any geometry and projection; in scripts and qgis_process also "
        "a raster of class codes on the pixels of the scene (0 is unlabelled), which the panel "
        "takes, too. A polygon labels the pixels whose centre it covers, a line those that it runs "
        "through, a point the one it lies in. The layer itself is not touched; edits count before "
        "they are saved, too.",
        "FIELD": "Field of the labels that holds the class, a text or a number; a label raster "
        "has none. Features without a value are left out.",
        "MODEL": "What is built on: any installed model or published encoder. It says which bands "
        "the rasters must have.",
        "PROTOCOL": "quick: the model's encoder stays as it is, and only what reads its features "
        "is learned; the fastest, and good with few labels. adapter: the encoder gets "
        "small additions that are learned too, for scenes that look unlike those it knows. full: "
        "all weights are learned, which takes longest and needs the most labels.",
        "NAME": "Title of the tuned model; made from that of the base if empty.",
        **BAND_HELP,
        "VALIDATION": "Share of the labels that is kept back to test on, from 0 to 0.5. Whole "
        "labels are kept back, those of one part of the scene together; 0 tests nothing.",
        "EPOCHS": "Most rounds through the labels; training ends earlier when it gets no better. "
        "Not for quick.",
        "LOSS": "What training makes small; cross-entropy unless you know better, and "
        "boundary-cross-entropy for narrow gaps between things that touch. Not for quick.",
        "SEED": "Decides what is drawn at random: the same labels and seed give the same model on "
        "a processor.",
        "FROM_SCRATCH": "Take the architecture of the model and none of what it has learned; to "
        "see what it is worth. Needs many labels; not for quick.",
        "OUTPUT": "Folder for a copy of the tuned model, to hand on. It is installed in any case.",
        "REPORT": "HTML page with scores of each class, curves and pictures; beside the installed "
        "model if empty.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:finetune -- INPUT=scene.tif LABELS=labels.gpkg FIELD=class "
        "MODEL=landcover-s2 PROTOCOL=quick NAME=Orchards REPORT=report.html"
    )

    def name(self):
        """Return the stable identifier."""
        return "finetune"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Teach a model your classes")

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Models")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "models"

    def helpUrl(self):  # noqa: N802
        """Return the page of the manual."""
        return f"{paths.MANUAL.as_uri()}#teaching"

    def tags(self):
        """Return words that people search for."""
        words = "train,fine-tuning,transfer learning,labels,training data,classification,AI,encoder"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        tr, number = self.tr, QgsProcessingParameterNumber
        self.add(RastersParameter(self.INPUT, tr("Rasters of the scene"), SOURCE_RASTER))
        self.add(LabelsParameter(self.LABELS, tr("Labels"), [SOURCE_VECTOR]))
        self.add(
            QgsProcessingParameterField(
                self.FIELD, tr("Field of the class"), parentLayerParameterName=self.LABELS,
                optional=True,
            )
        )  # fmt: skip
        self.add_model_parameter(shared.models())
        self.add(self._choice(self.PROTOCOL, tr("What is learned"), PROTOCOLS))
        self.add(
            QgsProcessingParameterString(self.NAME, tr("Title of the tuned model"), optional=True)
        )
        self.add(
            number(
                self.VALIDATION, tr("Share of the labels to test on"), number.Type.Double,
                defaultValue=0.25, minValue=0.0, maxValue=0.5,
            )
        )  # fmt: skip
        self.add(
            number(
                self.EPOCHS, tr("Most rounds (epochs)"), number.Type.Integer, optional=True,
                minValue=1, maxValue=1000,
            )
        )  # fmt: skip
        self.add_advanced(
            self._choice(self.LOSS, tr("Loss"), LOSSES),
            number(self.SEED, tr("Seed"), number.Type.Integer, defaultValue=0, minValue=0),
            QgsProcessingParameterBoolean(
                self.FROM_SCRATCH, tr("From scratch"), defaultValue=False
            ),
        )
        self.add_band_parameters()
        self.add(
            QgsProcessingParameterFolderDestination(
                self.OUTPUT, tr("Tuned model"), optional=True, createByDefault=False
            )
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.REPORT, tr("Report"), "HTML (*.html)", optional=True, createByDefault=False
            )
        )
        self.addOutput(QgsProcessingOutputString(self.MODEL, tr("Identifier of the tuned model")))
        self.addOutput(QgsProcessingOutputNumber(self.ACCURACY, tr("Share of pixels mapped right")))

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check the labels too, in words."""
        try:
            self._take_labels(parameters, context)
        except LinkError as error:
            return False, str(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take the labels along as they stand, in the main thread."""
        self._labels = self._take_labels(parameters, context)
        return super().prepareAlgorithm(parameters, context, feedback)

    def spec(self, parameters, context, scratch):
        """Return the labels too."""
        target = scratch / f"labels-{uuid.uuid4().hex[:8]}.gpkg"
        return {
            **super().spec(parameters, context, scratch),
            "labels": label_copies.write_copies(self._labels, target),
        }

    def request(self, parameters, context):
        """Return how to train."""
        epochs = None
        if parameters.get(self.EPOCHS) is not None:
            epochs = self.parameterAsInt(parameters, self.EPOCHS, context)
        return {
            **super().request(parameters, context),
            "protocol": self.parameterAsEnumString(parameters, self.PROTOCOL, context),
            "title": self.parameterAsString(parameters, self.NAME, context),
            "validation": self.parameterAsDouble(parameters, self.VALIDATION, context),
            "epochs": epochs,
            "loss": self.parameterAsEnumString(parameters, self.LOSS, context),
            "seed": self.parameterAsInt(parameters, self.SEED, context),
            "from_scratch": self.parameterAsBool(parameters, self.FROM_SCRATCH, context),
        }

    def outputs_of(self, parameters, context):
        """Return the folder and the page that are wanted."""
        names = {"model": self.OUTPUT, "report": self.REPORT}
        files = {
            key: self.file_destination(name, parameters, context) for key, name in names.items()
        }
        return {key: path for key, path in files.items() if path}

    def tell(self, result, feedback):
        """Say what was learned, and how well."""
        for row in result["classes"]:
            labels = self.counted(row["units"], self.tr("1 label"), self.tr("{} labels"))
            pixels = self.counted(row["pixels"], self.tr("1 pixel"), self.tr("{} pixels"))
            words = f"{row['title']}: {labels}, {pixels}"
            tested = row["iou"] is not None
            feedback.pushInfo(f"{words}, IoU {row['iou']:.2f}" if tested else words)
        if result["accuracy"] is not None:
            feedback.pushInfo(
                self.tr("{:.1f} % of the pixels kept back are right ({:.1f} to {:.1f} %)").format(
                    *(100 * result[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
                )
            )
        if result["baseline_accuracy"] is not None:
            words = self.tr("{:.1f} % with a random forest on the raw bands")
            feedback.pushInfo(words.format(100 * result["baseline_accuracy"]))
        feedback.pushInfo(self.tr("Report: {}").format(result["outputs"]["report"]))
        if feedback.isCanceled():
            # The best so far is kept, but QGIS ends a cancelled run here, in a thread.
            connection = Qt.ConnectionType.QueuedConnection
            QMetaObject.invokeMethod(shared.events, "models_changed", connection)

    def answer(self, outputs, result):
        """Return the tuned model, its report, and how well it did."""
        found = {
            self.MODEL: result["model"]["id"],
            self.OUTPUT: result["outputs"]["model"],
            self.REPORT: result["outputs"]["report"],
        }
        if result["accuracy"] is not None:
            found[self.ACCURACY] = result["accuracy"]
        return found

    def postProcessAlgorithm(self, context, feedback):  # noqa: N802
        """Tell the panel and the other algorithms, in the main thread."""
        shared.events.models_changed.emit()
        return {}

    def _choice(self, name, title, options):
        return QgsProcessingParameterEnum(
            name, title, options=options, usesStaticStrings=True, defaultValue=options[0]
        )

    def _take_labels(self, parameters, context) -> label_copies.LabelCopies:
        """Take the labels as they stand.

        Raises:
            LinkError: if they hold no classes.
        """
        value = parameters.get(self.LABELS)
        layer = layer_of(value, context)
        if not isinstance(layer, QgsVectorLayer):
            return label_copies.copy_labels([layer], None)
        field = self.parameterAsString(parameters, self.FIELD, context)
        layers = [part for part in _parts(layer, value) if part.fields().lookupField(field) >= 0]
        if not layers:
            known = ", ".join(layer.fields().names()) or "none"
            raise LinkError(
                f"{layer.name()} has no field {field}; it has {known}."
                if field
                else f"Which field of {layer.name()} holds the class is not said; it has {known}.",
                "Choose the field that holds the class of each feature.",
            )
        classes = labels.classes_of(layers, field)
        if only_selected(value):
            layers = [selected(layer)]
        return label_copies.copy_labels(layers, field, _drawn(classes, layers, field))


def _parts(layer: QgsVectorLayer, value) -> List[QgsVectorLayer]:
    """Return all layers of a file of labels: of the project's, or of a file that is named whole."""
    if not isinstance(value, str) or not Path(value).is_file():
        return labels.siblings(layer)
    separator = QgsDataProvider.sublayerSeparator()
    names = [row.split(separator)[1] for row in layer.dataProvider().subLayers()]
    if len(names) < 2:
        return [layer]
    return [QgsVectorLayer(f"{value}|layername={name}", name, "ogr") for name in names]


def _drawn(classes: labels.Classes, layers: List[QgsVectorLayer], field: str) -> labels.Classes:
    """Return the classes that have a label.

    Raises:
        LinkError: if there is none, or so many that the field holds none.
    """
    counts = labels.count_features(layers, field)
    found = [row for row in classes if row["value"] in counts]
    if len(found) > labels.MOST_CLASSES:
        raise LinkError(
            f"Expected at most {labels.MOST_CLASSES} classes, found {len(found)} different values "
            f"in the field {field}.",
            "Choose the field that holds the class of each feature.",
        )
    if not found:
        raise LinkError(
            f"No feature of {layers[0].name()} has a value in the field {field}.",
            "Draw some labels, or choose another field.",
        )
    return found
