"""``mmearth:pretrain``: teach an encoder from images without labels."""

import itertools
import re
import shutil
import unicodedata
from pathlib import Path

from qgis.core import (
    QgsProcessingException,
    QgsProcessingOutputString,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ... import paths, settings, shared
from ...compat import FLAG_ADVANCED
from ...link import catalog
from ...link.log import Log, Told
from .base import MMEarthAlgorithm

# Of backend/mmearth/pretraining/registry.py; a test compares them. The first is the usual one.
METHODS = ["mp-mae", "mae", "moco", "dino"]
DATASETS = ["tiles", "mmearth-h5", "ssl4eo-s12", "ssl4eo-eu-forest", "spectral-earth"]
LOG_NAME, PICTURE_NAME = "pretraining.jsonl", "reconstruction.png"
_runs = itertools.count()  # of this QGIS


class PretrainAlgorithm(MMEarthAlgorithm):
    """An encoder of one's own, from an archive of images."""

    DATA = "DATA"
    LIKE = "LIKE"
    SENSOR = "SENSOR"
    DATASET = "DATASET"
    METHOD = "METHOD"
    ENCODER = "ENCODER"
    BANDS = "BANDS"
    MODALITIES = "MODALITIES"
    STEPS = "STEPS"
    BATCH = "BATCH"
    CROP = "CROP"
    LEARNING_RATE = "LEARNING_RATE"
    OPTIONS = "OPTIONS"
    SEED = "SEED"
    NAME = "NAME"
    OUTPUT = "OUTPUT"
    MODEL = "MODEL"

    ABOUT = (
        "Teaches an encoder from images without labels: it is shown a part of each, and learns to "
        "tell the rest. The encoder is installed and can be taught classes at once, in the panel's "
        "tab Teach or with mmearth:finetune. A panel shows the errors as they fall. A run that was "
        "cancelled goes on where it stopped when it is run again. It takes hours; a graphics card "
        "makes it faster by far."
    )
    HELP = {
        "DATA": "Folder of image tiles with index.json, which lists them; mmearth views makes "
        "one of overlapping scenes. Or a data set of another kind, which is to be chosen below.",
        "LIKE": "Installed model whose bands and normalisation the encoder takes, so that it fits "
        "the same images. If empty, the bands are those of the images.",
        "SENSOR": "Sensor of the images; it says which bands they may have.",
        "METHOD": "How is learned without labels. mp-mae: a masked autoencoder that predicts one "
        "or several quantities, for encoders named mmearth. mae: one for transformers, named vit "
        "or specvit. moco and dino: what several looks at a place have in common, for any encoder.",
        "ENCODER": "Name of the encoder. For mp-mae mmearth-atto-p8 or mmearth-atto-p16, whose "
        "patches have 8 and 16 pixels a side; for mae vit-small-p16, and specvit-small for "
        "hyperspectral images; for moco and dino resnet18 or resnet50, for example.",
        "STEPS": "How often the weights are changed. Some hundred show whether the errors fall; "
        "an encoder worth having takes thousands.",
        "NAME": "Title of the encoder, and made from it its identifier.",
        "DATASET": "Kind of the data set: tiles; mmearth-h5, as mmearth:buildpretraining makes it; "
        "or one of the others, as they are published.",
        "BANDS": "Names of the bands to learn from, with commas between. If empty, those of the "
        "model or all of the images.",
        "MODALITIES": "What is predicted beside the image, with commas between. If empty, all that "
        "the data set lists; the sensor's name alone predicts the image only.",
        "BATCH": "Images that are looked at in each step. More take more memory.",
        "CROP": "Side of the piece of each image that is looked at, in pixels; a multiple of the "
        "encoder's patch, and no larger than the tiles.",
        "LEARNING_RATE": "How far the weights go in a step at most; if empty, what is published "
        "for the method. Lower it if the errors rise.",
        "OPTIONS": "What is the method's own, as NAME=VALUE, with spaces between: mask_ratio=0.9 "
        "hides nine tenths. Left out, it is as published.",
        "SEED": "Decides what is drawn at random.",
        "OUTPUT": "Folder for a copy of the encoder with the log of its training and a picture, to "
        "hand on. It is installed in any case.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:pretrain -- DATA=tiles LIKE=landcover-s2 STEPS=5000 "
        "NAME='Encoder of my archive'"
    )

    def name(self):
        """Return the stable identifier."""
        return "pretrain"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Pretrain an encoder on your images")

    def group(self):
        """Return the group in the toolbox."""
        return self.tr("Models")

    def groupId(self):  # noqa: N802
        """Return the stable identifier of the group."""
        return "models"

    def helpUrl(self):  # noqa: N802
        """Return the page of the manual."""
        return f"{paths.MANUAL.as_uri()}#pretraining"

    def tags(self):
        """Return words that people search for."""
        words = "self-supervised,SSL,foundation model,MAE,masked autoencoder,encoder,unlabelled,AI"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        tr, number, text = self.tr, QgsProcessingParameterNumber, QgsProcessingParameterString
        whole, decimal = number.Type.Integer, number.Type.Double
        self.add(
            QgsProcessingParameterFile(
                self.DATA, tr("Folder of the images"), QgsProcessingParameterFile.Behavior.Folder
            )
        )
        self.add(
            QgsProcessingParameterEnum(
                self.LIKE, tr("Bands like those of"), usesStaticStrings=True, optional=True,
                options=[model.id for model in shared.models()],
            )
        )  # fmt: skip
        self.add(
            QgsProcessingParameterEnum(
                self.SENSOR, tr("Sensor"), usesStaticStrings=True, defaultValue="sentinel-2",
                options=[sensor.id for sensor in catalog.sensors(paths.BACKEND)],
            )
        )  # fmt: skip
        self.add(self._choice(self.METHOD, tr("Method"), METHODS))
        self.add(text(self.ENCODER, tr("Encoder"), defaultValue="mmearth-atto-p16"))
        self.add(number(self.STEPS, tr("Steps"), whole, defaultValue=3000, minValue=1))
        self.add(text(self.NAME, tr("Title of the encoder"), optional=True))
        for parameter in (
            self._choice(self.DATASET, tr("Kind of the data set"), DATASETS),
            text(self.BANDS, tr("Bands"), optional=True),
            text(self.MODALITIES, tr("What is predicted"), optional=True),
            number(self.BATCH, tr("Images of a step"), whole, defaultValue=32, minValue=2),
            number(self.CROP, tr("Side of a crop (pixels)"), whole, defaultValue=80, minValue=8),
            number(
                self.LEARNING_RATE, tr("Learning rate"), decimal, optional=True, minValue=1e-8
            ),
            text(self.OPTIONS, tr("Options of the method"), optional=True),
            number(self.SEED, tr("Seed"), whole, defaultValue=0, minValue=0),
        ):  # fmt: skip
            parameter.setFlags(parameter.flags() | FLAG_ADVANCED)
            self.add(parameter)
        self.add(
            QgsProcessingParameterFolderDestination(
                self.OUTPUT, tr("Folder for a copy"), optional=True, createByDefault=False
            )
        )
        self.addOutput(QgsProcessingOutputString(self.MODEL, tr("Identifier of the encoder")))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Run the jobs in the backend, in Processing's thread: learn, then install."""
        spec = self._spec(parameters, context)
        self._run, self._log, self._steps = next(_runs), Log(), spec["steps"]
        self._title = spec["title"] or Path(spec["data"]).name
        self._said = self._logged = ""
        self._tell(self.tr("Starting…"), begins=True)
        try:
            result = self.run_job(spec, feedback)
        except Exception as error:
            self._tell(str(error), over=True)
            raise
        if result is None:
            words = self.tr("Stopped. Run it again with the same settings to go on.")
            self._tell(words, over=True)
            return {}
        folder = Path(result["outputs"]["model"])
        self._log.look(folder / LOG_NAME)
        try:
            installed = self.run_job({"kind": "install", "source": str(folder)}, feedback)
        except QgsProcessingException as error:
            words = self.tr("Learned, but not installed. The encoder lies in {}.")
            self._tell(words.format(folder), over=True)
            raise QgsProcessingException(f"{error} The encoder lies in {folder}.") from error
        if installed and not parameters.get(self.OUTPUT):
            shutil.rmtree(folder, ignore_errors=True)
            folder = settings.home() / "models" / result["model"]
        picture = folder / PICTURE_NAME
        self._tell(
            self.tr("Done: {} steps on {} images.").format(
                f"{result['steps']:,}", f"{result['tiles']:,}"
            ),
            picture=str(picture) if picture.is_file() else "",
            model=result["model"] if installed else "",
            over=True,
        )
        for name, loss in result["losses"].items():
            before = result["first_losses"].get(name)
            held = result["held_losses"].get(name)
            words = self.tr("{}: error {:.3f}").format(name, loss)
            words += "" if before is None else self.tr(", at first {:.3f}").format(before)
            words += "" if held is None else self.tr("; on images held back {:.3f}").format(held)
            feedback.pushInfo(words)
        return {self.MODEL: result["model"], self.OUTPUT: str(folder)}

    def follow(self, job):
        """Tell the panel what is new, from Processing's thread; the log gets a line a row."""
        grown = bool(job["log"]) and self._log.look(Path(job["log"]))
        if grown or not (job["log"] and self._log.rows):
            self._logged = job["stage"]
        if grown or job["stage"] != self._said:
            self._tell(job["stage"])
        return self._logged

    def postProcessAlgorithm(self, context, feedback):  # noqa: N802
        """Tell the panel and the other algorithms, in the main thread."""
        shared.events.models_changed.emit()
        return {}

    def _choice(self, name, title, names):
        return QgsProcessingParameterEnum(
            name, title, usesStaticStrings=True, options=names, defaultValue=names[0]
        )

    def _tell(self, words, **more):
        self._said = words
        told = Told(self._run, self._title, words, self._steps, self._log.rows, **more)
        shared.events.pretraining_told.emit(told)

    def _spec(self, parameters, context):
        def text(name):
            return self.parameterAsString(parameters, name, context).strip()

        def several(name):
            return [part for part in re.split(r"[\s,;]+", text(name)) if part]

        def whole(name):
            return self.parameterAsInt(parameters, name, context)

        wanted = self.parameterAsFileOutput(parameters, self.OUTPUT, context)
        identifier = _free(_slug(text(self.NAME) or (Path(wanted).name if wanted else "encoder")))
        # Hours of work must outlive QGIS, whose temporary folder does not.
        folder = Path(wanted) if wanted else settings.home() / "pretrained" / identifier
        folder.parent.mkdir(parents=True, exist_ok=True)
        return {
            "kind": "pretrain",
            "data": str(Path(text(self.DATA)).resolve()),
            "dataset": self.parameterAsEnumString(parameters, self.DATASET, context),
            "sensor": self.parameterAsEnumString(parameters, self.SENSOR, context),
            "like": self.parameterAsEnumString(parameters, self.LIKE, context) or None,
            "bands": several(self.BANDS),
            "modalities": several(self.MODALITIES),
            "method": self.parameterAsEnumString(parameters, self.METHOD, context),
            "encoder": text(self.ENCODER),
            "steps": whole(self.STEPS),
            "batch": whole(self.BATCH),
            "crop": whole(self.CROP),
            "learning_rate": self.parameterAsDouble(parameters, self.LEARNING_RATE, context)
            or None,  # empty: the method's own
            "options": dict(_option(part) for part in text(self.OPTIONS).split()),
            "seed": whole(self.SEED),
            "id": identifier,
            "title": text(self.NAME),
            "outputs": {"model": str(folder.resolve())},
        }


def _option(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise QgsProcessingException(f"Options of the method: expected NAME=VALUE, found {text}.")
    return name.replace("-", "_"), value


def _slug(title: str) -> str:
    """Make an identifier of a title."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:90] or "encoder"


def _free(identifier: str) -> str:
    """Return an identifier that no installed model has."""
    taken = {model.id for model in shared.models()}
    left = settings.home() / "pretrained"  # of those that could not be installed
    taken |= {folder.name for folder in left.glob("*")}
    number, free = 1, identifier
    while free in taken:
        number += 1
        free = f"{identifier}-{number}"
    return free
