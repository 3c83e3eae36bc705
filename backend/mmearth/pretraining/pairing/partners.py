"""What else is known of a tile: rasters brought onto its pixels, of the nearest date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from mmearth.api import PairModality
from mmearth.errors import InputError, listed
from mmearth.pretraining.modality import categorical
from mmearth.raster.grid import Grid, bounds_in
from mmearth.raster.onto import read_onto
from mmearth.raster.source import open_raster, stated_crs
from mmearth.raster.stack import AVERAGE_FACTOR

NONE = "-"  # date of what has none


@dataclass(frozen=True)
class Partner:
    """A modality whose rasters have been looked at.

    Attributes:
        modality: as requested.
        channels: bands of each raster; 1 of classes.
        grids: of each raster.
        pixels_m: size of the pixels of each raster on the ground.
    """

    modality: PairModality
    channels: int
    grids: tuple[Grid, ...]
    pixels_m: tuple[float, ...]

    @property
    def name(self) -> str:
        """Of the modality."""
        return self.modality.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """How it is stored."""
        if self.modality.kind == "continuous":
            return np.dtype(np.float32)
        codes = [*self.modality.codes, self.empty]
        return np.dtype(np.uint8 if 0 <= min(codes) and max(codes) <= 255 else np.int32)

    @property
    def empty(self) -> float:
        """Number that stands for no data as it is stored: NaN, or a code that no class has."""
        if self.modality.kind == "continuous":
            return float("nan")
        codes, stated = self.modality.codes, self.modality.nodata
        if stated is not None and stated == int(stated) and int(stated) not in codes:
            return int(stated)
        return next(code for code in (0, 255, *range(1, 255)) if code not in codes)

    def read(self, grid: Grid, when: date | None, enough: float) -> tuple[NDArray[Any], str]:
        """Read a tile.

        It is of the date nearest to the image that has enough data there, or else of the one that
        has most; what the first raster of a date leaves open is filled from the others of it. Those
        without a date come last.

        Args:
            grid: of the tile.
            when: date of the image.
            enough: share of the tile's pixels with data.

        Returns:
            (C, h, w) as it is stored, and the date it is of; all empty if no raster has data.

        Raises:
            InputError: if there is a code that is not listed.
            RasterReadError: if a raster is damaged.
        """
        most, best, of = 0.0, None, ""
        for day, numbers in self._by_date(grid, when):
            values = self._of_date(grid, numbers)
            share = float(np.isfinite(values).mean())
            if share > most:
                most, best, of = share, self._stored(values, numbers), day
            if most >= enough:
                break
        if best is None:
            best = np.full((self.channels, grid.height, grid.width), self.empty, self.dtype)
        return best, of

    def _of_date(self, grid: Grid, numbers: Sequence[int]) -> NDArray[np.float64]:
        """Read what rasters of one date hold; NaN where none has data."""
        pixel_m = grid.pixel_m
        values = np.full((self.channels, grid.height, grid.width), np.nan)
        for number in numbers:
            gaps = np.isnan(values)
            if not gaps.any():
                break
            method = self._method(pixel_m / self.pixels_m[number])
            path = self.modality.rasters[number].path
            found = read_onto(path, grid, method, nodata=self.modality.nodata)
            values[gaps] = found[gaps]
        return values

    def touches(self, grid: Grid) -> bool:
        """Tell whether any raster may have data within a grid."""
        return any(_touches(own, grid) for own in self.grids)

    def _by_date(self, grid: Grid, when: date | None) -> list[tuple[str, list[int]]]:
        """Return the rasters that touch a tile by their dates, the nearest date first."""
        groups: dict[date | None, list[int]] = {}
        for number, own in enumerate(self.grids):
            if _touches(own, grid):
                groups.setdefault(self.modality.rasters[number].date, []).append(number)

        def distance(day: date | None) -> tuple[bool, int, date]:
            apart = abs((day - when).days) if day and when else 0
            return day is None, apart, day or date.min

        return [(str(day or NONE), groups[day]) for day in sorted(groups, key=distance)]

    def _method(self, shrink: float) -> Resampling:
        fine = shrink > AVERAGE_FACTOR
        if self.modality.kind == "continuous":
            return Resampling.average if fine else Resampling.bilinear
        return Resampling.mode if fine else Resampling.nearest

    def _stored(self, values: NDArray[np.float64], numbers: Sequence[int]) -> NDArray[Any]:
        if self.modality.kind == "continuous":
            return values.astype(np.float32)
        codes = np.where(np.isfinite(values), values, self.empty)
        try:
            categorical(codes, self.modality.codes, self.empty)
        except InputError as error:
            names = listed(self.modality.rasters[number].path for number in numbers)
            raise InputError(f"{names}: {error.message}", error.advice) from error
        return codes.astype(self.dtype)


def prepare_partner(modality: PairModality) -> Partner:
    """Look at the rasters of a modality; no pixels are read.

    Raises:
        InputError: if their bands differ, or classes are in several.
        MissingCrsError: if one has no place on the map.
        RasterReadError: if one cannot be opened.
    """
    counts, grids = [], []
    for raster in modality.rasters:
        with open_raster(raster.path) as dataset:
            counts.append(dataset.count)
            grids.append(Grid.of_dataset(dataset, stated_crs(dataset, raster.path)))
    if modality.kind == "categorical" and max(counts) > 1:
        raise InputError(
            f"A raster of {modality.name} has {max(counts)} bands, where codes of classes are in "
            "one.",
            "Leave the other bands out of the file.",
        )
    if min(counts) < max(counts):
        raise InputError(
            f"The rasters of {modality.name} have {min(counts)} to {max(counts)} bands.",
            "Give all of them the same bands.",
        )
    return Partner(modality, counts[0], tuple(grids), tuple(grid.pixel_m for grid in grids))


def _touches(raster: Grid, tile: Grid) -> bool:
    try:
        bounds = bounds_in(raster.crs, tile.bounds, tile.crs)
    except InputError:  # the tile has no place in the system of the raster
        return False
    own = raster.bounds
    across = bounds.left < own.right and own.left < bounds.right
    return across and bounds.bottom < own.top and own.bottom < bounds.top
