"""Where scenes of several dates share ground: patches of as many dates as there are.

As SpectralEarth was made (Braham et al., arXiv:2408.08447): scenes that overlap are a graph; in
each of its connected components, tuples of n - 1 scenes are grown to n while they share ground;
patches are cut from the largest tuples first, and an R-tree of those accepted keeps ground from
being cut twice.

A frame that was taken k times has 2^k tuples. So they are grown position by position of a lattice
that all scenes share: each position ends in one tuple, the largest that holds it. No other could
give a patch there, since larger ones come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BATCH = 20_000  # positions that are held against the patches accepted before them at once
INSET = 0.25  # pixels; squares that only touch share no ground


@dataclass(frozen=True)
class Patch:
    """A square of ground.

    Attributes:
        col: of its upper left pixel, on the grid that the scenes share.
        row: likewise.
        scenes: numbers of those that show it whole, in ascending order; each of another date.
    """

    col: int
    row: int
    scenes: tuple[int, ...]


def components(outlines: Sequence[shapely.Geometry]) -> list[list[int]]:
    """Return the connected components of the graph of scenes that overlap.

    Args:
        outlines: footprint of each scene; empty ones are left out.

    Returns:
        Numbers of scenes, in ascending order, and components by their first scene.
    """
    shapes = np.asarray(outlines, dtype=object)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    count = len(shapes)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for number in np.flatnonzero(~shapely.is_empty(shapes)).tolist():
        found.setdefault(int(labels[number]), []).append(number)
    return list(found.values())


def positions(outline: shapely.Geometry, size: int, step: int) -> NDArray[np.int64]:
    """Return the positions of the lattice at which a square lies within a footprint.

    Args:
        outline: footprint, in pixels of the grid that the scenes share.
        size: side of the square in pixels.
        step: of the lattice in pixels; it holds (0, 0).

    Returns:
        (n, 2) column and row of the upper left pixel, row by row.
    """
    if shapely.is_empty(outline):
        return np.empty((0, 2), np.int64)
    left, top, right, bottom = shapely.bounds(outline)
    cols = np.arange(np.ceil(left / step), (right - size) // step + 1, dtype=np.int64) * step
    rows = np.arange(np.ceil(top / step), (bottom - size) // step + 1, dtype=np.int64) * step
    found = np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2)
    shapely.prepare(outline)
    return found[shapely.covers(outline, squares(found, size))]


def squares(found: NDArray[np.int64], size: int, inset: float = 0.0) -> NDArray[np.object_]:
    """Return the squares at positions: (n, 2) column and row to (n,) polygons."""
    col, row = found[:, 0], found[:, 1]
    boxes: NDArray[np.object_] = shapely.box(
        col + inset, row + inset, col + size - inset, row + size - inset
    )
    return boxes


def find_patches(
    places: Mapping[int, NDArray[np.int64]],
    dates: Mapping[int, str],
    size: int,
    least: int = 1,
) -> list[Patch]:
    """Lay patches on the ground that the scenes of a component show, most dates first.

    Args:
        places: scene number -> (n, 2) positions at which it shows a whole patch.
        dates: scene number -> date; of scenes of one date only the first counts, an empty date is
            like no other.
        size: side of a patch in pixels.
        least: dates of a patch.

    Returns:
        Patches that share no ground, in the order in which they were accepted.
    """
    tuples = {
        place: scenes for place, scenes in _grown(places, dates).items() if len(scenes) >= least
    }
    order = sorted(tuples, key=lambda place: (-len(tuples[place]), tuples[place], place[::-1]))
    accepted: list[tuple[int, int]] = []
    for start in range(0, len(order), BATCH):
        accepted += _free(order[start : start + BATCH], accepted, size)
    return [Patch(*place, tuples[place]) for place in accepted]


def _grown(
    places: Mapping[int, NDArray[np.int64]], dates: Mapping[int, str]
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Grow the tuple of each position scene by scene, from n - 1 to n."""
    tuples: dict[tuple[int, int], tuple[int, ...]] = {}
    shown: dict[str, set[tuple[int, int]]] = {}  # on a date
    for scene in sorted(places):
        fresh = set(map(tuple, places[scene].tolist()))
        if dates[scene]:
            before = shown.setdefault(dates[scene], set())
            fresh -= before
            before |= fresh
        for place in fresh:
            tuples[place] = (*tuples.get(place, ()), scene)
    return tuples


def _free(
    order: Sequence[tuple[int, int]], accepted: Sequence[tuple[int, int]], size: int
) -> list[tuple[int, int]]:
    """Return the positions whose square shares no ground with one accepted, first come first.

    An STR-packed tree cannot grow. So positions come in batches, each held against a tree of all
    that was accepted before it, and against a tree of its own.
    """
    found = np.array(order, np.int64).reshape(-1, 2)
    if accepted:
        before = np.array(accepted, np.int64)
        boxes = squares(found, size, INSET)
        taken, _ = shapely.STRtree(squares(before, size, INSET)).query(boxes)
        found = np.delete(found, np.unique(taken), axis=0)
    boxes = squares(found, size, INSET)
    one, other = shapely.STRtree(boxes).query(boxes)
    starts = np.searchsorted(one, np.arange(len(found) + 1))
    blocked = np.zeros(len(found), bool)
    free = []
    for number, place in enumerate(found.tolist()):
        if not blocked[number]:
            free.append((place[0], place[1]))
            blocked[other[starts[number] : starts[number + 1]]] = True
    return free
