"""Combo boxes in a column of a table, each made only when it is opened: there may be hundreds."""

from typing import Callable, List, Tuple

from qgis.PyQt.QtCore import Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionComboBox,
    QTableWidget,
)

Entries = Callable[[int], Tuple[List[Tuple[str, str]], str]]
"""From a row to the titles and keys of its entries, and the key of the present one."""


class QuietComboBox(QComboBox):
    """Leaves the mouse wheel to the panel: scrolling over it must not choose another band."""

    def wheelEvent(self, event) -> None:  # noqa: N802
        """Hand the event on."""
        event.ignore()


class ComboDelegate(QStyledItemDelegate):
    """Shows the cells of a column as combo boxes, and makes one when a cell is opened.

    A cell opens by a click, by the space bar or by F2; Escape closes it as it was.
    """

    chosen = pyqtSignal(int, object)
    """The user has chosen: carries the row and the key of the entry."""

    def __init__(self, table: QTableWidget, column: int, entries: Entries) -> None:
        super().__init__(table)
        self._table = table
        self._column = column
        self._entries = entries
        # Style sheets of themes know combo boxes, not cells: this one lends its look.
        self._pattern = QuietComboBox(table)
        self._pattern.hide()
        table.setItemDelegateForColumn(column, self)
        keys = QAbstractItemView.EditTrigger
        table.setEditTriggers(keys.EditKeyPressed | keys.AnyKeyPressed)
        table.cellClicked.connect(self._clicked)

    def paint(self, painter, option, index) -> None:
        """Draw a closed combo box with the cell's text."""
        box = QStyleOptionComboBox()
        self._pattern.initStyleOption(box)
        box.rect = option.rect
        box.state |= option.state & QStyle.StateFlag.State_HasFocus
        style = self._pattern.style()
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            box,
            QStyle.SubControl.SC_ComboBoxEditField,
            self._pattern,
        )
        # The name at the start counts, and so does what is said at the end.
        box.currentText = option.fontMetrics.elidedText(
            index.data(), Qt.TextElideMode.ElideMiddle, field.width()
        )
        style.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, box, painter, self._pattern)
        style.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, box, painter, self._pattern)

    def createEditor(self, parent, _option, index) -> QComboBox:  # noqa: N802
        """Make the combo box of a cell."""
        entries, present = self._entries(index.row())
        combo = QuietComboBox(parent)
        combo.setAccessibleName(self._table.item(index.row(), self._column - 1).text())
        for title, key in entries:
            combo.addItem(title, key)
        combo.setCurrentIndex(combo.findData(present))
        row = index.row()
        combo.activated.connect(lambda _index: self._activated(row, combo))
        QTimer.singleShot(0, combo.showPopup)  # once it has its place
        return combo

    def setEditorData(self, _editor, _index) -> None:  # noqa: N802
        """Leave the combo box as it was made."""

    def setModelData(self, _editor, _model, _index) -> None:  # noqa: N802
        """Change nothing: only what the user picks counts, and ``chosen`` tells it."""

    def _clicked(self, row: int, column: int) -> None:
        if column == self._column:
            self._table.editItem(self._table.item(row, column))

    def _activated(self, row: int, combo: QComboBox) -> None:
        key = combo.currentData()
        self.closeEditor.emit(combo)
        self.chosen.emit(row, key)
