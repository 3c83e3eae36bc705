"""``mmearth:buildpretraining``: data for pretraining of one's own rasters."""

import re
from pathlib import Path

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ... import paths
from ...compat import FLAG_ADVANCED, SOURCE_RASTER
from ...layers import labels
from ...link import catalog
from .base import RastersParameter, SceneAlgorithm, reference

LEVELS = ["L2A", "L1C", "other"]

# The time of day that names of products hold after the date goes with it.
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:T\d{6})?(?!\d)"
)


class BuildPretrainingAlgorithm(SceneAlgorithm):
    """Tiles of images, paired with radar, elevation, maps: what an encoder learns from."""

    KIND = "pair"
    SENSOR = "SENSOR"
    LEVEL = "LEVEL"
    MEASURED = "MEASURED"
    CLASSES = "CLASSES"
    CODES = "CODES"
    STRATA = "STRATA"
    SIZE = "SIZE"
    COUNT = "COUNT"
    BLOCK = "BLOCK"
    VALIDATION = "VALIDATION"
    SEED = "SEED"

    ABOUT = (
        "Cuts images into tiles and pairs each with what else is known of its ground, on the same "
        "pixels and of the nearest date: data for pretraining an encoder of your own, in the "
        "layout of MMEarth. mmearth:pretrain learns from its folder with mmearth-h5 as the kind of "
        "the data set. Nothing needs to be labelled. A run that was cancelled goes on where it "
        "stopped."
    )
    HELP = {
        "INPUT": "Images of one sensor, each with all its bands in one file, or folders of "
        "Sentinel-2 products. A date in the name, such as 2024-06-30 or 20240630, is the image's.",
        "SENSOR": "Sensor of the images; it says which bands they may have.",
        "LEVEL": "Processing level of the images; what their numbers mean differs.",
        "MEASURED": "Rasters of what is measured: radar, elevation, canopy height. Each layer is a "
        "modality of its name; layers that differ only in a date in the name are one modality.",
        "CLASSES": "Maps: rasters of whole numbers that stand for classes, named as above.",
        "CODES": "Numbers of the classes of each map, such as landcover=10,20,30; maps are apart "
        "by semicolons. If empty, those of the palette of the layer.",
        "STRATA": "Map; of each of its classes equally many places are drawn. If empty, of each "
        "block of ground.",
        "EXTENT": "Area that places are drawn in; all of the images if empty.",
        "SIZE": "Side of a tile in pixels: 128, or 64 for small encoders.",
        "COUNT": "Number of places to draw; all that there are if empty.",
        "BLOCK": "Side of blocks of ground in kilometres: a block is learned from or tested on as "
        "a whole, because neighbouring tiles resemble each other.",
        "VALIDATION": "Share of the tiles that nothing is learned from.",
        "SEED": "Decides which places are drawn: the same rasters and seed give the same tiles.",
        "OUTPUT": "Folder of the data set: NAME.h5 and three JSON files, called like the folder.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:buildpretraining -- INPUT=s2_20240630.tif INPUT=s2_20240812.tif "
        "MEASURED=elevation.tif OUTPUT=my-data"
    )

    def name(self):
        """Return the stable identifier."""
        return "buildpretraining"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Data for pretraining")

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Models")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "models"

    def tags(self):
        """Return words that people search for."""
        words = "pretraining,self-supervised,MMEarth,tiles,dataset,h5,encoder,foundation model,AI"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        tr, number = self.tr, QgsProcessingParameterNumber
        whole, decimal = number.Type.Integer, number.Type.Double
        several = QgsProcessingParameterMultipleLayers
        self.add(RastersParameter(self.INPUT, tr("Images"), SOURCE_RASTER))
        self.add(
            QgsProcessingParameterEnum(
                self.SENSOR, tr("Sensor"), usesStaticStrings=True, defaultValue="sentinel-2",
                options=[sensor.id for sensor in catalog.sensors(paths.BACKEND)],
            )
        )  # fmt: skip
        self.add(
            QgsProcessingParameterEnum(
                self.LEVEL, tr("Processing level"), options=LEVELS, usesStaticStrings=True,
                defaultValue=LEVELS[0],
            )
        )  # fmt: skip
        self.add(several(self.MEASURED, tr("What is measured"), SOURCE_RASTER, optional=True))
        self.add(several(self.CLASSES, tr("Maps"), SOURCE_RASTER, optional=True))
        self.add(QgsProcessingParameterString(self.CODES, tr("Classes of maps"), optional=True))
        self.add(
            QgsProcessingParameterRasterLayer(
                self.STRATA, tr("Draw places evenly over"), optional=True
            )
        )
        self.add(QgsProcessingParameterExtent(self.EXTENT, tr("Area"), optional=True))
        self.add(
            number(
                self.SIZE, tr("Pixels of a tile"), whole, defaultValue=128, minValue=16,
                maxValue=1024,
            )
        )  # fmt: skip
        self.add(number(self.COUNT, tr("Places"), whole, optional=True, minValue=1))
        advanced = [
            number(self.BLOCK, tr("Kilometres of a block"), decimal, 10.0, minValue=0.01),
            number(
                self.VALIDATION, tr("Share to validate with"), decimal, 0.1, minValue=0.0,
                maxValue=0.49,
            ),
            number(self.SEED, tr("Seed"), whole, 0, minValue=0),
        ]  # fmt: skip
        for parameter in advanced:
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)
        self.add(QgsProcessingParameterFolderDestination(self.OUTPUT, tr("Data set")))

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take all rasters and the classes of maps along, in the main thread."""
        good = super().prepareAlgorithm(parameters, context, feedback)
        self._measured = self.sources(self.MEASURED, parameters, context)
        self._maps = self.sources(self.CLASSES, parameters, context)
        self._palettes = [
            [int(row["value"]) for row in labels.classes_of([layer], None)] for layer in self._maps
        ]
        strata = self.parameterAsRasterLayer(parameters, self.STRATA, context)
        self._strata = strata.clone() if strata else None
        return good

    def spec(self, parameters, context, scratch):
        """Return the images, what they are paired with, and how to draw."""
        level = self.parameterAsEnumString(parameters, self.LEVEL, context)
        count = None
        if parameters.get(self.COUNT) is not None:
            count = self.parameterAsInt(parameters, self.COUNT, context)
        codes = parse_codes(self.parameterAsString(parameters, self.CODES, context))
        return {
            "sensor": self.parameterAsEnumString(parameters, self.SENSOR, context),
            "images": [
                {
                    "inputs": [reference(source, scratch)],
                    "date": name_and_date(_title(source))[1],
                    "level": "" if level == LEVELS[-1] else level,
                }
                for source in self._sources
            ],
            "modalities": self._modalities(codes, scratch),
            "strata": reference(self._strata, scratch)["path"] if self._strata else None,
            "extent": self._extent(parameters, context),
            "size": self.parameterAsInt(parameters, self.SIZE, context),
            "count": count,
            "block_km": self.parameterAsDouble(parameters, self.BLOCK, context),
            "validation": self.parameterAsDouble(parameters, self.VALIDATION, context),
            "seed": self.parameterAsInt(parameters, self.SEED, context),
        }

    def _modalities(self, codes, scratch):
        rows = {}
        known = [(layer, "continuous", []) for layer in self._measured]
        known += [
            (layer, "categorical", palette)
            for layer, palette in zip(self._maps, self._palettes)  # noqa: B905 - Python 3.9
        ]
        for layer, kind, palette in known:
            name, date = name_and_date(_title(layer))
            row = rows.setdefault(name, {"name": name, "kind": kind, "rasters": [], "codes": []})
            if row["kind"] != kind:
                raise QgsProcessingException(
                    self.tr("{} is among what is measured and among the maps.").format(name)
                )
            row["rasters"].append({"path": reference(layer, scratch)["path"], "date": date})
            if kind == "categorical":
                row["codes"] = codes.get(name) or sorted({*row["codes"], *palette})
                if not row["codes"]:
                    raise QgsProcessingException(
                        self.tr(
                            "The classes of {} are not known: its layer has no palette. Write "
                            "them as {}=1,2,3."
                        ).format(layer.name(), name)
                    )
        return list(rows.values())

    def outputs_of(self, parameters, context):
        """Return the folder of the data set."""
        return {"folder": self.file_destination(self.OUTPUT, parameters, context)}

    def tell(self, result, feedback):
        """Say what was cut."""
        tiles = self.counted(result["tiles"], self.tr("1 tile"), self.tr("{} tiles"))
        places = self.counted(result["places"], self.tr("1 place"), self.tr("{} places"))
        parts = ", ".join(f"{part} {count:,}" for part, count in result["parts"].items() if count)
        feedback.pushInfo(self.tr("{} of {}: {}").format(tiles, places, parts))
        for name, share in result["known"].items():
            feedback.pushInfo(self.tr("{}: {:.1f} % of the pixels").format(name, 100 * share))

    def answer(self, outputs, result):
        """Return the folder."""
        return {self.OUTPUT: outputs["folder"]}


def name_and_date(title):
    """Return the name of a modality and the date that a title holds; None if it holds none."""
    found = _DATE.search(title)
    rest = title[: found.start()] + title[found.end() :] if found else title
    name = re.sub(r"[^a-z0-9]+", "_", rest.lower()).strip("_")
    if not name[:1].isalpha():
        name = f"raster_{name}".rstrip("_")
    return name, f"{found[1]}-{found[3]}-{found[4]}" if found else None


def parse_codes(text):
    """Read ``landcover=10,20; trees=0,1``.

    Raises:
        QgsProcessingException: if a part of it is not of this form.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, codes = part.partition("=")
        try:
            found[name_and_date(name)[0]] = [int(code) for code in codes.split(",")]
        except ValueError:
            raise QgsProcessingException(
                f"Classes of maps: expected NAME=1,2,3, found {part!r}."
            ) from None
    return found


def _title(source):
    return source.name if isinstance(source, Path) else source.name()
