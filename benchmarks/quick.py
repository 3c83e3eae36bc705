"""Quick training, from the press of the button to the new map, the whole way.

Over HTTP, as the plugin asks: service, worker process, labels from a file, folds, forests, report,
then the map of the whole scene with the new model. The scene is the sample, mirrored to twice its
side. First with nothing in memory (the job starts the worker, which loads torch and the model),
then with one polygon more.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.common import MODEL, Drawing, large_scene, row
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options

SIDE = 1024
POLYGONS = 20
BOUND, CACHED_BOUND = 30.0, 5.0


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    scene = large_scene(scratch / "quick.tif", SIDE)
    home = scratch / "quick"
    home.mkdir()
    drawing = Drawing(scene, home / "drawn.gpkg")
    backend = Backend(Environment(home, ROOT / "backend", Options(python=sys.executable)))
    inputs = [{"path": str(scene), "label": ""}]

    def run(spec: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = backend.run_job(
            {**spec, "inputs": inputs}, lambda job: None, lambda: False
        )["result"]
        return result

    def press() -> tuple[float, float]:
        """Return seconds to the model, and to its map."""
        start = time.perf_counter()
        labels = {"path": str(drawing.path), "field": "class"}
        trained = run({"kind": "finetune", "model": MODEL, "labels": labels})
        half = time.perf_counter() - start
        outputs = {"classes": str(home / "map.tif"), "table": str(home / "map.csv")}
        run({"kind": "segment", "model": trained["model"]["id"], "outputs": outputs})
        return half, time.perf_counter() - start

    try:
        drawing.add(POLYGONS)
        first = press()
        drawing.add(1)
        again = press()
    finally:
        backend.stop()
    return [
        row(f"{SIDE} x {SIDE}, {POLYGONS} polygons, nothing in memory: to the model, s", first[0]),
        row("to its map, with the start of service and worker, s", first[1],
            f"at most {BOUND:g}", first[1] <= BOUND),
        row("one polygon more: to the model, s", again[0]),
        row("to its map, s", again[1], f"at most {CACHED_BOUND:g}", again[1] <= CACHED_BOUND),
    ]  # fmt: skip
