"""How results look: class colours and names, the same in QGIS's legend, tables and files."""

from typing import Any, Dict, List

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSingleBandGrayRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

Classes = List[Dict[str, Any]]  # rows with value, title, color


def style_classes(layer: QgsRasterLayer, classes: Classes) -> None:
    """Show a class map in its colours; only classes that have a name enter the legend."""
    entries = [
        QgsPalettedRasterRenderer.Class(row["value"], QColor(row["color"]), row["title"])
        for row in classes
    ]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))


def style_percent(layer: QgsRasterLayer) -> None:
    """Show the first band from black, 0 %, to white, 100 %."""
    renderer = QgsSingleBandGrayRenderer(layer.dataProvider(), 1)
    stretch = QgsContrastEnhancement(layer.dataProvider().dataType(1))
    stretch.setMinimumValue(0.0)
    stretch.setMaximumValue(1.0)
    stretch.setContrastEnhancementAlgorithm(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
    )
    renderer.setContrastEnhancement(stretch)
    layer.setRenderer(renderer)


def style_polygons(layer: QgsVectorLayer, classes: Classes) -> None:
    """Fill polygons with the colour of their class."""
    categories = []
    for row in classes:
        symbol = QgsFillSymbol.createSimple(
            {"color": row["color"], "outline_color": "#404040", "outline_width": "0.1"}
        )
        categories.append(QgsRendererCategory(row["value"], symbol, row["title"]))
    layer.setRenderer(QgsCategorizedSymbolRenderer("class", categories))


def keep_style(layer: QgsMapLayer, path: str) -> None:
    """Keep the style with the file, so that it is there whenever the file is added again."""
    if isinstance(layer, QgsVectorLayer):  # a GeoPackage holds its own
        layer.saveStyleToDatabase(layer.name(), "", True, "")
    else:
        layer.saveNamedStyle(path.rpartition(".")[0] + ".qml")
