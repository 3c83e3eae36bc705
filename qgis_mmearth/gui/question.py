"""A question asked inline, of which another refresh of the window is no answer."""

from typing import Callable, Optional

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QLabel, QPushButton, QWidget

Action = Callable[[], None]


class Question(QObject):
    """Asks before something is lost; it stands until it is answered or dropped."""

    changed = pyqtSignal()
    """It is asked, or no longer."""

    def __init__(
        self, panel: QWidget, label: QLabel, yes_button: QPushButton, no_button: QPushButton
    ) -> None:
        """Take over the widgets.

        Args:
            panel: holds the others, and is shown while the question stands.
            label: shows the question.
            yes_button: goes on.
            no_button: leaves everything as it is.
        """
        super().__init__(panel)
        self._panel = panel
        self._label = label
        self._yes_button = yes_button
        self._no_button = no_button
        self._action: Optional[Action] = None
        yes_button.clicked.connect(self._go_on)
        no_button.clicked.connect(self.drop)
        panel.hide()

    @property
    def stands(self) -> bool:
        """True until it is answered or dropped."""
        return self._action is not None

    def ask(self, text: str, button: str, action: Action) -> None:
        """Ask; the button named so does the action."""
        self._label.setText(text)
        self._yes_button.setText(button)
        self._set(action)
        self._no_button.setFocus(Qt.FocusReason.OtherFocusReason)

    def drop(self) -> None:
        """Ask no longer."""
        self._set(None)

    def _go_on(self) -> None:
        action = self._action
        self._set(None)
        if action is not None:
            action()

    def _set(self, action: Optional[Action]) -> None:
        self._action = action
        self._panel.setVisible(self.stands)
        self.changed.emit()
