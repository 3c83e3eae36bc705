"""Tiles that are learned from together: what they have in common, and what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmearth.api import Problem
from mmearth.errors import InputError, counted, listed
from mmearth.pretraining.datasets.tile import Tile
from mmearth.raster.grid import Grid
from mmearth.raster.ground import footprint, overlaps
from mmearth.sensors import Sensor

SIMILAR = 1.1  # of two sizes of pixels
USUAL_M = 10.0  # size of pixels where nothing says it


def large_enough(tiles: Sequence[Tile], crop: int) -> tuple[list[Tile], list[Problem]]:
    """Return the tiles that a crop fits into, and a warning of how many others there are.

    Raises:
        InputError: if it fits into none.
    """
    kept = [tile for tile in tiles if min(tile.shape) >= crop]
    smallest = min(min(tile.shape) for tile in tiles)
    text = f"{len(tiles) - len(kept):,} of {len(tiles):,} tiles are smaller than crops of {crop}"
    advice = f"The smallest is {smallest} pixels wide or high: choose crops no larger than that."
    if not kept:
        raise InputError(f"{text} pixels.", advice)
    if len(kept) == len(tiles):
        return kept, []
    left_out = Problem(code="tiles", message=f"{text} pixels and left out.", advice=advice)
    return kept, [left_out]


def by_place(places: Sequence[str | None], tiles: Sequence[Tile]) -> list[list[int]]:
    """Return the numbers of the tiles of each place, in order of their first tile.

    Raises:
        InputError: if tiles of one place do not show the very same pixels.
    """
    groups: dict[str | int, list[int]] = {}
    for number, said in enumerate(places):
        groups.setdefault(number if said is None else said, []).append(number)
    for place, numbers in groups.items():
        shapes = sorted({tiles[number].shape for number in numbers})
        if len(shapes) > 1:
            sizes = listed(f"{width} x {height}" for height, width in shapes)
            raise InputError(
                f"The tiles of the place {place!r} have {sizes} pixels.",
                "Give them the same pixels, or places of their own.",
            )
        first = tiles[numbers[0]]
        for number in numbers[1:]:
            if not _same_pixels(tiles[number].grid, first.grid):
                raise InputError(
                    f"{first.path.name} and {tiles[number].path.name} are tiles of the place "
                    f"{place!r}, but do not lie on the same pixels of the map.",
                    "Warp them onto the same pixels, or give them places of their own.",
                )
    return list(groups.values())


def _same_pixels(one: Grid | None, other: Grid | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.offset_of(other) == (0, 0)


def pixel_size(tiles: Sequence[Tile], sensor: Sensor) -> tuple[float, list[Problem]]:
    """Return the size of a pixel, if it is about the same in all tiles, and a warning.

    Of tiles without a place on the map it is taken to be that of the others, or else of the
    sensor's finest band.

    Raises:
        InputError: if it is not the same.
    """
    sizes = sorted(tile.pixel_m for tile in tiles if tile.grid)
    if sizes and sizes[-1] > SIMILAR * sizes[0]:
        counts = Counter(float(f"{size:.2g}") for size in sizes)
        found = listed(f"{size:g} m ({counted(n, 'tile')})" for size, n in counts.most_common())
        one = next(tile for tile in tiles if tile.pixel_m > SIMILAR * sizes[0])
        other = next(tile for tile in tiles if tile.pixel_m == sizes[0])
        raise InputError(
            f"Pixels of the tiles are {sizes[0]:.3g} to {sizes[-1]:.3g} m large, about {found}: "
            f"{other.path.name} and {one.path.name} for example.",
            "List tiles of one size only in the index.json of a folder of their own; its paths "
            "may lead to files elsewhere. Or bring all to one size.",
        )
    finest = min((band.gsd_m for band in sensor.bands if band.gsd_m), default=USUAL_M)
    size = float(np.median(sizes)) if sizes else finest
    unplaced = len(tiles) - len(sizes)
    if not unplaced:
        return float(f"{size:.3g}"), []
    return float(f"{size:.3g}"), [
        Problem(
            code="no_place",
            message=f"{counted(unplaced, 'tile')} of {len(tiles):,} have no place on the map: "
            f"where they lie is not learned, and their pixels are taken to be {size:.3g} m large.",
            advice="Leave them out if that is wrong.",
        )
    ]


def said_of_numbers(tiles: Sequence[Tile]) -> list[Problem]:
    """Return each kind of warning once, with the number of tiles that it is about."""
    said: dict[str, list[Problem]] = {}
    for tile in tiles:
        for problem in tile.warnings:
            said.setdefault(problem.code, []).append(problem)
    return [
        found[0].model_copy(
            update={
                "message": f"{counted(len(found), 'tile')} of {len(tiles):,}: {found[0].message}"
            }
        )
        for found in said.values()
    ]


def said_of_ground(learned: Sequence[Tile], held: Sequence[Tile]) -> list[Problem]:
    """Warn if tiles that are held back show ground that is learned from."""
    files = {tile.path.resolve() for tile in learned}
    shared = {tile.path for tile in held if tile.path.resolve() in files}
    ours, theirs = (
        [footprint(tile.grid) if tile.grid else None for tile in one] for one in (learned, held)
    )
    shared |= {held[number].path for _, number in overlaps(ours, theirs)}
    if not shared:
        return []
    return [
        Problem(
            code="shared_ground",
            message=f"{counted(len(shared), 'tile')} of {len(held):,} that are held back "
            "show ground that is learned from: what is told of these says little of new ground.",
            advice="Move tiles of the same ground to one part in index.json.",
        )
    ]
