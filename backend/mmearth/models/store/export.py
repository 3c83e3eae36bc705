"""Writing an installed model to a file that another machine can install."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from mmearth.errors import InputError, listed
from mmearth.models.card import ModelCard
from mmearth.models.onnx.runtime import require_onnx

# Ending of a file -> module with pack(card, target, tick), which writes the file and calls ``tick``
# with the bytes that it has written since.
EXPORTERS = {
    ".onnx": "mmearth.models.onnx.export",
    ".zip": "mmearth.models.store.archive",
}


def check(card: ModelCard, target: Path) -> None:
    """Check that a model can become a file, without reading its weights.

    Raises:
        InputError: if the file is no full path, or of no known kind.
        ModelError: if the model cannot be a file of that kind.
        MissingExtraError: if what writes such files is not installed.
    """
    if not target.is_absolute():
        raise InputError(f"{target} is no full path.", "Give the whole path of the file.")
    if target.suffix.lower() not in EXPORTERS:
        raise InputError(
            f"Expected a name that ends with {listed(EXPORTERS)}, found {target.name}.",
            "Choose another name for the file.",
        )
    if target.suffix.lower() == ".onnx":
        card.require("segmentation")
        require_onnx()


def export(card: ModelCard, target: Path, tick: Callable[[int], None]) -> None:
    """Write a model to a file.

    Args:
        card: the model.
        target: file to write; its ending says as what.
        tick: called often with the bytes that were written since.

    Raises:
        ModelError: if the weights are not those of the card.
        OSError: if it cannot be written.
    """
    import_module(EXPORTERS[target.suffix.lower()]).pack(card, target, tick)
