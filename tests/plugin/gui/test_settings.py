"""The settings, and the line of the panel that depends on them."""

import time
from pathlib import Path

from qgis.core import QgsNetworkAccessManager, QgsRasterLayer
from qgis.PyQt.QtNetwork import QNetworkProxy
from qgis.PyQt.QtWidgets import QLabel, QPushButton

from qgis_mmearth import settings, shared, tasks
from qgis_mmearth.gui.backend_bar import BackendBar, Status
from qgis_mmearth.gui.settings_page import SettingsPage


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


def test_folder_of_results_leaves_the_backend_alone(home, tmp_path):
    shared.backend().client()
    pid = shared.backend().pid
    page = SettingsPage(None)
    page.outputWidget.setFilePath(str(tmp_path))
    page.apply()
    assert shared.backend().running and shared.backend().pid == pid


def test_settings_count_from_the_next_job_on(home, small_scene, tmp_path, wait):
    """The job that runs when they change is not lost."""
    spec = {
        "kind": "segment",
        "inputs": [{"path": str(small_scene), "label": ""}],
        "model": "landcover-s2",
        "outputs": {"classes": str(tmp_path / "map.tif")},
    }
    first, ended = shared.backend(), []
    task = tasks.Task(
        "job", lambda task: first.run_job(spec, lambda job: None, task.isCanceled),
        ended.append, ended.append,
    )  # fmt: skip
    tasks.start(task)
    wait(lambda: first.busy and first.running)
    page = SettingsPage(None)
    page.threadsSpin.setValue(1)
    page.apply()
    assert shared.backend() is first
    wait(lambda: ended)
    assert ended[0]["state"] == "succeeded"
    assert QgsRasterLayer(str(tmp_path / "map.tif"), "x").isValid()
    assert shared.backend() is not first and not first.running


def test_proxy_of_qgis(iface):
    manager = QgsNetworkAccessManager.instance()
    before, excluded = manager.fallbackProxy(), manager.excludeList()
    kinds = QNetworkProxy.ProxyType
    try:
        for kind, address in (
            (kinds.HttpProxy, "http://ann:p%40ss%2Fw@proxy.example:3128"),
            (kinds.Socks5Proxy, "socks5h://ann:p%40ss%2Fw@proxy.example:3128"),
            (kinds.NoProxy, ""),
        ):
            proxy = QNetworkProxy(kind, "proxy.example", 3128, "ann", "p@ss/w")
            manager.setFallbackProxyAndExcludes(proxy, [], [])
            assert settings.environment_options().proxy == address
            assert settings.backend_variables()["MMEARTH_PROXY"] == address
    finally:
        manager.setFallbackProxyAndExcludes(before, excluded, [])


def test_the_proxy_is_not_asked_for_the_backend(home, monkeypatch):
    """Nor does its password reach a log."""
    manager = QgsNetworkAccessManager.instance()
    before, excluded = manager.fallbackProxy(), manager.excludeList()
    dead = QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "127.0.0.1", 9, "ann", "hidden-word")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    manager.setFallbackProxyAndExcludes(dead, [], [])
    try:
        assert shared.backend().client().health()["status"] == "ok"
    finally:
        manager.setFallbackProxyAndExcludes(before, excluded, [])
    shared.forget_backend()
    logs = [file.read_text("utf-8") for file in (home / "logs").iterdir()]
    assert logs and not [text for text in logs if "hidden-word" in text]


def test_settings_page_round_trip(iface, home, tmp_path):
    from qgis_mmearth.gui.settings_page import SettingsPageFactory

    page = SettingsPageFactory().createWidget(None)
    page.threadsSpin.setValue(3)
    page.deviceCombo.setCurrentIndex(page.deviceCombo.findData("cpu"))
    page.outputWidget.setFilePath(str(tmp_path))
    page.apply()
    assert settings.read("threads") == 3 and settings.read("device") == "cpu"
    assert settings.backend_variables()["MMEARTH_THREADS"] == "3"
    again = SettingsPageFactory().createWidget(None)
    assert again.threadsSpin.value() == 3 and again.outputWidget.filePath() == str(tmp_path)
    assert not page.remoteEdit.isEnabled()


def test_diagnostics_hold_no_secrets(home):
    from qgis_mmearth.gui.diagnostics import report

    text = report()
    assert "QGIS 3." in text and "ok    Models" in text
    assert Path(settings.home()).name in text
