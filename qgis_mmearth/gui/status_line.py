"""What a tab of the panel tells: in the tab itself, and in QGIS's message bar."""

from qgis.core import Qgis
from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QLabel

from ..link.errors import LinkError
from . import words

MESSAGE_SECONDS = 8


class StatusLine(QObject):
    """A line below the tab's content."""

    def __init__(self, label: QLabel, iface) -> None:
        super().__init__(label)
        self._label = label
        self._iface = iface

    def say(self, text: str, kind: str = "", tip: str = "") -> None:
        """Show rich text, coloured for ``error`` or ``warning``."""
        if kind and text:
            text = f'<span style="color:{words.color(kind, self._label)}">{text}</span>'
        self._label.setText(text)
        self._label.setToolTip(tip)

    def push(self, message: str, level: Qgis.MessageLevel) -> None:
        """Show a message in QGIS's message bar."""
        self._iface.messageBar().pushMessage("MMEarth", message, level, MESSAGE_SECONDS)

    def show_error(self, error: LinkError) -> None:
        """Say what went wrong and what to do, in both places."""
        self.say(words.problem(error.message, error.advice), "error", tip=error.details)
        self.push(str(error), Qgis.MessageLevel.Critical)
