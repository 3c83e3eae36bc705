"""Speed and memory, measured side by side in one run: ``python -m benchmarks [NAME ...]``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "backend"), str(ROOT)]

# As the worker sets it, so that both sides of a comparison run alike; before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
