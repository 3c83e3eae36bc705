"""Run benchmarks, print what they measured, and keep it in build/benchmarks.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import ROOT

BENCHMARKS = (
    "overhead", "memory", "tiles", "startup", "adapter", "quick", "live", "fewshot", "boundary",
    "disturbance", "calibration", "independent", "landcover", "sources", "ablation", "views",
    "pretraining",
)  # fmt: skip
RESULTS = ROOT / "build" / "benchmarks.json"


def main() -> int:
    """Run; return 1 if a bound is not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--scratch", type=Path, help="folder for large scenes, about 4 GB")
    parser.add_argument("--data", type=Path, help="folder with s2/index.json, for fewshot")
    options = parser.parse_args()
    if options.data:
        os.environ["MMEARTH_DATA"] = str(options.data)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    held = True
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for name in options.names or BENCHMARKS:
            print(f"{name}:", flush=True)
            rows = importlib.import_module(f"benchmarks.{name}").measure(Path(scratch))
            for row in rows:
                held &= row["held"]
                bound = f"  (bound {row['bound']})" if row["bound"] else ""
                print(f"  {row['what']:<66} {row['value']:>10}{bound}", flush=True)
            results[name] = rows
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
