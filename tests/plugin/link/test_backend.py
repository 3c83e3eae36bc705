"""The backend as the plugin's child: started, asked, killed, started anew."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import DATA, INSTALLED, ROOT

from qgis_mmearth.link import child, process
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment, Options, State
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
        "kind": "segment",
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


def script_as_python(folder: Path, script: str) -> Path:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


@pytest.fixture
def hanging(tmp_path):
    """A backend whose Python never says a word; its process number is written to a file."""
    python = script_as_python(tmp_path, f"echo $$ > '{tmp_path}/pid'; sleep 40; sleep 40")
    return Backend(Environment(tmp_path / "h", ROOT / "backend", Options(python=str(python))))


class Start(threading.Thread):
    """Starts a backend in a thread; keeps how that ended."""

    def __init__(self, backend, cancelled=lambda: False):
        super().__init__(daemon=True)
        self.backend, self.cancelled, self.error = backend, cancelled, None
        self.start()

    def run(self):
        try:
            self.backend.client(self.cancelled)
        except BackendStartError as error:
            self.error = error

    def is_over(self, seconds):
        """Tell whether it ended within some seconds."""
        self.join(seconds)
        return not self.is_alive()


def until_running(backend):
    end = time.monotonic() + 10
    while not backend.running and time.monotonic() < end:
        time.sleep(0.01)
    assert backend.running


def test_hanging_start_is_given_up(hanging, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "START_SECONDS", 1)
    start = Start(hanging)
    assert start.is_over(6)
    assert "within 1 seconds" in start.error.message
    assert gone(int((tmp_path / "pid").read_text()))
    assert Start(hanging).is_over(6)  # nothing is left locked


def test_stop_does_not_wait_for_a_start(hanging):
    start = Start(hanging)
    until_running(hanging)
    pid = hanging.pid
    before = time.monotonic()
    hanging.stop()
    assert time.monotonic() - before < 2
    assert start.is_over(2)
    assert start.error.code == "stopped" and "was stopped" in start.error.message
    assert gone(pid)


def test_stopped_start_leaves_no_process_that_holds_its_output(tmp_path):
    """A grandchild in a session of its own keeps the pipe open; nobody must wait for it."""
    python = script_as_python(tmp_path, f"setsid sleep 20 & echo $! > '{tmp_path}/pid'; wait")
    backend = Backend(Environment(tmp_path / "h", ROOT / "backend", Options(python=str(python))))
    start = Start(backend)
    until_running(backend)
    backend.stop()
    assert start.is_over(2) and start.error.code == "stopped"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_cancel_while_the_backend_starts(hanging, tmp_path):
    asked = []
    first = Start(hanging)
    until_running(hanging)
    waiting = Start(hanging, lambda: bool(asked))
    time.sleep(0.3)
    asked.append(True)
    assert waiting.is_over(2) and waiting.error.code == "cancelled"
    hanging.stop()
    assert first.is_over(2)
    end = time.monotonic() + 0.5
    job = hanging.run_job(spec_for(tmp_path), print, lambda: time.monotonic() > end)
    assert job == {"state": "cancelled", "result": None}
    assert time.monotonic() - end < 2 and not hanging.running


def test_job_lost_by_stopping_says_so(backend, tmp_path, big_scene):
    def stop(job):
        if job["progress"] > 0.05 and backend.running:
            backend.stop()

    with pytest.raises(BackendStartError, match="was stopped in the middle") as caught:
        backend.run_job(spec_for(tmp_path, big_scene), stop, lambda: False)
    assert caught.value.code == "stopped"


def test_existing_python_without_packages_names_one(tmp_path):
    python = script_as_python(tmp_path, "echo \"ModuleNotFoundError: No module named 'pydantic'\" >&2; exit 1")  # fmt: skip  # noqa: E501
    environment = Environment(tmp_path / "h", ROOT / "backend", Options(python=str(python)))
    with pytest.raises(BackendStartError, match="lacks the package pydantic") as caught:
        Backend(environment).client()
    assert str(python) in caught.value.message and "Existing Python" in caught.value.advice
    python.write_text("#!/bin/sh\nexit 4\n")
    with pytest.raises(BackendStartError, match="exit code 4"):  # not what it said the last time
        Backend(environment).client()


def test_python_of_the_system_is_no_backend(tmp_path):
    options = Options(python="/usr/bin/python3")
    with pytest.raises(BackendStartError, match="lacks the package"):
        Backend(Environment(tmp_path, ROOT / "backend", options)).client()


def test_own_environment_that_does_not_start_is_to_be_repaired(tmp_path, monkeypatch):
    monkeypatch.delenv("MMEARTH_PYTHON", raising=False)
    environment = Environment(tmp_path, ROOT / "backend")
    packages = environment.folder / "lib" / "python3.11" / "site-packages"
    (packages / "torch-2.dist-info").mkdir(parents=True)
    (environment.folder / "bin").mkdir()
    (environment.folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    script_as_python(environment.folder / "bin", "exit 1")
    environment._write_state("ok")
    assert environment.state() is State.ready
    with pytest.raises(BackendStartError) as caught:
        Backend(environment).client()
    assert "Press Repair backend" in caught.value.advice
    assert environment.state() is State.incomplete


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
