"""From QGIS raster layers to the references that the backend opens itself."""

import uuid
from pathlib import Path
from typing import Dict

from qgis.core import (
    QgsProviderRegistry,
    QgsRasterFileWriter,
    QgsRasterLayer,
    QgsRasterPipe,
)

from ..link.errors import LinkError


def reference(layer: QgsRasterLayer, scratch: Path) -> Dict[str, str]:
    """Return what the backend needs to open a layer.

    A layer without a file of its own (a web service, a database) is first copied to a GeoTIFF.

    Args:
        layer: a raster layer.
        scratch: folder for such copies.

    Raises:
        LinkError: if the layer cannot be copied.
    """
    path = file_of(layer)
    return {"path": path or str(_copy(layer, scratch)), "label": layer.name()}


def file_of(layer: QgsRasterLayer) -> str:
    """Return the GDAL name of a layer's dataset; empty if other programs cannot open it."""
    if layer.providerType() != "gdal":
        return ""
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    if parts.get("openOptions"):
        return ""
    if parts.get("layerName"):  # a subdataset: its name is the whole source
        return layer.source().partition("|")[0]
    path = parts.get("path") or layer.source()
    return f"{parts.get('vsiPrefix') or ''}{path}{parts.get('vsiSuffix') or ''}"


def _copy(layer: QgsRasterLayer, scratch: Path) -> Path:
    provider = layer.dataProvider()
    if provider.xSize() <= 0 or provider.ySize() <= 0:
        raise LinkError(
            f"{layer.name()} has no pixels of its own.",
            "Save a part of it as a GeoTIFF first (Export > Save As).",
        )
    path = scratch / f"{uuid.uuid4().hex[:8]}.tif"
    pipe = QgsRasterPipe()
    if not pipe.set(provider.clone()):
        raise LinkError(f"{layer.name()} cannot be read.", "Add the layer again.")
    error = QgsRasterFileWriter(str(path)).writeRaster(
        pipe, provider.xSize(), provider.ySize(), layer.extent(), layer.crs()
    )
    if int(error) != 0:
        raise LinkError(
            f"{layer.name()} could not be copied to {path}.",
            "Check the free space on the disk, and that the layer's source can be reached.",
        )
    return path
