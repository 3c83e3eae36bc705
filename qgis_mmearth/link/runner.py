"""Running the programs of an installation: logged, followed, cancelled, explained."""

import queue
import subprocess  # constants only; programs are started by .child
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

from . import advice, child
from .errors import InstallCancelled, InstallError

Progress = Callable[[float, str], None]
Cancelled = Callable[[], bool]

DOWNLOAD_SHARE = 0.8  # of a step's progress; the rest is unpacking


class Runner:
    """Runs programs one after the other, with one log file and one progress bar."""

    def __init__(
        self, log: Path, variables: Dict[str, str], progress: Progress, cancelled: Cancelled
    ) -> None:
        self._log = log
        self._variables = variables
        self.progress = progress
        self._cancelled = cancelled

    def run(
        self,
        command: List[str],
        begin: float,
        end: float,
        *,
        packages: int = 0,
        seconds: Optional[float] = None,
    ) -> None:
        """Run a program while progress goes from ``begin`` to ``end``.

        Args:
            command: program and arguments.
            begin: progress at the start.
            end: progress at the end.
            packages: number of packages that pip will collect, to tell how far it is.
            seconds: longest time it may take.

        Raises:
            InstallCancelled: if the user cancels.
            InstallError: with advice, if it fails.
        """
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {advice.scrub(' '.join(command))}\n")
            process = child.start(
                command,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            output = []
            collected = 0
            for line in self._follow(process, seconds):
                log.write(line)
                output.append(line)
                if packages and line.startswith("Collecting "):
                    collected += 1
                    share = DOWNLOAD_SHARE * min(1.0, collected / packages)
                    name = line.split()[1].split("==")[0]
                    self.progress(begin + (end - begin) * share, f"Downloading {name}")
                elif line.startswith("Installing collected"):
                    self.progress(begin + (end - begin) * DOWNLOAD_SHARE, "Installing")
        if process.wait() != 0:
            raise _explained("".join(output))

    def _follow(self, process: subprocess.Popen, seconds: Optional[float]):
        """Yield a program's lines; end it if the user cancels or its time is over."""
        lines: "queue.Queue[Optional[str]]" = queue.Queue()

        def read() -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + seconds if seconds else None
        while True:
            if self._cancelled():
                child.stop(process)
                raise InstallCancelled("The installation was cancelled.")
            if deadline and time.monotonic() > deadline:
                child.stop(process)
                yield "Read timed out\n"
                return
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                return
            yield advice.scrub(line)


def _explained(output: str) -> InstallError:
    found = advice.explain(output)
    # Lines of ``mmearth doctor``, which checks the result.
    failed = " ".join(line[6:] for line in output.splitlines() if line.startswith("FAIL  "))
    if failed and found.code == "install":
        found = found._replace(code="check", message="The installed backend does not work.")
    return InstallError(
        f"{found.message} {failed}".strip(), found.advice, details=output[-4000:], code=found.code
    )
