"""Labels that a user has drawn, as pixels of the model's grid.

The rule: a polygon labels the pixels whose centre it covers, a line those that it runs through, a
point the one that it lies in. Pixels that two classes claim are left out. Only labelled pixels are
held, so a few polygons on a large scene cost little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.windows import Window

from mmearth.api import Problem
from mmearth.errors import InputError, MissingCrsError, listed
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster

MOST_CLASSES = 50  # a field of more values is no field of classes
BLOCK = 32  # pixels a side: the units of a label raster, which has no polygons
ROWS = 512  # of a label raster, read at once
CHOOSE_FIELD = "Choose the field that holds the class of each feature."


@dataclass(frozen=True)
class Labels:
    """Labelled pixels of a grid.

    A unit is what was drawn at once: a polygon, line or point; of a label raster, a block. Pixels
    of one unit resemble each other, so a unit is either learned from or tested on, never both.

    Attributes:
        names: of the classes, in the order of their numbers from 0.
        rows: (n,) int64.
        cols: (n,) int64.
        classes: (n,) int64, number of each pixel's class.
        units: (n,) int64, number of each pixel's unit, from 0.
        warnings: what was left out, and why.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    classes: NDArray[np.int64]
    units: NDArray[np.int64]
    warnings: tuple[Problem, ...] = ()

    @property
    def pixels_per_class(self) -> NDArray[np.int64]:
        """(K,) labelled pixels of each class."""
        return np.bincount(self.classes, minlength=len(self.names))

    @property
    def units_per_class(self) -> NDArray[np.int64]:
        """(K,) units of each class."""
        pairs = np.unique(np.stack([self.units, self.classes]), axis=1)
        return np.bincount(pairs[1], minlength=len(self.names))

    def chosen(self, wanted: NDArray[np.bool_]) -> Labels:
        """Return some of the pixels; the classes stay as they are. wanted: (n,) bool."""
        return Labels(
            self.names,
            self.rows[wanted],
            self.cols[wanted],
            self.classes[wanted],
            self.units[wanted],
            self.warnings,
        )


def read_vector_labels(path: str, field: str, grid: Grid, *, layer: str | None = None) -> Labels:
    """Read polygons, lines or points and burn them on a grid.

    Args:
        path: file or data source that GDAL reads as vectors.
        field: holds the class, a number or a text; features without a value are left out.
        grid: of the model's input.
        layer: of the file; its first one if None.

    Raises:
        InputError: if it cannot be read, lacks the field, holds no class or far too many, or no
            feature lies on the grid.
        MissingCrsError: if the layer does not say where it is.
    """
    shapes, values, numbers, crs = _read_features(path, field, layer)
    names = _class_names(values, field)
    warnings: list[Problem] = []
    if missing := sum(value is None for value in values):
        warnings.append(
            _warning("empty_class", f"{missing:,} features have no value in {field!r}; left out.")
        )
    usable = _repaired(_reprojected(shapes, crs, grid), numbers, warnings)
    outside, small, found = [], [], []
    for unit, (shape, value) in enumerate(zip(usable, values, strict=True)):
        if value is None or shape is None:
            continue
        pixels = _burn(shape, grid)
        if pixels is None:
            outside.append(numbers[unit])
        elif not pixels.size:
            small.append(numbers[unit])
        else:
            found.append(_Burnt(pixels, names.index(_text(value)), unit))
    if outside:
        warnings.append(
            _warning("outside", f"Features {listed(outside)} lie outside the rasters; left out.")
        )
    if small:
        warnings.append(
            _warning(
                "small",
                f"Features {listed(small)} cover no pixel's centre; left out.",
                "Draw them larger, or as points.",
            )
        )
    if not found:
        raise InputError(
            f"None of the {len(shapes):,} labels lies on the rasters.",
            "Draw labels where the rasters are, or choose the rasters that were labelled.",
        )
    return _without_conflicts(found, tuple(names), grid, warnings)


