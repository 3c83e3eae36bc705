"""Samples to be interpreted: a form that offers the classes and keeps back what the map says."""

from qgis.core import (
    QgsAttributeTableConfig,
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsMarkerSymbol,
    QgsPalLayerSettings,
    QgsRendererCategory,
    QgsTextBufferSettings,
    QgsTextFormat,
    QgsVectorLayer,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtGui import QColor

from . import style
from .labels import UNCHOSEN, Classes, free_color

LAYER = "sample"  # in the file
ORDER, REFERENCE = "id", "reference"
# Who interprets must not know what the map says; how large a pixel is tells nothing.
HIDDEN = ("fid", "stratum", "stratum_title", "area_ha")
CONFIDENCE = ("high", "medium", "low")


def open_sample(path: str, title: str, classes: Classes) -> QgsVectorLayer:
    """Make a layer of a sample with its form and style, and keep both in the file; in any thread.

    Args:
        path: of the GeoPackage.
        title: of the layer.
        classes: that a point can be interpreted as.
    """
    layer = QgsVectorLayer(f"{path}|layername={LAYER}", title, "ogr")
    _set_form(layer, classes)
    _set_table(layer)
    _set_style(layer, classes)
    style.keep_style(layer, path)
    return layer


def _set_form(layer: QgsVectorLayer, classes: Classes) -> None:
    choices = [{row["title"]: row["value"]} for row in classes]
    certainty = [{word: word} for word in CONFIDENCE]
    setups = {
        REFERENCE: ("ValueMap", {"map": [{"Not interpreted": UNCHOSEN}, *choices]}),
        "confidence": ("ValueMap", {"map": [{"": UNCHOSEN}, *certainty]}),
        "note": ("TextEdit", {}),
        **{name: ("Hidden", {}) for name in HIDDEN},
    }
    for name, (kind, settings) in setups.items():
        index = layer.fields().lookupField(name)
        layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup(kind, settings))
    form = layer.editFormConfig()
    form.setReadOnly(layer.fields().lookupField(ORDER), True)
    layer.setEditFormConfig(form)


def _set_table(layer: QgsVectorLayer) -> None:
    """Sort by identifier, which is a random order: so the next in the form is the next to see."""
    table = layer.attributeTableConfig()
    table.update(layer.fields())
    columns = table.columns()
    for column in columns:
        if column.type == QgsAttributeTableConfig.Type.Field:
            column.hidden = column.name in HIDDEN
    table.setColumns(columns)
    table.setSortExpression(f'"{ORDER}"')
    layer.setAttributeTableConfig(table)
    layer.setDisplayExpression(f'"{ORDER}"')


def _set_style(layer: QgsVectorLayer, classes: Classes) -> None:
    """Show rings where a point is to be interpreted, and in the colour of its class afterwards."""
    rows = [dict(row) for row in classes]
    for row in rows:
        row["color"] = row["color"] or free_color(rows)
    categories = [
        QgsRendererCategory(int(row["value"]), _symbol(row["color"], "white", 3.0), row["title"])
        for row in rows
    ]
    # A category without a value takes all others, NULL among them.
    ring = _symbol("0,0,0,0", "#ff00ff", 4.0)
    categories.append(QgsRendererCategory("", ring, "Not interpreted"))
    layer.setRenderer(QgsCategorizedSymbolRenderer(REFERENCE, categories))
    text, buffer = QgsTextFormat(), QgsTextBufferSettings()
    buffer.setEnabled(True)
    buffer.setColor(QColor("white"))
    text.setBuffer(buffer)
    text.setSize(8)
    settings = QgsPalLayerSettings()
    settings.fieldName = ORDER
    settings.setFormat(text)
    layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
    layer.setLabelsEnabled(True)


def _symbol(color: str, outline: str, size: float) -> QgsMarkerSymbol:
    return QgsMarkerSymbol.createSimple(
        {"color": color, "outline_color": outline, "outline_width": "0.5", "size": str(size)}
    )
