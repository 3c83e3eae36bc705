"""Map the classes of a model over a raster stack."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from mmearth.api import SegmentOutputs, SegmentResult, SegmentSpec
from mmearth.errors import EmptyAreaError
from mmearth.files import check_space
from mmearth.inference.predict import RowBand, class_probabilities, compute_rows
from mmearth.jobs import areas, cluster, density, mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import Prepared, plan, prepare, remember_speed
from mmearth.jobs.work import Work
from mmearth.models.card import ModelCard, Product
from mmearth.models.network import Network, loaded
from mmearth.raster import write
from mmearth.raster.polygons import PolygonClass, write_polygons

__all__ = ["plan", "run"]

MAPPING_SHARE = 0.95  # of the progress bar; the rest is for finishing the files
ENDINGS = {"polygons": (".gpkg",), "table": (".csv",)}  # of other results: .tif


def run(spec: SegmentSpec, context: JobContext) -> SegmentResult:
    """Map, write what was asked for, and sum up the areas.

    A run that was cancelled or killed goes on where it stopped when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the rasters", None)
    targets = mapping.targets(spec.outputs, ENDINGS)
    mapping.keep_inputs(targets, [Path(item.path) for item in spec.inputs])
    ready = prepare(spec, context.settings)
    mapping.keep_inputs(targets, mapping.files_read(ready))
    product = ready.card.product(spec.product)
    products = _products(spec, ready, product)
    pixels = ready.grid.width * ready.grid.height
    bytes_needed = pixels * sum(layer.pixel_bytes for layer in products.values())
    write.check_writable(list(targets.values()), bytes_needed)
    folder = context.settings.work_folder / _fingerprint(spec, ready, product)
    with Work(folder, targets) as work:
        check_space(work.folder, bytes_needed)
        for name, layer in products.items():
            if not work.rows_done:
                write.create_working(work.path(name), ready.grid, layer)
        _map(spec, ready, product, products, work, context)
        context.report(MAPPING_SHARE, "Summing up areas", None)
        summed = _sum_up(ready, product, work, context)
        doubts = []
        if density.is_wanted(spec):
            path = work.path("density")
            rows = density.with_cover(summed.classes, path, ready.grid, context)
            summed = replace(summed, classes=rows)
            doubts = density.unlike_mask(rows, product)
        count = _finish(spec, ready, targets, products, work, summed, context)
        work.remove()
    return SegmentResult(
        outputs=SegmentOutputs(**{name: str(path) for name, path in targets.items()}),
        classes=summed.classes,
        nodata_pixels=summed.empty_pixels,
        masked_pixels=summed.masked_pixels,
        grid=ready.grid.info(),
        model=ready.card.id,
        model_title=ready.card.title,
        product=product.id,
        polygon_count=count,
        warnings=[*ready.warnings, *doubts],
        seconds=context.elapsed(),
    )


def _products(spec: SegmentSpec, ready: Prepared, product: Product) -> dict[str, write.Layer]:
    """Return the working rasters that the results are made of."""
    tags = {**mapping.provenance(spec, ready), "MMEARTH_PRODUCT": product.id}
    titles = tuple(f"{row.name} ({row.title})" for row in product.classes)
    layers = {"classes": areas.class_layer("class", product.classes, tags)}
    if spec.outputs.confidence or spec.outputs.polygons:
        layers["confidence"] = write.Layer("percent", ("confidence",), tags)
    if spec.outputs.probabilities:
        layers["probabilities"] = write.Layer("percent", titles, tags)
    if density.is_wanted(spec):
        layers["density"] = density.layer(product, tags)
    return layers


def _fingerprint(spec: SegmentSpec, ready: Prepared, product: Product) -> str:
    """Return a name for everything that decides the pixels of a result."""
    outputs = spec.outputs
    wanted = (
        bool(outputs.confidence or outputs.polygons),
        bool(outputs.probabilities),
        density.is_wanted(spec),
    )
    return mapping.fingerprint(ready, product.model_dump(mode="json"), wanted)


def _map(
    spec: SegmentSpec,
    ready: Prepared,
    product: Product,
    products: dict[str, write.Layer],
    work: Work,
    context: JobContext,
) -> None:
    """Compute the rows that are not yet done, and write them to the working rasters."""
    if work.rows_done >= ready.grid.height:
        return
    clock = mapping.Clock(context, ready.layout, work.rows_done, MAPPING_SHARE)
    computed = 0
    for band in _bands(spec, ready, work.rows_done, clock, context):
        rows = _quantise(band, product, ready.card, products)
        for name in products:
            write.write_rows(work.path(name), band.start, rows[name])
        work.mark(band.start + band.valid.shape[0])
        computed += band.computed
    if computed > 1 and not spec.scheduler:
        remember_speed(ready, computed, clock.seconds, context.settings)


