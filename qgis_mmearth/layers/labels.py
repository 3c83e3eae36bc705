"""Layers that labels are drawn in, and the way of labels to the backend.

Labels go by reference like everything else: the features of the layers, as they stand and with
edits that are not saved yet, are copied to a file that the backend reads.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from osgeo import ogr, osr
from qgis.core import (
    NULL,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsDefaultValue,
    QgsEditFormConfig,
    QgsEditorWidgetSetup,
    QgsExpression,
    QgsFeatureRequest,
    QgsFillSymbol,
    QgsGeometry,
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
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt.QtGui import QColor

from ..link.errors import LinkError
from . import stack

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
_TAKEN_FIELDS = ("fid", "geom")  # by every table of a GeoPackage
_UNCHOSEN = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"  # of QGIS's value map, for no value


class _Copy(NamedTuple):
    """A layer as it stands, to be read in any thread."""

    source: QgsVectorLayerFeatureSource
    index: int
    """Of the class field."""
    name: str
    transform: QgsCoordinateTransform


class LabelCopies(NamedTuple):
    """Labels as they stand, to be written in any thread."""

    copies: Tuple[_Copy, ...]
    """Of vector layers."""
    raster: Optional[QgsRasterLayer]
    """A clone of the label raster, if it is one."""
    crs: QgsCoordinateReferenceSystem
    classes: Classes
    field: str
    """Of the class in the copy: the layers' own, which the backend names in what it says."""


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
    dataset = _new_file(path)
    for name, kind in _KINDS:
        table = dataset.CreateLayer(name, _reference_system(crs), kind)
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
            value = _text(feature.attribute(index))
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


def copy_labels(
    layers: List[QgsMapLayer], field: Optional[str], classes: Optional[Classes] = None
) -> LabelCopies:
    """Take from layers what ``write_copies`` needs; in the main thread, and quick.

    Args:
        layers: vector layers with the field, or one label raster.
        field: holds the class; None for a label raster.
        classes: to learn; those of ``classes_of`` if None.

    Raises:
        LinkError: if a layer lacks the field.
    """
    if classes is None:
        classes = classes_of(layers, field)
    if isinstance(layers[0], QgsRasterLayer):
        return LabelCopies((), layers[0].clone(), layers[0].crs(), classes, "")
    systems = [layer.crs() for layer in layers if layer.crs().isValid()]
    target = systems[0] if systems else QgsCoordinateReferenceSystem()
    context = QgsProject.instance().transformContext()
    copies = []
    for layer in layers:
        index = layer.fields().lookupField(field)
        if index < 0:
            known = ", ".join(layer.fields().names()) or "none"
            raise LinkError(
                f"{layer.name()} has no field {field}; it has {known}.",
                "Choose the field that holds the class of each feature.",
            )
        copies.append(
            _Copy(
                QgsVectorLayerFeatureSource(layer),
                index,
                layer.name(),
                QgsCoordinateTransform(layer.crs(), target, context),
            )
        )
    name = FIELD if field.lower() in _TAKEN_FIELDS else field
    return LabelCopies(tuple(copies), None, target, classes, name)


def write_copies(labels: LabelCopies, target: Path) -> Dict[str, Any]:
    """Write what ``copy_labels`` took; in any thread.

    Args:
        labels: from ``copy_labels``.
        target: of the new GeoPackage; a label raster that is a file already stays where it is.

    Returns:
        A ``LabelSource`` of the backend's interface.

    Raises:
        LinkError: if a layer cannot be copied.
    """
    if labels.raster is not None:
        path = stack.reference(labels.raster, target.parent)["path"]
        return {"path": path, "layer": None, "field": None, "classes": labels.classes}
    dataset = _new_file(target)
    table = dataset.CreateLayer("labels", _reference_system(labels.crs), ogr.wkbUnknown)
    table.CreateField(ogr.FieldDefn(labels.field, ogr.OFTString))
    taken: set = set()
    dataset.StartTransaction()
    for copy in labels.copies:
        # What the backend says of a feature by its number is to be found in the user's layer, so
        # those that are not saved yet, whose numbers are below 0, take what is left.
        for number, geometry, value in sorted(_features(copy), key=lambda row: row[0] <= 0):
            feature = ogr.Feature(table.GetLayerDefn())
            if number > 0 and number not in taken:
                feature.SetFID(number)
            if value is not None:
                feature.SetField(labels.field, value)
            if not geometry.isNull():
                feature.SetGeometry(ogr.CreateGeometryFromWkb(bytes(geometry.asWkb())))
            if table.CreateFeature(feature) != ogr.OGRERR_NONE:
                raise LinkError(
                    f"The labels could not be copied to {target}.",
                    "Check the free space on the disk.",
                )
            taken.add(feature.GetFID())
    dataset.CommitTransaction()
    del table, dataset  # closes the file
    return {
        "path": str(target),
        "layer": "labels",
        "field": labels.field,
        "classes": labels.classes,
    }


def write_labels(
    layers: List[QgsMapLayer],
    field: Optional[str],
    target: Path,
    classes: Optional[Classes] = None,
) -> Dict[str, Any]:
    """Copy the labels of layers to a file, and leave the layers as they are.

    Everything at once, in the thread of the layers; see ``copy_labels`` and ``write_copies``.
    """
    return write_copies(copy_labels(layers, field, classes), target)


def _features(copy: _Copy) -> Iterator[Tuple[int, QgsGeometry, Optional[str]]]:
    """Yield number, geometry in the target's coordinates and class."""
    request = QgsFeatureRequest().setSubsetOfAttributes([copy.index])
    for feature in copy.source.getFeatures(request):
        geometry = feature.geometry()
        try:
            geometry.transform(copy.transform)
        except QgsCsException as error:
            raise LinkError(
                f"Feature {feature.id()} of {copy.name} lies where the coordinates cannot be "
                f"expressed in {copy.transform.destinationCrs().userFriendlyIdentifier()}.",
                "Move it, or correct the coordinate system of the layer.",
                details=str(error),
            ) from error
        yield feature.id(), geometry, _text(feature.attribute(copy.index))


def _new_file(path: Path) -> ogr.DataSource:
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


def _reference_system(crs: QgsCoordinateReferenceSystem) -> Optional[osr.SpatialReference]:
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


def _text(value: Any) -> Optional[str]:
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
            if value != _UNCHOSEN and _text(value) is not None:
                yield _text(value), str(title), ""


def _category_rows(layer: QgsVectorLayer, field: str) -> Iterator[Tuple[str, str, str]]:
    renderer = layer.renderer()
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        if renderer.classAttribute().strip('"') == field:
            for category in renderer.categories():
                values = category.value()
                for value in values if isinstance(values, list) else [values]:
                    if _text(value) is not None:
                        yield _text(value), category.label(), category.symbol().color().name()


def _palette_rows(layer: QgsRasterLayer) -> Iterator[Tuple[str, str, str]]:
    renderer = layer.renderer()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        for entry in renderer.classes():
            if entry.value != 0:  # 0 is unlabelled
                yield _text(float(entry.value)), entry.label, entry.color.name()
