"""The window of models: see what is installed and published; install, export and remove."""

from html import escape
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from qgis.gui import QgsGui
from qgis.PyQt import uic
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QDialog, QFileDialog, QMenu

from .. import paths, shared, tasks
from ..link import catalog
from ..link.errors import LinkError
from . import model_cards, words
from .backend_bar import NEEDS_BUTTON, BackendBar, Status
from .help import open_manual
from .import_form import SUFFIXES, ImportForm, fill_levels, needs_form
from .model_list import INSTALLED, PUBLISHED, ModelTree
from .model_work import ModelWork

FORM, _ = uic.loadUiType(str(paths.GUI / "model_manager.ui"))
NEEDS_EXTRA = "needs_extra"
ONNX_EXTRA = "onnx"
LIST_WIDTH, CARD_WIDTH = 340, 580  # at first; the user may move what divides them


class ModelManager(QDialog, FORM):
    """The window ``MMEarthModels``; it blocks no other, and may be closed while it works."""

    def __init__(self, iface) -> None:
        super().__init__(iface.mainWindow())
        self.setupUi(self)
        self._models: List[catalog.Model] = []
        self._published: Optional[List[Dict[str, Any]]] = None
        self._asking: Optional[tasks.Task] = None
        self._shown = ("", "")  # group and identifier of the model on the right
        self._again: Optional[Callable[[], None]] = None
        sensors = catalog.sensors(paths.BACKEND)
        self._sensors = {sensor.id: sensor.title for sensor in sensors}
        self.work = ModelWork(self.messageLabel, self.progressBar, self.cancelButton)
        self.models = ModelTree(self.modelsTree, self.searchEdit, self._sensors)
        self.form = ImportForm(self, sensors)
        self.backend = BackendBar(self.backendLabel, self.backendButton)
        self._set_up_widgets()
        self._connect()
        self._list_installed()
        self.models.show_published(None)
        if self._models:
            self.models.select(INSTALLED, self._models[0].id)

    def open_up(self) -> None:
        """Show the window in front, and ask the backend what is published."""
        self.show()
        self.raise_()
        self.activateWindow()
        self.backend.start_if_installed()
        self._refresh()

    def shut_down(self) -> None:
        """Stop everything; called before the window is removed."""
        shared.events.models_changed.disconnect(self._models_changed)
        if self._asking is not None:
            self._asking.forget()
        self.work.shut_down()
        self.backend.shut_down()

    def import_path(self, path: str) -> None:
        """Import a file or a model folder; what it does not say of itself is asked for inline."""
        if self.work.busy:
            return
        source = Path(path)
        if not source.is_dir() and source.suffix.lower() not in SUFFIXES:
            self.work.say(
                words.problem(
                    self.tr("{} is no model.").format(source.name),
                    self.tr("Choose a model folder, or a file ending in {}.").format(
                        ", ".join(SUFFIXES)
                    ),
                ),
                "error",
            )
            return
        self.work.say("")
        if source.is_file() and needs_form(source):
            self.form.ask(source, self._published or [])
            self._refresh()
        else:
            self._install({"source": str(source)})

    def install_file(self, path: str) -> None:
        """Install the selected published encoder from a file that the user has obtained."""
        group, model_id = self.models.selection()
        if group == PUBLISHED:
            self._install(
                {
                    "published": model_id,
                    "source": path,
                    "level": self.levelCombo.currentData(),
                    "accept_licence": self.acceptCheck.isChecked(),
                }
            )

    def download(self) -> None:
        """Download the selected published encoder, whose licence the user has accepted."""
        group, model_id = self.models.selection()
        if group == PUBLISHED:
            self._install(
                {
                    "published": model_id,
                    "level": self.levelCombo.currentData(),
                    "accept_licence": self.acceptCheck.isChecked(),
                }
            )

    def export(self, target: str) -> None:
        """Write the selected installed model to a file."""
        group, model_id = self.models.selection()
        if group != INSTALLED:
            return

        def done(result: Dict[str, Any]) -> None:
            where = words.folder_link(Path(result["target"]).parent)
            name, size = escape(Path(result["target"]).name), result["size_bytes"]
            said = self.tr("Written to {} in {} ({}).").format(name, where, model_cards.size(size))
            self.work.say(f"{said} {words.problems(result['warnings'])}".strip())

        spec = {"kind": "export", "model": model_id, "target": target}
        self._run(self.tr("Exporting {}").format(self._selected().title), spec, done)

    def remove(self) -> None:
        """Delete the selected installed model; the user has been asked."""
        model = self._selected()

        def work(task):
            return shared.backend().client(task.isCanceled).remove_model(model.id)

        def done(_answer) -> None:
            shared.events.models_changed.emit()
            self.work.say(self.tr("{} was removed.").format(escape(model.title)))

        self.work.start(self.tr("Removing {}").format(model.title), work, done)

    def _set_up_widgets(self) -> None:
        self.splitter.setSizes([LIST_WIDTH, CARD_WIDTH])
        self.splitter.setStretchFactor(1, 1)
        self.extraButton.hide()
        self.removeActions.hide()
        self.work.say("")
        menu = QMenu(self.importButton)
        menu.addAction(self.tr("File…"), self._import_file)
        menu.addAction(self.tr("Model folder…"), self._import_folder)
        self.importButton.setMenu(menu)
        QgsGui.enableAutoGeometryRestore(self)

    def _connect(self) -> None:
        shared.events.models_changed.connect(self._models_changed)
        self.models.selected.connect(self._show_selected)
        self.form.submitted.connect(self._install)
        self.dismissButton.clicked.connect(self._refresh)
        self.backend.changed.connect(self._backend_changed)
        self.backend.failed.connect(self.work.show_error)
        self.work.changed.connect(self._refresh)
        self.work.failed.connect(self._work_failed)
        self.acceptCheck.toggled.connect(self._refresh)
        self.downloadButton.clicked.connect(self.download)
        self.chooseButton.clicked.connect(self._choose_file)
        self.exportButton.clicked.connect(self._choose_target)
        self.removeButton.clicked.connect(self._ask_before_removing)
        self.deleteButton.clicked.connect(self.remove)
        self.keepButton.clicked.connect(self._refresh)
        self.extraButton.clicked.connect(self._install_extra)
        self.helpButton.clicked.connect(lambda: open_manual("models"))
        self.closeButton.clicked.connect(self.close)

    def _list_installed(self) -> None:
        self._models = shared.models()
        self.models.show_installed(self._models)

    def _models_changed(self) -> None:
        self._list_installed()
        self._ask_for_published()

    def _backend_changed(self) -> None:
        if self.backend.status is Status.running and self._published is None:
            self._ask_for_published()
        self._refresh()

    def _ask_for_published(self) -> None:
        """Ask the backend what is published, unless it has to be installed first."""
        if self.backend.status in NEEDS_BUTTON or self._asking is not None:
            return

        def done(answer: Dict[str, Any]) -> None:
            self._asking = None
            self._published = answer["models"]
            self.models.show_published(self._published)

        def failed(error: LinkError) -> None:
            self._asking = None
            self.work.show_error(error)

        def work(task):
            return shared.backend().client(task.isCanceled).published()

        title = self.tr("Asking for published models")
        self._asking = tasks.start(tasks.Task(title, work, done, failed, hidden=True))

    def _selected(self) -> Any:
        """Return the selected model: its card if installed, what is published of it, or None."""
        group, model_id = self.models.selection()
        if group == INSTALLED:
            return next((model for model in self._models if model.id == model_id), None)
        return next((info for info in self._published or [] if info["id"] == model_id), None)

    def _show_selected(self) -> None:
        selected, before = self._selected(), self._shown
        self._shown = self.models.selection()
        if self._shown != before:
            self.form.hide()
            self.acceptCheck.setChecked(False)
            if not self.work.busy:
                self.work.say("")  # it was about another model
        # Qt's own blue of links cannot be read in dark themes.
        link = words.color("link", self.cardBrowser)
        self.cardBrowser.document().setDefaultStyleSheet(f"a {{ color: {link} }}")
        if isinstance(selected, catalog.Model):
            self.cardBrowser.setHtml(model_cards.installed(selected, self._sensors))
        elif selected is not None:
            self.cardBrowser.setHtml(model_cards.published(selected, self._sensors))
            self._show_conditions(selected)
        else:
            self.cardBrowser.setHtml(escape(self.tr("Select a model on the left.")))
        self._refresh()

    def _show_conditions(self, info: Dict[str, Any]) -> None:
        """Show what there is to accept or to obtain, and to choose, before installing."""
        own = info["access"] != "download"
        page, file = escape(info["page"]), escape(info["file"])
        if own:
            link = words.color("link", self.obtainLabel)
            where = self.tr('The file is {}, on <a href="{}" style="{}">its publisher\'s page</a>.')
            text = where.format(f"<b>{file}</b>", page, f"color: {link}")
            text = f"{escape(info['licence_words'])} {text}"
        else:
            text = f"<b>{escape(info['licence'])}:</b> {escape(info['licence_words'])}"
        self.obtainLabel.setText(text)
        self.acceptCheck.setVisible(not own)
        self.downloadButton.setVisible(not own)
        fill_levels(self.levelCombo, info["levels"])
        for widget in (self.levelLabel, self.levelCombo):
            widget.setVisible(len(info["levels"]) > 1)

    def _refresh(self, *_: Any) -> None:
        """Show and enable what can be done now."""
        selected = self._selected()
        can = self.backend.status not in NEEDS_BUTTON and not self.work.busy
        asking = not self.importForm.isHidden()
        installed = isinstance(selected, catalog.Model)
        own = installed and selected.folder.parent != paths.EMBEDDED_MODELS
        self.installedActions.setVisible(installed and not asking)
        self.publishedActions.setVisible(selected is not None and not installed and not asking)
        self.removeActions.hide()
        self.importForm.setEnabled(can)
        self.importButton.setEnabled(can)
        self.exportButton.setEnabled(can)
        self.removeButton.setEnabled(can and own)
        self.removeButton.setToolTip(
            "" if own else self.tr("It came with the plugin, and stays as long as that does")
        )
        self.chooseButton.setEnabled(can)
        self.downloadButton.setEnabled(can and self.acceptCheck.isChecked())
        if self.work.busy:
            self.extraButton.hide()

    def _ask_before_removing(self) -> None:
        self.removeLabel.setText(
            self.tr("This deletes the files of {}.").format(self._selected().title)
        )
        self.installedActions.hide()
        self.removeActions.show()
        self.keepButton.setFocus(Qt.FocusReason.OtherFocusReason)

    def _install(self, request: Dict[str, Any]) -> None:
        def done(result: Dict[str, Any]) -> None:
            model = result["model"]
            self.form.hide()
            shared.events.models_changed.emit()
            self.models.select(INSTALLED, model["id"])
            said = self.tr("{} is installed.").format(escape(model["title"]))
            self.work.say(f"{said} {words.problems(result['warnings'])}".strip())

        name = request.get("published") or Path(request["source"]).name
        self._run(self.tr("Installing {}").format(name), {"kind": "install", **request}, done)

    def _run(
        self, title: str, spec: Dict[str, Any], done: Callable[[Dict[str, Any]], None]
    ) -> None:
        """Run a job of the backend."""
        self._again = lambda: self._run(title, spec, done)

        def work(task):
            return shared.backend().run_job(spec, tasks.job_report(task), task.isCanceled)["result"]

        self.work.start(title, work, done)

    def _work_failed(self, error: LinkError) -> None:
        self.extraButton.setVisible(error.code == NEEDS_EXTRA)
        self.backend.refresh()

    def _install_extra(self) -> None:
        """Install what reads ONNX files, then do again what needed it."""
        environment, again = shared.backend().environment, self._again

        def work(task):
            environment.install_extra(ONNX_EXTRA, task.report, task.isCanceled)
            return True

        def done(_result) -> None:
            shared.backend().stop()  # it does not see packages that are newer than itself
            again()

        self.work.start(self.tr("Installing ONNX support"), work, done)

    def _import_file(self) -> None:
        kinds = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(
            self, self.tr("Import a model"), "", self.tr("Models ({})").format(kinds)
        )
        if path:
            self.import_path(path)

    def _import_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, self.tr("Import a model folder"))
        if path:
            self.import_path(path)

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self.tr("File of the encoder"))
        if path:
            self.install_file(path)

    def _choose_target(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self,
            self.tr("Export the model"),
            f"{self._selected().id}.zip",
            self.tr("Model folder (*.zip);;ONNX (*.onnx)"),
        )
        if path:
            self.export(path)
