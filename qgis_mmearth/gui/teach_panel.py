"""The tab "Teach": draw labels, press Train, and have a model of one's own."""

from contextlib import suppress
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import QgsProject
from qgis.PyQt import uic
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QWidget

from .. import paths, shared
from ..layers import label_copies, labels
from ..link.catalog import Model
from ..link.errors import LinkError
from . import words
from .backend_bar import NEEDS_BUTTON, BackendBar, Status
from .band_table import BandTable
from .layer_list import LayerList
from .planner import Planner
from .status_line import StatusLine
from .teach_classes import ClassTable, classes_of_model
from .teach_labels import LabelChooser, new_label_layers
from .teach_live import LiveControls
from .teach_options import TeachOptions
from .training import Training, scratch_file

FORM, _ = uic.loadUiType(str(paths.GUI / "teach.ui"))


class TeachPanel(QWidget, FORM):
    """Trains a model on labels that are drawn on the map."""

    models_asked = pyqtSignal()
    """The user wants to see, install or remove models."""
    model_chosen = pyqtSignal(str)
    """The user wants to map with an installed model; carries its identifier."""

    def __init__(self, iface, layers: LayerList, backend: BackendBar) -> None:
        """Make the tab.

        Args:
            iface: QGIS's interface.
            layers: the rasters of the scene.
            backend: the line of the backend.
        """
        super().__init__()
        self.setupUi(self)
        self.iface = iface
        self.layers = layers
        self.backend = backend
        self._active = False
        self._plan: Optional[Dict[str, Any]] = None
        self._models: List[Model] = []
        self._left_out: set = set()  # values of classes that the user has removed
        self.status = StatusLine(self.teachStatusLabel, iface)
        self.bands = BandTable(self.teachBandTable, self.teachBandsLabel)
        self.labels = LabelChooser(self.labelsCombo, self.fieldLabel, self.fieldCombo, layers)
        self.classes = ClassTable(
            self.classTable,
            self.addClassButton,
            self.renameClassButton,
            self.colorClassButton,
            self.removeClassButton,
        )
        self.live = LiveControls(self, iface, self._live_request, self._drawn_layers)
        self.planner = Planner(self, self.tr("Looking at the labels"), self._prepare_plan)
        self.options = TeachOptions(self)
        self.training = Training(self, iface, layers, self.model_chosen.emit)
        self._set_up_widgets()
        self._connect()
        self._labels_changed()

    def shut_down(self) -> None:
        """Stop everything; called before the panel is removed."""
        self.live.stop()
        self.planner.shut_down()
        self.training.shut_down()
        self.labels.close()
        shared.events.models_changed.disconnect(self.list_models)

    def set_active(self, active: bool) -> None:
        """Tell whether the tab is seen: plans for one that is not are made in vain."""
        self._active = active
        if active:
            self._plan_soon()

    def train_or_stop(self) -> None:
        """Do what the button says."""
        if self.training.running:
            self.training.stop()
            self._refresh_train()
        else:
            self._train()

    def spec(self) -> Optional[Dict[str, Any]]:
        """Return the request as the tab stands, without labels; None if something is lacking.

        Layers without a file stand in it as copies that still have to be written.
        """
        sources, model = self.layers.ticked_sources(), self._base()
        if not sources or model is None:
            return None
        return {
            "kind": "finetune",
            "inputs": sources,
            "model": model.id,
            "bands": self.bands.choices(self.layers.ticked_keys()),
            **self.options.fields(),
        }

    def list_models(self) -> None:
        """List what can be built on; the chosen model stays, if it is still there."""
        before = self.baseCombo.currentData()
        self._models = shared.models()
        self.baseCombo.clear()
        for model in self._models:
            kind = "" if model.products else " · " + self.tr("encoder")
            self.baseCombo.addItem(model.title + kind, model.id)
        embedded = [m.id for m in self._models if m.folder.parent == paths.EMBEDDED_MODELS]
        kept = self.baseCombo.findData(before)
        if kept < 0:
            kept = max(0, self.baseCombo.findData(embedded[0] if embedded else None))
        self.baseCombo.setCurrentIndex(kept)
        base = self._base()
        if self.baseCombo.currentData() != before:
            self._base_chosen()
        elif base is not None:
            self._name_model(base)

    def choose_base(self, model_id: str) -> None:
        """Choose what is built on; nothing changes if it is not installed."""
        index = self.baseCombo.findData(model_id)
        if index >= 0:
            self.baseCombo.setCurrentIndex(index)
            self._base_chosen()

    def create_labels(self) -> None:
        """Create layers for labels in the project's folder, or a temporary one; ready to draw."""
        base, raster = self._base(), self.layers.first_ticked_layer()
        classes = classes_of_model(base.products if base else ())
        try:
            layers = new_label_layers(classes, raster.crs() if raster else None)
        except LinkError as error:
            self.status.show_error(error)
            return
        self.labels.choose(layers[0])
        self.iface.setActiveLayer(layers[0])
        self.iface.actionAddFeature().trigger()
        if not QgsProject.instance().absolutePath():
            self.status.say(
                self.tr("Temporary labels: save the project first to keep the next ones."),
                "warning",
            )

    def _set_up_widgets(self) -> None:
        self.trainBar.setVisible(False)
        self.teachConfirmButton.setVisible(False)
        self.list_models()

    def _connect(self) -> None:
        shared.events.models_changed.connect(self.list_models)
        self.baseModelsButton.clicked.connect(self.models_asked)
        self.baseCombo.activated.connect(self._base_chosen)
        self.layers.changed.connect(self._rasters_changed)
        self.bands.changed.connect(self._changed)
        self.teachConfirmButton.clicked.connect(self.bands.confirm_suggestions)
        self.newLabelsButton.clicked.connect(self.create_labels)
        self.labels.changed.connect(self._labels_changed)
        self.labels.drawn.connect(self._labels_drawn)
        self.classes.edited.connect(self._classes_edited)
        self.classes.chosen.connect(self._class_chosen)
        self.options.changed.connect(self._plan_soon)
        self.live.kept.connect(self._keep)
        self.training.said.connect(self.status.say)
        self.training.progressed.connect(self.trainBar.setValue)
        self.training.changed.connect(self._refresh_train)
        self.training.trained.connect(self.modelNameEdit.clear)
        self.training.failed.connect(self._show_error)
        self.trainButton.clicked.connect(self.train_or_stop)
        self.backend.ready.connect(self._plan_soon)
        self.backend.failed.connect(self._backend_failed)
        self.planner.planned.connect(self._planned)
        self.planner.failed.connect(self._show_error)

    def _base(self) -> Optional[Model]:
        chosen = self.baseCombo.currentData()
        return next((model for model in self._models if model.id == chosen), None)

    def _base_chosen(self, *_: Any) -> None:
        self.bands.clear_choices()
        base = self._base()
        if base is not None:
            self.baseCombo.setToolTip(words.card_details(base))
            self.bands.show_model(base.bands)
            self._name_model(base)
        self._changed()

    def _name_model(self, base: Model) -> None:
        """Suggest a name that no model has yet."""
        taken = {model.title for model in self._models}
        stem = title = self.tr("{}, taught").format(base.title)
        number = 1
        while title in taken:
            number += 1
            title = f"{stem} {number}"
        self.modelNameEdit.setPlaceholderText(title)

    def _rasters_changed(self) -> None:
        self.bands.keep_choices(self.layers.ticked_keys())
        base = self._base()
        if base is not None:  # what is shown is about other rasters
            self.bands.show_model(base.bands)
        self.teachConfirmButton.setVisible(False)
        self._changed()

    def _labels_changed(self) -> None:
        """Show the classes of other labels."""
        self._left_out = set()
        layers = self.labels.layers()
        found = labels.classes_of(layers, self.labels.field()) if layers else []
        few = len(found) <= labels.MOST_CLASSES  # else the backend says that it is no such field
        self.classes.show_classes(found if few else [])
        for button in (self.addClassButton, self.renameClassButton, self.colorClassButton,
                       self.removeClassButton):  # fmt: skip
            button.setVisible(bool(layers))
        self._count()
        self._changed()

    def _labels_drawn(self) -> None:
        self._count()
        self._plan_soon()

    def _count(self) -> None:
        """Count again; classes that were not known before join the table."""
        layers, field = self.labels.layers(), self.labels.field()
        if field:
            counts = labels.count_features(layers, field)
            known = {row["value"] for row in self.classes.classes()}
            new = set(counts) - known - self._left_out
            if new and len(counts) <= labels.MOST_CLASSES:
                rows = [row for row in labels.classes_of(layers, field) if row["value"] in new]
                self.classes.show_classes([*self.classes.classes(), *rows])
            self.classes.show_units(counts)
            if self.labels.are_ours():
                self.classes.select(labels.drawn_class(layers))

    def _classes_edited(self) -> None:
        layers, rows = self.labels.layers(), self.classes.classes()
        known = {row["value"] for row in rows}
        if self.labels.field():
            counts = labels.count_features(layers, self.labels.field())
            self._left_out = set(counts) - known
            self.classes.show_units(counts)
        if self.labels.are_ours():
            labels.set_classes(layers, rows)
        self._changed()

    def _class_chosen(self, value: str) -> None:
        if self.labels.are_ours():
            labels.draw_class(self.labels.layers(), value)

    def _changed(self, *_: Any) -> None:
        """Something other than the labels is different: the preview does not see it by itself."""
        self.live.renew()
        self._plan_soon()

    def _plan_soon(self, *_: Any) -> None:
        self._plan = None
        if self._active:
            self.planner.soon()
        self._refresh_train()

    def _prepare_plan(self):
        """Return what asks the backend for a plan; None, with words, if it cannot be asked."""
        spec = self.spec()
        if spec is None:
            self._say(self.tr("Tick at least one raster layer."))
            return None
        if self.backend.status in NEEDS_BUTTON:
            self._say(self.tr("First press the button of the backend above."))
            return None
        if not self.labels.layers():
            self._say(self.tr("Choose a layer of labels, or press “New label layer…”."))
            return None
        if self.labels.field() and not any(
            labels.count_features(self.labels.layers(), self.labels.field()).values()
        ):
            self.classes.show_pixels({})
            self._say(self.tr("Draw some labels of two or more classes on the map."))
            return None
        if self.backend.status not in (Status.running, Status.stopped):
            return None  # it is on its way, and tells when it is ready
        rasters, copies = self.layers.ticked_keys(), self._copy_labels()
        if copies is None:
            return None

        def work(_task):
            target = scratch_file()
            ready = {
                **spec,
                "inputs": self.layers.copied(spec["inputs"]),
                "labels": label_copies.write_copies(copies, target),
            }
            try:
                return shared.backend().client().plan(ready), rasters
            finally:
                with suppress(OSError):  # else it goes with QGIS's other temporary files
                    target.unlink()

        return work

    def _copy_labels(self) -> Optional[label_copies.LabelCopies]:
        """Take the labels as they stand; None, with words, if they cannot be."""
        layers, field = self.labels.layers(), self.labels.field()
        try:
            return label_copies.copy_labels(layers, field, self._wanted_classes())
        except LinkError as error:
            self._say(words.problem(error.message, error.advice), "error")
            return None

    def _say(self, text: str, kind: str = "") -> None:
        """Say what the plan says; while a model is trained, that is what is told of."""
        if not self.training.running:
            self.status.say(text, kind)

    def _wanted_classes(self) -> labels.Classes:
        """Return the classes to learn; all that are found, if there are too many to list."""
        return self.classes.labelled() if self.labels.field() else self.classes.classes()

    def _planned(self, answer: Tuple[Dict[str, Any], List[str]]) -> None:
        plan, rasters = answer
        self._plan = plan
        if plan["bands"]:
            self.bands.show_plan(plan, rasters)
            wrong = any(match["state"] not in ("exact", "likely") for match in plan["bands"])
            if wrong:
                self.teachBandsGroup.setCollapsed(False)
        self.teachConfirmButton.setVisible(self.bands.has_suggestions())
        if not self.labels.field():
            self.classes.show_units({row["value"]: row["units"] for row in plan["labels"]})
        self.classes.show_pixels({row["value"]: row["pixels"] for row in plan["labels"]})
        problems = plan["errors"] or plan["warnings"]
        self._say(words.problems(problems), "error" if plan["errors"] else "warning")
        self._refresh_train()

    def _refresh_train(self) -> None:
        running = self.training.running
        self.trainButton.setText(self.tr("Stop") if running else self.tr("Train"))
        ready = self._plan is not None and not self._plan["errors"]
        self.trainButton.setEnabled(ready if not running else not self.training.stopping)
        self.keepButton.setEnabled(not running)
        self.trainBar.setVisible(running)

    def _keep(self) -> None:
        """Make a model of what live mode shows."""
        self.options.choose_quick()
        if not self.training.running:
            self._train()

    def _train(self) -> None:
        spec, layers = self.spec(), self.labels.layers()
        if spec is None or not layers:
            return
        copies = self._copy_labels()
        if copies is not None:
            below = layers[-1].id() if self.mapCheck.isChecked() else None
            self.training.start(spec, copies, below)

    def _backend_failed(self, error: LinkError) -> None:
        self.status.say(words.problem(error.message, error.advice), "error", tip=error.details)

    def _show_error(self, error: LinkError) -> None:
        self.status.show_error(error)
        self.backend.refresh()
        self._refresh_train()

    def _drawn_layers(self) -> List[Any]:
        """Return the layers that live mode watches; a label raster is not drawn in."""
        return self.labels.layers() if self.labels.field() else []

    def _live_request(self) -> Optional[Dict[str, Any]]:
        """Return what live mode asks for; None if something is lacking."""
        self._count()  # what was just drawn may be the first of its class
        spec, layers = self.spec(), self.labels.layers()
        if spec is None or not layers or any(isinstance(row, tuple) for row in spec["inputs"]):
            return None
        return {
            **{name: spec[name] for name in ("inputs", "model", "bands", "radiometry")},
            "labels": {
                "path": layers[0].source(),
                "layer": None,
                "field": self.labels.field(),
                "classes": self._wanted_classes(),
            },
        }
