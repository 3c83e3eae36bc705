"""A scene that is looked at again and again: what was read and computed of it is kept.

What the network says of a tile is kept by ``mmearth.models.levels``. Kept here are the tiles'
pixels, and the columns of labelled ones, so that tiles which are not seen are looked at once, and
not again for every polygon that is drawn elsewhere.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import InputError, JobCancelled
from mmearth.inference.tiles import Layout
from mmearth.models import levels
from mmearth.models.card import ModelCard
from mmearth.models.decoders.hypercolumn import Hypercolumn, columns
from mmearth.models.network import LoadedModel, loaded, memory_explained
from mmearth.raster.grid import Grid
from mmearth.raster.mask import Mask
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.stack import RasterStack
from mmearth.settings import Settings
from mmearth.training.design import design, load_base
from mmearth.training.head import Head
from mmearth.training.labels import Labels
from mmearth.training.samples import nearest_tiles

MOST_TILES = 500  # with labels: some minutes, at first
TILE_BYTES = 128 * 2**20  # of pixels that are kept: some 50 tiles of ten bands

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """What a scene is read from.

    Attributes:
        card: of the model that is built on.
        bands: what its input is read from.
        masks: what leaves pixels out.
        grid: of the whole scene.
        layout: tiles over it.
        key: tells scenes apart, and a scene from one whose files have changed.
        settings: settings of the backend.
    """

    card: ModelCard
    bands: list[ScaledBand]
    masks: list[Mask]
    grid: Grid
    layout: Layout
    key: str
    settings: Settings


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

    def normalised(self, image: NDArray[np.float32], mask: NDArray[np.bool_]) -> torch.Tensor:
        """Return the network's input of a tile, (1, C, t, t) float32.

        Args:
            image: (C, t, t) float32, reflectance.
            mask: (t, t) bool, False where there is no data.
        """
        values: torch.Tensor = self._normalise(
            torch.from_numpy(image)[None].to(self.device),
            torch.from_numpy(mask)[None].to(self.device),
        )
        return values.contiguous(memory_format=torch.channels_last)

    def levels(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps of a tile, or take them from memory.

        Args:
            values: from ``normalised``.

        Returns:
            Maps (1, widths[i], h, w) float32 on this network's device, the image first.

        Raises:
            OutOfMemoryError: if the device's memory does not suffice.
        """
        with memory_explained(self.device):
            return levels.levels_of(self._module, values, self.plan.chosen)

    def tail(self, head: Head) -> Hypercolumn:
        """Return a head as the tail of a network, on this network's device."""
        classes, hidden = head.last.weight.shape
        found = Hypercolumn(nn.Identity(), self.plan.widths, classes, hidden)
        found.load_state_dict(head.state_dict())
        return found.to(self.device).eval()


