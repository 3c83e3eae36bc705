"""``mmearth:disturbance``: where forest was lost or gained between two dates."""

from qgis.core import (
    QgsProcessingParameterExtent,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
)

from ... import shared
from ...compat import SOURCE_RASTER
from .base import MappingAlgorithm, RastersParameter, reference
from .model import BAND_HELP, INPUT_HELP, ModelAlgorithm

TREES = ("trees", "tree", "tree_cover", "forest")
TREE_PRODUCT = "treemask"


class DisturbanceAlgorithm(ModelAlgorithm, MappingAlgorithm):
    """Forest loss and gain between two dates, from what a model takes for trees."""

    KIND = "disturbance"
    INPUT = BEFORE = "BEFORE"
    OUTPUT = CLASSES = "CLASSES"
    AFTER = "AFTER"
    BETWEEN = "BETWEEN"
    MASK_BEFORE = "MASK_BEFORE"
    MASK_AFTER = "MASK_AFTER"
    MASK_BETWEEN = "MASK_BETWEEN"
    MINIMUM_AREA = "MINIMUM_AREA"
    PROBABILITY = "PROBABILITY"
    POLYGONS = "POLYGONS"
    TABLE = "TABLE"
    TRANSITIONS = "TRANSITIONS"

    ABOUT = (
        "Maps where forest was lost or gained between two dates, and where that is possible. The "
        "dates may differ in projection, pixel size and extent. Both should be of one season. "
        "Clouds of either date are left out."
    )
    HELP = {
        "BEFORE": f"The first date. {INPUT_HELP}",
        "AFTER": "The last date, in the same ways; it is brought onto the grid of the first one.",
        "BETWEEN": "Dates in between, in order, one raster with all bands for each: a change then "
        "counts only if it holds on to the later dates.",
        "MODEL": "The model that tells trees from everything else.",
        "EXTENT": "Only this area is mapped; if empty, all ground that the dates share.",
        **{key: text for key, text in BAND_HELP.items() if key != "MASK"},
        "MASK_BEFORE": "A raster that says which pixels of the first date to leave out, of any "
        "pixel size or projection. If empty, a band named SCL of that date is used.",
        "MASK_AFTER": "The same for the last date; the same band and values count.",
        "MASK_BETWEEN": "The same for the dates in between: one raster for each, in their order.",
        "MINIMUM_AREA": "Minimum mapping unit: polygons below this area in hectares join their "
        "largest neighbour; 0 keeps every pixel as it is.",
        "CLASSES": "GeoTIFF: 1 stable forest, 2 loss, 3 gain, 4 stable non-forest, 5 possible "
        "loss, 6 possible gain, 0 no data or cloud on either date. A possible loss had trees "
        "before and has none after, by their probability, but too little else speaks for a loss: "
        "felled stands that are green again, fields that were taken for trees, edges.",
        "PROBABILITY": "GeoTIFF of the probability of a change in percent. Changes are mapped from "
        "a percentage on that the log and the legend name: not 50, but where maps are best. It is "
        "calibrated on bark-beetle damage; elsewhere it tells sure from doubtful places.",
        "POLYGONS": "GeoPackage of the areas of change, possible ones too, with area on the "
        "ellipsoid and mean probability. Sum them by class: possible changes are to be looked at "
        "first.",
        "TABLE": "CSV with the area of each class in hectares on the ellipsoid.",
        "TRANSITIONS": "CSV in hectares: forest and non-forest before in rows, after in columns, "
        "possible changes in a column of their own. What is mapped as loss counts as forest before "
        "and as none after, whatever the probability of trees is.",
    }
    EXAMPLE = (
        "qgis_process run mmearth:disturbance -- BEFORE=2019.tif AFTER=2020.tif "
        "MODEL=landcover-s2 MINIMUM_AREA=0.5 CLASSES=change.tif POLYGONS=changes.gpkg"
    )

    def name(self):
        """Return the stable identifier."""
        return "disturbance"

    def displayName(self):  # noqa: N802
        """Return the name in the toolbox."""
        return self.tr("Forest disturbance")

    def tags(self):
        """Return words that people search for."""
        words = "forest,change,loss,gain,deforestation,disturbance,bark beetle,clear-cut,AI"
        return words.split(",")

    def initAlgorithm(self, config=None):  # noqa: N802
        """Define the parameters."""
        for name, title, optional in (
            (self.BEFORE, self.tr("First date"), False),
            (self.AFTER, self.tr("Last date"), False),
            (self.BETWEEN, self.tr("Dates in between"), True),
        ):
            self.add(RastersParameter(name, title, SOURCE_RASTER, optional=optional))
        self.add(QgsProcessingParameterExtent(self.EXTENT, self.tr("Area to map"), optional=True))
        self.add_model_parameter([model for model in shared.models() if _maps_trees(model)])
        unit = QgsProcessingParameterNumber(
            self.MINIMUM_AREA, self.tr("Minimum mapping unit (ha)"),
            QgsProcessingParameterNumber.Type.Double, defaultValue=0.0, minValue=0.0,
        )  # fmt: skip
        unit.setMetadata({"widget_wrapper": {"decimals": 2}})
        self.add(unit)
        self.add_band_parameters()
        self.add_advanced(
            QgsProcessingParameterMultipleLayers(
                self.MASK_BETWEEN, self.tr("Masks of clouds of the dates in between"),
                SOURCE_RASTER, optional=True,
            )
        )  # fmt: skip
        self.add(QgsProcessingParameterRasterDestination(self.CLASSES, self.tr("Forest change")))
        self.add(
            QgsProcessingParameterRasterDestination(
                self.PROBABILITY, self.tr("Probability of a change"), optional=True,
                createByDefault=False,
            )
        )  # fmt: skip
        self.add(
            QgsProcessingParameterVectorDestination(
                self.POLYGONS, self.tr("Areas of change, possible ones too"), optional=True,
                createByDefault=False,
            )
        )  # fmt: skip
        self.add_table(self.TABLE, self.tr("Area table"))
        self.add_table(self.TRANSITIONS, self.tr("Forest before and after"))

    def mask_titles(self):
        """Return a mask for each of the two dates."""
        return {
            self.MASK_BEFORE: self.tr("Mask of clouds of the first date"),
            self.MASK_AFTER: self.tr("Mask of clouds of the last date"),
        }

    def mask_names(self):
        """Return those of the dates in between too."""
        return [*super().mask_names(), self.MASK_BETWEEN]

    def checkParameterValues(self, parameters, context):  # noqa: N802
        """Check that there is a last date, and a mask for each date in between or for none."""
        if not parameters.get(self.AFTER):
            return False, self.tr("The last date is missing. Choose at least one raster for it.")
        for name in (self.AFTER, self.BETWEEN, self.MASK_BETWEEN):
            words = self._inputs_problem(parameters.get(name), context)
            if words:
                return False, words
        masks, dates = (
            self._input_values(name, parameters, context)
            for name in (self.MASK_BETWEEN, self.BETWEEN)
        )
        if masks and len(masks) != len(dates):
            words = self.tr("Expected a mask for each date in between, found {} for {}.")
            return False, words.format(len(masks), len(dates))
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Take the other dates along too."""
        self._after = self.sources(self.AFTER, parameters, context)
        self._between = self.sources(self.BETWEEN, parameters, context)
        prepared = super().prepareAlgorithm(parameters, context, feedback)
        for number, mask in enumerate(self.sources(self.MASK_BETWEEN, parameters, context)):
            self._masks[f"{self.MASK_BETWEEN} {number}"] = mask
        return prepared

    def spec(self, parameters, context, scratch):
        """Return dates, model, area and the smallest polygon."""
        facts = self.request(parameters, context)
        how = {key: facts.pop(key) for key in ("bands", "radiometry")}

        def date(sources, mask):
            return {
                "inputs": [reference(source, scratch) for source in sources],
                **how,
                **self.mask_fields(mask, parameters, context, scratch),
            }

        return {
            **facts,
            "before": date(self._sources, self.MASK_BEFORE),
            "after": date(self._after, self.MASK_AFTER),
            "between": [
                date([source], f"{self.MASK_BETWEEN} {number}")
                for number, source in enumerate(self._between)
            ],
            "extent": self._extent(parameters, context),
            "minimum_area_ha": self.parameterAsDouble(parameters, self.MINIMUM_AREA, context),
        }

    def outputs_of(self, parameters, context):
        """Return the file of each result that is wanted."""
        layers = {
            "classes": self.CLASSES, "probability": self.PROBABILITY, "polygons": self.POLYGONS
        }  # fmt: skip
        files = {key: self.destination(name, parameters, context) for key, name in layers.items()}
        for key, name in (("table", self.TABLE), ("transitions", self.TRANSITIONS)):
            files[key] = self.file_destination(name, parameters, context)
        return {key: path for key, path in files.items() if path}

    def tell(self, result, feedback):
        """Say which date is which, how much of each could not be seen, and the areas."""
        roles = {
            "before": self.tr("First date"),
            "between": self.tr("In between"),
            "after": self.tr("Last date"),
        }
        words = self.tr("{}: {} ({} left out by a mask, {:,} without data)")
        for date in result["dates"]:
            masked = self.counted(date["masked_pixels"], self.tr("1 pixel"), self.tr("{} pixels"))
            feedback.pushInfo(
                words.format(roles[date["role"]], date["title"], masked, date["nodata_pixels"])
            )
        words = self.tr("A change is mapped from a probability of {} % on")
        feedback.pushInfo(words.format(result["mapped_percent"]))
        super().tell(result, feedback)

    def answer(self, outputs, result):
        """Return the files under the names of their parameters."""
        return {key.upper(): path for key, path in outputs.items()}


def _maps_trees(model) -> bool:
    """Tell whether a model maps trees, as the backend will judge it."""
    classes = [entry for product in model.products for entry in product.classes]
    titles = {entry.title.lower().replace(" ", "_") for entry in classes}
    return TREE_PRODUCT in {product.id for product in model.products} or bool(titles & set(TREES))