def read_raster_labels(path: str, grid: Grid, *, nodata: int = 0) -> Labels:
    """Read a raster of class codes that lies on the same pixels as the grid.

    Args:
        path: one band of whole numbers; 0 and the file's own no-data value are unlabelled.
        grid: of the model's input.
        nodata: also unlabelled.

    Raises:
        InputError: if it holds no whole numbers, none but no data, far too many codes, or lies on
            other pixels.
    """
    with open_raster(path) as dataset:
        if dataset.count != 1 or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(
                f"Expected a label raster with one band of whole numbers, found {dataset.count} "
                f"of {dataset.dtypes[0]}.",
                "Choose a raster of class codes.",
            )
        if dataset.crs is None:
            raise MissingCrsError(
                f"{Path(path).name} does not say where it is: it has no coordinate system.",
                "Assign one in the layer's properties and export it.",
            )
        own = Grid.of_dataset(dataset, dataset.crs)
        origin = grid.offset_of(own)
        if origin is None:
            raise InputError(
                f"The pixels of the label raster {Path(path).name} do not coincide with those of "
                "the image.",
                "Warp it to the image's grid with the nearest neighbour, or use polygons.",
            )
        unlabelled = {0, nodata, *(() if dataset.nodata is None else (int(dataset.nodata),))}
        parts = list(_raster_pixels(dataset, grid, origin, unlabelled))
    if not parts:
        raise InputError(
            f"The label raster {Path(path).name} labels no pixel of the image.",
            "Choose one that covers the image.",
        )
    rows, cols, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = np.unique(codes)
    _limit_classes(len(found), Path(path).name)
    blocks = (rows // BLOCK) * (grid.width // BLOCK + 1) + cols // BLOCK
    classes = np.searchsorted(found, codes)
    # Pixels of one block and class are a unit.
    _, units = np.unique(blocks * len(found) + classes, return_inverse=True)
    return Labels(tuple(str(code) for code in found), rows, cols, classes, units)


@dataclass(frozen=True)
class _Burnt:
    pixels: NDArray[np.int64]  # row x width + col
    number: int  # of the class
    unit: int


def _read_features(
    path: str, field: str, layer: str | None
) -> tuple[NDArray[np.object_], list[Any], list[str], CRS]:
    """Return geometries, values of the field, identifiers for messages, and the CRS."""
    name = Path(path).name
    try:
        meta, fids, geometry, columns = pyogrio.raw.read(
            path, layer=layer, columns=[field], return_fids=True
        )
    except FieldError as error:
        raise InputError(f"{name} cannot be read: {error}.", CHOOSE_FIELD) from error
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(
            f"The labels {name} cannot be read: {error}.", "Choose a vector layer that opens."
        ) from error
    if field not in list(meta["fields"]):
        known = listed(pyogrio.read_info(path, layer=layer)["fields"]) or "none"
        raise InputError(f"{name} has no field {field!r}; it has {known}.", CHOOSE_FIELD)
    if not len(fids):
        raise InputError(f"{name} holds no features.", "Draw some labels, and save the layer.")
    if geometry is None:
        raise InputError(f"{name} is a table without geometries.", "Choose a layer of polygons.")
    if not meta["crs"]:
        raise MissingCrsError(
            f"{name} does not say where it is: it has no coordinate system.",
            "Assign one in the layer's properties.",
        )
    values = [None if _is_empty(value) else value for value in columns[0]]
    return shapely.from_wkb(geometry), values, [str(fid) for fid in fids], CRS(meta["crs"])


def _is_empty(value: object) -> bool:
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _text(value: object) -> str:
    """Write a class as text; a column of whole numbers with gaps is read as one of decimals."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _class_names(values: Sequence[Any], field: str) -> list[str]:
    given = [value for value in values if value is not None]
    names = {_text(value) for value in given}
    if not names:
        raise InputError(f"No feature has a value in the field {field!r}.", CHOOSE_FIELD)
    _limit_classes(len(names), f"the field {field!r}")
    numeric = all(name.lstrip("-").isdigit() for name in names)
    return sorted(names, key=int) if numeric else sorted(names)


def _limit_classes(count: int, where: str) -> None:
    if count > MOST_CLASSES:
        raise InputError(
            f"Expected at most {MOST_CLASSES} classes, found {count:,} different values in "
            f"{where}.",
            CHOOSE_FIELD,
        )


def _reprojected(shapes: NDArray[np.object_], crs: CRS, grid: Grid) -> NDArray[np.object_]:
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


def _repaired(
    shapes: NDArray[np.object_], numbers: Sequence[str], warnings: list[Problem]
) -> list[Any]:
    """Return geometries that can be burnt, None for those that cannot; polygons are untangled."""
    valid = shapely.is_valid(shapes)
    crossed = [
        numbers[place] for place in np.flatnonzero(~valid & ~shapely.is_missing(shapes)).tolist()
    ]
    if crossed:
        warnings.append(
            _warning(
                "crossing",
                f"Outlines of features {listed(crossed)} cross themselves; what they enclose was "
                "guessed.",
                "Repair them with ‘Fix geometries’.",
            )
        )
    mended = np.where(valid, shapes, shapely.make_valid(shapes))
    empty = shapely.is_missing(mended) | shapely.is_empty(mended)
    lost = [numbers[place] for place in np.flatnonzero(empty).tolist()]
    if lost:
        warnings.append(_warning("no_geometry", f"Features {listed(lost)} are empty; left out."))
    return [None if gone else shape for gone, shape in zip(empty, mended, strict=True)]


def _burn(shape: Any, grid: Grid) -> NDArray[np.int64] | None:
    """Return the pixels of a shape as row x width + col; None if it lies outside."""
    bounds = np.array(shapely.bounds(shape))
    if not np.isfinite(bounds).all():  # cannot be expressed in the image's coordinates
        return None
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
    rows, cols = np.nonzero(mask)
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
            _warning(
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


def _raster_pixels(
    dataset: Any, grid: Grid, origin: tuple[int, int], unlabelled: set[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of the grid, and codes, of labelled pixels."""
    top, left = origin
    first_col, last_col = max(0, left), min(dataset.width, left + grid.width)
    for start in range(max(0, top), min(dataset.height, top + grid.height), ROWS):
        stop = min(start + ROWS, dataset.height, top + grid.height)
        if first_col >= last_col:
            return
        window = Window(first_col, start, last_col - first_col, stop - start)
        codes = dataset.read(1, window=window).astype(np.int64)
        rows, cols = np.nonzero(~np.isin(codes, list(unlabelled)))
        if rows.size:
            yield rows + start - top, cols + first_col - left, codes[rows, cols]


def _warning(code: str, message: str, advice: str = "") -> Problem:
    return Problem(code=code, message=message, advice=advice)
