"""Which layer labels are read from, by which field; and word of each that is drawn."""

from pathlib import Path
from typing import Any, List, Optional, Tuple

from qgis.core import (
    Qgis,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsMapLayer,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QLabel

from .. import settings
from ..layers import labels, stack
from ..layers.results import RESULT_PROPERTY
from . import words
from .layer_list import LayerList

DELAY_MS = 200  # several strokes in a row are counted once
_CODES = (
    Qgis.DataType.Byte,
    Qgis.DataType.UInt16,
    Qgis.DataType.Int16,
    Qgis.DataType.UInt32,
    Qgis.DataType.Int32,
)


class LabelChooser(QObject):
    """Lists what can hold labels: vector layers, the layers made here, and rasters of classes."""

    changed = pyqtSignal()
    """Other labels are chosen."""
    drawn = pyqtSignal()
    """What is chosen has other features now."""

    def __init__(
        self, combo: QComboBox, field_label: QLabel, field_combo: QComboBox, rasters: LayerList
    ) -> None:
        """Take over the widgets.

        Args:
            combo: lists the layers.
            field_label: names the next.
            field_combo: lists the fields of the chosen layer.
            rasters: those of the scene, which hold no labels.
        """
        super().__init__(combo)
        self._combo = combo
        self._field_label = field_label
        self._field_combo = field_combo
        self._rasters = rasters
        self._links: List[Tuple[Any, Any]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self.drawn)
        project = QgsProject.instance()
        self._listened = [
            (project.layersAdded, self.refresh),
            (project.layersRemoved, self.refresh),
            (project.layerTreeRoot().nameChanged, self.refresh),
            (rasters.changed, self.refresh),
        ]
        for signal, slot in self._listened:
            signal.connect(slot)
        combo.activated.connect(self._layer_chosen)
        field_combo.activated.connect(self._field_chosen)
        self.refresh()

    def close(self) -> None:
        """Stop listening to the project."""
        self._timer.stop()
        self._unwatch()
        for signal, slot in self._listened:
            signal.disconnect(slot)

    def layers(self) -> List[QgsMapLayer]:
        """Return what labels are read from: layers of one kind, or nothing."""
        layer = QgsProject.instance().mapLayer(self._combo.currentData() or "")
        return [] if layer is None else labels.siblings(layer)

    def field(self) -> Optional[str]:
        """Return the field of the class; None for a label raster."""
        return self._field_combo.currentData()

    def are_ours(self) -> bool:
        """Tell whether the layers were made here, so that their classes may be changed."""
        layers = self.layers()
        return bool(layers) and bool(layers[0].customProperty(labels.LABELS_PROPERTY))

    def choose(self, layer: QgsMapLayer) -> None:
        """Choose a layer."""
        self.refresh()
        self._combo.setCurrentIndex(max(0, self._combo.findData(layer.id())))
        self._layer_chosen()

    def refresh(self, *_: Any) -> None:
        """List the project's layers again; the chosen one stays."""
        before = self._combo.currentData()
        self._combo.clear()
        found = _candidates(set(self._rasters.ticked_keys()))
        self._combo.addItem(self.tr("please choose") if found else self.tr("none yet"), "")
        for title, layer_id in found:
            self._combo.addItem(title, layer_id)
        kept = self._combo.findData(before) if before else -1
        ours = [number for number, (_, key) in enumerate(found, 1) if _is_ours(key)]
        self._combo.setCurrentIndex(kept if kept >= 0 else ours[0] if ours else 0)
        if self._combo.currentData() != before:
            self._layer_chosen()

    def _layer_chosen(self, *_: Any) -> None:
        layers = self.layers()
        self._field_combo.clear()
        vector = bool(layers) and isinstance(layers[0], QgsVectorLayer)
        if vector:
            for name in _fields(layers[0]):
                self._field_combo.addItem(name, name)
            likely = self._field_combo.findData(_likely_field(layers[0]))
            self._field_combo.setCurrentIndex(max(0, likely))
        shown = vector and not self.are_ours()
        self._field_label.setVisible(shown)
        self._field_combo.setVisible(shown)
        self._watch(layers)
        self.changed.emit()

    def _field_chosen(self, _index: int) -> None:
        self.changed.emit()

    def _watch(self, layers: List[QgsMapLayer]) -> None:
        self._unwatch()
        for layer in layers:
            signals = [layer.dataChanged]
            if isinstance(layer, QgsVectorLayer):
                signals += [
                    layer.featureAdded,
                    layer.featureDeleted,
                    layer.geometryChanged,
                    layer.attributeValueChanged,
                    layer.afterRollBack,
                    layer.editingStopped,
                    layer.subsetStringChanged,
                ]
            for signal in signals:
                signal.connect(self._soon)
                self._links.append((signal, self._soon))
            # Once it is gone, even asking for its signals would end QGIS.
            layer.willBeDeleted.connect(self._unwatch)
            self._links.append((layer.willBeDeleted, self._unwatch))
            if _is_ours(layer.id()):
                layer.featureAdded.connect(self._feature_added)
                self._links.append((layer.featureAdded, self._feature_added))

    def _unwatch(self, *_: Any) -> None:
        for signal, slot in self._links:
            signal.disconnect(slot)
        self._links.clear()

    def _soon(self, *_: Any) -> None:
        self._timer.start()

    def _feature_added(self, number: int) -> None:
        """Let the class that was drawn last be that of the next feature."""
        layers = self.layers()
        layer = self.sender()
        if layer in layers:
            value = layer.getFeature(number).attribute(labels.FIELD)
            if isinstance(value, str) and value != labels.drawn_class(layers):
                labels.draw_class(layers, value)


def new_label_layers(
    classes: labels.Classes, otherwise: Optional[QgsCoordinateReferenceSystem]
) -> List[QgsVectorLayer]:
    """Create label layers in the folder of the saved project, or a temporary one.

    Args:
        classes: what can be drawn.
        otherwise: CRS, if the project has none.

    Raises:
        LinkError: if the file cannot be written.
    """
    project = QgsProject.instance()
    saved = project.absolutePath()
    folder = Path(saved) if saved else settings.temporary_folder()
    stem = words.tr("Labels")
    path, number = folder / f"{stem}.gpkg", 1
    while path.exists():
        number += 1
        path = folder / f"{stem} {number}.gpkg"
    crs = project.crs()
    if not crs.isValid() and otherwise is not None:
        crs = otherwise
    return labels.create_label_layers(path, classes, crs)


def _is_ours(layer_id: str) -> bool:
    layer = QgsProject.instance().mapLayer(layer_id)
    return layer is not None and bool(layer.customProperty(labels.LABELS_PROPERTY))


def _candidates(scene: set) -> List[Tuple[str, str]]:
    """Return title and identifier of layers that can hold labels; of ours, one for each file."""
    project = QgsProject.instance()
    found, files = [], set()
    for layer in project.mapLayers().values():
        title = layer.name()
        if layer.customProperty(RESULT_PROPERTY):
            continue
        if isinstance(layer, QgsVectorLayer):
            if not layer.isSpatial():
                continue
            if _is_ours(layer.id()):
                path = labels.file_of(layer)
                if path in files:
                    continue
                files.add(path)
                layer = labels.siblings(layer)[0]
                node = project.layerTreeRoot().findLayer(layer.id())
                group = node.parent().name() if node and node.parent() else ""
                title = group or title
            found.append((title, layer.id()))
        elif isinstance(layer, QgsRasterLayer) and layer.id() not in scene and _has_codes(layer):
            found.append((title, layer.id()))
    return sorted(found, key=lambda row: row[0].lower())


def _has_codes(layer: QgsRasterLayer) -> bool:
    if layer.bandCount() != 1 or not stack.has_pixels(layer):
        return False
    return layer.dataProvider().dataType(1) in _CODES


def _fields(layer: QgsVectorLayer) -> List[str]:
    """Return fields that may hold a class."""
    keys = set(layer.primaryKeyAttributes())
    return [field.name() for number, field in enumerate(layer.fields()) if number not in keys]


def _likely_field(layer: QgsVectorLayer) -> Optional[str]:
    """Return the field that most likely holds the class."""
    names = _fields(layer)
    renderer = layer.renderer()
    styled = ""
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        styled = renderer.classAttribute().strip('"')
    by_name = [name for name in names if name.lower() == labels.FIELD]
    texts = [name for name in names if layer.fields().field(name).typeName().lower() in
             ("string", "text", "varchar", "character varying")]  # fmt: skip
    wanted = [name for name in (styled, *by_name, *texts, *names) if name in names]
    return wanted[0] if wanted else None
