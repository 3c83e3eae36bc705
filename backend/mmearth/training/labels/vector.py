"""Labels that a user has drawn, as pixels of the model's grid.

The rule: a polygon labels the pixels whose centre it covers, a line those that it runs through, a
point the one that it lies in. Pixels that two classes claim are left out. Only labelled pixels are
held, so a few polygons on a large scene cost little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from mmearth.api import Problem
from mmearth.errors import InputError, MissingCrsError, listed
from mmearth.raster.grid import Grid
from mmearth.training.labels.base import (
    CHOOSE_FIELD,
    Labels,
    class_text,
    is_whole,
    limit_classes,
    warning,
)
from mmearth.training.labels.squares import MOST_PIXELS, SQUARE, Squares


def read_vector_labels(
    path: str, field: str, grid: Grid, *, layer: str | None = None, wanted: Sequence[str] = ()
) -> Labels:
    """Read polygons, lines or points and burn them on a grid.

    Args:
        path: file or data source that GDAL reads as vectors.
        field: holds the class, a number or a text; features without a value are left out.
        grid: of the model's input.
        layer: of the file; every layer that has the field if None.
        wanted: classes, in order, features of others are left out; all in their natural order if
            empty.

    Raises:
        InputError: if it cannot be read, lacks the field, holds no class or far too many, or no
            feature lies on the grid.
        MissingCrsError: if a layer does not say where it is.
    """
    warnings: list[Problem] = []
    drawn = _read_layers(path, field, layer, grid)
    if missing := [n for n, v in zip(drawn.numbers, drawn.values, strict=True) if v is None]:
        warnings.append(
            warning(
                "empty_class",
                f"Features {listed(missing)} have no value in {field!r}; left out.",
                "Give them a class, or delete them.",
            )
        )
    names = list(wanted) or _class_names(drawn.values, field)
    limit_classes(len(names), f"the field {field!r}")
    others = {value for value in drawn.values if value is not None} - set(names)
    if others:
        warnings.append(
            warning(
                "other_class", f"Labels of {listed(sorted(others))} are not asked for; left out."
            )
        )
    usable = _repaired(drawn, warnings)
    numbers = {name: number for number, name in enumerate(names)}
    asked = {
        unit: (shape, numbers[value])
        for unit, (shape, value) in enumerate(zip(usable, drawn.values, strict=True))
        if value in numbers and shape is not None
    }
    squares = _squares(asked.values(), grid, warnings)
    outside, small, found = [], [], []
    for unit, (shape, number) in asked.items():
        pixels = _burn(shape, grid, squares)
        if pixels is None:
            outside.append(drawn.numbers[unit])
        elif not pixels.size:
            small.append(drawn.numbers[unit])
        else:
            found.append(_Burnt(pixels, number, unit))
    if outside:
        warnings.append(
            warning(
                "outside",
                f"Features {listed(outside)} lie outside the rasters; left out.",
                "Move or delete them, or choose rasters that show where they are.",
            )
        )
    if small:
        warnings.append(
            warning(
                "small",
                f"Features {listed(small)} cover no pixel's centre; left out.",
                "Draw them larger, or as points.",
            )
        )
    if not found:
        raise InputError(
            f"None of the {len(drawn.values):,} labels lies on the rasters, or has a class that is "
            "asked for.",
            "Draw labels where the rasters are, or choose the rasters that were labelled.",
        )
    labels = _without_conflicts(found, tuple(names), grid, warnings)
    return replace(labels, features=tuple(drawn.numbers))


@dataclass(frozen=True)
class _Drawn:
    shapes: NDArray[np.object_]  # in coordinates of the grid
    values: list[str | None]
    numbers: list[str]  # of the features, for messages


@dataclass(frozen=True)
class _Burnt:
    pixels: NDArray[np.int64]  # row x width + col
    number: int  # of the class
    unit: int


def _read_layers(path: str, field: str, layer: str | None, grid: Grid) -> _Drawn:
    """Read a layer, or all that have the field."""
    name = Path(path).name
    try:
        layers = [layer] if layer else [str(row[0]) for row in pyogrio.list_layers(path)]
        fields = {found: list(pyogrio.read_info(path, layer=found)["fields"]) for found in layers}
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(
            f"The labels {name} cannot be read: {error}.", "Choose a vector layer that opens."
        ) from error
    chosen = [found for found in layers if field in fields[found]]
    if not chosen:
        known = listed(sorted({one for found in fields.values() for one in found})) or "none"
        raise InputError(f"{name} has no field {field!r}; it has {known}.", CHOOSE_FIELD)
    parts = [_read_layer(path, field, found, grid, several=len(chosen) > 1) for found in chosen]
    values = [value for part in parts for value in part.values]
    if not values:
        raise InputError(f"{name} holds no features.", "Draw some labels, and save the layer.")
    return _Drawn(
        np.concatenate([part.shapes for part in parts]),
        values,
        [number for part in parts for number in part.numbers],
    )


def _read_layer(path: str, field: str, layer: str, grid: Grid, *, several: bool) -> _Drawn:
    name = f"{Path(path).name}, layer {layer}," if several else Path(path).name
    try:
        meta, fids, geometry, columns = pyogrio.raw.read(
            path, layer=layer, columns=[field], return_fids=True
        )
    except (DataSourceError, DataLayerError, FieldError, OSError) as error:
        raise InputError(
            f"The labels {name} cannot be read: {error}.", "Choose a vector layer that opens."
        ) from error
    if not len(fids):
        return _Drawn(np.empty(0, object), [], [])
    if geometry is None:
        raise InputError(f"{name} is a table without geometries.", "Choose a layer of polygons.")
    if not meta["crs"]:
        raise MissingCrsError(
            f"{name} does not say where it is: it has no coordinate system.",
            "Assign one in the layer's properties.",
        )
    shapes, places = _apart(shapely.from_wkb(geometry))
    values = [class_text(value) for value in columns[0][places]]
    numbers = [f"{layer} {fid}" if several else str(fid) for fid in fids[places]]
    return _Drawn(reprojected(shapes, CRS(meta["crs"]), grid), values, numbers)


def _apart(shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Take features of several parts apart: dissolved by class, a layer would be one unit a class.

    Returns:
        The parts, and the place of the feature of each.
    """
    several = shapely.get_num_geometries(shapes) > 1
    parts, owners = shapely.get_parts(shapes[several], return_index=True)
    places = np.concatenate([np.flatnonzero(~several), np.flatnonzero(several)[owners]])
    order = np.argsort(places, kind="stable")
    return np.concatenate([shapes[~several], parts])[order], places[order]


