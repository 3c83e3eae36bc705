"""Rasters of class codes: which classes there are, and how much ground each covers."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import ParseError  # nosec B405 - read by defusedxml

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from mmearth.api import LabelClass
from mmearth.errors import InputError, MissingCrsError, RasterReadError
from mmearth.raster.area import PixelAreas
from mmearth.raster.grid import Grid
from mmearth.raster.source import open_raster, read_mask
from mmearth.raster.write import CLASSES_TAG
from mmearth.training.labels import MOST_CLASSES, is_whole

STRIP_PIXELS = 2**22  # read at once
LARGEST_CODE = 2**31 - 1  # that fields of the sample can hold


@dataclass(frozen=True)
class MapClass:
    """A class of a raster.

    Attributes:
        value: its code.
        name: short name, empty if none is stated.
        title: what the user reads; the code if none is stated.
        color: #rrggbb, empty if none is stated.
    """

    value: int
    name: str = ""
    title: str = ""
    color: str = ""

    @property
    def shown(self) -> str:
        """What messages call it."""
        return self.title if self.title == str(self.value) else f"{self.value} {self.title}"


@dataclass(frozen=True)
class Strip:
    """Some whole rows of a raster.

    Attributes:
        start: first row.
        codes: (n, W) integer as stored.
        valid: (n, W) bool, False without data.
        areas: (n, W) float64, square metres.
    """

    start: int
    codes: NDArray[np.integer]
    valid: NDArray[np.bool_]
    areas: NDArray[np.float64]


@dataclass(frozen=True)
class ClassRaster:
    """A raster of class codes.

    Attributes:
        path: of the raster.
        grid: its pixels.
        named: classes that it states, or that the request names, by their code.
        colors: #rrggbb by code, of all codes that have one; a colour alone makes no class.
    """

    path: str
    grid: Grid
    named: dict[int, MapClass]
    colors: dict[int, str]

    def class_of(self, value: int) -> MapClass:
        """Return the class of a code; one that is not named is called by its code."""
        color = self.colors.get(value, "")
        return self.named.get(value) or MapClass(value, title=str(value), color=color)

    def strips(self) -> Iterator[Strip]:
        """Read the raster from its first row to its last.

        Raises:
            RasterReadError: if it is damaged.
        """
        areas = PixelAreas(self.grid)
        rows = max(1, STRIP_PIXELS // self.grid.width)
        with open_raster(self.path) as dataset:
            for start in range(0, dataset.height, rows):
                stop = min(dataset.height, start + rows)
                window = Window(0, start, dataset.width, stop - start)
                try:
                    codes = dataset.read(1, window=window)
                    valid = read_mask(dataset, 1, window=window)
                except RasterioError as error:
                    raise RasterReadError(
                        f"{self.path} cannot be read from row {start:,} on; it may be damaged.",
                        f"GDAL says: {error}",
                    ) from error
                yield Strip(start, codes, valid, areas.rows(start, stop))


@dataclass
class Tally:
    """Pixels and ground of each code.

    Attributes:
        pixels: by code.
        square_metres: by code, on the ellipsoid.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    square_metres: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, strip: Strip) -> None:
        """Count a strip.

        Raises:
            InputError: if there are far too many codes, or too large ones.
        """
        codes, areas = strip.codes[strip.valid], strip.areas[strip.valid]
        largest = max(codes.max(initial=0), codes.min(initial=0), key=lambda code: abs(int(code)))
        if abs(int(largest)) > LARGEST_CODE:
            raise InputError(
                f"Expected codes of classes of {LARGEST_CODE:,} at most, found {largest:,}.",
                "If it stands for no data, state so in the file (‘Translate’, no-data value).",
            )
        for value, pixels, ground in zip(*_sums(codes, areas), strict=True):
            self.pixels[value] += pixels
            self.square_metres[value] += ground
        if len(self.pixels) > MOST_CLASSES:
            raise InputError(
                f"Expected at most {MOST_CLASSES} classes, found {len(self.pixels):,} different "
                "values or more in the raster.",
                "Choose a raster of class codes.",
            )

    @property
    def values(self) -> list[int]:
        """All codes, ascending."""
        return sorted(self.pixels)

    def hectares(self, value: int) -> float:
        """Return the ground of a code."""
        return float(self.square_metres[value]) / 10_000


