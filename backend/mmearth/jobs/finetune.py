"""Train a model on labels that were drawn on the map."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth.api import (
    FinetuneOutputs,
    FinetuneResult,
    FinetuneSpec,
    LabelCount,
    Plan,
    Problem,
)
from mmearth.errors import InputError, MMEarthError, ModelError, listed
from mmearth.files import copy_folder, explained, staged
from mmearth.jobs import mapping
from mmearth.jobs import prepare as preparing
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import Prepared, prepare
from mmearth.jobs.work import Work
from mmearth.models.card import CARD_NAME, WEIGHTS_NAME, ModelCard
from mmearth.models.readme import README_NAME
from mmearth.models.registry import installed_models
from mmearth.models.store.library import check_identifier, own_model, place, staging
from mmearth.raster.write import check_writable
from mmearth.settings import Settings
from mmearth.training.classes import REPORT_NAME, class_rows, free_identifier, title_of
from mmearth.training.labels import Labels, read_labels, require_classes
from mmearth.training.split import fold_count, spatial_folds

if TYPE_CHECKING:
    from mmearth.training.task import Task, Trained

REPORT_ENDINGS = (".html", ".htm")
MODEL_FILES = {CARD_NAME, README_NAME, WEIGHTS_NAME, REPORT_NAME}  # of a folder that is replaced
FEW_UNITS = 5  # labels of a class, below which its figures are little more than a guess
TRAINING_SHARE = 0.92  # of the progress bar; the rest is for the report and saving


def plan(spec: FinetuneSpec, settings: Settings) -> Plan:
    """Say what a request would do: bands, grid, and how much of each class is labelled."""
    result = preparing.plan(spec, settings)
    # Those are of mapping the whole scene; how long training takes hangs on when it stops.
    result.seconds, result.seconds_measured = None, False
    if not result.ready:
        return result
    try:
        ready = prepare(spec, settings)
        _require_trainable(ready.card)
        labels = read_labels(spec.labels, ready.grid)
        result.labels = _counts(labels, spec, ready.card)
        result.warnings += [*labels.warnings, *_thin(result.labels)]
        _check_labels(labels, spec)
        _targets(spec, ready, settings)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: FinetuneSpec, context: JobContext) -> FinetuneResult:
    """Train, test, and put the tuned model among the installed ones, with its report.

    A run that was killed goes on from its last epoch when the same request comes again; one that is
    cancelled keeps its best epoch so far, if there is one.

    Raises:
        MMEarthError: whatever stands in the way; no model is then left half-written.
        JobCancelled: if it is cancelled before there is anything to keep.
    """
    context.report(0.0, "Reading the rasters and labels", None)
    settings = context.settings
    ready = prepare(spec, settings)
    _require_trainable(ready.card)
    labels = read_labels(spec.labels, ready.grid)
    _check_labels(labels, spec)
    targets = _targets(spec, ready, settings)
    # Not before: these import torch, which a plan does without.
    from mmearth.training import tuned
    from mmearth.training.task import Task, Watch, train

    facts = spec.model_dump(mode="json", include={"protocol", "from_scratch", "loss", "seed"})
    facts |= spec.model_dump(mode="json", include={"validation", "epochs"})
    name = mapping.fingerprint(ready, facts, tuned.labels_digest(labels))
    with Work(settings.work_folder / f"training-{name}", {}) as work:
        task = Task(
            card=ready.card,
            stack=ready.stack(),
            layout=ready.layout,
            labels=labels,
            settings=settings,
            folder=work.folder,
            **facts,
        )
        trained = train(task, Watch(context.report, context.is_cancelled).part(0, TRAINING_SHARE))
        context.report(TRAINING_SHARE, "Writing the report", None)
        card = _save(task, trained, spec, targets, context.elapsed())
        work.remove()
    ends = tuned.interval(trained.tested) if trained.tested else (None, None)
    return FinetuneResult(
        model=card.info(),
        outputs=FinetuneOutputs(
            model=str(targets.folder or card.folder),
            report=str(targets.report or card.folder / REPORT_NAME),
        ),
        protocol=spec.protocol,
        accuracy=trained.tested.accuracy if trained.tested else None,
        accuracy_low=ends[0],
        accuracy_high=ends[1],
        baseline_accuracy=trained.baseline.accuracy if trained.baseline else None,
        classes=tuned.scores(labels, card.classes, trained.tested),
        epochs=len(trained.history),
        warnings=[*ready.warnings, *labels.warnings, *trained.warnings],
        seconds=context.elapsed(),
    )


@dataclass(frozen=True)
class _Targets:
    identifier: str
    folder: Path | None
    report: Path | None


def _targets(spec: FinetuneSpec, ready: Prepared, settings: Settings) -> _Targets:
    """Say where results go, and that they can.

    Raises:
        InputError: if a name will not do.
        ModelError: if the model may not have its identifier, or another has it.
        OutputError: if they cannot be written.
    """
    taken = [card.id for card in installed_models(settings.model_folders)]
    identifier = spec.id or free_identifier(title_of(spec, ready.card), taken)
    check_identifier(identifier, settings)
    if own_model(identifier, settings):
        raise ModelError(
            f"A model called {identifier} is installed already.",
            "Choose another identifier, or remove that model first.",
        )
    named = {
        name: Path(path) for name, path in spec.outputs.model_dump(mode="json").items() if path
    }
    for path in named.values():
        if not path.is_absolute():
            raise InputError(f"{path} is no full path.", "Give the whole path of each result.")
    read = [Path(item.path) for item in spec.inputs] + [Path(spec.labels.path)]
    mapping.keep_inputs(named, [*read, *mapping.files_read(ready)])
    folder, report = named.get("model"), named.get("report")
    if report and report.suffix.lower() not in REPORT_ENDINGS:
        raise InputError(
            f"Expected a report whose name ends with .html, found {report}.", "Choose such a name."
        )
    if folder:
        _check_folder(folder, report, settings)
    # Of a folder, which may exist, its neighbours are what has to be writable.
    files = [path.with_name(f".{path.name}") for path in named.values()]
    check_writable(files, 2 * ready.card.info().size_bytes)
    return _Targets(identifier, folder, report)


def _check_folder(folder: Path, report: Path | None, settings: Settings) -> None:
    """Check that a copy of a model may take the place of what is there.

    Raises:
        InputError: if something would be lost.
    """
    installed = {path.resolve() for path in settings.model_folders}
    if installed & {folder.resolve(), *folder.resolve().parents}:
        raise InputError(
            f"The folder {folder} is among the installed models, where the tuned one goes anyhow.",
            "Choose a folder elsewhere for a copy, or none.",
        )
    own = {*(folder / name for name in MODEL_FILES), report}
    if folder.is_dir() and not set(folder.iterdir()) <= own:
        raise InputError(
            f"The folder {folder} holds other files than a model's.",
            "Choose a folder that is empty or does not exist yet.",
        )


def _require_trainable(card: ModelCard) -> None:
    if card.is_onnx:
        raise ModelError(
            f"{card.title} is an ONNX file, which cannot be trained.",
            "Choose a model that did not come as ONNX.",
        )


def _check_labels(labels: Labels, spec: FinetuneSpec) -> None:
    """Refuse labels that nothing can be learned from, before anything slow begins.

    Raises:
        InputError: if there is one class only, or one that cannot be learned from and tested on.
    """
    require_classes(labels)
    if spec.validation:
        spatial_folds(labels, fold_count(spec.validation))


def _counts(labels: Labels, spec: FinetuneSpec, card: ModelCard) -> list[LabelCount]:
    rows = class_rows(labels.names, spec.labels.classes, card)
    found = zip(labels.names, rows, labels.units_per_class, labels.pixels_per_class, strict=True)
    return [
        LabelCount(value=name, title=row.title, units=int(units), pixels=int(pixels))
        for name, row, units, pixels in found
    ]


def _thin(counts: list[LabelCount]) -> list[Problem]:
    few = [row.title for row in counts if row.units < FEW_UNITS]
    if not few:
        return []
    return [
        Problem(
            code="thin_class",
            message=f"Fewer than {FEW_UNITS} labels of {listed(few)}.",
            advice="Draw more, in different places: what is learned from few holds for few.",
        )
    ]


def _save(
    task: Task, trained: Trained, spec: FinetuneSpec, targets: _Targets, seconds: float
) -> ModelCard:
    """Put the model among the installed ones, and copies where they are wanted."""
    from mmearth.models.save import save_model
    from mmearth.training import tuned
    from mmearth.training.document import document

    rows = class_rows(task.labels.names, spec.labels.classes, task.card)
    facts = tuned.card_facts(task, trained, spec, rows, targets.identifier)
    half = tuned.stored_in_half(task.card)
    with staging(task.settings) as folder, explained(folder):
        card = save_model(folder / targets.identifier, trained.state, facts, half=half)
        document(task, trained, spec, card, seconds)
        if targets.folder:
            copy_folder(card.folder, targets.folder)
        if targets.report:  # afterwards, as it may lie in that folder
            with staged(targets.report) as temporary:
                shutil.copyfile(card.folder / REPORT_NAME, temporary)
        return place(card, folder, task.settings)
