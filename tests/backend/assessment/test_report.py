"""The page of an assessment says what was found, and needs nothing but itself."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from pages import Page, values

from mmearth.api import Problem, Stratum
from mmearth.assessment.classraster import MapClass
from mmearth.assessment.estimators import Sample, assess
from mmearth.assessment.evaluate import Evaluation
from mmearth.assessment.reference import Observed
from mmearth.assessment.report import Report, render
from mmearth.reports.charts import Measured, draw_intervals

COUNTS = np.array([[40, 3, 2], [1, 60, 5], [0, 2, 30]])


@pytest.fixture
def report():
    """Return a function that makes a report of three classes."""

    def make(unit="point", design=(), title="Beech & oak <old>", classes=3) -> Report:
        counts = COUNTS if classes == 3 else np.eye(classes, dtype=int) * 5 + 1
        mapped, reference = (
            np.repeat(place.ravel(), counts.ravel()) for place in np.indices(counts.shape)
        )
        sizes, clusters = np.ones(mapped.size), np.arange(mapped.size)
        areas = np.arange(1, classes + 1) * 100.0
        found = assess(Sample(mapped, mapped, reference, clusters, sizes, areas, classes))
        observed = Observed(
            mapped, reference, ("1",), clusters, mapped, np.ones(mapped.size, np.int64), sizes,
            unit, design,
        )  # fmt: skip
        rows = [
            MapClass(n, "", title if n == 1 else f"Class {n}", "") for n in range(1, classes + 1)
        ]
        warnings = (Problem(code="x", message="Something was odd.", advice="Look at it."),)
        evaluation = Evaluation(
            tuple(rows), counts, areas * 1.1, found, mapped.size, observed, warnings
        )
        return Report(
            "map.tif", "plots.gpkg", evaluation, datetime(2026, 3, 1, 12, 30), {"Map": "/x/map.tif"}
        )

    return make


def test_the_page_is_whole_and_needs_nothing_else(report) -> None:
    text = render(report())
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and page.tags.count("svg") == 3
    assert not {"script", "link", "iframe", "object", "image", "img", "use"} & set(page.tags)
    assert all(value.startswith("#") for value in values(page, "href"))
    anchors = {value for value in values(page, "id")}
    assert {value[1:] for value in values(page, "href")} <= anchors


def test_figures_and_warnings(report) -> None:
    made = report()
    page = Page(render(made))
    found = made.evaluation.assessed
    overall = 100 * found.overall.values[0]
    assert f"{overall:.1f}\N{NO-BREAK SPACE}%" in page.text
    for hectares, margin in zip(found.hectares.values, found.hectares.margins, strict=True):
        assert f"{hectares:,.1f} ± {margin:,.1f}" in page.words
    assert "Something was odd. Look at it." in page.words
    assert "Beech & oak <old>" in page.words  # as text, and no element
    assert "143 points" in page.words and "/x/map.tif" in page.words


def test_what_stands_behind_the_intervals(report) -> None:
    assert "counts as one observation" not in Page(render(report())).words
    assert "a feature counts as one observation" in Page(render(report("feature"))).words
    assert "blocks of 32 × 32 pixels" in Page(render(report("block"))).words
    strata = tuple(
        Stratum(value=n, title=f"Stratum {n}", pixels=9, hectares=n, weight=n / 6, points=n)
        for n in (1, 2, 3)
    )
    words = Page(render(report(design=strata))).words
    assert "stratified random sample" in words and "Stratum 3" in words


def test_many_classes_have_their_codes_above_the_columns(report) -> None:
    page = Page(render(report(classes=12)))
    assert page.tags.count("abbr") == 12


def test_figures_that_are_all_zero_have_a_readable_axis() -> None:
    """The map is wrong at every point."""
    row = Measured("Trees", "model", 0, 0, 0)
    svg = draw_intervals("users", "User's accuracy", "Trees 0 %", [row], x="Share")
    assert ">0 %<" in svg and ">5 %<" in svg and "e-" not in svg.replace("text-anchor", "")
