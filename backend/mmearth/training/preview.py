"""A map of what is seen by a head trained on the labels of the moment, in a fraction of a second.

Each pixel is mapped from the tile in which it lies farthest from the rim, without blending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.inference.tiles import Axis, Layout
from mmearth.models import levels
from mmearth.models.decoders.hypercolumn import Hypercolumn
from mmearth.training.head import Head, HeadRecipe, train_head
from mmearth.training.labels import Labels, no_data_at_labels, repeats, require_classes
from mmearth.training.samples import MOST_PER_UNIT, nearest_tiles
from mmearth.training.scene import Base, Lanes, Scene, Source, columns_at, open_scene
from mmearth.training.suggest import BLOCK, Blocks, Place, suggest

FIRST = 1  # number of the first class in the map; 0 is no data
UNSURE, UNKNOWN = 100, 255  # of the uncertainty: its highest value, and no data


@dataclass(frozen=True)
class View:
    """The pixels that are seen: rows and columns of the scene, the last ones exclusive."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Preview:
    """A map of a view.

    Attributes:
        classes: (h, w) uint8, number of the class from 1, 0 without data.
        uncertainty: (h, w) uint8, 100 x (1 - margin), 255 without data. The margin is that between
            the probabilities of the two likeliest classes (Scheffer et al. 2001).
        suggestions: the most useful first.
        tiles_computed: tiles that were not in memory.
    """

    classes: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]
    suggestions: list[Place]
    tiles_computed: int


def preview(
    source: Source, view: View, labels: Labels, seed: int, cancelled: Callable[[], bool]
) -> Preview:
    """Train a head on labels, and map a view with it.

    Args:
        source: what the scene is read from.
        view: what is mapped.
        labels: on the scene's grid.
        seed: of weights and batches.
        cancelled: asked once a tile and step.

    Raises:
        InputError: if data are labelled of fewer than two classes, or in too many places.
        EmptyAreaError: if there are no data where the labels are.
        ModelError: if nothing can be built on the model.
        JobCancelled: if ``cancelled`` says so.
    """
    scene = open_scene(source)
    known = levels.tiles_computed()
    shape = view.bottom - view.top, view.right - view.left
    free = ~_labelled(labels, view)
    labels = _thinned(labels, source.grid.width)
    classes, uncertainty = np.zeros(shape, np.uint8), np.full(shape, UNKNOWN, np.uint8)
    candidates = []
    with Lanes(scene.base, source.settings, cancelled) as lanes:
        found, valid = scene.columns(labels, lanes)
        labels, found = labels.chosen(valid), found[valid]
        _check(labels)
        head = _train(scene.base, found, labels, seed, cancelled)
        tail = scene.base.tail(head)

        def work(part: _Part) -> _Mapped:
            return _map(scene, tail, part, free[part.seen(view)])

        for part, mapped in lanes.each(work, _parts(source.layout, view)):
            place = part.seen(view)
            classes[place], uncertainty[place] = mapped.classes, mapped.uncertainty
            candidates.append(mapped.blocks)
    blocks = Blocks.joined(candidates)
    suggestions = suggest(blocks, head, found, labels) if blocks.rows.size else []
    computed = levels.tiles_computed() - known
    return Preview(classes, uncertainty, suggestions, computed)


def _train(
    base: Base,
    found: NDArray[np.float32],
    labels: Labels,
    seed: int,
    cancelled: Callable[[], bool],
) -> Head:
    """Train the head that the quick protocol would."""
    recipe, members = HeadRecipe(seed=seed), base.plan.members
    known = found, labels.classes, labels.units, len(labels.names)
    return train_head(*known, recipe, members=members, cancelled=cancelled)


@dataclass(frozen=True)
class _Part:
    """What is mapped from one tile: rows and columns of the scene."""

    top: int
    left: int
    rows: range
    cols: range

    def seen(self, view: View) -> tuple[slice, slice]:
        """Return where it lies in the view."""
        return (
            slice(self.rows.start - view.top, self.rows.stop - view.top),
            slice(self.cols.start - view.left, self.cols.stop - view.left),
        )


@dataclass(frozen=True)
class _Mapped:
    classes: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]
    blocks: Blocks


def _thinned(labels: Labels, width: int) -> Labels:
    """Return labels with some pixels of each unit, which stay the same when others are drawn."""
    pixels = labels.rows * width + labels.cols
    scattered = (pixels * 2_654_435_761) % 2**32  # Knuth's multiplicative hashing
    order = np.lexsort((scattered, labels.units))
    wanted = np.zeros(order.size, bool)
    wanted[order] = repeats(labels.units[order]) < MOST_PER_UNIT
    return labels.chosen(wanted)


def _labelled(labels: Labels, view: View) -> NDArray[np.bool_]:
    """Return which pixels of a view have a label. (h, w) bool."""
    found = np.zeros((view.bottom - view.top, view.right - view.left), bool)
    rows, cols = labels.rows - view.top, labels.cols - view.left
    seen = (rows >= 0) & (rows < found.shape[0]) & (cols >= 0) & (cols < found.shape[1])
    found[rows[seen], cols[seen]] = True
    return found


