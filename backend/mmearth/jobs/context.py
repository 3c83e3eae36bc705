"""What a running job may ask of its surroundings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmearth.errors import JobCancelled
from mmearth.settings import Settings


@dataclass
class JobContext:
    """Settings, and the two lines between a job and whoever waits for it.

    Attributes:
        settings: settings of the backend.
        report: called with progress (0..1), what is being done, and seconds left if known.
        is_cancelled: asked often; true once the user has had enough.
        log: called with the file to which a training writes a line of JSON now and then.
    """

    settings: Settings
    report: Callable[[float, str, float | None], None] = lambda progress, stage, eta: None
    is_cancelled: Callable[[], bool] = lambda: False
    log: Callable[[Path], None] = lambda path: None
    started: float = field(default_factory=time.monotonic)

    def check_cancelled(self) -> None:
        """Raise ``JobCancelled`` if the job is to stop."""
        if self.is_cancelled():
            raise JobCancelled("Cancelled.")

    def elapsed(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self.started
