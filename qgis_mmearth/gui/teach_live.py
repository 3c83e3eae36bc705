"""The controls of live mode: on and off, what is shown, where to label next, and keeping it."""

from typing import Any, Callable, Dict, List, Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
)
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from . import words

NEAR_PIXELS = 16  # the size of a label, about

Request = Callable[[], Optional[Dict[str, Any]]]


class LiveControls(QObject):
    """Wires the widgets to ``LiveMode``, which is made the first time that it is switched on."""

    kept = pyqtSignal()
    """The user wants a model of what is seen."""

    def __init__(self, form: Any, iface, request: Request, layers: Callable[[], List]) -> None:
        """Take over the widgets.

        Args:
            form: the tab, with ``liveCheck`` and its neighbours.
            iface: QGIS's interface.
            request: see ``LiveMode``.
            layers: see ``LiveMode``.
        """
        super().__init__(form)
        self._form = form
        self._iface = iface
        self._request = request
        self._layers = layers
        self._live: Any = None
        self._places: List[Dict[str, Any]] = []
        self._visited: List[Dict[str, Any]] = []
        form.showCombo.addItem(self.tr("Classes"), "classes")
        form.showCombo.addItem(self.tr("How unsure it is"), "uncertainty")
        form.liveCheck.toggled.connect(self._toggled)
        form.showCombo.currentIndexChanged.connect(self._show_kind)
        form.nextButton.clicked.connect(self.go_to_suggestion)
        form.keepButton.clicked.connect(self.kept)
        self._refresh()

    @property
    def is_on(self) -> bool:
        """True while live mode runs."""
        return self._live is not None and self._live.is_on

    def stop(self) -> None:
        """Switch it off."""
        if self.is_on:
            self._live.stop()
        self._refresh()

    def renew(self) -> None:
        """Make the preview anew, as something that it is made from has changed."""
        if self.is_on:
            self._live.renew()

    def go_to_suggestion(self) -> None:
        """Show the place where a label would teach the most, of those not shown before."""
        if not self._places:
            return
        new = [place for place in self._places if not any(_near(place, v) for v in self._visited)]
        if not new:  # all of the view was seen: from the beginning
            self._visited = []
        place = (new or self._places)[0]
        self._visited.append(place)
        canvas = self._iface.mapCanvas()
        crs = canvas.mapSettings().destinationCrs()
        source = QgsCoordinateReferenceSystem(place["crs"])
        change = QgsCoordinateTransform(source, crs, QgsProject.instance())
        try:
            point = change.transform(QgsPointXY(place["x"], place["y"]))
        except QgsCsException:
            return  # beyond what the map window can show
        canvas.setCenter(point)
        canvas.refresh()
        canvas.flashGeometries([QgsGeometry.fromPointXY(point)], crs)

    def _toggled(self, on: bool) -> None:
        if on and self._live is None:
            from .live import LiveMode

            self._live = LiveMode(self._iface, self._request, self._layers)
            self._live.said.connect(self._say)
            self._live.suggested.connect(self._suggested)
            self._live.ended.connect(self._ended)
        if on:
            self._live.start()
            self._show_kind()
            # What is new below the box is out of sight where the panel is not high.
            QTimer.singleShot(0, self._scroll_to_controls)
        elif self.is_on:
            self._live.stop()
            self._say("", "")
        self._refresh()

    def _scroll_to_controls(self) -> None:
        self._form.teachScrollArea.ensureWidgetVisible(self._form.liveGroup)

    def _show_kind(self, *_: Any) -> None:
        if self.is_on:
            self._live.show(self._form.showCombo.currentData())

    def _suggested(self, places: List[Dict[str, Any]]) -> None:
        self._places = list(places)
        self._refresh()

    def _ended(self) -> None:
        self._places, self._visited = [], []
        self._form.liveCheck.blockSignals(True)
        self._form.liveCheck.setChecked(False)
        self._form.liveCheck.blockSignals(False)
        self._refresh()

    def _say(self, text: str, kind: str) -> None:
        if kind and text:
            text = f'<span style="color:{words.color(kind, self._form.liveLabel)}">{text}</span>'
        self._form.liveLabel.setText(text)
        self._form.liveLabel.setVisible(bool(text))

    def _refresh(self) -> None:
        on = self.is_on
        form = self._form
        for widget in (form.showLabel, form.showCombo, form.nextButton, form.keepButton):
            widget.setVisible(on)
        form.nextButton.setEnabled(bool(self._places))
        form.liveLabel.setVisible(bool(form.liveLabel.text()))  # also why it has ended


def _near(place: Dict[str, Any], other: Dict[str, Any]) -> bool:
    """Tell whether two suggestions are the same place."""
    apart = max(abs(place["x"] - other["x"]), abs(place["y"] - other["y"]))
    pixel = abs(place["transform"][0])
    return place["crs"] == other["crs"] and apart < NEAR_PIXELS * pixel
