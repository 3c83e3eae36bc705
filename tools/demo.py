"""The whole path on the sample scene: QGIS layer -> Processing -> HTTP -> backend -> styled map.

Runs inside QGIS, by ``make demo``; writes to the folder named as its argument.
"""

import csv
import sys
import time
from pathlib import Path

import processing
from qgis.core import (
    QgsContrastEnhancement,
    QgsCoordinateReferenceSystem,
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
    QgsMultiBandColorRenderer,
    QgsPrintLayout,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsUnitTypes,
)
from qgis.PyQt.QtCore import QRectF
from qgis.PyQt.QtGui import QFont

from qgis_mmearth import paths
from qgis_mmearth.shared import models

SCENE = paths.SAMPLE / "thailand_20200223.tif"
CREDIT = (
    "Contains modified Copernicus Sentinel data 2020, from Major TOM Core-S2L2A (ESA Phi-lab), "
    "CC BY-SA 4.0. Map: MMEarth for QGIS."
)
TRUE_COLOUR = (4, 3, 2)  # bands of the scene
DPI = 150


def main() -> None:
    """Map, draw, and say what was done."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scene = QgsRasterLayer(str(SCENE), "Sentinel-2, 23 February 2020")
    project = QgsProject.instance()
    project.setCrs(QgsCoordinateReferenceSystem(scene.crs()))
    project.addMapLayer(scene)
    style_true_colour(scene)
    model = models()[0]
    print(f"Scene: {SCENE.name}, {scene.width()} x {scene.height()} pixels")
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

    maps = [scene, load(landcover["OUTPUT"], "Land cover"), load(trees["OUTPUT"], "Tree mask")]
    picture = folder / "map.png"
    draw(maps, picture)
    print_areas(Path(landcover["TABLE"]))
    print("\nFiles:")
    for path in [*landcover.values(), trees["OUTPUT"], picture]:
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


def style_true_colour(layer) -> None:
    """Show red, green and blue, stretched without the brightest and darkest 2 %."""
    layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *TRUE_COLOUR))
    layer.setContrastEnhancement(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
        QgsRasterMinMaxOrigin.Limits.CumulativeCut,
    )


def draw(layers, path) -> None:
    """Lay the scene and the maps side by side, each with its legend below."""
    layout = QgsPrintLayout(QgsProject.instance())
    layout.initializeDefaults()
    side, gap, top = 96, 6, 16
    page = layout.pageCollection().page(0)
    width = gap + len(layers) * (side + gap)
    page.setPageSize(QgsLayoutSize(width, 172))
    for number, layer in enumerate(layers):
        left = gap + number * (side + gap)
        add_label(layout, layer.name(), left, 5, side, 12)
        view = QgsLayoutItemMap(layout)
        view.attemptSetSceneRect(QRectF(left, top, side, side))
        view.setLayers([layer])
        view.setCrs(layer.crs())
        view.setExtent(layer.extent())
        view.setFrameEnabled(True)
        layout.addLayoutItem(view)
        if number == 0:
            add_scale_bar(layout, view, left, top + side + 3)
        else:
            add_legend(layout, layer, left, top + side + 1)
    add_label(layout, CREDIT, gap, 165, width - 2 * gap, 7)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    exported = QgsLayoutExporter(layout).exportToImage(str(path), settings)
    if exported != QgsLayoutExporter.ExportResult.Success:
        raise SystemExit(f"{path} could not be drawn.")


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
    bar.setUnitsPerSegment(1)
    bar.setNumberOfSegments(2)
    bar.setNumberOfSegmentsLeft(0)
    bar.update()
    layout.addLayoutItem(bar)
    bar.attemptMove(QgsLayoutPoint(left, top))


def print_areas(table: Path) -> None:
    """Print the area table."""
    print(f"\n{'Class':<24}{'Area (ha)':>14}{'Percent':>10}")
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"{row['title']:<24}{float(row['area_ha']):>14,.2f}{row['percent']:>10}")


if __name__ == "__main__":
    main()
