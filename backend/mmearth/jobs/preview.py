"""Map what is seen by a head that is trained on the labels of the moment."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmearth.api import (
    LabelCount,
    Plan,
    PreviewOutputs,
    PreviewResult,
    PreviewSpec,
    Problem,
    Suggestion,
)
from mmearth.errors import EmptyAreaError, InputError, MMEarthError
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import Prepared, prepare
from mmearth.raster import write
from mmearth.raster.grid import Grid, extent_rectangle
from mmearth.settings import Settings
from mmearth.training.classes import class_rows
from mmearth.training.labels import Labels, read_labels

if TYPE_CHECKING:
    from mmearth.training.preview import Preview

LARGEST_VIEW = 2048  # pixels a side
MEMORY = "mmearth.training.scene"


def plan(spec: PreviewSpec, settings: Settings) -> Plan:
    """Say what a preview would do. What stands in its way is collected, not raised."""
    result = Plan()
    try:
        mapping.targets(spec.outputs)
        ready = _prepare(spec, settings)
        result.grid = _seen(spec, ready.grid).info()
        labels = read_labels(spec.labels, ready.grid)
        result.labels = _counts(spec, ready, labels)
        result.warnings = _warnings(labels)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: PreviewSpec, context: JobContext) -> PreviewResult:
    """Train a head on the labels, and map the extent, or the whole scene if none is given.

    Tiles lie where they lie for the whole scene, so those that were seen before are known. Classes
    are numbered in the order of the request, or of their names, from 1.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the labels", None)
    targets = mapping.targets(spec.outputs)
    ready = _prepare(spec, context.settings)
    seen = _seen(spec, ready.grid)
    labels = read_labels(spec.labels, ready.grid)
    mapping.keep_inputs(targets, [Path(spec.labels.path), *mapping.files_read(ready)])
    context.check_cancelled()
    context.report(0.1, "Mapping what is seen", None)
    found = _preview(spec, ready, seen, labels, context)
    context.check_cancelled()
    _write(found, spec, ready, seen, labels, targets)
    to_map = ready.grid.transform
    places = [(to_map @ (at.col + 0.5, at.row + 0.5), at) for at in found.suggestions]
    return PreviewResult(
        outputs=PreviewOutputs.model_validate({name: str(path) for name, path in targets.items()}),
        classes=_counts(spec, ready, labels),
        suggestions=[Suggestion(x=x, y=y, uncertainty=at.uncertainty) for (x, y), at in places],
        grid=seen.info(),
        tiles_computed=found.tiles_computed,
        warnings=_warnings(labels),
        seconds=context.elapsed(),
    )


def forget() -> None:
    """Give back what is kept in memory from one preview to the next."""
    memory = sys.modules.get(MEMORY)
    if memory is not None:  # else nothing is kept, and torch need not be imported to say so
        memory.forget()


def _prepare(spec: PreviewSpec, settings: Settings) -> Prepared:
    """Prepare the whole scene, not only the extent."""
    return prepare(spec.model_copy(update={"extent": None}), settings)


def _seen(spec: PreviewSpec, grid: Grid) -> Grid:
    """Return the pixels of the scene that the extent touches.

    Raises:
        EmptyAreaError: if it touches none.
        InputError: if they are too many.
    """
    seen = grid
    if spec.extent:
        bounds, crs = extent_rectangle(spec.extent)
        try:
            seen = grid.cropped_to(bounds, crs)
        except EmptyAreaError as error:
            raise EmptyAreaError(
                "What is seen and the rasters do not overlap.", "Move the map to the rasters."
            ) from error
    if max(seen.width, seen.height) > LARGEST_VIEW:
        raise InputError(
            f"What is seen measures {seen.width:,} x {seen.height:,} pixels; a preview has at most "
            f"{LARGEST_VIEW:,} a side.",
            "Zoom in.",
        )
    return seen


def _preview(
    spec: PreviewSpec, ready: Prepared, seen: Grid, labels: Labels, context: JobContext
) -> Preview:
    # Not before: it imports torch, which a plan does without.
    from mmearth.training.preview import View, preview
    from mmearth.training.scene import Source

    top, left = seen.offset_of(ready.grid) or (0, 0)
    source = Source(
        card=ready.card,
        bands=ready.bands,
        masks=ready.masks,
        grid=ready.grid,
        layout=ready.layout,
        key=mapping.fingerprint(ready),
        settings=context.settings,
    )
    view = View(top, left, top + seen.height, left + seen.width)
    return preview(source, view, labels, spec.seed, context.is_cancelled)


def _names(spec: PreviewSpec, labels: Labels) -> list[str]:
    """Return all classes in the order of their numbers in the map, also those without a label."""
    return [row.value for row in spec.labels.classes] or list(labels.names)


def _counts(spec: PreviewSpec, ready: Prepared, labels: Labels) -> list[LabelCount]:
    names = _names(spec, labels)
    rows = class_rows(names, spec.labels.classes, ready.card)
    numbers = zip(labels.units_per_class, labels.pixels_per_class, strict=True)
    drawn = dict(zip(labels.names, numbers, strict=True))
    found = (
        (name, row.title, *drawn.get(name, (0, 0))) for name, row in zip(names, rows, strict=True)
    )
    return [
        LabelCount(value=name, title=title, units=int(units), pixels=int(pixels))
        for name, title, units, pixels in found
    ]


def _warnings(labels: Labels) -> list[Problem]:
    """Return what was left out; that a class has no label yet is nothing to warn of."""
    return [problem for problem in labels.warnings if problem.code != "no_label"]


def _write(
    found: Preview,
    spec: PreviewSpec,
    ready: Prepared,
    seen: Grid,
    labels: Labels,
    targets: dict[str, Path],
) -> None:
    """Write the maps, all or none.

    Raises:
        OutputError: if they cannot be written.
    """
    names = _names(spec, labels)
    numbers = np.array([0, *(names.index(name) + 1 for name in labels.names)], np.uint8)
    rows = class_rows(names, spec.labels.classes, ready.card)
    palette = {
        number: (
            (int(row.color[1:3], 16), int(row.color[3:5], 16), int(row.color[5:7], 16)),
            row.title,
        )
        for number, row in enumerate(rows, 1)
    }
    tags = mapping.provenance(spec, ready)
    layers = {
        "classes": (write.Layer("classes", ("class",), tags, palette), numbers[found.classes]),
        "uncertainty": (write.Layer("percent", ("uncertainty",), tags), found.uncertainty),
    }
    staging = write.Staging(targets, uuid.uuid4().hex[:8])
    try:
        for name in targets:
            layer, values = layers[name]
            # A working file as it stands: making a Cloud-Optimised one takes longer than the map.
            write.create_working(staging.path(name), seen, layer)
            write.write_rows(staging.path(name), 0, values[None])
        staging.publish()
    finally:
        staging.remove()
