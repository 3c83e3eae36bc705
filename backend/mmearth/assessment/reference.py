"""What is known to be true, beside what the map says of the same pixels.

Pixels that belong together are a cluster: those of one polygon or line; of a raster, those of one
block. A point is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # rasterio lets some of GDAL's own errors through
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mmearth.api import AssessSpec, LabelSource, Problem, Stratum
from mmearth.assessment import samplefile
from mmearth.assessment.classraster import ClassRaster, Strip, open_classes
from mmearth.errors import EmptyAreaError, InputError, RasterReadError, counted, listed
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster, read_mask
from mmearth.training.labels import BLOCK, Labels, read_labels, refuse_vectors


@dataclass(frozen=True)
class Observed:
    """Pixels of the map whose truth is known, like ones of a cluster together.

    Attributes:
        mapped: (n,) int64, code in the map.
        reference: (n,) int64, number of the value in truth.
        values: of the reference, by number, as they stand in the field or raster.
        clusters: (n,) int64.
        strata: (n,) int64, number of the stratum in the design; empty without one.
        pixels: (n,) int64, how many a row stands for.
        sizes: (n,) float64, square metres of these: of a sample, of the pixels that were drawn,
            which the map that is judged may divide otherwise.
        unit: what a cluster is, in the singular.
        design: strata that the reference was drawn from, empty if it was not drawn by us.
        warnings: what was left out, and why.
        zero_is_none: whether 0 means that nothing is known, unless it is a class of the map.
    """

    mapped: NDArray[np.int64]
    reference: NDArray[np.int64]
    values: tuple[str, ...]
    clusters: NDArray[np.int64]
    strata: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sizes: NDArray[np.float64]
    unit: str
    design: tuple[Stratum, ...] = ()
    warnings: tuple[Problem, ...] = ()
    zero_is_none: bool = False

    def without(self, value: str) -> Observed:
        """Return all rows but those of a value; the numbers of the others stay."""
        number = self.values.index(value) if value in self.values else -1
        kept = self.reference != number
        return replace(
            self,
            mapped=self.mapped[kept],
            reference=self.reference[kept],
            clusters=self.clusters[kept],
            strata=self.strata[kept] if self.design else self.strata,
            pixels=self.pixels[kept],
            sizes=self.sizes[kept],
        )

    @property
    def present(self) -> list[str]:
        """Values that are there."""
        return [self.values[number] for number in np.unique(self.reference)]


class Reader(Protocol):
    """Is shown the map strip by strip, and then says what was observed."""

    def see(self, strip: Strip) -> None:
        """Look at a strip of the map."""

    def observed(self) -> Observed:
        """Return what was observed.

        Raises:
            EmptyAreaError: if the map has no data wherever the truth is known.
        """


@contextmanager
def open_reference(spec: AssessSpec, raster: ClassRaster) -> Iterator[Reader]:
    """Open a reference: a sample of ours, vectors with a class field, or a raster.

    Raises:
        MMEarthError: if it cannot be read, or does not lie on the map.
    """
    found = samplefile.find_sample(spec.reference, spec.layer)
    if found:
        layer, strata = found
        field_name = spec.field or samplefile.REFERENCE
        sample = samplefile.read_sample(spec.reference, layer, field_name, strata, raster.grid)
        yield _of_sample(sample, raster.grid)
    elif spec.field:
        source = LabelSource(path=spec.reference, layer=spec.layer, field=spec.field)
        yield _of_labels(read_labels(source, raster.grid), raster.grid)
    else:
        try:
            reference = open_classes(spec.reference)
        except RasterReadError:
            refuse_vectors(spec.reference)
            raise
        with _warped(reference, raster.grid) as dataset:
            yield _RasterReader(dataset, Path(spec.reference).name, raster.grid)


def _of_sample(sample: samplefile.Interpreted, grid: Grid) -> _PixelReader:
    """Find the pixels of the points that were interpreted."""
    numbers = np.array(sample.numbers, object)
    done = np.array([value is not None for value in sample.values])
    if not done.any():
        raise InputError(
            f"Of the sample's {counted(done.size, 'point')} none is interpreted.",
            f"Fill in the field {samplefile.REFERENCE!r}, and save the layer.",
        )
    warnings = []
    if not done.all():
        warnings.append(_left_out("uninterpreted", numbers[~done], "of the sample not interpreted"))
    known = (sample.stratum >= 0) & (sample.square_metres > 0)
    if (strange := done & ~known).any():
        raise InputError(
            f"Points {listed(numbers[strange])} lack stratum or area, so they are not of the "
            "sample.",
            "Delete points that were added; a larger sample is drawn anew.",
        )
    _refuse_copies(sample)
    if (gone := sum(row.points for row in sample.strata) - done.size) > 0:
        warnings.append(
            Problem(
                code="deleted",
                message=f"Of the points that were drawn, {gone:,} "
                f"{'is' if gone == 1 else 'are'} no longer in the sample.",
                advice="Take all of them along: those that are hard to interpret are not like the "
                "others.",
            )
        )
    with np.errstate(invalid="ignore"):
        cols = np.floor((sample.xs - grid.transform.c) / grid.transform.a)
        rows = np.floor((sample.ys - grid.transform.f) / grid.transform.e)
        inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    if (outside := done & ~inside).any():
        warnings.append(_left_out("outside", numbers[outside], "outside the map"))
    kept = np.flatnonzero(done & inside)
    if not kept.size:
        raise _no_overlap()
    names, classes = np.unique([sample.values[place] for place in kept], return_inverse=True)
    pixels = rows[kept].astype(np.int64) * grid.width + cols[kept].astype(np.int64)
    return _PixelReader(
        grid.width, pixels, classes.astype(np.int64), tuple(map(str, names)), kept,
        tuple(sample.numbers), "point", sample.stratum[kept], sample.square_metres[kept],
        tuple(sample.strata), warnings,
    )  # fmt: skip


def _refuse_copies(sample: samplefile.Interpreted) -> None:
    """Check that no stratum has more points than were drawn: a copied point would count twice."""
    counts = np.bincount(sample.stratum[sample.stratum >= 0], minlength=len(sample.strata))
    for row, count in zip(sample.strata, counts.tolist(), strict=True):
        if count > row.points:
            raise InputError(
                f"The sample has {counted(count, 'point')} of {row.title!r}, but {row.points:,} "
                f"{'was' if row.points == 1 else 'were'} drawn.",
                "Delete points that were added or copied; a larger sample is drawn anew.",
            )


def _of_labels(labels: Labels, grid: Grid) -> _PixelReader:
    warnings = [
        problem.model_copy(update={"advice": "Name a part of it to choose yourself."})
        if problem.code == "many"
        else problem
        for problem in labels.warnings
    ]
    pixels = labels.rows * grid.width + labels.cols
    single = np.unique(labels.units).size == labels.units.size
    return _PixelReader(
        grid.width, pixels, labels.classes, labels.names, labels.units, labels.features,
        "point" if single else "feature", np.zeros(0, np.int64), np.zeros(0), (), warnings,
    )  # fmt: skip


@dataclass
class _PixelReader:
    """Looks up chosen pixels.

    Attributes:
        width: of the map.
        pixels: (n,) int64, row x width + column.
        reference: (n,) int64, see ``Observed``, as are the following.
        values: of the reference.
        clusters: (n,) int64.
        numbers: what messages call each cluster.
        unit: what a cluster is.
        strata: (n,) int64, or empty.
        sizes: (n,) float64, or empty if they are those of the map's pixels.
        design: strata.
        warnings: so far.
    """

    width: int
    pixels: NDArray[np.int64]
    reference: NDArray[np.int64]
    values: tuple[str, ...]
    clusters: NDArray[np.int64]
    numbers: tuple[str, ...]
    unit: str
    strata: NDArray[np.int64]
    sizes: NDArray[np.float64]
    design: tuple[Stratum, ...]
    warnings: list[Problem]
    _found: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._order = np.argsort(self.pixels, kind="stable")
        self._sorted = self.pixels[self._order]

    def see(self, strip: Strip) -> None:
        """Look up the pixels of a strip."""
        first = strip.start * self.width
        low, high = np.searchsorted(self._sorted, (first, first + strip.codes.size))
        there = self._sorted[low:high] - first
        valid = strip.valid.ravel()[there]
        there, rows = there[valid], self._order[low:high][valid]
        codes = strip.codes.ravel()[there].astype(np.int64)
        sizes = self.sizes[rows] if self.design else strip.areas.ravel()[there]
        self._found.append((rows, codes, sizes))

    def observed(self) -> Observed:
        """Return what was observed."""
        rows, mapped, sizes = (np.concatenate(part) for part in zip(*self._found, strict=True))
        if not rows.size:
            raise _no_overlap()
        clusters = self.clusters[rows]
        lost = np.setdiff1d(self.clusters, clusters)
        warnings = list(self.warnings)
        if lost.size:
            numbers = [self.numbers[place] for place in lost]
            warnings.append(_left_out("nodata", numbers, "where the map has no data", self.unit))
        strata = self.strata[rows] if self.design else np.zeros(rows.size, np.int64)
        keys, pixels, areas = _grouped(
            np.stack([clusters, strata, mapped, self.reference[rows]]),
            np.ones(rows.size, np.int64),
            sizes,
        )
        return Observed(
            keys[2], keys[3], self.values, keys[0], keys[1] if self.design else keys[1][:0],
            pixels, areas, self.unit, self.design, tuple(warnings),
        )  # fmt: skip


@dataclass
class _RasterReader:
    """Compares with a raster, block by block.

    Attributes:
        dataset: the reference, on the grid of the map.
        name: of its file.
        grid: of the map.
    """

    dataset: DatasetReader
    name: str
    grid: Grid
    _found: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list)

    def see(self, strip: Strip) -> None:
        """Compare a strip."""
        height, width = strip.codes.shape
        window = Window(0, strip.start, width, height)
        try:
            codes = self.dataset.read(1, window=window).astype(np.int64)
            valid = read_mask(self.dataset, 1, window=window) & strip.valid
        except (RasterioError, CPLE_BaseError) as error:
            raise RasterReadError(
                f"The reference {self.name} cannot be read; it may be damaged.",
                f"GDAL says: {error}",
            ) from error
        rows, cols = np.nonzero(valid)
        blocks = (rows + strip.start) // BLOCK * -(-width // BLOCK) + cols // BLOCK
        keys = np.stack([blocks, strip.codes[valid].astype(np.int64), codes[valid]])
        self._found.append(_grouped(keys, np.ones(rows.size, np.int64), strip.areas[valid]))

    def observed(self) -> Observed:
        """Return what was observed."""
        keys, pixels, sizes = (
            np.concatenate(part, axis=-1) for part in zip(*self._found, strict=True)
        )
        if not pixels.size:
            raise _no_overlap()
        values, reference = np.unique(keys[2], return_inverse=True)
        return Observed(
            keys[1], reference.astype(np.int64), tuple(map(str, values)), keys[0], keys[0][:0],
            pixels, sizes, "block", zero_is_none=True,
        )  # fmt: skip


@contextmanager
def _warped(reference: ClassRaster, grid: Grid) -> Iterator[DatasetReader]:
    """Open a raster as pixels of a grid: each has the code of the pixel that its centre lies in."""
    with open_raster(reference.path) as source:
        try:
            with WarpedVRT(
                source,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=Resampling.nearest,
                # Beyond its edges there is no data, whether or not it states a value for it.
                add_alpha=source.nodata is None,
            ) as dataset:
                yield dataset
        except (RasterioError, CPLE_BaseError) as error:
            raise InputError(
                f"The reference {Path(reference.path).name} cannot be laid on the map: {error}.",
                "Give both in coordinate systems of the same ground.",
            ) from error


def _grouped(
    keys: NDArray[np.int64], pixels: NDArray[np.int64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Join rows of the same keys. keys: (k, n)."""
    if not pixels.size:
        return keys, pixels, sizes
    lows, spans = keys.min(axis=1, keepdims=True), np.ptp(keys, axis=1) + 1
    if np.prod(spans, dtype=float) < 2**62:  # one number in place of several sorts much faster
        numbers = np.ravel_multi_index(tuple(keys - lows), tuple(spans))
        joined, places = np.unique(numbers, return_inverse=True)
        found = np.stack(np.unravel_index(joined, tuple(spans))) + lows
    else:
        found, places = np.unique(keys, axis=1, return_inverse=True)
    places, count = places.reshape(-1), found.shape[1]
    return (
        found,
        np.bincount(places, pixels, count).astype(np.int64),
        np.bincount(places, sizes, count).astype(np.float64),
    )


def _left_out(
    code: str, numbers: NDArray[np.object_] | list[str], why: str, unit: str = "point"
) -> Problem:
    count = len(numbers)
    return Problem(
        code=code, message=f"{counted(count, unit)} {why}; left out: {listed(numbers)}.", advice=""
    )


def _no_overlap() -> EmptyAreaError:
    return EmptyAreaError(
        "The reference and the map do not overlap where the map has data.",
        "Choose a reference and a map of the same ground.",
    )
