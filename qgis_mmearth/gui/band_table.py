"""The table of a model's bands and what each of them is read from."""

from typing import Any, Dict, List, NamedTuple, Tuple

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QBrush, QColor
from qgis.PyQt.QtWidgets import QComboBox, QHeaderView, QTableWidget, QTableWidgetItem

from . import words

BAND_WIDTH = 90  # room for a name; the rest is for what it is read from


class Mark(NamedTuple):
    """How a match is shown; signs differ too, not only colours."""

    sign: str
    kind: str
    """Of ``words.color``."""
    words: str


MARKS = {
    "exact": Mark("✔", "good", "recognised"),
    "likely": Mark("●", "warning", "probably right, please look"),
    "suggested": Mark("?", "warning", "a suggestion, please confirm"),
    "ambiguous": Mark("≠", "error", "several bands fit, please choose"),
    "missing": Mark("✖", "error", "not found"),
}


class QuietComboBox(QComboBox):
    """Leaves the mouse wheel to the panel: scrolling over it must not choose another band."""

    def wheelEvent(self, event) -> None:  # noqa: N802
        """Hand the event on."""
        event.ignore()


class BandTable(QObject):
    """Shows a plan's bands, and collects what the user assigns by hand."""

    changed = pyqtSignal()

    def __init__(self, table: QTableWidget) -> None:
        super().__init__(table)
        self._table = table
        self._rasters: List[str] = []  # keys of the rasters that the shown plan is about
        self._choices: Dict[str, Tuple[str, int]] = {}  # band -> key of a raster and its band
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels(["", self.tr("Band"), self.tr("Read from")])
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        table.setColumnWidth(1, BAND_WIDTH)

    def clear_choices(self) -> None:
        """Forget what the user assigned: the model is another now."""
        self._choices.clear()

    def keep_choices(self, rasters: List[str]) -> None:
        """Forget what the user assigned from other rasters than these."""
        self._choices = {
            band: choice for band, choice in self._choices.items() if choice[0] in rasters
        }

    def choices(self, rasters: List[str]) -> List[Dict[str, Any]]:
        """Return what the user assigned, as the interface wants it.

        Args:
            rasters: keys of the rasters in the order of the request, which is not always that in
                which the user saw them.
        """
        return [
            {"band": band, "input": rasters.index(key), "index": index}
            for band, (key, index) in self._choices.items()
            if key in rasters
        ]

    def show_model(self, bands) -> None:
        """Show the bands of a model, before anything is known of the rasters."""
        self._rasters = []
        self._fill([{"band": name, "title": title, "state": ""} for name, title in bands], [])

    def show_plan(self, plan: Dict[str, Any], rasters: List[str]) -> None:
        """Show what a plan for the rasters with these keys says of each band."""
        self._rasters = rasters
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
            mark = MARKS.get(match["state"], Mark("", "", ""))
            sign = QTableWidgetItem(mark.sign)
            if mark.kind:
                sign.setForeground(QBrush(QColor(words.color(mark.kind, self._table))))
            sign.setData(Qt.ItemDataRole.UserRole, match["state"])
            sign.setToolTip(f"{mark.words}: {match.get('reason') or match['title']}")
            self._table.setItem(row, 0, sign)
            band = QTableWidgetItem(f"{match['band']} {match['title']}")
            band.setToolTip(match["title"])
            self._table.setItem(row, 1, band)
            self._table.setCellWidget(row, 2, self._combo(row, match, sources))

    def _combo(self, row: int, match: Dict[str, Any], sources: List[Dict[str, Any]]) -> QComboBox:
        combo = QuietComboBox()
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
            self._choices[band] = (self._rasters[number], index)

    def _state(self, row: int) -> str:
        return self._table.item(row, 0).data(Qt.ItemDataRole.UserRole)


def _key(source: Dict[str, Any]) -> str:
    """Return a text for a source band: Qt finds texts in a combo box, but no tuples."""
    return f"{source['input']}:{source['index']}"
