"""The sample that comes with the plugin: a scene, and a place on two dates."""

from pathlib import Path
from typing import List, NamedTuple, Optional

from qgis.core import QgsProject, QgsRasterLayer

from .. import paths
from . import style

GROUP = "MMEarth sample"
TWO_DATES = "Boadella"  # the place that there are two dates of
BOTH_PLACES = "EPSG:3857"  # a projection that skews neither of two places on two continents


class Scene(NamedTuple):
    """A raster of the sample. Its title carries the date, by which dates are told apart."""

    file: str
    title: str

    @property
    def path(self) -> str:
        """Return where it lies."""
        return str(paths.SAMPLE / self.file)


THAILAND = Scene("thailand_20200223.tif", "Thailand 2020-02-23")
BEFORE = Scene("boadella_20200621.tif", f"{TWO_DATES} 2020-06-21")
AFTER = Scene("boadella_20210721.tif", f"{TWO_DATES} 2021-07-21")
SCENES = (THAILAND, AFTER, BEFORE)


def open_sample(project: Optional[QgsProject] = None) -> List[QgsRasterLayer]:
    """Add the sample to a project, in true colour; what is there already stays as it is.

    Args:
        project: QGIS's own if None.

    Returns:
        A layer for each of ``SCENES``, in their order.
    """
    project = project or QgsProject.instance()
    # As paths: a project that was saved and opened again has other slashes on Windows.
    there = {Path(layer.source()): layer for layer in project.mapLayers().values()}
    layers = [there.get(Path(scene.path)) or open_scene(scene) for scene in SCENES]
    new = [layer for layer in layers if Path(layer.source()) not in there]
    if new:
        group = project.layerTreeRoot().insertGroup(0, GROUP)
        project.addMapLayers(new, False)
        for layer in reversed(new):
            group.insertLayer(0, layer).setExpanded(False)  # QGIS would list red, green and blue
    return layers


def open_scene(scene: Scene) -> QgsRasterLayer:
    """Make a layer of a raster of the sample."""
    layer = QgsRasterLayer(scene.path, scene.title)
    style.style_true_colour(layer)
    return layer
