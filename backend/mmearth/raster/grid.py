"""North-up pixel grids: where pixels lie on the map and on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import rasterio.warp
from affine import Affine
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError  # rasterio.warp lets GDAL's own errors through
from rasterio.coords import BoundingBox
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from mmearth.api import Extent, GridInfo
from mmearth.errors import EmptyAreaError, InputError

# Two pixel grids count as one if they differ by less than this share of a pixel.
ALIGNMENT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Grid:
    """Rectangle of square-cornered pixels, rows downwards, columns to the right.

    Attributes:
        crs: coordinate reference system.
        transform: pixel corner (col, row) to map coordinates (x, y); no rotation.
        width: number of columns.
        height: number of rows.
    """

    crs: CRS
    transform: Affine
    width: int
    height: int

    @classmethod
    def of_dataset(cls, dataset: DatasetReader, crs: CRS) -> Grid:
        """Return the grid of a dataset, straightened if the dataset is rotated."""
        transform, width, height = dataset.transform, dataset.width, dataset.height
        if transform.b or transform.d or transform.a < 0 or transform.e > 0:
            transform, width, height = rasterio.warp.calculate_default_transform(
                crs,
                crs,
                width,
                height,
                *_corner_bounds(transform, width, height),
                # Left to GDAL, pixels would grow with the rectangle around the rotated raster.
                resolution=math.sqrt(abs(transform.determinant)),
            )
        return cls(crs, transform, width, height)

    @property
    def bounds(self) -> BoundingBox:
        """Outer edges: left, bottom, right, top in map units."""
        left, top = self.transform.c, self.transform.f
        right, bottom = self.transform @ (self.width, self.height)
        return BoundingBox(left, bottom, right, top)

    @property
    def pixel_m(self) -> float:
        """Side of a square of the ground area of the central pixel, in metres."""
        return math.sqrt(self.pixel_area_m2(self.height / 2, self.width / 2))

    def pixel_area_m2(self, row: float, col: float) -> float:
        """Return the ellipsoidal area of the pixel around a position, in square metres."""
        corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
        xs, ys = zip(*(self.transform @ (col + dx, row + dy) for dx, dy in corners), strict=True)
        lon, lat = to_geographic(self.crs.to_wkt()).transform(xs, ys)
        area, _ = _ELLIPSOID.polygon_area_perimeter(lon, lat)
        return abs(area)

    def offset_of(self, other: Grid) -> tuple[int, int] | None:
        """Return (row, col) of this grid's origin in another grid, if their pixels coincide."""
        if self.crs != other.crs:
            return None
        a, b = self.transform, other.transform
        drift = max(
            abs(a.a - b.a) / abs(b.a) * max(self.width, 1),
            abs(a.e - b.e) / abs(b.e) * max(self.height, 1),
        )
        col, row = ~b @ (a.c, a.f)
        if drift > ALIGNMENT_TOLERANCE:
            return None
        if max(abs(col - round(col)), abs(row - round(row))) > ALIGNMENT_TOLERANCE:
            return None
        return round(row), round(col)

    def cropped(self, bounds: BoundingBox) -> Grid:
        """Return the pixels that a rectangle in this CRS touches.

        Raises:
            EmptyAreaError: if the rectangle lies outside.
        """
        inverse = ~self.transform
        left, top = inverse @ (bounds.left, bounds.top)
        right, bottom = inverse @ (bounds.right, bounds.bottom)
        # A hair inside, so that a bound which lies on a pixel edge takes no further pixel.
        slack = ALIGNMENT_TOLERANCE
        first_col, first_row = max(0, math.floor(left + slack)), max(0, math.floor(top + slack))
        last_col = min(self.width, math.ceil(right - slack))
        last_row = min(self.height, math.ceil(bottom - slack))
        if last_col <= first_col or last_row <= first_row:
            raise _no_overlap()
        transform = self.transform @ Affine.translation(first_col, first_row)
        return Grid(self.crs, transform, last_col - first_col, last_row - first_row)

    def cropped_to(self, bounds: BoundingBox, crs: CRS) -> Grid:
        """Return the pixels that a rectangle in any CRS touches.

        Raises:
            EmptyAreaError: if the rectangle lies outside.
            InputError: if one CRS cannot be expressed in the other.
        """
        if crs == self.crs:
            return self.cropped(bounds)
        if _square_degrees(self.bounds, self.crs) < _square_degrees(bounds, crs):
            # A projection fits part of the Earth; a larger rectangle would come out cut. So only
            # what lies around this grid is projected.
            own = bounds_in(crs, self.bounds, self.crs)
            if own.left > own.right:  # across the antimeridian
                own = own._replace(left=-180.0, right=180.0)
            bounds = BoundingBox(
                max(own.left, bounds.left),
                max(own.bottom, bounds.bottom),
                min(own.right, bounds.right),
                min(own.top, bounds.top),
            )
            if bounds == own:
                return self
            if bounds.left >= bounds.right or bounds.bottom >= bounds.top:
                raise _no_overlap()
        return self.cropped(bounds_in(self.crs, bounds, crs))

    def at_resolution(self, factor: float) -> Grid:
        """Return a grid of the same extent whose pixels are ``factor`` times as large."""
        width = max(1, round(self.width / factor))
        height = max(1, round(self.height / factor))
        scaling = Affine.scale(self.width / width, self.height / height)
        return Grid(self.crs, self.transform @ scaling, width, height)

    def info(self) -> GridInfo:
        """Describe the grid for the API."""
        return GridInfo(
            crs=crs_text(self.crs),
            width=self.width,
            height=self.height,
            transform=tuple(self.transform)[:6],
            pixel_m=round(self.pixel_m, 3),
        )