def _class_names(values: Sequence[str | None], field: str) -> list[str]:
    names = {value for value in values if value is not None}
    if not names:
        raise InputError(f"No feature has a value in the field {field!r}.", CHOOSE_FIELD)
    return sorted(names, key=int) if all(map(is_whole, names)) else sorted(names)


def reprojected(shapes: NDArray[np.object_], crs: CRS, grid: Grid) -> NDArray[np.object_]:
    """Return geometries in the coordinates of a grid.

    Raises:
        InputError: if there are none.
    """
    target = CRS(grid.crs.to_wkt())
    if crs == target:
        return shapes
    try:
        change = Transformer.from_crs(crs, target, always_xy=True)
    except CRSError as error:
        raise InputError(
            f"The labels' coordinates cannot be expressed in the image's: {error}.",
            "Reproject the layer to the image's coordinate system.",
        ) from error

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(change.transform(points[:, 0], points[:, 1]), axis=1)

    return shapely.transform(shapely.force_2d(shapes), moved)


def _repaired(drawn: _Drawn, warnings: list[Problem]) -> list[Any]:
    """Return geometries that can be burnt, None for those that cannot; polygons are untangled."""
    numbers = drawn.numbers
    missing = shapely.is_missing(drawn.shapes) | shapely.is_empty(drawn.shapes)
    nowhere = ~missing & ~np.isfinite(shapely.bounds(drawn.shapes)).all(axis=1)
    if nowhere.any():
        lost = [numbers[place] for place in np.flatnonzero(nowhere).tolist()]
        warnings.append(
            warning(
                "no_place",
                f"Features {listed(lost)} have coordinates that the image's coordinate system "
                "cannot express; left out.",
                "Check the coordinate system of the layer, or delete them.",
            )
        )
    shapes = drawn.shapes.copy()
    shapes[nowhere] = None
    valid = shapely.is_valid(shapes)
    crossed = [
        numbers[place] for place in np.flatnonzero(~valid & ~shapely.is_missing(shapes)).tolist()
    ]
    if crossed:
        warnings.append(
            warning(
                "crossing",
                f"Outlines of features {listed(crossed)} cross themselves; what they enclose was "
                "guessed.",
                "Repair them with ‘Fix geometries’.",
            )
        )
    mended = np.where(valid, shapes, shapely.make_valid(shapes))
    empty = shapely.is_missing(mended) | shapely.is_empty(mended)
    lost = [numbers[place] for place in np.flatnonzero(empty & ~nowhere).tolist()]
    if lost:
        warnings.append(
            warning(
                "no_geometry",
                f"Features {listed(lost)} have no shape; left out.",
                "Draw them anew, or delete them.",
            )
        )
    return [None if gone else shape for gone, shape in zip(empty, mended, strict=True)]


