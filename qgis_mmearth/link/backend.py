"""The backend as the plugin sees it: one object that is installed, started, asked and stopped."""

import threading
from typing import Callable, Optional

from .client import Client
from .environment import Environment, State
from .errors import BackendError, BackendStartError, InstallError
from .process import BackendProcess


class Backend:
    """The backend of this QGIS. Safe to use from several threads."""

    def __init__(self, environment: Environment, variables: Optional[dict] = None) -> None:
        self.environment = environment
        self._extra = variables or {}
        self._lock = threading.Lock()
        self._process: Optional[BackendProcess] = None
        self._client: Optional[Client] = None

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> Optional[int]:
        """Number of the backend's process."""
        return self._process.pid if self._process else None

    def client(self) -> Client:
        """Return a client of the running backend; start the backend if needed. May take seconds.

        Raises:
            InstallError: if the environment is not ready.
            BackendStartError: if the backend does not come up.
        """
        with self._lock:
            if self._client and self.running and self._answers():
                return self._client
            state = self.environment.state()
            if state not in (State.ready, State.external):
                raise InstallError(
                    {
                        State.missing: "The backend is not installed.",
                        State.incomplete: "The backend's installation is incomplete.",
                        State.outdated: "The backend is from another version of the plugin.",
                    }[state],
                    "Open the MMEarth panel and press the button of the backend.",
                    code=state.value,
                )
            self._halt()
            process = BackendProcess(
                self.environment.python,
                {**self.environment.variables(), **self._extra},
                self.environment.home / "logs" / "start.log",
            )
            self._process = process
            self._client = Client(process.start())
            return self._client

    def run_job(
        self, spec: dict, report: Callable[[dict], None], cancelled: Callable[[], bool]
    ) -> dict:
        """Run a job to its end and return it; see ``Client.run_job``.

        Raises:
            LinkError: if it cannot be run, or fails.
        """
        client = self.client()
        try:
            return client.run_job(spec, report, cancelled)
        except BackendError as error:
            process = self._process
            if error.code == "connection" and process and not process.alive:
                raise BackendStartError(
                    f"The backend ended in the middle of the job (exit code {process.exit_code}).",
                    "Run it again: the backend is started anew and goes on where it stopped.",
                    details=process.log_tail(),
                    code="died",
                ) from error
            raise

    def stop(self) -> None:
        """End the backend; it starts again at its next use."""
        with self._lock:
            self._halt()

    def _answers(self) -> bool:
        try:
            self._client.health()
        except BackendError:
            return False
        return True

    def _halt(self) -> None:
        if self._client:
            self._client.close()
        if self._process:
            self._process.stop()
        self._process = self._client = None
