"""Images made ready to be cut into tiles, and the lattices that tiles lie on.

Images that share ground, a coordinate reference system and a size of pixels share a lattice, so a
place has the same pixels on all dates. Images whose ground no other shows have one of their own, as
chips of an archive do: on a lattice of all, most of them would hold no whole tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import rasterio.warp
import shapely
from affine import Affine
from rasterio.coords import BoundingBox

from mmearth.api import BandMatch, Extent, MatchState, PairImage, PairSpec, Problem
from mmearth.errors import BandMatchError, EmptyAreaError, InputError, MMEarthError, counted
from mmearth.pretraining.temporal.patches import INSET, components
from mmearth.raster.grid import Grid
from mmearth.raster.mask import Mask, check_overlap, find_masks
from mmearth.raster.match import match_bands, require_all
from mmearth.raster.radiometry import ScaledBand, refuse_pictures, scale_bands
from mmearth.raster.source import BandSource, list_bands
from mmearth.raster.stack import target_grid
from mmearth.sensors import Sensor, load_sensor

SAME_PIXEL = 1e-6  # share that two sizes of pixels may differ by
SLACK = 0.01  # of a pixel


@dataclass(frozen=True)
class Ready:
    """An image that is ready to be cut.

    Attributes:
        image: as requested.
        bands: with scale and offset.
        masks: pixels to leave out.
        grid: of its pixels.
        lattice: number of the lattice that its tiles lie on.
    """

    image: PairImage
    bands: list[ScaledBand]
    masks: list[Mask]
    grid: Grid
    lattice: int

    @property
    def title(self) -> str:
        """What the user knows it by."""
        first = self.image.inputs[0]
        return first.label or first.path


@dataclass(frozen=True)
class Images:
    """All images, the grids whose origins their lattices begin at, and warnings."""

    ready: list[Ready]
    lattices: list[Grid]
    bands: tuple[str, ...]
    warnings: list[Problem]

    def tile_grid(self, lattice: int, row: int, col: int, size: int, width: int = 1) -> Grid:
        """Return the pixels of a tile, or of several side by side."""
        anchor = self.lattices[lattice]
        transform = anchor.transform @ Affine.translation(col * size, row * size)
        return Grid(anchor.crs, transform, width * size, size)

    def cells(self, image: Ready, size: int) -> tuple[range, range]:
        """Return the rows and columns of tiles that lie within an image."""
        inverse = ~self.lattices[image.lattice].transform
        bounds = image.grid.bounds
        left, top = inverse @ (bounds.left, bounds.top)
        right, bottom = inverse @ (bounds.right, bounds.bottom)
        rows = range(math.ceil((top - SLACK) / size), math.floor((bottom + SLACK) / size))
        cols = range(math.ceil((left - SLACK) / size), math.floor((right + SLACK) / size))
        return rows, cols

    def place_of(self, lattice: int, row: int, col: int, size: int) -> tuple[float, float]:
        """Return longitude and latitude of the middle of a tile in degrees."""
        grid = self.tile_grid(lattice, row, col, size)
        x, y = grid.transform @ (size / 2, size / 2)
        (lon,), (lat,) = rasterio.warp.transform(grid.crs, "EPSG:4326", [x], [y])
        return float(lon), float(lat)


def prepare_images(spec: PairSpec) -> Images:
    """Make all images ready; of pixels, no more than samples are read.

    Raises:
        BandMatchError: if bands are missing, or not found for certain.
        EmptyAreaError: if no image holds a tile within the area.
        InputError: if a level is not stated.
        MissingCrsError: if an image has no place on the map.
        RadiometryError: if its numbers cannot be what the sensor measures.
        RasterReadError: if it cannot be opened.
    """
    sensor = load_sensor(spec.sensor)
    bands = tuple(spec.bands)
    images: list[Ready] = []
    outside = 0
    said: dict[str, list[Problem]] = {}  # by code: the same of several images is told once
    for image in spec.images:
        try:
            ready, found, told = _prepare(image, sensor, bands, spec.extent)
        except EmptyAreaError:
            if len(spec.images) == 1:
                raise
            outside += 1
            continue
        except MMEarthError as error:
            title = image.inputs[0].path if image.inputs else "An image"
            if title in error.message:
                raise
            raise type(error)(f"{title}: {error.message}", error.advice) from error
        bands = bands or found
        images.append(ready)
        for problem in told:
            said.setdefault(problem.code, []).append(problem)
    warnings = [_once(problems, len(images)) for problems in said.values()]
    if outside:
        text = f"{outside:,} of {len(spec.images):,} images do not overlap the area"
        if not images:
            raise EmptyAreaError(f"{text}.", "Choose an area inside the images.")
        warnings.append(Problem(code="outside", message=f"{text}, and are left out."))
    return Images(*_on_lattices(images), bands, warnings)


def _prepare(
    image: PairImage, sensor: Sensor, bands: tuple[str, ...], extent: Extent | None
) -> tuple[Ready, tuple[str, ...], list[Problem]]:
    if sensor.id == "sentinel-2" and image.level.upper() not in ("L1C", "L2A"):
        raise InputError(
            f"Expected L1C or L2A as the processing level of the image, found {image.level!r}.",
            "State it: what their numbers mean differs.",
        )
    sources = list_bands(image.inputs)
    wanted = bands or tuple(band.name for band in sensor.bands)
    matches = match_bands(sources, wanted, sensor, choices=image.bands)
    if not bands:
        matches = [match for match in matches if match.state is not MatchState.missing]
    if not matches:
        raise BandMatchError(
            f"No band of {sensor.title} is found.", "Choose the right sensor, or name the bands."
        )
    refuse_pictures(sources, sensor, image.radiometry)
    require_all(matches)
    chosen = [_source(sources, match) for match in matches]
    scaled, warnings = scale_bands(chosen, sensor, image.radiometry)
    finest = min(source.grid.pixel_m for source in chosen)
    sizes = [sensor.band(match.band).gsd_m for match in matches]
    grid = target_grid(chosen, min([size for size in sizes if size] or [finest]), extent)
    masks, found = find_masks(image.masks, sources, search=image.scene_classification == "use")
    told = [*warnings, *found, *check_overlap(masks, grid)]
    return Ready(image, scaled, masks, grid, 0), tuple(match.band for match in matches), told


def _once(problems: Sequence[Problem], images: int) -> Problem:
    if images == 1:
        return problems[0]
    count = f"{counted(len(problems), 'image')} of {images:,}"
    return problems[0].model_copy(update={"message": f"{count}: {problems[0].message}"})


def _source(sources: Sequence[BandSource], match: BandMatch) -> BandSource:
    wanted = match.source
    return next(s for s in sources if wanted and s.key == (wanted.input, wanted.index))


def _on_lattices(images: Sequence[Ready]) -> tuple[list[Ready], list[Grid]]:
    """Number the lattices that images lie on, which begin at the origin of their first image."""
    kinds: dict[int, list[int]] = {}  # by the first image of the same system and pixels
    for number, image in enumerate(images):
        first = next((one for one in kinds if _alike(images[one].grid, image.grid)), number)
        kinds.setdefault(first, []).append(number)
    groups = []
    for members in kinds.values():
        rim = INSET * abs(images[members[0]].grid.transform.a)
        outlines = [shapely.box(*_within(images[number].grid.bounds, rim)) for number in members]
        groups += [[members[one] for one in group] for group in components(outlines)]
    groups.sort()
    lattice = {number: rank for rank, group in enumerate(groups) for number in group}
    placed = [replace(image, lattice=lattice[number]) for number, image in enumerate(images)]
    return placed, [images[group[0]].grid for group in groups]


def _alike(one: Grid, other: Grid) -> bool:
    a, b = one.transform, other.transform
    same = max(abs(a.a / b.a - 1), abs(a.e / b.e - 1)) < SAME_PIXEL
    return same and one.crs == other.crs


def _within(bounds: BoundingBox, rim: float) -> tuple[float, float, float, float]:
    """Return bounds less their rim: images that only touch share no ground."""
    left, bottom, right, top = bounds
    return left + rim, bottom + rim, right - rim, top - rim
