"""Map where forest was lost or gained between two dates.

First each date is mapped on the grid of the first one, and kept; then the dates are compared, as
far as all of the scene must be known for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import (
    ClassArea,
    DateInfo,
    DisturbanceOutputs,
    DisturbanceResult,
    DisturbanceSpec,
    MappingSpec,
    Plan,
    Problem,
)
from mmearth.change.compare import (
    LEAST_FOREST,
    Change,
    Compared,
    compare,
    forest_medians,
    stable_forest,
)
from mmearth.change.rule import Rule, rule_for, tree_classes
from mmearth.errors import EmptyAreaError, MMEarthError
from mmearth.files import check_space
from mmearth.jobs import areas, mapping
from mmearth.jobs import prepare as preparing
from mmearth.jobs.context import JobContext
from mmearth.jobs.dates import Date, date_scenes, date_warnings, mapping_of, prepare_dates, told
from mmearth.jobs.prepare import remember_speed
from mmearth.jobs.work import Work
from mmearth.models.card import ClassRow
from mmearth.models.registry import find_model
from mmearth.raster import write
from mmearth.raster.mask import MaskReader
from mmearth.raster.polygons import PolygonClass, write_polygons
from mmearth.settings import Settings

MAPPED_SHARE = 0.85  # of the progress bar
COMPARED_SHARE = 0.95
ENDINGS = {"polygons": (".gpkg",), "table": (".csv",), "transitions": (".csv",)}
KEPT = ("probability of trees", "index", "shade", "light")  # as of mmearth.change.evidence
ROWS = 512  # of all dates together, compared at once
SAMPLE = 2_000_000  # pixels that medians over forest are taken from

CHANGED = (Change.loss, Change.gain, Change.possible_loss, Change.possible_gain)
CLASSES = (
    ClassRow(value=Change.stable_forest, name="stable_forest", title="Stable forest",
             color="#397d49"),
    ClassRow(value=Change.loss, name="loss", title="Forest loss", color="#d7191c"),
    ClassRow(value=Change.gain, name="gain", title="Forest gain", color="#2c7bb6"),
    ClassRow(value=Change.stable_other, name="stable_non_forest", title="Stable non-forest",
             color="#e6e2d6"),
    ClassRow(value=Change.possible_loss, name="possible_loss", title="Possible loss",
             color="#fdae61"),
    ClassRow(value=Change.possible_gain, name="possible_gain", title="Possible gain",
             color="#abd9e9"),
)  # fmt: skip


def plan(spec: DisturbanceSpec, settings: Settings) -> Plan:
    """Say what a comparison would do. What stands in its way is collected, not raised."""
    result = Plan()
    parts = []
    try:
        tree_classes(find_model(spec.model, settings.model_folders))
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    for title, role, scene in date_scenes(spec):
        part = preparing.plan(mapping_of(spec, scene), settings)
        result.errors += [
            problem.model_copy(update={"message": told(role, title, problem.message)})
            for problem in part.errors
        ]
        parts.append(part)
    result.bands, result.sources = parts[0].bands, parts[0].sources
    if result.errors:
        return result
    try:
        dates = prepare_dates(spec, settings)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    tiles = dates[0].ready.layout.count
    result.grid = dates[0].ready.grid.info()
    result.tiles = tiles * len(dates)
    result.warnings = date_warnings(dates)
    seconds = [part.seconds / max(part.tiles, 1) * tiles for part in parts if part.seconds]
    result.seconds = sum(seconds)
    result.seconds_measured = all(part.seconds_measured for part in parts)
    result.memory_bytes = max(part.memory_bytes for part in parts)
    return result


def run(spec: DisturbanceSpec, context: JobContext) -> DisturbanceResult:
    """Map all dates, compare them, write what was asked for, and sum up the areas.

    A run that was cancelled or killed goes on where it stopped when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the rasters", None)
    targets = mapping.targets(spec.outputs, ENDINGS)
    scenes = [scene for _, _, scene in date_scenes(spec)]
    mapping.keep_inputs(targets, [Path(item.path) for one in scenes for item in one.inputs])
    dates = prepare_dates(spec, context.settings)
    for date in dates:
        mapping.keep_inputs(targets, mapping.files_read(date.ready))
    first = dates[0].ready
    rule = rule_for(first.card)
    layers = _layers(dates, rule)
    pixels = first.grid.width * first.grid.height
    write.check_writable(list(targets.values()), 2 * pixels)
    kept = write.Layer("values", KEPT, {})
    name = mapping.digest([mapping.fingerprint(date.ready) for date in dates], repr(rule))
    with Work(context.settings.work_folder / name, targets) as work:
        check_space(work.folder, pixels * (len(dates) * kept.pixel_bytes + len(layers)))
        for number, date in enumerate(dates):
            _map(number, date, len(dates), rule, kept, work, context)
        for layer_name, layer in layers.items():
            write.create_working(work.path(layer_name), first.grid, layer)
        context.report(MAPPED_SHARE, "Comparing the dates", None)
        infos, doubts = _compare(dates, rule, work, context)
        context.report(COMPARED_SHARE, "Summing up areas", None)
        summed = _sum_up(dates, infos, work, context)
        count = _finish(spec, dates, targets, layers, work, summed, context)
        work.remove()
    return DisturbanceResult(
        outputs=DisturbanceOutputs(**{key: str(path) for key, path in targets.items()}),
        classes=summed.classes,
        dates=infos,
        nodata_pixels=summed.empty_pixels,
        masked_pixels=summed.masked_pixels,
        rule=rule.id,
        mapped_percent=_mapped_percent(rule),
        grid=first.grid.info(),
        model=first.card.id,
        model_title=first.card.title,
        polygon_count=count,
        warnings=date_warnings(dates) + doubts,
        seconds=context.elapsed(),
    )


