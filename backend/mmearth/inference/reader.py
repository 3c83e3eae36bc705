"""Tiles cut out of a raster stack, read ahead in a thread of its own.

Decoding and computing overlap, and rows that two rows of tiles share are read once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmearth.inference.tiles import Layout
from mmearth.raster.stack import RasterStack

# Tiles waiting for the network, in bytes: enough to bridge the reading of a band of rows.
READ_AHEAD_BYTES = 48 * 2**20


@dataclass(frozen=True)
class Batch:
    """Tiles of one row of tiles.

    Attributes:
        number: of the row of tiles.
        seen: tiles of this row looked at so far, empty ones too.
        columns: first column of each tile.
        images: (B, C, tile, tile) float32, reflectance; None if no tile of the row holds data.
        masks: (B, tile, tile) bool, False where there is no data; None with ``images``.
        valid: (n, W) bool of the rows that are finished after this row of tiles; in its last batch.
    """

    number: int
    seen: int
    columns: tuple[int, ...] = ()
    images: NDArray[np.float32] | None = None
    masks: NDArray[np.bool_] | None = None
    valid: NDArray[np.bool_] | None = None


def read_row(
    stack: RasterStack, layout: Layout, number: int, first_row: int = 0
) -> Generator[Batch, None, None]:
    """Read one row of tiles alone, tile by tile; arguments and errors as of ``read_batches``.

    Args:
        stack: where pixels come from; opened and closed here.
        layout: tiles over the stack's grid.
        number: of the row of tiles.
        first_row: rows of the scene above it are finished already.
    """
    rows = layout.rows.mirrored(layout.rows.starts[number])
    done = max(first_row, layout.finished_rows(number - 1) if number else 0)
    with stack:
        strip = _Strip(stack)
        strip.move(int(rows.min()), int(rows.max()) + 1)
        last = Batch(number, 0)
        for batch in _cut(strip, layout, number, rows, 1):
            if last.images is not None:
                yield last
            last = batch
        valid = strip.valid(done, layout.finished_rows(number))
        yield replace(last, seen=len(layout.cols.starts), valid=valid)


def read_batches(
    stack: RasterStack, layout: Layout, batch_size: int, first_row: int = 0
) -> Generator[Batch, None, None]:
    """Read tiles row by row of tiles, left to right; those without any data are left out.

    Args:
        stack: where pixels come from; opened and closed here.
        layout: tiles over the stack's grid.
        batch_size: tiles in a batch.
        first_row: rows of tiles that end above it are skipped.

    Yields:
        Batches; the last of each row of tiles says what is valid, even if the row holds no tiles.

    Raises:
        MMEarthError: whatever goes wrong in reading.
    """
    size = batch_size * len(stack.bands) * layout.rows.tile * layout.cols.tile * 4
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(
        max(2, READ_AHEAD_BYTES // size)
    )
    stop = threading.Event()
    reader = threading.Thread(
        target=_read_ahead,
        args=(stack, layout, batch_size, first_row, waiting, stop),
        name="reader",
        daemon=True,
    )
    reader.start()
    try:
        while (batch := waiting.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stop.set()
        while reader.is_alive():
            while not waiting.empty():
                waiting.get_nowait()
            reader.join(0.05)


def _read_ahead(
    stack: RasterStack,
    layout: Layout,
    batch_size: int,
    first_row: int,
    waiting: queue.Queue[Batch | BaseException | None],
    stop: threading.Event,
) -> None:
    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    try:
        with stack:
            strip = _Strip(stack)
            done = first_row
            for number, start in enumerate(layout.rows.starts):
                if start + layout.rows.tile <= first_row:
                    continue
                if stop.is_set():
                    return
                rows = layout.rows.mirrored(start)
                strip.move(int(rows.min()), int(rows.max()) + 1)
                finished = layout.finished_rows(number)
                valid = strip.valid(done, finished)
                done = max(done, finished)
                last = Batch(number, 0)
                for batch in _cut(strip, layout, number, rows, batch_size):
                    if last.images is not None:
                        put(last)
                    last = batch
                put(replace(last, seen=len(layout.cols.starts), valid=valid))
        put(None)
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
    strip: _Strip, layout: Layout, number: int, rows: NDArray[np.intp], batch_size: int
) -> Iterator[Batch]:
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
            yield Batch(number, seen, tuple(columns), np.stack(images), np.stack(masks), None)
            images, masks, columns = [], [], []
    if images:
        yield Batch(number, seen, tuple(columns), np.stack(images), np.stack(masks), None)
