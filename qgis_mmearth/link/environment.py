"""The backend's own Python environment: made, checked, repaired and removed here.

Everything lies under one folder (``MMEARTH_HOME``, by default the platform's folder for application
data), outside the QGIS profile, which an upgrade of the plugin would wipe. Packages are pinned in
``backend/locks``. The environment of each lock has a folder of its own, so an upgrade never works
on files in use, and a failed one leaves the old environment whole.

pip is used rather than a faster installer because it reads the user's own configuration: mirrors,
proxies, certificates.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

from . import child
from .errors import InstallCancelled, InstallError
from .lock import exclusive
from .python import find_python
from .runner import Cancelled, Progress, Runner

NEEDED_BYTES = {"cpu": 3 * 2**30, "cuda": 10 * 2**30}
LONGEST_WINDOWS_ROOT = 80  # torch holds paths of 170 characters, and Windows allows 260
PREFLIGHT_SECONDS = 60
DOCTOR_SECONDS = 120
STATE_FILE = "install.json"
DOUBTED = "doubted"


class State(Enum):
    """What there is of the environment."""

    missing = "missing"
    incomplete = "incomplete"
    """An installation was interrupted, or files have been lost."""
    outdated = "outdated"
    """It was made for another version of the plugin."""
    ready = "ready"
    external = "external"
    """The user's own Python is used instead."""
    absent = "absent"
    """The user's own Python is not where the settings say."""


class Options(NamedTuple):
    """The user's choices.

    Attributes:
        accelerator: ``cpu`` or ``cuda``.
        python: the user's own Python that has all packages; nothing is then installed.
        base_python: Python to make the environment from; found if empty.
        wheels: folder of wheel files to install from without a network.
        proxy: address of the proxy, from QGIS's settings.
    """

    accelerator: str = "cpu"
    python: str = ""
    base_python: str = ""
    wheels: str = ""
    proxy: str = ""