def _same_pixels() -> Problem:
    return Problem(
        code="same_pixels",
        message="The first and the last date do not differ in a single pixel: they are copies of "
        "one image.",
        advice="Choose images of different dates.",
    )


def _little_forest() -> Problem:
    return Problem(
        code="little_forest",
        message="There is hardly any forest that stayed from the first to the last date, so a "
        "difference in light between them cannot be told from a change of the trees.",
        advice="Map a larger area that holds forest which stayed.",
    )


def _layers(dates: Sequence[Date], rule: Rule) -> dict[str, write.Layer]:
    """Return the working rasters that the results are made of."""
    first = dates[0]
    tags = {
        **mapping.provenance(_inputs_only(first), first.ready),
        "MMEARTH_RULE": rule.id,
        "MMEARTH_MAPPED_PERCENT": str(_mapped_percent(rule)),
        "MMEARTH_DATES": json.dumps(
            [
                {
                    "role": date.role,
                    "title": date.title,
                    "inputs": [item.path for item in date.scene.inputs],
                    "masks": mapping.masks_in_words(date.ready),
                }
                for date in dates
            ],
            ensure_ascii=False,
        ),
    }
    return {
        "classes": areas.class_layer("change", CLASSES, tags),
        "probability": write.Layer("percent", ("probability of a change",), tags),
    }


def _inputs_only(date: Date) -> MappingSpec:
    return MappingSpec(kind="disturbance", model=date.ready.card.id, inputs=date.scene.inputs)


def _map(
    number: int,
    date: Date,
    count: int,
    rule: Rule,
    layer: write.Layer,
    work: Work,
    context: JobContext,
) -> None:
    """Compute the rows of a date that are not yet done, and keep what is to be compared."""
    # Not before: it imports torch, which a plan does without.
    from mmearth.change.evidence import date_evidence
    from mmearth.inference.predict import compute_rows
    from mmearth.models.network import Network, loaded

    ready = date.ready
    height = ready.grid.height
    done = work.rows_done - number * height
    if done >= height:
        return
    path = work.path(f"date{number}")
    if done <= 0:
        write.create_working(path, ready.grid, layer)
    network = loaded(Network, ready.card, context.settings)
    begin, share = (MAPPED_SHARE * part / count for part in (number, number + 1))
    title = f"Mapping {date.title}"
    clock = mapping.Clock(context, ready.layout, done, share, begin=begin, what=title)
    computed = 0
    for band in compute_rows(
        ready.stack(),
        date_evidence(network, rule),
        ready.layout,
        network.workload(ready.layout.rows.tile),
        first_row=done,
        progress=clock.tick,
        cancelled=context.is_cancelled,
    ):
        values = band.values.numpy()
        values[:, ~band.valid] = np.nan
        write.write_rows(path, band.start, values)
        work.mark(number * height + band.start + band.valid.shape[0])
        computed += band.computed
    if computed > 1:
        remember_speed(ready, computed, clock.seconds, context.settings)


