"""Compute the features of a model's encoder over a raster stack."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.windows import Window

from mmearth.api import EmbedOutputs, EmbedResult, EmbedSpec, Plan, Problem
from mmearth.errors import EmptyAreaError, MMEarthError, ModelError
from mmearth.files import check_space
from mmearth.inference.predict import Computation, compute_rows, in_cells
from mmearth.jobs import areas, mapping
from mmearth.jobs import prepare as preparing
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import Prepared, prepare, remember_speed
from mmearth.jobs.work import Work
from mmearth.models.card import ModelCard
from mmearth.models.features import FeatureNetwork
from mmearth.models.network import loaded
from mmearth.models.registry import find_model
from mmearth.raster import write
from mmearth.raster.components import Components, find_components
from mmearth.raster.features import read_features
from mmearth.raster.grid import Grid
from mmearth.raster.mask import MaskReader
from mmearth.raster.source import open_raster
from mmearth.settings import Settings

__all__ = ["plan", "run"]

MAPPING_SHARE = 0.9  # of the progress bar; the rest is for the picture and finishing the files


def plan(spec: EmbedSpec, settings: Settings) -> Plan:
    """Say what a request would do. What stands in its way is collected, not raised.

    The grid is that of the rasters: how much coarser features are, only the loaded network knows.
    """
    result = preparing.plan(spec, settings)
    try:
        mapping.targets(spec.outputs)
        _require_encoder(find_model(spec.model, settings.model_folders))
    except MMEarthError as error:
        problem = Problem.of(error)
        if problem not in result.errors:
            result.errors.append(problem)
    return result


def _require_encoder(card: ModelCard) -> None:
    if card.is_onnx:
        raise ModelError(
            f"{card.title} is an ONNX file, whose features are out of reach.",
            "Choose a model that did not come as ONNX.",
        )


def run(spec: EmbedSpec, context: JobContext) -> EmbedResult:
    """Compute features, and a picture of them if it is asked for.

    A pixel of the result is as large as one of the encoder's feature map of that stride. A run that
    was cancelled or killed goes on where it stopped when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the rasters", None)
    targets = mapping.targets(spec.outputs)
    mapping.keep_inputs(targets, [Path(item.path) for item in spec.inputs])
    ready = prepare(spec, context.settings)
    mapping.keep_inputs(targets, mapping.files_read(ready))
    _require_encoder(ready.card)
    network = loaded(FeatureNetwork, ready.card, context.settings, spec.stride)
    grid = coarser(ready.grid, network.cell)
    layers = _layers(mapping.provenance(spec, ready), network)
    bytes_needed = grid.width * grid.height * sum(layer.pixel_bytes for layer in layers.values())
    write.check_writable(list(targets.values()), bytes_needed)
    folder = context.settings.work_folder / mapping.fingerprint(ready, network.cell)
    with Work(folder, targets) as work:
        check_space(work.folder, bytes_needed)
        if not work.rows_done:
            write.create_working(work.path("features"), grid, layers["features"])
        _compute(ready, network, grid, work, context)
        context.report(MAPPING_SHARE, "Looking at the features", None)
        try:
            lacking = _count_empty(ready, network.cell, work.path("features"), context)
        except EmptyAreaError:
            work.remove()
            raise
        components = None
        if "view" in targets:
            components = _view(grid, layers, work, context)
        for name, target in targets.items():
            context.check_cancelled()
            context.report((1 + MAPPING_SHARE) / 2, f"Writing {target.name}", None)
            write.publish(work.path(name), work.staging.path(name), layers[name])
        context.check_cancelled()
        work.staging.publish()
        work.remove()
    return EmbedResult(
        outputs=EmbedOutputs(**{name: str(path) for name, path in targets.items()}),
        features=network.channels,
        explained=list(components.explained) if components else [],
        nodata_pixels=lacking.empty_pixels,
        masked_pixels=lacking.masked_pixels,
        grid=grid.info(),
        model=ready.card.id,
        model_title=ready.card.title,
        warnings=ready.warnings,
        seconds=context.elapsed(),
    )


def coarser(grid: Grid, cell: int) -> Grid:
    """Return the grid of cells of several pixels; the last ones may reach beyond the scene.

    Args:
        grid: of the pixels.
        cell: pixels along a side of a cell.
    """
    return replace(
        grid,
        transform=grid.transform @ Affine.scale(cell),
        width=math.ceil(grid.width / cell),
        height=math.ceil(grid.height / cell),
    )


def _layers(tags: dict[str, str], network: FeatureNetwork) -> dict[str, write.Layer]:
    """Return the working rasters of the results."""
    tags = {
        **tags,
        "MMEARTH_ENCODER": network.card.network.encoder,
        "MMEARTH_STRIDE": str(network.cell),
    }
    names = tuple(f"feature {number}" for number in range(1, network.channels + 1))
    shown = tuple(f"principal component {number}" for number in (1, 2, 3))
    return {
        "features": write.Layer("values", names, tags),
        "view": write.Layer("picture", shown, tags),
    }


def _compute(
    ready: Prepared, network: FeatureNetwork, grid: Grid, work: Work, context: JobContext
) -> None:
    """Compute the rows that are not yet done, and write them to the working raster."""
    if work.rows_done >= grid.height:
        return
    clock = mapping.Clock(context, ready.layout, work.rows_done * network.cell, MAPPING_SHARE)
    computed = 0
    for band in compute_rows(
        ready.stack(),
        Computation(network.features, network.channels, network.device, network.cell),
        ready.layout,
        network.workload(ready.layout.rows.tile),
        first_row=work.rows_done,
        progress=clock.tick,
        cancelled=context.is_cancelled,
    ):
        values = band.values.numpy()
        values[:, ~band.valid] = np.nan
        write.write_rows(work.path("features"), band.start, values)
        work.mark(band.start + band.valid.shape[0])
        computed += band.computed
    if computed > 1:
        remember_speed(ready, computed, clock.seconds, context.settings)


def _count_empty(ready: Prepared, cell: int, features: Path, context: JobContext) -> areas.Areas:
    """Count the pixels without features, which is so in all bands or none.

    Raises:
        EmptyAreaError: if none has any.
    """
    empty = masked = 0
    with (
        open_raster(str(features)) as dataset,
        MaskReader(ready.masks, ready.grid) as reader,
    ):
        for start in range(0, dataset.height, 64):
            context.check_cancelled()
            rows = min(64, dataset.height - start)
            values = dataset.read(1, window=Window(0, start, dataset.width, rows))
            lacking = np.isnan(values)
            empty += int(lacking.sum())
            if ready.masks:
                last = min(ready.grid.height, (start + rows) * cell)
                clouded = in_cells(reader.clouded(start * cell, last), cell)
                masked += int((lacking & clouded).sum())
        if empty == dataset.width * dataset.height:
            raise areas.nothing_left(masked)
    return areas.Areas([], empty - masked, masked)


def _view(
    grid: Grid, layers: dict[str, write.Layer], work: Work, context: JobContext
) -> Components | None:
    """Write the picture of the first three principal components to its working raster."""
    context.report(MAPPING_SHARE, "Finding the colours of the picture", None)
    features, view = str(work.path("features")), work.path("view")
    components = find_components(features, context.check_cancelled)
    write.create_working(view, grid, layers["view"])
    for rows in read_features(features):
        context.check_cancelled()
        picture = np.full((3, *rows.valid.shape), write.PICTURE_NODATA, np.uint8)
        if components:
            picture[:, rows.valid] = components.picture(rows.values[:, rows.valid])
        write.write_rows(view, rows.start, picture)
    return components
