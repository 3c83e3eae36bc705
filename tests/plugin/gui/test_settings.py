"""The settings, and the line of the panel that depends on them."""

import time

from qgis.PyQt.QtWidgets import QLabel, QPushButton

from qgis_mmearth import settings, shared, tasks
from qgis_mmearth.gui.backend_bar import BackendBar, Status


def test_existing_python_that_is_not_there_is_shown(home, monkeypatch, tmp_path):
    monkeypatch.delenv("MMEARTH_PYTHON")
    settings.write("python", str(tmp_path / "nowhere" / "python"))
    shared.forget_backend()
    label, button = QLabel(), QPushButton()
    bar = BackendBar(label, button)
    assert bar.status is Status.absent
    assert "is not there" in label.text() and button.text() == "Open settings"
    bar.shut_down()


def test_bar_that_is_shut_down_hears_no_more_of_its_start(home, monkeypatch, tmp_path, wait):
    """The panel's widgets are deleted while the backend still starts."""
    monkeypatch.delenv("MMEARTH_PYTHON")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 40\n")
    python.chmod(0o755)
    settings.write("python", str(python))
    shared.forget_backend()
    bar = BackendBar(QLabel(), QPushButton())
    heard = []
    bar.failed.connect(heard.append)
    bar.press()
    task = bar._task
    wait(lambda: shared.backend().running, 10)
    bar.shut_down()
    before = time.monotonic()
    shared.forget_backend()
    assert time.monotonic() - before < 2
    wait(lambda: task not in tasks._running, 5)
    assert heard == []
