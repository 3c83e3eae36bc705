"""What "Train" begins: a model is trained on labels, and the scene is mapped with it."""

import uuid
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from qgis.core import QgsProject
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from .. import settings, shared, tasks
from ..layers import label_copies, results
from ..link.errors import LinkError
from . import map_files, teach_result, words
from .layer_list import LayerList

Spec = Dict[str, Any]


class Training(QObject):
    """Runs one training at a time."""

    said = pyqtSignal(str)
    """Rich text for the user."""
    progressed = pyqtSignal(int)
    """Per cent of the training, or of the map that follows it."""
    changed = pyqtSignal()
    """It has begun, or is over."""
    trained = pyqtSignal()
    """There is a new model."""
    failed = pyqtSignal(object)
    """Carries a LinkError."""

    def __init__(
        self, parent: QObject, iface, layers: LayerList, use: Callable[[str], None]
    ) -> None:
        """Make it, with nothing to do.

        Args:
            parent: lives longer than this.
            iface: QGIS's interface.
            layers: the rasters of the scene.
            use: called with a model's identifier if the user wants to map with it.
        """
        super().__init__(parent)
        self._iface = iface
        self._layers = layers
        self._use = use
        self._task: Optional[tasks.Task] = None
        self._summary = ""
        self._messages: List[Any] = []
        self._closed = False
        self._project_is_same = True  # as when it was begun
        QgsProject.instance().cleared.connect(self._project_cleared)

    @property
    def running(self) -> bool:
        """True while a model is trained, or the scene is mapped with it."""
        return self._task is not None

    @property
    def stopping(self) -> bool:
        """True from ``stop`` until it is over."""
        return self._task is not None and self._task.isCanceled()

    def start(self, spec: Spec, copies: label_copies.LabelCopies, below: Optional[str]) -> None:
        """Train a model.

        Args:
            spec: a ``FinetuneSpec`` of the backend without labels.
            copies: the labels as they stand.
            below: identifier of a layer beneath which the new map is added; None for no map.
        """
        raster = self._layers.ticked_names()[0]
        target = scratch_file()

        def work(task):
            ready = {**spec, "inputs": self._layers.copied(spec["inputs"])}
            try:
                job = shared.backend().run_job(
                    {**ready, "labels": label_copies.write_copies(copies, target)},
                    tasks.job_report(task),
                    task.isCanceled,
                )
                return job["result"] and (ready, job["result"], task.isCanceled())
            finally:
                with suppress(OSError):
                    target.unlink()

        def done(outcome):
            if outcome is None:
                self._stopped()
                return
            ready, result, stopped = outcome
            self._tell(result)
            if below is None or stopped or not self._project_is_same:
                self._over(self._summary)
            else:
                self._map(ready, result["model"], raster, below)

        self._project_is_same = True
        self._summary = words.tr("Stopped before there was anything to keep.")
        self._begin(words.tr("Training {}").format(spec["title"]), work, done)

    def stop(self) -> None:
        """Stop it; the best round so far is kept, and a model that is done."""
        self._task.cancel()
        self.said.emit(words.tr("Stopping; the best so far is kept…"))

    def shut_down(self) -> None:
        """Stop it, and tell nobody."""
        QgsProject.instance().cleared.disconnect(self._project_cleared)
        if self._task is not None:
            self._task.forget()
        self._closed = True
        for message in self._messages:  # nobody will hear their buttons
            if not sip.isdeleted(message):
                self._iface.messageBar().popWidget(message)

    def _project_cleared(self) -> None:
        self._project_is_same = False

    def _begin(self, title: str, work, done) -> None:
        self._task = tasks.start(
            tasks.Task(title, work, done, self._failed, progress=self._show_progress)
        )
        self.progressed.emit(0)
        self.said.emit(words.tr("Starting…"))
        self.changed.emit()

    def _over(self, text: str) -> None:
        self._task = None
        self.said.emit(text)
        self.changed.emit()

    def _stopped(self) -> None:
        self._over(self._summary)

    def _failed(self, error: LinkError) -> None:
        if error.code == "cancelled":
            self._stopped()
            return
        self._task = None
        self.changed.emit()
        self.failed.emit(error)

    def _show_progress(self, share: float, stage: str, left: Optional[float]) -> None:
        if self.stopping:
            return
        self.progressed.emit(int(share * 100))
        stage = escape(stage)
        self.said.emit(f"{stage} · {words.duration(left)} {words.tr('left')}" if left else stage)

    def _tell(self, result: Dict[str, Any]) -> None:
        """Tell of the new model."""
        problems = words.problems(result["warnings"])
        rows = [escape(teach_result.summary(result)), problems]
        self._summary = "<br>".join(filter(None, rows))
        shared.events.models_changed.emit()
        self.trained.emit()
        # After QGIS has told that a task is complete, which would else hide it.
        QTimer.singleShot(0, lambda: self._announce(result))

    def _announce(self, result: Dict[str, Any]) -> None:
        if not self._closed:
            self._messages.append(teach_result.announce(self._iface, result, self._use))

    def _map(self, trained: Spec, model: Dict[str, Any], raster: str, below: str) -> None:
        """Map the scene that was learned from, and add the map to the project."""
        product, folder = model["products"][0], map_files.output_folder()
        spec = {
            **{name: trained[name] for name in ("inputs", "bands", "radiometry")},
            "kind": "segment",
            "model": model["id"],
            "product": product["id"],
            "outputs": map_files.output_files(folder, raster, product["id"], ["classes", "table"]),
        }

        def work(task):
            job = shared.backend().run_job(spec, tasks.job_report(task), task.isCanceled)
            return job["result"]

        def done(result):
            if result is None:
                self._stopped()
                return
            layers = results.open_results(result, product["title"])
            if layers and self._project_is_same:
                group = map_files.group_name(raster, product["title"], result)
                results.add_to_project(layers, group, below=below)
            where = words.tr("Its map is saved in {}.").format(words.folder_link(folder))
            if not map_files.is_kept(folder):
                where = words.tr("Its map is temporary: save the project to keep the next.")
            problems = words.problems(result["warnings"])
            self._over("<br>".join(filter(None, [self._summary, where, problems])))

        self._begin(words.tr("Mapping with {}").format(model["title"]), work, done)


def scratch_file() -> Path:
    """Return a new file for a copy of labels."""
    return settings.temporary_folder() / f"labels-{uuid.uuid4().hex[:8]}.gpkg"
