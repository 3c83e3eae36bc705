"""The tab "Map": choose what to map, look at what is recognised, press Run."""

from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import Qgis, QgsProject
from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import QObject, QTimer

from .. import shared, tasks
from ..layers import results
from ..link.catalog import Model, Product
from ..link.errors import LinkError
from ..link.fitting import Choice, first_that_fits, that_map
from . import disturbance, map_files, words
from .area_table import AreaTable
from .backend_bar import NEEDS_BUTTON, BackendBar, Status
from .band_table import BandTable
from .goals import GOALS, Goals
from .layer_list import LayerList
from .planner import Planner
from .status_line import StatusLine


class MapPanel(QObject):
    """Maps the ticked rasters with a model."""

    def __init__(self, form: Any, iface, layers: LayerList, backend: BackendBar) -> None:
        """Take over the tab's widgets.

        Args:
            form: the panel, with the widgets of this tab.
            iface: QGIS's interface.
            layers: the rasters of the scene.
            backend: the line of the backend.
        """
        super().__init__(form)
        self.form = form
        self.iface = iface
        self.layers = layers
        self.backend = backend
        self._plan: Optional[Dict[str, Any]] = None
        self._job: Optional[tasks.Task] = None
        self._project_is_same = True  # as when the job was started
        self._model_is_users = False
        self._goal_is_users = False
        self._models: List[Model] = []
        self.goals = Goals(form.goalsWidget, form.goalLabel)
        self.bands = BandTable(form.bandTable, form.bandsLabel)
        self.areas = AreaTable(form.resultLabel, form.resultTable, form.copyButton)
        self.status = StatusLine(form.statusLabel, iface)
        self.planner = Planner(self, self.tr("Looking at the rasters"), self._prepare_plan)
        self._set_up_widgets()
        self._connect()

    def shut_down(self) -> None:
        """Stop everything; called before the panel is removed."""
        self.planner.shut_down()
        self.goals.shut_down()
        if self._job is not None:
            self._job.forget()
        QgsProject.instance().cleared.disconnect(self._project_cleared)
        shared.events.models_changed.disconnect(self.list_models)

    def run_or_cancel(self) -> None:
        """Do what the button says."""
        if self._job is not None:
            self._job.cancel()
            self.status.say(self.tr("Cancelling…"))
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
        offset = self.form.offsetSpin.value()
        stated = offset == self.form.offsetSpin.minimum()
        return {
            "kind": "segment",
            "inputs": sources,
            "model": model,
            "product": product,
            "bands": self.bands.choices(self.layers.ticked_keys()),
            "extent": self._extent(),
            "radiometry": None if stated else {"scale": None, "offset": offset},
            "minimum_area_ha": self.form.minimumAreaSpin.value(),
            **({"cell_m": self._cell_m()} if self._cell_m() else {}),
        }

    def compare_dates(self) -> None:
        """Open the window of forest disturbance with the dates that are ticked, model and area."""
        parameters = disturbance.parameters_of(self.layers.ticked_dates())
        model = self._model()
        if model is not None and disturbance.PRODUCT in {entry.id for entry in model.products}:
            parameters["MODEL"] = model.id
        area, crs = self._extent(), self.form.extentWidget.outputCrs().authid()
        if area is not None and crs:  # windows of QGIS know projections by their code alone
            left, bottom, right, top = area["bounds"]
            parameters["EXTENT"] = f"{left},{right},{bottom},{top} [{crs}]"
        disturbance.open_window(parameters)

    def list_models(self) -> None:
        """List what the installed models map; the chosen one stays, if it is still there."""
        chosen = self.form.modelCombo.currentData()
        self._models = shared.models()
        self.form.modelCombo.clear()
        for model in self._models:
            for product in model.products:
                self.form.modelCombo.addItem(
                    f"{product.title} · {model.title}", f"{model.id}/{product.id}"
                )
        self.goals.offer(product.id for model in self._models for product in model.products)
        if self.form.modelCombo.findData(chosen) < 0:
            chosen = "/".join(next(iter(self._candidates()), ("", "")))
            self.bands.clear_choices()
        self.form.modelCombo.setCurrentIndex(self.form.modelCombo.findData(chosen))
        self._show_model()
        self._plan_soon()

    def choose_model(self, model_id: str) -> None:
        """Choose the first product of an installed model, as if the user had."""
        for index in range(self.form.modelCombo.count()):
            if self.form.modelCombo.itemData(index).startswith(f"{model_id}/"):
                self.form.modelCombo.setCurrentIndex(index)
                self._model_chosen(index)
                return

    def _set_up_widgets(self) -> None:
        canvas = self.iface.mapCanvas()
        self.form.extentWidget.setMapCanvas(canvas)
        self.form.extentWidget.setNullValueAllowed(True, self.tr("All that the rasters share"))
        self.form.extentWidget.clear()
        self.form.folderWidget.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.form.folderWidget.lineEdit().setPlaceholderText(self.tr("as in the settings"))
        self.form.progressBar.setVisible(False)
        self.form.confirmButton.setVisible(False)
        self.list_models()

    def _connect(self) -> None:
        QgsProject.instance().cleared.connect(self._project_cleared)
        shared.events.models_changed.connect(self.list_models)
        self.layers.changed.connect(self._rasters_changed)
        self.bands.changed.connect(self._plan_soon)
        self.goals.chosen.connect(self._goal_chosen)
        self.goals.disturbance_asked.connect(self.compare_dates)
        self.form.modelCombo.activated.connect(self._model_chosen)
        self.form.cellSpin.valueChanged.connect(self._cells_changed)
        self.form.extentWidget.extentChanged.connect(self._plan_soon)
        self.form.offsetSpin.valueChanged.connect(self._plan_soon)
        self.form.confirmButton.clicked.connect(self.bands.confirm_suggestions)
        self.form.runButton.clicked.connect(self.run_or_cancel)
        self.backend.ready.connect(self._plan_soon)
        self.backend.failed.connect(self._show_error)
        self.planner.planned.connect(self._planned)
        self.planner.failed.connect(self._show_error)

    def _project_cleared(self) -> None:
        """Take no results into another project, nor show those of the last."""
        self._project_is_same = False
        self.areas.clear()

    def _rasters_changed(self) -> None:
        self.bands.keep_choices(self.layers.ticked_keys())
        # What is shown is about the rasters that were ticked before, and a plan may never come.
        self._show_model()
        self.form.planLabel.clear()
        self.status.say("")
        self.form.confirmButton.setVisible(False)
        layer = self.layers.first_ticked_layer()
        if layer is not None and layer.crs().isValid():
            # In the raster's own CRS a drawn area meets its pixels; a project may have none at all.
            if self.form.extentWidget.outputCrs() != layer.crs():
                drawn = self.form.extentWidget.isValid()
                self.form.extentWidget.setOutputCrs(layer.crs())
                if not drawn:
                    self.form.extentWidget.clear()
        self._plan_soon()

    def _model_chosen(self, _index: int) -> None:
        self._model_is_users = True
        self.bands.clear_choices()
        self._show_model()
        self._plan_soon()

    def _goal_chosen(self) -> None:
        """Take the best of the models that map it; the one that fits shows when it is planned."""
        self._goal_is_users, self._model_is_users = True, False
        before = self._chosen()
        best = next(iter(self._candidates()), before)
        self.form.modelCombo.setCurrentIndex(self.form.modelCombo.findData("/".join(best)))
        if best[0] != before[0]:
            self.bands.clear_choices()
        self._show_model()
        self._plan_soon()

    def _cells_changed(self) -> None:
        self.goals.say(self._product(), self._cell_m())
        self._plan_soon()

    def _chosen(self) -> Choice:
        """Return the identifiers of the chosen model and product; empty if none is installed."""
        data = self.form.modelCombo.currentData()
        return tuple(data.split("/")) if data else ("", "")

    def _candidates(self) -> List[Choice]:
        """Return models and products to be tried, the likeliest first."""
        goal = self.goals.current()
        if self._model_is_users:
            return [self._chosen()]
        if goal is not None and self._goal_is_users:
            return that_map(self._models, goal.product)
        # Nothing was asked for: better another map than none.
        known = [product.id for model in self._models for product in model.products]
        wanted = dict.fromkeys([g.product for g in GOALS if g.product in known] + known)
        return [choice for product in wanted for choice in that_map(self._models, product)]

    def _model(self) -> Optional[Model]:
        """Return the chosen model; None if none is installed."""
        model_id, _ = self._chosen()
        return next((model for model in self._models if model.id == model_id), None)

    def _product(self) -> Optional[Product]:
        """Return the chosen product; None if no model is installed."""
        model, (_, product_id) = self._model(), self._chosen()
        products = model.products if model else ()
        return next((product for product in products if product.id == product_id), None)

    def _cell_m(self) -> Optional[float]:
        """Return the side of a cell; 0 if none are wanted, None if there can be none."""
        layer = self.layers.first_ticked_layer()
        in_degrees = layer is not None and layer.crs().isGeographic()
        return None if in_degrees else self.form.cellSpin.value()

    def _outputs(self) -> List[str]:
        """Return the results that are wanted."""
        goal = self.goals.current()
        wanted = list(goal.outputs) if goal else ["classes", "table"]
        if not self._cell_m():
            wanted = [name for name in wanted if name != "density_cells"]
        for name, box in (
            ("polygons", self.form.polygonsCheck),
            ("confidence", self.form.confidenceCheck),
            ("probabilities", self.form.probabilitiesCheck),
        ):
            if box.isChecked():
                wanted.append(name)
        return wanted

    def _show_model(self) -> None:
        """Show the card of the chosen model, and what comes out."""
        model, product = self._model(), self._product()
        if product is not None:
            self.goals.show_product(product.id)
        self.goals.say(product, self._cell_m())
        if model is None or product is None:
            self.form.modelCard.setText(self.tr("No models are installed."))
            return
        self.form.modelCard.setText(words.card(model, product))
        self.form.modelCard.setToolTip(words.card_details(model))
        self.bands.show_model(model.bands)

    def _extent(self) -> Optional[Dict[str, Any]]:
        if not self.form.extentWidget.isValid():
            return None
        box, crs = self.form.extentWidget.outputExtent(), self.form.extentWidget.outputCrs()
        bounds = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
        return {"bounds": bounds, "crs": crs.authid() or crs.toWkt()}

    def _plan_soon(self, *_: Any) -> None:
        self._plan = None
        self.planner.soon()
        self._refresh_run()

    def _prepare_plan(self):
        """Return what asks the backend for a plan; None, with words, if it cannot be asked."""
        spec = self.spec()
        if spec is None:
            self.status.say(self.tr("Tick at least one raster layer."))
            return None
        if self.backend.status in NEEDS_BUTTON:
            button = self.form.backendButton.text()
            self.status.say(self.tr("First press the button “{}” above.").format(escape(button)))
            return None
        if self.backend.status not in (Status.running, Status.stopped):
            return None  # it is on its way, and tells when it is ready
        rasters, candidates = self.layers.ticked_keys(), self._candidates()
        # A plan looks at which results are asked for, not at where they go.
        outputs = {name: name for name in self._outputs()}

        def work(_task):
            ready = {**spec, "inputs": self.layers.copied(spec["inputs"]), "outputs": outputs}
            return (*first_that_fits(shared.backend().client(), ready, candidates), rasters)

        self.status.say(self.tr("Looking at the rasters…"))
        return work

    def _planned(self, answer: Tuple[Tuple[str, str], Dict[str, Any], List[str]]) -> None:
        chosen, plan, rasters = answer
        if chosen != self._chosen():
            self.form.modelCombo.setCurrentIndex(self.form.modelCombo.findData("/".join(chosen)))
            self._show_model()
        self._plan = plan
        if plan["bands"]:
            self.bands.show_plan(plan, rasters)
        self.form.confirmButton.setVisible(self.bands.has_suggestions())
        self.form.planLabel.setText(words.effort(plan))
        problems = plan["errors"] or plan["warnings"]
        if plan["bands"] and all(match["state"] == "ambiguous" for match in plan["bands"]):
            problems = self._several_dates() or problems
        self.status.say(words.problems(problems), "error" if plan["errors"] else "warning")
        self._refresh_run()

    def _several_dates(self) -> List[Dict[str, str]]:
        """Say what can be done with rasters of several dates, if that is what is ticked."""
        if len(self.layers.ticked_dates()) < 2 or self.goals.disturbance.isHidden():
            return []
        message = self.tr("The rasters that are ticked seem to be of several dates.")
        advice = self.tr("Tick those of one date to map it, or press “{}” to compare them.")
        button = self.goals.disturbance.text()
        return [{"message": message, "advice": advice.format(button)}]

    def _refresh_run(self) -> None:
        running = self._job is not None
        self.form.runButton.setText(self.tr("Cancel") if running else self.tr("Run"))
        ready = self._plan is not None and not self._plan["errors"]
        self.form.runButton.setEnabled(running or ready)
        self.form.progressBar.setVisible(running)

    def _run(self) -> None:
        spec = self.spec()
        if spec is None:
            return
        goal = self.goals.current()
        title = self.form.modelCombo.currentText().partition(" · ")[0]
        if goal is not None and "density" in goal.outputs:  # which is named after another product
            title = self.tr(goal.title)
        raster = self.layers.ticked_names()[0]
        folder = self._output_folder()
        name = goal.id if goal else spec["product"]
        outputs = map_files.output_files(folder, raster, name, self._outputs())
        keep = map_files.is_kept(folder)

        def work(task):
            ready = {**spec, "inputs": self.layers.copied(spec["inputs"]), "outputs": outputs}
            job = shared.backend().run_job(ready, tasks.job_report(task), task.isCanceled)
            return job["result"]

        def done(result):
            self._job_done(result, title, raster, folder, keep)

        task = tasks.Task(
            f"{title}: {raster}", work, done, self._job_failed, progress=self._show_progress
        )
        self._project_is_same = True
        self._job = tasks.start(task)
        self.form.progressBar.setValue(0)
        self.areas.clear()
        self.status.say(self.tr("Starting…"))
        self._refresh_run()

    def _output_folder(self) -> Path:
        return map_files.output_folder(self.form.folderWidget.filePath())

    def _show_progress(self, share: float, stage: str, left: Optional[float]) -> None:
        self.form.progressBar.setValue(int(share * 100))
        stage = escape(stage)
        self.status.say(f"{stage} · {words.duration(left)} {self.tr('left')}" if left else stage)

    def _job_done(
        self, result: Optional[Dict[str, Any]], title: str, raster: str, folder: Path, keep: bool
    ) -> None:
        self._job = None
        self._refresh_run()
        if result is None:
            self.status.say(self.tr("Cancelled. Nothing was written."))
            return
        message = self.tr("{} is ready after {}.").format(title, words.duration(result["seconds"]))
        where = self.tr("Saved in {}.").format(words.folder_link(folder))
        if not self._project_is_same:
            self.status.say(where, tip=str(folder))
            message += " " + self.tr("The project was closed meanwhile; the files are in {}.")
            self.status.push(message.format(folder), Qgis.MessageLevel.Success)
            return
        layers = results.open_results(result, title)
        if layers:
            results.add_to_project(layers, map_files.group_name(raster, title, result))
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
        self.status.say(f"{where} {words.problems(problems)}".strip(), tip=str(folder))
        self.status.push(message, Qgis.MessageLevel.Success)

    def _scroll_to_areas(self) -> None:
        self.form.scrollArea.ensureWidgetVisible(self.form.copyButton)

    def _job_failed(self, error: LinkError) -> None:
        self._job = None
        self._refresh_run()
        if error.code == "cancelled":
            self.status.say(self.tr("Cancelled. Nothing was written."))
            return
        self._show_error(error)

    def _show_error(self, error: LinkError) -> None:
        self.status.show_error(error)
        self.backend.refresh()
        self._refresh_run()
