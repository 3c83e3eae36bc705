"""Rows of a list in two lines: what it is, and in smaller and paler letters what it is like."""

from qgis.PyQt.QtCore import QModelIndex, QRect, QSize, Qt
from qgis.PyQt.QtGui import QFont, QFontMetrics, QPainter, QPalette
from qgis.PyQt.QtWidgets import QApplication, QStyle, QStyledItemDelegate, QStyleOptionViewItem

MARGIN = 3
SMALLER = 0.9
PALER = 0.8  # still a contrast of 4.5:1 in the dark theme Night Mapping


class TwoLineDelegate(QStyledItemDelegate):
    """Paints rows whose text has two lines; others it leaves to Qt."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Paint a row."""
        title, _, more = (index.data() or "").partition("\n")
        if not more:
            super().paint(painter, option, index)
            return
        option = QStyleOptionViewItem(option)
        self.initStyleOption(option, index)
        option.text = ""
        style = option.widget.style() if option.widget else QApplication.style()
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, option, painter, option.widget)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        role = QPalette.ColorRole.HighlightedText if selected else QPalette.ColorRole.Text
        color = option.palette.color(role)
        rect = option.rect.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        height = QFontMetrics(option.font).height()
        painter.save()
        painter.setPen(color)
        _draw(painter, option.font, QRect(rect.topLeft(), QSize(rect.width(), height)), title)
        if not selected:
            color.setAlphaF(PALER)
        painter.setPen(color)
        _draw(painter, _small(option.font), rect.adjusted(0, height, 0, 0), more)
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        """Return the room that a row takes."""
        size = super().sizeHint(option, index)
        if "\n" in (index.data() or ""):
            font = QStyleOptionViewItem(option).font
            lines = QFontMetrics(font).height() + QFontMetrics(_small(font)).height()
            size.setHeight(lines + 2 * MARGIN)
        return size


def _small(font: QFont) -> QFont:
    small = QFont(font)
    if font.pointSizeF() > 0:  # else its size is stated in pixels
        small.setPointSizeF(font.pointSizeF() * SMALLER)
    return small


def _draw(painter: QPainter, font: QFont, rect: QRect, text: str) -> None:
    elided = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, rect.width())
    painter.setFont(font)
    painter.drawText(rect, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, elided)
