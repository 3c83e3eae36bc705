"""The backend's process: started at first use, ended with QGIS."""

import json
import os
import queue
import secrets
import subprocess  # constants only; programs are started by .child
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, NamedTuple, Optional

from . import child
from .errors import BackendStartError

API_VERSION = 1
START_SECONDS = 60.0  # antivirus programs read every file of a fresh installation first
STOP_SECONDS = 3.0  # for a backend that listens; it has work to put down
EARLY_STOP_SECONDS = 0.5  # for one that does not listen yet, and may never
POLL_SECONDS = 0.1
LOG_BYTES = 2**20


class Address(NamedTuple):
    """Where a running backend listens, and the secret that opens it."""

    port: int
    secret: str


class BackendProcess:
    """A backend that belongs to this QGIS and dies with it.

    Its standard input is a pipe that nobody writes to: when QGIS ends, however it ends, the pipe
    closes and the backend stops. It also watches the process number of QGIS, and on Windows it is
    in a job that the system ends with QGIS.

    One thread starts it; any thread may stop it, also while it starts.
    """

    def __init__(self, python: Path, variables: Dict[str, str], log: Path) -> None:
        self._python = python
        self._variables = variables
        self._log = log
        self._process: Optional[subprocess.Popen] = None
        self._job = None
        self._log_start = 0
        self._listens = False
        self._guard = threading.Lock()  # a process is either not started or seen by ``stop``
        self.stopped = False
        """True once ``stop`` was called."""

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Wait for the process to end; tell whether it has."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return not self.alive

    @property
    def pid(self) -> Optional[int]:
        """Number of the process, if it was started."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> Optional[int]:
        """How the process ended, None while it runs."""
        return self._process.poll() if self._process else None

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> Address:
        """Start the process and wait until it answers.

        Raises:
            BackendStartError: with what it said, if it does not come up; with the code
                ``stopped`` or ``cancelled`` if it was not let.
        """
        secret = secrets.token_urlsafe(32)
        try:
            self._spawn(secret)
            port = self._handshake(cancelled)["port"]
        except BackendStartError:
            self.stop()
            raise
        self._listens = True
        return Address(port, secret)

    def stop(self) -> None:
        """End the process: by closing its input, then by force."""
        with self._guard:
            self.stopped = True
        if self._process is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS if self._listens else EARLY_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.stop(self._process)

    def log_tail(self, lines: int = 12) -> str:
        """Return the end of what the process said."""
        try:
            said = self._log.read_bytes()[self._log_start :]
        except OSError:
            return ""
        return "\n".join(said.decode("utf-8", "replace").splitlines()[-lines:])

    def _spawn(self, secret: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with _rotated(self._log).open("ab") as log, self._guard:
            if self.stopped:
                raise _was_stopped()
            self._log_start = log.tell()
            try:
                self._process = child.start(
                    self._command(),
                    # The environment of a process is private to its user; its arguments are not.
                    env={**self._variables, "MMEARTH_TOKEN": secret},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            except OSError as error:
                raise BackendStartError(
                    f"The backend's Python {self._python} cannot be started: {error.strerror}."
                ) from error
        if sys.platform == "win32":
            from .windows import end_with_this_process

            self._job = end_with_this_process(self._process)

    def _command(self) -> List[str]:
        return [
            str(self._python), "-s", "-u", "-m", "mmearth", "serve",
            "--parent-pid", str(os.getpid()),
        ]  # fmt: skip

    def _handshake(self, cancelled: Callable[[], bool]) -> Dict:
        """Return what the backend prints in one line once it listens."""
        line = self._first_line(cancelled)
        if self.stopped:  # and ended for that reason
            raise _was_stopped()
        try:
            hello = json.loads(line or b"null")
        except ValueError:
            hello = None
        if not hello:
            self.stop()  # to learn how it ended
            raise BackendStartError(
                f"The backend did not start (exit code {self.exit_code}).",
                details=self.log_tail(),
            )
        if hello.get("api") != API_VERSION:
            raise BackendStartError(
                f"The backend speaks version {hello.get('api')} of the interface, this plugin "
                f"version {API_VERSION}.",
                code="version",
            )
        return hello

    def _first_line(self, cancelled: Callable[[], bool]) -> bytes:
        lines: "queue.SimpleQueue[bytes]" = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process.stdout, lines), daemon=True).start()
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and not self.stopped:
            if cancelled():
                raise BackendStartError("Cancelled.", code="cancelled")
            try:
                return lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
        if self.stopped:
            return b""
        raise BackendStartError(
            f"The backend did not start within {START_SECONDS:.0f} seconds.",
            details=self.log_tail(),
        )


def _read(stdout: BinaryIO, lines: "queue.SimpleQueue[bytes]") -> None:
    """Hand over the first line; then read on to the end, and close.

    Nobody else may close it: closing waits for this thread, which waits for the process.
    """
    with stdout:
        lines.put(stdout.readline())
        for _line in stdout:
            pass


def _was_stopped() -> BackendStartError:
    return BackendStartError(
        "The backend was stopped.", "It starts again at its next use.", code="stopped"
    )


def _rotated(log: Path) -> Path:
    """Move a log that has grown large out of the way."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.replace(log, log.with_suffix(".old.log"))
    return log
