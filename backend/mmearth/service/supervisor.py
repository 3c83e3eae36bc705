"""The queue of jobs, and the care for the process that computes them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess  # starts our own worker, with a fixed list of arguments
import sys
import threading
import time
import uuid
from collections import deque
from datetime import datetime, timezone
from typing import Any

from mmearth.api import Job, JobSpec, JobState, Problem
from mmearth.errors import (
    JobError,
    JobOfOtherServiceError,
    MMEarthError,
    OutOfMemoryError,
    WorkerDiedError,
)
from mmearth.jobs.work import tidy_up
from mmearth.service.store import JobStore
from mmearth.settings import Settings

STOP_SECONDS = 3.0
GDAL_CACHE_MB = 128  # GDAL's default is a share of all memory

log = logging.getLogger(__name__)


class Supervisor:
    """Runs jobs one after the other in a worker process, which starts with the first of them."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self._settings = settings
        self._store = store
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._worker: _WorkerProcess | None = None
        self._running: str | None = None
        self._kill_at: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    @property
    def running(self) -> str | None:
        """Identifier of the job that is being computed."""
        return self._running

    @property
    def queued(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """True if there is work left."""
        return self._running is not None or bool(self._waiting)

    def submit(self, spec: JobSpec) -> Job:
        """Queue a job.

        Raises:
            OutputError: if it cannot be recorded, because the disk is full for example.
        """
        job = Job(
            id=uuid.uuid4().hex,
            state=JobState.queued,
            spec=spec,
            stage="Waiting",
            created=datetime.now(timezone.utc),
        )
        with self._lock:
            self._record(job)
            self._jobs[job.id] = job
            self._waiting.append(job.id)
            self._wake.notify_all()
        return job

    def get(self, job_id: str) -> Job:
        """Return a job, also one of an earlier service.

        Raises:
            JobNotFoundError: if there is none.
        """
        with self._lock:
            if job_id in self._jobs:
                return self._jobs[job_id]
        return self._store.get(job_id)

    def all(self) -> list[Job]:
        """Return all jobs, newest first; those under way with their latest progress."""
        with self._lock:
            return [self._jobs.get(job.id, job) for job in self._store.all()]

    def cancel(self, job_id: str) -> Job:
        """Stop a job; one that is over stays as it is, one that is told twice is stopped by force.

        A training that is told once keeps what it has learned, and succeeds.

        Raises:
            JobNotFoundError: if there is none.
        """
        with self._lock:
            job = self.get(job_id)
            if job_id in self._waiting:
                self._waiting.remove(job_id)
                self._end(job_id, JobState.cancelled)
            elif job_id == self._running:
                if self._kill_at is None:
                    self._kill_at = time.monotonic() + job.spec.cancel_seconds
                    self._update(job_id, stage="Cancelling")
                    if self._worker:
                        self._worker.send({"command": "cancel"})
                else:
                    self._kill_at = time.monotonic()
            elif not job.state.over:
                raise JobOfOtherServiceError(
                    "This job belongs to another QGIS window.", "Cancel it in that window."
                )
            return self.get(job_id)

    def forget_previews(self) -> None:
        """Let the worker free what it keeps for previews, and know those that are over no more."""
        with self._lock:
            for job in list(self._jobs.values()):
                if job.spec.kind == "preview" and job.state.over:
                    del self._jobs[job.id]
            if self._worker and self._worker.alive:
                self._worker.send({"command": "forget"})

    def close(self) -> None:
        """Stop the worker; jobs under way are marked as cancelled."""
        with self._lock:
            self._closing = True
            for job_id in [*self._waiting, *([self._running] if self._running else [])]:
                self._end(job_id, JobState.cancelled)
            self._waiting.clear()
            self._wake.notify_all()
            worker = self._worker
        if worker:
            worker.stop()
            tidy_up(self._settings.work_folder)

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return
                job_id = self._waiting.popleft()
                self._running = job_id
                self._kill_at = None
            try:
                self._compute(job_id)
            except MMEarthError as error:
                self._end(job_id, JobState.failed, error=Problem.of(error).model_dump())
            except Exception as error:
                log.exception("Supervision failed")
                problem = Problem.of(MMEarthError(str(error)))
                self._end(job_id, JobState.failed, error=problem.model_dump())
            finally:
                self._running = None

    def _compute(self, job_id: str) -> None:
        """Hand a job to the worker and follow it to its end."""
        self._update(
            job_id,
            state=JobState.running,
            stage="Starting",
            started=datetime.now(timezone.utc),
        )
        worker = self._ready_worker()
        spec = self._jobs[job_id].spec.model_dump(mode="json")
        worker.send({"command": "run", "spec": spec})
        while True:
            event = worker.next_event(0.1)
            if event is None:
                if self._overdue():
                    worker.kill()
                    self._worker = None
                    tidy_up(self._settings.work_folder)
                    self._end(job_id, JobState.cancelled)
                    return
                continue
            match event["event"]:
                case "progress":
                    self._update(
                        job_id,
                        progress=event["progress"],
                        eta_seconds=event["eta"],
                        **({} if self._kill_at else {"stage": event["stage"]}),
                    )
                case "log":
                    self._update(job_id, log=event["path"])
                case "succeeded":
                    self._end(job_id, JobState.succeeded, result=event["result"])
                    return
                case "cancelled":
                    self._end(job_id, JobState.cancelled)
                    return
                case "failed":
                    self._end(job_id, JobState.failed, error=event["error"])
                    return
                case "died":
                    self._worker = None
                    tidy_up(self._settings.work_folder)
                    self._died(job_id, event)
                    return

    def _ready_worker(self) -> _WorkerProcess:
        if self._worker is None or not self._worker.alive:
            self._worker = _WorkerProcess(self._settings)
        return self._worker

    def _overdue(self) -> bool:
        deadline = self._kill_at
        return deadline is not None and time.monotonic() > deadline

    def _died(self, job_id: str, event: dict[str, Any]) -> None:
        if self._kill_at is not None or self._closing:
            self._end(job_id, JobState.cancelled)
            return
        log.error("Worker ended with %s: %s", event["exit"], event["words"])
        raise _why_died(event["exit"], event["words"])

    def _record(self, job: Job) -> None:
        """Keep a job on disk; previews are of the moment, and there are hundreds of them."""
        if job.spec.kind != "preview":
            self._store.save(job)

    def _update(self, job_id: str, **changes: Any) -> None:
        with self._lock:
            job = self._jobs[job_id]
            if not job.state.over:
                self._jobs[job_id] = job.model_copy(update=changes)
                if "state" in changes:
                    self._record(self._jobs[job_id])

    def _end(
        self,
        job_id: str,
        state: JobState,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, str] | None = None,
    ) -> None:
        with self._lock:
            job = self._jobs[job_id]
            if job.state.over:
                return
            facts = job.model_dump() | {
                "state": state,
                "stage": {"succeeded": "Done", "failed": "Failed"}.get(state.value, "Cancelled"),
                "progress": 1.0 if state is JobState.succeeded else job.progress,
                "eta_seconds": None,
                "finished": datetime.now(timezone.utc),
                "result": result,
                "error": error,
            }
            self._jobs[job_id] = Job.model_validate(facts)
            try:
                self._record(self._jobs[job_id])
            except MMEarthError as error:  # as long as this service lives, it knows the end
                log.error("The end of job %s is not recorded: %s", job_id, error)


