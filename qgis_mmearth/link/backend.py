"""The backend as the plugin sees it: one object that is installed, started, asked and stopped."""

import re
import threading
from typing import Callable, Optional

from .client import POLL_SECONDS, Client
from .environment import Environment, State
from .errors import BackendError, BackendStartError, InstallError
from .process import BackendProcess

WAIT_SECONDS = 0.1
END_SECONDS = 2.0  # a dying process closes its connections before the system tells of its end


def never() -> bool:
    """Tell that nobody has cancelled."""
    return False


class Backend:
    """The backend of this QGIS. Safe to use from several threads."""

    def __init__(self, environment: Environment, variables: Optional[dict] = None) -> None:
        self.environment = environment
        self._extra = variables or {}
        # Held while the backend comes up, which may take a minute; stopping does not wait for it.
        self._starting = threading.Lock()
        self._process: Optional[BackendProcess] = None
        self._client: Optional[Client] = None
        self._counting = threading.Lock()
        self._jobs = 0

    @property
    def busy(self) -> bool:
        """True while a job is asked for or runs."""
        return self._jobs > 0

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> Optional[int]:
        """Number of the backend's process."""
        return self._process.pid if self._process else None

    def client(self, cancelled: Callable[[], bool] = never) -> Client:
        """Return a client of the running backend; start the backend if needed. May take seconds.

        Raises:
            InstallError: if the environment is not ready.
            BackendStartError: if the backend does not come up; with the code ``cancelled`` if
                ``cancelled`` says so, and ``stopped`` if it is stopped meanwhile.
        """
        while not self._starting.acquire(timeout=WAIT_SECONDS):
            _check(cancelled)
        try:
            _check(cancelled)
            if not (self._client and self.running and self._answers()):
                self._start(cancelled)
            return self._client
        finally:
            self._starting.release()

    def run_job(
        self,
        spec: dict,
        report: Callable[[dict], None],
        cancelled: Callable[[], bool],
        every: float = POLL_SECONDS,
    ) -> dict:
        """Run a job to its end and return it; see ``Client.run_job``.

        One that is cancelled before the backend is up is returned as such, without an identifier.

        Raises:
            LinkError: if it cannot be run, or fails.
        """
        with self._counting:
            self._jobs += 1
        try:
            return self._run_job(spec, report, cancelled, every)
        finally:
            with self._counting:
                self._jobs -= 1

    def _run_job(
        self,
        spec: dict,
        report: Callable[[dict], None],
        cancelled: Callable[[], bool],
        every: float = POLL_SECONDS,
    ) -> dict:
        try:
            client = self.client(cancelled)
        except BackendStartError as error:
            if error.code == "cancelled":
                return {"state": "cancelled", "result": None}
            raise
        process = self._process
        try:
            return client.run_job(spec, report, cancelled, every)
        except BackendError as error:
            if error.code != "connection":
                raise
            if process.stopped:
                raise BackendStartError(
                    "The backend was stopped in the middle of the job.",
                    "Run it again: it goes on where it stopped.",
                    code="stopped",
                ) from error
            if process.ends_within(END_SECONDS):
                raise BackendStartError(
                    f"The backend ended in the middle of the job (exit code {process.exit_code}).",
                    "Run it again: the backend is started anew and goes on where it stopped.",
                    details=process.log_tail(),
                    code="died",
                ) from error
            raise

    def forget_previews(self) -> None:
        """Let the backend free what it keeps for previews; one that does not run keeps nothing.

        Raises:
            BackendError: if it does not answer.
        """
        client = self._client
        if client and self.running:
            client.forget_previews()

    def stop(self) -> None:
        """End the backend, also one that is coming up; it starts again at its next use."""
        process = self._process
        if process:
            process.stop()

    def _start(self, cancelled: Callable[[], bool]) -> None:
        self._check_installed()
        if self._client:
            self._client.close()
        self.stop()
        self._process = BackendProcess(
            self.environment.python,
            {**self.environment.variables(), **self._extra},
            self.environment.home / "logs" / "start.log",
        )
        try:
            self._client = Client(self._process.start(cancelled))
        except BackendStartError as error:
            if error.code not in ("cancelled", "stopped"):
                self._advise(error)
            raise

    def _check_installed(self) -> None:
        state = self.environment.state()
        if state in (State.ready, State.external):
            return
        if state is State.absent:
            raise BackendStartError(
                f"The existing Python {self.environment.python} cannot be started: there is no "
                "such program.",
                "Correct Existing Python in the settings, or empty it.",
                code=state.value,
            )
        raise InstallError(
            {
                State.missing: "The backend is not installed.",
                State.incomplete: "The backend's installation is incomplete.",
                State.outdated: "The backend is from another version of the plugin.",
            }[state],
            "Open the MMEarth panel and press the button of the backend.",
            code=state.value,
        )

    def _advise(self, error: BackendStartError) -> None:
        """Add what to do about a start that failed; let the panel offer a repair."""
        if self.environment.state() is State.external:
            lacking = re.findall(r"No module named '?([\w.]+)", error.details)
            if lacking:
                error.message = (
                    f"The existing Python {self.environment.python} lacks the package "
                    f"{lacking[-1]}."
                )
            error.advice = (
                "It must have all packages of the backend. Choose another in the settings, or "
                "empty Existing Python there and install the backend."
            )
        else:
            self.environment.doubt()
            error.advice = (
                "Press Repair backend in the MMEarth panel; if that does not help, report it with "
                "the log."
            )

    def _answers(self) -> bool:
        try:
            self._client.health()
        except BackendError:
            return False
        return True


def _check(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise BackendStartError("Cancelled.", code="cancelled")
