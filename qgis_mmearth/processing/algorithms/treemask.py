"""``mmearth:treemask``: where trees stand, and where not."""

from qgis.core import QgsProcessingException, QgsProcessingParameterRasterDestination

from ... import shared
from .base import MappingAlgorithm

PRODUCT = "treemask"


class TreeMaskAlgorithm(MappingAlgorithm):
    """Binary tree mask with the model that maps trees, at its calibrated threshold."""

    ABOUT = (
        "Makes a map of trees (1) and everything else (2) from Sentinel-2: a pixel is trees where "
        "the model's probability of trees reaches its calibrated threshold."
    )
    HELP = {
        "INPUT": "One file with all bands, one file a band, layers of different pixel size or "
        "projection, or a Sentinel-2 product folder (.SAFE).",
        "EXTENT": "Only this area is mapped; if empty, all ground that the rasters share.",
        "OUTPUT": "GeoTIFF: 1 trees, 2 other, 0 no data.",
    }
    EXAMPLE = "qgis_process run mmearth:treemask -- INPUT=scene.tif OUTPUT=trees.tif"

    def name(self):
        """Return the stable identifier."""
        return "treemask"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Tree mask")

    def tags(self):
        """Return words that people search for."""
        return "tree,forest,mask,wood,canopy,sentinel-2,AI".split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add_input_parameters()
        self.add(QgsProcessingParameterRasterDestination(self.OUTPUT, self.tr("Tree mask")))

    def request(self, parameters, context):
        """Return the first installed model that maps trees."""
        for model in shared.models():
            if any(product.id == PRODUCT for product in model.products):
                return {"model": model.id, "product": PRODUCT}
        raise QgsProcessingException(self.tr("No model that maps trees is installed."))

    def outputs_of(self, parameters, context):
        """Return the file of the mask."""
        return {"classes": self.destination(self.OUTPUT, parameters, context)}

    def answer(self, outputs, result):
        """Return the mask."""
        return {self.OUTPUT: outputs["classes"]}
