"""Draw a stratified random sample of the pixels of a class raster."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmearth import __version__
from mmearth.api import (
    Plan,
    Problem,
    SampleDesignResult,
    SampleDesignSpec,
    SampleOutputs,
    Stratum,
)
from mmearth.assessment.classraster import ClassRaster, Tally, open_classes
from mmearth.assessment.design import allocate, fewest, sample_size
from mmearth.assessment.draw import draw_pixels
from mmearth.assessment.matching import match_classes
from mmearth.assessment.samplefile import keep_interpreted, write_sample
from mmearth.errors import EmptyAreaError, InputError, MMEarthError
from mmearth.files import staged
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.raster import write

ENDINGS = {"sample": (".gpkg",), "table": (".csv",)}
COUNTED_SHARE, DRAWN_SHARE = 0.5, 0.95  # of the progress bar
POINT_BYTES = 512  # of the GeoPackage, generously
FILE_BYTES = 2**18  # of an empty one


def plan(spec: SampleDesignSpec, _settings: object) -> Plan:
    """Say what stands in the way. It is collected, not raised."""
    result = Plan()
    try:
        mapping.targets(spec.outputs, ENDINGS)
        result.grid = open_classes(spec.raster, spec.classes).grid.info()
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: SampleDesignSpec, context: JobContext) -> SampleDesignResult:
    """Count the pixels of each class, share out the points, draw them, and write them.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the raster", None)
    context.check_cancelled()
    targets = mapping.targets(spec.outputs, ENDINGS)
    mapping.keep_inputs(targets, [Path(spec.raster)])
    raster = open_classes(spec.raster, spec.classes)
    files = mapping.files_of([spec.raster])
    mapping.keep_inputs(targets, files)
    write.check_writable(list(targets.values()), FILE_BYTES)
    keep_interpreted(targets["sample"])

    def watch(row: int, first: float, last: float, stage: str) -> None:
        context.check_cancelled()
        share = row / raster.grid.height
        context.report(first + (last - first) * share, stage, None)

    tally = Tally()
    for strip in raster.strips():
        watch(strip.start, 0.0, COUNTED_SHARE, "Counting the pixels of each class")
        tally.add(strip)
    pixels, weights, expected = _strata(spec, raster, tally)
    titles = [raster.class_of(value).title for value in tally.values]
    size = spec.size or max(
        sample_size(weights, expected, spec.target_error, int(pixels.sum())),
        int(fewest(pixels, spec.allocation, spec.minimum).sum()),
    )
    points = allocate(size, pixels, spec.allocation, minimum=spec.minimum, titles=titles)
    write.check_writable(list(targets.values()), FILE_BYTES + POINT_BYTES * size)
    drawn = draw_pixels(
        raster,
        tally,
        points,
        spec.seed,
        lambda row: watch(row, COUNTED_SHARE, DRAWN_SHARE, "Drawing the points"),
    )
    strata = [
        Stratum(
            value=value,
            title=raster.class_of(value).title,
            color=raster.class_of(value).color,
            pixels=tally.pixels[value],
            hectares=tally.hectares(value),
            weight=weight,
            points=count,
        )
        for value, weight, count in zip(
            tally.values, weights.tolist(), points.tolist(), strict=True
        )
    ]
    name = mapping.digest(__version__, spec.model_dump(mode="json"), mapping.stamps(files))
    with Work(context.settings.work_folder / name, targets) as work:
        context.report(DRAWN_SHARE, f"Writing {targets['sample'].name}", None)
        sample = work.staging.path("sample")
        write_sample(sample, raster.grid, drawn, strata, _facts(spec))
        if "table" in targets:
            _write_table(work.staging.path("table"), strata)
        context.check_cancelled()
        work.staging.publish()
        work.remove()
    variances = weights**2 * expected * (1 - expected) / (points - 1)
    return SampleDesignResult(
        outputs=SampleOutputs(**{key: str(path) for key, path in targets.items()}),
        strata=strata,
        size=size,
        expected_error=float(np.sqrt(variances.sum())),
        seconds=context.elapsed(),
    )


def _strata(
    spec: SampleDesignSpec, raster: ClassRaster, tally: Tally
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels, share of the area, and expected user's accuracy of each class.

    Raises:
        EmptyAreaError: if there is no data.
        InputError: if there is one class only, or an expectation is of none.
    """
    if not tally.values:
        raise EmptyAreaError(f"{raster.path} has no data at all.", "Choose another raster.")
    if len(tally.values) < 2:
        raise InputError(
            f"Expected a raster of two classes or more, found only "
            f"{raster.class_of(tally.values[0]).shown!r}.",
            "Choose one that tells classes apart: these are the strata.",
        )
    hectares = np.array([tally.hectares(value) for value in tally.values])
    classes = [raster.class_of(value) for value in tally.values]
    meant = match_classes([row.value for row in spec.expected], classes)
    known = {meant[row.value]: row.accuracy for row in spec.expected}
    return (
        np.array([tally.pixels[value] for value in tally.values]),
        hectares / hectares.sum(),
        np.array([known.get(value, spec.expected_accuracy) for value in tally.values]),
    )


def _facts(spec: SampleDesignSpec) -> dict[str, str]:
    """Return what tells how the sample was drawn."""
    return {
        "MMEARTH_VERSION": __version__,
        "MMEARTH_DESIGN": "stratified random sample of pixels",
        "MMEARTH_RASTER": spec.raster,
        "MMEARTH_ALLOCATION": spec.allocation,
        "MMEARTH_SEED": str(spec.seed),
    }


def _write_table(target: Path, strata: Sequence[Stratum]) -> None:
    with staged(target) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["class", "title", "pixels", "area_ha", "weight", "points"])
            for row in strata:
                table.writerow(
                    [
                        row.value,
                        row.title,
                        row.pixels,
                        f"{row.hectares:.4f}",
                        f"{row.weight:.6f}",
                        row.points,
                    ]
                )
