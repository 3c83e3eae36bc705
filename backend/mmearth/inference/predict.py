"""From a raster stack and a network to a blended map, one band of rows after another.

Only the rows that tiles still contribute to are held: memory grows with the width of a scene, not
with its height.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.errors import JobCancelled
from mmearth.inference.reader import Batch, read_batches
from mmearth.inference.tiles import Layout
from mmearth.models.network import Network, Workload
from mmearth.raster.stack import RasterStack

LOOK_UP_SECONDS = 0.1  # while a tile is computed, so often is a cancel noticed
BAND_ROWS = 64  # of pixels; what becomes of finished rows takes several times their memory


@dataclass(frozen=True)
class Computation:
    """What is computed of each tile.

    Attributes:
        run: from images (B, C, tile, tile) float32 and masks (B, tile, tile) bool to values
            (B, K, tile / cell, tile / cell) float32; called in several threads at once.
        channels: K, the number of values of a cell.
        device: where the values lie.
        cell: pixels of the scene along a side of a cell of the map; 1 for maps as fine as it.
    """

    run: Callable[[NDArray[np.float32], NDArray[np.bool_]], torch.Tensor]
    channels: int
    device: torch.device
    cell: int = 1


@dataclass(frozen=True)
class RowBand:
    """Finished rows of the map.

    Attributes:
        start: first row.
        values: (K, n, W) float32; probabilities sum to 1 over K where valid.
        valid: (n, W) bool, False where there is no data: in a cell of several pixels, in none.
        computed: tiles that went through the network since the band before; empty ones do not.
    """

    start: int
    values: torch.Tensor
    valid: NDArray[np.bool_]
    computed: int


def class_probabilities(network: Network) -> Computation:
    """Return the computation of the probabilities of a network's classes."""
    return Computation(network.probabilities, network.card.class_count, network.device)


