"""Density of one class, such as tree cover: its calibrated probability, by pixel and by cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import ClassArea, Problem, SegmentSpec
from mmearth.errors import ModelError
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.models.card import Product
from mmearth.raster import write
from mmearth.raster.area import PixelAreas
from mmearth.raster.cells import cell_grid, cell_means, ground_side_m
from mmearth.raster.grid import Grid

# Areas of the class that differ by so large a part of the larger one, and by so much of the ground,
# are told apart in words.
UNLIKE, UNLIKE_PERCENT = 0.2, 1.0
STEPS = 10_000  # a probability of 1 as it is stored; fine enough that means are not off by rounding
ROWS_AT_ONCE = 256


def is_wanted(spec: SegmentSpec) -> bool:
    """Tell whether a density is asked for, by pixel or by cell."""
    return bool(spec.outputs.density or spec.outputs.density_cells)


def check_product(spec: SegmentSpec, product: Product) -> None:
    """Check that a product has a density, if one is asked for.

    Raises:
        ModelError: if it tells more than one class from the rest.
    """
    if is_wanted(spec) and not product.members:
        raise ModelError(
            f"{product.title} has no density: it maps {len(product.classes)} classes.",
            "Choose a product of one class against the rest, such as a tree mask.",
        )


def check_cells(spec: SegmentSpec, grid: Grid) -> list[Problem]:
    """Check the cells on the grid of a map, if they are asked for, and return what is odd of them.

    Raises:
        InputError: if there can be none of this size.
    """
    if not spec.outputs.density_cells:
        return []
    side = ground_side_m(cell_grid(grid, spec.cell_m), spec.cell_m)
    if side is None:
        return []
    return [
        Problem(
            code="cell_size",
            message=f"In the projection of this map, cells of {spec.cell_m:g} m measure "
            f"{side:,.0f} m on the ground.",
            advice="Reproject the rasters to UTM if the cells are to be true to size.",
        )
    ]


def layer(product: Product, tags: Mapping[str, str]) -> write.Layer:
    """Return the working raster of a density, by pixel."""
    return write.Layer("cover", (f"{product.classes[0].title}: cover in percent",), tags)


def quantise(probability: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return what is stored of a probability. (1, n, W), valid (n, W); to (1, n, W) uint16."""
    stored = (probability * STEPS).round().astype(np.uint16)
    stored[:, ~valid] = write.COVER_NODATA
    return stored


def with_cover(
    rows: list[ClassArea], density: Path, grid: Grid, context: JobContext
) -> list[ClassArea]:
    """Add the cover of the class and of the rest to their rows: sums of probability x area.

    Args:
        rows: of the class and of the rest; at least a pixel of them has data.
        density: working raster.
        grid: its grid.
        context: may cancel.
    """
    areas = PixelAreas(grid)
    covered = total = 0.0
    for start in range(0, grid.height, ROWS_AT_ONCE):
        context.check_cancelled()
        stop = min(grid.height, start + ROWS_AT_ONCE)
        values, valid = _read(density, grid, start, stop)
        weights = np.where(valid, areas.rows(start, stop), 0)
        covered += float((weights * values).sum()) / STEPS
        total += float(weights.sum())
    return [
        row.model_copy(
            update={"cover_hectares": area / 10_000, "cover_percent": 100 * area / total}
        )
        for row, area in zip(rows, (covered, total - covered), strict=True)
    ]


def unlike_mask(rows: list[ClassArea], product: Product) -> list[Problem]:
    """Tell why the map's area differs from what the probabilities add up to, if it does by much.

    Args:
        rows: of the class and of the rest, from ``with_cover``.
        product: that they are of.
    """
    row, cover = rows[0], rows[0].cover_hectares or 0.0
    apart = abs(row.hectares - cover)
    ground = sum(entry.hectares for entry in rows)
    if apart <= max(UNLIKE * max(row.hectares, cover), UNLIKE_PERCENT / 100 * ground):
        return []
    return [
        Problem(
            code="unlike_mask",
            message=f"{product.title}: {row.hectares:,.1f} ha, but the probabilities add up to "
            f"{cover:,.1f} ha. The map counts a pixel in full from {100 * product.threshold:.0f} % "
            "on and not at all below, the sum counts it by its probability; they differ where the "
            "model is in doubt.",
            advice="Take neither for the true area: a sample does that (sampledesign, assess).",
        )
    ]


def write_cells(
    spec: SegmentSpec, grid: Grid, work: Work, target: Path, pixels: write.Layer
) -> None:
    """Average the density over cells and write them: mean, and share of the ground with data.

    Args:
        spec: names the side of the cells.
        grid: of the map.
        work: holds the density.
        target: where to.
        pixels: the density by pixel.

    Raises:
        OutputError: if it cannot be written.
    """
    cells = cell_grid(grid, spec.cell_m)
    tags = {**pixels.tags, "MMEARTH_CELL": f"{spec.cell_m:g} m"}
    bands = (*pixels.bands, "ground with data in percent")
    found = write.Layer("cover", bands, tags)
    working = work.path("density_cells")
    write.create_working(working, cells, found)

    def read(start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return _read(work.path("density"), grid, start, stop)

    for first, means, share in cell_means(grid, cells, read):
        empty = np.isnan(means)
        stored = np.stack([np.where(empty, 0, means), share * STEPS]).round().astype(np.uint16)
        stored[0, empty] = write.COVER_NODATA
        write.write_rows(working, first, stored)
    write.publish(working, target, found)


def _read(
    density: Path, grid: Grid, start: int, stop: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read rows of the working raster: values (n, W), as they are stored, and valid (n, W)."""
    with rasterio.open(density) as source:
        stored = source.read(1, window=Window(0, start, grid.width, stop - start))
    return stored.astype(np.float32), stored != write.COVER_NODATA
