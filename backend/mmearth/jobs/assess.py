"""Compare a map with what is known to be true: accuracies, and areas with their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmearth import __version__
from mmearth.api import (
    AssessOutputs,
    AssessResult,
    AssessSpec,
    ClassAssessment,
    Estimate,
    Plan,
    Problem,
)
from mmearth.assessment import tables
from mmearth.assessment.classraster import ClassRaster, Tally, open_classes
from mmearth.assessment.estimators import QUANTILE, Estimates
from mmearth.assessment.evaluate import Evaluation, evaluate
from mmearth.assessment.reference import Observed, open_reference
from mmearth.assessment.report import Report, write_report
from mmearth.errors import MMEarthError, RasterReadError
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.raster import write

ENDINGS = {"table": (".csv",), "areas": (".csv",), "report": (".html",)}
COMPARED_SHARE = 0.95  # of the progress bar
OUTPUT_BYTES = 2**20  # of all results


def plan(spec: AssessSpec, _settings: object) -> Plan:
    """Say what stands in the way. It is collected, not raised."""
    result = Plan()
    try:
        mapping.targets(spec.outputs, ENDINGS)
        raster = open_classes(spec.map, spec.classes)
        with open_reference(spec, raster):
            result.grid = raster.grid.info()
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: AssessSpec, context: JobContext) -> AssessResult:
    """Read map and reference once, compute all figures, and write what was asked for.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the reference", None)
    context.check_cancelled()
    targets = mapping.targets(spec.outputs, ENDINGS)
    mapping.keep_inputs(targets, [Path(spec.map), Path(spec.reference)])
    raster = open_classes(spec.map, spec.classes)
    files = [*mapping.files_of([spec.map]), *_files_of(spec.reference)]
    mapping.keep_inputs(targets, files)
    write.check_writable(list(targets.values()), OUTPUT_BYTES)
    tally, observed = _compare(spec, raster, context)
    evaluation = evaluate(raster, tally, observed)
    context.check_cancelled()
    context.report(COMPARED_SHARE, "Writing the results", None)
    name = mapping.digest(__version__, spec.model_dump(mode="json"), mapping.stamps(files))
    with Work(context.settings.work_folder / name, targets) as work:
        if "table" in targets:
            tables.write_matrix(work.staging.path("table"), evaluation)
        if "areas" in targets:
            tables.write_areas(work.staging.path("areas"), evaluation)
        if "report" in targets:
            write_report(work.staging.path("report"), Report.of(spec, evaluation))
        context.check_cancelled()
        work.staging.publish()
        work.remove()
    return AssessResult(
        outputs=AssessOutputs(**{key: str(path) for key, path in targets.items()}),
        accuracy=_estimates(evaluation.assessed.overall, 1.0)[0],
        classes=_classes(evaluation),
        matrix=evaluation.matrix.tolist(),
        pixels=int(evaluation.matrix.sum()),
        clusters=evaluation.clusters,
        designed=bool(evaluation.observed.design),
        warnings=list(evaluation.warnings),
        seconds=context.elapsed(),
    )


def _files_of(reference: str) -> list[Path]:
    """Return the files of a reference raster; vectors are a single one."""
    try:
        return mapping.files_of([reference])
    except RasterReadError:
        return [file for file in [Path(reference)] if file.exists()]


def _compare(spec: AssessSpec, raster: ClassRaster, context: JobContext) -> tuple[Tally, Observed]:
    """Read the map once: its areas, and what it says where the truth is known."""
    tally = Tally()
    with open_reference(spec, raster) as reference:
        for strip in raster.strips():
            context.check_cancelled()
            share = COMPARED_SHARE * strip.start / raster.grid.height
            context.report(share, "Comparing the map with the reference", None)
            tally.add(strip)
            reference.see(strip)
        return tally, reference.observed()


def _classes(evaluation: Evaluation) -> list[ClassAssessment]:
    found, matrix = evaluation.assessed, evaluation.matrix
    columns = zip(
        evaluation.classes,
        matrix.sum(axis=1).tolist(),
        matrix.sum(axis=0).tolist(),
        _estimates(found.users, 1.0),
        _estimates(found.producers, 1.0),
        _estimates(found.f1, 1.0),
        _estimates(found.iou, 1.0),
        evaluation.mapped_hectares.tolist(),
        _estimates(found.hectares, np.inf),
        strict=True,
    )
    return [
        ClassAssessment(
            value=row.value,
            title=row.title,
            color=row.color,
            mapped=mapped,
            present=present,
            users_accuracy=users,
            producers_accuracy=producers,
            f1=f1,
            iou=iou,
            mapped_hectares=shown,
            hectares=hectares,
        )
        for row, mapped, present, users, producers, f1, iou, shown, hectares in columns
    ]


def _estimates(found: Estimates, most: float) -> list[Estimate]:
    """Write figures for the API; what is no possible value is cut off the intervals."""
    return [
        Estimate(
            value=value,
            standard_error=error,
            low=max(0.0, value - QUANTILE * error),
            high=min(most, value + QUANTILE * error),
        )
        if np.isfinite(value) and np.isfinite(error)
        else Estimate(value=None, standard_error=None, low=None, high=None)
        for value, error in zip(found.values.tolist(), found.errors.tolist(), strict=True)
    ]
