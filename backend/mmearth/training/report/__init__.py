"""The report of a training: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmearth.api.finetune import Protocol
from mmearth.reports import charts, environment, write_page
from mmearth.training import pictures
from mmearth.training.labels import Labels
from mmearth.training.report import certainty, findings
from mmearth.training.task import Tested, Trained

PROTOCOLS: dict[Protocol, tuple[str, str]] = {
    "quick": (
        "Quick",
        "The base model was left as it is. A small new part was trained that tells the classes "
        "apart by what the base model sees in each pixel and its surroundings.",
    ),
    "adapter": (
        "Adapter",
        "Small additions to the base model's encoder, which looks at the image, were trained "
        "together with all that comes after it; the encoder itself was left as it is.",
    ),
    "full": (
        "Full",
        "All parts of the base model were trained further, those nearest to the pixels most "
        "gently, together with the last part, which tells the classes apart.",
    ),
}
SCRATCH = "Only the architecture of the base was used; what it had learned before was not."
FOREST = "Random forest"
MODEL = "New model"
BEGINNING = "Model before tuning"  # of Adapter and Full


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Attributes:
        title: of the tuned model.
        base: title of the model that was built on.
        protocol: how it was trained.
        labels: all that were drawn, on the scene's grid.
        titles: of the classes, in order.
        colors: #rrggbb of each class.
        trained: what came of it.
        validation: share of the units that was asked to be tested on.
        made: when.
        seconds: how long it took.
        provenance: further rows that one needs to repeat it, for example the labels' file and
            hash, the field, the base's identifier and hash, the seed, versions and inputs.
        from_scratch: whether the base's weights were not used.
        unit: what was drawn, in the singular; ``block`` for a label raster.
        view: the scene, if it is to be shown.
        classes: (H, W) uint8, the new model's map of the scene, of any pixel size: class numbers
            from 1, 0 = no data; shown only beside the scene.
    """

    title: str
    base: str
    protocol: Protocol
    labels: Labels
    titles: tuple[str, ...]
    colors: tuple[str, ...]
    trained: Trained
    validation: float
    made: datetime
    seconds: float
    provenance: Mapping[str, str] = field(default_factory=dict)
    from_scratch: bool = False
    unit: str = "polygon"
    view: pictures.View | None = None
    classes: NDArray[np.uint8] | None = None


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all; an older one is replaced.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """
    write_page(path, render(report))


def render(report: Report) -> str:
    """Return the page as HTML."""
    trained, labels = report.trained, report.labels
    rows = findings.class_figures(
        report.titles,
        report.colors,
        labels.units_per_class,
        labels.pixels_per_class,
        trained.tested,
        trained.baseline,
    )
    name, words = PROTOCOLS[report.protocol]
    problems = {problem.message: problem for problem in (*labels.warnings, *trained.warnings)}
    return (
        environment(Path(__file__).parent)
        .get_template("page.html")
        .render(
            report=report,
            protocol=name,
            protocol_words=f"{words} {SCRATCH}" if report.from_scratch else words,
            rows=rows,
            warnings=list(problems.values()),
            made=report.made.strftime("%d %B %Y, %H:%M"),
            duration=_duration(report.seconds),
            tested=_tested(report, rows) if trained.tested is not None else None,
            curve=_curve(report) if len(trained.curve) > 1 else None,
            history=_history(report) if trained.history else None,
            pictures=_pictures(report),
            split=_split_words(report),
            facts={**report.provenance, **_facts(trained)},
        )
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} seconds"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _tested(report: Report, rows: list[findings.ClassFigures]) -> dict[str, Any]:
    """Return what the sections on tested labels show."""
    tested, baseline = report.trained.tested, report.trained.baseline
    if tested is None:
        return {}
    head = findings.headline(tested, baseline, report.unit)
    measured = [
        charts.Measured(name, style, 100 * score.value, 100 * score.low, 100 * score.high)
        for name, style, score in ((MODEL, "model", head.model), (FOREST, "forest", head.forest))
        if score is not None
    ]
    found, error, words = findings.certainty(tested)
    return {
        "head": head,
        "few": findings.too_few(rows, report.unit),
        "intervals": charts.draw_intervals(
            "accuracy",
            "Overall accuracy with its 95 % interval",
            "; ".join(
                f"{row.name} {row.value:.1f} %, interval {row.low:.1f} to {row.high:.1f} %"
                for row in measured
            ),
            measured,
            x="Accuracy on labels that were not learned from",
        ),
        "matrix": _matrix(tested),
        "confusions": findings.confusions(tested.matrix, report.titles),
        "reliability": certainty.draw_reliability(
            "certainty",
            "How often the map is right, by the certainty that it states",
            certainty.points_in_words(found),
            found,
        ),
        "error": error,
        "certainty": words,
    }


def _matrix(tested: Tested) -> dict[str, Any]:
    matrix = tested.matrix
    present = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(present, 1)
    return {
        "counts": matrix.tolist(),
        "shares": shares.tolist(),
        "present": present[:, 0].tolist(),
        "mapped": matrix.sum(axis=0).tolist(),
        "total": int(matrix.sum()),
    }


def _curve(report: Report) -> dict[str, str]:
    curve = sorted(report.trained.curve, key=lambda point: point.units)
    model, told = MODEL, ""
    if report.protocol != "quick":
        model = BEGINNING
        told = (
            " The model before tuning is the base model as it is, with a small new part; training "
            "began with it."
        )
    series = [
        charts.Series(model, "model", [(p.units, 100 * p.accuracy) for p in curve]),
        charts.Series(FOREST, "forest", [(p.units, 100 * p.baseline) for p in curve]),
    ]
    return {
        "words": findings.curve_words(curve, f"the {model.lower()}", report.unit) + told,
        "figure": charts.draw_lines(
            "curve",
            f"Accuracy by number of {report.unit}s learned from",
            "; ".join(
                f"{p.units:.0f} {report.unit}s: {model.lower()} {100 * p.accuracy:.1f} %, "
                f"random forest {100 * p.baseline:.1f} %"
                for p in curve
            ),
            series,
            x=f"{report.unit.capitalize()}s learned from, all classes together",
            y="Accuracy",
            unit=" %",
        ),
    }


def _history(report: Report) -> dict[str, str | None]:
    epochs = report.trained.history
    loss = [charts.Series("Learned from", "model", [(e.number, e.loss) for e in epochs])]
    held = [(e.number, e.validation_loss) for e in epochs if e.validation_loss is not None]
    accuracy = [
        (e.number, 100 * e.validation_accuracy) for e in epochs if e.validation_accuracy is not None
    ]
    if held:
        loss.append(charts.Series("Held back", "forest", held))
    return {
        "loss": _epochs("loss", "Loss", loss, ""),
        "accuracy": _epochs(
            "held", "Accuracy", [charts.Series("Held back", "forest", accuracy)], " %"
        ),
    }


def _epochs(key: str, name: str, series: list[charts.Series], unit: str) -> str | None:
    drawn = [line for line in series if line.finite]
    if not drawn:
        return None
    title = f"{name} of each epoch"
    last = "; ".join(
        f"{line.name.lower()}: {line.finite[0][1]:.3g} first, {line.finite[-1][1]:.3g} last"
        for line in drawn
    )
    return charts.draw_lines(key, title, last, drawn, x="Epoch", y=name, unit=unit, width=450)


def _pictures(report: Report) -> dict[str, str | None] | None:
    seen = report.view
    if seen is None:
        return None
    drawn = pictures.draw_labels(seen, report.labels, report.colors)
    mapped = report.classes
    return {
        "scene": pictures.data_uri(drawn),
        "map": None
        if mapped is None
        else pictures.data_uri(pictures.draw_map(seen, mapped, report.colors)),
    }


def _split_words(report: Report) -> str:
    tested, unit = report.trained.tested, report.unit
    if tested is None:
        return (
            "No labels were set aside for testing, so all of them were learned from. Nothing is "
            "known of how well the model does elsewhere."
        )
    count, total = np.unique(tested.units).size, int(report.labels.units_per_class.sum())
    words = (
        f"{count:,} of {total:,} {unit}s were tested, about {100 * report.validation:.0f} % at a "
        f"time. The scene was divided into areas, and all {unit}s of an area were either learned "
        f"from or tested, never both: neighbouring pixels resemble each other, and a test on "
        f"pixels of the same {unit} would only show how well the model remembers (Roberts et al. "
        "2017). What is tested was said by the model, or by one trained in the same way, that "
        "had learned from nothing in that area."
    )
    if report.trained.baseline is None:
        return words
    return f"{words} The random forest was trained and tested on the very same labels."


def _facts(trained: Trained) -> dict[str, str]:
    """Return rows of the last table that every protocol has, and its own."""
    rows = {"Network": trained.network.title}
    if trained.temperature != 1:
        rows["Certainty corrected by"] = f"temperature {trained.temperature:.3g}"
    if trained.history:
        rows["Epochs"] = str(len(trained.history))
    for name, value in trained.facts.items():
        rows[_words(name)] = _plain(value)
    return rows


def _words(name: str) -> str:
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def _plain(value: Any) -> str:
    """Write what JSON can hold for people."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case dict():
            return "; ".join(f"{name}: {_plain(part)}" for name, part in value.items())
        case list() | tuple():
            return ", ".join(map(_plain, value))
    return str(value)
