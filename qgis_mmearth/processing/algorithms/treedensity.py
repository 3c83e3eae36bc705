"""``mmearth:treedensity``: how much of the ground trees cover."""

from qgis.core import QgsProcessingParameterNumber

from .product import PRODUCT_HELP, ProductAlgorithm


class TreeDensityAlgorithm(ProductAlgorithm):
    """Tree cover in percent, of pixels and of larger cells."""

    PRODUCT = "treemask"
    CELLS = "CELLS"
    CELL_SIZE = "CELL_SIZE"
    FILES = {
        "density": ProductAlgorithm.OUTPUT,
        "density_cells": CELLS,
        "table": ProductAlgorithm.TABLE,
    }

    ABOUT = (
        "Maps tree cover in percent: of each pixel the model's calibrated probability of trees, of "
        "larger cells, such as hectares, the mean of their pixels. The area of trees is the sum of "
        "probability x area."
    )
    HELP = {
        **PRODUCT_HELP,
        "CELL_SIZE": "Side of a cell in metres. Cells lie at its multiples in the projection of "
        "the map, so those of neighbouring scenes fit; in degrees there are none.",
        "OUTPUT": "GeoTIFF of tree cover in percent, 0 to 100, stored in hundredths (no data: "
        "65535).",
        "CELLS": "GeoTIFF with a pixel a cell: mean tree cover in percent, and the share of the "
        "ground that has data. Cells with less than half of it have no mean.",
        "TABLE": "CSV with hectares and percent of trees and the rest, from probabilities "
        "(cover_ha, cover_percent) and by the tree mask (area_ha, percent).",
    }
    EXAMPLE = (
        "qgis_process run mmearth:treedensity -- INPUT=scene.tif OUTPUT=density.tif "
        "CELLS=hectares.tif CELL_SIZE=100"
    )

    def name(self):
        """Return the stable identifier."""
        return "treedensity"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Tree density")

    def tags(self):
        """Return words that people search for."""
        return "tree,forest,density,cover,canopy,percent,hectare,sentinel-2,AI".split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        self.add_choices()
        side = QgsProcessingParameterNumber(
            self.CELL_SIZE, self.tr("Side of a cell (m)"),
            QgsProcessingParameterNumber.Type.Double, defaultValue=100.0, minValue=1.0,
        )  # fmt: skip
        side.setMetadata({"widget_wrapper": {"decimals": 1}})
        self.add(side)
        self.add_raster(self.OUTPUT, self.displayName())
        self.add_raster(self.CELLS, self.tr("Tree density by cell"))
        self.add_table(self.TABLE, self.tr("Area table"))

    def request(self, parameters, context):
        """Return the side of a cell too."""
        return {
            **super().request(parameters, context),
            "cell_m": self.parameterAsDouble(parameters, self.CELL_SIZE, context),
        }

    def tell(self, result, feedback):
        """Say how much trees cover."""
        trees = result["classes"][0]
        words = self.tr("Model: {}\n{}: {} ha, {:.2f} % of the ground")
        hectares = f"{trees['cover_hectares']:,.2f}"
        feedback.pushInfo(
            words.format(result["model_title"], trees["title"], hectares, trees["cover_percent"])
        )
        self.tell_masked(result, feedback)
