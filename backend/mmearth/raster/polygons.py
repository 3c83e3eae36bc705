"""From a class map to polygons that follow its pixels exactly.

Neighbours share an edge, not only a corner (4-connectivity), so polygons never touch themselves and
their pixel counts add up to the map's. Regions are numbered block by block, so the map is never
held whole.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from mmearth.errors import InputError
from mmearth.files import explained, staged
from mmearth.raster.area import PixelAreas
from mmearth.raster.grid import Grid
from mmearth.raster.write import PERCENT_NODATA

BLOCK_ROWS = 512
BATCH = 20_000  # polygons written at once
LAYER_NAME = "classes"


@dataclass(frozen=True)
class PolygonClass:
    """Attributes of a class."""

    name: str
    title: str


def write_polygons(
    classes: Path,
    confidence: Path,
    target: Path,
    grid: Grid,
    names: dict[int, PolygonClass],
    *,
    minimum_area_ha: float = 0.0,
    scratch: Path,
    cancelled: Callable[[], None] = lambda: None,
) -> int:
    """Write a GeoPackage of the regions of a class map.

    Fields: ``class`` (code), ``name``, ``title``, ``area_ha`` (on the ellipsoid), ``pixels`` and
    ``confidence`` (mean probability of the mapped class, 0 to 1).

    Args:
        classes: class map, uint8, 0 = no data.
        confidence: percent of the mapped class, uint8, on the same grid.
        target: GeoPackage to write.
        grid: grid of the map.
        names: attributes by class code; regions of other codes are left out.
        minimum_area_ha: smaller regions join their largest neighbour, if any region is larger; 0
            keeps all.
        scratch: folder for working files.
        cancelled: raises to stop.

    Returns:
        Number of polygons.

    Raises:
        InputError: if the minimum area is no number.
        DiskFullError: if a disk is full.
        OutputError: if files cannot be written for another reason.
    """
    if not math.isfinite(minimum_area_ha):
        raise InputError(
            f"The minimum area of polygons is {minimum_area_ha}, where hectares are expected.",
            "Give a number such as 0.5, or 0 to keep all polygons.",
        )
    if minimum_area_ha > 0:
        classes = _sieved(classes, grid, minimum_area_ha, scratch)
    numbered = scratch / "regions.tif"
    regions = _number_regions(classes, confidence, numbered, grid, list(names), cancelled)
    with staged(target) as temporary:
        _write(numbered, regions, temporary, grid, names, cancelled)
    numbered.unlink()
    return len(regions.values)


@dataclass(frozen=True)
class _Regions:
    """Attributes of regions; region n stands at position n - 1."""

    values: NDArray[np.int64]
    pixels: NDArray[np.int64]
    hectares: NDArray[np.float64]
    confidence: NDArray[np.float64]


def _sieved(classes: Path, grid: Grid, minimum_area_ha: float, scratch: Path) -> Path:
    """Return a copy whose regions below an area joined their largest neighbour."""
    # GDAL takes no size beyond the map's own.
    pixels = min(round(minimum_area_ha * 10_000 / grid.pixel_m**2), grid.width * grid.height - 1)
    if pixels < 2:
        return classes
    path = scratch / "sieved.tif"
    with rasterio.open(classes) as source:
        image = source.read(1)
        profile = source.profile
    sieved = rasterio.features.sieve(image, pixels, mask=image > 0, connectivity=4)
    with _created(path, profile) as write:
        write(sieved, Window(0, 0, grid.width, grid.height))
    return path


@contextlib.contextmanager
def _created(
    path: Path, profile: dict[str, Any]
) -> Iterator[Callable[[NDArray[Any], Window], None]]:
    """Create an uncompressed raster of one band, and give a function that writes a window of it.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """

    def write(values: NDArray[Any], window: Window) -> None:
        with explained(path):
            dataset.write(values, 1, window=window)

    with explained(path):
        dataset = rasterio.open(path, "w", **profile)
    try:
        yield write
    finally:
        dataset.close()
    with explained(path):
        # GDAL writes the last rows when it closes a file, and tells no one if it cannot.
        pixels = dataset.width * dataset.height
        if path.stat().st_size < pixels * np.dtype(profile["dtype"]).itemsize:
            raise OSError("the file is incomplete")


def _number_regions(
    classes: Path,
    confidence: Path,
    numbered: Path,
    grid: Grid,
    wanted: list[int],
    cancelled: Callable[[], None],
) -> _Regions:
    """Number the 4-connected regions of wanted classes from 1, and sum up each of them."""
    areas = PixelAreas(grid)
    joined = _DisjointSets()
    sums: list[tuple[NDArray[Any], ...]] = []
    first = 1
    above_value: NDArray[np.uint8] | None = None
    above_number: NDArray[np.int64] | None = None
    profile = {
        "driver": "GTiff", "dtype": "int32", "count": 1, "width": grid.width,
        "height": grid.height, "crs": grid.crs, "transform": grid.transform, "nodata": 0,
        "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    provisional = numbered.with_suffix(".provisional.tif")
    with rasterio.open(classes) as source, rasterio.open(confidence) as sure:
        with _created(provisional, profile) as write:
            for start, stop in _blocks(grid.height):
                cancelled()
                window = Window(0, start, grid.width, stop - start)
                values = source.read(1, window=window)
                values[~np.isin(values, wanted)] = 0
                numbers, count = _label(values)
                numbers[numbers > 0] += first - 1
                joined.grow(count)
                if above_value is not None and above_number is not None:
                    same = (values[0] == above_value) & (values[0] > 0)
                    joined.join(np.unique(np.stack([above_number[same], numbers[0][same]]), axis=1))
                sums.append(
                    _sum_up(
                        numbers,
                        values,
                        sure.read(1, window=window),
                        areas.rows(start, stop),
                        first,
                        count,
                    )
                )
                write(numbers.astype(np.int32), window)
                above_value, above_number = values[-1], numbers[-1]
                first += count
        final = joined.compact()
        with rasterio.open(provisional) as draft, _created(numbered, profile) as write:
            for start, stop in _blocks(grid.height):
                cancelled()
                window = Window(0, start, grid.width, stop - start)
                write(final[draft.read(1, window=window)], window)
    provisional.unlink()
    return _merge(sums, final[1:])


def _blocks(height: int) -> Iterator[tuple[int, int]]:
    for start in range(0, height, BLOCK_ROWS):
        yield start, min(height, start + BLOCK_ROWS)


def _label(values: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Number the regions of equal values within a block from 1; 0 stays 0."""
    numbers = np.zeros(values.shape, np.int64)
    total = 0
    for value in np.unique(values[values > 0]):
        labels, count = ndimage.label(values == value)
        inside = labels > 0
        numbers[inside] = labels[inside] + total
        total += count
    return numbers, total