def _squares(asked: Collection[tuple[Any, int]], grid: Grid, warnings: list[Problem]) -> Squares:
    """Choose where labels are taken from, if they cover more than is needed."""
    squares = Squares(grid)
    shapes = np.array([shape for shape, _ in asked], object)
    pixel = abs(grid.transform.determinant)
    if shapely.area(shapely.clip_by_rect(shapes, *grid.bounds)).sum() <= MOST_PIXELS * pixel:
        return squares
    rows, cols = np.mgrid[: squares.used.shape[0], : squares.used.shape[1]].reshape(2, -1) * SQUARE
    wide, _, left, _, high, top, *_ = grid.transform
    xs, ys = left + wide * cols, top + high * rows
    boxes = shapely.box(xs, ys + high * SQUARE, xs + wide * SQUARE, ys)
    place, square = shapely.STRtree(boxes).query(shapes, "intersects")
    classes = np.array([number for _, number in asked])[place]
    squares.choose(*np.unique(np.stack([square, classes]), axis=1))
    warnings.append(squares.told())
    return squares


def _burn(shape: Any, grid: Grid, squares: Squares) -> NDArray[np.int64] | None:
    """Return the used pixels of a shape as row x width + col; None if it lies outside."""
    bounds = shapely.bounds(shape)
    inverse = ~grid.transform
    left, top = inverse @ (bounds[0], bounds[3])
    right, bottom = inverse @ (bounds[2], bounds[1])
    first_col, first_row = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
    # A point on the far edge of its pixel still has a window of one pixel.
    last_col = min(grid.width, int(np.floor(right)) + 1)
    last_row = min(grid.height, int(np.floor(bottom)) + 1)
    if first_col >= last_col or first_row >= last_row:
        return None
    window = grid.transform @ Affine.translation(first_col, first_row)
    mask = rasterio.features.rasterize(
        [(shape, 1)], (last_row - first_row, last_col - first_col), transform=window, dtype="uint8"
    )
    rows, cols = np.nonzero(mask & squares.mask(first_row, first_col, *mask.shape))
    return (rows + first_row).astype(np.int64) * grid.width + cols + first_col


def _without_conflicts(
    found: Sequence[_Burnt], names: tuple[str, ...], grid: Grid, warnings: list[Problem]
) -> Labels:
    """Join what was burnt; of pixels drawn twice the first unit counts, if the classes agree."""
    pixels = np.concatenate([item.pixels for item in found])
    classes = np.concatenate([np.full(item.pixels.size, item.number) for item in found])
    units = np.concatenate([np.full(item.pixels.size, item.unit) for item in found])
    _, first, inverse = np.unique(pixels, return_index=True, return_inverse=True)
    disputed = np.zeros(first.size, bool)
    disputed[inverse[classes != classes[first][inverse]]] = True
    if disputed.any():
        warnings.append(
            warning(
                "overlap",
                f"Labels of different classes overlap on {disputed.sum():,} pixels; left out.",
                "Draw each place with one class.",
            )
        )
    kept = first[~disputed]
    if not kept.size:
        raise InputError(
            "Every labelled pixel is claimed by two classes.", "Draw each place with one class."
        )
    rows, cols = np.divmod(pixels[kept], grid.width)
    return Labels(names, rows, cols, classes[kept], units[kept], tuple(warnings))
