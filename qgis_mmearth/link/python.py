"""Finding a Python that the backend's environment can be made from."""

import os
import shutil
import subprocess  # constants only; programs are started by .child
import sys
from pathlib import Path

from . import child
from .errors import InstallError

OLDEST = (3, 10)
NAMES = ["python3.13", "python3.12", "python3.11", "python3.10", "python3", "python"]


def find_python(chosen: str = "") -> str:
    """Return a Python that can make environments: the one chosen, QGIS's own, or one on the path.

    Inside QGIS ``sys.executable`` may be QGIS itself, and starting that would open another window;
    so only files that are named like a Python are tried.

    Raises:
        InstallError: if there is none.
    """
    candidates = [chosen] if chosen else _candidates()
    for python in dict.fromkeys(candidates):
        if os.access(python, os.X_OK) and _is_suitable(python):
            return python
    oldest = ".".join(map(str, OLDEST))
    where = f" at {chosen}" if chosen else ""
    raise InstallError(
        f"No Python of version {oldest} or newer that can make environments was found{where}.",
        "Install one (Debian and Ubuntu: python3 and python3-venv) or name one in the settings.",
        code="python_missing",
    )


def _candidates() -> "list[str]":
    suffix = ".exe" if sys.platform == "win32" else ""
    prefix = Path(sys.base_prefix)
    own = [
        str(folder / f"{name}{suffix}")
        for folder in (Path(sys.executable).parent, prefix, prefix / "bin")
        for name in ("python3", "python")
    ]
    return [*own, *filter(None, map(shutil.which, NAMES))]


def _is_suitable(python: str) -> bool:
    script = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < {OLDEST})"
    process = child.start(
        [python, "-c", script],
        env=child.clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return process.wait() == 0
