"""What jobs that map classes share: how large each class is, as numbers and as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from mmearth.api import ClassArea
from mmearth.errors import EmptyAreaError
from mmearth.files import staged
from mmearth.models.card import ClassRow
from mmearth.raster import write
from mmearth.raster.area import PixelAreas
from mmearth.raster.grid import Grid
from mmearth.raster.mask import Mask, MaskReader

ROWS = 256  # read at once


@dataclass(frozen=True)
class Areas:
    """What a class map holds.

    Attributes:
        classes: a row for each class.
        empty_pixels: without a class, because there is no data.
        masked_pixels: without a class, because a mask leaves them out.
        masked_hectares: their area on the ellipsoid.
    """

    classes: list[ClassArea]
    empty_pixels: int
    masked_pixels: int
    masked_hectares: float = 0.0


def sum_up(
    path: Path,
    grid: Grid,
    classes: Sequence[ClassRow],
    masks: Sequence[Mask],
    check_cancelled: Callable[[], None],
) -> Areas:
    """Sum up pixels and hectares of each class of a map.

    Args:
        path: class map, uint8, 0 = no data.
        grid: of the map.
        classes: what its values mean.
        masks: what has left pixels out.
        check_cancelled: raises to stop.

    Raises:
        EmptyAreaError: if no pixel has a class.
        RasterReadError: if a mask is damaged.
    """
    areas = PixelAreas(grid)
    pixels = np.zeros(256, np.int64)
    square_metres = np.zeros(256)
    masked, masked_metres = 0, 0.0
    with rasterio.open(path) as source, MaskReader(masks, grid) as reader:
        for start in range(0, grid.height, ROWS):
            check_cancelled()
            stop = min(grid.height, start + ROWS)
            values = source.read(1, window=Window(0, start, grid.width, stop - start))
            pixels += np.bincount(values.ravel(), minlength=256)
            weights = areas.rows(start, stop)
            square_metres += np.bincount(values.ravel(), weights.ravel(), minlength=256)
            if masks:
                left_out = reader.clouded(start, stop) & (values == write.CLASS_NODATA)
                masked += int(left_out.sum())
                masked_metres += float(weights[left_out].sum())
    empty = int(pixels[write.CLASS_NODATA])
    if empty == grid.width * grid.height:
        raise nothing_left(masked)
    total = square_metres[1:].sum()
    rows = [
        ClassArea(
            value=row.value,
            name=row.name,
            title=row.title,
            color=row.color,
            pixels=int(pixels[row.value]),
            hectares=square_metres[row.value] / 10_000,
            percent=100 * square_metres[row.value] / total if total else 0.0,
        )
        for row in classes
    ]
    return Areas(rows, empty - masked, masked, masked_metres / 10_000)


def nothing_left(masked_pixels: int) -> EmptyAreaError:
    """Return the error to raise when there is nothing to map."""
    if masked_pixels:
        return EmptyAreaError(
            f"There is nothing to map in the chosen area: the mask of clouds and bad pixels leaves "
            f"out {masked_pixels:,} pixels, and the others have no data.",
            "Choose another area or a clearer scene, or check which values of the mask count.",
        )
    return EmptyAreaError(
        "There is no data in the chosen area: each pixel lacks at least one band.",
        "Choose an area that all rasters cover.",
    )


def write_table(target: Path, areas: Areas) -> None:
    """Write the area table, CSV: a row a class, and one of what a mask leaves out, if any.

    Cover is told if it is known; what is left out is no part of the percentages.

    Raises:
        OutputError: if it cannot be written.
    """
    head: list[object] = ["class", "name", "title", "pixels", "area_ha", "percent"]
    covers = any(row.cover_hectares is not None for row in areas.classes)
    lines = [head + ["cover_ha", "cover_percent"] * covers]
    for row in areas.classes:
        lines.append([row.value, row.name, row.title, row.pixels])
        lines[-1] += [f"{row.hectares:.4f}", f"{row.percent:.2f}"]
        if row.cover_hectares is not None:
            lines[-1] += [f"{row.cover_hectares:.4f}", f"{row.cover_percent:.2f}"]
    if areas.masked_pixels:
        facts = [write.CLASS_NODATA, "masked", "Left out by a mask", areas.masked_pixels]
        lines.append([*facts, f"{areas.masked_hectares:.4f}", *[""] * (1 + 2 * covers)])
    write_csv(target, lines)


def write_csv(target: Path, lines: Sequence[Sequence[object]]) -> None:
    """Write a table whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    with staged(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def class_layer(band: str, classes: Sequence[ClassRow], tags: Mapping[str, str]) -> write.Layer:
    """Return the working raster of a class map, with what its values mean.

    Args:
        band: description of the band.
        classes: all that there may be.
        tags: provenance.
    """
    described = [row.model_dump(include={"value", "name", "title", "color"}) for row in classes]
    named = {**tags, write.CLASSES_TAG: json.dumps(described, ensure_ascii=False)}
    palette = {
        row.value: (
            (int(row.color[1:3], 16), int(row.color[3:5], 16), int(row.color[5:7], 16)),
            row.title,
        )
        for row in classes
    }
    return write.Layer("classes", (band,), named, palette)
