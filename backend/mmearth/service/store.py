"""Job records on disk: one folder a job, written whole or not at all."""

from __future__ import annotations

import shutil
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from mmearth.api import Job, JobState, Problem
from mmearth.errors import DiskFullError, JobNotFoundError, OutputError, is_disk_full
from mmearth.jobs.work import prune, tidy_up
from mmearth.processes import is_alive, process_stamp

KEEP_RECORDS = 200
KEEP_WORK_DAYS = 7
RECORD = "job.json"
OWNER = "owner"


class JobStore:
    """Records of jobs, of this service and of earlier ones.

    Several services may share the folder, one for each QGIS window. A record names the process that
    owns it; a job whose owner is gone is shown as failed.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._owner = process_stamp()
        folder.mkdir(parents=True, exist_ok=True)
        self._prune()
        tidy_up(work)
        prune(work, time.time() - KEEP_WORK_DAYS * 86_400)

    def save(self, job: Job) -> None:
        """Write a record.

        Raises:
            DiskFullError: if the disk of the records is full.
            OutputError: if it cannot be written for another reason.
        """
        folder = self._folder / job.id
        try:
            with self._lock:
                folder.mkdir(exist_ok=True)
                _write(folder / OWNER, self._owner)
                _write(folder / RECORD, job.model_dump_json(indent=1))
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError(
                    f"The disk of {self._folder} is full: the job could not be recorded.",
                    "Free some space and run again.",
                ) from error
            raise OutputError(
                f"The job could not be recorded in {self._folder}: {error}.",
                "Make the folder writable.",
            ) from error

    def get(self, job_id: str) -> Job:
        """Read a record.

        Raises:
            JobNotFoundError: if there is none.
        """
        job = self._read(job_id) if job_id.isalnum() else None
        if job is None:
            raise JobNotFoundError(f"There is no job {job_id}.")
        return job

    def all(self) -> list[Job]:
        """Read all records, newest first."""
        jobs = [self._read(path.parent.name) for path in self._folder.glob(f"*/{RECORD}")]
        return sorted((job for job in jobs if job), key=lambda job: job.created, reverse=True)

    def _read(self, job_id: str) -> Job | None:
        folder = self._folder / job_id
        try:
            job = Job.model_validate_json((folder / RECORD).read_text("utf-8"))
            owner = (folder / OWNER).read_text("utf-8")
        except (OSError, ValidationError):
            return None
        if job.state.over or owner == self._owner or is_alive(owner):
            return job
        return job.model_copy(
            update={
                "state": JobState.failed,
                "finished": datetime.now(timezone.utc),
                "error": Problem(
                    code="interrupted",
                    message="The backend ended while this job was under way.",
                    advice="Run it again: it goes on where it stopped.",
                ),
            }
        )

    def _prune(self) -> None:
        for job in self.all()[KEEP_RECORDS:]:
            if job.state.over:
                shutil.rmtree(self._folder / job.id, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