def _compare(
    dates: Sequence[Date], rule: Rule, work: Work, context: JobContext
) -> tuple[list[DateInfo], list[Problem]]:
    """Write classes and probability; return counts by date, and what makes them doubtful."""
    grid = dates[0].ready.grid
    empty, masked = np.zeros((2, len(dates)), np.int64)
    same = True
    with ExitStack() as opened:
        kept = [
            opened.enter_context(rasterio.open(work.path(f"date{number}")))
            for number in range(len(dates))
        ]
        readers = [opened.enter_context(MaskReader(date.ready.masks, grid)) for date in dates]
        step = math.ceil(math.sqrt(grid.width * grid.height / SAMPLE))
        shape = (len(KEPT), -(-grid.height // step), -(-grid.width // step))
        sample = [source.read(out_shape=shape).reshape(shape[0], -1) for source in kept]
        medians = forest_medians(sample, rule)
        little = bool(rule.bands and stable_forest(sample, rule).sum() < LEAST_FOREST)
        del sample
        rows = max(1, ROWS // len(dates))
        for start in range(0, grid.height, rows):
            context.check_cancelled()
            stop = min(grid.height, start + rows)
            top, bottom = max(0, start - rule.halo), min(grid.height, stop + rule.halo)
            window = Window(0, top, grid.width, bottom - top)
            values = [source.read(window=window) for source in kept]
            found = compare(values, medians, rule)
            inner = slice(start - top, stop - top)
            percent = _percent(found, rule)[inner]
            write.write_rows(work.path("classes"), start, found.classes[None, inner])
            write.write_rows(work.path("probability"), start, percent[None])
            same &= np.array_equal(values[0], values[-1], equal_nan=True)
            for number, reader in enumerate(readers):
                lacking = np.isnan(values[number][0, inner])
                clouded = reader.clouded(start, stop) & lacking
                empty[number] += (lacking & ~clouded).sum()
                masked[number] += clouded.sum()
    infos = [
        DateInfo(
            title=date.title,
            role=date.role,
            nodata_pixels=int(empty[number]),
            masked_pixels=int(masked[number]),
        )
        for number, date in enumerate(dates)
    ]
    return infos, [_same_pixels()] * same + [_little_forest()] * little


def _percent(found: Compared, rule: Rule) -> NDArray[np.uint8]:
    """Return whole percents, rounded such that they tell what is mapped as a change."""
    percent = np.floor(found.probability * 100)
    mapped = np.isin(found.classes, (Change.loss, Change.gain))
    least = _mapped_percent(rule)
    percent = np.where(mapped, np.maximum(percent, least), np.minimum(percent, least - 1))
    return np.where(found.classes == Change.none, write.PERCENT_NODATA, percent).astype(np.uint8)


def _mapped_percent(rule: Rule) -> int:
    return round(100 * rule.mapped)


def _sum_up(
    dates: Sequence[Date], infos: Sequence[DateInfo], work: Work, context: JobContext
) -> areas.Areas:
    """Sum up the classes; a comparison of nothing is not kept to go on from."""
    first, last = dates[0].ready, dates[-1].ready
    try:
        return areas.sum_up(
            work.path("classes"),
            first.grid,
            CLASSES,
            [*first.masks, *last.masks],
            context.check_cancelled,
        )
    except EmptyAreaError as error:
        work.remove()
        counts = "; ".join(
            f"{info.title}: {info.nodata_pixels:,} pixels without data, {info.masked_pixels:,} "
            "left out by a mask"
            for info in (infos[0], infos[-1])
        )
        raise EmptyAreaError(
            f"No pixel is clear on both the first and the last date ({counts}).",
            "Choose clearer images or another area, or check which values of the mask count.",
        ) from error


def _finish(
    spec: DisturbanceSpec,
    dates: Sequence[Date],
    targets: dict[str, Path],
    layers: dict[str, write.Layer],
    work: Work,
    summed: areas.Areas,
    context: JobContext,
) -> int | None:
    """Build every result, then move all into place; return the number of polygons, if any."""
    count = None
    for number, (name, target) in enumerate(targets.items()):
        context.check_cancelled()
        share = COMPARED_SHARE + (1 - COMPARED_SHARE) * number / len(targets)
        context.report(share, f"Writing {target.name}", None)
        path = work.staging.path(name)
        if name == "table":
            areas.write_table(path, summed)
        elif name == "transitions":
            areas.write_csv(path, _transitions(summed.classes))
        elif name == "polygons":
            count = write_polygons(
                work.path("classes"),
                work.path("probability"),
                path,
                dates[0].ready.grid,
                {
                    row.value: PolygonClass(row.name, row.title)
                    for row in CLASSES
                    if row.value in CHANGED
                },
                minimum_area_ha=spec.minimum_area_ha,
                scratch=work.folder,
                cancelled=context.check_cancelled,
            )
        else:
            write.publish(work.path(name), path, layers[name])
    context.check_cancelled()
    work.staging.publish()
    return count


def _transitions(rows: list[ClassArea]) -> list[list[object]]:
    """Return hectares by what was before, in rows, and what is after, in columns."""
    area = {row.value: row.hectares for row in rows}
    before = {
        "forest": (Change.stable_forest, Change.possible_loss, Change.loss),
        "non-forest": (Change.gain, Change.possible_gain, Change.stable_other),
    }
    table = {name: [area[value] for value in values] for name, values in before.items()}
    lines: list[list[object]] = [
        ["before \\ after (ha)", "forest", "possible change", "non-forest", "total"]
    ]
    for name, parts in table.items():
        lines.append([name, *(f"{part:.4f}" for part in (*parts, sum(parts)))])
    totals = [sum(column) for column in zip(*table.values(), strict=True)]
    lines.append(["total", *(f"{part:.4f}" for part in (*totals, sum(totals)))])
    return lines
