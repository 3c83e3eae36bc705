"""The dialogs of files for the window of models."""

import os

from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtWidgets import QFileDialog, QWidget

from .import_form import ONNX, SUFFIXES, WEIGHTS

ZIP = ".zip"


def tr(text: str) -> str:
    """Translate."""
    return QCoreApplication.translate("MMEarth", text)


def ask_for_model(parent: QWidget) -> str:
    """Return a file of a model; empty if none is chosen."""
    return _open(parent, tr("Import a model"), tr("Models ({})").format(_patterns(SUFFIXES)))


def ask_for_folder(parent: QWidget) -> str:
    """Return a model folder; empty if none is chosen."""
    return QFileDialog.getExistingDirectory(parent, tr("Import a model folder"))


def ask_for_weights(parent: QWidget) -> str:
    """Return the file of a published encoder; empty if none is chosen."""
    kinds = [tr("Weights ({})").format(_patterns(WEIGHTS)), tr("All files (*)")]
    return _open(parent, tr("File of the encoder"), ";;".join(kinds))


def ask_for_target(parent: QWidget, name: str) -> str:
    """Return the file to export to, with the ending of the chosen type; empty if none is chosen.

    The dialog has asked before a file is replaced, but not of the ending that is set afterwards:
    if there is a file of that name, it asks again.
    """
    chosen = kind = tr("Model folder (*.zip)")
    kinds = ";;".join((kind, tr("ONNX (*.onnx)")))
    target = f"{name}{ZIP}"
    while True:
        path, chosen = QFileDialog.getSaveFileName(
            parent, tr("Export the model"), target, kinds, chosen
        )
        target = with_ending(path, onnx=chosen not in ("", kind))
        if target == path or not os.path.exists(target):
            return target


def with_ending(path: str, onnx: bool) -> str:
    """Return a path with the ending of its type; one that is typed counts for the first type.

    Args:
        path: as the user names it; nothing becomes of an empty one.
        onnx: whether the second type is chosen, ONNX.
    """
    stem, ending = os.path.splitext(path)
    if ending.lower() == ONNX or not path:
        return path
    if ending.lower() == ZIP:
        return f"{stem}{ONNX}" if onnx else path
    return f"{path}{ONNX if onnx else ZIP}"


def _open(parent: QWidget, title: str, kinds: str) -> str:
    path, _ = QFileDialog.getOpenFileName(parent, title, "", kinds)
    return path


def _patterns(suffixes) -> str:
    return " ".join(f"*{suffix}" for suffix in suffixes)
