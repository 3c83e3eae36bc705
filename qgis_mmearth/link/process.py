"""The backend's process: started at first use, ended with QGIS."""

import json
import os
import queue
import secrets
import subprocess  # constants only; programs are started by .child
import sys
import threading
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from . import child
from .errors import BackendStartError

API_VERSION = 1
START_SECONDS = 60.0  # antivirus programs read every file of a fresh installation first
STOP_SECONDS = 5.0
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
    """

    def __init__(self, python: Path, variables: Dict[str, str], log: Path) -> None:
        self._python = python
        self._variables = variables
        self._log = log
        self._process: Optional[subprocess.Popen] = None
        self._job = None

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> Optional[int]:
        """Number of the process, if it was started."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> Optional[int]:
        """How the process ended, None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> Address:
        """Start the process and wait until it answers.

        Raises:
            BackendStartError: with the end of its log, if it does not come up.
        """
        secret = secrets.token_urlsafe(32)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with _rotated(self._log).open("ab") as log:
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
                    f"The backend's Python {self._python} cannot be started: {error.strerror}.",
                    "Repair the backend in the settings.",
                ) from error
        if sys.platform == "win32":
            from .windows import end_with_this_process

            self._job = end_with_this_process(self._process)
        return Address(self._handshake()["port"], secret)

    def stop(self) -> None:
        """End the process: by closing its input, then by force."""
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.stop(self._process)

    def log_tail(self, lines: int = 12) -> str:
        """Return the end of what the process said."""
        try:
            return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _command(self) -> List[str]:
        return [
            str(self._python), "-s", "-u", "-m", "mmearth", "serve",
            "--parent-pid", str(os.getpid()),
        ]  # fmt: skip

    def _handshake(self) -> Dict:
        """Read the one line that the backend prints once it listens."""
        lines: "queue.Queue[bytes]" = queue.Queue()
        stdout = self._process.stdout
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            hello = json.loads(lines.get(timeout=START_SECONDS) or b"null")
        except (queue.Empty, ValueError):
            hello = None
        if not hello:
            self.stop()
            raise BackendStartError(
                f"The backend did not start (exit code {self.exit_code}).",
                "Repair it in the settings; if that does not help, report it with the log.",
                details=self.log_tail(),
            )
        if hello.get("api") != API_VERSION:
            self.stop()
            raise BackendStartError(
                f"The backend speaks version {hello.get('api')} of the interface, this plugin "
                f"version {API_VERSION}.",
                "Repair the backend in the settings.",
                code="version",
            )
        return hello


def _rotated(log: Path) -> Path:
    """Move a log that has grown large out of the way."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.replace(log, log.with_suffix(".old.log"))
    return log
