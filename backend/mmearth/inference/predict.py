"""From a raster stack and a network to blended probabilities, one band of rows after another.

Reading runs ahead in a thread of its own, so decoding and computing overlap. Only the rows that
tiles still contribute to are held: memory grows with the width of a scene, not with its height.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.errors import JobCancelled
from mmearth.inference.tiles import Layout
from mmearth.models.network import Network
from mmearth.raster.stack import RasterStack

# Tiles waiting for the network, in bytes: enough to bridge the reading of a band of rows.
READ_AHEAD_BYTES = 48 * 2**20


@dataclass(frozen=True)
class RowBand:
    """Finished rows of the map.

    Attributes:
        start: first row.
        probabilities: (K, n, W) float32, sums to 1 over classes where valid.
        valid: (n, W) bool, False where there is no data.
        computed: tiles that went through the network since the band before; empty ones do not.
    """

    start: int
    probabilities: torch.Tensor
    valid: NDArray[np.bool_]
    computed: int


@dataclass(frozen=True)
class _Batch:
    """Tiles of one row of tiles; ``valid`` comes with the last batch of the row."""

    images: NDArray[np.float32] | None  # (B, C, tile, tile) reflectance
    masks: NDArray[np.bool_] | None  # (B, tile, tile)
    columns: tuple[int, ...]  # first column of each tile
    seen: int  # tiles of this row looked at so far, empty ones too
    valid: NDArray[np.bool_] | None  # (n, W) of the rows that are finished after this row


def predict_rows(
    stack: RasterStack,
    network: Network,
    layout: Layout,
    *,
    batch_size: int,
    first_row: int = 0,
    progress: Callable[[int], None] = lambda tiles: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[RowBand]:
    """Run a network over a stack.

    Args:
        stack: where pixels come from; opened and closed here.
        network: what computes.
        layout: tiles over the stack's grid.
        batch_size: tiles computed at once.
        first_row: rows before it are skipped, to go on with an interrupted run.
        progress: called with the number of tiles done, empty and skipped ones included.
        cancelled: asked before every batch.

    Yields:
        Bands of rows from ``first_row`` to the last, without gaps.

    Raises:
        JobCancelled: if ``cancelled`` says so.
        MMEarthError: whatever goes wrong in reading.
    """
    numbers = _tile_rows(layout, first_row)
    per_row = len(layout.cols.starts)
    size = batch_size * len(network.card.bands) * layout.rows.tile * layout.cols.tile * 4
    waiting: queue.Queue[_Batch | BaseException] = queue.Queue(max(2, READ_AHEAD_BYTES // size))
    stop = threading.Event()
    reader = threading.Thread(
        target=_read_ahead,
        args=(stack, layout, numbers, batch_size, first_row, waiting, stop),
        name="reader",
        daemon=True,
    )
    reader.start()
    blend = _Blend(network.card.class_count, layout, first_row, network.device)
    computed = 0
    try:
        for number in numbers:
            blend.begin(number)
            valid = None
            while valid is None:
                if cancelled():
                    raise JobCancelled("Cancelled.")
                batch = waiting.get()
                if isinstance(batch, BaseException):
                    raise batch
                if batch.images is not None and batch.masks is not None:
                    blend.add(network.probabilities(batch.images, batch.masks), batch.columns)
                    computed += len(batch.columns)
                progress(number * per_row + batch.seen)
                valid = batch.valid
            if valid.shape[0]:
                yield blend.finish(number, valid, computed)
                computed = 0
    finally:
        stop.set()
        while reader.is_alive():
            _drain(waiting)
            reader.join(0.05)


def _tile_rows(layout: Layout, first_row: int) -> list[int]:
    """Rows of tiles that touch ``first_row`` or what lies below it."""
    tile = layout.rows.tile
    return [n for n, start in enumerate(layout.rows.starts) if start + tile > first_row]


def _drain(waiting: queue.Queue[_Batch | BaseException]) -> None:
    while not waiting.empty():
        waiting.get_nowait()


class _Blend:
    """Weighted sums of the rows that tiles still contribute to.

    The sums are held with the columns of the widened scene, so that tiles fit whole.
    """

    def __init__(self, classes: int, layout: Layout, first_row: int, device: torch.device) -> None:
        cols = layout.cols
        self._layout = layout
        self._first = cols.starts[0]
        width = cols.starts[-1] + cols.tile - self._first
        self._sums = torch.zeros(classes, layout.rows.tile, width, device=device)
        self._top: int | None = None  # scene row of the first row held
        self._done = first_row
        taper = layout.rows.taper[:, None] * cols.taper[None, :]
        self._weights = torch.from_numpy(taper).to(device)
        self._row_total = torch.from_numpy(layout.rows.total).to(device)
        self._col_total = torch.from_numpy(cols.total).to(device)

    def begin(self, number: int) -> None:
        """Move on to a row of tiles."""
        start = self._layout.rows.starts[number]
        if self._top is not None:
            shift = start - self._top
            kept = self._sums[:, shift:].clone()
            self._sums.zero_()
            self._sums[:, : kept.shape[1]] = kept
        self._top = start

    def add(self, probabilities: torch.Tensor, columns: tuple[int, ...]) -> None:
        """Add tiles of the present row. probabilities: (B, K, tile, tile)."""
        tile = self._layout.cols.tile
        for image, column in zip(probabilities, columns, strict=True):
            left = column - self._first
            self._sums[:, :, left : left + tile].addcmul_(image, self._weights)

    def finish(self, number: int, valid: NDArray[np.bool_], computed: int) -> RowBand:
        """Return the rows that no later row of tiles touches."""
        start, stop = self._done, self._layout.finished_rows(number)
        self._done = stop
        top = self._top or 0
        rows = slice(start - top, stop - top)
        cols = slice(-self._first, -self._first + self._layout.cols.length)
        sums = self._sums[:, rows, cols]
        total = self._row_total[start:stop, None] * self._col_total[None, :]
        return RowBand(start, (sums / total).cpu(), valid, computed)


def _read_ahead(
    stack: RasterStack,
    layout: Layout,
    numbers: list[int],
    batch_size: int,
    first_row: int,
    waiting: queue.Queue[_Batch | BaseException],
    stop: threading.Event,
) -> None:
    def put(item: _Batch | BaseException) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    try:
        with stack:
            strip = _Strip(stack)
            done = first_row
            for number in numbers:
                if stop.is_set():
                    return
                rows = layout.rows.mirrored(layout.rows.starts[number])
                strip.move(int(rows.min()), int(rows.max()) + 1)
                finished = layout.finished_rows(number)
                valid = strip.valid(done, finished)
                done = max(done, finished)
                for batch in _cut(strip, layout, rows, batch_size):
                    put(batch)
                put(_Batch(None, None, (), len(layout.cols.starts), valid))
    except BaseException as error:  # handed to the consumer, which raises it
        put(error)


class _Strip:
    """The rows of the scene that the present row of tiles shows; shared rows are read once."""

    def __init__(self, stack: RasterStack) -> None:
        self._stack = stack
        self._start = self._stop = 0
        self.image: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
        self.mask: NDArray[np.bool_] = np.zeros((0, 0), bool)

    def move(self, start: int, stop: int) -> None:
        kept = max(0, self._stop - start) if start >= self._start else 0
        # Copies, so that the rows above are freed before the ones below are read.
        first = self.image.shape[1] - kept
        self.image, self.mask = self.image[:, first:].copy(), self.mask[first:].copy()
        image, mask = self._stack.read_rows(start + kept, stop)
        if kept:
            image = np.concatenate([self.image, image], axis=1)
            mask = np.concatenate([self.mask, mask])
        self.image, self.mask = image, mask
        self._start, self._stop = start, stop

    def rows(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows - self._start

    def valid(self, start: int, stop: int) -> NDArray[np.bool_]:
        return self.mask[max(start, self._start) - self._start : max(0, stop - self._start)].copy()


def _cut(
    strip: _Strip, layout: Layout, rows: NDArray[np.intp], batch_size: int
) -> Iterator[_Batch]:
    """Cut the tiles of one row out of a strip, in batches, leaving out those without data."""
    held = strip.rows(rows)
    contiguous = bool((np.diff(held) == 1).all())
    pick: slice | NDArray[np.intp] = slice(held[0], held[-1] + 1) if contiguous else held
    images, masks, columns = [], [], []
    seen = 0
    for start in layout.cols.starts:
        seen += 1
        cols = layout.cols.mirrored(start)
        mask = strip.mask[pick][:, cols]
        if not mask.any():
            continue
        images.append(strip.image[:, pick][:, :, cols])
        masks.append(mask)
        columns.append(start)
        if len(images) == batch_size:
            yield _Batch(np.stack(images), np.stack(masks), tuple(columns), seen, None)
            images, masks, columns = [], [], []
    if images:
        yield _Batch(np.stack(images), np.stack(masks), tuple(columns), seen, None)