class Scene:
    """A scene, and what is known of it; see ``open_scene``.

    Attributes:
        source: what it is read from.
        base: what a head can be built on.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.base = loaded(Base, source.card, source.settings)
        self._tiles: OrderedDict[tuple[int, int], _Tile] = OrderedDict()
        self._lock = threading.Lock()
        width = sum(self.base.plan.widths)
        self._keep(np.zeros(0, np.int64), np.zeros((0, width), np.float32), np.zeros(0, bool))

    def tile(self, top: int, left: int) -> tuple[list[torch.Tensor], NDArray[np.bool_]]:
        """Return maps (1, widths[i], h, w) float32 and mask (t, t) of a tile; in any thread.

        Args:
            top: first row, as of the layout; negative where the scene is reflected at its rim.
            left: first column.

        Raises:
            MMEarthError: whatever goes wrong in reading and computing.
        """
        with self._lock:
            found = self._tiles.get((top, left))
        if found is None:
            image, mask = _read(self.source, top, left)
            found = _Tile(self.base.normalised(image, mask), mask)
        with self._lock:
            self._tiles[top, left] = found
            self._tiles.move_to_end((top, left))
            most = max(1, TILE_BYTES // found.values.nbytes)
            while len(self._tiles) > most:
                self._tiles.popitem(last=False)
        return self.base.levels(found.values), found.mask

    def columns(
        self, labels: Labels, lanes: Lanes
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return columns (n, D) of labelled pixels, and which of them (n,) have data.

        Those are kept until they are not asked for.

        Raises:
            InputError: if they lie in too many tiles.
            JobCancelled: if the user has had enough.
        """
        wanted = labels.rows * self.source.grid.width + labels.cols
        new = np.setdiff1d(wanted, self._pixels)
        if new.size:
            self._add(new, lanes)
        kept = np.isin(self._pixels, wanted)
        self._keep(self._pixels[kept], self._columns[kept], self._valid[kept])
        places = np.searchsorted(self._pixels, wanted)
        return self._columns[places], self._valid[places]

    def _add(self, pixels: NDArray[np.int64], lanes: Lanes) -> None:
        def look(spots: _Spots) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            maps, mask = self.tile(spots.top, spots.left)
            return columns_at(maps, spots.rows, spots.cols), mask[spots.rows, spots.cols]

        parts = list(_spots(self.source.layout, pixels, self.source.grid.width))
        if len(parts) > MOST_TILES:
            raise InputError(
                f"The labels lie in {len(parts):,} parts of the scene, too many for live mode; it "
                f"takes {MOST_TILES}.",
                "Switch live mode off and train, or take rasters of a smaller area.",
            )
        # Kept tile by tile, so that a preview that is cancelled has not looked in vain.
        for spots, (found, valid) in lanes.each(look, parts):
            self._keep(
                np.concatenate([self._pixels, spots.pixels]),
                np.concatenate([self._columns, found]),
                np.concatenate([self._valid, valid]),
            )

    def _keep(
        self, pixels: NDArray[np.int64], found: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        """Keep pixels, row x width + column, with their columns, in ascending order."""
        order = np.argsort(pixels)
        self._pixels, self._columns, self._valid = pixels[order], found[order], valid[order]


@dataclass(frozen=True)
class _Tile:
    values: torch.Tensor
    mask: NDArray[np.bool_]


_last: Scene | None = None


def open_scene(source: Source) -> Scene:
    """Return the scene of the last time, if it is the same, else a new one; one is kept.

    Raises:
        ModelError: if nothing can be built on the model.
    """
    global _last
    levels.set_budget(source.settings)
    if _last is None or _last.source.key != source.key:
        _last = Scene(source)
    _last.base = loaded(Base, source.card, source.settings)  # other jobs may have replaced it
    return _last


def forget() -> None:
    """Give back the memory of the scene, and of what networks said."""
    global _last
    _last = None
    levels.forget()


class Lanes:
    """Threads of one core each, as small work on several only waits; a context manager.

    Graphics cards have a single one.
    """

    def __init__(self, base: Base, settings: Settings, cancelled: Callable[[], bool]):
        count = settings.cpu_threads if base.device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(count, "preview", torch.set_num_threads, (1,))
        self.cancelled = cancelled

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

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


def _read(source: Source, top: int, left: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read a tile: image (C, t, t) and mask (t, t), reflected at the rims of the source."""
    rows, cols = source.layout.rows.mirrored(top), source.layout.cols.mirrored(left)
    first_row, first_col = int(rows.min()), int(cols.min())
    height, width = int(rows.max()) + 1 - first_row, int(cols.max()) + 1 - first_col
    transform = source.grid.transform @ Affine.translation(first_col, first_row)
    # Of this piece alone, as rows of a stack are read whole.
    grid = Grid(source.grid.crs, transform, width, height)
    with RasterStack(source.bands, grid, source.masks) as stack:
        image, mask = stack.read_rows(0, height)
    rows, cols = rows - first_row, cols - first_col
    return np.ascontiguousarray(image[:, rows][:, :, cols]), mask[rows][:, cols]


def _spots(layout: Layout, pixels: NDArray[np.int64], width: int) -> Iterator[_Spots]:
    """Share pixels among the tiles that they are to be taken from."""
    rows, cols = np.divmod(pixels, width)
    down, across = nearest_tiles(layout.rows, rows), nearest_tiles(layout.cols, cols)
    tiles, owner = np.unique(np.stack([down, across]), axis=1, return_inverse=True)
    for number, (row, col) in enumerate(tiles.T):
        top, left = layout.rows.starts[row], layout.cols.starts[col]
        mine = owner.reshape(-1) == number
        yield _Spots(top, left, pixels[mine], rows[mine] - top, cols[mine] - left)


def columns_at(
    maps: list[torch.Tensor], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return columns (n, D) float32 of pixels of a tile. maps: of ``Scene.tile``."""
    device = maps[0].device
    places = (torch.from_numpy(np.ascontiguousarray(axis)).to(device) for axis in (rows, cols))
    return np.asarray(columns(maps, *places).cpu().numpy())
