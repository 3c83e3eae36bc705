"""From the files of a finished job to layers in the project."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from qgis.core import (
    QgsLayerMetadata,
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QUrl

from . import style

Result = Dict[str, Any]

RESULT_PROPERTY = "mmearth/result"  # set on layers made here

# From the bottom of the group to its top: what is added last is seen.
_TITLES = {
    "probabilities": "Probabilities",
    "probability": "Probability of a change",
    "confidence": "Confidence",
    "polygons": "Areas",
    "classes": "",  # the product's own title
    "density_cells": "Mean by cell",
    "density": "",
    "table": "Area table",
    "transitions": "Forest before and after",
    "features": "Features",
    "view": "Picture of the features",
    "similarity": "Similarity",
}
_TABLES = ("table", "transitions")
# By kind of job: classes that polygons are made of.
_DRAWN = {"disturbance": ("loss", "gain", "possible_loss", "possible_gain")}
_RASTER_STYLES = {
    "density": style.style_cover,
    "density_cells": style.style_cover,
    "features": style.style_features,
    "view": style.style_picture,
    "similarity": style.style_similarity,
}


def open_results(result: Result, product_title: str) -> List[QgsMapLayer]:
    """Make styled layers of the files of a result, from bottom to top; in any thread.

    Args:
        result: of the backend, of a job that maps something.
        product_title: name of the class map.
    """
    layers = []
    for name, title in _TITLES.items():
        path = result["outputs"].get(name)
        layer = path and open_output(name, path, title or product_title, result)
        if layer:
            layers.append(layer)
    return layers


def open_output(name: str, path: str, title: str, result: Result) -> Optional[QgsMapLayer]:
    """Make a layer of one file, style it, and keep the style beside the file."""
    classes = result.get("classes", [])
    if name in ("polygons", *_TABLES):
        source = path if name == "polygons" else _table_source(path)
        layer = QgsVectorLayer(source, title, "ogr" if name == "polygons" else "delimitedtext")
    else:
        layer = QgsRasterLayer(path, title)
    if not layer.isValid():
        return None
    if name == "classes":
        style.style_classes(layer, classes)
    elif name == "polygons":
        drawn = _DRAWN.get(result.get("kind"), [row["name"] for row in classes])
        style.style_polygons(layer, [row for row in classes if row["name"] in drawn])
    elif name == "probability":
        style.style_change(layer, result["mapped_percent"])
    elif name not in _TABLES:
        _RASTER_STYLES.get(name, style.style_percent)(layer)
    layer.setMetadata(_metadata(layer, result))
    layer.setCustomProperty(RESULT_PROPERTY, name)
    if name not in _TABLES:
        style.keep_style(layer, path)
    return layer


def add_to_project(
    layers: List[QgsMapLayer],
    group_name: str,
    project: Optional[QgsProject] = None,
    below: str = "",
) -> QgsLayerTreeGroup:
    """Add layers, from bottom to top, to a new group.

    Args:
        layers: from ``open_results``.
        group_name: of the new group.
        project: QGIS's own if None.
        below: identifier of a layer that is to stay in sight above the group; the group stands at
            the top if there is none.
    """
    project = project or QgsProject.instance()
    root = project.layerTreeRoot()
    above = root.findLayer(below)
    while above is not None and above.parent() != root:
        above = above.parent()
    group = root.insertGroup(root.children().index(above) + 1 if above else 0, group_name)
    rasters = [layer for layer in layers if isinstance(layer, QgsRasterLayer)]
    for layer in layers:
        project.addMapLayer(layer, False)
        node = group.insertLayer(0, layer)
        # The map is what was asked for; what else was made is one click away.
        shown = layer in rasters[-1:]
        node.setItemVisibilityChecked(shown)
        node.setExpanded(shown)
    group.setExpanded(False)  # QGIS folds a new group without telling; only a change unfolds it
    group.setExpanded(True)
    return group


def output_paths(
    folder: Path, stem: str, wanted: List[str], exists: Callable[[Path], bool] = Path.exists
) -> Dict[str, str]:
    """Return file names for the wanted outputs that are not yet taken.

    Args:
        folder: where results go.
        stem: beginning of the names.
        wanted: of ``classes`` or ``density``, ``density_cells``, ``probabilities``, ``confidence``,
            ``polygons`` and ``table``.
        exists: tells whether a file is there.
    """
    endings = {
        "classes": ".tif",
        "density": ".tif",
        "density_cells": "_cells.tif",
        "probabilities": "_probabilities.tif",
        "confidence": "_confidence.tif",
        "polygons": "_areas.gpkg",
        "table": "_areas.csv",
    }
    number = 1
    while True:
        suffix = "" if number == 1 else f"_{number}"
        paths = {name: folder / f"{stem}{suffix}{endings[name]}" for name in wanted}
        if not any(exists(path) for path in paths.values()):
            return {name: str(path) for name, path in paths.items()}
        number += 1


def _table_source(path: str) -> str:
    """Return a CSV file as QGIS's provider for texts names it."""
    address = QUrl.fromLocalFile(path)
    address.setQuery("detectTypes=yes")
    return address.toString(QUrl.ComponentFormattingOption.FullyEncoded)


def _metadata(layer: QgsMapLayer, result: Result) -> QgsLayerMetadata:
    """Say in the layer's own metadata how it came to be."""
    metadata = QgsLayerMetadata()
    metadata.setTitle(layer.name())
    source = ", ".join(result[key] for key in ("model_title", "product") if key in result)
    metadata.setAbstract(
        f"{source or layer.name()}, made with MMEarth for QGIS. "
        "Tags of the GeoTIFF (Information) name model version, checksum, inputs and bands."
    )
    metadata.setCrs(layer.crs())
    return metadata
