"""A map of what is seen by a head trained on the labels of the moment, in a fraction of a second.

What the network says of a tile is taken from ``mmearth.models.levels``, where it is kept; columns
of labelled pixels are kept here, so tiles that are not seen are looked at once, and not again for
every polygon that is drawn elsewhere. Each pixel is mapped from the tile in which it lies farthest
from the rim, without blending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import EmptyAreaError, InputError, JobCancelled
from mmearth.inference.tiles import Axis, Layout
from mmearth.models import levels
from mmearth.models.card import ModelCard
from mmearth.models.decoders.hypercolumn import Hypercolumn, columns
from mmearth.models.network import LoadedModel, loaded, memory_explained
from mmearth.raster.grid import Grid
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.stack import RasterStack
from mmearth.settings import Settings
from mmearth.training.design import design, load_base
from mmearth.training.head import Head, HeadRecipe, train_head
from mmearth.training.labels import Labels
from mmearth.training.samples import nearest_tiles
from mmearth.training.suggest import BLOCK, Blocks, Place, suggest

MOST_PER_UNIT = 100  # pixels of a polygon
MOST_TILES = 500  # with labels: some minutes, at first
FIRST = 1  # number of the first class in the map; 0 is no data
UNSURE, UNKNOWN = 100, 255  # of the uncertainty: its highest value, and no data


Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scene:
    """What is looked at.

    Attributes:
        card: of the model.
        bands: what its input is read from.
        grid: of the whole scene.
        layout: tiles over it.
        key: tells scenes apart, and a scene from one whose files have changed.
        settings: settings of the backend.
    """

    card: ModelCard
    bands: list[ScaledBand]
    grid: Grid
    layout: Layout
    key: str
    settings: Settings


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
    scene: Scene, view: View, labels: Labels, seed: int, cancelled: Callable[[], bool]
) -> Preview:
    """Train a head on labels, and map a view with it.

    Args:
        scene: where pixels come from.
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
    base = loaded(Base, scene.card, scene.settings)
    levels.set_budget(scene.settings)
    known = levels.tiles_computed()
    shape = view.bottom - view.top, view.right - view.left
    free = ~_labelled(labels, view)
    labels = _thinned(labels, scene.grid.width)
    classes, uncertainty = np.zeros(shape, np.uint8), np.full(shape, UNKNOWN, np.uint8)
    candidates = []
    with _Lanes(base, scene.settings, cancelled) as lanes:
        found, valid = _samples.take(scene, base, labels, lanes)
        labels, found = labels.chosen(valid), found[valid]
        _check(labels)
        head = lanes.do(lambda: _train(base, found, labels, seed, cancelled))
        tail = base.tail(head)

        def work(part: _Part) -> _Mapped:
            return _map(scene, base, tail, part, free[part.seen(view)])

        for part, mapped in lanes.each(work, _parts(scene.layout, view)):
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


def forget() -> None:
    """Give back the memory of columns and of what networks said."""
    _samples.forget()
    levels.forget()


class Base(LoadedModel):
    """What a head is built on, loaded on a device, from reflectance to the maps that it sees.

    Attributes:
        plan: of the head.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        super().__init__(card, settings)
        self.plan = design(self._module, len(card.bands), card.stride)

    def build(self) -> nn.Module:
        """Build the network, with its weights; of a model that is a head, what that is built on.

        Raises:
            ModelError: if the weights are missing or damaged, or do not fit.
        """
        return load_base(self.card)[0]

    @torch.no_grad()
    def levels(self, image: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[torch.Tensor]:
        """Compute the maps of a tile, or take them from memory.

        Args:
            image: (C, t, t) float32, reflectance.
            mask: (t, t) bool, False where there is no data.

        Returns:
            Maps (1, widths[i], h, w) float32 on this network's device, the image first.

        Raises:
            OutOfMemoryError: if the device's memory does not suffice.
        """
        with memory_explained(self.device):
            values = self._normalise(
                torch.from_numpy(image)[None].to(self.device),
                torch.from_numpy(mask)[None].to(self.device),
            )
            return levels.levels_of(self._module, values, self.plan.chosen)

    def tail(self, head: Head) -> Hypercolumn:
        """Return a head as the tail of a network, on this network's device."""
        widths, classes = self.plan.widths, head.last.out_features
        found = Hypercolumn(nn.Identity(), widths, classes, self.plan.hidden)
        found.load_state_dict(head.state_dict())
        return found.to(self.device).eval()


