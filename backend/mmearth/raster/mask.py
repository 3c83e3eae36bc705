"""Masks of clouds and bad pixels: which pixels a raster says to leave out.

The scene classification of Sentinel-2 Level-2A (SCL) is found by itself, as a band of that name or
in the folder of a product; a band of that name that holds other numbers, or 0 and 1 alone as masks
of clouds do, is none. Its classes: ESA, Sentinel-2 Products Specification Document, issue 14.9,
table "scene classification".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import reproject
from rasterio.windows import Window

from mmearth.api import MaskInput, Problem
from mmearth.errors import EmptyAreaError, InputError, RasterReadError
from mmearth.raster import safe
from mmearth.raster.grid import Grid, bounds_in
from mmearth.raster.source import BandSource, open_raster, stated_crs
from mmearth.raster.warp import source_window

# 1 saturated or defective, 3 shadow of a cloud, 8 and 9 cloud of medium and high probability,
# 10 thin cirrus; 0 is no data. Kept: 2, because dark conifers and shaded slopes are taken for it;
# 7 (unclassified), which is mostly clear, bright ground; 11 (snow), which models map as a class.
SCL_EXCLUDED = (0, 1, 3, 8, 9, 10)
SCL_NODATA, SCL_DEFECTIVE = 0, 1
SCL_LAST = 11

LOOK_SIDE = 1024  # pixels a side of a mask of which only samples are asked, or some in its middle

# Of pixels that are left out: because the scene has no data, and for all other reasons.
_EMPTY, _BAD = 1, 2

_SCL = re.compile(r"(?<![A-Za-z0-9])SCL(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Mask:
    """A band that says which pixels to leave out.

    Attributes:
        dataset: GDAL dataset name to open.
        band: of the dataset, from 1.
        title: what the user reads.
        values: pixels that hold one of these are left out; if None, ``above`` or ``bits`` rules.
        above: pixels with more are left out.
        bits: pixels in which one of these bits is set, counted from the lowest, are left out.
        nodata: stored value that says that the scene itself has no data there; of a scene
            classification only. What any other mask states as its no-data value counts as any
            other of its values.
    """

    dataset: str
    band: int
    title: str
    values: tuple[int, ...] | None = None
    above: float | None = None
    bits: int | None = None
    nodata: int | None = None

    @property
    def rule(self) -> str:
        """What is left out, in words."""
        if self.values is not None:
            return f"values {', '.join(map(str, self.values))}"
        if self.above is not None:
            return f"above {self.above:g}"
        if self.bits is not None:
            return f"bits {', '.join(str(n) for n in range(32) if self.bits >> n & 1)}"
        return "all but 0"

    def excludes(self, values: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return which stored values leave a pixel out; where none of the rules is set, not 0."""
        if self.values is not None:
            return np.isin(values, self.values)
        if self.above is not None:
            return np.asarray(values.astype(np.float64) > self.above)
        if self.bits is not None:
            return (values.astype(np.int64) & self.bits) != 0
        return np.asarray((values != 0) & np.isfinite(values.astype(np.float64)))


def find_masks(
    named: Sequence[MaskInput], sources: Sequence[BandSource], *, search: bool
) -> tuple[list[Mask], list[Problem]]:
    """Return the masks that a request names, or the scene classification of what it reads.

    Args:
        named: masks of the request.
        sources: all bands of the rasters.
        search: whether a scene classification is looked for if no mask is named.

    Returns:
        The masks, and words about one that was found without being named.

    Raises:
        InputError: if a mask has no such band.
        RasterReadError: if it cannot be opened.
        MissingCrsError: if it has no place on the map.
    """
    if named or not search:
        return [_named(item) for item in named], []
    found = [
        _scl(source.dataset, source.band, source.title) for source in sources if _is_scl(source)
    ]
    if not found:
        found = [_scl(str(path), 1, path.name) for path in _product_classifications(sources)]
    if not found:
        return [], []
    titles = " and ".join(mask.title for mask in found)
    return found, [
        Problem(
            code="mask",
            message=f"Clouds, their shadows and defective pixels are left out, as {titles} shows "
            "them.",
            advice="",
        )
    ]


