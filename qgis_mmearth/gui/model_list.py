"""The list of models on the left of their window: installed ones, and published ones."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QLineEdit, QTreeWidget, QTreeWidgetItem

from ..link.catalog import Model
from . import model_cards

INSTALLED, PUBLISHED = "installed", "published"
_KEY = Qt.ItemDataRole.UserRole
_WORDS = Qt.ItemDataRole.UserRole + 1  # what the search looks into


class ModelTree(QObject):
    """Fills a tree with models, and hides what the search does not name."""

    selected = pyqtSignal()
    """Another model is selected, or what is known of it has changed."""

    def __init__(self, tree: QTreeWidget, search: QLineEdit, sensors: Mapping[str, str]) -> None:
        """Take over the widgets.

        Args:
            tree: is filled.
            search: what is typed here is looked for.
            sensors: titles of sensors by identifier.
        """
        super().__init__(tree)
        self._tree = tree
        self._sensors = sensors
        self._search = search
        self._groups = {
            INSTALLED: self._group(self.tr("Installed")),
            PUBLISHED: self._group(self.tr("Published encoders")),
        }
        tree.currentItemChanged.connect(lambda *_: self.selected.emit())
        search.textChanged.connect(self._filter)

    def selection(self) -> Tuple[str, str]:
        """Return group and identifier of the selected model; empty if none is."""
        item = self._tree.currentItem()
        group, _, model_id = ((item.data(0, _KEY) if item else "") or "").partition("/")
        return group, model_id

    def select(self, group: str, model_id: str) -> None:
        """Select a model, if it is listed."""
        for item in self._items(group):
            if item.data(0, _KEY) == f"{group}/{model_id}":
                self._tree.setCurrentItem(item)
                self._tree.scrollToItem(item)

    def show_installed(self, models: List[Model]) -> None:
        """List the installed models."""
        rows = [
            (m.id, m.title, model_cards.task(m), m.sensor, f"{m.description} {m.attribution}")
            for m in models
        ]
        self._fill(INSTALLED, rows, self.tr("No models are installed."))

    def show_published(self, models: Optional[List[Dict[str, Any]]]) -> None:
        """List the published encoders; None if they are not known."""
        rows = []
        for info in models or []:
            what = self.tr("installed") if info["installed"] else model_cards.encoder_task()
            rows.append((info["id"], info["title"], what, info["sensor"], info["family"]))
        self._fill(PUBLISHED, rows, self.tr("They are listed once the backend runs."))

    def _fill(self, group: str, rows: List[Tuple[str, str, str, str, str]], none: str) -> None:
        """List models: identifier, title, what each does, its sensor, and more to search in."""
        before = self.selection()
        self._tree.blockSignals(True)
        parent = self._groups[group]
        parent.takeChildren()
        for model_id, title, what, sensor, more in rows:
            sensor = self._sensors.get(sensor, sensor)
            item = QTreeWidgetItem(parent, [f"{title}\n{sensor}: {what}"])
            item.setToolTip(0, item.text(0))
            item.setData(0, _KEY, f"{group}/{model_id}")
            item.setData(0, _WORDS, f"{model_id} {title} {sensor} {what} {more}".lower())
        if not rows:
            item = QTreeWidgetItem(parent, [none])
            item.setFlags(Qt.ItemFlag.NoItemFlags)
        self._filter()
        self.select(*before)
        self._tree.blockSignals(False)
        self.selected.emit()

    def _filter(self, *_: Any) -> None:
        words = self._search.text().lower().split()
        for group in self._groups:
            for item in self._items(group):
                text = item.data(0, _WORDS)
                hidden = text is not None and not all(word in text for word in words)
                item.setHidden(hidden)

    def _items(self, group: str) -> List[QTreeWidgetItem]:
        parent = self._groups.get(group)
        return [parent.child(row) for row in range(parent.childCount())] if parent else []

    def _group(self, title: str) -> QTreeWidgetItem:
        group = QTreeWidgetItem(self._tree, [title])
        group.setFlags(Qt.ItemFlag.ItemIsEnabled)
        font = group.font(0)
        font.setBold(True)
        group.setFont(0, font)
        group.setExpanded(True)
        return group
