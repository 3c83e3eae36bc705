"""The table of a model's bands and what each of them is read from."""

from typing import Any, Dict, List, NamedTuple

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QBrush, QColor
from qgis.PyQt.QtWidgets import QComboBox, QHeaderView, QTableWidget, QTableWidgetItem

BAND_WIDTH = 90  # room for a name; the rest is for what it is read from


class Mark(NamedTuple):
    """How a match is shown; signs differ too, not only colours."""

    sign: str
    color: str
    words: str


MARKS = {
    "exact": Mark("✔", "#2e7d32", "recognised"),
    "likely": Mark("●", "#c77700", "probably right, please look"),
    "suggested": Mark("?", "#c77700", "a suggestion, please confirm"),
    "ambiguous": Mark("≠", "#c62828", "several bands fit, please choose"),
    "missing": Mark("✖", "#c62828", "not found"),
}


class BandTable(QObject):
    """Shows a plan's bands, and collects what the user assigns by hand."""

    changed = pyqtSignal()

    def __init__(self, table: QTableWidget) -> None:
        super().__init__(table)
        self._table = table
        self._choices: Dict[str, Dict[str, Any]] = {}
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels(["", self.tr("Band"), self.tr("Read from")])
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        table.setColumnWidth(1, BAND_WIDTH)

    def clear_choices(self) -> None:
        """Forget what the user assigned: the rasters or the model are others now."""
        self._choices.clear()

    def choices(self) -> List[Dict[str, Any]]:
        """Return what the user assigned, as the interface wants it."""
        return list(self._choices.values())

    def show_model(self, bands) -> None:
        """Show the bands of a model, before anything is known of the rasters."""
        self._fill([{"band": name, "title": title, "state": ""} for name, title in bands], [])

    def show_plan(self, plan: Dict[str, Any]) -> None:
        """Show what a plan says of each band."""
        self._fill(plan["bands"], plan["sources"])

    def has_suggestions(self) -> bool:
        """Tell whether some bands wait to be confirmed."""
        return any(self._state(row) == "suggested" for row in range(self._table.rowCount()))

    def confirm_suggestions(self) -> None:
        """Take what is suggested as chosen."""
        for row in range(self._table.rowCount()):
            if self._state(row) == "suggested":
                self._choose(row)
        self.changed.emit()

    def _fill(self, bands: List[Dict[str, Any]], sources: List[Dict[str, Any]]) -> None:
        self._table.setRowCount(len(bands))
        for row, match in enumerate(bands):
            mark = MARKS.get(match["state"], Mark("", "#808080", ""))
            sign = QTableWidgetItem(mark.sign)
            sign.setForeground(QBrush(QColor(mark.color)))
            sign.setData(Qt.ItemDataRole.UserRole, match["state"])
            sign.setToolTip(f"{mark.words}: {match.get('reason') or match['title']}")
            self._table.setItem(row, 0, sign)
            band = QTableWidgetItem(f"{match['band']} {match['title']}")
            band.setToolTip(match["title"])
            self._table.setItem(row, 1, band)
            self._table.setCellWidget(row, 2, self._combo(row, match, sources))

    def _combo(self, row: int, match: Dict[str, Any], sources: List[Dict[str, Any]]) -> QComboBox:
        combo = QComboBox()
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setAccessibleName(match["band"])
        combo.addItem("—", None)
        candidates = [_key(source) for source in match.get("candidates", [])]
        single = len({source["input"] for source in sources}) == 1
        for source in sorted(sources, key=lambda source: _key(source) not in candidates):
            # With one raster its name says nothing, and the panel is narrow.
            title = source["title"].rpartition(": ")[2] if single else source["title"]
            combo.addItem(title, _key(source))
        if match.get("source"):
            combo.setCurrentIndex(combo.findData(_key(match["source"])))
        combo.activated.connect(lambda _index, row=row: self._user_chose(row))
        return combo

    def _user_chose(self, row: int) -> None:
        self._choose(row)
        self.changed.emit()

    def _choose(self, row: int) -> None:
        band = self._table.item(row, 1).text().split()[0]
        chosen = self._table.cellWidget(row, 2).currentData()
        if chosen is None:
            self._choices.pop(band, None)
        else:
            number, index = map(int, chosen.split(":"))
            self._choices[band] = {"band": band, "input": number, "index": index}

    def _state(self, row: int) -> str:
        return self._table.item(row, 0).data(Qt.ItemDataRole.UserRole)


def _key(source: Dict[str, Any]) -> str:
    """Return a text for a source band: Qt finds texts in a combo box, but no tuples."""
    return f"{source['input']}:{source['index']}"
