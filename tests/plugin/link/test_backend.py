"""The backend as the plugin's child: started, asked, killed, started anew."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import DATA, INSTALLED, ROOT

from qgis_mmearth.link import child
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options
from qgis_mmearth.link.errors import BackendError, BackendStartError, InstallError


@pytest.fixture
def backend(home):
    environment = Environment(home, ROOT / "backend", Options(python=str(INSTALLED)))
    running = Backend(environment, {"MMEARTH_THREADS": "1"})
    yield running
    running.stop()


def spec_for(folder: Path, scene: Path = DATA / "terramind_l2a.tif") -> dict:
    return {
        "inputs": [{"path": str(scene), "label": "scene"}],
        "model": "landcover-s2",
        "outputs": {"classes": str(folder / "map.tif")},
    }


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_asking_starts_it_once(backend):
    assert not backend.running
    first = backend.client()
    pid = backend.pid
    assert first.info()["pid"] == pid
    assert backend.client() is first and backend.pid == pid


def test_runs_a_job(backend, tmp_path):
    reports = []
    job = backend.run_job(spec_for(tmp_path), reports.append, lambda: False)
    assert job["state"] == "succeeded"
    assert Path(job["result"]["outputs"]["classes"]).exists()
    assert reports[-1]["progress"] == 1


def test_error_of_a_job_arrives_in_words(backend, tmp_path):
    spec = {**spec_for(tmp_path), "inputs": [{"path": "/nowhere.tif", "label": ""}]}
    with pytest.raises(BackendError) as caught:
        backend.run_job(spec, lambda job: None, lambda: False)
    assert "does not exist" in caught.value.message
    assert caught.value.code == "raster_unreadable"


def test_request_that_does_not_fit_is_told(backend, tmp_path):
    with pytest.raises(BackendError, match="surprise"):
        backend.client().create_job({**spec_for(tmp_path), "surprise": 1})


def test_killed_in_the_middle_of_a_job(backend, tmp_path, big_scene):
    def kill(job):
        if job["progress"] > 0.05 and backend.running:
            os.kill(backend.pid, signal.SIGKILL)

    with pytest.raises(BackendStartError) as caught:
        backend.run_job(spec_for(tmp_path, big_scene), kill, lambda: False)
    assert caught.value.code == "died" and "-9" in caught.value.message
    assert not list(tmp_path.glob("*.tif"))
    assert backend.client().health()["status"] == "ok"  # started anew


def test_cancel(backend, tmp_path, big_scene):
    seen = []
    asked = []

    def cancelled():
        if seen and seen[-1]["progress"] > 0.05 and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    job = backend.run_job(spec_for(tmp_path, big_scene), seen.append, cancelled)
    assert job["state"] == "cancelled"
    assert time.monotonic() - asked[0] < 2
    assert not list(tmp_path.glob("*.tif"))


@pytest.fixture
def big_scene(tmp_path):
    """A scene of about a minute."""
    path = tmp_path / "big" / "scene.tif"
    path.parent.mkdir()
    sample = ROOT / "resources" / "sample" / "thailand_20200223.tif"
    subprocess.run(
        ["gdal_translate", "-q", "-outsize", "400%", "400%", "-a_ullr", "0", "20480", "20480", "0",
         "-a_srs", "EPSG:32648", str(sample), str(path)],
        check=True,
    )  # fmt: skip
    return path


def test_stop_and_start_again(backend):
    backend.client()
    pid = backend.pid
    backend.stop()
    assert not backend.running and gone(pid)
    assert backend.client().info()["pid"] != pid


def test_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("MMEARTH_PYTHON", raising=False)
    environment = Environment(tmp_path, ROOT / "backend")
    with pytest.raises(InstallError, match="not installed"):
        Backend(environment).client()


def test_stale_environment_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("MMEARTH_PYTHON", raising=False)
    (tmp_path / "install.json").write_text('{"status": "ok", "lock": "of last year"}')
    with pytest.raises(InstallError, match="another version"):
        Backend(Environment(tmp_path, ROOT / "backend")).client()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho nonsense\n", "did not start"),
        ("#!/bin/sh\necho broken pipe of thought >&2; exit 3\n", "exit code 3"),
        ('#!/bin/sh\necho \'{"api": 99, "port": 1}\'; sleep 60\n', "version 99"),
    ],
)
def test_backend_that_does_not_come_up(tmp_path, script, words):
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    environment = Environment(tmp_path / "home", ROOT / "backend", Options(python=str(python)))
    with pytest.raises(BackendStartError, match=words) as caught:
        Backend(environment).client()
    if "thought" in script:
        assert "broken pipe of thought" in caught.value.details


def test_missing_interpreter_is_said(tmp_path):
    environment = Environment(tmp_path, ROOT / "backend", Options(python=str(tmp_path / "python")))
    with pytest.raises(BackendStartError, match="cannot be started"):
        Backend(environment).client()


def test_dies_with_its_owner(home):
    """kill -9 of QGIS stops the backend and its worker."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from qgis_mmearth.link.backend import Backend\n"
        "from qgis_mmearth.link.environment import Environment, Options\n"
        "backend = Path(sys.argv[1]) / 'backend'\n"
        "e = Environment(Path(sys.argv[2]), backend, Options(python=sys.argv[3]))\n"
        "b = Backend(e); b.client(); print(b.pid, flush=True); input()\n"
    )
    owner = subprocess.Popen(
        ["/usr/bin/python3", "-c", script, str(ROOT), str(home), str(INSTALLED)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    assert gone(pid)


def test_qgis_environment_does_not_leak(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/qgis")
    monkeypatch.setenv("PROJ_LIB", "/qgis/proj")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/qgis/lib")
    monkeypatch.setenv("SSL_CERT_FILE", "/dangling.pem")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    environment = child.clean_environment({"MMEARTH_HOME": "/h"})
    assert not {"PYTHONHOME", "PROJ_LIB", "LD_LIBRARY_PATH", "SSL_CERT_FILE"} & set(environment)
    assert environment["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert environment["MMEARTH_HOME"] == "/h"


def test_stopping_takes_grandchildren_along(tmp_path):
    process = child.start(
        ["/bin/sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    )
    grandchild = int(process.stdout.readline())
    child.stop(process)
    assert gone(grandchild)
