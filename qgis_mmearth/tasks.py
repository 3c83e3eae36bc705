"""Work that QGIS's task manager shows: installing, starting, planning and running.

An exception that leaves ``run`` ends QGIS, so it is kept and handed over in the main thread.
"""

import traceback
from typing import Any, Callable, Dict, Optional

from qgis.core import QgsApplication, QgsTask, QgsTaskManager
from qgis.PyQt.QtCore import pyqtSignal

from .link.errors import LinkError

Done = Callable[[Any], None]
Failed = Callable[[LinkError], None]
Progress = Callable[[float, str, Optional[float]], None]


class Task(QgsTask):
    """Calls a function in a thread of its own and tells the main thread how it went.

    The function gets this task: it may call ``report`` and should ask ``isCanceled`` often.
    """

    _told = pyqtSignal(float, str, object)
    """Progress, words and seconds left; QGIS's own signal tells only numbers that have changed."""

    def __init__(
        self,
        title: str,
        work: Callable[["Task"], Any],
        done: Done,
        failed: Failed,
        *,
        progress: Optional[Progress] = None,
        hidden: bool = False,
    ) -> None:
        super().__init__(title, QgsTask.Flag.CanCancel)
        self.hidden = hidden
        self._work = work
        self._done = done
        self._failed = failed
        self._progress = progress
        self._result: Any = None
        self._error: Optional[LinkError] = None
        self._told.connect(self._tell)

    def report(self, share: float, words: str, seconds_left: Optional[float] = None) -> None:
        """Tell progress, from the task's thread."""
        self._told.emit(share, words, seconds_left)
        self.setProgress(min(100.0, max(0.0, share * 100)))

    def forget(self) -> None:
        """Cancel, and call back no more: whoever waits for this task goes before it ends."""
        self._done = self._failed = lambda _outcome: None
        self._progress = None
        if self in _running:  # else QGIS may have deleted it
            self.cancel()

    def run(self) -> bool:
        """Do the work; called by QGIS in a thread."""
        try:
            self._result = self._work(self)
        except LinkError as error:
            self._error = error
        except Exception as error:
            self._error = LinkError(
                f"Something went wrong that should not: {error}.",
                "Please report it.",
                details=traceback.format_exc(),
            )
        return self._error is None and not self.isCanceled()

    def finished(self, _good: bool) -> None:
        """Hand over the result; called by QGIS in the main thread."""
        _running.discard(self)
        if self._error is not None:
            self._failed(self._error)
        elif self._result is not None or not self.isCanceled():
            self._done(self._result)
        else:
            self._failed(LinkError("Cancelled.", code="cancelled"))

    def _tell(self, share: float, words: str, seconds_left: Optional[float]) -> None:
        if self._progress:
            self._progress(share, words, seconds_left)


_running = set()  # QGIS keeps no Python reference to its tasks


def start(task: Task) -> Task:
    """Hand a task to QGIS's task manager; a hidden one to a manager that nobody watches."""
    _running.add(task)
    (_unseen() if task.hidden else QgsApplication.taskManager()).addTask(task)
    return task


def _unseen() -> QgsTaskManager:
    """Return the manager of hidden tasks: QGIS tells of its own's, and before 3.26 of every one."""
    seen = QgsApplication.taskManager()
    found = seen.findChild(QgsTaskManager)
    return found if found is not None else QgsTaskManager(seen)


def job_report(task: Task) -> Callable[[Dict[str, Any]], None]:
    """Return what tells a task the progress of a job of the backend."""

    def report(job: Dict[str, Any]) -> None:
        task.report(job["progress"], job["stage"], job["eta_seconds"])

    return report
