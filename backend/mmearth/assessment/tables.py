"""Tables of an assessment, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmearth.assessment.evaluate import Evaluation
from mmearth.files import staged

FIGURES = ("users_accuracy", "producers_accuracy", "f1", "iou")


def write_matrix(path: Path, evaluation: Evaluation) -> None:
    """Write the confusion matrix, rows the map and columns the reference, and accuracies.

    Counts are reference pixels, shares are of the area; a margin is half of a 95 % interval. The
    last row holds the sums, and overall accuracy.

    Raises:
        OutputError: if it cannot be written.
    """
    found, matrix = evaluation.assessed, evaluation.matrix
    figures = (found.users, found.producers, found.f1, found.iou)
    header = ["map_class", "title", *(row.value for row in evaluation.classes), "sum"]
    for name in (*FIGURES, "overall_accuracy"):
        header += [name, f"{name}_margin"]
    rows: list[list[object]] = []
    for place, row in enumerate(evaluation.classes):
        shares = [share for one in figures for share in (one.values[place], one.margins[place])]
        counts = matrix[place].tolist()
        rows.append([row.value, row.title, *counts, sum(counts), *map(_share, shares), "", ""])
    overall = (found.overall.values[0], found.overall.margins[0])
    empty = [""] * (2 * len(FIGURES))
    sums = matrix.sum(axis=0).tolist()
    rows.append(["sum", "", *sums, sum(sums), *empty, *map(_share, overall)])
    _write(path, header, rows)


def write_areas(path: Path, evaluation: Evaluation) -> None:
    """Write what the map shows of each class, and how much there is, with a 95 % interval.

    Raises:
        OutputError: if it cannot be written.
    """
    found = evaluation.assessed.hectares
    total = found.values.sum()
    header = ["class", "title", "mapped_ha", "area_ha", "standard_error_ha", "margin_ha",
              "low_ha", "high_ha", "percent"]  # fmt: skip
    rows = []
    for place, row in enumerate(evaluation.classes):
        area, margin = found.values[place], found.margins[place]
        numbers = (
            evaluation.mapped_hectares[place], area, found.errors[place], margin,
            max(0.0, area - margin), area + margin,
        )  # fmt: skip
        percent = f"{100 * area / total:.2f}"
        rows.append([row.value, row.title, *(f"{number:.4f}" for number in numbers), percent])
    _write(path, header, rows)


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def _write(path: Path, header: list[object] | list[str], rows: Iterable[list[object]]) -> None:
    with staged(path) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(header)
            table.writerows(rows)
