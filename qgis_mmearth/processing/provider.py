"""The Processing provider ``mmearth``."""

from importlib import import_module

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .. import paths, shared

# Module and class of each algorithm; a new one is one file and one line here.
ALGORITHMS = {
    "assess": "AssessAlgorithm",
    "buildpretraining": "BuildPretrainingAlgorithm",
    "disturbance": "DisturbanceAlgorithm",
    "embed": "EmbedAlgorithm",
    "finetune": "FinetuneAlgorithm",
    "importmodel": "ImportModelAlgorithm",
    "landcover": "LandCoverAlgorithm",
    "pretrain": "PretrainAlgorithm",
    "sampledesign": "SampleDesignAlgorithm",
    "segment": "SegmentAlgorithm",
    "similarity": "SimilarityAlgorithm",
    "treedensity": "TreeDensityAlgorithm",
    "treemask": "TreeMaskAlgorithm",
}


class MMEarthProvider(QgsProcessingProvider):
    """All algorithms of the plugin."""

    def load(self):
        """Load the algorithms, and again when there are other models to choose from."""
        shared.events.models_changed.connect(self.refreshAlgorithms)
        return super().load()

    def unload(self):
        """Listen no more."""
        shared.events.models_changed.disconnect(self.refreshAlgorithms)
        super().unload()

    def id(self):
        """Return the stable identifier, the part before the colon in ``mmearth:segment``."""
        return "mmearth"

    def name(self):
        """Return the name shown in the toolbox."""
        return "MMEarth"

    def icon(self):
        """Return the icon shown in the toolbox."""
        return QIcon(str(paths.ICONS / "mmearth.svg"))

    # The backend writes GeoTIFF and GeoPackage; QGIS must neither offer nor make up other files.

    def supportedOutputRasterLayerExtensions(self):  # noqa: N802
        """Return the suffixes of rasters."""
        return ["tif", "tiff"]

    def supportedOutputVectorLayerExtensions(self):  # noqa: N802
        """Return the suffixes of polygons."""
        return ["gpkg"]

    def defaultVectorFileExtension(self, hasGeometry=True):  # noqa: N802, N803
        """Return the suffix of temporary polygons, whatever QGIS's own settings prefer."""
        return "gpkg"

    def supportsNonFileBasedOutput(self):  # noqa: N802
        """Tell that results are files, not tables of a database."""
        return False

    def loadAlgorithms(self):  # noqa: N802
        """Make one instance of each algorithm."""
        for module, name in ALGORITHMS.items():
            found = import_module(f".algorithms.{module}", __package__)
            self.addAlgorithm(getattr(found, name)())
