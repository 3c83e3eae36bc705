"""Speed and memory, measured side by side in one run: ``python -m benchmarks [NAME ...]``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "backend"), str(ROOT)]
