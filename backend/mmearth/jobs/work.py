"""Folders of unfinished runs: who is at them, how far they came, and what they leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mmearth.errors import DiskFullError, OutputError, is_disk_full
from mmearth.processes import exclusive, is_alive, process_stamp
from mmearth.raster.write import Staging
from mmearth.settings import Settings

OWNER = "owner"
ROWS_DONE = "rows_done"
TARGETS = "targets.json"


class Work:
    """Folder of an unfinished run, and how far it came; a context manager.

    If another process is at the same work (a second QGIS window), this run has a folder of its own.

    Attributes:
        folder: where working files lie.
        rows_done: rows of the map that an earlier run has finished.
        staging: where results are built.
    """

    def __init__(self, folder: Path, targets: Mapping[str, Path]) -> None:
        """Take the folder, or one beside it; what an earlier run left among the results goes.

        Raises:
            DiskFullError: if the disk of the folder is full.
            OutputError: if the folder cannot be written to for another reason.
        """
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(_lock(folder.parent)):
                if not _claim(folder):
                    folder = folder.with_name(f"{folder.name}-{os.getpid()}")
                    _claim(folder)
            self.folder = folder
            self._state = self.folder / ROWS_DONE
            self.rows_done = int(self._state.read_text()) if self._state.exists() else 0
            _staging(self.folder).remove()
            # Before anything is built, so that whoever tidies up knows where to look.
            record = {name: str(path) for name, path in targets.items()}
            (self.folder / TARGETS).write_text(json.dumps(record), "utf-8")
            os.utime(self.folder)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError(
                    f"The disk of unfinished work is full: {folder} could not be written.",
                    "Free some space and run again.",
                ) from error
            raise OutputError(
                f"The folder of unfinished work cannot be written to: {error}.",
                "Make it writable, or set MMEARTH_HOME to a folder that is.",
            ) from error
        self.staging = _staging(self.folder)

    def path(self, name: str) -> Path:
        """Return the working raster of a result."""
        return self.folder / f"{name}.tif"

    def mark(self, rows: int) -> None:
        """Keep that so many rows are done."""
        temporary = self._state.with_suffix(".tmp")
        temporary.write_text(str(rows))
        temporary.replace(self._state)
        self.rows_done = rows

    def remove(self) -> None:
        """Remove the folder: the work is done, or cannot be."""
        with exclusive(_lock(self.folder.parent)):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing unfinished among the results, and the folder to whoever comes next."""
        self.staging.remove()
        with contextlib.suppress(OSError), exclusive(_lock(self.folder.parent)):
            if _owner(self.folder) == process_stamp():
                (self.folder / OWNER).unlink()


def tidy_up(folder: Path) -> None:
    """Remove what killed runs left among the results.

    Args:
        folder: of all work.
    """
    with contextlib.suppress(OSError), exclusive(_lock(folder)):
        for work in _abandoned(folder.glob("*")):
            _staging(work).remove()


def prune(folder: Path, oldest: float) -> None:
    """Remove unfinished work that nobody came back for.

    Args:
        folder: of all work.
        oldest: what has not been touched since this time, in seconds since 1970, goes.
    """
    with contextlib.suppress(OSError), exclusive(_lock(folder)):
        for work in _abandoned(folder.glob("*")):
            if work.stat().st_mtime < oldest:
                _staging(work).remove()
                shutil.rmtree(work, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _claim(folder: Path) -> bool:
    """Take a folder for this process, unless another that lives has it; under the lock."""
    folder.mkdir(exist_ok=True)
    owner = _owner(folder)
    if owner != process_stamp() and is_alive(owner):
        return False
    (folder / OWNER).write_text(process_stamp())
    return True


def _owner(folder: Path) -> str:
    path = folder / OWNER
    return path.read_text() if path.exists() else ""


def _abandoned(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if folder.is_dir() and not is_alive(_owner(folder))]


def _staging(work: Path) -> Staging:
    """Return where the results of some work are built, as its last run has said."""
    try:
        record = json.loads((work / TARGETS).read_text("utf-8"))
        targets = {str(name): Path(path) for name, path in record.items()}
    except (OSError, ValueError, AttributeError, TypeError):  # never begun, or cut off
        targets = {}
    return Staging(targets, work.name)


@contextlib.contextmanager
def taken(target: Path, settings: Settings) -> Iterator[None]:
    """Keep other processes from writing the same result as long as this one is at it.

    Raises:
        OutputError: if another one is.
    """
    settings.work_folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(target).encode()).hexdigest()[:16]
    with contextlib.ExitStack() as stack:
        try:
            lock = settings.work_folder / f"result-{digest}.lock"
            stack.enter_context(exclusive(lock, wait=False))
        except BlockingIOError as error:
            raise OutputError(
                f"Another run is writing {target}.", "Wait for it, or choose another name."
            ) from error
        yield
