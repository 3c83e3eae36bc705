"""The table of bands, with as many as a hyperspectral model has."""

import pytest
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QComboBox, QLabel, QTableWidget, QVBoxLayout, QWidget

from qgis_mmearth.gui.band_table import BandTable

COUNT = 202


def source(index):
    return {"input": 0, "index": index, "title": f"scene.tif: B{index:03d}"}


def match(index, residual, state="likely"):
    return {
        "band": f"B{index:03d}", "title": f"{420 + 9 * index} nm", "state": state,
        "source": source(index), "reason": "wavelength", "residual_nm": residual,
        "candidates": [source(index)],
    }  # fmt: skip


@pytest.fixture
def window():
    """A window with the table, its line of summary, and what has been changed."""
    window = QWidget()
    window.table, window.summary, window.changes = QTableWidget(), QLabel(), []
    layout = QVBoxLayout(window)
    layout.addWidget(window.summary)
    layout.addWidget(window.table)
    window.bands = BandTable(window.table, window.summary)
    window.bands.changed.connect(lambda: window.changes.append(window.bands.choices(["raster"])))
    window.resize(320, 900)
    window.show()
    yield window
    window.close()
    window.deleteLater()


def show(window, bands):
    plan = {"bands": bands, "sources": [source(index) for index in range(1, 225)]}
    window.bands.show_plan(plan, ["raster"])
    QApplication.processEvents()


def combos(window):
    return [c for c in window.table.findChildren(QComboBox) if c.isVisible()]


def click(window, row):
    place = window.table.visualItemRect(window.table.item(row, 2)).center()
    QTest.mouseClick(window.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QApplication.processEvents()
    return window.table.cellWidget(row, 2)


def test_how_far_off_is_shown(window):
    show(window, [match(i, -0.01 * i) for i in range(1, COUNT)] + [match(COUNT, 3.06)])
    assert window.table.item(44, 2).text() == "B045"
    assert window.table.item(44, 3).text() == "-0.5"
    assert "-0.5 nm" in window.table.item(44, 2).toolTip()
    assert window.summary.isVisible()
    assert window.summary.text() == "202 bands by wavelength, at most 3.1 nm off"


def test_names_need_no_wavelength(window):
    show(window, [match(i, 0.4, "exact") for i in range(1, COUNT + 1)])
    assert window.table.item(0, 2).text() == "B001"
    assert not window.summary.isVisible()


def test_few_bands_are_summed_up_too(window):
    show(window, [match(i, 1.8) for i in range(1, 5)])
    assert window.table.item(0, 3).text() == "+1.8"
    assert window.summary.text() == "4 bands by wavelength, at most 1.8 nm off"
    show(window, [match(1, -8.9), match(2, 0.4, "exact")])
    assert window.summary.isVisible()
    assert window.summary.text() == "1 band by wavelength, 8.9 nm off"


def test_how_far_off_can_be_read_in_a_narrow_panel(window):
    """The whole figure is within the table, whose names may be cut off."""
    window.resize(300, 900)
    rows = [{**match(i, -10.5), "source": {**source(i), "title": "x: " + "B" * 60}} for i in (1, 2)]
    show(window, rows)
    table = window.table
    cell = table.visualItemRect(table.item(0, 3))
    assert cell.right() < table.viewport().width() <= 300
    assert table.sizeHintForColumn(3) <= cell.width() + 1 < 80
    assert table.columnWidth(2) > 60
    show(window, [match(1, 0.0, "exact")])
    assert table.isColumnHidden(3)  # the room is for names then


def test_many_bands_scroll_in_the_table(window):
    show(window, [match(i, 0.0) for i in range(1, COUNT + 1)])
    assert window.table.height() < 900 and window.table.verticalScrollBar().maximum() > 0
    show(window, [match(i, 0.0) for i in range(1, 5)])
    assert window.table.verticalScrollBar().maximum() == 0


def test_a_combo_box_is_made_for_the_row_that_is_clicked(window):
    show(window, [match(i, 1.8) for i in range(1, COUNT + 1)])
    assert combos(window) == []
    combo = click(window, 4)
    assert combos(window) == [combo]
    assert combo.count() == 225 and combo.currentText() == "B005"
    assert combo.itemText(1) == "B005"  # what fits stands first
    assert combo.accessibleName().startswith("B005")
    index = combo.findText("B200")
    combo.setCurrentIndex(index)
    combo.activated.emit(index)
    QApplication.processEvents()
    assert window.changes == [[{"band": "B005", "input": 0, "index": 200}]]
    assert window.table.item(4, 2).text() == "B200" and window.table.item(4, 3).text() == ""
    assert combos(window) == []


def test_the_keyboard_opens_a_row_and_escape_leaves_it_as_it_was(window):
    show(window, [match(i, 1.8) for i in range(1, 5)])
    window.table.setFocus()
    window.table.setCurrentCell(1, 2)
    QTest.keyClick(window.table, Qt.Key.Key_F2)
    combo = window.table.cellWidget(1, 2)
    assert combo is not None
    QTest.keyClick(combo, Qt.Key.Key_Escape)
    QApplication.processEvents()
    assert window.changes == [] and window.table.item(1, 2).text() == "B002"


def test_a_new_plan_closes_what_is_out_of_date(window):
    show(window, [match(i, 1.8) for i in range(1, 5)])
    assert click(window, 0) is not None
    show(window, [match(i, 0.2) for i in range(1, 5)])
    assert combos(window) == [] and window.changes == []
    assert window.table.item(0, 2).text() == "B001" and window.table.item(0, 3).text() == "+0.2"
