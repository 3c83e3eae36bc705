"""Fixtures for tests that start QGIS, its tools and ours as a user does: as programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from programs import ROOT, SCENE, run


@pytest.fixture
def corner(tmp_path: Path) -> Path:
    """A corner of the sample scene, quick to map."""
    path = tmp_path / "corner.tif"
    window = ["-srcwin", "100", "100", "200", "180"]
    subprocess.run(["/usr/bin/gdal_translate", "-q", *window, SCENE, path], check=True)
    return path


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's zip."""
    path = tmp_path_factory.mktemp("package") / "qgis_mmearth.zip"
    made = run([sys.executable, ROOT / "tools" / "package.py", "--output", path])
    assert made.returncode == 0, made.stdout
    return path


@pytest.fixture
def profile(tmp_path: Path) -> dict[str, str]:
    """Variables under which QGIS's tools find a profile of their own, with this plugin in it."""
    plugins = tmp_path / "user" / ".local/share/QGIS/QGIS3/profiles/default/python/plugins"
    plugins.mkdir(parents=True)
    (plugins / "qgis_mmearth").symlink_to(ROOT)
    kept = ("MMEARTH_HOME", "LANG")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(tmp_path / "user"),
        "PATH": "/usr/bin:/bin",
        "QT_QPA_PLATFORM": "offscreen",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def processes_left() -> Callable[[], list[str]]:
    """A function that lists the backend's processes that were not there before the test."""
    before = _backend_processes()
    return lambda: [words for pid, words in _backend_processes().items() if pid not in before]


def _backend_processes() -> dict[int, str]:
    found = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if "-m mmearth" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found[process.pid] = words
    return found
