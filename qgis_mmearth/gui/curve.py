"""Curves of errors that fall while something is learned."""

import math
from typing import Dict, List, NamedTuple, Tuple

from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qgis.PyQt.QtWidgets import QSizePolicy, QWidget

from ..link.log import Row

# Okabe and Ito's colours, which the colour-blind can tell apart too; without black and yellow.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARGIN = 8  # pixels around the plot, beside its labels
SAMPLE, GAP = 26, 6  # pixels of a line in the legend, and beside it
SOLID, DASHED = Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine


class Curve(NamedTuple):
    """Errors of a quantity: pairs of step and error."""

    learned: List[Tuple[int, float]]
    """On images that are learned from."""
    held: List[Tuple[int, float]]
    """On images that are held back."""


class CurveWidget(QWidget):
    """Draws the error of each quantity over the steps, dashed on what is held back."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 140)
        self._curves: Dict[str, Curve] = {}
        self._steps = 1

    def show_rows(self, rows: List[Row], steps: int) -> None:
        """Show other curves.

        Args:
            rows: of the log.
            steps: that the whole training takes.
        """
        self._curves = {}
        for row in rows:
            for part, losses in (("learned", row.losses), ("held", row.held)):
                for name, loss in losses.items():
                    if math.isfinite(loss):
                        curve = self._curves.setdefault(name, Curve([], []))
                        getattr(curve, part).append((row.step, loss))
        self._steps = max(1, steps)
        self.setToolTip("\n".join(self.legend().values()))
        self.update()

    def last(self) -> List[Tuple[str, Curve]]:
        """Return name and points of each curve, the highest end first."""
        return sorted(self._curves.items(), key=lambda item: -_end(item[1]))

    def legend(self) -> Dict[str, str]:
        """Return a line for each quantity: its last errors, learned from and held back."""
        lines = {}
        for name, curve in self.last():
            shown = curve if self.holds() else (curve.learned,)
            ends = (f"{part[-1][1]:.3f}" if part else "–" for part in shown)
            lines[name] = f"{name} {' / '.join(ends)}"
        return lines

    def holds(self) -> bool:
        """Tell whether images are held back."""
        return any(curve.held for curve in self._curves.values())

    def paintEvent(self, _event) -> None:  # noqa: N802
        """Draw axes, curves and their names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        values = [value for curve in self._curves.values() for part in curve for _, value in part]
        ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0))
        height = painter.fontMetrics().height()
        left = MARGIN + max(self._width(painter, f"{tick:g}") for tick in ticks) + 4
        plot = QRectF(
            left, MARGIN, self.width() - left - MARGIN, self.height() - 2 * MARGIN - height
        )

        def place(step: float, value: float) -> QPointF:
            share = (value - ticks[0]) / (ticks[-1] - ticks[0])
            return QPointF(
                plot.left() + plot.width() * step / self._steps,
                plot.bottom() - plot.height() * share,
            )

        faint = QColor(text)
        faint.setAlpha(50)
        for tick in ticks:
            line = place(0, tick)
            painter.setPen(faint)
            painter.drawLine(line, QPointF(plot.right(), line.y()))
            painter.setPen(text)
            box = QRectF(0, line.y() - height, left - 6, 2 * height)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter,
                             f"{tick:g}")  # fmt: skip
        below = QRectF(plot.left(), plot.bottom() + 2, plot.width(), height + MARGIN)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, self.tr("steps"))
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{self._steps:,}")
        self._draw_curves(painter, place)
        self._draw_legend(painter, plot, text)

    def _draw_curves(self, painter: QPainter, place) -> None:
        for name, curve in self.last():
            color = self._color(name)
            for part, line in ((curve.learned, SOLID), (curve.held, DASHED)):
                points = [place(step, value) for step, value in part]
                painter.setPen(QPen(color, 2, line))
                if len(points) == 1:
                    painter.setBrush(color if line == SOLID else Qt.BrushStyle.NoBrush)
                    painter.setPen(QPen(color, 2))
                    painter.drawEllipse(points[0], 3, 3)
                painter.drawPolyline(QPolygonF(points))

    def _draw_legend(self, painter: QPainter, plot: QRectF, text: QColor) -> None:
        """Name the curves, and say what is dashed if anything is."""
        height = painter.fontMetrics().height()
        row = QRectF(plot.left(), plot.top(), plot.width() - 4, height)
        if self.holds():
            self._draw_key(painter, row, text)
            row.translate(0, height)
        for name, words in self.legend().items():
            self._clear(painter, row, self._width(painter, words))
            painter.setPen(self._color(name))
            painter.drawText(row, Qt.AlignmentFlag.AlignRight, words)
            row.translate(0, height)

    def _draw_key(self, painter: QPainter, row: QRectF, text: QColor) -> None:
        right, middle = row.right(), row.center().y()
        for words, line in ((self.tr("held back"), DASHED), (self.tr("learned from"), SOLID)):
            box = QRectF(row.left(), row.top(), right - row.left(), row.height())
            width = self._width(painter, words) + GAP + SAMPLE
            self._clear(painter, box, width + GAP)
            painter.setPen(text)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight, words)
            painter.setPen(QPen(text, 2, line))
            left = right - width
            painter.drawLine(QPointF(left, middle), QPointF(left + SAMPLE, middle))
            right = left - 2 * GAP

    def _clear(self, painter: QPainter, row: QRectF, width: float) -> None:
        """Wipe the right end of a row, so that no line strikes through its words."""
        ground = self.palette().color(QPalette.ColorRole.Window)
        ground.setAlpha(200)
        painter.fillRect(QRectF(row.right() - width, row.top(), width, row.height()), ground)

    def _color(self, name: str) -> QColor:
        return QColor(COLORS[list(self._curves).index(name) % len(COLORS)])

    @staticmethod
    def _width(painter: QPainter, text: str) -> int:
        return painter.fontMetrics().horizontalAdvance(text)


def _end(curve: Curve) -> float:
    return (curve.learned or curve.held)[-1][1]


def nice_ticks(low: float, high: float) -> List[float]:
    """Return round numbers around a range, the first below it and the last above."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
