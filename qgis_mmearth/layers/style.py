"""How results look: class colours and names, the same in QGIS's legend, tables and files."""

from typing import Any, Dict, List, Sequence, Tuple

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsColorRampLegendNodeSettings,
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMapLayer,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsRasterShader,
    QgsRectangle,
    QgsRendererCategory,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

CUT = (0.02, 0.98)  # what lies beyond these percentiles is shown as black or full colour
SAMPLE = 250_000  # pixels that percentiles are taken from, as QGIS itself does
# The viridis ramp, which is even to the eye and reads in grey.
SIMILARITY_COLORS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
COVER_COLORS = ("#f7f3e3", "#d5e0a0", "#93bf6b", "#45934a", "#0f5226")  # bare ground to forest
CHANGE_COLORS = ("#fff5f0", "#fc9272", "#cb181d", "#67000d")  # ColorBrewer's Reds
UNCERTAINTY_COLORS = ("#440154", "#b63679", "#fcfdbf")  # after magma, sure to unsure

TRUE_COLOUR = (4, 3, 2)  # red, green and blue of Sentinel-2 with all its bands
BRIGHTNESS = (0, 2200)  # reflectance x 10,000 that is shown as black and as full colour
GAMMA = 1.4  # lightens forest, which is dark

Classes = List[Dict[str, Any]]  # rows with value, title, color


def style_classes(layer: QgsRasterLayer, classes: Classes) -> None:
    """Show a class map in its colours; only classes that have a name enter the legend."""
    entries = [
        QgsPalettedRasterRenderer.Class(row["value"], QColor(row["color"]), row["title"])
        for row in classes
    ]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))


def style_palette(layer: QgsRasterLayer) -> None:
    """Show a class map in the colours that its file names."""
    provider = layer.dataProvider()
    table = QgsPalettedRasterRenderer.colorTableToClassData(provider.colorTable(1))
    layer.setRenderer(QgsPalettedRasterRenderer(provider, 1, table))


def style_percent(layer: QgsRasterLayer) -> None:
    """Show the first band from black, 0 %, to white, 100 %."""
    renderer = QgsSingleBandGrayRenderer(layer.dataProvider(), 1)
    renderer.setContrastEnhancement(_stretch(layer, 1, 0.0, 1.0))
    layer.setRenderer(renderer)


def style_features(layer: QgsRasterLayer) -> None:
    """Show the first three features in red, green and blue, from their 2nd to 98th percentile."""
    provider = layer.dataProvider()
    bands = [min(band, layer.bandCount()) for band in (1, 2, 3)]
    renderer = QgsMultiBandColorRenderer(provider, *bands)
    stretches = [_stretch(layer, band, *_cut(layer, band)) for band in bands]
    renderer.setRedContrastEnhancement(stretches[0])
    renderer.setGreenContrastEnhancement(stretches[1])
    renderer.setBlueContrastEnhancement(stretches[2])
    layer.setRenderer(renderer)


def style_picture(layer: QgsRasterLayer) -> None:
    """Show red, green and blue as they are."""
    layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), 1, 2, 3))


def style_true_colour(layer: QgsRasterLayer) -> None:
    """Show red, green and blue of a Sentinel-2 scene, of all dates and places in the same way."""
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), *TRUE_COLOUR)
    red, green, blue = (_stretch(layer, band, *BRIGHTNESS) for band in TRUE_COLOUR)
    renderer.setRedContrastEnhancement(red)
    renderer.setGreenContrastEnhancement(green)
    renderer.setBlueContrastEnhancement(blue)
    layer.setRenderer(renderer)
    layer.brightnessFilter().setGamma(GAMMA)


def style_similarity(layer: QgsRasterLayer) -> None:
    """Show the first band in colours from its 2nd percentile, unlike, to its 98th, alike.

    Not from -1 to 1: features of one scene have much in common, so all are alike to some degree.
    """
    _style_ramp(layer, SIMILARITY_COLORS, *_cut(layer, 1))


def style_uncertainty(layer: QgsRasterLayer) -> None:
    """Show the first band in colours from 0 %, sure, to 100 %, unsure."""
    _style_ramp(layer, UNCERTAINTY_COLORS, 0.0, 1.0)


def style_cover(layer: QgsRasterLayer) -> None:
    """Show the first band in greens from 0 % to 100 % of the ground."""
    _style_ramp(layer, COVER_COLORS, 0.0, 100.0, "{:.0f} %")


def style_change(layer: QgsRasterLayer, mapped_percent: int) -> None:
    """Show the first band in colours from 0 %, no change, to 100 %, a certain one.

    Args:
        layer: shares of 1.
        mapped_percent: from which on a change is mapped, which the legend tells.
    """
    note = f" (mapped from {mapped_percent} % on)"
    _style_ramp(layer, CHANGE_COLORS, 0.0, 1.0, "{:.0f} %", factor=100, note=note)


def _style_ramp(
    layer: QgsRasterLayer,
    colors: Sequence[str],
    low: float,
    high: float,
    label: str = "{:.2f}",
    factor: float = 1,
    note: str = "",
) -> None:
    """Show the first band in colours from a value to another; labels name value x factor.

    The legend has the note behind its largest value.
    """
    ramp = QgsColorRampShader(low, high)
    ramp.setColorRampType(QgsColorRampShader.Type.Interpolated)
    step = (high - low) / (len(colors) - 1)
    ramp.setColorRampItemList(
        [
            QgsColorRampShader.ColorRampItem(
                low + step * number,
                QColor(color),
                label.format(factor * (low + step * number)),
            )
            for number, color in enumerate(colors)
        ]
    )
    legend = QgsColorRampLegendNodeSettings()
    legend.setMinimumLabel(label.format(factor * low))
    legend.setMaximumLabel(label.format(factor * high) + note)
    ramp.setLegendSettings(legend)
    shader = QgsRasterShader(low, high)
    shader.setRasterShaderFunction(ramp)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1, shader)
    renderer.setClassificationMin(low)
    renderer.setClassificationMax(high)
    layer.setRenderer(renderer)


def _cut(layer: QgsRasterLayer, band: int) -> Tuple[float, float]:
    """Return the percentiles to show a band between; features that never vary have none."""
    low, high = layer.dataProvider().cumulativeCut(band, *CUT, QgsRectangle(), SAMPLE)
    return (low, high) if low < high else (0.0, 1.0)


def _stretch(layer: QgsRasterLayer, band: int, low: float, high: float) -> QgsContrastEnhancement:
    stretch = QgsContrastEnhancement(layer.dataProvider().dataType(band))
    stretch.setMinimumValue(low)
    stretch.setMaximumValue(high)
    stretch.setContrastEnhancementAlgorithm(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
    )
    return stretch


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
