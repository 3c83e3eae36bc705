"""One action on models at a time: its progress, its Cancel button, and how it went."""

from html import escape
from typing import Any, Callable, Optional

from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QLabel, QProgressBar, QPushButton

from .. import tasks
from ..link.errors import LinkError
from . import words


class ModelWork(QObject):
    """Runs an action in QGIS's task manager, and tells of it in the window."""

    changed = pyqtSignal()
    """An action has begun or ended."""
    said = pyqtSignal()
    """Another message is shown, or none."""
    failed = pyqtSignal(object)
    """An action has failed, as is said already; carries a LinkError."""

    def __init__(self, label: QLabel, bar: QProgressBar, button: QPushButton) -> None:
        super().__init__(bar)
        self._label = label
        self._bar = bar
        self._button = button
        self._task: Optional[tasks.Task] = None
        button.clicked.connect(self.cancel)
        self._show()

    @property
    def busy(self) -> bool:
        """True while an action runs."""
        return self._task is not None

    def start(
        self, title: str, work: Callable[[tasks.Task], Any], done: Callable[[Any], None]
    ) -> None:
        """Run an action, unless one runs already.

        Args:
            title: for QGIS's task manager, and shown until there is progress to tell.
            work: called in a thread.
            done: called with its result in the main thread, unless it fails or is cancelled.
        """
        if self.busy:
            return

        def succeeded(result: Any) -> None:
            self._ended()
            if result is None:
                self.say(self.tr("Cancelled. Nothing was changed."))
            else:
                done(result)

        self.say(escape(title))
        self._bar.setRange(0, 0)  # moves to and fro until the first progress is told
        self._task = tasks.start(
            tasks.Task(title, work, succeeded, self._failed, progress=self._progress)
        )
        self._show()

    def cancel(self) -> None:
        """Stop the action."""
        if self._task is not None:
            self._task.cancel()
            self._button.setEnabled(False)
            self.say(self.tr("Cancelling…"))

    def shut_down(self) -> None:
        """Stop the action, and tell nobody: the window goes."""
        if self._task is not None:
            self._task.forget()

    def say(self, text: str, kind: str = "", tip: str = "") -> None:
        """Show rich text, coloured for ``error``, ``warning`` or ``good``."""
        if kind and text:
            text = f'<span style="color:{words.color(kind, self._label)}">{text}</span>'
        self._label.setText(text)
        self._label.setToolTip(escape(tip))
        self._label.setVisible(bool(text))
        self.said.emit()

    def show_error(self, error: LinkError) -> None:
        """Say what went wrong and what to do."""
        self.say(words.problem(error.message, error.advice), "error", tip=error.details)

    def _progress(self, share: float, stage: str, left: Optional[float]) -> None:
        if not self._button.isEnabled():
            return  # it is being cancelled
        self._bar.setRange(0, 100)
        self._bar.setValue(int(share * 100))
        stage = escape(stage)
        self.say(f"{stage} · {words.duration(left)} {self.tr('left')}" if left else stage)

    def _failed(self, error: LinkError) -> None:
        self._ended()
        if error.code == "cancelled":
            self.say(self.tr("Cancelled. Nothing was changed."))
            return
        self.show_error(error)
        self.failed.emit(error)

    def _ended(self) -> None:
        self._task = None
        self._show()

    def _show(self) -> None:
        self._bar.setVisible(self.busy)
        self._button.setVisible(self.busy)
        self._button.setEnabled(self.busy)
        self.changed.emit()
