"""From QGIS raster layers to the references that the backend opens itself."""

import uuid
from pathlib import Path
from typing import Dict, List, Tuple

from osgeo import gdal
from qgis.core import (
    QgsProviderRegistry,
    QgsRasterFileWriter,
    QgsRasterLayer,
    QgsRasterPipe,
)

from ..compat import RASTER_WRITTEN
from ..link.errors import LinkError


def reference(layer: QgsRasterLayer, scratch: Path) -> Dict[str, str]:
    """Return what the backend needs to open a layer.

    A layer without a file of its own (a web service, a database) is first copied to a GeoTIFF,
    which may take long: call this in a task's thread, with a clone of the layer.

    Args:
        layer: a raster layer.
        scratch: folder for such copies.

    Raises:
        LinkError: if the layer cannot be copied.
    """
    path = file_of(layer)
    return {"path": path or str(_copy(layer, scratch)), "label": layer.name()}


def has_pixels(layer: QgsRasterLayer) -> bool:
    """Tell whether a layer has a grid of its own; background maps have not."""
    provider = layer.dataProvider()
    return provider is not None and provider.xSize() > 0 and provider.ySize() > 0


def file_of(layer: QgsRasterLayer) -> str:
    """Return the GDAL name of a layer's dataset; empty if other programs cannot open it."""
    name, options = _gdal_source(layer)
    in_our_memory = name.startswith("/vsimem/")
    return "" if options or in_our_memory else name


def _gdal_source(layer: QgsRasterLayer) -> Tuple[str, List[str]]:
    """Return the GDAL name of a layer's dataset and its open options; no name if it has none."""
    if layer.providerType() != "gdal":
        return "", []
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    options = list(parts.get("openOptions") or [])
    if parts.get("layerName"):  # a subdataset: its name is the whole source
        return layer.source().partition("|")[0], options
    path = parts.get("path") or layer.source()
    return f"{parts.get('vsiPrefix') or ''}{path}{parts.get('vsiSuffix') or ''}", options


def _copy(layer: QgsRasterLayer, scratch: Path) -> Path:
    if not has_pixels(layer):
        raise LinkError(
            f"{layer.name()} has no pixels of its own.",
            "Save a part of it as a GeoTIFF first (Export > Save As).",
        )
    path = scratch / f"{uuid.uuid4().hex[:8]}.tif"
    copied = _copy_by_gdal if layer.providerType() == "gdal" else _copy_by_qgis
    if not copied(layer, path):
        raise LinkError(
            f"{layer.name()} could not be copied to {path}.",
            "Check the free space on the disk, and that the layer's source can be reached.",
        )
    return path


def _copy_by_gdal(layer: QgsRasterLayer, path: Path) -> bool:
    """Copy with everything that tells what the numbers are: names, scales, tags of the bands."""
    name, options = _gdal_source(layer)
    try:
        dataset = gdal.OpenEx(name, gdal.OF_RASTER, open_options=options)
        return dataset is not None and gdal.Translate(str(path), dataset) is not None
    except RuntimeError:  # if another plugin has switched on GDAL's exceptions
        return False


def _copy_by_qgis(layer: QgsRasterLayer, path: Path) -> bool:
    provider, pipe = layer.dataProvider(), QgsRasterPipe()
    return pipe.set(provider.clone()) and RASTER_WRITTEN == QgsRasterFileWriter(
        str(path)
    ).writeRaster(pipe, provider.xSize(), provider.ySize(), layer.extent(), layer.crs())
