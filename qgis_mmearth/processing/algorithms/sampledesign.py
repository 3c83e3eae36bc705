"""``mmearth:sampledesign``: a stratified random sample of a class map, to be interpreted."""

import re

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ... import paths
from ...compat import FLAG_ADVANCED
from ...layers import labels, samples, stack
from .base import SceneAlgorithm

ALLOCATIONS = ["compromise", "proportional", "equal"]


class AccuracyAlgorithm(SceneAlgorithm):
    """An algorithm that reads one raster of classes, to judge it."""

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Accuracy")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "accuracy"

    def helpUrl(self):  # noqa: N802
        """Return the page of the manual."""
        return f"{paths.MANUAL.as_uri()}#accuracy"

    def _input_values(self, name, parameters, context):
        layer = self.parameterAsRasterLayer(parameters, name, context)
        return [layer] if layer else []

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take the names and colours of the classes along, in the main thread."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        # A name that is but the value says nothing; the file may know better.
        self._classes = [
            {**row, "title": "" if row["title"] == row["value"] else row["title"]}
            for row in labels.classes_of(self._sources, None)
        ]
        return good


class SampleDesignAlgorithm(AccuracyAlgorithm):
    """Points drawn at random in each class of a map, with a form to interpret them."""

    KIND = "sampledesign"
    SIZE = "SIZE"
    TARGET_ERROR = "TARGET_ERROR"
    EXPECTED = "EXPECTED"
    ALLOCATION = "ALLOCATION"
    MINIMUM = "MINIMUM"
    SEED = "SEED"
    TABLE = "TABLE"

    ABOUT = (
        "Draws a stratified random sample of the pixels of a class map: what mmearth:assess needs "
        "for accuracies and areas with intervals that hold (Olofsson et al. 2014). Interpret each "
        "point by what an image of its time shows, in the order of the numbers, and without a look "
        "at the map; the form hides what the map says."
    )
    HELP = {
        "INPUT": "Class map: one band of whole numbers. Its classes are the strata.",
        "SIZE": "Number of points in all; if empty, as many as the standard error below needs, and "
        "no fewer than the minimum of each class.",
        "TARGET_ERROR": "Standard error of overall accuracy that is wished for, 0.01 for one "
        "percent; half of a 95 % interval is about twice as much. Not used if a number is given.",
        "EXPECTED": "User's accuracy that you expect, for the number of points: 0.8 for all "
        "classes, or 0.8, 1=0.7, Forest=0.95 for some of their own, by value or title.",
        "ALLOCATION": "How the points are shared out. compromise: rare classes have the minimum "
        "below, the others what is left, in proportion to their area; proportional: all have what "
        "their area is worth, at least 2; equal: all have as many.",
        "MINIMUM": "Points of a rare class, for compromise; 50 to 100 are usual.",
        "SEED": "Decides what is drawn: the same raster and seed give the same points.",
        "OUTPUT": "GeoPackage of the points, in the middle of pixels, with the fields id, "
        "reference (fill it in), confidence and note, and a table of the strata.",
        "TABLE": "CSV of the strata: pixels, hectares on the ellipsoid, weight and points.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:sampledesign -- INPUT=landcover.tif SIZE=500 OUTPUT=sample.gpkg"
    )

    def name(self):
        """Return the stable identifier."""
        return "sampledesign"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Sample to judge a map by")

    def tags(self):
        """Return words that people search for."""
        words = "accuracy,validation,stratified,random,sample,points,Olofsson,reference,design"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        tr, number = self.tr, QgsProcessingParameterNumber
        whole, decimal = number.Type.Integer, number.Type.Double
        self.add(QgsProcessingParameterRasterLayer(self.INPUT, tr("Class map")))
        self.add(number(self.SIZE, tr("Points"), whole, optional=True, minValue=1))
        self.add(
            number(
                self.TARGET_ERROR, tr("Standard error of overall accuracy"), decimal,
                defaultValue=0.01, minValue=0.0001, maxValue=0.49,
            )
        )  # fmt: skip
        self.add(
            QgsProcessingParameterString(
                self.EXPECTED, tr("Expected user’s accuracy"), defaultValue="0.8", optional=True
            )
        )
        self.add(
            QgsProcessingParameterEnum(
                self.ALLOCATION, tr("Points of each class"), options=ALLOCATIONS,
                usesStaticStrings=True, defaultValue=ALLOCATIONS[0],
            )
        )  # fmt: skip
        self.add(
            number(self.MINIMUM, tr("Points of a rare class"), whole, defaultValue=50, minValue=2)
        )
        seed = number(self.SEED, tr("Seed"), whole, defaultValue=0, minValue=0)
        seed.setFlags(seed.flags() | FLAG_ADVANCED)
        self.add(seed)
        self.add(QgsProcessingParameterVectorDestination(self.OUTPUT, tr("Sample")))
        self.add(
            QgsProcessingParameterFileDestination(
                self.TABLE, tr("Strata"), "CSV (*.csv)", optional=True, createByDefault=False
            )
        )

    def spec(self, parameters, context, scratch):
        """Return the raster, and how to draw."""
        size = None
        if parameters.get(self.SIZE) is not None:
            size = self.parameterAsInt(parameters, self.SIZE, context)
        (layer,) = self._sources
        return {
            "raster": stack.reference(layer, scratch)["path"],
            "classes": self._classes,
            "size": size,
            "target_error": self.parameterAsDouble(parameters, self.TARGET_ERROR, context),
            **parse_expected(self.parameterAsString(parameters, self.EXPECTED, context)),
            "allocation": self.parameterAsEnumString(parameters, self.ALLOCATION, context),
            "minimum": self.parameterAsInt(parameters, self.MINIMUM, context),
            "seed": self.parameterAsInt(parameters, self.SEED, context),
        }

    def outputs_of(self, parameters, context):
        """Return the files that are wanted."""
        table = self.file_destination(self.TABLE, parameters, context)
        sample = self.destination(self.OUTPUT, parameters, context)
        return {"sample": sample, "table": table} if table else {"sample": sample}

    def tell(self, result, feedback):
        """Say what was drawn."""
        for row in result["strata"]:
            points = self.counted(row["points"], self.tr("1 point"), self.tr("{} points"))
            feedback.pushInfo(f"{row['title']}: {row['hectares']:,.2f} ha, {points}")
        points = self.counted(result["size"], self.tr("1 point"), self.tr("{} points"))
        words = self.tr("{}; expected standard error of overall accuracy: {:.3f}")
        feedback.pushInfo(words.format(points, result["expected_error"]))

    def finish(self, outputs, result, context):
        """Give the layer its form."""
        rows = {str(row["value"]): {**row, "value": str(row["value"])} for row in result["strata"]}
        for row in self._classes:  # what the map never shows may still be found on the ground
            if row["title"]:
                rows.setdefault(row["value"], row)
        classes = [rows[value] for value in sorted(rows, key=int)]
        samples.open_sample(outputs["sample"], self.tr("Sample"), classes)
        self.keep_styles(outputs, context)

    def answer(self, outputs, result):
        """Return the sample, and the table of the strata."""
        found = {self.OUTPUT: outputs["sample"]}
        if "table" in outputs:
            found[self.TABLE] = outputs["table"]
        return found


def parse_expected(text):
    """Read ``0.8, 1=0.7, Forest=0.95`` into the fields of the interface.

    Raises:
        QgsProcessingException: if a part of it is not of this form.
    """
    found = {"expected": []}
    for part in filter(None, re.split(r"\s*[,;]\s*", text.strip())):
        value, _, accuracy = part.rpartition("=")
        try:
            share = float(accuracy)
        except ValueError:
            raise QgsProcessingException(
                f"Expected user's accuracy: expected 0.8 or CLASS=0.8, found {part!r}."
            ) from None
        if value:
            found["expected"].append({"value": value.strip(), "accuracy": share})
        else:
            found["expected_accuracy"] = share
    return found