def compute_rows(
    stack: RasterStack,
    computation: Computation,
    layout: Layout,
    workload: Workload,
    *,
    first_row: int = 0,
    progress: Callable[[int], None] = lambda tiles: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[RowBand]:
    """Compute a map of a stack.

    Args:
        stack: where pixels come from; opened and closed here.
        computation: what is computed.
        layout: tiles over the stack's grid, in pixels.
        workload: tiles computed at once.
        first_row: rows of the map before it are skipped, to go on with an interrupted run.
        progress: called with the number of tiles done, empty and skipped ones included.
        cancelled: asked time and again.

    Yields:
        Bands of rows of the map from ``first_row`` to the last, without gaps.

    Raises:
        JobCancelled: if ``cancelled`` says so.
        MMEarthError: whatever goes wrong in reading.
    """
    cell = computation.cell
    with (
        closing(read_batches(stack, layout, workload.batch_size, first_row * cell)) as batches,
        closing(compute(batches, computation, workload, cancelled)) as results,
    ):
        yield from blended(
            results,
            layout,
            computation.channels,
            computation.device,
            cell=cell,
            first_row=first_row,
            progress=progress,
        )


def blended(
    results: Iterable[tuple[Batch, torch.Tensor | None]],
    layout: Layout,
    channels: int,
    device: torch.device,
    *,
    cell: int = 1,
    first_row: int = 0,
    progress: Callable[[int], None] = lambda tiles: None,
) -> Iterator[RowBand]:
    """Blend the values of tiles into a map; the rest as of ``compute_rows``.

    Args:
        results: batches and their values, as ``compute`` gives them, row by row of tiles.
        layout: tiles over the scene, in pixels.
        channels: number of values of a cell.
        device: where the values lie.
        cell: pixels of the scene along a side of a cell of the map.
        first_row: of the map.
        progress: called with the number of tiles done.
    """
    per_row = len(layout.cols.starts)
    blend = _Blend(channels, device, layout.in_cells(cell), first_row, cell)
    number = None
    computed = 0
    for batch, values in results:
        if batch.number != number:
            number = batch.number
            blend.begin(number)
        if values is not None:
            blend.add(values, [column // cell for column in batch.columns])
            computed += len(batch.columns)
        progress(number * per_row + batch.seen)
        if batch.valid is not None and batch.valid.shape[0]:
            yield from blend.finish(number, in_cells(batch.valid, cell), computed)
            computed = 0


_Results = Generator[tuple[Batch, torch.Tensor | None], None, None]


def in_cells(valid: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return which cells hold a valid pixel; the last ones may reach beyond the scene."""
    if side == 1:
        return valid
    rows, cols = (math.ceil(size / side) for size in valid.shape)
    beyond = [(0, rows * side - valid.shape[0]), (0, cols * side - valid.shape[1])]
    cells = np.pad(valid, beyond).reshape(rows, side, cols, side)
    return np.asarray(cells.any(axis=(1, 3)))


def compute(
    batches: Iterator[Batch],
    computation: Computation,
    workload: Workload,
    cancelled: Callable[[], bool],
) -> _Results:
    """Send batches through the network; results come in the order of the batches.

    Args:
        batches: tiles; an error that they raise is raised after the results of those before it.
        computation: what is computed.
        workload: lanes to compute in.
        cancelled: asked time and again.

    Yields:
        A batch and its values (B, K, tile / cell, tile / cell), None if it holds no tiles.

    Raises:
        JobCancelled: if ``cancelled`` says so.
    """
    if computation.device.type == "cpu":
        return _side_by_side(batches, computation, workload, cancelled)
    # Graphics cards have lanes of their own, and Apple's must not be driven by two threads.
    return _one_by_one(batches, computation, cancelled)


def _one_by_one(
    batches: Iterator[Batch], computation: Computation, cancelled: Callable[[], bool]
) -> _Results:
    for batch in batches:
        _stop_if(cancelled)
        if batch.images is None or batch.masks is None:
            yield batch, None
        else:
            yield batch, computation.run(batch.images, batch.masks)


def _side_by_side(
    batches: Iterator[Batch],
    computation: Computation,
    workload: Workload,
    cancelled: Callable[[], bool],
) -> _Results:
    """Compute in lanes, one batch more under way than there are, so that none idles meanwhile."""
    lanes = ThreadPoolExecutor(
        workload.lanes, "network", torch.set_num_threads, (workload.threads,)
    )
    pending: deque[tuple[Batch, Future[torch.Tensor] | None]] = deque()

    def oldest() -> tuple[Batch, torch.Tensor | None]:
        batch, future = pending.popleft()
        while future and not future.done():
            _stop_if(cancelled)
            wait([future], LOOK_UP_SECONDS)
        return batch, future.result() if future else None

    try:
        failure: Exception | None = None
        while True:
            _stop_if(cancelled)
            try:
                batch = next(batches, None)
            except Exception as error:  # what was read before it comes first
                batch, failure = None, error
            if batch is None:
                break
            future = None
            if batch.images is not None and batch.masks is not None:
                future = lanes.submit(computation.run, batch.images, batch.masks)
            pending.append((batch, future))
            while len(pending) > workload.lanes + 1:
                yield oldest()
        while pending:
            yield oldest()
        if failure:
            raise failure
    finally:
        # A tile under way holds nothing but the network; nobody need wait for it.
        lanes.shutdown(wait=False, cancel_futures=True)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise JobCancelled("Cancelled.")


class _Blend:
    """Weighted sums of the rows that tiles still contribute to; the layout counts in cells.

    The sums are held with the columns of the widened scene, so that tiles fit whole.
    """

    def __init__(
        self, channels: int, device: torch.device, layout: Layout, first_row: int, cell: int
    ) -> None:
        cols = layout.cols
        self._band_rows = max(1, BAND_ROWS // cell)
        self._layout = layout
        self._first = cols.starts[0]
        width = cols.starts[-1] + cols.tile - self._first
        self._sums = torch.zeros(channels, layout.rows.tile, width, device=device)
        self._top = layout.rows.starts[0]  # scene row of the first row held
        self._done = first_row
        taper = layout.rows.taper[:, None] * cols.taper[None, :]
        self._weights = torch.from_numpy(taper).to(device)
        self._row_total = torch.from_numpy(layout.rows.total).to(device)
        self._col_total = torch.from_numpy(cols.total).to(device)

    def begin(self, number: int) -> None:
        """Move on to a row of tiles."""
        start = self._layout.rows.starts[number]
        kept = self._sums[:, start - self._top :].clone()
        self._sums.zero_()
        self._sums[:, : kept.shape[1]] = kept
        self._top = start

    def add(self, values: torch.Tensor, columns: Sequence[int]) -> None:
        """Add tiles of the present row. values: (B, K, tile, tile)."""
        tile = self._layout.cols.tile
        for image, column in zip(values, columns, strict=True):
            left = column - self._first
            self._sums[:, :, left : left + tile].addcmul_(image, self._weights)

    def finish(self, number: int, valid: NDArray[np.bool_], computed: int) -> Iterator[RowBand]:
        """Return the rows that no later row of tiles touches, few at a time."""
        first, last = self._done, self._layout.finished_rows(number)
        self._done = last
        cols = slice(-self._first, -self._first + self._layout.cols.length)
        for start in range(first, last, self._band_rows):
            stop = min(last, start + self._band_rows)
            sums = self._sums[:, start - self._top : stop - self._top, cols]
            total = self._row_total[start:stop, None] * self._col_total[None, :]
            yield RowBand(
                start,
                (sums / total).cpu(),
                valid[start - first : stop - first],
                computed if start == first else 0,
            )
