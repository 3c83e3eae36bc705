"""Places of a vector file on a grid: which pixels each point or polygon stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyogrio.raw
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from mmearth.errors import InputError, MissingCrsError
from mmearth.raster.grid import Grid, parse_crs

POINT, POLYGON = shapely.GeometryType.POINT, shapely.GeometryType.POLYGON


@dataclass(frozen=True)
class Places:
    """Pixels of places, one place after another.

    Attributes:
        pixels: (n,) int64, row x width + column, of each pixel of each place.
        owners: (n,) int64, place of each of these, from 0.
        count: number of places, those outside included.
    """

    pixels: NDArray[np.int64]
    owners: NDArray[np.int64]
    count: int


def read_places(path: str, layer: str | None, grid: Grid) -> Places:
    """Find the pixels of points and polygons.

    A point stands for the pixel that it lies in; a polygon for the pixels whose centres it holds,
    or, if there is none, for the one under a point inside it. What lies outside stands for nothing.

    Args:
        path: vector file in any format that GDAL reads.
        layer: its layer; the first one if None.
        grid: pixels, in any coordinate reference system.

    Raises:
        InputError: if the file cannot be read, holds no place, or holds lines.
        MissingCrsError: if it has no coordinate reference system.
    """
    shapes, crs = _read(path, layer)
    shapes = [_reprojected(shape, crs, grid.crs) for shape in shapes]
    pixels = [_pixels(shape, grid) for shape in shapes]
    owners = np.repeat(np.arange(len(pixels)), [len(found) for found in pixels])
    return Places(np.concatenate(pixels), owners, len(pixels))


def _read(path: str, layer: str | None) -> tuple[list[shapely.Geometry], CRS]:
    try:
        meta, _, geometries, _ = pyogrio.raw.read(path, layer=layer or 0, columns=[])
        shapes = shapely.force_2d(shapely.from_wkb([] if geometries is None else geometries))
    except (DataSourceError, DataLayerError, FeatureError, CRSError) as error:
        raise InputError(
            f"The places cannot be read from {path}: {error}.",
            "Choose a vector file of points or polygons, and one of its layers.",
        ) from error
    except shapely.errors.GEOSException as error:
        raise InputError(
            f"{path} holds geometries that cannot be read: {error}.",
            "Convert them to plain points or polygons, for example with 'Segmentize'.",
        ) from error
    # A feature without a geometry is no place.
    found = [shape for shape in shapes if shape is not None and not shape.is_empty]
    if not found:
        raise InputError(f"{path} holds no places.", "Add at least one point or polygon.")
    for part in _parts(found):
        if shapely.get_type_id(part) not in (POINT, POLYGON):
            raise InputError(
                f"Expected points or polygons, found a {part.geom_type} in {path}.",
                "Choose a layer of points or polygons; lines can be buffered.",
            )
    if not meta["crs"]:
        raise MissingCrsError(
            f"{path} has no coordinate reference system, so its places are not on the map.",
            "Assign one to the layer and try again.",
        )
    return found, parse_crs(meta["crs"])


def _parts(shapes: list[shapely.Geometry]) -> list[shapely.Geometry]:
    """Return the single geometries of multiple ones, and of collections within collections."""
    parts = list(shapely.get_parts(shapes))
    if any(hasattr(part, "geoms") for part in parts):
        return _parts(parts)
    return [part for part in parts if not part.is_empty]


def _reprojected(shape: shapely.Geometry, crs: CRS, to: CRS) -> shapely.Geometry:
    if crs == to:
        return shape
    try:
        transformer = Transformer.from_crs(crs.to_wkt(), to.to_wkt(), always_xy=True)
    except ProjError as error:
        raise InputError(
            f"Positions of the places cannot be expressed in the features' reference system: "
            f"{error}.",
            "Save the places in the coordinate reference system of the features.",
        ) from error
    return shapely.transform(shape, transformer.transform, interleaved=False)


def _pixels(shape: shapely.Geometry, grid: Grid) -> NDArray[np.int64]:
    """Return the pixels of a place, each once."""
    inverse = ~grid.transform
    found = [_of_part(part, grid, inverse) for part in _parts([shape])]
    return np.unique(np.concatenate(found))


def _of_part(part: shapely.Geometry, grid: Grid, inverse: Affine) -> NDArray[np.int64]:
    if not np.isfinite(shapely.get_coordinates(part)).all():
        return np.zeros(0, np.int64)  # the features' projection does not reach there
    if shapely.get_type_id(part) == POLYGON:
        inside = _of_polygon(part, grid, inverse)
        if inside.size:
            return inside
        part = part.representative_point()
    col, row = (int(np.floor(value)) for value in inverse @ (part.x, part.y))
    if not (0 <= row < grid.height and 0 <= col < grid.width):
        return np.zeros(0, np.int64)
    return np.array([row * grid.width + col], np.int64)


def _of_polygon(polygon: shapely.Geometry, grid: Grid, inverse: Affine) -> NDArray[np.int64]:
    """Return the pixels whose centres a polygon holds; only its surroundings are looked at."""
    xs, ys = shapely.get_coordinates(polygon).T
    cols = inverse.a * xs + inverse.b * ys + inverse.c
    rows = inverse.d * xs + inverse.e * ys + inverse.f
    left, right = max(0, int(np.floor(cols.min()))), min(grid.width, int(np.ceil(cols.max())))
    top, bottom = max(0, int(np.floor(rows.min()))), min(grid.height, int(np.ceil(rows.max())))
    if left >= right or top >= bottom:
        return np.zeros(0, np.int64)
    mask = rasterio.features.rasterize(
        [polygon],
        out_shape=(bottom - top, right - left),
        transform=grid.transform @ Affine.translation(left, top),
        dtype="uint8",
    )
    row, col = np.nonzero(mask)
    return np.asarray((row + top) * grid.width + col + left, np.int64)
