"""From labels to a model that maps: by the command line, and by QGIS's."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from programs import mmearth, run

CELL, SIDE = 40, 8  # pixels: in each cell of the scene a square is drawn


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: the other tests keep theirs."""
    monkeypatch.setenv("MMEARTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MMEARTH_PYTHON", sys.executable)
    return tmp_path / "home"


@pytest.fixture
def labels(corner: Path, tmp_path: Path) -> Path:
    """Squares of the greenest and the barest ground by turns, one a cell."""
    with rasterio.open(corner) as dataset:
        red, infrared = dataset.read([4, 8]).astype(float)
        transform, crs = dataset.transform, dataset.crs.to_string()
    index = (infrared - red) / (infrared + red)
    shapes, values = [], []
    for top in range(0, index.shape[0] - CELL + 1, CELL):
        for left in range(0, index.shape[1] - CELL + 1, CELL):
            green = (top + left) // CELL % 2 == 0
            means = {
                (row, col): index[row : row + SIDE, col : col + SIDE].mean()
                for row in range(top, top + CELL - SIDE, 4)
                for col in range(left, left + CELL - SIDE, 4)
            }
            row, col = (max if green else min)(means, key=means.__getitem__)
            corners = transform @ (col, row), transform @ (col + SIDE, row + SIDE)
            shapes.append(shapely.box(*corners[0], *corners[1]))
            values.append("green" if green else "bare")
    path = tmp_path / "labels.gpkg"
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), [np.array(values, object)], ["cover"],
        geometry_type="Polygon", crs=crs,
    )  # fmt: skip
    return path


def test_one_model_by_two_ways(home, profile, labels, corner: Path, tmp_path: Path) -> None:
    """Labels and seed decide the weights, and what the one way makes the other maps with."""
    facts = ("--model", "landcover-s2", "--labels", labels, "--field", "cover", "--seed", 5)
    counted = mmearth("finetune", corner, *facts, "--plan")
    assert counted.returncode == 0 and "10 labels" in counted.stdout, counted.stdout
    report = tmp_path / "report.html"
    trained = mmearth("finetune", corner, *facts, "--title", "By command", "--report", report)
    assert trained.returncode == 0, trained.stdout
    assert "random forest" in trained.stdout and report.stat().st_size
    # Debian starts it through a script that adds an option which only QGIS itself knows.
    program = shutil.which("qgis_process.bin", path="/usr/bin") or "/usr/bin/qgis_process"
    profile.update(MMEARTH_HOME=str(home), MMEARTH_PYTHON=sys.executable)
    run([program, "plugins", "enable", "qgis_mmearth"], env=profile)
    ran = run(
        [
            program, "run", "mmearth:finetune", "--json", "--", f"INPUT={corner}",
            f"LABELS={labels}", "FIELD=cover", "MODEL=landcover-s2", "PROTOCOL=quick", "SEED=5",
            "NAME=By QGIS",
        ],
        env=profile,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    told = json.loads(ran.stdout[ran.stdout.index("{") :])["results"]
    assert told["MODEL"] == "by-qgis" and told["ACCURACY"] > 0.75
    files = [home / "models" / name / "model.safetensors" for name in ("by-command", "by-qgis")]
    assert files[0].read_bytes() == files[1].read_bytes()
    mapped = tmp_path / "map.tif"
    ran = mmearth("segment", corner, "--model", "by-qgis", "--output", mapped)
    assert ran.returncode == 0, ran.stdout
    with rasterio.open(mapped) as dataset:
        assert set(np.unique(dataset.read(1))) == {1, 2}
        assert dataset.tags()["MMEARTH_MODEL"].startswith("by-qgis")
