"""What has to be said of a file of one's own before it can be imported."""

from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QWidget

from ..link.catalog import SensorEntry

WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")
ONNX = ".onnx"
SUFFIXES = (*WEIGHTS, ".zip", ONNX)


def needs_form(path: Path) -> bool:
    """Tell whether a file leaves something to be said; a model folder and its zip file do not."""
    return path.suffix.lower() in (*WEIGHTS, ONNX)


class ImportForm(QObject):
    """The inline form: which published encoder a file of weights is; what an ONNX file reads."""

    submitted = pyqtSignal(dict)
    """The user goes on: carries the fields of the request."""

    def __init__(self, form: Any, sensors: List[SensorEntry]) -> None:
        """Take over the widgets.

        Args:
            form: the window, with ``importForm`` and what is in it.
            sensors: those that the backend knows.
        """
        super().__init__(form.importForm)
        self._form = form
        self._path = Path()
        form.sensorCombo.addItem(self.tr("as the file says"), None)
        for sensor in sensors:
            form.sensorCombo.addItem(sensor.title, sensor.id)
        form.sensorCombo.currentIndexChanged.connect(self._refresh)
        form.whichCombo.currentIndexChanged.connect(self._refresh)
        form.startImportButton.clicked.connect(self._submit)
        form.dismissButton.clicked.connect(self.hide)
        self.hide()

    def ask(self, path: Path, published: List[Dict[str, Any]], chosen: str = "") -> None:
        """Show the form for a file.

        Args:
            path: the file.
            published: the published encoders, one of which weights must be.
            chosen: identifier of the one that the user says it is; else its name may tell.
        """
        self._path = path
        form = self._form
        form.fileLabel.setText(path.name)
        form.fileLabel.setToolTip(str(path))
        form.whichCombo.clear()
        form.whichCombo.addItem(self.tr("please choose"), None)
        for info in published:
            form.whichCombo.addItem(info["title"], info)
        known = [info["id"] for info in published]
        named = [info["id"] for info in published if path.name in _file_names(info)]
        chosen = chosen or (named[0] if len(named) == 1 else "")
        form.whichCombo.setCurrentIndex(known.index(chosen) + 1 if chosen in known else 0)
        form.bandsEdit.clear()
        form.sensorCombo.setCurrentIndex(0)
        form.importForm.show()
        self._refresh()

    def hide(self) -> None:
        """Hide the form."""
        self._form.importForm.hide()

    def _refresh(self, *_: Any) -> None:
        """Show only what the file leaves open."""
        form, onnx = self._form, self._path.suffix.lower() == ONNX
        _set_visible(not onnx, form.whichLabel, form.whichCombo)
        info = form.whichCombo.currentData()
        levels = info["levels"] if info and not onnx else []
        fill_levels(form.fileLevelCombo, levels)
        _set_visible(len(levels) > 1, form.fileLevelLabel, form.fileLevelCombo)
        _set_visible(onnx, form.sensorLabel, form.sensorCombo)
        named = onnx and form.sensorCombo.currentData() is not None
        _set_visible(named, form.bandsLabel, form.bandsEdit)
        form.startImportButton.setEnabled(onnx or info is not None)

    def _submit(self) -> None:
        form = self._form
        request: Dict[str, Any] = {"source": str(self._path)}
        if self._path.suffix.lower() == ONNX:
            request["sensor"] = form.sensorCombo.currentData()
            named = request["sensor"] is not None
            request["bands"] = form.bandsEdit.text().replace(",", " ").split() if named else []
        else:
            request["published"] = form.whichCombo.currentData()["id"]
            request["level"] = form.fileLevelCombo.currentData()
        self.submitted.emit(request)


def fill_levels(combo: QComboBox, levels: List[str]) -> None:
    """Offer processing levels, the first of which is what the backend would take; keep the rest."""
    if [combo.itemData(row) for row in range(combo.count())] != levels:
        combo.clear()
        for level in levels:
            combo.addItem(level, level)


def _file_names(info: Dict[str, Any]) -> List[Optional[str]]:
    return [info["file"], PurePosixPath(urlsplit(info["url"]).path).name]


def _set_visible(visible: bool, *widgets: QWidget) -> None:
    for widget in widgets:
        widget.setVisible(visible)
