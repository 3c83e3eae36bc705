"""Starting programs: QGIS with a script, and the command-line twin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCENE = ROOT / "resources" / "sample" / "thailand_20200223.tif"
SCRIPTS = Path(__file__).parent / "scripts"
HOME = Path(os.environ["MMEARTH_HOME"])  # with the environment that ``make setup`` made


def in_qgis(script: Path, *arguments: object, options: tuple[object, ...] = ()) -> list[str]:
    """Return the command that runs a script inside QGIS."""
    start = [sys.executable, ROOT / "tools" / "run_in_qgis.py", *options, script, *arguments]
    return [str(part) for part in start]


def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output."""
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for something to come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not come about in time."
        time.sleep(0.1)


def mmearth(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command-line twin."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "backend")}
    return run([sys.executable, "-m", "mmearth", *arguments], env=environment)
