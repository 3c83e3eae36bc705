"""Asking the backend what a request would do, whenever the panel changes."""

from typing import Any, Callable, Optional

from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from .. import tasks

DELAY_MS = 250  # several changes in a row are planned once

Work = Callable[[tasks.Task], Any]


class Planner(QObject):
    """Makes one plan at a time; one that something has changed under is made again, unseen."""

    planned = pyqtSignal(object)
    """Carries what the work returned."""
    failed = pyqtSignal(object)
    """Carries a LinkError."""

    def __init__(self, parent: QObject, title: str, prepare: Callable[[], Optional[Work]]) -> None:
        """Take over the planning.

        Args:
            parent: lives longer than this.
            title: for QGIS's task manager.
            prepare: called in the main thread; returns what is done in a task's, or None if there
                is nothing to plan.
        """
        super().__init__(parent)
        self._title = title
        self._prepare = prepare
        self._task: Optional[tasks.Task] = None
        self._again = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._plan)

    @property
    def waiting(self) -> bool:
        """True if a plan is about to be made."""
        return self._timer.isActive()

    @property
    def asking(self) -> bool:
        """True while a plan is being made."""
        return self._task is not None

    def soon(self) -> None:
        """Plan once there are no more changes."""
        self._timer.start()

    def shut_down(self) -> None:
        """Plan no more, and tell nobody."""
        self._timer.stop()
        if self._task is not None:
            self._task.forget()

    def _plan(self) -> None:
        if self._task is not None:
            self._again = True
            return
        work = self._prepare()
        if work is not None:
            task = tasks.Task(self._title, work, self._done, self._fail, hidden=True)
            self._task = tasks.start(task)

    def _done(self, answer: Any) -> None:
        if not self._is_stale():
            self.planned.emit(answer)

    def _fail(self, error: Exception) -> None:
        if not self._is_stale():
            self.failed.emit(error)

    def _is_stale(self) -> bool:
        """Tell whether something changed since the plan was asked for; another is then made."""
        self._task = None
        if self._again:
            self._again = False
            self._plan()
            return True
        return self._timer.isActive()
