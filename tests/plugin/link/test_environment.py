"""The backend's environment, made for real by venv and pip from small wheels, without a network."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from qgis_mmearth.link.environment import NEEDED_BYTES, Environment, Options, State
from qgis_mmearth.link.errors import InstallCancelled, InstallError
from qgis_mmearth.link.python import find_python


def wheel(folder: Path, name: str, version: str) -> str:
    """Write the smallest wheel there is; return its line for a lock file."""
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", f"version = {version!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


class Site:
    """A backend of three wheels, and the folder they come from."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "Zoë Ünal's home"
        self.wheels = folder / "wheels"
        self.backend = folder / "plug in" / "backend"
        self.locks = self.backend / "locks"
        self.wheels.mkdir(parents=True)
        self.locks.mkdir(parents=True)
        (self.backend / "mmearth").mkdir()
        (self.backend / "mmearth" / "__init__.py").touch()
        self.doctor("import sample; print('ok    all is well')")
        self.lock("packages", wheel(self.wheels, "annotated-types", "0.8.0")
                  + wheel(self.wheels, "sample", "1.0"))  # fmt: skip
        self.lock("cpu", wheel(self.wheels, "torch", "2.0").partition(" ")[0] + "\n")
        self.lock("cuda", wheel(self.wheels, "torch", "2.0"))

    def lock(self, name: str, text: str) -> None:
        (self.locks / f"{name}.txt").write_text(f"# For a test.\n{text}")

    def doctor(self, script: str) -> None:
        (self.backend / "mmearth" / "__main__.py").write_text(script)

    def environment(self, **options) -> Environment:
        options.setdefault("wheels", str(self.wheels))
        return Environment(self.home, self.backend, Options(**options))

    def module(self, name: str) -> str:
        script = f"import {name}; print({name}.version)"
        python = self.environment().python
        return subprocess.check_output([python, "-c", script], text=True).strip()


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.delenv("MMEARTH_PYTHON", raising=False)
    return Site(tmp_path)


def quiet(_share, _words):
    pass


def test_install_from_nothing(site):
    told = []
    environment = site.environment()
    assert environment.state() is State.missing
    environment.install(lambda share, words: told.append((share, words)))
    assert environment.state() is State.ready
    assert site.module("sample") == "1.0"
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert any("Downloading" in words for _, words in told)
    assert "pip" in environment.log_file.read_text()


def test_installing_twice_does_nothing_again(site):
    site.environment().install(quiet)
    marker = site.environment().folder / "marker"
    marker.touch()
    site.environment().install(quiet)
    assert marker.exists()


def test_incomplete_is_repaired(site):
    site.environment().install(quiet)
    for lost in site.environment().folder.glob("lib/*/site-packages/torch-*"):
        for file in lost.iterdir():
            file.unlink()
        lost.rmdir()
    assert site.environment().state() is State.incomplete
    site.environment().install(quiet)
    assert site.environment().state() is State.ready


def test_a_lost_interpreter_is_noticed_and_repaired(site):
    site.environment().install(quiet)
    site.environment().python.unlink()
    assert site.environment().state() is State.incomplete
    site.environment().install(quiet)
    assert site.module("sample") == "1.0"


def test_doubted_is_made_anew(site):
    """A package may be broken though its name is there, which pip does not see."""
    site.environment().install(quiet)
    sample = next(site.environment().folder.glob("lib/*/site-packages/sample.py"))
    sample.write_text("broken(")
    site.environment().doubt()
    assert site.environment().state() is State.incomplete
    site.environment().install(quiet)
    assert site.module("sample") == "1.0"
    assert site.environment().state() is State.ready


def test_doubted_that_works_is_kept(site):
    site.environment().install(quiet)
    marker = site.environment().folder / "marker"
    marker.touch()
    site.environment().doubt()
    told = []
    site.environment().install(lambda share, words: told.append(share))
    assert marker.exists() and told == sorted(told)
    assert site.environment().state() is State.ready


def test_upgrade_does_not_fail_because_the_old_one_is_in_use(site, monkeypatch):
    site.environment().install(quiet)
    old = site.environment().folder
    site.lock("packages", wheel(site.wheels, "annotated-types", "0.8.0")
              + wheel(site.wheels, "sample", "2.0"))  # fmt: skip
    rename = Path.rename

    def refuse(path, target):  # as Windows does for files in use
        if path == old:
            raise PermissionError(13, "in use")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    site.environment().install(quiet)
    assert site.module("sample") == "2.0" and old.exists()


