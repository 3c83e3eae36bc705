"""``mmearth:treemask``: where trees stand, and where not."""

from .product import MAP_HELP, PRODUCT_HELP, ClassMapAlgorithm


class TreeMaskAlgorithm(ClassMapAlgorithm):
    """Binary tree mask with the model that suits the rasters, at its calibrated threshold."""

    PRODUCT = "treemask"

    ABOUT = (
        "Makes a map of trees (1) and everything else (2): a pixel is trees where the model's "
        "probability of trees reaches its calibrated threshold. The area is that of whole pixels; "
        "tree density sums up probabilities instead, which differs where the model is in doubt."
    )
    HELP = {
        **PRODUCT_HELP,
        **MAP_HELP,
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
