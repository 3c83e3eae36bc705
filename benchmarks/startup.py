"""What the plugin costs a QGIS that does not use it."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.common import row

QGIS_PYTHON = "/usr/bin/python3"
ROUNDS = 9
BOUND = 50.0  # ms
SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import qgis.core, qgis.gui, qgis.utils, qgis.PyQt.QtWidgets
start = time.perf_counter()
import qgis_mmearth.plugin
print((time.perf_counter() - start) * 1000)
"""


def measure(_scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    times = [
        float(subprocess.check_output([QGIS_PYTHON, "-c", SCRIPT, str(ROOT)], text=True))
        for _ in range(ROUNDS)
    ]
    middle = statistics.median(times)
    return [
        row(f"importing the plugin, ms (median of {ROUNDS})", middle, f"less than {BOUND:g}",
            middle < BOUND)
    ]  # fmt: skip