def check_overlap(masks: Sequence[Mask], grid: Grid) -> list[Problem]:
    """Warn of masks that cover only part of a grid.

    Raises:
        EmptyAreaError: if one covers none of it.
        InputError: if positions of one cannot be expressed in the system of the other.
    """
    warnings = []
    for mask in masks:
        with open_raster(mask.dataset) as dataset:
            other = Grid.of_dataset(dataset, stated_crs(dataset, mask.title))
        try:
            grid.cropped_to(other.bounds, other.crs)
        except EmptyAreaError as error:
            raise EmptyAreaError(
                f"The mask {mask.title} and the area to map do not overlap.",
                "Choose a mask of this scene, or map without one.",
            ) from error
        left, bottom, right, top = bounds_in(grid.crs, other.bounds, other.crs)
        own, slack = grid.bounds, abs(grid.transform.a)
        if (
            left > own.left + slack
            or bottom > own.bottom + slack
            or right < own.right - slack
            or top < own.top - slack
        ):
            warnings.append(
                Problem(
                    code="mask_partial",
                    message=f"The mask {mask.title} covers only part of the area; beyond it, "
                    "nothing is left out.",
                    advice="Choose a smaller area, or a mask of all of it.",
                )
            )
    return warnings


class MaskReader:
    """Open masks, read onto a grid by the nearest pixel; a context manager, for one thread."""

    def __init__(self, masks: Sequence[Mask], grid: Grid) -> None:
        self._masks = tuple(masks)
        self._grid = grid
        self._readers: list[tuple[Mask, DatasetReader]] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> MaskReader:
        with contextlib.ExitStack() as opening:
            for mask in self._masks:
                self._readers.append((mask, opening.enter_context(open_raster(mask.dataset))))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._readers.clear()
        self._open.close()

    def excluded(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which pixels of whole rows any mask leaves out: (stop - start, width) bool.

        Raises:
            RasterReadError: if a file is damaged.
        """
        return self._codes(start, stop) > 0

    def clouded(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return the same without pixels where a scene classification tells of no data."""
        return self._codes(start, stop) == _BAD

    def _codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the highest code that any mask gives a pixel."""
        shape = (stop - start, self._grid.width)
        codes = np.zeros(shape, np.uint8)
        if not codes.size:  # GDAL warps no empty piece
            return codes
        transform = self._grid.transform @ Affine.translation(0, start)
        for mask, dataset in self._readers:
            crs = stated_crs(dataset, mask.title)
            shrink = self._grid.pixel_m / Grid.of_dataset(dataset, crs).pixel_m
            window = source_window(dataset, crs, self._grid.crs, transform, shape, shrink)
            if window is None:
                continue
            values = _read_band(dataset, mask.band, window=window)
            found = np.where(mask.excludes(values), _BAD, 0).astype(np.uint8)
            if mask.nodata is not None:
                found[(found > 0) & (values == mask.nodata)] = _EMPTY
            warped = np.zeros(shape, np.uint8)
            reproject(
                found,
                warped,
                src_transform=dataset.transform
                @ Affine.translation(window.col_off, window.row_off),
                src_crs=crs,
                dst_transform=transform,
                dst_crs=self._grid.crs,
                resampling=Resampling.nearest,
                tolerance=0,  # GDAL's own is an eighth of a pixel
            )
            np.maximum(codes, warped, out=codes)
        return codes


def left_in(
    masks: Sequence[Mask], places: Sequence[tuple[Grid, NDArray[np.float64]]]
) -> list[NDArray[np.bool_]]:
    """Return which places no mask leaves out, of large masks to within a few pixels.

    Args:
        masks: read no finer than ``LOOK_SIDE`` pixels a side.
        places: grids, and columns and rows on them, (n, 2).

    Returns:
        (n,) bool for each grid.

    Raises:
        RasterReadError: if a mask is damaged.
    """
    kept = [np.ones(len(points), bool) for _, points in places]
    for mask in masks:
        with open_raster(mask.dataset) as dataset:
            crs = stated_crs(dataset, mask.title)
            shape = (min(LOOK_SIDE, dataset.height), min(LOOK_SIDE, dataset.width))
            excluded = mask.excludes(_read_band(dataset, mask.band, out_shape=shape))
            # Of the pixels as they are read.
            scaling = Affine.scale(dataset.width / shape[1], dataset.height / shape[0])
            transform = dataset.transform @ scaling
        for clear, (grid, points) in zip(kept, places, strict=True):
            found = _applied(grid.transform, points)
            if grid.crs != crs:
                found = np.stack(rasterio.warp.transform(grid.crs, crs, *found.T), axis=1)
            col, row = _applied(~transform, found).T
            inside = (0 <= col) & (col < shape[1]) & (0 <= row) & (row < shape[0])
            clear[inside] &= ~excluded[row[inside].astype(int), col[inside].astype(int)]
    return kept


def _applied(transform: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c, d, e, f = transform[:6]
    return points @ np.array([[a, d], [b, e]]) + np.array([c, f])


def _read_band(dataset: DatasetReader, band: int, **options: Any) -> NDArray[np.generic]:
    """Read a band of a mask; ``options`` are rasterio's.

    Raises:
        RasterReadError: if the file is damaged.
    """
    try:
        return np.asarray(dataset.read(band, **options))
    except RasterioError as error:
        raise RasterReadError(
            f"{dataset.name} is damaged: it cannot be read as a mask.",
            f"Copy or download the file again. GDAL says: {error}",
        ) from error


def _named(item: MaskInput) -> Mask:
    title = item.label or Path(item.path).name
    with open_raster(item.path) as dataset:
        stated_crs(dataset, title)
        names = [_name(dataset, band) for band in dataset.indexes]
        classified = [
            band
            for band, name in enumerate(names, 1)
            if _SCL.search(name) and _holds_classes(dataset, band)
        ]
        band = item.band or (classified or [1])[0]
        if band > dataset.count:
            raise InputError(
                f"The mask {title} has {dataset.count} bands, and band {band} is asked for.",
                "Choose one of its bands.",
            )
        if np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.floating) and item.bits:
            raise InputError(
                f"Band {band} of the mask {title} holds decimal numbers, which have no bits.",
                "Give values, or the number above which pixels are left out.",
            )
    if item.values is None and item.above is None and item.bits is None and band in classified:
        return _scl(item.path, band, title)
    return Mask(
        dataset=item.path,
        band=band,
        title=title,
        values=None if item.values is None else tuple(item.values),
        above=item.above,
        bits=None if item.bits is None else sum(1 << bit for bit in set(item.bits)),
        nodata=SCL_NODATA if band in classified else None,
    )


def _scl(dataset: str, band: int, title: str) -> Mask:
    return Mask(dataset, band, title, values=SCL_EXCLUDED, nodata=SCL_NODATA)


def _name(dataset: DatasetReader, band: int) -> str:
    """Return what a band is called; a file's own name speaks of a band only where it has one."""
    return dataset.descriptions[band - 1] or (Path(dataset.name).stem if dataset.count == 1 else "")


def _is_scl(source: BandSource) -> bool:
    if not any(_SCL.search(hint) for hint in source.hints):
        return False
    with open_raster(source.dataset) as dataset:
        return _holds_classes(dataset, source.band)


def _holds_classes(dataset: DatasetReader, band: int) -> bool:
    """Tell whether a band holds nothing but classes of a scene classification, in its middle.

    Where that is all 0 and 1, no data and defective, as in a mask of clouds, the rest is looked
    through until there is another class.

    Raises:
        RasterReadError: if the file is damaged.
    """
    for window in _looks(dataset):
        # Not from overviews: those of JPEG 2000 hold means of classes.
        values = _read_band(dataset, band, window=window)
        known = np.isfinite(values)
        if dataset.nodatavals[band - 1] is not None:
            known &= values != dataset.nodatavals[band - 1]
        if not np.isin(values[known], range(SCL_LAST + 1)).all():
            return False
        if (values[known] > SCL_DEFECTIVE).any():
            return True
    return False


def _looks(dataset: DatasetReader) -> Iterator[Window]:
    """Return the middle of a raster, then all of it from top to bottom."""
    height, width = min(LOOK_SIDE, dataset.height), min(LOOK_SIDE, dataset.width)
    yield Window((dataset.width - width) // 2, (dataset.height - height) // 2, width, height)
    for top in range(0, dataset.height, LOOK_SIDE):
        yield Window(0, top, dataset.width, min(LOOK_SIDE, dataset.height - top))


def _product_classifications(sources: Sequence[BandSource]) -> list[Path]:
    """Return the scene classifications of the products that the rasters belong to."""
    products = {product.folder: product for product in map(_product, sources) if product}
    paths = (product.scene_classification() for product in products.values())
    return [path for path in paths if path]


def _product(source: BandSource) -> safe.SafeProduct | None:
    return safe.find_product(source.dataset)
