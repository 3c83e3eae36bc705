"""What reports share: one HTML page each that needs nothing but itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmearth.files import explained, staged


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all; an older one is replaced.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """
    with staged(path) as temporary, explained(path):
        # Names of files may hold what is no text.
        temporary.write_text(page, "utf-8", errors="replace")


@cache
def environment(folder: Path) -> Environment:
    """Return what fills in the templates of a folder, which extend ``layout.html``."""
    found = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,  # titles and file names are the user's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": _percent, "points": _points, "count": _count}
    found.tests["known"] = _known
    return found


def _known(share: float | None) -> bool:
    return share is not None and not np.isnan(share)


def _percent(share: float | None, digits: int = 1) -> str:
    if share is None or np.isnan(share):
        return "–"
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _count(number: int) -> str:
    return f"{number:,}"
