"""What an evaluation leaves behind: tables, figures, and a page that holds both."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from mmearth.api import EvaluateSpec, EvaluationProtocol, EvaluationRow, Problem
from mmearth.evaluation.cells import Finished
from mmearth.reports import charts, environment, write_page

TABLE, FACTS, PAGE = "results.csv", "results.json", "report.html"
HEIGHT = 300  # pixels, of the figures of ``draw_lines``
MANY = 10_000  # parameters; from so many on they are told in thousands
STYLES = ("model", "forest", "third", "fourth")
TITLES: dict[EvaluationProtocol, str] = {
    "knn": "Nearest neighbours",
    "linear": "Linear probe",
    "frozen": "Frozen encoder",
    "adapter": "Adapter",
    "full": "Full fine-tuning",
}


FIGURE = re.compile(r"(convergence|labels)-[a-z]+\.svg|parameters\.svg")


def is_own(name: str) -> bool:
    """Tell whether a file is one of those that an evaluation writes."""
    return name in (TABLE, FACTS, PAGE) or bool(FIGURE.fullmatch(name))


@dataclass(frozen=True)
class Figure:
    """A figure of the page, and of a file of its own.

    Attributes:
        name: of the file, without its ending.
        title: what it shows.
        svg: the drawing.
    """

    name: str
    title: str
    svg: str


@dataclass(frozen=True)
class Report:
    """All that is written.

    Attributes:
        spec: the request.
        kind: of the labels, in words.
        score: name of the score that figures show.
        classes: names.
        finished: all cells.
        rows: of the table.
        warnings: about what was read.
    """

    spec: EvaluateSpec
    kind: str
    score: str
    classes: tuple[str, ...]
    finished: Sequence[Finished]
    rows: Sequence[EvaluationRow]
    warnings: Sequence[Problem]

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders, in order."""
        return list(dict.fromkeys(row.encoder for row in self.rows))


def write_report(folder: Path, report: Report) -> None:
    """Write all files into a folder that exists."""
    figures = draw(report)
    _write_table(folder / TABLE, report)
    facts = {
        "request": report.spec.model_dump(mode="json"),
        "score": report.score,
        "classes": list(report.classes),
        "rows": [row.model_dump(mode="json") for row in report.rows],
        "cells": [asdict(one) for one in report.finished],
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for figure in figures:
        alone = charts.side_by_side([figure.svg], charts.WIDTH, HEIGHT)
        (folder / f"{figure.name}.svg").write_text(alone, "utf-8")
    page = environment(Path(__file__).parent).get_template("page.html")
    write_page(
        folder / PAGE,
        page.render(
            report=report,
            made=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
            names=list(report.rows[0].scores),
            titles=TITLES,
            figures=figures,
        ),
    )


def draw(report: Report) -> list[Figure]:
    """Draw the score against steps, against the share of labels, and against parameters.

    A figure is left out where it would hold single points only.
    """
    figures = []
    for protocol in dict.fromkeys(row.protocol for row in report.rows):
        title = TITLES[protocol]
        for name, words, x, lines in (
            (f"convergence-{protocol}", f"{title}: convergence", "Steps",
             _convergence(report, protocol)),
            (f"labels-{protocol}", f"{title}: label efficiency", "Percent of the labels",
             _label_efficiency(report, protocol)),
        ):  # fmt: skip
            if any(len(line.points) > 1 for line in lines):
                figures.append(_figure(report, name, words, x, lines))
    many = max(row.trained for row in report.rows) >= MANY
    lines = _parameter_efficiency(report, 1000 if many else 1)
    if any(len(line.points) > 1 for line in lines):
        words, x = "Parameter efficiency", "Parameters trained" + ", in thousands" * many
        figures.append(_figure(report, "parameters", words, x, lines))
    return figures


def _figure(
    report: Report, name: str, title: str, x: str, lines: Sequence[charts.Series]
) -> Figure:
    words = "; ".join(
        f"{line.name}: " + ", ".join(f"{at:g}: {value:.1f} %" for at, value in line.points)
        for line in lines
    )
    drawing = charts.draw_lines(name, title, words, lines, x=x, y=report.score, unit=" %")
    return Figure(name, title, drawing)


def _series(report: Report, points: dict[str, list[tuple[float, float]]]) -> list[charts.Series]:
    return [
        charts.Series(encoder, STYLES[number % len(STYLES)], sorted(points[encoder]))
        for number, encoder in enumerate(report.encoders)
        if points.get(encoder)
    ]


def _convergence(report: Report, protocol: EvaluationProtocol) -> list[charts.Series]:
    """Return the mean score over the seeds at each step, of the largest share."""
    largest = max(row.share for row in report.rows)
    points: dict[str, list[tuple[float, float]]] = {}
    for encoder in report.encoders:
        runs = [
            one for one in report.finished
            if (one.cell.encoder, one.cell.protocol, one.cell.share)
            == (encoder, protocol, largest)
        ]  # fmt: skip
        for place, step in enumerate(runs[0].steps):
            mean = float(np.mean([run.scores[place][report.score] for run in runs]))
            points.setdefault(encoder, []).append((step, 100 * mean))
    return _series(report, points)


def _label_efficiency(report: Report, protocol: EvaluationProtocol) -> list[charts.Series]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        if row.protocol == protocol:
            value = 100 * row.scores[report.score]
            points.setdefault(row.encoder, []).append((100 * row.share, value))
    return _series(report, points)


def _parameter_efficiency(report: Report, unit: int) -> list[charts.Series]:
    largest = max(row.share for row in report.rows)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        if row.share == largest:
            value = 100 * row.scores[report.score]
            points.setdefault(row.encoder, []).append((row.trained / unit, value))
    return _series(report, points)


def _write_table(path: Path, report: Report) -> None:
    names = list(report.rows[0].scores)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["encoder", "protocol", "share", "images", "trained_parameters", "seeds"]
            + [f"{name}_{what}" for name in names for what in ("mean", "sd")]
        )
        for row in report.rows:
            figures = [
                f"{value:.6f}" for name in names for value in (row.scores[name], row.spreads[name])
            ]
            head = [row.encoder, row.protocol, f"{row.share:g}", row.images, row.trained]
            writer.writerow([*head, report.spec.seeds, *figures])
