"""Writing files: whole or not at all, and in words if it fails."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from rasterio._err import CPLE_BaseError  # rasterio.shutil.copy lets GDAL's own errors through
from rasterio.errors import RasterioError

from mmearth.errors import DiskFullError, MMEarthError, OutputError, is_disk_full

# GDAL tells a full disk only on standard error. A write that failed with less than this free has
# most likely failed for want of it.
FULL_DISK_BYTES = 4 * 2**20
STAGING_PREFIX = ".mmearth-"


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a temporary name beside a target; rename it if all goes well, else delete it.

    Raises:
        OutputError: if the target cannot be replaced.
    """
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        yield temporary
        with explained(target):
            os.replace(temporary, target)
    finally:
        # GDAL appends endings of its own to the names of its temporary files.
        for leftover in target.parent.glob(f"{glob.escape(temporary.name)}*"):
            leftover.unlink(missing_ok=True)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all; an older one there is replaced."""
    name = f"{target.name}.{uuid.uuid4().hex[:8]}"
    new, old = target.with_name(f".{name}"), target.with_name(f".{name}.old")
    try:
        shutil.copytree(source, new)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder's disk has room.

    Raises:
        DiskFullError: if it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DiskFullError(
            f"The disk of {folder} has {_megabytes(free)} free; "
            f"about {_megabytes(needed_bytes)} are needed.",
            "Free some space, or choose a folder on another disk.",
        )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the file system and of GDAL into words."""
    try:
        yield
    except MMEarthError:
        raise
    except (OSError, RasterioError, CPLE_BaseError) as error:
        shown = _shown(path)
        if is_disk_full(error) or _free_bytes(path) < FULL_DISK_BYTES:
            raise DiskFullError(
                f"The disk is full: {shown} could not be written.",
                "Free some space, or choose a folder on another disk.",
            ) from error
        if isinstance(error, PermissionError):
            raise OutputError(
                f"No permission to write {shown}.", "Choose a folder that is yours."
            ) from error
        raise OutputError(
            f"{shown} could not be written: {error}.", "Choose another folder."
        ) from error


def _shown(path: Path) -> Path:
    """Return the name that the user knows a result by."""
    if path.parent.name.startswith(STAGING_PREFIX):
        return path.parent.parent / path.name
    return path


def _free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"
