"""Layers that labels are drawn in, and the classes of layers that hold labels."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from osgeo import ogr, osr
from qgis.core import (
    NULL,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsDefaultValue,
    QgsEditFormConfig,
    QgsEditorWidgetSetup,
    QgsExpression,
    QgsFeatureRequest,
    QgsFillSymbol,
    QgsLineSymbol,
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsPalettedRasterRenderer,
    QgsProject,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSimpleLineSymbolLayer,
    QgsSymbolLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from ..link.errors import LinkError

FIELD = "class"
LABELS_PROPERTY = "mmearth/labels"  # set on layers made here
MOST_CLASSES = 50  # a field of more values is no field of classes
FILL_ALPHA = 90  # of 255: what is labelled is still seen
# Paul Tol's "bright" and "muted" schemes, which people who are colour-blind tell apart.
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377",
    "#882255", "#44aa99", "#999933", "#332288", "#ddcc77", "#117733",
)  # fmt: skip

Classes = List[Dict[str, str]]  # rows with value, title, color, as the backend's interface has them

# Name of each layer and the geometry that it holds, from the bottom of the group to its top.
_KINDS = (("polygons", ogr.wkbMultiPolygon), ("lines", ogr.wkbMultiLineString),
          ("points", ogr.wkbPoint))  # fmt: skip
UNCHOSEN = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"  # of QGIS's value map, for no value


def create_label_layers(
    path: Path, classes: Classes, crs: QgsCoordinateReferenceSystem
) -> List[QgsVectorLayer]:
    """Create a GeoPackage for labels, and add its layers to the project as a group.

    All of them are in edit mode; what is drawn can be undone, as in any layer of QGIS.

    Args:
        path: of the new file; its stem names the group.
        classes: what can be drawn.
        crs: of the coordinates.

    Returns:
        The layers of polygons, lines and points.

    Raises:
        LinkError: if the file is there already, or cannot be written.
    """
    if path.exists():
        raise LinkError(f"{path.name} is there already.", "Choose another name.")
    dataset = new_file(path)
    for name, kind in _KINDS:
        table = dataset.CreateLayer(name, reference_system(crs), kind)
        table.CreateField(ogr.FieldDefn(FIELD, ogr.OFTString))
    del table, dataset  # closes the file
    layers = []
    for name, _kind in _KINDS:
        layer = QgsVectorLayer(f"{path}|layername={name}", name.capitalize(), "ogr")
        if not layer.isValid():
            raise LinkError(f"{path} could not be written.", "Check the free space on the disk.")
        layer.setCustomProperty(LABELS_PROPERTY, True)
        form = layer.editFormConfig()  # the class is chosen beforehand
        form.setSuppress(QgsEditFormConfig.FeatureFormSuppress.SuppressOn)
        layer.setEditFormConfig(form)
        layers.append(layer)
    set_classes(layers, classes)
    _add_group(layers, path.stem)
    for layer in layers:
        layer.startEditing()
    return layers


def set_classes(layers: List[QgsVectorLayer], classes: Classes) -> None:
    """Let label layers made here know other classes; their style in the file follows."""
    for layer in layers:
        entries = [{row["title"]: row["value"]} for row in classes]
        index = layer.fields().lookupField(FIELD)
        layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": entries}))
        layer.setRenderer(
            QgsCategorizedSymbolRenderer(
                FIELD,
                [QgsRendererCategory(row["value"], _symbol(layer, row["color"]), row["title"])
                 for row in classes],
            )
        )  # fmt: skip
    values = [row["value"] for row in classes]
    if values and drawn_class(layers) not in values:
        draw_class(layers, values[0])
    for layer in layers:
        _keep_style(layer)
        layer.triggerRepaint()


def draw_class(layers: List[QgsVectorLayer], value: str) -> None:
    """Let the next feature be of this class, unless the user says otherwise."""
    for layer in layers:
        index = layer.fields().lookupField(FIELD)
        layer.setDefaultValueDefinition(index, QgsDefaultValue(QgsExpression.quotedString(value)))


def drawn_class(layers: List[QgsVectorLayer]) -> str:
    """Return the class that the next feature will be of; empty if none is set."""
    definition = layers[0].defaultValueDefinition(layers[0].fields().lookupField(FIELD))
    return str(QgsExpression(definition.expression()).evaluate() or "")


def siblings(layer: QgsMapLayer) -> List[QgsVectorLayer]:
    """Return the label layers of one file, polygons first; a layer of another origin is alone."""
    if not layer.customProperty(LABELS_PROPERTY):
        return [layer]
    path = file_of(layer)
    found = {}  # by name, as a layer that was duplicated labels nothing anew
    for other in QgsProject.instance().mapLayers().values():
        if other.customProperty(LABELS_PROPERTY) and file_of(other) == path:
            found.setdefault(_parts(other).get("layerName"), other)
    return [found[name] for name, _kind in _KINDS if name in found] or [layer]


def file_of(layer: QgsVectorLayer) -> str:
    """Return the file of a layer; empty if it has none."""
    return _parts(layer).get("path") or ""


def count_features(layers: List[QgsVectorLayer], field: str) -> Dict[str, int]:
    """Return how many features each class has, with edits that are not saved yet."""
    counts: Dict[str, int] = {}
    for layer in layers:
        index = layer.fields().lookupField(field)
        if index < 0:
            continue
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry)
        for feature in layer.getFeatures(request.setSubsetOfAttributes([index])):
            value = class_text(feature.attribute(index))
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
    return counts


def classes_of(layers: List[QgsMapLayer], field: Optional[str]) -> Classes:
    """Return the classes that layers name, in their colours, and those that are drawn.

    Names come from the field's value map and the categories of the style, or are the values as
    they stand; of a label raster, from the entries of its palette.
    """
    found: Dict[str, Dict[str, str]] = {}
    for layer in layers:
        if isinstance(layer, QgsRasterLayer):
            rows = _palette_rows(layer)
        else:
            rows = [*_widget_rows(layer, field), *_category_rows(layer, field)]
            rows += [(value, "", "") for value in sorted(count_features([layer], field))]
        for value, title, color in rows:
            row = found.setdefault(value, {"value": value, "title": "", "color": ""})
            row["title"] = row["title"] or title
            row["color"] = row["color"] or color
    rows = list(found.values())
    for row in rows:
        row["title"] = row["title"] or row["value"]
        row["color"] = row["color"] or free_color(rows)
    return rows


def free_color(classes: Classes) -> str:
    """Return a colour that no class has yet, as long as there is one."""
    taken = {row["color"] for row in classes}
    free = (color for color in PALETTE if color not in taken)
    return next(free, PALETTE[len(classes) % len(PALETTE)])


def new_file(path: Path) -> ogr.DataSource:
    """Begin a GeoPackage.

    Raises:
        LinkError: if it cannot be written.
    """
    try:
        dataset = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    except RuntimeError:  # if another plugin has switched on GDAL's exceptions
        dataset = None
    if dataset is None:
        raise LinkError(
            f"{path} could not be written.",
            "Check the free space on the disk, and that the folder may be written to.",
        )
    return dataset


def reference_system(crs: QgsCoordinateReferenceSystem) -> Optional[osr.SpatialReference]:
    """Return GDAL's own of a coordinate system; None if it is not valid."""
    if not crs.isValid():
        return None
    system = osr.SpatialReference()
    system.ImportFromWkt(crs.toWkt())
    return system


