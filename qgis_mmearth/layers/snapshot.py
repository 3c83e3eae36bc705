"""What label layers show at the moment, edits that are not saved included, in a file."""

from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

from osgeo import ogr, osr
from qgis.core import (
    QgsCoordinateTransform,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProject,
    QgsVectorLayer,
)

from ..link.errors import LinkError


class Drawn(NamedTuple):
    """A feature: its geometry as WKB, and its class, None if it has none."""

    geometry: bytes
    value: Optional[str]


class Snapshot(NamedTuple):
    """Features of several layers, in one CRS. Equal if they are."""

    field: str
    crs: str
    features: List[Drawn]

    @classmethod
    def of(cls, layers: Sequence[QgsVectorLayer], field: Optional[str]) -> Optional["Snapshot"]:
        """Take one, in the main thread; None if there are no layers, or no field.

        Args:
            layers: those that lack the field are left out; the CRS is that of the first.
            field: holds the class.
        """
        if not layers or not field:
            return None
        crs = layers[0].crs()
        features = []
        for layer in layers:
            number = layer.fields().lookupField(field)
            if number < 0:
                continue
            change = QgsCoordinateTransform(layer.crs(), crs, QgsProject.instance())
            request = QgsFeatureRequest().setSubsetOfAttributes([number])
            for feature in layer.getFeatures(request):
                geometry = feature.geometry()
                if geometry.isEmpty():
                    continue
                if not change.isShortCircuited():
                    geometry.transform(change)
                features.append(Drawn(_wkb(geometry), _text(feature.attribute(number))))
        return cls(field, crs.toWkt(), features)

    def write(self, path: Path) -> None:
        """Write it as a FlatGeobuf, in any thread.

        Raises:
            LinkError: if it cannot be written.
        """
        try:
            self._write(path)
        except RuntimeError as error:  # if another plugin has switched on GDAL's exceptions
            raise _unwritten(path) from error

    def _write(self, path: Path) -> None:
        dataset = ogr.GetDriverByName("FlatGeobuf").CreateDataSource(str(path))
        if dataset is None:
            raise _unwritten(path)
        crs = osr.SpatialReference()
        crs.ImportFromWkt(self.crs)
        table = dataset.CreateLayer("labels", crs, ogr.wkbUnknown, ["SPATIAL_INDEX=NO"])
        table.CreateField(ogr.FieldDefn(self.field, ogr.OFTString))
        for geometry, value in self.features:
            row = ogr.Feature(table.GetLayerDefn())
            row.SetGeometry(ogr.CreateGeometryFromWkb(geometry))
            if value is not None:
                row.SetField(0, value)
            if table.CreateFeature(row):
                raise _unwritten(path)


def _wkb(geometry: QgsGeometry) -> bytes:
    shape = geometry.constGet()
    if shape.hasCurvedSegments():  # the backend knows straight lines only
        geometry = QgsGeometry(shape.segmentize())
    return bytes(geometry.asWkb())


def _text(value: Any) -> Optional[str]:
    """Write a class as the backend does: whole numbers without decimals."""
    if value is None or str(value) == "NULL":  # QGIS's own NULL prints so
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _unwritten(path: Path) -> LinkError:
    return LinkError(
        f"The labels could not be written to {path}.", "Check the free space on the disk."
    )