def _bands(
    spec: SegmentSpec, ready: Prepared, first_row: int, clock: mapping.Clock, context: JobContext
) -> Iterator[RowBand]:
    """Compute rows from a first one on, here or on a cluster."""
    if spec.scheduler:
        return cluster.compute_rows(
            spec, ready, first_row=first_row, progress=clock.tick, cancelled=context.is_cancelled
        )
    network = loaded(Network, ready.card, context.settings)
    return compute_rows(
        ready.stack(),
        class_probabilities(network),
        ready.layout,
        network.workload(ready.layout.rows.tile),
        first_row=first_row,
        progress=clock.tick,
        cancelled=context.is_cancelled,
    )


def _quantise(
    band: RowBand, product: Product, card: ModelCard, wanted: Collection[str]
) -> dict[str, write.Rows]:
    """Turn probabilities into what is stored.

    Returns:
        classes (1, n, W) uint8, 0 = no data, and, if wanted, confidence (1, n, W) and
        probabilities (P, n, W) uint8 percent, 255 = no data, and density (1, n, W) uint16.
    """
    probabilities = product_probabilities(band.values, product, card.classes)
    if product.members:
        first = probabilities[0] >= product.threshold
        position = (~first).long()
        best = probabilities.gather(0, position[None])[0]
    else:
        best, position = probabilities.max(dim=0)
        if product.fallback is not None:
            unclear = best < product.threshold
            fallback = [row.name for row in product.classes].index(product.fallback)
            best = torch.where(unclear, probabilities[fallback], best)
            position = position.masked_fill(unclear, fallback)
    values = torch.tensor([row.value for row in product.classes], dtype=torch.uint8)
    classes = values[position].numpy()
    classes[~band.valid] = write.CLASS_NODATA
    rows: dict[str, write.Rows] = {"classes": classes[None]}
    for name, shares in (("confidence", best[None]), ("probabilities", probabilities)):
        if name in wanted:
            rows[name] = (shares * 100).round().to(torch.uint8).numpy()
            rows[name][:, ~band.valid] = write.PERCENT_NODATA
    if "density" in wanted:
        rows["density"] = density.quantise(probabilities[:1].numpy(), band.valid)
    return rows


def product_probabilities(
    probabilities: torch.Tensor, product: Product, classes: tuple[object, ...]
) -> torch.Tensor:
    """Return the probabilities of a product's classes. (K, H, W) float32 to (P, H, W)."""
    if not product.members:
        return probabilities
    names = [getattr(row, "name") for row in classes]  # noqa: B009
    inside = probabilities[[names.index(member) for member in product.members]].sum(dim=0)
    return torch.stack([inside, 1 - inside]).clamp(0, 1)


def _sum_up(ready: Prepared, product: Product, work: Work, context: JobContext) -> areas.Areas:
    """Sum up the classes; a map of nothing is not kept to go on from."""
    try:
        return areas.sum_up(
            work.path("classes"),
            ready.grid,
            product.classes,
            ready.masks,
            context.check_cancelled,
        )
    except EmptyAreaError:
        work.remove()
        raise


def _finish(
    spec: SegmentSpec,
    ready: Prepared,
    targets: dict[str, Path],
    products: dict[str, write.Layer],
    work: Work,
    summed: areas.Areas,
    context: JobContext,
) -> int | None:
    """Build every result, then move all into place; return the number of polygons, if any.

    A cancel, or a failure, is possible as long as they are built: the old results are still there.
    """
    count = None
    for number, (name, target) in enumerate(targets.items()):
        context.check_cancelled()
        share = MAPPING_SHARE + (1 - MAPPING_SHARE) * number / len(targets)
        context.report(share, f"Writing {target.name}", None)
        path = work.staging.path(name)
        if name == "table":
            areas.write_table(path, summed)
        elif name == "polygons":
            count = write_polygons(
                work.path("classes"),
                work.path("confidence"),
                path,
                ready.grid,
                {row.value: PolygonClass(row.name, row.title) for row in summed.classes},
                minimum_area_ha=spec.minimum_area_ha,
                scratch=work.folder,
                cancelled=context.check_cancelled,
            )
        elif name == "density_cells":
            density.write_cells(spec, ready.grid, work, path, products["density"])
        else:
            write.publish(work.path(name), path, products[name])
    context.check_cancelled()
    work.staging.publish()
    return count