class _WorkerProcess:
    """A worker and the lines that come from it."""

    def __init__(self, settings: Settings) -> None:
        environment = {
            **os.environ,
            "MMEARTH_HOME": str(settings.home),
            "MMEARTH_MODELS": str(settings.models),
            "GDAL_CACHEMAX": str(GDAL_CACHE_MB),
            # Threads that spin while they wait would slow down reading and the rest of the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
            # Else glibc keeps freed memory apart for each thread.
            "MALLOC_ARENA_MAX": "1",
        }
        environment.pop("MMEARTH_TOKEN", None)  # the worker talks to nobody
        self._process = subprocess.Popen(  # nosec B603 - own interpreter, fixed arguments
            [sys.executable, "-s", "-u", "-m", "mmearth.service.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._words: deque[str] = deque(maxlen=20)
        errors = threading.Thread(target=self._read_errors, daemon=True)
        errors.start()
        threading.Thread(target=self._read_events, args=(errors,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: dict[str, Any]) -> None:
        """Send a command; to a worker that has just died it is lost, and its death will be told."""
        stdin = self._process.stdin
        try:
            if stdin:
                stdin.write(json.dumps(command) + "\n")
                stdin.flush()
        except (OSError, ValueError):  # its end is closed, or ours because it died
            log.warning("The worker no longer listens")

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        """Return the next event, or None if none comes in time."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the worker: by closing its input, or by force."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _read_events(self, errors: threading.Thread) -> None:
        try:
            for line in self._process.stdout or []:
                self._events.put(json.loads(line))
        except ValueError:  # killed in the middle of a line; a worker that talks so is of no use
            log.warning("The worker's last line is cut off")
            self._process.kill()
        finally:
            code = self._process.wait()
            errors.join(1.0)
            self._events.put({"event": "died", "exit": code, "words": "\n".join(self._words)})
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()

    def _read_errors(self) -> None:
        if self._process.stderr is None:
            return
        with self._process.stderr as lines:
            for line in lines:
                self._words.append(line.rstrip())
                log.info("worker: %s", line.rstrip())


def _why_died(code: int, words: str) -> JobError:
    """Put the end of a worker in words. Negative codes are signals on Unix."""
    again = "Run it again: it goes on where it stopped."
    if code in (-9, 137):
        return OutOfMemoryError(
            "The computing process was killed, most likely because memory ran out.",
            f"Close other programs, or set a lower memory limit in the settings. {again}",
        )
    last = words.splitlines()[-1] if words else ""
    return WorkerDiedError(
        f"The computing process ended unexpectedly (exit code {code}). {last}".strip(),
        f"{again} If it happens again, please report it with the log file of the backend.",
    )
