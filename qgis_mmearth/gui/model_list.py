"""The list of models on the left of their window: installed ones, and published ones."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QLineEdit, QTreeWidget, QTreeWidgetItem

from ..link.catalog import Model
from . import model_cards
from .two_lines import TwoLineDelegate

INSTALLED, PUBLISHED = "installed", "published"
_KEY = Qt.ItemDataRole.UserRole
_WORDS = Qt.ItemDataRole.UserRole + 1  # what the search looks into


class _Row(NamedTuple):
    """A model in the list; all of it is searched in."""

    id: str
    family: str
    """Heading that it stands under; empty for none."""
    title: str
    what: str
    """What it is like, for the second line."""
    more: str
    """Searched in, but not shown."""


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
            INSTALLED: _heading(tree, self.tr("Installed")),
            PUBLISHED: _heading(tree, self.tr("Published encoders")),
        }
        self._nothing = QTreeWidgetItem(tree, [self.tr("No model matches.")])
        self._nothing.setFlags(Qt.ItemFlag.NoItemFlags)
        self._nothing.setHidden(True)
        tree.setItemDelegate(TwoLineDelegate(tree))
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
                self._select(item)

    def show_installed(self, models: List[Model]) -> None:
        """List the installed models."""
        rows = []
        for model in models:
            sensor, what = self._sensor(model.sensor), model_cards.task(model)
            more = f"{model.description} {model.attribution}"
            rows.append(_Row(model.id, "", model.title, f"{sensor}: {what}", more))
        self._fill(INSTALLED, rows, self.tr("No models are installed."))

    def show_published(self, models: Optional[List[Dict[str, Any]]]) -> None:
        """List the published encoders by family; None if they are not known."""
        rows = []
        for info in models or []:
            family, _, title = info["title"].rpartition(": ")
            facts = [model_cards.count_of_bands(len(info["bands"]))]
            if info["installed"]:
                facts.append(self.tr("installed"))
            what = f"{self._sensor(info['sensor'])}: {', '.join(facts)}"
            more = f"{info['family']} {model_cards.encoder_task()}"
            rows.append(_Row(info["id"], family, title, what, more))
        self._fill(PUBLISHED, rows, self.tr("They are listed once the backend runs."))

    def _fill(self, group: str, rows: List[_Row], none: str) -> None:
        before = self.selection()
        keys = [item.data(0, _KEY) for item in self._items(group)]
        place = keys.index("/".join(before)) if before[0] == group else None
        self._tree.blockSignals(True)
        self._groups[group].takeChildren()
        families: Dict[str, QTreeWidgetItem] = {"": self._groups[group]}
        for row in rows:
            if row.family not in families:
                families[row.family] = _heading(self._groups[group], row.family)
            item = QTreeWidgetItem(families[row.family], [f"{row.title}\n{row.what}"])
            item.setToolTip(0, item.text(0))
            item.setData(0, _KEY, f"{group}/{row.id}")
            item.setData(0, _WORDS, " ".join(row).lower())
        if not rows:
            item = QTreeWidgetItem(self._groups[group], [none])
            item.setFlags(Qt.ItemFlag.NoItemFlags)
        self._filter()
        self.select(*before)
        if rows and place is not None and self.selection() != before:  # it is gone
            items = self._items(group)
            self._select(items[min(place, len(items) - 1)])
        self._tree.blockSignals(False)
        self.selected.emit()

    def _select(self, item: QTreeWidgetItem) -> None:
        self._tree.setCurrentItem(item)
        self._tree.scrollToItem(item)

    def _filter(self, *_: Any) -> None:
        words = self._search.text().lower().split()
        items = [item for group in self._groups for item in self._items(group)]
        for item in items:
            item.setHidden(not all(word in item.data(0, _WORDS) for word in words))
        for group in self._groups.values():
            for family in _children(group):
                if family.childCount():
                    family.setHidden(all(item.isHidden() for item in _children(family)))
        found = not words or not all(item.isHidden() for item in items)
        self._nothing.setHidden(found)
        for group in self._groups.values():
            group.setHidden(not found)

    def _items(self, group: str) -> List[QTreeWidgetItem]:
        """Return the models of a group, in all its families."""
        found = []
        for child in _children(self._groups[group]) if group in self._groups else []:
            found += _children(child) or [child]
        return [item for item in found if item.data(0, _KEY)]

    def _sensor(self, sensor: str) -> str:
        return self._sensors.get(sensor, sensor)


def _heading(parent: Union[QTreeWidget, QTreeWidgetItem], title: str) -> QTreeWidgetItem:
    heading = QTreeWidgetItem(parent, [title])
    heading.setFlags(Qt.ItemFlag.ItemIsEnabled)
    font = heading.font(0)
    font.setBold(True)
    heading.setFont(0, font)
    heading.setExpanded(True)
    return heading


def _children(item: QTreeWidgetItem) -> List[QTreeWidgetItem]:
    return [item.child(row) for row in range(item.childCount())]
