"""The panel: choose rasters, look at what is recognised, press Run."""

import re
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import Qgis, QgsProject, QgsRasterLayer
from qgis.gui import QgsDockWidget, QgsFileWidget
from qgis.PyQt import uic
from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QFileDialog, QMenu

from .. import paths, settings, shared, tasks
from ..layers import results, stack
from ..link.catalog import Model
from ..link.errors import LinkError
from . import words
from .area_table import AreaTable
from .backend_bar import NEEDS_BUTTON, BackendBar, Status
from .band_table import BandTable
from .help import open_manual
from .layer_list import LayerList

FORM, _ = uic.loadUiType(str(paths.GUI / "dock.ui"))
PLAN_DELAY_MS = 250  # several changes in a row are planned once
MESSAGE_SECONDS = 8


class MMEarthDock(QgsDockWidget, FORM):
    """The panel ``MMEarthDock``."""

    models_asked = pyqtSignal()
    """The user wants to see, install or remove models."""

    def __init__(self, iface) -> None:
        super().__init__(iface.mainWindow())
        self.setupUi(self)
        self.iface = iface
        self._plan: Optional[Dict[str, Any]] = None
        self._plan_task: Optional[tasks.Task] = None
        self._plan_again = False
        self._job: Optional[tasks.Task] = None
        self._project_is_same = True  # as when the job was started
        self._model_is_users = False
        self._models: List[Model] = []
        self.layers = LayerList(self.layersWidget)
        self.bands = BandTable(self.bandTable, self.bandsLabel)
        self.areas = AreaTable(self.resultLabel, self.resultTable, self.copyButton)
        self.backend = BackendBar(self.backendLabel, self.backendButton)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PLAN_DELAY_MS)
        self._timer.timeout.connect(self._make_plan)
        self._set_up_widgets()
        self._connect()
        self.layers.tick_only(self._first_raster())
        self.backend.start_if_installed()

    def shut_down(self) -> None:
        """Stop everything; called before the panel is removed."""
        self._timer.stop()
        for task in (self._job, self._plan_task):
            if task is not None:
                task.forget()
        QgsProject.instance().cleared.disconnect(self._project_cleared)
        shared.events.models_changed.disconnect(self.list_models)
        self.layers.close()
        self.backend.shut_down()

    def run_or_cancel(self) -> None:
        """Do what the button says."""
        if self._job is not None:
            self._job.cancel()
            self._say(self.tr("Cancelling…"))
            return
        self._run()

    def spec(self) -> Optional[Dict[str, Any]]:
        """Return the request as the panel stands, without outputs; None if something is lacking.

        Layers without a file stand in it as copies that still have to be written.
        """
        sources = self.layers.ticked_sources()
        model, product = self._chosen()
        if not sources or not model:
            return None
        offset = self.offsetSpin.value()
        stated = offset == self.offsetSpin.minimum()
        return {
            "kind": "segment",
            "inputs": sources,
            "model": model,
            "product": product,
            "bands": self.bands.choices(self.layers.ticked_keys()),
            "extent": self._extent(),
            "radiometry": None if stated else {"scale": None, "offset": offset},
            "minimum_area_ha": self.minimumAreaSpin.value(),
        }

    def list_models(self) -> None:
        """List what the installed models map; the chosen one stays, if it is still there."""
        chosen = self.modelCombo.currentData()
        self._models = shared.models()
        self.modelCombo.clear()
        for model in self._models:
            for product in model.products:
                self.modelCombo.addItem(
                    f"{product.title} · {model.title}", f"{model.id}/{product.id}"
                )
        kept = self.modelCombo.findData(chosen)
        self.modelCombo.setCurrentIndex(max(0, kept))
        if kept < 0:
            self.bands.clear_choices()
        self._show_model()
        self._plan_soon()

    def _set_up_widgets(self) -> None:
        canvas = self.iface.mapCanvas()
        self.extentWidget.setMapCanvas(canvas)
        self.extentWidget.setNullValueAllowed(True, self.tr("All that the rasters share"))
        self.extentWidget.clear()
        self.folderWidget.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.folderWidget.lineEdit().setPlaceholderText(self.tr("as in the settings"))
        self.progressBar.setVisible(False)
        self.confirmButton.setVisible(False)
        menu = QMenu(self.addButton)
        menu.addAction(self.tr("Raster files…"), self._add_files)
        menu.addAction(self.tr("Sentinel-2 product folder (.SAFE)…"), self._add_product)
        self.addButton.setMenu(menu)
        self.list_models()

    def _connect(self) -> None:
        QgsProject.instance().cleared.connect(self._project_cleared)
        shared.events.models_changed.connect(self.list_models)
        self.modelsButton.clicked.connect(self.models_asked)
        self.layers.changed.connect(self._rasters_changed)
        self.bands.changed.connect(self._plan_soon)
        self.modelCombo.activated.connect(self._model_chosen)
        self.extentWidget.extentChanged.connect(self._plan_soon)
        self.offsetSpin.valueChanged.connect(self._plan_soon)
        self.confirmButton.clicked.connect(self.bands.confirm_suggestions)
        self.runButton.clicked.connect(self.run_or_cancel)
        self.helpButton.clicked.connect(lambda: open_manual())
        self.settingsButton.clicked.connect(self._open_settings)
        self.backend.ready.connect(self._plan_soon)
        self.backend.failed.connect(self._show_error)

    def _first_raster(self) -> Optional[QgsRasterLayer]:
        """Return the active layer if it is in the list, else the topmost raster."""
        rasters, active = self.layers.rasters(), self.iface.activeLayer()
        return active if active in rasters else next(iter(rasters), None)

    def _project_cleared(self) -> None:
        """Take no results into another project, nor show those of the last."""
        self._project_is_same = False
        self.areas.clear()

    def _rasters_changed(self) -> None:
        self.bands.keep_choices(self.layers.ticked_keys())
        # What is shown is about the rasters that were ticked before, and a plan may never come.
        self._show_model()
        self.planLabel.clear()
        self.confirmButton.setVisible(False)
        layer = self.layers.first_ticked_layer()
        if layer is not None and layer.crs().isValid():
            # In the raster's own CRS a drawn area meets its pixels; a project may have none at all.
            if self.extentWidget.outputCrs() != layer.crs():
                drawn = self.extentWidget.isValid()
                self.extentWidget.setOutputCrs(layer.crs())
                if not drawn:
                    self.extentWidget.clear()
        self._plan_soon()

    def _model_chosen(self, _index: int) -> None:
        self._model_is_users = True
        self.bands.clear_choices()
        self._show_model()
        self._plan_soon()

    def _chosen(self):
        """Return the identifiers of the chosen model and product; empty if none is installed."""
        data = self.modelCombo.currentData()
        return tuple(data.split("/")) if data else ("", "")

    def _show_model(self) -> None:
        """Show the card of the chosen model."""
        model_id, product_id = self._chosen()
        model = next((m for m in self._models if m.id == model_id), None)
        if model is None:
            self.modelCard.setText(self.tr("No models are installed."))
            return
        product = next(p for p in model.products if p.id == product_id)
        self.modelCard.setText(words.card(model, product))
        self.modelCard.setToolTip(words.card_details(model))
        self.bands.show_model(model.bands)

    def _extent(self) -> Optional[Dict[str, Any]]:
        if not self.extentWidget.isValid():
            return None
        box, crs = self.extentWidget.outputExtent(), self.extentWidget.outputCrs()
        bounds = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
        return {"bounds": bounds, "crs": crs.authid() or crs.toWkt()}

    def _plan_soon(self, *_: Any) -> None:
        self._plan = None
        self._timer.start()
        self._refresh_run()

    def _make_plan(self) -> None:
        """Ask the backend what the request would do."""
        if self._plan_task is not None:
            self._plan_again = True
            return
        spec = self.spec()
        if spec is None:
            self._say(self.tr("Tick at least one raster layer."))
            return
        if self.backend.status in NEEDS_BUTTON:
            button = self.backendButton.text()
            self._say(self.tr("First press the button “{}” above.").format(escape(button)))
            return
        if self.backend.status not in (Status.running, Status.stopped):
            return  # it is on its way, and tells when it is ready
        rasters = self.layers.ticked_keys()
        candidates = [(spec["model"], spec["product"])]
        if not self._model_is_users:
            every = range(self.modelCombo.count())
            others = [tuple(self.modelCombo.itemData(i).split("/")) for i in every]
            candidates += [other for other in others if other not in candidates]

        def work(_task):
            ready = self._with_copies(spec)
            return _first_that_fits(shared.backend().client(), ready, candidates)

        def done(answer):
            self._planned(*answer, rasters)

        task = tasks.Task(
            self.tr("Looking at the rasters"), work, done, self._plan_failed, hidden=True
        )
        self._plan_task = tasks.start(task)
        self._say(self.tr("Looking at the rasters…"))

    def _plan_is_stale(self) -> bool:
        """Tell whether something changed since the plan was asked for; another is then made."""
        self._plan_task = None
        if self._plan_again:
            self._plan_again = False
            self._make_plan()
            return True
        return self._timer.isActive()

    def _planned(self, chosen: Tuple[str, str], plan: Dict[str, Any], rasters: List[str]) -> None:
        if self._plan_is_stale():
            return
        if chosen != self._chosen():
            self.modelCombo.setCurrentIndex(self.modelCombo.findData("/".join(chosen)))
            self._show_model()
        self._plan = plan
        if plan["bands"]:
            self.bands.show_plan(plan, rasters)
        self.confirmButton.setVisible(self.bands.has_suggestions())
        self.planLabel.setText(words.effort(plan))
        problems = plan["errors"] or plan["warnings"]
        self._say(words.problems(problems), "error" if plan["errors"] else "warning")
        self._refresh_run()

    def _plan_failed(self, error: LinkError) -> None:
        if not self._plan_is_stale():
            self._show_error(error)

    def _with_copies(self, spec: Dict[str, Any]) -> Dict[str, Any]:
        """Write copies of layers without a file; called in a task's thread."""
        inputs = []
        for source in spec["inputs"]:
            if isinstance(source, tuple):
                layer_id, layer = source
                source = stack.reference(layer, settings.temporary_folder())
                self.layers.remember_copy(layer_id, source["path"])
            inputs.append(source)
        return {**spec, "inputs": inputs}

    def _refresh_run(self) -> None:
        running = self._job is not None
        self.runButton.setText(self.tr("Cancel") if running else self.tr("Run"))
        ready = self._plan is not None and not self._plan["errors"]
        self.runButton.setEnabled(running or ready)
        self.progressBar.setVisible(running)

    def _run(self) -> None:
        spec = self.spec()
        if spec is None:
            return
        title = self.modelCombo.currentText().partition(" · ")[0]
        raster = self.layers.ticked_names()[0]
        folder = self._output_folder()
        wanted = ["classes", "table"]
        for name, box in (
            ("polygons", self.polygonsCheck),
            ("confidence", self.confidenceCheck),
            ("probabilities", self.probabilitiesCheck),
        ):
            if box.isChecked():
                wanted.append(name)
        stem = re.sub(r"[^\w\-]+", "_", f"{raster}_{spec['product']}")
        outputs = results.output_paths(folder, stem, wanted)
        keep = folder != settings.temporary_folder()

        def work(task):
            ready = {**self._with_copies(spec), "outputs": outputs}
            job = shared.backend().run_job(ready, tasks.job_report(task), task.isCanceled)
            return job["result"]

        def done(result):
            self._job_done(result, title, raster, folder, keep)

        task = tasks.Task(
            f"{title}: {raster}", work, done, self._job_failed, progress=self._show_progress
        )
        self._project_is_same = True
        self._job = tasks.start(task)
        self.progressBar.setValue(0)
        self.areas.clear()
        self._say(self.tr("Starting…"))
        self._refresh_run()

    def _output_folder(self) -> Path:
        """Return where results go.

        That is the folder chosen here, that of the settings, the saved project's, or a temporary
        one; the settings may have changed since the panel was opened.
        """
        chosen = self.folderWidget.filePath() or settings.read("output_folder")
        if chosen:
            return Path(chosen)
        project = QgsProject.instance().absolutePath()
        return Path(project) if project else settings.temporary_folder()

    def _show_progress(self, share: float, stage: str, left: Optional[float]) -> None:
        self.progressBar.setValue(int(share * 100))
        stage = escape(stage)
        self._say(f"{stage} · {words.duration(left)} {self.tr('left')}" if left else stage)

    def _job_done(
        self, result: Optional[Dict[str, Any]], title: str, raster: str, folder: Path, keep: bool
    ) -> None:
        self._job = None
        self._refresh_run()
        if result is None:
            self._say(self.tr("Cancelled. Nothing was written."))
            return
        message = self.tr("{} is ready after {}.").format(title, words.duration(result["seconds"]))
        where = self.tr("Saved in {}.").format(words.folder_link(folder))
        if not self._project_is_same:
            self._say(where, tip=str(folder))
            message += " " + self.tr("The project was closed meanwhile; the files are in {}.")
            self._push(message.format(folder), Qgis.MessageLevel.Success)
            return
        layers = results.open_results(result, title)
        if layers:
            results.add_to_project(layers, f"{raster} – {title} ({result['model_title']})")
        self.areas.show_result(result, f"{raster} – {title}")
        QTimer.singleShot(0, self._scroll_to_areas)
        problems = list(result["warnings"])
        if len(layers) < len(list(filter(None, result["outputs"].values()))):
            lost = self.tr("Not every result could be opened as a layer.")
            advice = self.tr("Look whether its file is still in the folder.")
            problems.append({"message": lost, "advice": advice})
        elif not keep:
            where = self.tr(
                "Temporary files: save the project or choose a folder of results to keep the next."
            )
        self._say(f"{where} {words.problems(problems)}".strip(), tip=str(folder))
        self._push(message, Qgis.MessageLevel.Success)

    def _scroll_to_areas(self) -> None:
        self.scrollArea.ensureWidgetVisible(self.copyButton)

    def _job_failed(self, error: LinkError) -> None:
        self._job = None
        self._refresh_run()
        if error.code == "cancelled":
            self._say(self.tr("Cancelled. Nothing was written."))
            return
        self._show_error(error)

    def _show_error(self, error: LinkError) -> None:
        self._say(words.problem(error.message, error.advice), "error", tip=error.details)
        self._push(str(error), Qgis.MessageLevel.Critical)
        self.backend.refresh()
        self._refresh_run()

    def _push(self, message: str, level: Qgis.MessageLevel) -> None:
        """Show a message in QGIS's message bar."""
        self.iface.messageBar().pushMessage("MMEarth", message, level, MESSAGE_SECONDS)

    def _say(self, text: str, kind: str = "", tip: str = "") -> None:
        """Show rich text in the status line, coloured for ``error`` or ``warning``."""
        if kind and text:
            text = f'<span style="color:{words.color(kind, self.statusLabel)}">{text}</span>'
        self.statusLabel.setText(text)
        self.statusLabel.setToolTip(tip)

    def _add_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, self.tr("Raster files"))
        for path in chosen:
            self.layers.add_path(path)

    def _add_product(self) -> None:
        path = QFileDialog.getExistingDirectory(self, self.tr("Sentinel-2 product folder"))
        if path:
            self.layers.add_path(path)

    def _open_settings(self) -> None:
        from .settings_page import PAGE

        self.iface.showOptionsDialog(self.iface.mainWindow(), PAGE)


def _first_that_fits(client, spec, candidates: List[Any]):
    """Return the first model and product whose plan has no errors, and its plan; else the first."""
    first = None
    for model, product in candidates:
        plan = client.plan({**spec, "model": model, "product": product, "outputs": {}})
        first = first or ((model, product), plan)
        if not plan["errors"]:
            return (model, product), plan
    return first
