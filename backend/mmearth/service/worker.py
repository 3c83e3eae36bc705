"""The process that computes.

It is apart from the service, so a crash, or the system's out-of-memory killer, ends a job and not
the service. Both speak in lines of JSON: a command a line on the worker's standard input, an event
a line on its standard output. The worker ends when its input does, that is, when the service ends.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from mmearth.api import Problem
from mmearth.errors import DiskFullError, JobCancelled, MMEarthError, OutOfMemoryError, is_disk_full
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import forget_previews, read_spec, run_job
from mmearth.service.logs import log_to
from mmearth.settings import Settings

REPORT_SECONDS = 0.2  # at most so often is progress told

log = logging.getLogger(__name__)


class Worker:
    """Takes one job after the other from its standard input."""

    def __init__(self, settings: Settings, out: TextIO) -> None:
        self._settings = settings
        self._out = out
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled = threading.Event()
        self._told = 0.0

    def serve(self, commands: TextIO) -> None:
        """Work until the input ends."""
        threading.Thread(target=self._listen, args=(commands,), daemon=True).start()
        self._tell({"event": "ready", "pid": os.getpid()})
        while True:
            self._work(self._jobs.get())

    def _listen(self, commands: TextIO) -> None:
        for line in commands:
            command = json.loads(line)
            if command["command"] == "run":
                self._cancelled.clear()
                self._jobs.put(command)
            elif command["command"] == "forget":
                self._jobs.put(command)  # in turn: the job under way still needs what it has
            elif command["command"] == "cancel":
                self._cancelled.set()
        os._exit(0)  # the service is gone; whatever runs has nobody to report to

    def _work(self, command: dict[str, Any]) -> None:
        if command["command"] == "forget":
            forget_previews()
            return
        context = JobContext(self._settings, self._report, self._cancelled.is_set, self._tell_log)
        try:
            result = run_job(read_spec(command["spec"]), context)
            self._tell({"event": "succeeded", "result": result.model_dump(mode="json")})
        except JobCancelled:
            self._tell({"event": "cancelled"})
        except MMEarthError as error:
            self._fail(error)
        except MemoryError:
            self._fail(
                OutOfMemoryError(
                    "The memory of this machine does not suffice for this job.",
                    "Close other programs, or choose a smaller area.",
                )
            )
        except Exception as error:
            if is_disk_full(error):
                self._fail(DiskFullError("The disk is full.", "Free some space and run again."))
                return
            log.error("Job failed:\n%s", traceback.format_exc())
            self._fail(
                MMEarthError(
                    f"Something went wrong that should not: {type(error).__name__}: {error}.",
                    "Please report it, with the log file of the backend.",
                )
            )

    def _fail(self, error: MMEarthError) -> None:
        self._tell({"event": "failed", "error": Problem.of(error).model_dump()})

    def _report(self, progress: float, stage: str, eta: float | None) -> None:
        now = time.monotonic()
        if now - self._told >= REPORT_SECONDS:
            self._told = now
            self._tell({"event": "progress", "progress": progress, "stage": stage, "eta": eta})

    def _tell_log(self, path: Path) -> None:
        self._tell({"event": "log", "path": str(path)})

    def _tell(self, event: dict[str, Any]) -> None:
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()


def main() -> None:
    """Run the worker process."""
    settings = Settings()
    # Standard output carries events only; whatever libraries print goes to standard error.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    log_to(settings, "worker")
    Worker(settings, events).serve(sys.stdin)


if __name__ == "__main__":
    main()
