"""The table of the classes to learn: their names, colours, and how much of each is labelled."""

import re
from typing import Dict, Optional, Sequence

from qgis.PyQt.QtCore import QItemSelectionModel, QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QBrush, QColor
from qgis.PyQt.QtWidgets import (
    QColorDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
)

from ..layers import labels
from ..layers.labels import Classes
from ..link.catalog import Product
from . import words

SIGN, TITLE, UNITS, PIXELS = range(4)  # columns
FEW_UNITS = 5  # fewer polygons of a class say little of how it varies
NEW = "class-{}"  # values of classes that are still to be named
MOST_ROWS = 9  # seen at once; more are scrolled
_VALUE = Qt.ItemDataRole.UserRole


class ClassTable(QObject):
    """Shows classes, and lets the user add, rename, recolour and remove them."""

    edited = pyqtSignal()
    """The user has changed the classes."""
    chosen = pyqtSignal(str)
    """The user has chosen a class; carries its value."""

    def __init__(
        self,
        table: QTableWidget,
        add_button: QToolButton,
        rename_button: QToolButton,
        color_button: QToolButton,
        remove_button: QToolButton,
    ) -> None:
        super().__init__(table)
        self._table = table
        self._classes: Classes = []
        self._units: Dict[str, int] = {}
        self._pixels: Dict[str, int] = {}
        self._of_one = (rename_button, color_button, remove_button)
        table.setColumnCount(4)
        headings = ["", self.tr("Class"), self.tr("Labels"), self.tr("Pixels")]
        table.setHorizontalHeaderLabels(headings)
        table.horizontalHeaderItem(UNITS).setToolTip(
            self.tr("Polygons, lines and points that are drawn; blocks of a label raster")
        )
        table.horizontalHeaderItem(PIXELS).setToolTip(
            self.tr("Pixels of the rasters that they cover")
        )
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(TITLE, QHeaderView.ResizeMode.Stretch)
        table.itemChanged.connect(self._renamed)
        table.itemSelectionChanged.connect(self._selected)
        table.setToolTip(self.tr("The selected class is the one that is drawn next"))
        add_button.clicked.connect(self.add)
        rename_button.clicked.connect(self._rename)
        color_button.clicked.connect(self._choose_color)
        remove_button.clicked.connect(self.remove)
        self._fill()

    def classes(self) -> Classes:
        """Return the classes, in order."""
        return [dict(row) for row in self._classes]

    def labelled(self) -> Classes:
        """Return the classes that something is labelled with; others cannot be learned."""
        return [row for row in self.classes() if self._units.get(row["value"])]

    def show_classes(self, classes: Classes) -> None:
        """Show other classes; counts of them are still to come."""
        self._classes = [dict(row) for row in classes]
        self._units, self._pixels = {}, {}
        self._fill()

    def show_units(self, units: Dict[str, int]) -> None:
        """Show how many labels each class has."""
        self._units = dict(units)
        self._show_counts()

    def show_pixels(self, pixels: Dict[str, int]) -> None:
        """Show how many pixels of each class are labelled; empty while nobody knows."""
        self._pixels = dict(pixels)
        self._show_counts()

    def select(self, value: str) -> None:
        """Select a class, without telling anybody."""
        for row, entry in enumerate(self._classes):
            if entry["value"] == value and row != self._table.currentRow():
                self._table.blockSignals(True)
                self._table.setCurrentCell(
                    row, TITLE, QItemSelectionModel.SelectionFlag.ClearAndSelect
                    | QItemSelectionModel.SelectionFlag.Rows,
                )  # fmt: skip
                self._table.blockSignals(False)
        self._refresh_buttons()

    def add(self) -> None:
        """Add a class, ready to be named."""
        taken = [row["value"] for row in self._classes]
        number = len(taken) + 1
        while NEW.format(number) in taken:
            number += 1
        # Where classes are numbered, as those of a model are, the next number is the new one's.
        coded = bool(taken) and all(value.isdigit() for value in taken)
        self._classes.append(
            {
                "value": str(max(map(int, taken)) + 1) if coded else NEW.format(number),
                "title": self.tr("Class {}").format(number),
                "color": labels.free_color(self._classes),
            }
        )
        self._fill()
        self.edited.emit()
        self._table.selectRow(len(self._classes) - 1)
        self._rename()

    def remove(self) -> None:
        """Remove the selected class; what is drawn of it stays in the layer."""
        row = self._row()
        if row is not None:
            del self._classes[row]
            self._fill()
            self.edited.emit()
            self._selected()  # another one is now

    def recolor(self, color: str) -> None:
        """Give the selected class another colour, #rrggbb."""
        row = self._row()
        if row is not None:
            self._classes[row]["color"] = color
            self._fill()
            self.edited.emit()

    def _choose_color(self) -> None:
        row = self._row()
        if row is not None:
            before = QColor(self._classes[row]["color"])
            color = QColorDialog.getColor(before, self._table, self._classes[row]["title"])
            if color.isValid():
                self.recolor(color.name())

    def _rename(self) -> None:
        row = self._row()
        if row is not None:
            self._table.editItem(self._table.item(row, TITLE))

    def _renamed(self, item: QTableWidgetItem) -> None:
        entry = self._classes[item.row()]
        title = item.text().strip()
        if item.column() != TITLE or title == entry["title"]:
            return
        if title and title not in (row["title"] for row in self._classes):
            entry["title"] = title
            unnamed = re.match(NEW.format(r"\d+$"), entry["value"])
            if unnamed and not self._units.get(entry["value"]):  # nothing is drawn of it yet
                entry["value"] = self._free_value(title)
            self._fill()
            self.edited.emit()
            self._selected()  # who knew it by its value knows it no more
        else:
            self._fill()

    def _free_value(self, title: str) -> str:
        taken = {row["value"] for row in self._classes}
        stem = re.sub(r"\W+", "_", title.lower()).strip("_") or "class"
        value, number = stem, 1
        while value in taken:
            number += 1
            value = f"{stem}_{number}"
        return value

    def _selected(self) -> None:
        self._refresh_buttons()
        row = self._row()
        if row is not None:
            self.chosen.emit(self._classes[row]["value"])

    def _row(self) -> Optional[int]:
        rows = self._table.selectionModel().selectedRows()
        return rows[0].row() if rows else None

    def _refresh_buttons(self) -> None:
        for button in self._of_one:
            button.setEnabled(self._row() is not None)

    def _fill(self) -> None:
        selected = self._row()
        self._table.blockSignals(True)
        self._table.setRowCount(0)
        self._table.setRowCount(len(self._classes))
        for row, entry in enumerate(self._classes):
            for column in (SIGN, TITLE, UNITS, PIXELS):
                item = QTableWidgetItem()
                if column != TITLE:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                if column in (UNITS, PIXELS):
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                self._table.setItem(row, column, item)
            title = self._table.item(row, TITLE)
            title.setText(entry["title"])
            title.setToolTip(entry["title"])
            title.setData(_VALUE, entry["value"])
            title.setData(Qt.ItemDataRole.DecorationRole, QColor(entry["color"]))
        if selected is not None and selected < len(self._classes):
            self._table.selectRow(selected)
        self._table.blockSignals(False)
        self._show_counts()
        self._refresh_buttons()
        many = len(self._classes) > MOST_ROWS
        height = self._table.verticalHeader().defaultSectionSize()
        header = self._table.horizontalHeader().sizeHint().height()
        rows = MOST_ROWS if many else len(self._classes)
        self._table.setFixedHeight(header + height * rows + 2 * self._table.frameWidth())
        self._table.setVisible(bool(self._classes))

    def _show_counts(self) -> None:
        self._table.blockSignals(True)
        for row, entry in enumerate(self._classes):
            units = self._units.get(entry["value"], 0)
            pixels = self._pixels.get(entry["value"])
            few = 0 < units < FEW_UNITS
            sign = self._table.item(row, SIGN)
            sign.setText("⚠" if few else "")
            sign.setForeground(QBrush(QColor(words.color("warning", self._table))))
            self._table.item(row, UNITS).setText(f"{units:,}" if units else "–")
            known = units and pixels is not None
            self._table.item(row, PIXELS).setText(f"{pixels:,}" if known else "–")
            tip = ""
            if few:
                tip = self.tr("Few labels: draw at least {}, in different places.")
                tip = tip.format(FEW_UNITS)
            elif not units:
                tip = self.tr("No labels yet: this class is not learned.")
            for column in (SIGN, UNITS, PIXELS):
                self._table.item(row, column).setToolTip(tip)
            role = Qt.ItemDataRole.AccessibleTextRole
            labels = self.tr("1 label") if units == 1 else self.tr("{} labels").format(units)
            said = [entry["title"], labels, tip]
            self._table.item(row, TITLE).setData(role, ". ".join(filter(None, said)))
        self._table.blockSignals(False)


def classes_of_model(products: Sequence[Product]) -> Classes:
    """Return the classes of a model's first product, to start from; of an encoder, two."""
    if products:
        return [
            {"value": str(row.value), "title": row.title, "color": row.color}
            for row in products[0].classes
        ]
    return [
        {
            "value": NEW.format(number),
            "title": words.tr("Class {}").format(number),
            "color": labels.PALETTE[number - 1],
        }
        for number in (1, 2)
    ]
