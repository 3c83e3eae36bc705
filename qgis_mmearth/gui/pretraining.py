"""What is seen of a pretraining: its curves as they grow, and the encoder once it is there."""

from typing import Dict, Optional

from qgis.core import QgsApplication
from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import QTimer, QUrl, pyqtSignal
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..link.log import Told
from . import words
from .curve import CurveWidget

PRETRAIN = "mmearth:pretrain"


class PretrainingDock(QgsDockWidget):
    """The panel ``MMEarthPretraining``; it comes up when a pretraining begins."""

    build_asked = pyqtSignal(str)
    """The user wants to teach classes on the new encoder; carries its identifier."""

    def __init__(self, iface) -> None:
        super().__init__(words.tr("MMEarth pretraining"), iface.mainWindow())
        self.setObjectName("MMEarthPretraining")
        self._told: Dict[int, Told] = {}
        self.title, self.runs, self.stage = QLabel(), QComboBox(), QLabel()
        self.title.setObjectName("pretrainingTitle")
        self.runs.setToolTip(words.tr("The pretraining that is shown"))
        self.stage.setWordWrap(True)
        self.curve = CurveWidget()
        self.picture = QPushButton(words.tr("Show reconstructions"))
        self.picture.setToolTip(
            words.tr("Images, what was hidden of them, and what the encoder made of it")
        )
        self.build = QPushButton(words.tr("Teach it classes…"))
        self.build.setToolTip(words.tr("Choose the new encoder in the tab “Teach”"))
        buttons = QHBoxLayout()
        buttons.addStretch()
        buttons.addWidget(self.picture)
        buttons.addWidget(self.build)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.title)
        layout.addWidget(self.runs)
        layout.addWidget(self.curve, 1)
        layout.addWidget(self.stage)
        layout.addLayout(buttons)
        self.setWidget(content)
        self.picture.clicked.connect(self._open_picture)
        self.build.clicked.connect(lambda: self.build_asked.emit(self._shown().model))
        self.runs.currentIndexChanged.connect(self._show)

    def tell(self, told: Told) -> None:
        """Show how far a pretraining is; when it begins, the panel comes up.

        Of several that run at once, one is shown and can be chosen.
        """
        new = told.run not in self._told
        if new:
            self._forget_those_over()
        self._told[told.run] = told
        if new:
            self.runs.addItem(told.title, told.run)
            self.runs.setCurrentIndex(self.runs.count() - 1)
        if told.begins:
            self.setUserVisible(True)
        if told.run == self.runs.currentData():
            self._show()

    def _forget_those_over(self) -> None:
        for run in [run for run, told in self._told.items() if told.over]:
            del self._told[run]
            self.runs.removeItem(self.runs.findData(run))

    def _shown(self) -> Optional[Told]:
        return self._told.get(self.runs.currentData())

    def _show(self) -> None:
        told = self._shown()
        if told is None:  # between one that is forgotten and the next
            return
        several = self.runs.count() > 1
        self.runs.setVisible(several)
        self.title.setVisible(not several)
        self.title.setText(told.title)
        self.stage.setText(told.words)
        self.curve.show_rows(told.rows, told.steps)
        self.picture.setVisible(bool(told.picture))
        self.build.setVisible(bool(told.model))

    def _open_picture(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._shown().picture))


def open_window() -> None:
    """Show the window of the algorithm, if Processing has it."""
    if QgsApplication.processingRegistry().algorithmById(PRETRAIN) is None:
        return
    import processing  # a plugin of QGIS, which may be loaded after this one

    dialog = processing.createAlgorithmDialog(PRETRAIN, {})
    if dialog is not None:
        QTimer.singleShot(0, dialog.show)
