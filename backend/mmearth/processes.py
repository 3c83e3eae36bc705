"""Telling whether the process that owns something still lives, and taking turns with others."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

# By so many seconds may two readings of one start differ where the system keeps it as a time.
TOLERANCE = 0 if sys.platform == "linux" else 3


def process_stamp(pid: int | None = None) -> str:
    """Return text that names a process, by default this one, for good.

    A number alone would not do: the system uses the numbers of ended processes again.

    Raises:
        ProcessLookupError: if there is no such process.
    """
    pid = os.getpid() if pid is None else pid
    return f"{pid} {_started(pid):.2f}"


def is_alive(stamp: str) -> bool:
    """Tell whether the process of a stamp runs."""
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        pid, started = stamp.split()
        running = psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
        return running and abs(_started(int(pid)) - float(started)) <= TOLERANCE
    return False


def _started(pid: int) -> float:
    """Return when a process started: on Linux in clock ticks since boot, else in seconds.

    On Linux psutil adds the boot time, which moves whenever the system's clock is set.
    """
    try:
        if sys.platform == "linux":
            # The name, in brackets, may hold spaces. The start is field 22, the state field 3.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[22 - 3])
        return psutil.Process(pid).create_time()
    except (OSError, psutil.NoSuchProcess) as error:
        raise ProcessLookupError(f"There is no process {pid}.") from error


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Wait until no other process is in here with the same path, and keep others out.

    The system lets go when the process ends, however it does.

    Args:
        path: a file for this purpose alone; made if it is missing, and left there.
        wait: whether to wait for others.

    Raises:
        BlockingIOError: if another process is in here, and is not to be waited for.
    """
    with path.open("a") as file:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except PermissionError as error:
                raise BlockingIOError(f"{path} is taken") from error
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield  # closing the file ends it
