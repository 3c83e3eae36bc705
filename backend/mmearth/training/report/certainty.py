"""The figure of how far certainty can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmearth.reports.charts import Axes, Series
from mmearth.training.metrics import Reliability


def draw_reliability(key: str, title: str, description: str, found: Reliability) -> str:
    """Return how often predictions of like confidence are right, as SVG.

    Bars at the foot show how many predictions there are.
    """
    axes = Axes(key, title, description, x=(0, 100), y=(0, 100), width=460, height=400)
    marks = list(range(0, 101, 20))
    axes.vertical("Right", marks, " %")
    axes.horizontal("Certainty that the map states", marks, " %")
    for left, share in zip(_edges(found.counts), found.counts / found.counts.max(), strict=True):
        x, right = axes.column(left) + 2, axes.column(left + 100 / found.counts.size) - 2
        top, foot = axes.row(18 * share), axes.row(0)
        axes.shape("rect", "count", x=x, y=top, width=right - x, height=foot - top)
    axes.shape(
        "line",
        "ideal",
        x1=axes.column(0),
        y1=axes.row(0),
        x2=axes.column(100),
        y2=axes.row(100),
    )
    points = zip(100 * found.confidence, 100 * found.accuracy, strict=True)
    axes.draw(Series("New model", "model", [(float(x), float(y)) for x, y in points]))
    return axes.svg()


def _edges(counts: NDArray[np.int64]) -> list[float]:
    return np.linspace(0, 100, counts.size, endpoint=False).tolist()
