"""The page of the plugin in QGIS's options."""

from pathlib import Path

from qgis.core import Qgis, QgsApplication
from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtCore import QCoreApplication, QUrl
from qgis.PyQt.QtGui import QDesktopServices, QIcon
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)
from qgis.utils import iface

from .. import paths, settings, shared, tasks
from ..link.errors import LinkError

PAGE = "mmearthOptions"


def tr(text):
    """Translate."""
    return QCoreApplication.translate("MMEarth", text)


class SettingsPageFactory(QgsOptionsWidgetFactory):
    """Makes the page when the options are opened."""

    def __init__(self):
        super().__init__("MMEarth", QIcon(str(paths.ICONS / "mmearth.svg")))
        if hasattr(self, "setKey"):  # QGIS 3.32
            self.setKey(PAGE)

    def icon(self):
        """Return the icon of the page."""
        return QIcon(str(paths.ICONS / "mmearth.svg"))

    def createWidget(self, parent):  # noqa: N802
        """Make the page."""
        return SettingsPage(parent)


class SettingsPage(QgsOptionsPageWidget):
    """Device, threads, folders, existing Python; and care for the backend."""

    def __init__(self, parent):
        super().__init__(parent)
        self.setObjectName(PAGE)
        layout = QVBoxLayout(self)
        layout.addWidget(self._computing())
        layout.addWidget(self._folders())
        layout.addWidget(self._installation())
        self.messageLabel = QLabel()
        self.messageLabel.setWordWrap(True)
        layout.addWidget(self.messageLabel)
        layout.addStretch()

    def apply(self):
        """Keep the settings; they count from the backend's next use on. A running job goes on."""
        before = _of_the_backend()
        settings.write("device", self.deviceCombo.currentData())
        settings.write("threads", self.threadsSpin.value())
        settings.write("memory_mb", self.memorySpin.value())
        settings.write("home", self.homeWidget.filePath())
        settings.write("output_folder", self.outputWidget.filePath())
        settings.write("accelerator", self.acceleratorCombo.currentData())
        settings.write("python", self.pythonWidget.filePath())
        settings.write("base_python", self.basePythonWidget.filePath())
        settings.write("wheels", self.wheelsWidget.filePath())
        if before != _of_the_backend() and shared.renew_backend():
            iface.messageBar().pushMessage(
                "MMEarth",
                tr("A map is being made; the new settings count from the next one on."),
                Qgis.MessageLevel.Info,
            )

    def _computing(self):
        box = QGroupBox(tr("Computing"))
        form = QFormLayout(box)
        self.deviceCombo = _combo(
            [
                (tr("Automatic"), "auto"),
                (tr("Processor"), "cpu"),
                (tr("NVIDIA graphics card"), "cuda"),
                (tr("Apple graphics"), "mps"),
            ],
            settings.read("device"),
        )
        self.threadsSpin = _spin(0, 256, settings.read("threads"), tr("all cores"))
        self.memorySpin = _spin(0, 1_000_000, settings.read("memory_mb"), tr("automatic"), " MB")
        form.addRow(tr("Device"), self.deviceCombo)
        form.addRow(tr("Threads"), self.threadsSpin)
        form.addRow(tr("Memory for tiles"), self.memorySpin)
        return box

    def _folders(self):
        box = QGroupBox(tr("Folders"))
        form = QFormLayout(box)
        self.homeWidget = _file(settings.read("home"), folder=True)
        self.homeWidget.lineEdit().setPlaceholderText(str(settings.home()))
        self.outputWidget = _file(settings.read("output_folder"), folder=True)
        self.outputWidget.lineEdit().setPlaceholderText(tr("beside the project"))
        form.addRow(tr("Backend, models, logs"), self.homeWidget)
        form.addRow(tr("Results"), self.outputWidget)
        return box

    def _installation(self):
        box = QGroupBox(tr("Backend"))
        form = QFormLayout(box)
        self.acceleratorCombo = _combo(
            [
                (tr("the processor (about 1 GB)"), "cpu"),
                (tr("an NVIDIA graphics card (about 6 GB)"), "cuda"),
            ],
            settings.read("accelerator"),
        )
        self.pythonWidget = _file(settings.read("python"))
        self.pythonWidget.setToolTip(
            tr("A Python that has all packages; nothing is installed then")
        )
        self.basePythonWidget = _file(settings.read("base_python"))
        self.basePythonWidget.setToolTip(
            tr("Python 3.10 or newer, to install the backend with; if empty, one is looked for")
        )
        self.wheelsWidget = _file(settings.read("wheels"), folder=True)
        self.wheelsWidget.setToolTip(tr("Install from files in this folder, without a network"))
        self.remoteEdit = QLineEdit(settings.read("remote_url"))
        self.remoteEdit.setEnabled(False)
        self.remoteEdit.setPlaceholderText(tr("reserved for a later version"))
        form.addRow(tr("Install it for"), self.acceleratorCombo)
        form.addRow(tr("Install it with (Python)"), self.basePythonWidget)
        form.addRow(tr("Downloaded packages (no network)"), self.wheelsWidget)
        form.addRow(tr("Use this Python instead"), self.pythonWidget)
        form.addRow(tr("Backend on another machine"), self.remoteEdit)
        buttons = QHBoxLayout()
        for text, slot in (
            (tr("Open log folder"), self._open_logs),
            (tr("Copy diagnostics"), self._copy_diagnostics),
            (tr("Remove backend"), self._reset),
        ):
            button = QPushButton(text)
            button.clicked.connect(slot)
            buttons.addWidget(button)
        form.addRow(buttons)
        return box

    def _open_logs(self):
        folder = settings.home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def _copy_diagnostics(self):
        from .diagnostics import report

        def done(text):
            QgsApplication.clipboard().setText(text)
            self.messageLabel.setText(tr("Copied. Paste it into your report."))

        self.messageLabel.setText(tr("Checking…"))
        self._start(tr("MMEarth diagnostics"), lambda task: report(), done)

    def _reset(self):
        environment = shared.backend().environment
        shared.forget_backend()

        def done(_):
            self.messageLabel.setText(tr("Removed. The panel's button installs it again."))

        self.messageLabel.setText(tr("Removing…"))
        self._start(
            tr("Removing MMEarth's backend"), lambda task: environment.reset() or True, done
        )

    def _start(self, title, work, done):
        task = tasks.start(tasks.Task(title, work, done, self._failed))
        # The dialog may be closed before it is done.
        self.destroyed.connect(lambda: task.forget())

    def _failed(self, error: LinkError):
        self.messageLabel.setText(str(error))


def _of_the_backend():
    """Return the settings that make a difference to the backend."""
    return {name: settings.read(name) for name in settings.KEYS if name not in settings.OURS}


def _combo(entries, value):
    combo = QComboBox()
    for title, data in entries:
        combo.addItem(title, data)
    combo.setCurrentIndex(max(0, combo.findData(value)))
    return combo


def _spin(low, high, value, zero, suffix=""):
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setSpecialValueText(zero)
    spin.setSuffix(suffix)
    spin.setValue(value)
    return spin


def _file(value, folder=False):
    widget = QgsFileWidget()
    mode = QgsFileWidget.StorageMode
    widget.setStorageMode(mode.GetDirectory if folder else mode.GetFile)
    if value:
        widget.setFilePath(str(Path(value)))
    return widget
