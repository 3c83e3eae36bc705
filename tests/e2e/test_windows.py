"""QGIS as a process: two at once, and one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import rasterio
from programs import SCENE, SCRIPTS, in_qgis, wait_until


def test_two_windows_at_once(corner: Path, tmp_path: Path) -> None:
    targets = [tmp_path / "one" / "trees.tif", tmp_path / "two" / "trees.tif"]
    started = []
    for target in targets:
        target.parent.mkdir()
        command = in_qgis(SCRIPTS / "map_trees.py", corner, target, "window")
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        time.sleep(3)  # two virtual screens must not ask for a number in the same moment
    for process in started:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    with rasterio.open(targets[0]) as one, rasterio.open(targets[1]) as two:
        assert (one.read() == two.read()).all()


def test_killed_qgis_takes_the_backend_along(
    tmp_path: Path, processes_left: Callable[[], list[str]]
) -> None:
    """A scene large enough to be under way when QGIS is killed."""
    large = tmp_path / "large.tif"
    size = ["-outsize", "4096", "4096"]
    subprocess.run(["/usr/bin/gdal_translate", "-q", *size, SCENE, large], check=True)
    told = tmp_path / "pid"
    target = tmp_path / "map.tif"
    process = subprocess.Popen(in_qgis(SCRIPTS / "map_until_killed.py", large, target, told))
    try:
        wait_until(told.exists, 120)
        assert len(processes_left()) == 2  # service and worker
        os.kill(int(told.read_text()), signal.SIGKILL)
        wait_until(lambda: not processes_left(), 20)
    finally:
        process.terminate()
        process.wait()
    assert not list(tmp_path.glob("map*"))
