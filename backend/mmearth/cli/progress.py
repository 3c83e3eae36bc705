"""Running a job at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from mmearth.api import Problem
from mmearth.errors import JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.settings import Settings

EXIT_ERROR = 1
Result = TypeVar("Result")


def follow(run: Callable[[JobContext], Result], settings: Settings) -> Result:
    """Run a job with a line of progress.

    Raises:
        MMEarthError: whatever stands in its way.
        JobCancelled: if the user presses Ctrl+C.
    """
    try:
        return run(JobContext(settings, _Progress()))
    except KeyboardInterrupt:
        raise JobCancelled("Cancelled.") from None
    finally:
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
