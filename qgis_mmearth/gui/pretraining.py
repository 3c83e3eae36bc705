"""What is seen of a pretraining: its curves as they grow, and the encoder once it is there."""

from typing import Optional

from qgis.core import QgsApplication
from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import QTimer, QUrl, pyqtSignal
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

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
        self._told: Optional[Told] = None
        self.title, self.stage = QLabel(), QLabel()
        self.title.setObjectName("pretrainingTitle")
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
        layout.addWidget(self.curve, 1)
        layout.addWidget(self.stage)
        layout.addLayout(buttons)
        self.setWidget(content)
        self.picture.clicked.connect(self._open_picture)
        self.build.clicked.connect(lambda: self.build_asked.emit(self._told.model))

    def tell(self, told: Told) -> None:
        """Show how far a pretraining is; when it begins, the panel comes up."""
        if told.begins:
            self.setUserVisible(True)
        self._told = told
        self.title.setText(told.title)
        self.stage.setText(told.words)
        self.curve.show_rows(told.rows, told.steps)
        self.picture.setVisible(bool(told.picture))
        self.build.setVisible(bool(told.model))

    def _open_picture(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._told.picture))


def open_window() -> None:
    """Show the window of the algorithm, if Processing has it."""
    if QgsApplication.processingRegistry().algorithmById(PRETRAIN) is None:
        return
    import processing  # a plugin of QGIS, which may be loaded after this one

    dialog = processing.createAlgorithmDialog(PRETRAIN, {})
    if dialog is not None:
        QTimer.singleShot(0, dialog.show)
