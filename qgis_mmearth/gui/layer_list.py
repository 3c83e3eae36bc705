"""The list of rasters to tick: layers of the project, files and product folders."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from qgis.core import Qgis, QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QListWidget, QListWidgetItem

from .. import settings
from ..layers import stack
from ..layers.results import RESULT_PROPERTY
from .dates import by_date

_KEY = Qt.ItemDataRole.UserRole
_CHECKED = Qt.CheckState.Checked
_TYPES = {
    Qgis.DataType.Byte: "UInt8",
    Qgis.DataType.UInt16: "UInt16",
    Qgis.DataType.Int16: "Int16",
    Qgis.DataType.UInt32: "UInt32",
    Qgis.DataType.Int32: "Int32",
    Qgis.DataType.Float32: "Float32",
    Qgis.DataType.Float64: "Float64",
}


class LayerList(QObject):
    """Keeps a list widget in step with the project."""

    changed = pyqtSignal()

    def __init__(self, widget: QListWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._copies: Dict[str, str] = {}  # layer id -> copy of a layer without a file
        self._unticked_by_user = False
        project = QgsProject.instance()
        root = project.layerTreeRoot()
        self._listened = [
            (project.layersAdded, self._added),
            (project.layersRemoved, self.refresh),
            (root.layerOrderChanged, self.refresh),
            (root.nameChanged, self.refresh),
        ]
        for signal, slot in self._listened:
            signal.connect(slot)
        widget.itemChanged.connect(self._user_changed)
        self.refresh()

    def close(self) -> None:
        """Stop listening to the project."""
        for signal, slot in self._listened:
            signal.disconnect(slot)

    def refresh(self, *_: Any) -> None:
        """List the project's rasters again; ticks and added files stay."""
        before = self._ticked_lines()
        ticked = set(self.ticked_keys())
        files = [item.data(_KEY) for item in self._items() if not self._layer(item)]
        files = [key for key in files if Path(key).exists()]
        self._widget.blockSignals(True)
        self._widget.clear()
        for layer in self.rasters():
            self._append(layer.id(), layer.name(), _describe(layer), layer.id() in ticked)
        for path in files:
            self._append(path, Path(path).name, path, path in ticked)
        self._widget.blockSignals(False)
        if self._ticked_lines() != before:
            self.changed.emit()

    def tick_only(self, layer: Optional[QgsRasterLayer]) -> None:
        """Tick one layer and no other."""
        self._widget.blockSignals(True)
        for item in self._items():
            same = layer is not None and item.data(_KEY) == layer.id()
            item.setCheckState(_CHECKED if same else Qt.CheckState.Unchecked)
        self._widget.blockSignals(False)
        self.changed.emit()

    def add_path(self, path: str) -> None:
        """Add a file or product folder, ticked."""
        if path not in {item.data(_KEY) for item in self._items()}:
            self._append(path, Path(path).name, path, True)
            self.changed.emit()

    def first_ticked_layer(self) -> Optional[QgsRasterLayer]:
        """Return the first ticked layer of the project, if any."""
        return next(filter(None, map(self._layer, self._ticked())), None)

    def ticked_keys(self) -> List[str]:
        """Return layer id or path of what is ticked, in the order of ``ticked_sources``."""
        return [item.data(_KEY) for item in self._ticked()]

    def ticked_names(self) -> List[str]:
        """Return the names of what is ticked."""
        return [item.text().splitlines()[0] for item in self._ticked()]

    def ticked_dates(self) -> List[List[str]]:
        """Return layer ids and paths of what is ticked, in groups of one date, in order."""
        return by_date([(item.data(_KEY), self._names(item)) for item in self._ticked()])

    def ticked_sources(self) -> List[Any]:
        """Return what is ticked: references that are ready, or copies of layers without a file.

        Such a layer is cloned here, in the main thread, and copied to a file in a task's.
        """
        sources = []
        for item in self._ticked():
            layer = self._layer(item)
            if layer is None:
                sources.append({"path": item.data(_KEY), "label": Path(item.data(_KEY)).name})
            elif stack.file_of(layer):
                sources.append({"path": stack.file_of(layer), "label": layer.name()})
            elif layer.id() in self._copies:
                sources.append({"path": self._copies[layer.id()], "label": layer.name()})
            else:
                sources.append((layer.id(), layer.clone()))
        return sources

    def copied(self, sources: List[Any]) -> List[Dict[str, str]]:
        """Return references for sources, with layers without a file copied; in a task's thread."""
        ready = []
        for source in sources:
            if isinstance(source, tuple):
                layer_id, layer = source
                source = stack.reference(layer, settings.temporary_folder())
                self._copies[layer_id] = source["path"]
            ready.append(source)
        return ready

    def _added(self, layers: List[QgsMapLayer]) -> None:
        """List new layers; the first raster of an empty panel is surely what is to be mapped."""
        self.refresh()
        new = {layer.id() for layer in layers}
        first = next((layer for layer in self.rasters() if layer.id() in new), None)
        if first is not None and not self._ticked() and not self._unticked_by_user:
            self.tick_only(first)

    def _user_changed(self, item: QListWidgetItem) -> None:
        self._unticked_by_user = item.checkState() != _CHECKED
        self.changed.emit()

    def _ticked_lines(self) -> List[Tuple[str, str]]:
        """Return key and words of what is ticked; a plan holds until these change."""
        return [(item.data(_KEY), item.text()) for item in self._ticked()]

    def _ticked(self) -> List[QListWidgetItem]:
        return [item for item in self._items() if item.checkState() == _CHECKED]

    def _items(self) -> List[QListWidgetItem]:
        return [self._widget.item(row) for row in range(self._widget.count())]

    def _layer(self, item: QListWidgetItem) -> Optional[QgsRasterLayer]:
        return QgsProject.instance().mapLayer(item.data(_KEY))

    def _names(self, item: QListWidgetItem) -> Tuple[str, str]:
        """Return the name of a raster, and that of its file."""
        layer = self._layer(item)
        path = item.data(_KEY) if layer is None else stack.file_of(layer)
        return item.text().splitlines()[0], Path(path).name

    def _append(self, key: str, name: str, details: str, ticked: bool) -> None:
        item = QListWidgetItem(f"{name}\n{details}", self._widget)
        item.setData(_KEY, key)
        item.setToolTip(f"{name}\n{details}")  # lines that do not fit are cut off
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(_CHECKED if ticked else Qt.CheckState.Unchecked)

    @staticmethod
    def rasters() -> List[QgsRasterLayer]:
        """Return rasters in the order of the layer panel, without our own results.

        Background maps are left out as well: they are pictures without pixels of their own.
        """
        project = QgsProject.instance()
        order = [layer.id() for layer in project.layerTreeRoot().layerOrder()]
        found = [
            layer
            for layer in project.mapLayers().values()
            if isinstance(layer, QgsRasterLayer)
            and not layer.customProperty(RESULT_PROPERTY)
            and (stack.has_pixels(layer) or not layer.isValid())
        ]
        # A layer that is just being added is not in the panel yet; it will stand at the top.
        return sorted(found, key=lambda y: order.index(y.id()) if y.id() in order else -1)


def _describe(layer: QgsRasterLayer) -> str:
    """Return CRS, pixel size, bands and type in a line."""
    if not layer.isValid():
        return "unavailable"
    provider = layer.dataProvider()
    crs = layer.crs()
    unit = "°" if crs.isGeographic() else " m"
    size = f"{layer.rasterUnitsPerPixelX():.5g}{unit}"
    kind = _TYPES.get(provider.dataType(1), "other type")
    bands = layer.bandCount()
    place = crs.authid() or ("no CRS" if not crs.isValid() else "own CRS")
    return f"{place} · {size} · {bands} band{'s' if bands != 1 else ''} · {kind}"
