"""The way of labels to the backend.

Labels go by reference like everything else: the features of the layers, as they stand and with
edits that are not saved yet, are copied to a file that the backend reads.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from osgeo import ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeatureRequest,
    QgsGeometry,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayerFeatureSource,
)

from ..link.errors import LinkError
from . import stack
from .labels import FIELD, Classes, class_text, classes_of, new_file, reference_system

_TAKEN_FIELDS = ("fid", "geom")  # by every table of a GeoPackage


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
    dataset = new_file(target)
    table = dataset.CreateLayer("labels", reference_system(labels.crs), ogr.wkbUnknown)
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
        yield feature.id(), geometry, class_text(feature.attribute(copy.index))
