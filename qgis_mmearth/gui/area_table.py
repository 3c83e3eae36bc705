"""The table of areas below a finished map."""

from typing import Any, Dict

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, Qt
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import QHeaderView, QLabel, QPushButton, QTableWidget, QTableWidgetItem


class AreaTable(QObject):
    """Shows hectares and percent of each class, and copies them for a report."""

    def __init__(self, label: QLabel, table: QTableWidget, button: QPushButton) -> None:
        super().__init__(table)
        self._label = label
        self._table = table
        self._button = button
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([self.tr("Class"), self.tr("Area (ha)"), "%"])
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        button.clicked.connect(self.copy)
        self.clear()

    def clear(self) -> None:
        """Hide the table."""
        self._table.setRowCount(0)
        self._set_visible(False)

    def show_result(self, result: Dict[str, Any], title: str) -> None:
        """Show the areas of a result; the title says of which map they are.

        Of a density they are what its class covers, pixel by pixel in part.
        """
        self._label.setText(title)
        rows = result["classes"]
        self._table.setRowCount(len(rows))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for number, row in enumerate(rows):
            name = QTableWidgetItem(row["title"])
            name.setData(Qt.ItemDataRole.DecorationRole, QColor(row["color"]))
            self._table.setItem(number, 0, name)
            kind = "" if row.get("cover_hectares") is None else "cover_"
            hectares, percent = row[f"{kind}hectares"], row[f"{kind}percent"]
            for column, text in ((1, f"{hectares:,.2f}"), (2, f"{percent:.1f}")):
                item = QTableWidgetItem(text)
                item.setTextAlignment(right)
                self._table.setItem(number, column, item)
        self._set_visible(True)

    def text(self) -> str:
        """Return the table with tabs between columns, as spreadsheets take it."""
        lines = [["Class", "Area (ha)", "%"]]
        for row in range(self._table.rowCount()):
            lines.append([self._table.item(row, c).text().replace(",", "") for c in range(3)])
        return "\n".join("\t".join(cells) for cells in lines)

    def copy(self) -> None:
        """Put the table on the clipboard."""
        QgsApplication.clipboard().setText(self.text())

    def _set_visible(self, visible: bool) -> None:
        for widget in (self._label, self._table, self._button):
            widget.setVisible(visible)
