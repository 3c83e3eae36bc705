"""The table of a model's bands and what each of them is read from."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QBrush, QColor
from qgis.PyQt.QtWidgets import QHeaderView, QLabel, QTableWidget, QTableWidgetItem

from . import words
from .band_combo import ComboDelegate

SIGN, BAND, READ, OFF = range(4)  # columns
BAND_WIDTH = 90  # room for a name; the rest is for what it is read from
MANY = 20  # from so many bands on, the table scrolls
UNBOUNDED = 16777215  # Qt's QWIDGETSIZE_MAX, which PyQt does not name
NOTHING = "—"


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


class BandTable(QObject):
    """Shows a plan's bands, and collects what the user assigns by hand."""

    changed = pyqtSignal()

    def __init__(self, table: QTableWidget, summary: QLabel) -> None:
        super().__init__(table)
        self._table = table
        self._summary = summary
        self._bands: List[Dict[str, Any]] = []
        self._sources: List[Dict[str, Any]] = []
        self._rasters: List[str] = []  # keys of the rasters that the shown plan is about
        self._choices: Dict[str, Tuple[str, int]] = {}  # band -> key of a raster and its band
        table.setColumnCount(4)
        headings = ["", self.tr("Band"), self.tr("Read from"), self.tr("nm")]
        table.setHorizontalHeaderLabels(headings)
        table.horizontalHeaderItem(OFF).setToolTip(
            self.tr("Wavelength less that of the model's band, in nanometres")
        )
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(READ, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(OFF, QHeaderView.ResizeMode.ResizeToContents)
        table.setColumnWidth(BAND, BAND_WIDTH)
        self._delegate = ComboDelegate(table, READ, self._entries)
        self._delegate.chosen.connect(self._user_chose)
        summary.setVisible(False)

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
        return any(match["state"] == "suggested" for match in self._bands)

    def confirm_suggestions(self) -> None:
        """Take what is suggested as chosen."""
        for row, match in enumerate(self._bands):
            if match["state"] == "suggested":
                self._choose(row, _key(match["source"]))
        self.changed.emit()

    def _fill(self, bands: List[Dict[str, Any]], sources: List[Dict[str, Any]]) -> None:
        self._bands, self._sources = bands, sources
        current = self._table.currentRow(), self._table.currentColumn()
        self._table.setRowCount(0)  # closes a combo box that may be open: it is out of date
        self._table.setRowCount(len(bands))
        for row, match in enumerate(bands):
            mark = MARKS.get(match["state"], Mark("", "", ""))
            sign = QTableWidgetItem(mark.sign)
            if mark.kind:
                sign.setForeground(QBrush(QColor(words.color(mark.kind, self._table))))
            sign.setToolTip(f"{mark.words}: {match.get('reason') or match['title']}")
            band = QTableWidgetItem(f"{match['band']} {match['title']}")
            band.setToolTip(match["title"])
            off = QTableWidgetItem()
            off.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column, item in ((SIGN, sign), (BAND, band), (OFF, off)):
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self._table.setItem(row, column, item)
            self._table.setItem(row, READ, QTableWidgetItem())
            source = match.get("source")
            text = self._title(source) if source else NOTHING
            self._show(row, text, self._residual(match))
        self._table.setCurrentCell(*current)
        self._sum_up()

    def _show(self, row: int, text: str, residual: str = "") -> None:
        """Show what a band is read from."""
        item, match = self._table.item(row, READ), self._bands[row]
        item.setText(text)
        self._table.item(row, OFF).setText(residual)
        lines = [text]
        if residual:
            lines.append(
                self.tr("Its wavelength less that of the model's band: {} nm.").format(residual)
            )
        item.setToolTip("\n".join(lines))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{match['band']}: {' '.join(lines)}")

    def _residual(self, match: Dict[str, Any]) -> str:
        """Return how far off a band's wavelength is; empty where its name makes it sure anyway."""
        residual = match.get("residual_nm")
        if residual is None or match["state"] != "likely":
            return ""
        return f"{residual:+.1f}"

    def _sum_up(self) -> None:
        """Say in a line how well bands fit by wavelength; let a table of many scroll by itself."""
        many = len(self._bands) >= MANY
        height = self._table.verticalHeader().defaultSectionSize()
        self._table.setMaximumHeight(height * MANY if many else UNBOUNDED)
        policy = Qt.ScrollBarPolicy
        self._table.setVerticalScrollBarPolicy(
            policy.ScrollBarAsNeeded if many else policy.ScrollBarAlwaysOff
        )
        off = [abs(match["residual_nm"]) for match in self._bands if self._residual(match)]
        self._table.setColumnHidden(OFF, not off)
        self._summary.setVisible(bool(off))
        if len(off) == 1:
            self._summary.setText(self.tr("1 band by wavelength, {:.1f} nm off").format(*off))
        elif off:
            self._summary.setText(
                self.tr("{} bands by wavelength, at most {:.1f} nm off").format(len(off), max(off))
            )

    def _entries(self, row: int):
        """Return the bands that a row can be read from, likely ones first, and the present one."""
        match = self._bands[row]
        likely = [_key(source) for source in match.get("candidates", [])]
        ordered = sorted(self._sources, key=lambda source: _key(source) not in likely)
        entries = [(NOTHING, None), *((self._title(source), _key(source)) for source in ordered)]
        return entries, self._present(row)

    def _present(self, row: int) -> Optional[str]:
        match = self._bands[row]
        raster, index = self._choices.get(match["band"], (None, 0))
        if raster in self._rasters:
            return f"{self._rasters.index(raster)}:{index}"
        return _key(match["source"]) if match.get("source") else None

    def _title(self, source: Dict[str, Any]) -> str:
        # With one raster its name says nothing, and the panel is narrow.
        single = len({source["input"] for source in self._sources}) == 1
        return source["title"].rpartition(": ")[2] if single else source["title"]

    def _user_chose(self, row: int, key: Optional[str]) -> None:
        self._choose(row, key)
        titles = {_key(source): self._title(source) for source in self._sources}
        self._show(row, titles.get(key, NOTHING))
        self.changed.emit()

    def _choose(self, row: int, key: Optional[str]) -> None:
        band = self._bands[row]["band"]
        if key is None:
            self._choices.pop(band, None)
        else:
            number, index = map(int, key.split(":"))
            self._choices[band] = (self._rasters[number], index)


def _key(source: Dict[str, Any]) -> str:
    """Return a text for a source band: Qt finds texts in a combo box, but no tuples."""
    return f"{source['input']}:{source['index']}"
