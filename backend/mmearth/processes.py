"""Telling whether the process that owns something still lives."""

from __future__ import annotations

import contextlib
import os

import psutil


def process_stamp(pid: int | None = None) -> str:
    """Return text that names a process, by default this one, for good.

    A number alone would not do: the system uses the numbers of ended processes again.
    """
    pid = os.getpid() if pid is None else pid
    return f"{pid} {psutil.Process(pid).create_time():.2f}"


def is_alive(stamp: str) -> bool:
    """Tell whether the process of a stamp runs."""
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        pid = int(stamp.split()[0])
        running = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return running and process_stamp(pid) == stamp
    return False
