"""A lock between processes that the system releases when its holder ends, however it ends."""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from .errors import InstallCancelled

if os.name == "nt":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def exclusive(
    path: Path, cancelled: Callable[[], bool], waiting: Callable[[], None]
) -> Iterator[None]:
    """Hold a lock file; wait for others, calling ``waiting`` now and then.

    Raises:
        InstallCancelled: if ``cancelled`` says so while waiting.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        while not _try_lock(handle):
            if cancelled():
                raise InstallCancelled("The installation was cancelled.")
            waiting()
            time.sleep(0.5)
        yield
    finally:
        os.close(handle)
