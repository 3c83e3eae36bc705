"""Figures of reports, as SVG.

Colours come from the page's style sheet, by the names of the series, so that figures suit light,
dark and printed pages. Series also differ in marker and dash, for those who see no colours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405 - only written here, never read

import numpy as np

WIDTH = 700
LETTER = 7.6  # pixels: width of a letter, on average
MOST_TICKS = 6
LEAST_PERCENT = 5  # of an axis of percent: figures that are all 0 have a readable one too
MOST_MARKERS = 12  # of a line; more would hide it
MARGIN = 12  # around figures in a file of their own
STYLES = Path(__file__).with_name("figures.css")


@dataclass(frozen=True)
class Series:
    """A line of a figure.

    Attributes:
        name: in the legend.
        style: name in the page's style sheet; ``model`` has circles, all others squares.
        points: x and y of each; those that are not finite are left out.
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [point for point in self.points if all(map(math.isfinite, point))]


@dataclass(frozen=True)
class Measured:
    """A figure with its interval.

    Attributes:
        name: what was measured.
        style: as in ``Series``.
        value: the figure.
        low: lower end of its interval.
        high: upper end.
    """

    name: str
    style: str
    value: float
    low: float
    high: float


class Axes:
    """A figure under construction: two axes, and what is drawn in numbers of these."""

    def __init__(
        self,
        key: str,
        title: str,
        description: str,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        height: float = 300,
        width: float = WIDTH,
        left: float = 56,
        top: float = 34,
    ) -> None:
        """Begin a figure.

        Args:
            key: identifies the figure on the page.
            title: short, for who does not see it.
            description: what it shows, likewise.
            x: first and last number of the axis.
            y: likewise.
            height: in pixels, as all sizes.
            width: likewise.
            left: room for the numbers of the vertical axis.
            top: room for the legend.
        """
        self._x, self._y = x, y
        self._left, self._right = left, width - 18
        self._top, self._bottom = top, height - 44
        self._svg = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {width:g} {height:g}",
                "style": f"max-width:{width:g}px",
                "role": "img",
                "aria-labelledby": f"{key}-title {key}-words",
            },
        )
        ElementTree.SubElement(self._svg, "title", id=f"{key}-title").text = title
        ElementTree.SubElement(self._svg, "desc", id=f"{key}-words").text = description

    def column(self, x: float) -> float:
        """Return where a number lies along the horizontal axis, in pixels."""
        low, high = self._x
        return self._left + (x - low) / (high - low) * (self._right - self._left)

    def row(self, y: float) -> float:
        """Return where a number lies along the vertical axis, in pixels."""
        low, high = self._y
        return self._bottom - (y - low) / (high - low) * (self._bottom - self._top)

    def shape(self, tag: str, style: str, **places: float | str) -> ElementTree.Element:
        """Add a shape; ``places`` are its attributes, in pixels."""
        attributes = {
            name.replace("_", "-"): place if isinstance(place, str) else f"{place:.1f}"
            for name, place in places.items()
        }
        return ElementTree.SubElement(self._svg, tag, {"class": style, **attributes})

    def text(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        """Write at a place in pixels."""
        self.shape("text", "words", x=x, y=y, text_anchor=anchor).text = words

    def horizontal(self, label: str, numbers: Sequence[float], unit: str = "") -> None:
        """Draw the horizontal axis."""
        self.shape("line", "axis", x1=self._left, y1=self._bottom, x2=self._right, y2=self._bottom)
        for number in numbers:
            x = self.column(number)
            self.shape("line", "axis", x1=x, y1=self._bottom, x2=x, y2=self._bottom + 5)
            self.text(x, self._bottom + 18, f"{number:,g}{unit}", "middle")
        self.text((self._left + self._right) / 2, self._bottom + 38, label, "middle")

    def vertical(self, label: str, numbers: Sequence[float], unit: str = "") -> None:
        """Draw the vertical axis, its label above it, and lines across."""
        for number in numbers:
            y = self.row(number)
            self.shape("line", "grid", x1=self._left, y1=y, x2=self._right, y2=y)
            self.text(self._left - 8, y + 4, f"{number:,g}{unit}", "end")
        self.text(0, self._top - 18, label)

    def draw(self, series: Series) -> None:
        """Draw a line with a marker at each point."""
        places = [(self.column(x), self.row(y)) for x, y in series.finite]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self.shape("polyline", f"line {series.style}", points=line)
        every = max(1, math.ceil(len(places) / MOST_MARKERS))
        for (x, y), (own_x, own_y) in list(zip(places, series.finite, strict=True))[::-every]:
            mark = self.marker(x, y, series.style)
            ElementTree.SubElement(mark, "title").text = f"{series.name}: {own_x:g}, {own_y:.3g}"

    def marker(self, x: float, y: float, style: str, size: float = 4.5) -> ElementTree.Element:
        """Draw a marker at a place in pixels."""
        if style == "model":
            return self.shape("circle", f"mark {style}", cx=x, cy=y, r=size)
        side = 1.8 * size
        corner = {"x": x - side / 2, "y": y - side / 2}
        return self.shape("rect", f"mark {style}", **corner, width=side, height=side)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Name series by (style, name), at the upper right."""
        x = self._right - sum(46 + LETTER * len(name) for _, name in entries)
        y = self._top - 22
        for style, name in entries:
            self.shape("line", f"line {style}", x1=x, y1=y, x2=x + 26, y2=y)
            self.marker(x + 13, y, style)
            self.text(x + 32, y + 4, name)
            x += 46 + LETTER * len(name)

    def svg(self) -> str:
        """Return the figure as it stands in the page."""
        return ElementTree.tostring(self._svg, "unicode")


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return round numbers from the first at or below ``low`` to the first at or above ``high``."""
    span = max(high - low, 0.05 * abs(high), 1e-6)  # numbers that are all alike have a range too
    low = high - span
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if math.ceil(span / (s * power)) < most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def draw_lines(
    key: str,
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    unit: str,
    width: float = WIDTH,
) -> str:
    """Return lines over a common axis that counts something from 0, as SVG.

    Args:
        key: identifies the figure on the page.
        title: short, for who does not see it.
        description: what it shows, likewise.
        series: at least one with a finite point.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        unit: of the vertical axis, written behind each number.
        width: in pixels.
    """
    points = np.array([point for line in series for point in line.finite])
    across = [tick for tick in ticks(0, max(1.0, points[:, 0].max())) if tick == int(tick)]
    up = ticks(points[:, 1].min(), points[:, 1].max())
    axes = Axes(key, title, description, x=(0, across[-1]), y=(up[0], up[-1]), width=width)
    axes.vertical(y, up, unit)
    axes.horizontal(x, across)
    for line in reversed(series):  # the first in front
        axes.draw(line)
    axes.legend([(line.style, line.name) for line in series])
    return axes.svg()


def draw_intervals(
    key: str,
    title: str,
    description: str,
    rows: Sequence[Measured],
    *,
    x: str,
    width: float = WIDTH,
) -> str:
    """Return figures in percent with their intervals, one below the other, as SVG.

    Args:
        key: identifies the figure on the page.
        title: short, for who does not see it.
        description: what it shows, likewise.
        rows: from top to bottom.
        x: label of the horizontal axis.
        width: in pixels.
    """
    highest = max(LEAST_PERCENT, *(row.high for row in rows))
    numbers = ticks(min(row.low for row in rows), highest)
    numbers = [number for number in numbers if number <= 100]
    left = 30 + LETTER * max(len(row.name) for row in rows)
    axes = Axes(
        key,
        title,
        description,
        x=(numbers[0], numbers[-1]),
        y=(len(rows), 0),
        height=54 + 38 * len(rows),
        width=width,
        left=left,
        top=6,
    )
    axes.horizontal(x, numbers, " %")
    for place, row in enumerate(rows):
        y = axes.row(place + 0.5)
        low, high = axes.column(row.low), axes.column(row.high)
        axes.text(left - 14, y + 4, row.name, "end")
        axes.shape("line", f"line {row.style}", x1=low, y1=y, x2=high, y2=y)
        for end in (low, high):
            axes.shape("line", f"line solid {row.style}", x1=end, y1=y - 6, x2=end, y2=y + 6)
        axes.marker(axes.column(row.value), y, row.style, 6)
    return axes.svg()


def side_by_side(figures: Sequence[str], width: float, height: float) -> str:
    """Return figures as a file of their own, in the colours of a light page.

    Args:
        figures: SVG as other functions return it.
        width: of each, in pixels.
        height: likewise.
    """
    styles = STYLES.read_text("utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w+);", styles[: styles.index("@media")]))
    marks = styles[styles.index(".words") :]
    # Programs that show images know of classes, but not of variables.
    plain = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], marks)
    # Groups, because programs that show images know no picture within a picture either.
    placed = [
        f'<g role="img" transform="translate({MARGIN + number * (width + MARGIN):g} {MARGIN})">'
        f"{figure[figure.index('>') + 1 :].removesuffix('</svg>')}</g>"
        for number, figure in enumerate(figures)
    ]
    whole = MARGIN + len(figures) * (width + MARGIN)
    height += 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {height:g}" '
            f'width="{whole:g}" height="{height:g}" font-family="sans-serif" font-size="13">',
            f"<style>\n{plain.strip()}\n</style>",
            f'<rect width="100%" height="100%" fill="{colours["paper"]}"/>',
            *placed,
            "</svg>\n",
        ]
    )
