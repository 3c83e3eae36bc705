"""What has to be said of a file of one's own before it can be imported."""

from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QWidget

from ..link.catalog import SensorEntry

WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")
ONNX = ".onnx"
EXAMPLE_BANDS = 3
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
        self._bands = {sensor.id: sensor.bands for sensor in sensors}
        for sensor in sensors:
            form.sensorCombo.addItem(sensor.title, sensor.id)
        form.sensorCombo.currentIndexChanged.connect(self._refresh)
        form.whichCombo.currentIndexChanged.connect(self._refresh)
        form.startImportButton.clicked.connect(self._submit)
        form.dismissButton.clicked.connect(self.hide)
        self.hide()

    def ask(self, path: Path, published: Optional[List[Dict[str, Any]]]) -> None:
        """Show the form for a file.

        Args:
            path: the file.
            published: the published encoders, one of which weights must be; None if they are not
                known yet, see ``show_published``.
        """
        self._path = path
        form = self._form
        form.fileLabel.setText(path.name)
        form.fileLabel.setToolTip(str(path))
        form.whichCombo.clear()
        form.whichCombo.addItem(self.tr("asking what is published…"), None)
        if published is not None:
            self.show_published(published)
        form.bandsEdit.clear()
        form.nameEdit.clear()
        form.resolutionSpin.setValue(form.resolutionSpin.minimum())
        form.sensorCombo.setCurrentIndex(0)
        form.importForm.show()
        self._refresh()

    def show_published(self, published: List[Dict[str, Any]]) -> None:
        """Offer the published encoders; unless one is chosen, the file's name may tell which."""
        combo = self._form.whichCombo
        before = combo.currentData()
        named = [info["id"] for info in published if self._path.name in _file_names(info)]
        chosen = before["id"] if before else named[0] if len(named) == 1 else None
        combo.clear()
        combo.addItem(self.tr("please choose"), None)
        for info in published:
            combo.addItem(info["title"], info)
            if info["id"] == chosen:
                combo.setCurrentIndex(combo.count() - 1)

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
        sensor = form.sensorCombo.currentData()
        _set_visible(onnx and sensor is not None, form.bandsLabel, form.bandsEdit)
        example = " ".join(self._bands.get(sensor, ())[:EXAMPLE_BANDS])
        hint = self.tr("in the model's order, for example {}").format(example) if example else ""
        form.bandsEdit.setPlaceholderText(hint)
        _set_visible(onnx, form.resolutionLabel, form.resolutionSpin, form.nameLabel, form.nameEdit)
        form.startImportButton.setEnabled(onnx or info is not None)

    def _submit(self) -> None:
        form = self._form
        request: Dict[str, Any] = {"source": str(self._path)}
        if self._path.suffix.lower() == ONNX:
            request["sensor"] = form.sensorCombo.currentData()
            named = request["sensor"] is not None
            request["bands"] = form.bandsEdit.text().replace(",", " ").split() if named else []
            request["resolution_m"] = form.resolutionSpin.value() or None
            if form.nameEdit.text().strip():
                request["id"] = form.nameEdit.text().strip()
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
