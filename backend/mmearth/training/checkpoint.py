"""Unfinished training, kept now and then so that a run whose process died goes on."""

from __future__ import annotations

import os
import pickle  # nosec B403 - only for the name of its error
import uuid
from pathlib import Path
from typing import Any

import torch

NAME = "epoch.pt"


def write(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, texts, and lists and dictionaries of them; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{NAME}.{uuid.uuid4().hex[:8]}"
    try:
        with temporary.open("wb") as file:  # by name, torch would not say that the disk is full
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # or an empty file may take its place when the power fails
        os.replace(temporary, folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)


def read(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read what an earlier run left; None if there is nothing, or it is damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
