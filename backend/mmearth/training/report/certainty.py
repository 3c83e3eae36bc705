"""The figure of how far certainty can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmearth.reports.charts import Axes, Series
from mmearth.training.metrics import Reliability

DIAGRAM = 460, 400  # width and height in pixels


def draw_reliability(
    key: str,
    title: str,
    description: str,
    found: Reliability,
    *,
    name: str = "New model",
    before: Reliability | None = None,
    x: str = "Certainty that the map states",
    y: str = "Right",
) -> str:
    """Return how often predictions of like confidence are right, as SVG.

    Bars at the foot show how many predictions there are.

    Args:
        key: identifies the figure on the page.
        title: short, for who does not see it.
        description: what it shows, likewise.
        found: what is shown.
        name: of what is shown.
        before: of the same predictions before they were calibrated, to be shown beside it.
        x: label of the horizontal axis.
        y: label of the vertical axis.
    """
    width, height = DIAGRAM
    axes = Axes(key, title, description, x=(0, 100), y=(0, 100), width=width, height=height)
    marks = list(range(0, 101, 20))
    axes.vertical(y, marks, " %")
    axes.horizontal(x, marks, " %")
    for edge, share in zip(_edges(found.counts), found.counts / found.counts.max(), strict=True):
        left, right = axes.column(edge) + 2, axes.column(edge + 100 / found.counts.size) - 2
        top, foot = axes.row(18 * share), axes.row(0)
        axes.shape("rect", "count", x=left, y=top, width=right - left, height=foot - top)
    axes.shape(
        "line",
        "ideal",
        x1=axes.column(0),
        y1=axes.row(0),
        x2=axes.column(100),
        y2=axes.row(100),
    )
    lines = [_series(name, "model", found)]
    if before:
        lines.append(_series("before", "forest", before))
        axes.legend([(line.style, line.name) for line in lines])
    for line in reversed(lines):  # the first in front
        axes.draw(line)
    return axes.svg()


def points_in_words(found: Reliability) -> str:
    """Return the points of the figure, for who does not see it."""
    return "; ".join(
        f"stated {100 * stated:.0f} %, right {100 * right:.0f} %"
        for stated, right in zip(found.confidence, found.accuracy, strict=True)
        if np.isfinite(right)
    )


def _series(name: str, style: str, found: Reliability) -> Series:
    points = zip(100 * found.confidence, 100 * found.accuracy, strict=True)
    return Series(name, style, [(float(x), float(y)) for x, y in points])


def _edges(counts: NDArray[np.int64]) -> list[float]:
    return np.linspace(0, 100, counts.size, endpoint=False).tolist()