def _sum_up(
    numbers: NDArray[np.int64],
    values: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    areas: NDArray[np.float64],
    first: int,
    count: int,
) -> tuple[NDArray[Any], ...]:
    """Return class, pixels, square metres and summed percent of the regions of a block."""
    inside = numbers > 0
    index = numbers[inside] - first
    percent = np.where(confidence == PERCENT_NODATA, 0, confidence)[inside]
    value = np.zeros(count)
    value[index] = values[inside]
    return (
        value,
        np.bincount(index, minlength=count).astype(np.float64),
        np.bincount(index, areas[inside], count),
        np.bincount(index, percent, count),
    )


def _merge(sums: list[tuple[NDArray[Any], ...]], final: NDArray[np.int32]) -> _Regions:
    value, pixels, area, percent = (np.concatenate(column) for column in zip(*sums, strict=True))
    index = final - 1
    count = int(index.max()) + 1 if len(index) else 0
    values = np.zeros(count, np.int64)
    values[index] = value
    total = np.bincount(index, pixels, count)
    return _Regions(
        values=values,
        pixels=total.astype(np.int64),
        hectares=np.bincount(index, area, count) / 10_000,
        confidence=np.bincount(index, percent, count) / np.maximum(total, 1) / 100,
    )


class _DisjointSets:
    """Which provisional numbers mean one region (union-find)."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)

    def grow(self, count: int) -> None:
        size = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(size, size + count)])

    def join(self, pairs: NDArray[np.int64]) -> None:
        """Join numbers. pairs: (2, n)."""
        for one, other in pairs.T:
            a, b = self._root(one), self._root(other)
            self._parent[max(a, b)] = min(a, b)

    def _root(self, number: int) -> int:
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return int(number)

    def compact(self) -> NDArray[np.int32]:
        """Return the final number of each provisional one: 0 stays 0, the others follow."""
        roots = self._parent
        while (roots != roots[roots]).any():
            roots = roots[roots]
        _, numbers = np.unique(roots, return_inverse=True)
        return numbers.astype(np.int32)


def _write(
    numbered: Path,
    regions: _Regions,
    target: Path,
    grid: Grid,
    names: dict[int, PolygonClass],
    cancelled: Callable[[], None],
) -> None:
    written = False
    with rasterio.open(numbered) as source:
        outlines = _outlines(source, cancelled)
        while True:
            found = list(itertools.islice(outlines, BATCH))
            if not found and written:
                break
            _append(found, regions, target, grid, names, append=written)
            written = True


def _outlines(
    source: DatasetReader, cancelled: Callable[[], None]
) -> Iterator[tuple[shapely.Polygon, int]]:
    """Yield the outline and the number of each region of a raster of numbers.

    GDAL holds all outlines of what it is given at once, so it is given some rows at a time; regions
    that go on below wait, and are joined along the seams.
    """
    waiting: dict[int, list[shapely.Polygon]] = {}
    for start, stop in _blocks(source.height):
        cancelled()
        window = Window(0, start, source.width, stop - start)
        numbers = source.read(1, window=window)
        below = set(np.unique(numbers[-1]).tolist()) if stop < source.height else set()
        for shape, value in rasterio.features.shapes(
            numbers, numbers > 0, connectivity=4, transform=source.window_transform(window)
        ):
            number, part = int(value), _polygon(shape)
            if number in waiting or number in below:
                waiting.setdefault(number, []).append(part)
            else:
                yield part, number
        for number in [number for number in waiting if number not in below]:
            yield shapely.union_all(waiting.pop(number)), number


def _append(
    found: list[tuple[shapely.Polygon, int]],
    regions: _Regions,
    target: Path,
    grid: Grid,
    names: dict[int, PolygonClass],
    *,
    append: bool,
) -> None:
    index = np.array([number - 1 for _, number in found], np.int64)
    classes = regions.values[index]
    columns = {
        "class": classes.astype(np.int32),
        "name": np.array([names[value].name for value in classes], object),
        "title": np.array([names[value].title for value in classes], object),
        "area_ha": regions.hectares[index],
        "pixels": regions.pixels[index],
        "confidence": regions.confidence[index].round(4),
    }
    with explained(target):
        try:
            pyogrio.raw.write(
                target,
                np.array([shapely.to_wkb(outline) for outline, _ in found], object),
                list(columns.values()),
                list(columns),
                layer=LAYER_NAME,
                driver="GPKG",
                geometry_type="Polygon",
                crs=grid.info().crs,
                append=append,
                # Newer versions of the format make the GDAL of older QGIS warn at each opening.
                dataset_options={"VERSION": "1.2"},
            )
        except (DataSourceError, DataLayerError, FeatureError) as error:
            raise OSError(str(error)) from error  # as GDAL's other errors of writing


def _polygon(shape: dict[str, Any]) -> shapely.Polygon:
    outer, *holes = shape["coordinates"]
    return shapely.Polygon(outer, holes)