def test_upgrade_that_does_not_work_keeps_the_old_one(site):
    site.environment().install(quiet)
    old = site.environment().folder
    site.lock("packages", wheel(site.wheels, "annotated-types", "0.8.0")
              + wheel(site.wheels, "sample", "2.0"))  # fmt: skip
    site.doctor("raise SystemExit(1)")
    with pytest.raises(InstallError):
        site.environment().install(quiet)
    assert old.exists()


def test_existing_python_that_is_not_there(site):
    assert site.environment(python="/nowhere/python").state() is State.absent
    assert site.environment(python=str(site.home.parent)).state() is State.absent


def test_upgrade_makes_a_new_one_and_removes_the_old(site):
    site.environment().install(quiet)
    old = site.environment().folder
    site.lock("packages", wheel(site.wheels, "annotated-types", "0.8.0")
              + wheel(site.wheels, "sample", "2.0"))  # fmt: skip
    assert site.environment().state() is State.outdated
    site.environment().install(quiet)
    assert site.module("sample") == "2.0"
    assert not old.exists()


def test_failed_upgrade_leaves_the_old_one_whole(site):
    site.environment().install(quiet)
    old = site.environment().folder
    site.lock("packages", "annotated-types==0.8.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(InstallError):
        site.environment().install(quiet)
    assert (old / "pyvenv.cfg").exists()
    assert site.environment().state() is State.incomplete


def test_reset_removes_it(site):
    site.environment().install(quiet)
    (site.home / "models").mkdir()
    site.environment().reset()
    assert site.environment().state() is State.missing
    assert (site.home / "models").exists()


def test_cancel_stops_and_a_later_run_completes(site):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(InstallCancelled):
        site.environment().install(quiet, cancelled)
    assert site.environment().state() is State.incomplete
    site.environment().install(quiet)
    assert site.environment().state() is State.ready


def test_killed_installer_leaves_no_lock(site):
    """Two QGIS windows share the folder; one that is killed must not lock the other out."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from qgis_mmearth.link.lock import exclusive\n"
        "with exclusive(Path(sys.argv[2]), lambda: False, lambda: None):\n"
        "    print('held', flush=True); input()\n"
    )
    site.home.mkdir()
    root = str(Path(__file__).resolve().parents[3])
    holder = subprocess.Popen(
        ["/usr/bin/python3", "-c", script, root, str(site.home / "install.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    told = []

    def cancelled():
        return len(told) > 2

    with pytest.raises(InstallCancelled):
        site.environment().install(lambda share, words: told.append(words), cancelled)
    assert "another QGIS window" in told[-1]
    holder.kill()
    holder.wait()
    site.environment().install(quiet)
    assert site.environment().state() is State.ready


def test_two_installers_wait_for_each_other(site):
    errors = []

    def install():
        try:
            site.environment().install(quiet)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert site.environment().state() is State.ready


def test_without_small_torch_the_default_build_is_taken(site, monkeypatch):
    """On Linux the small CPU build is on no ordinary index; the default one runs as well."""
    # The wheels here are tiny: the disk of the machine need not hold the real ones.
    monkeypatch.setitem(NEEDED_BYTES, "cuda", NEEDED_BYTES["cpu"])
    site.lock("cpu", "torch==2.0+cpu\n")
    site.environment().install(quiet)
    assert site.module("torch") == "2.0"


class TestTroubles:
    """Each is told in words with what to do, and the state says that it is not ready."""

    def fails(self, site, code, **options):
        environment = site.environment(**options)
        with pytest.raises(InstallError) as caught:
            environment.install(quiet)
        assert caught.value.code == code, str(caught.value)
        assert caught.value.advice
        assert environment.state() is not State.ready
        return caught.value

    def test_wrong_hash(self, site):
        path = next(site.wheels.glob("sample*"))
        path.write_bytes(path.read_bytes() + b"x")
        self.fails(site, "hash")

    def test_package_missing(self, site):
        next(site.wheels.glob("sample*")).unlink()
        self.fails(site, "no_wheel")

    def test_no_network(self, site, monkeypatch):
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.setenv(name, "")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        self.fails(site, "network", wheels="")

    def test_folder_of_wheels_missing(self, site):
        self.fails(site, "environment", wheels=str(site.home / "nowhere"))

    def test_no_python(self, site):
        self.fails(site, "python_missing", base_python=str(site.home / "python"))

    def test_old_python(self, site):
        old = site.wheels / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        self.fails(site, "python_missing", base_python=str(old))

    def test_backend_that_does_not_work(self, site):
        site.doctor("print('FAIL  Models: No models are installed.'); raise SystemExit(1)")
        error = self.fails(site, "check")
        assert "No models are installed" in error.message

    def test_missing_existing_python(self, site):
        with pytest.raises(InstallError, match="There is no Python"):
            site.environment(python="/nowhere/python").install(quiet)

    def test_full_disk(self, site):
        with small_disk(site.home.parent / "disk") as disk:
            site.home = disk
            error = self.fails(site, "disk_full")
            assert "GB are needed" in error.message

    def test_passwords_stay_out_of_the_log(self, site, monkeypatch):
        monkeypatch.setenv("PIP_INDEX_URL", "http://ann:s3cr3t@127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        error = self.fails(site, "network", wheels="")
        assert "s3cr3t" not in site.environment().log_file.read_text() + error.details


def test_existing_python_is_checked_not_changed(site):
    environment = site.environment(python=sys.executable if "python" in sys.executable else
                                   "/usr/bin/python3")  # fmt: skip
    site.doctor("print('ok')")
    assert environment.state() is State.external
    environment.install(quiet)
    assert not (site.home / "env").exists()


def test_found_python_is_never_qgis():
    assert "qgis" not in Path(find_python()).name


def test_state_file_that_is_damaged_is_missing(site):
    site.home.mkdir()
    (site.home / "install.json").write_text("{")
    assert site.environment().state() is State.missing


def test_state_costs_no_process(site, monkeypatch):
    site.environment().install(quiet)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert site.environment().state() is State.ready


def test_state_file_is_json_with_a_status(site):
    site.environment().install(quiet)
    facts = json.loads((site.home / "install.json").read_text())
    assert facts["status"] == "ok" and facts["accelerator"] == "cpu"


@contextmanager
def small_disk(folder: Path):
    """A disk of one megabyte."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        time.sleep(0.05)


class TestExtra:
    """What few need is installed on top, when it is asked for."""

    @pytest.fixture
    def site(self, site):
        site.lock("onnx", wheel(site.wheels, "onnx", "1.5"))
        return site

    def test_installed_on_demand(self, site):
        environment = site.environment()
        environment.install(quiet)
        assert not environment.has_extra("onnx")
        told = []
        environment.install_extra("onnx", lambda share, words: told.append((share, words)))
        assert environment.has_extra("onnx") and site.module("onnx") == "1.5"
        shares = [share for share, _ in told]
        assert shares == sorted(shares) and shares[-1] == 1.0
        assert environment.state() is State.ready

    def test_another_lock_is_another_extra(self, site):
        environment = site.environment()
        environment.install(quiet)
        environment.install_extra("onnx", quiet)
        site.lock("onnx", wheel(site.wheels, "onnx", "1.6"))
        assert not environment.has_extra("onnx")
        environment.install_extra("onnx", quiet)
        assert site.module("onnx") == "1.6"

    def test_goes_with_the_environment(self, site):
        environment = site.environment()
        environment.install(quiet)
        environment.install_extra("onnx", quiet)
        environment.reset()
        environment.install(quiet)
        assert not environment.has_extra("onnx")

    def test_hashes_are_checked_and_the_backend_stays(self, site):
        environment = site.environment()
        environment.install(quiet)
        path = next(site.wheels.glob("onnx*"))
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(InstallError) as caught:
            environment.install_extra("onnx", quiet)
        assert caught.value.code == "hash" and caught.value.advice
        assert not environment.has_extra("onnx")
        assert environment.state() is State.ready

    def test_cancel(self, site):
        environment = site.environment()
        environment.install(quiet)
        with pytest.raises(InstallCancelled):
            environment.install_extra("onnx", quiet, lambda: True)
        assert not environment.has_extra("onnx") and environment.state() is State.ready

    def test_needs_the_backend(self, site):
        with pytest.raises(InstallError, match="not installed"):
            site.environment().install_extra("onnx", quiet)

    def test_existing_python_is_not_changed(self, site):
        environment = site.environment(python="/usr/bin/python3")
        with pytest.raises(InstallError, match="Python of your own") as caught:
            environment.install_extra("onnx", quiet)
        assert "onnx.txt" in caught.value.advice
