"""Live mode: while labels are drawn, what is seen is mapped by a head that learns from them.

The maps are layers of the canvas only: neither the project nor its layer tree knows of them, so
they are never saved, and nothing is left of them when live mode ends.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from .. import settings, shared, tasks
from ..layers import label_copies, style
from ..link.errors import LinkError
from . import words

DELAY_MS = 150  # several changes in a row are mapped once
POLL_SECONDS = 0.05  # between looks at a preview that takes half a second
OPACITY = 0.6
KINDS = ("classes", "uncertainty")

Request = Callable[[], Optional[Dict[str, Any]]]
Layers = Callable[[], List[QgsVectorLayer]]


class LiveMode(QObject):
    """Watches label layers and the canvas, and keeps a preview of what is seen up to date."""

    said = pyqtSignal(str, str)
    """Rich text for the user, and its kind: empty, ``warning`` or ``error``."""
    suggested = pyqtSignal(list)
    """Places to label next, the most useful first: x and y in ``crs``, uncertainty 0 to 100.

    With ``crs`` and ``transform`` of the grid.
    """
    ended = pyqtSignal()
    """Live mode is off, whoever ended it."""

    def __init__(self, iface, request: Request, layers: Layers) -> None:
        """Make it, switched off.

        Args:
            iface: QGIS's interface.
            request: returns inputs, model, bands, radiometry and labels of a preview; None if
                something is lacking. Called in the main thread.
            layers: returns the label layers. What they show is learned from, saved or not, in place
                of the file that the request names; without any, the file is.
        """
        super().__init__()
        self._canvas = iface.mapCanvas()
        self._request = request
        self._layers = layers
        self._choice = KINDS[0]
        self._folder: Optional[Path] = None
        self._number = 0
        self._task: Optional[tasks.Task] = None
        self._again = False
        self._overlays: Dict[str, QgsRasterLayer] = {}
        self._order: List[str] = []  # of the layers, as QGIS has set them
        self._links: List[Tuple[Any, Any]] = []
        self._watched: List[QgsVectorLayer] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._update)

    @property
    def is_on(self) -> bool:
        """True from ``start`` until ``ended``."""
        return self._folder is not None

    def start(self) -> None:
        """Begin to watch."""
        if self.is_on:
            return
        folder = tempfile.mkdtemp(prefix="mmearth-live-", dir=str(settings.temporary_folder()))
        self._folder = Path(folder)
        self._order = [layer.id() for layer in self._canvas.layers()]
        self._watch()
        self._soon()

    def stop(self, *_: Any) -> None:
        """End it, and leave nothing behind."""
        if not self.is_on:
            return
        self._timer.stop()
        if self._task is not None:
            self._task.forget()
        self._task, self._again = None, False
        self._unwatch()
        self._clear_canvas()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        _free_backend()
        self.suggested.emit([])
        self.ended.emit()

    def renew(self) -> None:
        """Make the preview anew, as the request is another now."""
        if self.is_on:
            self._soon()

    def show(self, kind: str) -> None:
        """Show the map of ``classes``, or of ``uncertainty``."""
        self._choice = kind
        if self.is_on:
            self._place()

    def _watch(self) -> None:
        project = QgsProject.instance()
        self._link(self._canvas.extentsChanged, self._soon)
        self._link(self._canvas.destinationCrsChanged, self._soon)
        self._link(self._canvas.layersChanged, self._place)
        self._link(project.layersRemoved, self._soon)
        self._link(project.cleared, self.stop)
        self._watched = self._layers()
        for layer in self._watched:
            for signal in (
                layer.featureAdded,
                layer.featureDeleted,
                layer.geometryChanged,
                layer.attributeValueChanged,
                layer.editingStopped,
                layer.dataChanged,
            ):
                self._link(signal, self._soon)
            self._link(layer.willBeDeleted, self._labels_go)

    def _labels_go(self) -> None:
        """End it while the layer is still there: asking a deleted one for signals ends QGIS."""
        self.said.emit(words.tr("A label layer was removed, so the preview ended."), "warning")
        self.stop()

    def _link(self, signal: Any, slot: Any) -> None:
        signal.connect(slot)
        self._links.append((signal, slot))

    def _unwatch(self) -> None:
        for signal, slot in self._links:
            signal.disconnect(slot)
        self._links.clear()
        self._watched = []

    def _soon(self, *_: Any) -> None:
        self._timer.start()

    def _update(self) -> None:
        """Ask for a preview of what is seen now."""
        if self._task is not None:  # the newest wins
            self._again = True
            self._task.cancel()
            return
        wanted = self._request()
        if wanted is None:
            self.said.emit(words.tr("Choose rasters, a model and a label layer first."), "error")
            self.stop()
            return
        if self._watched != self._layers():
            self._unwatch()
            self._watch()
        if self._watched and not wanted["labels"]["classes"]:
            self._hide()
            self.said.emit(words.tr("Draw some labels of two or more classes on the map."), "")
            return
        try:
            drawn = self._drawn(wanted["labels"])
        except LinkError as error:
            self._say_failed(error)
            return
        self._ask({**wanted, "kind": "preview", "extent": self._extent()}, drawn)

    def _drawn(self, source: Dict[str, Any]) -> Optional[label_copies.LabelCopies]:
        """Take the labels as they stand; None if no layer is watched."""
        if not self._watched:
            return None
        return label_copies.copy_labels(self._watched, source["field"], source["classes"])

    def _extent(self) -> Dict[str, Any]:
        view = self._canvas.mapSettings()
        box, crs = view.visibleExtent(), view.destinationCrs()
        if not crs.isValid() and self._watched:  # a project without one shows layers as they are
            crs = self._watched[0].crs()
        bounds = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
        return {"bounds": bounds, "crs": crs.authid() or crs.toWkt()}

    def _ask(self, spec: Dict[str, Any], drawn: Optional[label_copies.LabelCopies]) -> None:
        self._number += 1
        outputs = {kind: str(self._folder / f"{kind}-{self._number}.tif") for kind in KINDS}
        copy = self._folder / f"labels-{self._number}.gpkg"

        folder = self._folder

        def work(task):
            # Started for whatever comes next, if this request is outdated by then.
            shared.backend().client(lambda: self._folder != folder)
            ready = {**spec, "outputs": outputs}
            if drawn is not None:
                ready["labels"] = label_copies.write_copies(drawn, copy)

            def report(state):
                if state["state"] == "queued":
                    task.report(0.0, "")

            job = shared.backend().run_job(ready, report, task.isCanceled, POLL_SECONDS)
            return job["result"]

        def done(result):
            self._end(copy)
            if result is not None:
                self._show_result(result)
            self._go_on()

        def failed(error):
            self._end(copy)
            if error.code != "cancelled":
                self._hide()  # it shows what no longer holds
                self._say_failed(error)
            self._go_on()

        self.said.emit(words.tr("Updating the preview…"), "")
        title = words.tr("Live preview")
        self._task = tasks.start(
            tasks.Task(title, work, done, failed, progress=self._say_waiting, hidden=True)
        )

    def _say_waiting(self, *_: Any) -> None:
        self.said.emit(words.tr("The preview waits until what runs now is done."), "")

    def _end(self, copy: Path) -> None:
        self._task = None
        with contextlib.suppress(OSError):  # there is none, or it goes with the folder
            copy.unlink()

    def _go_on(self) -> None:
        if self._again:
            self._again = False
            self._update()

    def _say_failed(self, error: LinkError) -> None:
        self.said.emit(words.problem(error.message, error.advice), "error")

    def _show_result(self, result: Dict[str, Any]) -> None:
        outputs = result["outputs"]
        layers = {kind: QgsRasterLayer(outputs[kind], kind) for kind in KINDS}
        if not all(layer.isValid() for layer in layers.values()):
            self.said.emit(words.tr("The preview could not be opened."), "error")
            return
        style.style_palette(layers["classes"])
        style.style_uncertainty(layers["uncertainty"])
        for layer in layers.values():
            layer.renderer().setOpacity(OPACITY)
        old, self._overlays = self._overlays, layers
        self._place()
        self._delete(old)
        grid = result["grid"]
        common = {name: grid[name] for name in ("crs", "transform")}
        self.suggested.emit([{**place, **common} for place in result["suggestions"]])
        problems = result["warnings"]
        text = words.problems(problems) or words.tr("The preview is up to date.")
        self.said.emit(text, "warning" if problems else "")

    def _hide(self) -> None:
        """Show no map until there is another."""
        old, self._overlays = self._overlays, {}
        if old:
            self._canvas.setLayers(self._as_qgis_set_them())
            self._delete(old)
            self.suggested.emit([])

    def _delete(self, overlays: Dict[str, QgsRasterLayer]) -> None:
        """Delete layers that the canvas shows no more, and their files."""
        names = [Path(layer.source()).name for layer in overlays.values()]
        overlays.clear()  # Windows deletes no file that is open
        for name in names:
            for file in self._folder.glob(f"{name}*"):  # QGIS keeps statistics beside it
                with contextlib.suppress(OSError):  # else it goes with the folder
                    file.unlink()

    def _place(self) -> None:
        """Put the overlay beneath the labels and above all else, also after QGIS has set layers."""
        present = self._canvas.layers()
        if not any(self._is_ours(layer) for layer in present):
            self._order = [layer.id() for layer in present]
        below = self._as_qgis_set_them()
        overlay = self._overlays.get(self._choice)
        if overlay is None:
            return
        watched = {layer.id() for layer in self._watched}
        above = [layer for layer in below if layer.id() in watched]
        others = [layer for layer in below if layer.id() not in watched]
        wanted = [*above, overlay, *others]
        if [layer.id() for layer in wanted] != [layer.id() for layer in present]:
            self._canvas.setLayers(wanted)

    def _is_ours(self, layer: QgsMapLayer) -> bool:
        return layer.source().startswith(str(self._folder))

    def _as_qgis_set_them(self) -> List[QgsMapLayer]:
        """Return the canvas' layers but ours, in the order that the layer tree gave them."""
        present = {layer.id(): layer for layer in self._canvas.layers()}
        return [present[name] for name in self._order if name in present]

    def _clear_canvas(self) -> None:
        if self._overlays:
            self._canvas.setLayers(self._as_qgis_set_them())
        self._overlays = {}
        self._order = []


def _free_backend() -> None:
    """Let the backend free what it keeps for previews; if it does not answer, it has ended."""
    backend = shared.backend()
    if not backend.running:
        return

    def work(_task):
        backend.forget_previews()

    def ignore(_outcome):
        pass

    title = words.tr("Ending the live preview")
    tasks.start(tasks.Task(title, work, ignore, ignore, hidden=True))