_ELLIPSOID = Geod(ellps="WGS84")


@lru_cache(maxsize=16)
def to_geographic(wkt: str) -> Transformer:
    """Return what turns x and y of a system, given as WKT, into longitude and latitude.

    Raises:
        InputError: if the system has no place on Earth.
    """
    try:
        return Transformer.from_crs(wkt, "EPSG:4326", always_xy=True)
    except ProjError as error:
        name = _name(CRS.from_wkt(wkt))
        raise InputError(
            f"A raster's coordinate reference system ({name}) has no place on Earth.",
            "Georeference the raster in a system of the Earth.",
        ) from error


def _no_overlap() -> EmptyAreaError:
    return EmptyAreaError(
        "The chosen area and the rasters do not overlap.",
        "Choose an area inside the rasters, and rasters that share ground.",
    )


def _corner_bounds(transform: Affine, width: int, height: int) -> tuple[float, ...]:
    corners = [transform @ (c, r) for c in (0, width) for r in (0, height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _square_degrees(bounds: BoundingBox, crs: CRS) -> float:
    """Return the size of the rectangle of longitude and latitude around a rectangle."""
    left, bottom, right, top = bounds_in(CRS.from_epsg(4326), bounds, crs)
    width = right - left if right > left else right - left + 360
    return width * (top - bottom)


def bounds_in(crs: CRS, bounds: BoundingBox, source: CRS) -> BoundingBox:
    """Return the rectangle in ``crs`` around a rectangle given in ``source``.

    Raises:
        InputError: if there is none.
    """
    if crs == source:
        return bounds
    try:
        result = BoundingBox(*rasterio.warp.transform_bounds(source, crs, *bounds, densify_pts=21))
    except (RasterioError, CPLE_BaseError) as error:
        raise _no_place(source, crs) from error
    if not np.isfinite(result).all():
        raise _no_place(source, crs)
    return result


def _no_place(source: CRS, crs: CRS) -> InputError:
    return InputError(
        f"Positions in {_name(source)} cannot be expressed in {_name(crs)}.",
        "Give the area and all rasters in coordinate reference systems of the same ground.",
    )


def _name(crs: CRS) -> str:
    return str(crs.to_dict(projjson=True).get("name", "a nameless system"))


def crs_text(crs: CRS) -> str:
    """Return the code of a CRS such as EPSG:32632, or its WKT if no code means exactly the same."""
    authority = crs.to_authority()  # the nearest code; datum or ellipsoid may be another
    if authority and CRS.from_authority(*authority) == crs:
        return ":".join(authority)
    return crs.to_wkt()


def parse_crs(text: str) -> CRS:
    """Read a CRS from an authority code or WKT.

    Raises:
        InputError: if it is neither.
    """
    try:
        return CRS.from_user_input(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no coordinate reference system.", "Use a code such as EPSG:32632, or WKT."
        ) from error


def extent_rectangle(extent: Extent) -> tuple[BoundingBox, CRS]:
    """Return the bounds of an extent and their CRS.

    Raises:
        InputError: if the extent is empty or unlimited, or its CRS is unknown.
    """
    left, bottom, right, top = extent.bounds
    if not (left < right and bottom < top):
        raise InputError(
            f"The area is empty: x {left} to {right}, y {bottom} to {top}.", "Draw it again."
        )
    if not np.isfinite(extent.bounds).all():
        raise InputError(
            f"The area has no limits: x {left} to {right}, y {bottom} to {top}.", "Draw it again."
        )
    return BoundingBox(left, bottom, right, top), parse_crs(extent.crs)