def open_classes(path: str, classes: Sequence[LabelClass] = ()) -> ClassRaster:
    """Find out what a raster of class codes says of itself.

    Titles and colours come from the request, from the tags of our own maps, from category names
    and from the colour table, whichever is first to state them.

    Args:
        path: one band of whole numbers. Only what the file states as no data is none: 0 may be a
            class.
        classes: of the request.

    Raises:
        RasterReadError: if it cannot be opened.
        InputError: if it holds no class codes, or is rotated.
        MissingCrsError: if it has no place on the map.
    """
    with open_raster(path) as dataset:
        name = Path(path).name
        if dataset.count != 1 or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(
                f"Expected one band of whole numbers, the codes of classes; {name} has "
                f"{dataset.count} of {dataset.dtypes[0]}.",
                "Choose a class map. Numbers with decimals are sorted into classes by ‘Reclassify "
                "by table’.",
            )
        transform = dataset.transform
        if not dataset.crs or transform.is_identity:
            raise MissingCrsError(
                f"{name} does not say where it is, so it has no place on the map.",
                "Assign a coordinate system in the file itself (Raster > Projections > Assign "
                "Projection).",
            )
        if transform.b or transform.d or transform.a < 0 or transform.e > 0:
            raise InputError(
                f"The rows of {name} do not run from west to east, the northernmost first.",
                "Straighten it with ‘Warp’, by the nearest neighbour.",
            )
        grid = Grid(dataset.crs, transform, dataset.width, dataset.height)
        try:
            colors = {
                value: f"#{red:02x}{green:02x}{blue:02x}"
                for value, (red, green, blue, alpha) in dataset.colormap(1).items()
                if alpha
            }
        except ValueError:  # it has none
            colors = {}
        own = _own_classes(dataset.tags().get(CLASSES_TAG, ""))
    asked = {int(row.value): row for row in classes if is_whole(row.value)}
    titles = _category_names(path)
    named = {}
    colors |= {value: row.color for value, row in own.items() if row.color}
    colors |= {value: row.color for value, row in asked.items() if row.color}
    for value in sorted({*asked, *own, *titles}):
        known = own.get(value, MapClass(value))
        wished = asked[value].title if value in asked else ""
        if title := wished or known.title or titles.get(value, ""):
            named[value] = MapClass(value, known.name, title, colors.get(value, ""))
    return ClassRaster(path, grid, named, colors)


def _sums(
    codes: NDArray[np.integer], areas: NDArray[np.float64]
) -> tuple[list[int], list[int], list[float]]:
    """Return the different codes, how often each comes, and the ground of each."""
    if codes.dtype.itemsize <= 2:  # counting is much faster than sorting
        low = int(np.iinfo(codes.dtype).min)
        places = codes.astype(np.int64) - low
        pixels = np.bincount(places)
        found = np.flatnonzero(pixels)
        ground = np.bincount(places, areas)
        return (found + low).tolist(), pixels[found].tolist(), ground[found].tolist()
    values, places = np.unique(codes, return_inverse=True)
    ground = np.bincount(places, areas, values.size)
    return values.tolist(), np.bincount(places, minlength=values.size).tolist(), ground.tolist()


def _own_classes(text: str) -> dict[int, MapClass]:
    """Read the tag that our own maps carry; one that is damaged says nothing."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        rows = json.loads(text)
        return {
            int(row["value"]): MapClass(
                int(row["value"]), str(row["name"]), str(row["title"]), str(row["color"])
            )
            for row in rows
        }
    return {}


def _category_names(path: str) -> dict[int, str]:
    """Read category names by code, from where GDAL keeps them beside a file, or from a VRT."""
    for file in (Path(f"{path}.aux.xml"), Path(path)):
        if file.suffix.lower() not in (".xml", ".vrt") or not file.is_file():
            continue
        with contextlib.suppress(OSError, ParseError, DefusedXmlException):
            root = ElementTree.parse(file).getroot()
            if names := [row.text or "" for row in root.iterfind(".//CategoryNames/Category")]:
                return {value: name for value, name in enumerate(names) if name.strip()}
    return {}