@dataclass
class _Samples:
    """Columns of labelled pixels, as far as the last preview had them.

    Attributes:
        key: of the scene.
        pixels: (n,) int64, row x width + column, ascending.
        columns: (n, D) float32.
        valid: (n,) bool, whether there are data.
    """

    key: str = ""
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    columns: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]

    def take(
        self,
        scene: Scene,
        base: Base,
        labels: Labels,
        lanes: _Lanes,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return columns (n, D) of labelled pixels, and which of them have data; keep them."""
        if self.key != scene.key:
            self.forget()
            self.key = scene.key
        wanted = labels.rows * scene.grid.width + labels.cols
        new = np.setdiff1d(wanted, self.pixels)
        if new.size:
            self._add(scene, base, new, lanes)
        places = np.searchsorted(self.pixels, wanted)
        kept = np.unique(places)  # what was labelled before, and is no more, goes
        self.pixels, self.valid = self.pixels[kept], self.valid[kept]
        self.columns = self.columns[kept]
        places = np.searchsorted(self.pixels, wanted)
        return self.columns[places], self.valid[places]

    def _add(
        self,
        scene: Scene,
        base: Base,
        pixels: NDArray[np.int64],
        lanes: _Lanes,
    ) -> None:
        def look(part: _Spots) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            image, mask = _read(scene, part.top, part.left)
            valid = mask[part.rows, part.cols]
            maps = base.levels(image, mask)
            return _columns(maps, part.rows, part.cols), valid

        parts = list(_spots(scene.layout, *np.divmod(pixels, scene.grid.width), pixels))
        if len(parts) > MOST_TILES:
            raise InputError(
                f"The labels lie in {len(parts):,} parts of the scene, too many for live mode; it "
                f"takes {MOST_TILES}.",
                "Switch live mode off and train, or take rasters of a smaller area.",
            )
        # Kept tile by tile, so that a preview that is cancelled has not looked in vain.
        for part, (found, valid) in lanes.each(look, parts):
            before = self.columns if self.columns.size else found[:0]
            order = np.argsort(np.concatenate([self.pixels, part.pixels]))
            self.pixels = np.concatenate([self.pixels, part.pixels])[order]
            self.columns = np.concatenate([before, found])[order]
            self.valid = np.concatenate([self.valid, valid])[order]


_samples = _Samples()


class _Lanes:
    """Threads of one core each, as small work on several only waits; a context manager.

    Graphics cards have a single one.
    """

    def __init__(self, base: Base, settings: Settings, cancelled: Callable[[], bool]):
        count = settings.cpu_threads if base.device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(count, "preview", torch.set_num_threads, (1,))
        self.cancelled = cancelled

    def __enter__(self) -> _Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def do(self, work: Callable[[], Result]) -> Result:
        """Do something in one of them."""
        return self._pool.submit(work).result()

    def each(
        self, work: Callable[[Part], Result], parts: Iterable[Part]
    ) -> Iterator[tuple[Part, Result]]:
        """Yield parts and what ``work`` returns of them, in order.

        Raises:
            JobCancelled: if the user has had enough; tiles under way come to their end.
        """

        def watched(part: Part) -> Result:
            if self.cancelled():
                raise JobCancelled("Cancelled.")
            return work(part)

        parts = list(parts)
        return zip(parts, self._pool.map(watched, parts), strict=True)


@dataclass(frozen=True)
class _Spots:
    """Pixels to be taken from one tile: numbers in the scene, rows and columns in the tile."""

    top: int
    left: int
    pixels: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]


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
    _, first, counts = np.unique(labels.units[order], return_index=True, return_counts=True)
    place = np.arange(order.size) - np.repeat(first, counts)
    wanted = np.zeros(order.size, bool)
    wanted[order[place < MOST_PER_UNIT]] = True
    return labels.chosen(wanted)


def _labelled(labels: Labels, view: View) -> NDArray[np.bool_]:
    """Return which pixels of a view have a label. (h, w) bool."""
    found = np.zeros((view.bottom - view.top, view.right - view.left), bool)
    rows, cols = labels.rows - view.top, labels.cols - view.left
    seen = (rows >= 0) & (rows < found.shape[0]) & (cols >= 0) & (cols < found.shape[1])
    found[rows[seen], cols[seen]] = True
    return found


def _check(labels: Labels) -> None:
    used = [labels.names[number] for number in np.unique(labels.classes)]
    if not used:
        raise EmptyAreaError(
            "The rasters have no data where the labels are.",
            "Draw labels where the image shows something.",
        )
    if len(used) < 2:
        raise InputError(
            f"Expected labels of two classes or more, found only {used[0]!r}.",
            "Draw some of another class too: a model learns from differences.",
        )


def _read(scene: Scene, top: int, left: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read a tile: image (C, t, t) and mask (t, t), reflected at the rims of the scene."""
    rows, cols = scene.layout.rows.mirrored(top), scene.layout.cols.mirrored(left)
    first_row, first_col = int(rows.min()), int(cols.min())
    height, width = int(rows.max()) + 1 - first_row, int(cols.max()) + 1 - first_col
    transform = scene.grid.transform @ Affine.translation(first_col, first_row)
    # Of this piece alone, as rows of a stack are read whole.
    with RasterStack(scene.bands, Grid(scene.grid.crs, transform, width, height)) as stack:
        image, mask = stack.read_rows(0, height)
    rows, cols = rows - first_row, cols - first_col
    return np.ascontiguousarray(image[:, rows][:, :, cols]), mask[rows][:, cols]


def _spots(
    layout: Layout,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    pixels: NDArray[np.int64],
) -> Iterator[_Spots]:
    """Share pixels among the tiles that they are to be taken from."""
    down, across = nearest_tiles(layout.rows, rows), nearest_tiles(layout.cols, cols)
    tiles, owner = np.unique(np.stack([down, across]), axis=1, return_inverse=True)
    for number, (row, col) in enumerate(tiles.T):
        top, left = layout.rows.starts[row], layout.cols.starts[col]
        mine = owner.reshape(-1) == number
        yield _Spots(top, left, pixels[mine], rows[mine] - top, cols[mine] - left)


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


def _columns(
    maps: list[torch.Tensor], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float32]:
    device = maps[0].device
    places = (torch.from_numpy(np.ascontiguousarray(axis)).to(device) for axis in (rows, cols))
    return np.asarray(columns(maps, *places).cpu().numpy())


@torch.no_grad()
def _map(
    scene: Scene, base: Base, tail: Hypercolumn, part: _Part, free: NDArray[np.bool_]
) -> _Mapped:
    """Map a part of a tile. free: (h, w) bool, False where there are labels."""
    image, mask = _read(scene, part.top, part.left)
    rows = slice(part.rows.start - part.top, part.rows.stop - part.top)
    cols = slice(part.cols.start - part.left, part.cols.stop - part.left)
    valid = mask[rows, cols]
    if not valid.any():
        empty = np.zeros(valid.shape, np.uint8)
        width = tail.mean.numel()
        none = np.zeros(0, np.int64)
        nowhere = Blocks(none, none, none.astype(np.float32), np.zeros((0, width), np.float32))
        return _Mapped(empty, empty + np.uint8(UNKNOWN), nowhere)
    maps = base.levels(image, mask)
    near, inside = _cut(maps, rows, cols)
    scores = tail.on_levels(near)[0][:, inside[0], inside[1]]
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
    found = _columns(maps, rows - part.top, cols - part.left)
    return Blocks(rows, cols, mean[full], found)
