"""The whole path on the sample: QGIS layer -> Processing -> HTTP -> backend -> styled map.

Runs inside QGIS, by ``make demo``; writes to the folder named as its argument.
"""

import csv
import sys
import time
from pathlib import Path

import processing
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsLayoutExporter,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemScaleBar,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsLegendRenderer,
    QgsLegendStyle,
    QgsMapLayerLegendUtils,
    QgsPrintLayout,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsUnitTypes,
)
from qgis.PyQt.QtCore import QRectF
from qgis.PyQt.QtGui import QFont

from qgis_mmearth.layers import scenes
from qgis_mmearth.shared import models

CREDIT = (
    "Contains modified Copernicus Sentinel data 2020 and 2021. Thailand: Major TOM Core-S2L2A (ESA "
    "Phi-lab), CC BY-SA 4.0. Boadella, Catalonia: EOTDL (EarthPulse), MIT. Maps: MMEarth for QGIS."
)
SMALLEST_LOSS = 0.2  # hectares
DPI = 150
# Of the picture, in millimetres: a map and its row with title and legend, and what is between.
SIDE, ROW, GAP, TITLE = 96, 152, 6, 11


def main() -> None:
    """Map, draw, and say what was done."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    QgsProject.instance().setCrs(QgsCoordinateReferenceSystem(scenes.BOTH_PLACES))
    scene, after, before = scenes.open_sample()
    model = models()[0]
    for layer in (scene, before, after):
        print(f"Scene: {layer.name()}, {layer.width()} x {layer.height()} pixels")
    print(f"Model: {model.title} {model.version}")

    landcover = run(
        "mmearth:segment",
        INPUT=[scene],
        MODEL=model.id,
        OUTPUT=str(folder / "landcover.tif"),
        PROBABILITIES=str(folder / "probabilities.tif"),
        POLYGONS=str(folder / "areas.gpkg"),
        TABLE=str(folder / "areas.csv"),
    )
    trees = run("mmearth:treemask", INPUT=[scene], OUTPUT=str(folder / "treemask.tif"))

    change = run(
        "mmearth:disturbance",
        BEFORE=[before],
        AFTER=[after],
        MODEL=model.id,
        MINIMUM_AREA=SMALLEST_LOSS,
        CLASSES=str(folder / "change.tif"),
        PROBABILITY=str(folder / "change_probability.tif"),
        POLYGONS=str(folder / "changes.gpkg"),
        TABLE=str(folder / "change.csv"),
    )

    rows = [
        [scene, load(landcover["OUTPUT"], "Land cover"), load(trees["OUTPUT"], "Tree mask")],
        [before, after, load(change["CLASSES"], "Forest change")],
    ]
    picture = folder / "map.png"
    draw(rows, picture)
    for title, table in (("Thailand", landcover), (scenes.TWO_DATES, change)):
        print_areas(title, Path(table["TABLE"]))
    print("\nFiles:")
    for path in [*landcover.values(), trees["OUTPUT"], *change.values(), picture]:
        print(f"  {path}")


def run(algorithm, **parameters):
    """Run an algorithm and return its outputs."""
    start = time.monotonic()
    result = processing.run(algorithm, parameters, feedback=QgsProcessingFeedback())
    print(f"{algorithm}: {time.monotonic() - start:.1f} s")
    return result


def load(path, title):
    """Add a result to the project as any user would, relying on the style beside it."""
    layer = QgsRasterLayer(path, title)
    if not layer.isValid():
        raise SystemExit(f"{path} is no raster.")
    QgsProject.instance().addMapLayer(layer)
    return layer


def draw(rows, path) -> None:
    """Lay the scenes and their maps side by side, each map with its legend below."""
    layout = QgsPrintLayout(QgsProject.instance())
    layout.initializeDefaults()
    width = GAP + max(map(len, rows)) * (SIDE + GAP)
    height = GAP + len(rows) * ROW
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(width, height))
    for row, layers in enumerate(rows):
        for column, layer in enumerate(layers):
            add_map(layout, layer, GAP + column * (SIDE + GAP), GAP + row * ROW, column == 0)
    add_label(layout, CREDIT, GAP, height - 7, width - 2 * GAP, 7)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    exported = QgsLayoutExporter(layout).exportToImage(str(path), settings)
    if exported != QgsLayoutExporter.ExportResult.Success:
        raise SystemExit(f"{path} could not be drawn.")


def add_map(layout, layer, left, top, is_first) -> None:
    """Add a map with its title, and a scale bar or a legend below."""
    add_label(layout, layer.name(), left, top, SIDE, 12)
    view = QgsLayoutItemMap(layout)
    view.attemptSetSceneRect(QRectF(left, top + TITLE, SIDE, SIDE))
    view.setLayers([layer])
    crs, extent = layer.crs(), layer.extent()
    if crs.isGeographic():  # degrees are no squares on the ground
        project = QgsProject.instance()
        extent = QgsCoordinateTransform(crs, project.crs(), project).transformBoundingBox(extent)
        crs = project.crs()
    view.setCrs(crs)
    view.setExtent(extent)
    view.setFrameEnabled(True)
    layout.addLayoutItem(view)
    bottom = top + TITLE + SIDE
    if is_first:
        add_scale_bar(layout, view, left, bottom + 3)
    elif layer.renderer().type() == "paletted":
        add_legend(layout, layer, left, bottom + 1)


def add_label(layout, text, left, top, width, size) -> None:
    """Add a line of text."""
    label = QgsLayoutItemLabel(layout)
    label.setText(text)
    label.setFont(QFont("sans", size))
    layout.addLayoutItem(label)
    label.attemptMove(QgsLayoutPoint(left, top))
    label.attemptResize(QgsLayoutSize(width, size * 0.8))


def add_legend(layout, layer, left, top) -> None:
    """Add the legend of a layer."""
    legend = QgsLayoutItemLegend(layout)
    legend.setAutoUpdateModel(False)
    root = legend.model().rootGroup()
    root.clear()
    node = root.addLayer(layer)
    QgsLegendRenderer.setNodeLegendStyle(node, QgsLegendStyle.Style.Hidden)
    # The first row of a paletted raster's legend names the band, not a class.
    rows = range(1, len(layer.legendSymbologyItems()) + 1)
    QgsMapLayerLegendUtils.setLegendNodeOrder(node, list(rows))
    legend.model().refreshLayerLegend(node)
    legend.setColumnCount(2 if len(layer.legendSymbologyItems()) > 4 else 1)
    legend.setSplitLayer(True)
    layout.addLayoutItem(legend)
    legend.attemptMove(QgsLayoutPoint(left, top))


def add_scale_bar(layout, view, left, top) -> None:
    """Add a scale bar."""
    bar = QgsLayoutItemScaleBar(layout)
    bar.setLinkedMap(view)
    bar.setUnits(QgsUnitTypes.DistanceUnit.DistanceKilometers)
    bar.setUnitLabel("km")
    bar.setUnitsPerSegment(1 if view.extent().width() > 4000 else 0.25)
    bar.setNumberOfSegments(2)
    bar.setNumberOfSegmentsLeft(0)
    bar.update()
    layout.addLayoutItem(bar)
    bar.attemptMove(QgsLayoutPoint(left, top))


def print_areas(title, table: Path) -> None:
    """Print an area table."""
    print(f"\n{title:<24}{'Area (ha)':>14}{'Percent':>10}")
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"{row['title']:<24}{float(row['area_ha']):>14,.2f}{row['percent']:>10}")


if __name__ == "__main__":
    main()
