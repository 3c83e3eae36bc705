"""Every error that the backend reports to a person.

    MMEarthError
    ├── InputError                  the rasters or the request do not fit
    │   ├── RasterReadError         a file cannot be opened or is damaged
    │   ├── MissingCrsError         a raster does not say where it is
    │   ├── BandMatchError          bands missing, ambiguous or not confirmed
    │   ├── RadiometryError         pixel values are not what the model reads
    │   └── EmptyAreaError          nothing to map: no overlap, or no data at all
    ├── OutputError                 the result cannot be written
    │   └── DiskFullError
    ├── ModelError                  unknown, damaged or incompatible model
    │   ├── WeightsError            a file of weights is damaged, hostile, or another one
    │   ├── MissingExtraError       an optional part of the backend is not installed
    │   ├── LicenceError            its licence is not accepted
    │   └── ModelInUseError         a job under way needs it
    ├── TrainingError               training failed, by diverging for example
    ├── DownloadError               a server does not give the file that is expected
    ├── JobError
    │   ├── JobNotFoundError
    │   ├── JobOfOtherServiceError  another window has it under way
    │   ├── JobCancelled
    │   ├── WorkerDiedError         the process that computed the job ended
    │   ├── ClusterError            a cluster cannot be reached, or its workers cannot compute
    │   └── OutOfMemoryError
    └── AccessError                 a request without the right token, host or type

A message says what was expected and what was found; ``advice`` says what to do. Both reach the
user unchanged, so they hold no jargon and no traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable


class MMEarthError(Exception):
    """Base of all errors with a message fit for a person.

    Attributes:
        code: stable identifier, the same in the API and in the plugin's translations.
        status: HTTP status used when the error answers a request.
        advice: what the reader can do about it, one or two sentences, may be empty.
    """

    code = "error"
    status = 500

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class InputError(MMEarthError):
    """Raised when the rasters or the request do not fit."""

    code = "input"
    status = 422


class RasterReadError(InputError):
    """Raised when a raster cannot be opened or its pixels cannot be read."""

    code = "raster_unreadable"


class MissingCrsError(InputError):
    """Raised when a raster has no coordinate reference system."""

    code = "missing_crs"


class BandMatchError(InputError):
    """Raised when the model's bands cannot be found for certain."""

    code = "bands"


class RadiometryError(InputError):
    """Raised when pixel values are not the quantity that the model reads."""

    code = "radiometry"


class EmptyAreaError(InputError):
    """Raised when the chosen area holds no pixel to map."""

    code = "empty_area"


class OutputError(MMEarthError):
    """Raised when a result cannot be written."""

    code = "output"
    status = 422


class DiskFullError(OutputError):
    """Raised when the disk of the result or of the working folder is full."""

    code = "disk_full"
    status = 507


class ModelError(MMEarthError):
    """Raised when a model is unknown, damaged or made for something else."""

    code = "model"
    status = 422


class LicenceError(ModelError):
    """Raised when the user has not accepted the licence of a published model."""

    code = "licence"


class WeightsError(ModelError):
    """Raised when a file of weights is damaged, holds more than weights, or is another one."""

    code = "weights"


class MissingExtraError(ModelError):
    """Raised when a model needs a part of the backend that is installed on demand only."""

    code = "needs_extra"


class ModelInUseError(ModelError):
    """Raised when a model is to be removed that a job under way needs."""

    code = "model_in_use"
    status = 409


class TrainingError(MMEarthError):
    """Raised when training fails, by diverging for example."""

    code = "training"
    status = 422


class DownloadError(MMEarthError):
    """Raised when a server cannot be reached, or does not give the file that is expected."""

    code = "download"
    status = 502


class JobError(MMEarthError):
    """Raised when a job cannot be run to its end."""

    code = "job"


class JobNotFoundError(JobError):
    """Raised when a job identifier is unknown."""

    code = "job_not_found"
    status = 404


class JobOfOtherServiceError(JobError):
    """Raised when a job that another service computes is to be stopped."""

    code = "job_elsewhere"
    status = 409


class JobCancelled(JobError):
    """Raised inside a job when its user has cancelled it."""

    code = "cancelled"
    status = 409


class WorkerDiedError(JobError):
    """Raised when the process that computed a job ended unexpectedly."""

    code = "worker_died"


class ClusterError(JobError):
    """Raised when a cluster cannot be reached, or its workers cannot compute."""

    code = "cluster"
    status = 502


class OutOfMemoryError(JobError):
    """Raised when a job needs more memory than the machine can give."""

    code = "out_of_memory"


class AccessError(MMEarthError):
    """Raised when a request lacks the right token, host or content type."""

    code = "access"
    status = 401

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an exception, or one that caused it, means that the disk is full.

    GDAL reports a full disk only in its text, so the text of its errors is read too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "no space left" in str(seen).lower():
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def counted(number: int, noun: str) -> str:
    """Write how many there are of something into a sentence: 1 point, 2,000 points."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Iterable[str], limit: int = 16) -> str:
    """Write names into a sentence, each once; of hundreds of bands, only the first."""
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more
