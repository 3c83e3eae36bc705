"""Square pieces of a scene around its labels, for networks that look at more than one pixel.

What can ever be seen of the scene is read once, in small tiles, and held. Crops are put together
from these, anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.errors import JobCancelled
from mmearth.inference.tiles import Axis
from mmearth.raster.stack import RasterStack
from mmearth.training.labels import Labels, no_data_at_labels, repeats
from mmearth.training.losses import UNLABELLED
from mmearth.training.samples import thinned

SIDE = 64  # pixels a side of the tiles that are held
MOST_BYTES = 1_000_000_000  # of all tiles held
ANCHORS = 24  # pixels of a unit that crops are laid around
MOST_ANCHORS = 20_000  # of all units: more crops are never drawn
MARGIN = 1 / 8  # of a crop: an anchor lies no nearer to its rim


@dataclass(frozen=True)
class Crop:
    """A piece of a scene.

    Attributes:
        image: (C, s, s) float32, reflectance; 0 where not valid.
        target: (s, s) int64, class numbers, ``UNLABELLED`` elsewhere.
        valid: (s, s) bool, False where there is no data.
    """

    image: NDArray[np.float32]
    target: NDArray[np.int64]
    valid: NDArray[np.bool_]


class Mosaic:
    """The parts of a scene that were read; elsewhere nothing is valid.

    Args:
        height: rows of the scene.
        width: columns of the scene.
        bands: number of bands.
    """

    def __init__(self, height: int, width: int, bands: int) -> None:
        self.shape = (bands, height, width)
        self._tiles: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}

    def read(
        self,
        stack: RasterStack,
        places: Iterable[tuple[int, int]],
        *,
        progress: Callable[[float], None] = lambda share: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read tiles of a stack by their numbers down and across; it is opened and closed here.

        Raises:
            JobCancelled: if ``cancelled`` says so.
        """
        _, height, _ = self.shape
        by_row: dict[int, list[int]] = {}
        for down, across in sorted(set(places)):
            by_row.setdefault(down, []).append(across)
        with stack:
            for number, (down, row) in enumerate(by_row.items()):
                if cancelled():
                    raise JobCancelled("Cancelled.")
                top = down * SIDE
                image, valid = stack.read_rows(top, min(height, top + SIDE))
                for across in row:
                    part = np.s_[..., across * SIDE : (across + 1) * SIDE]
                    self._tiles[down, across] = image[part].copy(), valid[part].copy()
                progress((number + 1) / len(by_row))

    def cut(self, top: int, left: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return a square, reflected at the rims of the scene.

        Returns:
            image (C, side, side) float32, valid (side, side) bool.
        """
        rows, cols = self.places(top, left, side)
        first, last = (rows.min(), cols.min()), (rows.max() + 1, cols.max() + 1)
        image = np.zeros((self.shape[0], last[0] - first[0], last[1] - first[1]), np.float32)
        valid = np.zeros(image.shape[1:], bool)
        for down in range(first[0] // SIDE, (last[0] - 1) // SIDE + 1):
            for across in range(first[1] // SIDE, (last[1] - 1) // SIDE + 1):
                tile = self._tiles.get((down, across))
                if tile is None:
                    continue
                to, of = _overlap((down, across), first, last)
                image[(slice(None), *to)], valid[to] = tile[0][(slice(None), *of)], tile[1][of]
        rows, cols = rows - first[0], cols - first[1]
        return image[:, rows][:, :, cols], valid[rows][:, cols]

    def places(self, top: int, left: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows and columns of the scene that a square shows."""
        _, height, width = self.shape
        rows, cols = Axis(height, side, 0), Axis(width, side, 0)
        return rows.mirrored(top), cols.mirrored(left)


def _overlap(
    tile: tuple[int, int], first: tuple[int, int], last: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a tile lies in a rectangle of the scene, and which part of it does."""
    to, of = [], []
    for number, begin, end in zip(tile, first, last, strict=True):
        start, stop = max(begin, number * SIDE), min(end, (number + 1) * SIDE)
        to.append(slice(start - begin, stop - begin))
        of.append(slice(start - number * SIDE, stop - number * SIDE))
    return (to[0], to[1]), (of[0], of[1])


class Targets:
    """Labels as squares of class numbers; only labelled pixels are held."""

    def __init__(self, labels: Labels, height: int, width: int) -> None:
        order = np.argsort(labels.rows * width + labels.cols, kind="stable")
        self._pixels = (labels.rows * width + labels.cols)[order]
        self._classes = labels.classes[order]
        self._width = width

    def cut(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the classes of the pixels at rows and columns, ``UNLABELLED`` elsewhere."""
        wanted = rows[:, None].astype(np.int64) * self._width + cols[None, :]
        if not self._pixels.size:
            return np.full(wanted.shape, UNLABELLED, np.int64)
        place = np.searchsorted(self._pixels, wanted).clip(max=self._pixels.size - 1)
        return np.where(self._pixels[place] == wanted, self._classes[place], UNLABELLED)


class Crops:
    """Crops around labelled pixels of a mosaic.

    Args:
        mosaic: where pixels come from.
        labels: all that may be learned from; pixels of other labels are ``UNLABELLED``.
        anchors: pixels that crops are laid around.
        side: of a crop in pixels.
    """

    def __init__(self, mosaic: Mosaic, labels: Labels, anchors: Labels, side: int) -> None:
        self._mosaic = mosaic
        self._targets = Targets(labels, *mosaic.shape[1:])
        self._anchors = anchors
        self._side = side
        # Class by class, unit by unit: places of the anchors.
        self._by_class: list[list[NDArray[np.intp]]] = []
        for number in np.unique(anchors.classes):
            places = np.flatnonzero(anchors.classes == number)
            places = places[np.argsort(anchors.units[places], kind="stable")]
            _, first = np.unique(anchors.units[places], return_index=True)
            self._by_class.append(np.split(places, first[1:]))

    def draw(self, count: int, random: np.random.Generator) -> list[Crop]:
        """Draw crops: a class, one of its units, one of its pixels, and where that lies in a crop.

        So small classes and small polygons are seen as often as large ones. Each crop is turned and
        mirrored at random.
        """
        return [self._one(random) for _ in range(count)]

    def _one(self, random: np.random.Generator) -> Crop:
        units = self._by_class[random.integers(len(self._by_class))]
        pixels = units[random.integers(len(units))]
        anchor = pixels[random.integers(len(pixels))]
        margin = int(self._side * MARGIN)
        offset = random.integers(margin, self._side - margin, 2)
        turns, mirror = int(random.integers(4)), bool(random.integers(2))
        crop = self._cut(anchor, int(offset[0]), int(offset[1]))
        return turned(crop, turns, mirror)

    def centred(self) -> list[Crop]:
        """Return one crop for each unit, around one of its pixels, neither turned nor mirrored."""
        half = self._side // 2
        return [
            self._cut(pixels[len(pixels) // 2], half, half)
            for units in self._by_class
            for pixels in units
        ]

    def pixels_per_class(self, classes: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Count the labelled pixels of each class in some crops, as they come up in training."""
        if not self._by_class:
            return np.zeros(classes, np.int64)
        targets = [crop.target for crop in self.draw(16 * len(self._by_class), random)]
        labelled = np.stack(targets)
        return np.bincount(labelled[labelled != UNLABELLED], minlength=classes)

    def _cut(self, anchor: np.intp, down: int, across: int) -> Crop:
        top = int(self._anchors.rows[anchor]) - down
        left = int(self._anchors.cols[anchor]) - across
        image, valid = self._mosaic.cut(top, left, self._side)
        target = self._targets.cut(*self._mosaic.places(top, left, self._side))
        return Crop(image, np.where(valid, target, UNLABELLED), valid)


def turned(crop: Crop, turns: int, mirror: bool) -> Crop:
    """Turn a crop by quarters, and mirror it."""

    def moved(array: NDArray[Any]) -> NDArray[Any]:
        array = np.rot90(array, turns, (-2, -1))
        return np.ascontiguousarray(array[..., ::-1] if mirror else array)

    return Crop(moved(crop.image), moved(crop.target), moved(crop.valid))


def stacked(crops: Sequence[Crop]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images (B, C, s, s), targets (B, s, s) and valid masks (B, s, s) of crops."""
    return (
        torch.from_numpy(np.stack([crop.image for crop in crops])),
        torch.from_numpy(np.stack([crop.target for crop in crops])),
        torch.from_numpy(np.stack([crop.valid for crop in crops])),
    )


def read_around(
    stack: RasterStack,
    labels: Labels,
    side: int,
    seed: int,
    *,
    most_bytes: int = MOST_BYTES,
    progress: Callable[[float], None] = lambda share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Mosaic, Labels, Labels]:
    """Read the scene around labels, as much of it as memory allows.

    Args:
        stack: where pixels come from; opened and closed here.
        labels: on the stack's grid.
        side: of the crops, in pixels.
        seed: of the choice of pixels.
        most_bytes: that are held.
        progress: called with the share that is done.
        cancelled: asked time and again.

    Returns:
        The mosaic, the anchors (pixels around which all that a crop shows was read), and the like
        without data.

    Raises:
        EmptyAreaError: if the rasters have no data at any label.
        JobCancelled: if ``cancelled`` says so.
    """
    grid = stack.grid
    mosaic = Mosaic(grid.height, grid.width, len(stack.bands))
    few = thinned(labels, seed, ANCHORS)
    most = max(1, most_bytes // (SIDE**2 * (4 * len(stack.bands) + 1)))
    chosen: set[tuple[int, int]] = set()
    kept = np.zeros(few.rows.size, bool)
    for anchor in _in_turns(few, seed)[:MOST_ANCHORS]:
        wanted = _around(mosaic, int(few.rows[anchor]), int(few.cols[anchor]), side) - chosen
        if len(chosen) + len(wanted) <= most or not chosen:
            chosen |= wanted
            kept[anchor] = True
    mosaic.read(stack, chosen, progress=progress, cancelled=cancelled)
    few = few.chosen(kept)
    places = zip(few.rows.tolist(), few.cols.tolist(), strict=True)
    valid = np.array([mosaic.cut(row, col, 1)[1].item() for row, col in places], bool)
    if not valid.any():
        raise no_data_at_labels()
    return mosaic, few.chosen(valid), few.chosen(~valid)


def _in_turns(labels: Labels, seed: int) -> NDArray[np.intp]:
    """Return an order of pixels in which the units of all classes take turns."""
    order = np.random.default_rng(seed).permutation(labels.rows.size)
    turn = repeats(labels.units[order])
    # Of the pixels of one turn, again each class's first unit comes before its second.
    rank = np.zeros(order.size, np.int64)
    for number in np.unique(turn):
        same = turn == number
        rank[same] = repeats(labels.classes[order][same])
    return order[np.lexsort([rank, turn])]


def _around(mosaic: Mosaic, row: int, col: int, side: int) -> set[tuple[int, int]]:
    """Return the tiles that crops around a pixel can show."""
    rows, cols = mosaic.places(row - side, col - side, 2 * side)
    return {
        (int(down), int(across))
        for down in np.unique(rows // SIDE)
        for across in np.unique(cols // SIDE)
    }
