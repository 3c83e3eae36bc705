"""Telling of a model that has been trained."""

from html import escape
from typing import Any, Callable, Dict

from qgis.core import Qgis
from qgis.gui import QgsMessageBarItem
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QPushButton

from .words import tr


def summary(result: Dict[str, Any]) -> str:
    """Say in a line how good the new model is.

    Args:
        result: a ``FinetuneResult`` of the backend.
    """
    title, right = result["model"]["title"], result["accuracy"]
    if right is None:
        return tr("{} is ready; it was not tested.").format(title)
    text = tr("{} is ready: {:.0f} % right on labels it had not seen").format(title, 100 * right)
    forest = result["baseline_accuracy"]
    if forest is not None:
        text += " " + tr("(random forest {:.0f} %)").format(100 * forest)
    return text + "."


def announce(iface, result: Dict[str, Any], use: Callable[[str], None]) -> QgsMessageBarItem:
    """Tell of the model in QGIS's message bar, where it stands until it is closed.

    Args:
        iface: QGIS's interface.
        result: a ``FinetuneResult`` of the backend.
        use: called with the model's identifier if the user wants to map with it.

    Returns:
        The message, which the bar deletes once it is closed.
    """
    bar = iface.messageBar()
    item = bar.createMessage(escape(summary(result)))  # which the bar takes for rich text
    report, model_id = result["outputs"]["report"], result["model"]["id"]
    if report:
        button = QPushButton(tr("Open report"), item)
        button.setObjectName("openReportButton")
        button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(report)))
        item.layout().addWidget(button)
    button = QPushButton(tr("Use it"), item)
    button.setObjectName("useModelButton")
    button.setToolTip(tr("Map with the new model"))
    button.clicked.connect(lambda: use(model_id))
    item.layout().addWidget(button)
    bar.pushWidget(item, Qgis.MessageLevel.Success, 0)
    return item
