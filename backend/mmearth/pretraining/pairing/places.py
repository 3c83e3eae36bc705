"""Which places tiles are cut at: drawn evenly over classes of a map, or over blocks of ground."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling

from mmearth.api import PairSpec
from mmearth.errors import EmptyAreaError, counted
from mmearth.pretraining.datasets.blocks import block_at
from mmearth.pretraining.pairing.images import Images
from mmearth.raster.grid import Grid
from mmearth.raster.onto import read_onto


@dataclass(frozen=True, order=True)
class Place:
    """A cell of a lattice.

    Attributes:
        lattice: its number.
        row, col: of the cell; may be negative.
    """

    lattice: int
    row: int
    col: int


@dataclass(frozen=True)
class Cut:
    """A tile to be cut: an image at a place."""

    image: int
    place: Place


def all_places(images: Images, size: int) -> dict[Place, list[int]]:
    """Return each place that a tile fits into, in order, with the images that cover it.

    Raises:
        EmptyAreaError: if there is none.
    """
    found: dict[Place, list[int]] = {}
    for number, image in enumerate(images.ready):
        rows, cols = images.cells(image, size)
        for row in rows:
            for col in cols:
                found.setdefault(Place(image.lattice, row, col), []).append(number)
    if not found:
        largest = max(min(image.grid.width, image.grid.height) for image in images.ready)
        raise EmptyAreaError(
            f"Tiles of {size} pixels do not fit into the images within the area: at most "
            f"{counted(largest, 'pixel')} a side are there.",
            "Choose smaller tiles, a larger area or larger images.",
        )
    return dict(sorted(found.items()))


def block_of(images: Images, place: Place, spec: PairSpec) -> tuple[int, int]:
    """Return row and column of the block of ground that the middle of a tile lies in."""
    lon, lat = images.place_of(place.lattice, place.row, place.col, spec.size)
    return block_at(lon, lat, spec.block_km)


def draw_places(
    places: Sequence[Place], strata: Sequence[Hashable], count: int | None, seed: int
) -> list[Place]:
    """Draw places, as evenly over strata as these have them.

    Args:
        places: to draw from.
        strata: of each; None leaves a place out.
        count: places to draw; all if None.
        seed: of the draw.

    Returns:
        Places in order.
    """
    members: dict[Hashable, list[Place]] = {}
    for place, stratum in zip(places, strata, strict=True):
        if stratum is not None:
            members.setdefault(stratum, []).append(place)
    if count is None:
        return sorted(place for held in members.values() for place in held)
    random = np.random.default_rng(seed)
    queues = [
        [held[number] for number in random.permutation(len(held)).tolist()]
        for held in members.values()
    ]
    order = random.permutation(len(queues)).tolist()  # so that no stratum is always the last
    drawn: list[Place] = []
    while len(drawn) < count and any(queues):
        for number in order:
            if queues[number] and len(drawn) < count:
                drawn.append(queues[number].pop())
    return sorted(drawn)


def classes_of(
    path: str,
    images: Images,
    places: Sequence[Place],
    size: int,
    check_cancelled: Callable[[], None],
) -> list[int | None]:
    """Return the commonest class of a map at each place; None where it has no data.

    Args:
        path: of the map.
        images: whose lattices the places are cells of.
        places: to look at.
        size: of a tile in pixels.
        check_cancelled: called before each line of places; what it raises ends the drawing.

    Raises:
        MissingCrsError: if the map has no place on the map.
        RasterReadError: if it cannot be read.
    """
    found: dict[Place, int | None] = {}
    lines = groupby(sorted(places), key=lambda place: (place.lattice, place.row))
    for (lattice, row), members in lines:
        check_cancelled()
        line = list(members)
        first, last = line[0].col, line[-1].col
        anchor = images.lattices[lattice]
        cells = Affine.translation(first * size, row * size) @ Affine.scale(size)
        grid = Grid(anchor.crs, anchor.transform @ cells, last - first + 1, 1)
        values = read_onto(path, grid, Resampling.mode, bands=[1])[0, 0]
        found.update({place: _class(values, place.col - first) for place in line})
    return [found[place] for place in places]


def _class(values: NDArray[np.float64], col: int) -> int | None:
    return int(values[col]) if np.isfinite(values[col]) else None
