"""The window of models: see what is installed and published; install, export and remove."""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from qgis.gui import QgsGui
from qgis.PyQt import uic
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QDialog, QMenu

from .. import paths, shared, tasks
from ..link import catalog
from ..link.errors import LinkError
from . import model_cards, model_files, words
from .backend_bar import NEEDS_BUTTON, BackendBar, Status
from .help import open_manual
from .import_form import SUFFIXES, ImportForm, fill_levels, needs_form
from .model_list import INSTALLED, PUBLISHED, ModelTree
from .model_work import ModelWork
from .question import Question

FORM, _ = uic.loadUiType(str(paths.GUI / "model_manager.ui"))
NEEDS_EXTRA = "needs_extra"
ONNX_EXTRA = "onnx"
REPLACED = "replaced"  # code of the warning that an installed model goes
KNOWN = (REPLACED, "installed")  # of warnings that say nothing new once it is done
LIST_WIDTH, CARD_WIDTH = 340, 580  # at first; the user may move what divides them


class ModelManager(QDialog, FORM):
    """The window ``MMEarthModels``; it blocks no other, and may be closed while it works."""

    def __init__(self, iface) -> None:
        super().__init__(iface.mainWindow())
        self.setupUi(self)
        self._models: List[catalog.Model] = []
        self._published: Optional[List[Dict[str, Any]]] = None
        self._asking: Optional[tasks.Task] = None
        self._asking_is_stale = False
        self._shown = ("", "")  # group and identifier of the model on the right
        self._card = ("", "")  # what is shown of it: rich text, and the colour of links
        self._again: Optional[Callable[[], None]] = None
        sensors = catalog.sensors(paths.BACKEND)
        self._sensors = {sensor.id: sensor.title for sensor in sensors}
        self.question = Question(
            self.questionActions, self.questionLabel, self.yesButton, self.keepButton
        )
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
        self._backend_changed()  # it may run already

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
        self.question.drop()
        if source.is_file() and needs_form(source):
            self.form.ask(source, self._published)
            if self._published is None:
                self._ask_for_published()
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

        def work(task):
            return _run_job(spec, task)

        self._run(self.tr("Exporting {}").format(self._selected().title), work, done)

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
        self.work.said.connect(self.extraButton.hide)  # it goes with its message
        self.work.failed.connect(self._work_failed)
        self.question.changed.connect(self._refresh)
        self.cardBrowser.anchorClicked.connect(QDesktopServices.openUrl)
        self.acceptCheck.toggled.connect(self._refresh)
        self.downloadButton.clicked.connect(self.download)
        self.chooseButton.clicked.connect(self._choose_file)
        self.exportButton.clicked.connect(self._choose_target)
        self.removeButton.clicked.connect(self._ask_before_removing)
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
        if self.backend.status in NEEDS_BUTTON:
            return
        if self._asking is not None:
            self._asking_is_stale = True
            return

        def answered() -> None:
            self._asking = None
            if self._asking_is_stale:
                self._asking_is_stale = False
                self._ask_for_published()

        def done(answer: Dict[str, Any]) -> None:
            self._published = answer["models"]
            self.models.show_published(self._published)
            self.form.show_published(self._published)
            answered()

        def failed(error: LinkError) -> None:
            self.work.show_error(error)
            answered()

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
            self.question.drop()
            self.acceptCheck.setChecked(False)
            if not self.work.busy:
                self.work.say("")  # it was about another model
        if isinstance(selected, catalog.Model):
            self._show_card(model_cards.installed(selected, self._sensors))
        elif selected is not None:
            self._show_card(model_cards.published(selected, self._sensors))
            self._show_conditions(selected)
        else:
            self._show_card(escape(self.tr("Select a model on the left.")))
        self._refresh()

    def _show_card(self, text: str) -> None:
        """Show rich text on the right; the same again leaves it scrolled as it is."""
        # Qt's own blue of links cannot be read in dark themes.
        link = words.color("link", self.cardBrowser)
        if self._card != (text, link):
            self._card = (text, link)
            self.cardBrowser.document().setDefaultStyleSheet(f"a {{ color: {link} }}")
            self.cardBrowser.setHtml(text)

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
        asking = not self.importForm.isHidden() or self.question.stands
        installed = isinstance(selected, catalog.Model)
        own = installed and selected.folder.parent != paths.EMBEDDED_MODELS
        self.installedActions.setVisible(installed and not asking)
        self.publishedActions.setVisible(selected is not None and not installed and not asking)
        self.yesButton.setEnabled(can)
        self.importForm.setEnabled(can and not self.question.stands)
        self.importButton.setEnabled(can)
        self.exportButton.setEnabled(can)
        self.removeButton.setEnabled(can and own)
        self.removeButton.setToolTip(
            "" if own else self.tr("It came with the plugin, and stays as long as that does")
        )
        self.chooseButton.setEnabled(can)
        self.downloadButton.setEnabled(can and self.acceptCheck.isChecked())

    def _ask_before_removing(self) -> None:
        text = self.tr("This deletes the files of {}.").format(self._selected().title)
        self.question.ask(text, self.tr("&Delete"), self.remove)

    def _install(self, request: Dict[str, Any], replace: bool = False) -> None:
        """Install a model; one of the user's own gives way only if that is said to be right."""
        spec = {"kind": "install", **request}

        def work(task):
            if not replace:
                plan = shared.backend().client(task.isCanceled).plan(spec)
                for warning in plan["warnings"]:
                    if warning["code"] == REPLACED:
                        return warning
            return _run_job(spec, task)

        def done(result: Dict[str, Any]) -> None:
            if result.get("code") == REPLACED:
                self.work.say("")
                text = f"{result['message']} {result['advice']}"
                again = partial(self._install, request, replace=True)
                self.question.ask(text, self.tr("&Replace"), again)
                return
            model = result["model"]
            self.form.hide()
            shared.events.models_changed.emit()
            self.models.select(INSTALLED, model["id"])
            said = self.tr("{} is installed.").format(escape(model["title"]))
            warnings = [row for row in result["warnings"] if row["code"] not in KNOWN]
            self.work.say(f"{said} {words.problems(warnings)}".strip())

        name = request.get("published") or Path(request["source"]).name
        self._run(self.tr("Installing {}").format(name), work, done)

    def _run(
        self,
        title: str,
        work: Callable[[tasks.Task], Optional[Dict[str, Any]]],
        done: Callable[[Dict[str, Any]], None],
    ) -> None:
        """Run what may have to be run again, once more is installed."""
        self._again = partial(self._run, title, work, done)
        self.work.start(title, work, done)

    def _work_failed(self, error: LinkError) -> None:
        self.extraButton.setVisible(error.code == NEEDS_EXTRA)
        self.backend.refresh()

    def _install_extra(self) -> None:
        """Install what reads ONNX files, then do again what needed it."""
        environment, again = shared.backend().environment, self._again

        def work(task):
            environment.install_extra(ONNX_EXTRA, task.report, task.isCanceled)
            return shared.renew_backend()  # it does not see packages that are newer than itself

        def done(job_runs: bool) -> None:
            if not job_runs:
                again()
                return
            said = self.tr(
                "ONNX support is installed, and can be used when the running job is done."
            )
            self.work.say(f"{said} <i>{self.tr('Then do this again.')}</i>")

        self.work.start(self.tr("Installing ONNX support"), work, done)

    def _import_file(self) -> None:
        path = model_files.ask_for_model(self)
        if path:
            self.import_path(path)

    def _import_folder(self) -> None:
        path = model_files.ask_for_folder(self)
        if path:
            self.import_path(path)

    def _choose_file(self) -> None:
        path = model_files.ask_for_weights(self)
        if path:
            self.install_file(path)

    def _choose_target(self) -> None:
        path = model_files.ask_for_target(self, self._selected().id)
        if path:
            self.export(path)


def _run_job(spec: Dict[str, Any], task: tasks.Task) -> Optional[Dict[str, Any]]:
    """Run a job of the backend in a task's thread; None if it is cancelled."""
    return shared.backend().run_job(spec, tasks.job_report(task), task.isCanceled)["result"]