def _check(labels: Labels) -> None:
    if not labels.rows.size:
        raise no_data_at_labels()
    require_classes(labels)


def _parts(layout: Layout, view: View) -> Iterator[_Part]:
    """Share a view among tiles."""
    across = list(_runs(layout.cols, view.left, view.right))
    for top, rows in _runs(layout.rows, view.top, view.bottom):
        for left, cols in across:
            yield _Part(top, left, rows, cols)


def _runs(axis: Axis, first: int, last: int) -> Iterator[tuple[int, range]]:
    """Yield the start of each tile that pixels are nearest to, and these pixels."""
    tiles, begin = np.unique(nearest_tiles(axis, np.arange(first, last)), return_index=True)
    ends = [*begin[1:], last - first]
    for tile, start, stop in zip(tiles, begin, ends, strict=True):
        yield axis.starts[tile], range(first + int(start), first + int(stop))


@torch.no_grad()
def _map(scene: Scene, tail: Hypercolumn, part: _Part, free: NDArray[np.bool_]) -> _Mapped:
    """Map a part of a tile. free: (h, w) bool, False where there are labels."""
    maps, mask = scene.tile(part.top, part.left)
    rows = slice(part.rows.start - part.top, part.rows.stop - part.top)
    cols = slice(part.cols.start - part.left, part.cols.stop - part.left)
    valid = mask[rows, cols]
    if not valid.any():
        empty = np.zeros(valid.shape, np.uint8)
        width = tail.mean.numel()
        none = np.zeros(0, np.int64)
        nowhere = Blocks(none, none, none.astype(np.float32), np.zeros((0, width), np.float32))
        return _Mapped(empty, empty + np.uint8(UNKNOWN), nowhere)
    near, inside = _cut(maps, rows, cols)
    scores = _scores(tail, near)[:, inside[0], inside[1]]
    two = torch.softmax(scores, dim=0).topk(2, dim=0)
    margin = (two.values[0] - two.values[1]).cpu().numpy()
    unsure = np.where(valid, np.rint(UNSURE * (1 - margin)), UNKNOWN).astype(np.uint8)
    classes = np.where(valid, two.indices[0].cpu().numpy() + FIRST, 0).astype(np.uint8)
    return _Mapped(classes, unsure, _blocks(part, maps, valid & free, unsure))


def _cut(
    maps: list[torch.Tensor], rows: slice, cols: slice
) -> tuple[list[torch.Tensor], tuple[slice, slice]]:
    """Cut maps to what some pixels depend on: theirs, and a cell of the coarsest map around.

    Returns:
        The maps, and where the pixels lie in them.
    """
    side = maps[0].shape[-1]
    cell = side // min(level.shape[-1] for level in maps)
    if any(side % level.shape[-1] for level in maps):
        return maps, (rows, cols)  # maps of odd sizes cannot be cut
    ends = []
    for part in (rows, cols):
        first = max(0, part.start // cell - 1) * cell
        last = min(side, (-(-part.stop // cell) + 1) * cell)
        ends.append((first, last))
    near = []
    for level in maps:
        size = side // level.shape[-1]
        (top, bottom), (left, right) = ((first // size, last // size) for first, last in ends)
        near.append(level[:, :, top:bottom, left:right])
    inside = tuple(
        slice(part.start - first, part.stop - first)
        for part, (first, _) in zip((rows, cols), ends, strict=True)
    )
    return near, (inside[0], inside[1])


def _scores(tail: Hypercolumn, maps: list[torch.Tensor]) -> torch.Tensor:
    """Return scores (K, h, w) of maps (1, widths[i], h, w)."""
    height, width = maps[0].shape[-2:]
    if any(level.shape[-2:] != (height, width) for level in maps):
        return tail.on_levels(maps)[0]
    # As single pixels, in a third of the time.
    pixels = torch.cat(maps, dim=1).permute(0, 2, 3, 1).reshape(height * width, -1)
    return tail.on_columns(pixels).T.reshape(-1, height, width)


def _blocks(
    part: _Part, maps: list[torch.Tensor], usable: NDArray[np.bool_], unsure: NDArray[np.uint8]
) -> Blocks:
    """Return the blocks of a part that are usable as a whole; what is left over at its rim goes."""
    down, across = usable.shape[0] // BLOCK, usable.shape[1] // BLOCK
    held = np.s_[: down * BLOCK, : across * BLOCK]
    shape = (down, BLOCK, across, BLOCK)
    full = usable[held].reshape(shape).all(axis=(1, 3))
    mean = unsure[held].reshape(shape).mean(axis=(1, 3), dtype=np.float32)
    rows, cols = (place * BLOCK + BLOCK // 2 for place in np.nonzero(full))
    rows, cols = rows + part.rows.start, cols + part.cols.start
    found = columns_at(maps, rows - part.top, cols - part.left)
    return Blocks(rows, cols, mean[full], found)
