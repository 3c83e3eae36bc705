"""Evaluate encoders on labelled tiles."""

from __future__ import annotations

import time
from pathlib import Path

from mmearth import __version__
from mmearth.api import EvaluateResult, EvaluateSpec, Plan, Problem
from mmearth.errors import InputError, MMEarthError, counted
from mmearth.files import copy_folder, explained
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.raster.write import check_writable
from mmearth.settings import Settings

FINISHED = "cells.jsonl"  # in the folder of unfinished work
READ_SHARE = 0.02  # of the progress bar
BYTES = 2**22  # of all results, generously
KINDS = {"single": "One label an image", "multi": "Several labels an image", "pixel": "Pixels"}


def plan(spec: EvaluateSpec, settings: Settings) -> Plan:
    """Say how many cells there are, and what stands in the way; no image is read."""
    from mmearth.evaluation.cells import cells_of, check_crop
    from mmearth.evaluation.encoders import find_candidates
    from mmearth.evaluation.tiles import find_tiles

    result = Plan()
    try:
        _target(spec)
        candidates = find_candidates(spec.encoders, settings)
        for candidate in candidates:
            check_crop(spec.crop, candidate)
        tiles = find_tiles(spec)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    result.cells = [
        f"{cell.encoder}, {cell.protocol}, {cell.share:.0%} of the labels, seed {cell.seed}"
        for cell in cells_of(spec, candidates)
    ]
    result.tiles = len(tiles.train) + len(tiles.test)
    return result


def run(spec: EvaluateSpec, context: JobContext) -> EvaluateResult:
    """Compute all cells, and write tables, figures and a page.

    A run that was cancelled or killed goes on with the next cell when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    import torch

    from mmearth.evaluation.cells import Evaluation, cells_of, keep, read_finished, summed_up
    from mmearth.evaluation.encoders import find_candidates
    from mmearth.evaluation.report import Report, write_report
    from mmearth.evaluation.scores import MAIN
    from mmearth.evaluation.tiles import find_tiles
    from mmearth.models.network import choose_device

    context.report(0.0, "Looking at the tiles", None)
    context.check_cancelled()
    target = _target(spec)
    candidates = find_candidates(spec.encoders, context.settings)
    tiles = find_tiles(spec)
    named = {one.name: one for one in candidates}
    facts = spec.model_dump(mode="json", exclude={"outputs"})
    cards = [one.card.card_sha256 for one in candidates]
    name = mapping.digest(__version__, facts, cards, mapping.stamps(tiles.files))
    torch.set_num_threads(context.settings.cpu_threads)
    device = choose_device(context.settings)
    evaluation = Evaluation(spec, tiles, device, context.is_cancelled)
    cells = cells_of(spec, candidates)
    with Work(context.settings.work_folder / f"evaluation-{name}", {}) as work:
        path = work.folder / FINISHED
        finished = read_finished(path)
        before, begin = len(finished), time.monotonic()
        for number, cell in enumerate(cells):
            context.check_cancelled()
            if cell in finished:
                continue
            done = len(finished) - before
            left = (time.monotonic() - begin) / done * (len(cells) - number) if done else None
            place = f"{number + 1:,} of {counted(len(cells), 'cell')}"
            stage = f"{cell.encoder}, {cell.protocol}: {place}"
            context.report(READ_SHARE + (1 - READ_SHARE) * number / len(cells), stage, left)
            finished[cell] = evaluation.compute(named[cell.encoder], cell)
            with explained(path):
                keep(path, finished[cell])
        ordered = [finished[cell] for cell in cells]
        report = Report(
            spec, KINDS[tiles.kind], MAIN[tiles.kind], tiles.classes, ordered, summed_up(ordered),
            evaluation.warnings,
        )  # fmt: skip
        made = work.folder / "results"
        with explained(target):
            made.mkdir(exist_ok=True)
            write_report(made, report)
            context.check_cancelled()
            copy_folder(made, target)
        work.remove()
    return EvaluateResult(
        outputs=spec.outputs,
        score=report.score,
        classes=list(report.classes),
        rows=list(report.rows),
        warnings=list(report.warnings),
        seconds=context.elapsed(),
    )


def _target(spec: EvaluateSpec) -> Path:
    """Return the folder of the results.

    Raises:
        InputError: if something would be lost, or it is no full path.
        OutputError: if it cannot be written.
    """
    from mmearth.evaluation.report import is_own

    folder = Path(spec.outputs.folder)
    if not folder.is_absolute():
        raise InputError(f"{folder} is no full path.", "Give the whole path of the results.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file.", "Choose a folder.")
    if folder.is_dir() and not all(is_own(path.name) for path in folder.iterdir()):
        raise InputError(
            f"The folder {folder} holds other files than an evaluation's.",
            "Choose a folder that is empty or does not exist yet.",
        )
    check_writable([folder.with_name(f".{folder.name}")], BYTES)
    return folder
