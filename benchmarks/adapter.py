"""Peak memory of SpectralEarth's spectral adapter on a cube of EnMAP, in strips and whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.common import row

SIDE = 1000  # pixels
SMALL_SIDE = 300  # a whole cube of SIDE would take 14 GB
BANDS = 202  # of SpectralEarth
BOUND = 4e9  # bytes
DIFFERENCE = 1e-5  # rounding of float32
SCRIPT = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from mmearth.models.encoders import spectral
if sys.argv[2] == "whole":
    spectral.STRIP_BYTES = sys.maxsize
torch.set_num_threads(1)
torch.manual_seed(0)
adapter = spectral.SpectralAdapter().eval()
with torch.inference_mode():
    cube = torch.rand(1, int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[4]))
    start = time.perf_counter()
    adapted = adapter(cube)
    seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
np.save(sys.argv[5], adapted.numpy())
print(peak * 1024, seconds)
"""


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    peak, seconds = _adapt(scratch, "strips", SIDE)
    strips, strips_seconds = _adapt(scratch, "strips", SMALL_SIDE)
    whole, whole_seconds = _adapt(scratch, "whole", SMALL_SIDE)
    outputs = [np.load(scratch / f"{how}.npy", mmap_mode="r")[0] for how in ("strips", "whole")]
    difference = max(float(np.abs(a - b).max()) for a, b in zip(*outputs, strict=True))
    large, small = (f"{side} x {side} x {BANDS} float32" for side in (SIDE, SMALL_SIDE))
    return [
        row(f"{large}, in strips: peak, MB", peak / 1e6, f"less than {BOUND / 1e6:.0f}",
            peak < BOUND),
        row(f"{large}, in strips: seconds on one core", seconds),
        row(f"{small}: peak in strips / whole", strips / whole),
        row(f"{small}: seconds in strips / whole", strips_seconds / whole_seconds),
        row("largest difference of the outputs", difference, f"at most {DIFFERENCE:g}",
            difference <= DIFFERENCE),
    ]  # fmt: skip


def _adapt(scratch: Path, how: str, side: int) -> tuple[float, float]:
    """Adapt in a process of its own; return its peak of resident memory in bytes, and seconds."""
    arguments = [str(ROOT / "backend"), how, str(BANDS), str(side), str(scratch / f"{how}.npy")]
    printed = subprocess.check_output([sys.executable, "-c", SCRIPT, *arguments], text=True)
    peak, seconds = printed.split()
    return float(peak), float(seconds)
