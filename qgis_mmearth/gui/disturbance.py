"""The window of forest disturbance, filled with what the panel shows."""

from typing import Any, Dict, List

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QTimer

DISTURBANCE = "mmearth:disturbance"
PRODUCT = "treemask"  # of models that surely tell trees from everything else


def is_there() -> bool:
    """Tell whether Processing has the algorithm."""
    return QgsApplication.processingRegistry().algorithmById(DISTURBANCE) is not None


def parameters_of(dates: List[List[Any]]) -> Dict[str, Any]:
    """Return what is known of the rasters of each date.

    Args:
        dates: rasters of each, the earliest first. Dates in between are taken if each is a single
            raster, which is all that the window can tell apart.
    """
    if not dates:
        return {}
    parameters = {"BEFORE": dates[0]}
    if len(dates) > 1:
        parameters["AFTER"] = dates[-1]
    between = dates[1:-1]
    if between and all(len(date) == 1 for date in between):
        parameters["BETWEEN"] = [raster for (raster,) in between]
    return parameters


def open_window(parameters: Dict[str, Any]) -> None:
    """Show the window of the algorithm."""
    import processing  # a plugin of QGIS, which may be loaded after this one

    dialog = processing.createAlgorithmDialog(DISTURBANCE, parameters)
    if dialog is not None:
        QTimer.singleShot(0, dialog.show)
