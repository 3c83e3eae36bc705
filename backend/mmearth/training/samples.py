"""Labelled pixels with what a network says of each: the training set of a small head."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import JobCancelled
from mmearth.inference.tiles import Axis, Layout
from mmearth.models.decoders import hypercolumn
from mmearth.models.levels import levels_of
from mmearth.models.network import Normaliser
from mmearth.raster.stack import RasterStack
from mmearth.training.labels import Labels, no_data_at_labels, repeats

MOST_PER_UNIT = 100  # pixels: more of one polygon say nothing new
MOST = 20_000  # pixels, if so few of each unit will do: more say little new, and take long
LEAST_PER_UNIT = 10


@dataclass(frozen=True)
class Samples:
    """Labelled pixels that have data.

    Attributes:
        labels: where they are and what they show, n pixels.
        reflectance: (n, C) float32.
        columns: (n, D) float32, see ``mmearth.models.decoders.hypercolumn``.
        empty: labelled pixels left out because the rasters have no data there.
    """

    labels: Labels
    reflectance: NDArray[np.float32]
    columns: NDArray[np.float32]
    empty: int


def thinned(labels: Labels, seed: int, most: int | None = None) -> Labels:
    """Return labels with at most so many pixels of each unit, drawn at random.

    If ``most`` is None, it is ``MOST_PER_UNIT``, or fewer of many units; of very many units only
    some are left, of all classes.
    """
    if most is None:
        labels = _some_units(labels, seed)
        fair = MOST // max(1, np.unique(labels.units).size)
        most = min(MOST_PER_UNIT, max(LEAST_PER_UNIT, fair))
    order = np.random.default_rng(seed).permutation(labels.units.size)
    wanted = np.zeros(order.size, bool)
    wanted[order] = repeats(labels.units[order]) < most
    return labels.chosen(wanted)


def _some_units(labels: Labels, seed: int) -> Labels:
    """Return labels with no more units than ``MOST`` allows; classes take turns."""
    units, first = np.unique(labels.units, return_index=True)
    if units.size <= MOST // LEAST_PER_UNIT:
        return labels
    order = np.random.default_rng(seed).permutation(units.size)
    turns = np.argsort(repeats(labels.classes[first[order]]), kind="stable")
    return labels.chosen(np.isin(labels.units, units[order[turns[: MOST // LEAST_PER_UNIT]]]))


def take_samples(
    stack: RasterStack,
    labels: Labels,
    layout: Layout,
    base: nn.Module,
    normalise: Normaliser,
    *,
    chosen: Sequence[int] | None = None,
    lanes: int = 1,
    progress: Callable[[float], None] = lambda share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Samples:
    """Run a trained network where labels are, and take the columns of the labelled pixels.

    Each pixel is taken from the tile in which it lies farthest from the rim.

    Args:
        stack: where pixels come from; opened and closed here.
        labels: on the stack's grid.
        layout: tiles over it, as for mapping.
        base: a network of ``build_network``, in evaluation mode, on any device.
        normalise: from reflectance to its input, on the same device.
        chosen: numbers of the levels that columns are made of; all if None.
        lanes: tiles that are computed side by side.
        progress: called with the share that is done.
        cancelled: asked once a tile.

    Raises:
        EmptyAreaError: if the rasters have no data at any label.
        JobCancelled: if ``cancelled`` says so.
    """
    places = _by_tile(labels, layout)
    device = next(base.parameters()).device
    count = labels.rows.size
    valid = np.zeros(count, bool)
    reflectance = np.zeros((count, len(stack.bands)), np.float32)
    columns: NDArray[np.float32] | None = None

    @torch.inference_mode()
    def look(tile: LabelledTile) -> NDArray[np.float32]:
        if cancelled():
            raise JobCancelled("Cancelled.")
        image, mask = torch.from_numpy(tile.image)[None], torch.from_numpy(tile.mask)[None]
        maps = levels_of(base, normalise(image.to(device), mask.to(device)), chosen)
        rows, cols = (torch.from_numpy(part).to(device) for part in (tile.rows, tile.cols))
        return hypercolumn.columns(maps, rows, cols).cpu().numpy()

    done = 0
    with (
        stack,
        ThreadPoolExecutor(lanes, "samples", torch.set_num_threads, (1,)) as pool,
        closing(_tiles(stack, layout, places, labels)) as tiles,
    ):
        while some := list(islice(tiles, lanes)):
            for tile, found in zip(some, pool.map(look, some), strict=True):
                valid[tile.members] = tile.mask[tile.rows, tile.cols]
                reflectance[tile.members] = tile.image[:, tile.rows, tile.cols].T
                if columns is None:
                    columns = np.zeros((count, found.shape[1]), np.float32)
                columns[tile.members] = found
            done += len(some)
            progress(done / len(places))
    if columns is None or not valid.any():
        raise no_data_at_labels()
    return Samples(labels.chosen(valid), reflectance[valid], columns[valid], int((~valid).sum()))


@dataclass(frozen=True)
class LabelledTile:
    """Labelled pixels of a tile, by their numbers and places in it, and what it shows.

    Attributes:
        members: (n,) int64, numbers of the pixels.
        rows: (n,) int64, in the tile.
        cols: (n,) int64, in the tile.
        image: (C, t, t) float32, reflectance.
        mask: (t, t) bool, False where there is no data.
    """

    members: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]


def tiles_with(stack: RasterStack, labels: Labels, layout: Layout) -> Iterator[LabelledTile]:
    """Read the tiles that labels lie in, each pixel in the one where it is farthest from the rim.

    Args:
        stack: where pixels come from, open.
        labels: on the stack's grid.
        layout: tiles over it.
    """
    yield from _tiles(stack, layout, _by_tile(labels, layout), labels)


def nearest_tiles(axis: Axis, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the tile along an axis whose centre is nearest to each place.

    Args:
        axis: tiles.
        places: (n,) int64 pixels of the scene.
    """
    centres = np.array(axis.starts) + axis.tile / 2
    return np.abs(places[:, None] + 0.5 - centres[None, :]).argmin(axis=1)


def _by_tile(labels: Labels, layout: Layout) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return the pixels to be taken from each tile, by its numbers down and across."""
    down = nearest_tiles(layout.rows, labels.rows)
    across = nearest_tiles(layout.cols, labels.cols)
    keys = down * len(layout.cols.starts) + across
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    parts = np.split(order, first[1:])
    return {
        divmod(int(key), len(layout.cols.starts)): part
        for key, part in zip(found, parts, strict=True)
    }


def _tiles(
    stack: RasterStack,
    layout: Layout,
    places: dict[tuple[int, int], NDArray[np.int64]],
    labels: Labels,
) -> Generator[LabelledTile, None, None]:
    """Yield the tiles that pixels are taken from."""
    read = -1
    strip, valid = np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), bool)
    rows = np.zeros(0, np.intp)
    for (down, across), members in sorted(places.items()):
        if down != read:
            rows = layout.rows.mirrored(layout.rows.starts[down])
            strip, valid = stack.read_rows(int(rows.min()), int(rows.max()) + 1)
            rows, read = rows - rows.min(), down
        cols = layout.cols.mirrored(layout.cols.starts[across])
        yield LabelledTile(
            members,
            labels.rows[members] - layout.rows.starts[down],
            labels.cols[members] - layout.cols.starts[across],
            np.ascontiguousarray(strip[:, rows][:, :, cols]),
            np.ascontiguousarray(valid[rows][:, cols]),
        )