def _add_group(layers: List[QgsVectorLayer], name: str) -> None:
    project = QgsProject.instance()
    group = project.layerTreeRoot().insertGroup(0, name)
    for layer in layers:
        project.addMapLayer(layer, False)
        group.insertLayer(0, layer).setExpanded(layer is layers[0])


def _symbol(
    layer: QgsVectorLayer, color: str
) -> Union[QgsFillSymbol, QgsLineSymbol, QgsMarkerSymbol]:
    """Return how a class looks: its colour, with an outline that is seen on any picture."""
    shade = QColor(color)
    strong = ",".join(map(str, (shade.red(), shade.green(), shade.blue(), 255)))
    pale = ",".join(map(str, (shade.red(), shade.green(), shade.blue(), FILL_ALPHA)))
    kind = _parts(layer).get("layerName")
    if kind == "polygons":
        symbol = QgsFillSymbol.createSimple({"color": pale, "outline_style": "no"})
        symbol.appendSymbolLayer(_casing())
        line = {"line_color": strong, "line_width": "0.6"}
        symbol.appendSymbolLayer(QgsSimpleLineSymbolLayer.create(line))
        return symbol
    if kind == "lines":
        symbol = QgsLineSymbol.createSimple({"line_color": strong, "line_width": "0.6"})
        symbol.insertSymbolLayer(0, _casing())
        return symbol
    look = {"color": strong, "outline_color": "white", "size": "2.6"}
    return QgsMarkerSymbol.createSimple(look)


def _casing() -> QgsSymbolLayer:
    """Return what lies below a line, so that it is seen on a map of its own colour, too."""
    casing = QgsSimpleLineSymbolLayer.create({"line_color": "white", "line_width": "1.2"})
    casing.setLocked(True)  # the symbol's colour is that of the class
    return casing


def _keep_style(layer: QgsVectorLayer) -> None:
    """Keep the style in the file; an earlier one goes, or QGIS would ask whether it may."""
    _count, ids, names, *_rest = layer.listStylesInDatabase()
    for number, name in zip(ids, names):  # noqa: B905 - QGIS's Python may be 3.9
        if name == layer.name():
            layer.deleteStyleFromDatabase(number)
    layer.saveStyleToDatabase(layer.name(), "", True, "")


def _parts(layer: QgsMapLayer) -> Dict[str, Any]:
    return QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())


def class_text(value: Any) -> Optional[str]:
    """Return a class as the backend writes it; None for an empty value."""
    if value is None or value == NULL:
        return None
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    return str(value).strip() or None


def _widget_rows(layer: QgsVectorLayer, field: str) -> Iterator[Tuple[str, str, str]]:
    """Yield value, title and no colour of the entries of a value map."""
    setup = layer.editorWidgetSetup(layer.fields().lookupField(field))
    if setup.type() != "ValueMap":
        return
    entries = setup.config().get("map") or []
    if isinstance(entries, dict):  # as QGIS 2 wrote it
        entries = [entries]
    for entry in entries:
        for title, value in entry.items():
            if value != UNCHOSEN and class_text(value) is not None:
                yield class_text(value), str(title), ""


def _category_rows(layer: QgsVectorLayer, field: str) -> Iterator[Tuple[str, str, str]]:
    renderer = layer.renderer()
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        if renderer.classAttribute().strip('"') == field:
            for category in renderer.categories():
                values = category.value()
                for value in values if isinstance(values, list) else [values]:
                    if class_text(value) is not None:
                        yield class_text(value), category.label(), category.symbol().color().name()


def _palette_rows(layer: QgsRasterLayer) -> Iterator[Tuple[str, str, str]]:
    renderer = layer.renderer()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        for entry in renderer.classes():
            if entry.value != 0:  # 0 is unlabelled
                yield class_text(float(entry.value)), entry.label, entry.color.name()