def default_home() -> Path:
    """Return the folder for everything that the backend keeps: ``MMEARTH_HOME``, or by platform."""
    if os.environ.get("MMEARTH_HOME"):
        return Path(os.environ["MMEARTH_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "mmearth"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/mmearth"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "mmearth"


class Environment:
    """The environment under a home folder, for the backend in ``backend``."""

    def __init__(self, home: Path, backend: Path, options: Options = Options()) -> None:  # noqa: B008
        self.home = home
        self.backend = backend
        own = options.python or os.environ.get("MMEARTH_PYTHON", "")
        self.options = options._replace(python=own)

    @property
    def folder(self) -> Path:
        """Where the environment of the present locks lies."""
        return self.home / "env" / self._lock_hash()

    @property
    def python(self) -> Path:
        """The interpreter to run the backend with."""
        if self.options.python:
            return Path(self.options.python)
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @property
    def log_file(self) -> Path:
        """What installations said."""
        return self.home / "logs" / "install.log"

    def state(self) -> State:
        """Look at a few files, without starting anything."""
        if self.options.python:
            return State.external if _is_program(self.options.python) else State.absent
        facts = self._read_state()
        if not facts:
            return State.missing
        if facts.get("lock") != self._lock_hash():
            return State.outdated
        if facts.get("status") != "ok" or not self._is_whole():
            return State.incomplete
        return State.ready

    def variables(self) -> Dict[str, str]:
        """Return the environment variables for the backend's process."""
        return child.clean_environment(
            {
                "MMEARTH_HOME": str(self.home),
                # The code beside the plugin, never a copy, so that the two cannot differ.
                "PYTHONPATH": str(self.backend),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
        )

    def install(self, progress: Progress, cancelled: Cancelled = lambda: False) -> None:
        """Make the environment, or repair it; what is done already is not done again.

        Args:
            progress: called with 0..1 and what is being done.
            cancelled: asked often.

        Raises:
            InstallCancelled: if ``cancelled`` says so.
            InstallError: with advice, if anything goes wrong.
        """
        self._preflight()
        with self._locked(progress, cancelled):
            run = self._runner(progress, cancelled)
            if self._is_doubted():
                self._look_again(run)
            lacking = self.state() not in (State.ready, State.external)
            if lacking:
                self._make(run)
            self._verify(run)
            if lacking:
                self._remove_others()
        progress(1.0, "Installed")

    def has_extra(self, name: str) -> bool:
        """Tell whether an optional part is installed, as its lock says; see ``install_extra``.

        Of the user's own Python nothing is known; the backend says so if it lacks the part.
        """
        if self.options.python:
            return True
        try:
            return self._extra_mark(name).read_text("utf-8") == _hash(self._extra_lock(name))
        except OSError:
            return False

    def install_extra(
        self, name: str, progress: Progress, cancelled: Cancelled = lambda: False
    ) -> None:
        """Install an optional part into the environment, which is to be ready.

        Args:
            name: of a lock file in ``backend/locks``: ``onnx`` or ``tensorboard``.
            progress: called with 0..1 and what is being done.
            cancelled: asked often.

        Raises:
            InstallCancelled: if ``cancelled`` says so.
            InstallError: with advice, if anything goes wrong.
        """
        lock = self._extra_lock(name)
        if self.options.python:
            raise InstallError(
                "The backend runs in a Python of your own, into which nothing is installed.",
                f"Install the packages there yourself: pip install -r {lock}",
            )
        self._preflight()
        with self._locked(progress, cancelled):
            if self.state() is not State.ready:
                raise InstallError(
                    "The backend is not installed, which this part belongs to.",
                    "Install the backend first.",
                )
            run = self._runner(progress, cancelled)
            run.progress(0.0, "Looking for the package index")
            hashed = [*self._pip(), "--require-hashes", "-r"]
            run.run([*hashed, str(lock)], 0.0, 1.0, packages=_count(lock))
            self._extra_mark(name).write_text(_hash(lock), "utf-8")
        progress(1.0, "Installed")

    def _extra_lock(self, name: str) -> Path:
        return self.backend / "locks" / f"{name}.txt"

    def _extra_mark(self, name: str) -> Path:
        # In the environment's folder, so that it goes where the packages go.
        return self.folder / f"{name}.extra"

    def doubt(self) -> None:
        """Remember that the backend does not start from this environment: it is to be repaired."""
        self._write_state(DOUBTED)

    def reset(self) -> None:
        """Remove the environment; models, jobs and settings stay.

        Raises:
            InstallError: if files are in use.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self._locked(lambda share, words: None, lambda: False):
            (self.home / STATE_FILE).unlink(missing_ok=True)
            _remove_tree(self.home / "env")

    def _make(self, run: Runner) -> None:
        self._write_state("incomplete")
        run.progress(0.02, "Looking for Python")
        base = find_python(self.options.base_python)
        run.progress(0.04, "Making the environment")
        how = "--upgrade" if self._has_python() else "--clear"
        run.run([base, "-m", "venv", how, str(self.folder)], 0.04, 0.08)
        run.progress(0.08, "Looking for the package index")
        self._install_packages(run)
        self._write_state("ok")

    def _verify(self, run: Runner) -> None:
        run.progress(0.95, "Checking the installation")
        try:
            run.run(self._doctor(), 0.95, 1.0)
        except InstallError:
            if not self.options.python:
                self.doubt()
            raise

    def _look_again(self, run: Runner) -> None:
        """Take a doubted environment back if it works after all; else remove it, to be made anew.

        pip would not repair it: it looks at the names of packages, not into them.
        """
        run.progress(0.0, "Checking the installation")
        try:
            run.run(self._doctor(), 0.0, 0.02, seconds=DOCTOR_SECONDS)
        except InstallCancelled:
            raise
        except InstallError:
            _remove_tree(self.folder)
        else:
            self._write_state("ok")

    def _doctor(self) -> List[str]:
        return [str(self.python), "-s", "-m", "mmearth", "doctor"]

    def _pip(self) -> List[str]:
        wheels = ["--no-index", "--find-links", self.options.wheels] if self.options.wheels else []
        return [
            str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install",
            "--no-deps", "--progress-bar", "off", *wheels,
        ]  # fmt: skip

    def _install_packages(self, run: Runner) -> None:
        locks = self.backend / "locks"
        pip = self._pip()
        hashed = [*pip, "--require-hashes", "-r"]
        probe = ["--dry-run", "--retries", "1", "--timeout", "20", _smallest_package(locks)]
        run.run([*pip, *probe], 0.08, 0.10, seconds=PREFLIGHT_SECONDS)
        packages = locks / "packages.txt"
        run.run([*hashed, str(packages)], 0.10, 0.40, packages=_count(packages))
        run.progress(0.40, "Downloading torch (200 MB)")
        if self.options.accelerator == "cpu" and sys.platform.startswith("linux"):
            try:
                run.run([*pip, "-r", str(locks / "cpu.txt")], 0.40, 0.95, packages=1)
                return
            except InstallError as error:
                if error.code != "no_wheel":
                    raise
            # pip is not configured for an index with CPU builds. The default build runs on a CPU
            # as well, at the price of its size.
            self._check_space("cuda")
            run.progress(0.40, "Downloading torch (2 GB: no smaller build on your package index)")
        cuda = locks / "cuda.txt"
        run.run([*hashed, str(cuda)], 0.40, 0.95, packages=_count(cuda))

    def _preflight(self) -> None:
        if sys.platform == "win32" and len(str(self.home)) > LONGEST_WINDOWS_ROOT:
            raise InstallError(
                f"The folder {self.home} has a path of {len(str(self.home))} characters.",
                f"Choose one of at most {LONGEST_WINDOWS_ROOT} characters in the settings.",
                code="path",
            )
        try:
            for folder in ("logs", "tmp"):
                (self.home / folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.home):
                pass
        except OSError as error:
            raise InstallError(
                f"The folder {self.home} cannot be written to: {error.strerror}.",
                "Choose another folder in the settings.",
                code="permission",
            ) from error
        if self.state() is State.absent:
            raise InstallError(
                f"There is no Python at {self.options.python}.",
                "Correct Existing Python in the settings, or empty it.",
            )
        if self.options.wheels and not Path(self.options.wheels).is_dir():
            raise InstallError(
                f"The folder with downloaded packages {self.options.wheels} does not exist.",
                "Choose another in the settings, or leave it empty to download.",
            )
        if self.state() in (State.missing, State.outdated):
            self._check_space(self.options.accelerator)

    def _check_space(self, accelerator: str) -> None:
        free, needed = shutil.disk_usage(self.home).free, NEEDED_BYTES[accelerator]
        if free < needed:
            raise InstallError(
                f"The disk of {self.home} has {free / 2**30:.1f} GB free; "
                f"{needed / 2**30:.0f} GB are needed.",
                "Free some space, or choose another folder in the settings.",
                code="disk_full",
            )

    def _lock_hash(self) -> str:
        digest = hashlib.sha256()
        for name in ("packages.txt", f"{self.options.accelerator}.txt"):
            digest.update((self.backend / "locks" / name).read_bytes())
        return digest.hexdigest()[:12]

    def _read_state(self) -> Dict[str, str]:
        try:
            return dict(json.loads((self.home / STATE_FILE).read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def _write_state(self, status: str) -> None:
        facts = {
            "status": status,
            "lock": self._lock_hash(),
            "accelerator": self.options.accelerator,
        }
        temporary = self.home / f"{STATE_FILE}.tmp"
        temporary.write_text(json.dumps(facts, indent=1), "utf-8")
        os.replace(temporary, self.home / STATE_FILE)

    def _has_python(self) -> bool:
        return self.python.exists() and (self.folder / "pyvenv.cfg").exists()

    def _is_doubted(self) -> bool:
        own = not self.options.python and self._has_python()
        return own and self._read_state().get("status") == DOUBTED

    def _is_whole(self) -> bool:
        """Tell whether the interpreter, the one that it was made from, and torch are there."""
        if not self._has_python():
            return False
        lines = (self.folder / "pyvenv.cfg").read_text("utf-8").splitlines()
        facts = dict(line.split(" = ", 1) for line in lines if " = " in line)
        torch = any(self.folder.glob("[Ll]ib/**/site-packages/torch-*.dist-info"))
        return torch and Path(facts.get("home", "")).is_dir()

    def _remove_others(self) -> None:
        for other in (self.home / "env").iterdir():
            if other != self.folder:
                with suppress(InstallError):  # another QGIS uses it; the next upgrade removes it
                    _remove_tree(other)

    def _runner(self, progress: Progress, cancelled: Cancelled) -> Runner:
        variables = self.variables()
        # On the same disk, where space has been checked, and where pip can move rather than copy.
        variables["TMPDIR"] = variables["TEMP"] = variables["TMP"] = str(self.home / "tmp")
        if self.options.proxy:
            variables.update(HTTP_PROXY=self.options.proxy, HTTPS_PROXY=self.options.proxy)
        return Runner(self.log_file, variables, progress, cancelled)

    @contextmanager
    def _locked(self, progress: Progress, cancelled: Cancelled) -> Iterator[None]:
        def waiting() -> None:
            progress(0.0, "Waiting for another QGIS window that is installing")

        with exclusive(self.home / "install.lock", cancelled, waiting):
            yield


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _smallest_package(locks: Path) -> str:
    """Return a small pinned package, to see within seconds whether the index answers at all."""
    for line in (locks / "packages.txt").read_text("utf-8").splitlines():
        if line.startswith("annotated-types=="):
            return line.split()[0]
    raise ValueError("packages.txt lacks annotated-types")


def _count(lock: Path) -> int:
    lines = lock.read_text("utf-8").splitlines()
    return sum(1 for line in lines if line and line[0] not in "# \t")


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _remove_tree(path: Path) -> None:
    """Remove a folder, renaming it first: on Windows that fails at once if files are in use."""
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}.removed-{os.getpid()}")
    try:
        path.rename(doomed)
    except OSError as error:
        raise InstallError(
            f"{path} is in use.", "Close other QGIS windows and try again.", code="locked"
        ) from error
    shutil.rmtree(doomed, ignore_errors=True)
