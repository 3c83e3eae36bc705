"""``mmearth:landcover``: what covers the ground."""

from .product import MAP_HELP, PRODUCT_HELP, ClassMapAlgorithm


class LandCoverAlgorithm(ClassMapAlgorithm):
    """Land cover with the model that suits the rasters."""

    PRODUCT = "landcover"

    ABOUT = (
        "Makes a map of land cover, such as trees, crops, water and built-up, with the installed "
        "model that suits the rasters. Everything is computed on this machine."
    )
    HELP = {
        **PRODUCT_HELP,
        **MAP_HELP,
        "OUTPUT": "GeoTIFF of class codes (0 = no data) with colours and names.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:landcover -- INPUT=scene.tif OUTPUT=landcover.tif TABLE=areas.csv"
    )

    def name(self):
        """Return the stable identifier."""
        return "landcover"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Land cover")

    def tags(self):
        """Return words that people search for."""
        return "land cover,land use,classification,sentinel-2,forest,crops,water,AI".split(",")
