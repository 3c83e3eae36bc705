"""The report of an assessment: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmearth import __version__
from mmearth.api import AssessSpec
from mmearth.assessment.estimators import Estimates
from mmearth.assessment.evaluate import Evaluation
from mmearth.reports import charts, environment, write_page

HALF = 450  # pixels: width of figures side by side


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Attributes:
        map: name of the map.
        reference: name of what it was compared with.
        evaluation: figures.
        made: when.
        provenance: further rows that one needs to repeat it.
    """

    map: str
    reference: str
    evaluation: Evaluation
    made: datetime
    provenance: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: AssessSpec, evaluation: Evaluation) -> Report:
        """Return the report of a request."""
        provenance = {"Map": spec.map, "Reference": spec.reference, "MMEarth": __version__}
        if spec.layer:
            provenance["Layer"] = spec.layer
        if spec.field:
            provenance["Field"] = spec.field
        names = Path(spec.map).name, Path(spec.reference).name
        return cls(*names, evaluation, datetime.now(timezone.utc), provenance)


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all; an older one is replaced.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """
    write_page(path, render(report))


def render(report: Report) -> str:
    """Return the page as HTML."""
    evaluation = report.evaluation
    found = evaluation.assessed
    titles = [row.title for row in evaluation.classes]
    total = found.hectares.values.sum()
    rows = [
        {
            "value": row.value,
            "title": row.title,
            "color": row.color or "transparent",
            "mapped": mapped,
            "present": present,
            "mapped_hectares": shown,
            "hectares": _pair(found.hectares, place),
            "figures": [
                _pair(one, place) for one in (found.users, found.producers, found.f1, found.iou)
            ],
        }
        for place, (row, mapped, present, shown) in enumerate(
            zip(
                evaluation.classes,
                evaluation.matrix.sum(axis=1).tolist(),
                evaluation.matrix.sum(axis=0).tolist(),
                evaluation.mapped_hectares.tolist(),
                strict=True,
            )
        )
    ]
    page = environment(Path(__file__).parent).get_template("page.html")
    return page.render(
        report=report,
        made=report.made.strftime("%d %B %Y, %H:%M UTC"),
        unit=evaluation.observed.unit,
        clusters=evaluation.clusters,
        pixels=int(evaluation.matrix.sum()),
        design=evaluation.observed.design,
        warnings=evaluation.warnings,
        overall=_pair(found.overall, 0),
        rows=rows,
        total=total,
        matrix=_matrix(evaluation.matrix, found.proportions),
        area_figure=_figure(
            "areas", "Share of the area", titles,
            Estimates(found.hectares.values / total, found.hectares.errors / total),
        ),
        users_figure=_figure(
            "users", "User’s accuracy", titles, found.users, HALF
        ),
        producers_figure=_figure(
            "producers", "Producer’s accuracy", titles, found.producers, HALF
        ),
    )  # fmt: skip


def _pair(found: Estimates, place: int) -> dict[str, float]:
    """Return a figure and half the width of its interval."""
    return {"value": float(found.values[place]), "margin": float(found.margins[place])}


def _matrix(counts: NDArray[np.int64], proportions: NDArray[np.float64]) -> dict[str, Any]:
    mapped = counts.sum(axis=1, keepdims=True)
    return {
        "counts": counts.tolist(),
        "shares": (counts / np.maximum(mapped, 1)).tolist(),
        "proportions": proportions.tolist(),
        "present": counts.sum(axis=0).tolist(),
        "shown": proportions.sum(axis=0).tolist(),
    }


def _figure(
    key: str, name: str, titles: Sequence[str], found: Estimates, width: float = charts.WIDTH
) -> str | None:
    """Draw figures with their intervals, of classes of which they can be told."""
    rows = []
    for title, value, margin in zip(titles, found.values, found.margins, strict=True):
        if np.isfinite(margin):
            low, high = max(0.0, value - margin), min(1.0, value + margin)
            rows.append(charts.Measured(title, "model", 100 * value, 100 * low, 100 * high))
    if not rows:
        return None
    words = "; ".join(
        f"{row.name} {row.value:.1f} %, interval {row.low:.1f} to {row.high:.1f} %" for row in rows
    )
    return charts.draw_intervals(
        key, f"{name} with its 95 % interval", words, rows, x=name, width=width
    )
