"""The report is one page that says what was measured, in words and figures that are right."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from pages import Page, values

from mmearth.api import Problem
from mmearth.errors import DiskFullError, OutputError
from mmearth.models.card import NetworkConfig
from mmearth.reports.charts import ticks
from mmearth.training import task  # pytest would take a class named Tested for its own
from mmearth.training.labels import Labels
from mmearth.training.pictures import View
from mmearth.training.report import Report, render, write_report
from mmearth.training.task import CurvePoint, Epoch, Trained

UNIT_PIXELS = 20


def labels(per_class: int = 10) -> Labels:
    """Two classes of so many units, of 20 pixels each."""
    units = np.repeat(np.arange(2 * per_class), UNIT_PIXELS)
    pixel = np.arange(units.size)
    return Labels(("1", "2"), pixel // 100, pixel % 100, units // per_class, units)


def judged(drawn: Labels, wrong_units: int, confidence: float = 0.8) -> task.Tested:
    """All labels, the first units of class 0 taken for class 1."""
    mapped = np.where(drawn.units < wrong_units, 1, drawn.classes)
    probabilities = np.full((mapped.size, 2), 1 - confidence, np.float32)
    probabilities[np.arange(mapped.size), mapped] = confidence
    return task.Tested(drawn.classes, probabilities, drawn.units)


NETWORK = NetworkConfig(decoder="hypercolumn", encoder="resnet-18", multiply_adds_per_pixel=1e4)


@pytest.fixture
def report() -> Report:
    drawn = labels()
    return Report(
        title="Woods",
        base="Land cover",
        protocol="full",
        labels=drawn,
        titles=("Beech", "Spruce"),
        colors=("#112233", "#445566"),
        trained=Trained(
            NETWORK,
            {},
            judged(drawn, 2),
            judged(drawn, 8),
            (CurvePoint(5, 0.7, 0.6), CurvePoint(10, 0.8, 0.65), CurvePoint(20, 0.9, 0.7)),
            (Epoch(1, 1.5, 1.6, 0.4), Epoch(2, 0.9, 1.1, 0.7)),
            1.25,
            (Problem(code="x", message="Something was odd.", advice="Look at it."),),
            {"learning_rate": 0.00125, "folds": 4},
        ),
        validation=0.25,
        made=datetime(2026, 3, 1, 12, 30),
        seconds=83,
        provenance={"Labels": "plots.gpkg", "Seed": "7"},
    )


def test_the_page_is_whole_and_needs_nothing_else(report) -> None:
    seen = View(np.zeros((10, 100, 3), np.uint8), np.ones((10, 100), bool), 1, "natural colours")
    classes = np.ones((10, 100), np.uint8)
    text = render(replace(report, view=seen, classes=classes))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and ("lang", "en") in page.attributes
    assert page.tags.count("img") == 2 and page.tags.count("svg") == 5
    assert not {"script", "link", "iframe", "object", "image", "use"} & set(page.tags)
    assert all(value.startswith("data:image/png;base64,") for value in values(page, "src"))
    assert all(value.startswith("#") for value in values(page, "href"))
    assert "url(" not in text and "@import" not in text
    targets = [value.removeprefix("#") for value in values(page, "href")]
    ids = values(page, "id")
    assert len(set(ids)) == len(ids)
    named = " ".join(values(page, "aria-labelledby")).split()
    assert targets and set(targets) <= set(ids) and set(named) <= set(ids)


def test_the_headline_can_be_checked_by_hand(report) -> None:
    """2 of 20 units are wrong, of the random forest 8."""
    words = Page(render(report)).words
    assert "New model 90.0 % 95 % interval" in words
    assert "Random forest on the raw bands 60.0 % 95 % interval" in words
    assert "Difference +30.0 points" in words
    assert "better than the random forest, by 30.0 points" in words
    assert "400 pixels of 20 polygons" in words
    assert "rest on few labels" not in words
    assert "Something was odd. Look at it." in words
    assert "20 of 20 polygons were tested, about 25 % at a time" in words


@pytest.mark.parametrize(
    ("model", "forest", "verdict"),
    [
        (8, 2, "worse than the random forest, by 30.0 points"),
        (3, 3, "level with the random forest"),
        (3, 2, "level with the random forest"),  # one unit may be chance
    ],
)
def test_the_verdict(report, model, forest, verdict) -> None:
    drawn = report.labels
    trained = replace(report.trained, tested=judged(drawn, model), baseline=judged(drawn, forest))
    assert verdict in Page(render(replace(report, trained=trained))).words


def test_the_tables_can_be_checked_by_hand(report) -> None:
    """40 of 200 pixels of Beech are mapped as Spruce."""
    words = Page(render(report)).words
    # units, pixels, tested, user's, producer's, IoU, F1 of the forest, F1
    assert "Beech 10 200 10 100 % 80 % 80 % 33 % 89 %" in words
    assert "Spruce 10 200 10 83 % 100 % 83 % 71 % 91 %" in words
    assert "Beech 160 80 % 40 20 % 200 Spruce 0 200 100 % 200 All 160 240 400" in words
    assert "Beech mapped as Spruce: 40 pixels, 20 % of what is Beech." in words


def test_certainty_in_words(report) -> None:
    """90 % are right."""
    for confidence, verdict, error in (
        (0.8, "better than it says", "10.0"),
        (0.92, "can be taken at its word", "2.0"),
        (0.99, "too sure of itself", "9.0"),
    ):
        trained = replace(report.trained, tested=judged(report.labels, 2, confidence))
        words = Page(render(replace(report, trained=trained))).words
        assert verdict in words and f"is {error} points." in words


@pytest.mark.parametrize(
    ("last", "advice"),
    [(0.9, "rose by 10.0 points"), (0.805, "hardly changed (+0.5 points)"), (0.7, "contradict")],
)
def test_what_more_labels_would_bring(report, last, advice) -> None:
    curve = (CurvePoint(20, last, 0.7), CurvePoint(10, 0.8, 0.65))  # in any order
    report = replace(report, trained=replace(report.trained, curve=curve))
    words = Page(render(replace(report, protocol="quick"))).words
    assert "From 10 to 20 polygons the accuracy of the new model" in words and advice in words
    words = Page(render(replace(report, protocol="full"))).words
    assert "the accuracy of the model before tuning" in words and advice in words
    assert "training began with it" in words


def test_few_labels_are_a_warning(report) -> None:
    drawn = labels(per_class=4)
    trained = replace(report.trained, tested=judged(drawn, 1), baseline=None)
    words = Page(render(replace(report, labels=drawn, trained=trained))).words
    assert "rest on few labels. Fewer than 5 tested polygons: Beech (4), Spruce (4)." in words


def test_nothing_tested_is_said_and_nothing_empty_is_shown(report) -> None:
    page = Page(render(replace(report, trained=Trained(NETWORK, {}), validation=0)))
    assert "Nothing was tested." in page.words and "Beech 10 200" in page.words
    assert not {"svg", "img"} & set(page.tags)
    assert "forest" not in page.words and "NaN" not in page.words and "None" not in page.words


def test_what_cannot_be_told_is_a_dash(report) -> None:
    """A third class was drawn on one unit, which was not tested."""
    drawn = report.labels
    more = Labels(
        ("1", "2", "3"),
        np.append(drawn.rows, 0),
        np.append(drawn.cols, 0),
        np.append(drawn.classes, 2),
        np.append(drawn.units, 20),
    )
    old = judged(drawn, 2)
    third = np.pad(old.probabilities, ((0, 0), (0, 1)))
    page = Page(
        render(
            replace(
                report,
                labels=more,
                titles=("Beech", "Spruce", "Oak"),
                colors=("#112233", "#445566", "#778899"),
                trained=Trained(NETWORK, {}, task.Tested(old.truth, third, old.units)),
            )
        )
    )
    assert "Oak 1 1 0 – – – –" in page.words and "nan" not in page.words.lower()
    assert "Oak (0)" in page.words and "20 of 21 polygons" in page.words
    assert "forest" not in page.words


def test_titles_and_file_names_are_text_whatever_they_hold(report) -> None:
    bad = '<script>alert("1")</script>'
    page = Page(
        render(
            replace(
                report,
                title=bad,
                base=bad,
                unit="block",
                titles=(bad, "\"' onload='x' &amp;"),
                provenance={bad: f"{bad}.gpkg"},
                trained=replace(
                    report.trained,
                    warnings=(Problem(code="x", message=bad, advice=bad),),
                    facts={bad: [bad]},
                ),
            )
        )
    )
    assert "script" not in page.tags and "onload" not in dict(page.attributes)
    assert page.words.count(bad) >= 8 and "&amp;" in page.words
    assert "polygon" not in page.words


def test_all_that_repeats_it_is_in_the_last_table(report) -> None:
    words = Page(render(replace(report, from_scratch=True))).words
    for fact in (
        "Base Land cover",
        "Way of training Full (full), from scratch",
        "Made 01 March 2026, 12:30",
        "Took 1 min 23 s",
        "Labels plots.gpkg",
        "Seed 7",
        "Network hypercolumn on resnet-18",
        "Certainty corrected by temperature 1.25",
        "Epochs 2",
        "Learning rate 0.00125",
        "Folds 4",
    ):
        assert fact in words


def test_training_that_ended_badly_is_drawn_as_far_as_it_went(report) -> None:
    history = (Epoch(1, 1.5), Epoch(2, float("nan")), Epoch(3, float("inf")))
    page = Page(render(replace(report, trained=replace(report.trained, history=history))))
    assert "How did the training go?" in page.words and "Held back" not in page.words
    assert not any("nan" in value or "inf" in value for value in values(page, "points", "cx", "cy"))


def test_fifty_classes(report) -> None:
    titles = tuple(f"Class {number}" for number in range(50))
    truth = np.repeat(np.arange(50), 4)
    probabilities = np.eye(50, dtype=np.float32)[truth]
    drawn = Labels(titles, truth, truth, truth, np.arange(truth.size))
    trained = Trained(NETWORK, {}, task.Tested(truth, probabilities, drawn.units))
    changed = replace(
        report, labels=drawn, titles=titles, colors=("#123456",) * 50, trained=trained
    )
    page = Page(render(changed))
    assert page.tags.count("abbr") == 50 and "None: every tested pixel" in page.words


def test_a_written_page_is_what_was_rendered_even_with_names_that_are_no_text(
    report, tmp_path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, report)
    assert path.read_text("utf-8") == render(report)
    write_report(path, replace(report, provenance={"Labels": "\udcff.gpkg"}))
    assert "?.gpkg" in path.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_page(report, small_disk) -> None:
    path = small_disk / "report.html"
    path.write_text("old")
    (small_disk / "ballast").write_bytes(bytes(1000 * 1024))
    with pytest.raises(DiskFullError, match=r"report\.html could not be written"):
        write_report(path, report)
    assert path.read_text() == "old"
    assert {file.name for file in small_disk.iterdir()} == {"report.html", "ballast"}


def test_a_folder_that_is_not_there(report, tmp_path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        write_report(tmp_path / "nowhere" / "report.html", report)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (55, 81.5, [50, 60, 70, 80, 90]),
        (0, 48, [0, 10, 20, 30, 40, 50]),
        (0, 2, [0, 0.5, 1, 1.5, 2]),
        (0.21, 1.55, [0, 0.5, 1, 1.5, 2]),
        (100, 100, [95, 96, 97, 98, 99, 100]),
    ],
)
def test_axes_have_round_numbers(low, high, expected) -> None:
    assert ticks(low, high) == pytest.approx(expected)
