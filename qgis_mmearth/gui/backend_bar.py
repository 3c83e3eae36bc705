"""The line of the panel that shows the backend's state, with one button that follows it."""

from enum import Enum
from typing import Optional

from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QLabel, QPushButton
from qgis.utils import iface

from .. import shared, tasks
from ..link.environment import State
from ..link.errors import LinkError

WATCH_MS = 2000


class Status(Enum):
    """What the backend is doing, and what the button then offers."""

    missing = "missing"
    incomplete = "incomplete"
    outdated = "outdated"
    absent = "absent"
    installing = "installing"
    stopped = "stopped"
    starting = "starting"
    running = "running"


# Before anything can run, the button has to be pressed.
NEEDS_BUTTON = (Status.missing, Status.incomplete, Status.outdated, Status.absent)

_COLORS = {
    Status.running: "#2e7d32",
    Status.starting: "#c77700",
    Status.installing: "#c77700",
    Status.stopped: "#808080",
}


class BackendBar(QObject):
    """Installs, starts and stops the backend."""

    ready = pyqtSignal()
    """The backend has just come up."""
    failed = pyqtSignal(object)
    """Something went wrong; carries a LinkError."""
    changed = pyqtSignal()
    """The state is another, whoever changed it."""

    def __init__(self, label: QLabel, button: QPushButton) -> None:
        super().__init__(button)
        self._label = label
        self._button = button
        self._task: Optional[tasks.Task] = None
        self._starting = False
        self._progress = ""
        self._info = ""
        self._shown: Optional[Status] = None
        button.clicked.connect(self.press)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)
        self._timer.start(WATCH_MS)
        self.refresh()

    @property
    def status(self) -> Status:
        """Return what the backend is doing."""
        if self._task is not None:
            return Status.starting if self._starting else Status.installing
        backend = shared.backend()
        if backend.running:
            return Status.running
        state = backend.environment.state()
        if state in (State.ready, State.external):
            return Status.stopped
        return Status(state.value)

    def start_if_installed(self) -> None:
        """Start the backend, unless it runs or has to be installed first."""
        if self.status is Status.stopped:
            self._start()
        elif self.status is Status.running:
            self.ready.emit()

    def press(self) -> None:
        """Do what the button says."""
        status = self.status
        if status is Status.running:
            shared.backend().stop()
        elif status is Status.stopped:
            self._start()
        elif status is Status.installing:
            self._task.cancel()
        elif status is Status.absent:
            from .settings_page import PAGE

            iface.showOptionsDialog(iface.mainWindow(), PAGE)
        elif status is not Status.starting:
            self._install()
        self.refresh()

    def refresh(self) -> None:
        """Show the present state."""
        status = self.status
        words, button = {
            Status.missing: (
                self.tr("The backend is not installed (about 1 GB on disk)."),
                self.tr("Install backend"),
            ),
            Status.incomplete: (
                self.tr("The backend's installation is incomplete."),
                self.tr("Repair backend"),
            ),
            Status.outdated: (
                self.tr("The backend is from another version."),
                self.tr("Update backend"),
            ),
            Status.absent: (
                self.tr("The existing Python of the settings is not there."),
                self.tr("Open settings"),
            ),
            Status.installing: (self._progress, self.tr("Cancel")),
            Status.stopped: (self.tr("Backend stopped"), self.tr("Start backend")),
            Status.starting: (self.tr("Backend starting…"), self.tr("Starting…")),
            Status.running: (
                self.tr("Backend ready") + (f" · {self._info}" if self._info else ""),
                self.tr("Stop backend"),
            ),
        }[status]
        color = _COLORS.get(status, "#c62828")
        self._label.setText(f'<span style="color:{color}">●</span> {words}')
        self._button.setText(button)
        self._button.setEnabled(status is not Status.starting)
        if status is not self._shown:
            self._shown = status
            self.changed.emit()

    def shut_down(self) -> None:
        """Stop watching, and an installation if there is one."""
        self._timer.stop()
        if self._task is not None:
            self._task.forget()

    def _start(self) -> None:
        def work(_task):
            return shared.backend().client().info()

        self._begin(tasks.Task(self.tr("Starting MMEarth"), work, self._started, self._fail,
                               hidden=True), starting=True)  # fmt: skip

    def _install(self) -> None:
        environment = shared.backend().environment

        def work(task):
            environment.install(task.report, task.isCanceled)

        def progress(share, words, _left):
            self._progress = f"{words} ({100 * share:.0f} %)"
            self.refresh()

        title = self.tr("Installing MMEarth's backend")
        self._begin(tasks.Task(title, work, self._installed, self._fail, progress=progress))

    def _begin(self, task: tasks.Task, starting: bool = False) -> None:
        self._starting = starting
        self._progress = self.tr("Installing…")
        self._task = tasks.start(task)
        self.refresh()

    def _installed(self, _result) -> None:
        self._task = None
        self._start()

    def _started(self, info) -> None:
        self._task = None
        self._info = self.tr("{} threads").format(info["threads"])
        if info["device"] not in ("auto", "cpu"):
            self._info = info["device"].upper()
        self.refresh()
        self.ready.emit()

    def _fail(self, error: LinkError) -> None:
        self._task = None
        self.refresh()
        if error.code != "cancelled":
            self.failed.emit(error)
