"""Running a job at the terminal."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from mmearth.api import Problem
from mmearth.errors import JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.settings import Settings

EXIT_ERROR = 1
Result = TypeVar("Result")


def follow(
    run: Callable[[JobContext], Result], settings: Settings, *, keeps: bool = False
) -> Result:
    """Run a job with a line of progress.

    Args:
        run: the job.
        settings: settings of the backend.
        keeps: whether the job, if cancelled, has something to keep: Ctrl+C then lets it do so, and
            stops it at once when it is pressed again.

    Raises:
        MMEarthError: whatever stands in its way.
        JobCancelled: if the user presses Ctrl+C.
    """
    cancelled = threading.Event()

    def interrupt(_signal: int, _frame: object) -> None:
        if cancelled.is_set() or not keeps:
            raise KeyboardInterrupt
        cancelled.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return run(JobContext(settings, _Progress(), cancelled.is_set))
    except KeyboardInterrupt:
        raise JobCancelled("Cancelled.") from None
    finally:
        signal.signal(signal.SIGINT, before)
        _Progress.end()


def print_warnings(warnings: list[Problem]) -> None:
    """Tell warnings on standard error."""
    for warning in warnings:
        print(f"Warning: {warning.message} {warning.advice}", file=sys.stderr)


class _Progress:
    """One line on the terminal that is written over; silent if there is no terminal."""

    def __call__(self, progress: float, stage: str, eta: float | None) -> None:
        if sys.stderr.isatty():
            left = f", {eta:,.0f} s left" if eta is not None else ""
            print(f"\r{progress:4.0%} {stage}{left}\033[K", end="", file=sys.stderr, flush=True)

    @staticmethod
    def end() -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
