"""From a raster stack and a network to blended probabilities, one band of rows after another.

Only the rows that tiles still contribute to are held: memory grows with the width of a scene, not
with its height.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
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
BAND_ROWS = 64  # what becomes of finished rows takes several times their memory


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


def predict_rows(
    stack: RasterStack,
    network: Network,
    layout: Layout,
    workload: Workload,
    *,
    first_row: int = 0,
    progress: Callable[[int], None] = lambda tiles: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[RowBand]:
    """Run a network over a stack.

    Args:
        stack: where pixels come from; opened and closed here.
        network: what computes.
        layout: tiles over the stack's grid.
        workload: tiles computed at once.
        first_row: rows before it are skipped, to go on with an interrupted run.
        progress: called with the number of tiles done, empty and skipped ones included.
        cancelled: asked time and again.

    Yields:
        Bands of rows from ``first_row`` to the last, without gaps.

    Raises:
        JobCancelled: if ``cancelled`` says so.
        MMEarthError: whatever goes wrong in reading.
    """
    per_row = len(layout.cols.starts)
    blend = _Blend(network.card.class_count, layout, first_row, network.device)
    number = None
    computed = 0
    with (
        closing(read_batches(stack, layout, workload.batch_size, first_row)) as batches,
        closing(compute(batches, network, workload, cancelled)) as results,
    ):
        for batch, probabilities in results:
            if batch.number != number:
                number = batch.number
                blend.begin(number)
            if probabilities is not None:
                blend.add(probabilities, batch.columns)
                computed += len(batch.columns)
            progress(number * per_row + batch.seen)
            if batch.valid is not None and batch.valid.shape[0]:
                yield from blend.finish(number, batch.valid, computed)
                computed = 0


_Results = Generator[tuple[Batch, torch.Tensor | None], None, None]


def compute(
    batches: Iterator[Batch], network: Network, workload: Workload, cancelled: Callable[[], bool]
) -> _Results:
    """Send batches through the network; results come in the order of the batches.

    Args:
        batches: tiles; an error that they raise is raised after the results of those before it.
        network: what computes.
        workload: lanes to compute in.
        cancelled: asked time and again.

    Yields:
        A batch and its probabilities (B, K, tile, tile), None if it holds no tiles.

    Raises:
        JobCancelled: if ``cancelled`` says so.
    """
    if network.device.type == "cpu":
        return _side_by_side(batches, network, workload, cancelled)
    # Graphics cards have lanes of their own, and Apple's must not be driven by two threads.
    return _one_by_one(batches, network, cancelled)


def _one_by_one(
    batches: Iterator[Batch], network: Network, cancelled: Callable[[], bool]
) -> _Results:
    for batch in batches:
        _stop_if(cancelled)
        if batch.images is None or batch.masks is None:
            yield batch, None
        else:
            yield batch, network.probabilities(batch.images, batch.masks)


def _side_by_side(
    batches: Iterator[Batch], network: Network, workload: Workload, cancelled: Callable[[], bool]
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
                future = lanes.submit(network.probabilities, batch.images, batch.masks)
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
    """Weighted sums of the rows that tiles still contribute to.

    The sums are held with the columns of the widened scene, so that tiles fit whole.
    """

    def __init__(self, classes: int, layout: Layout, first_row: int, device: torch.device) -> None:
        cols = layout.cols
        self._layout = layout
        self._first = cols.starts[0]
        width = cols.starts[-1] + cols.tile - self._first
        self._sums = torch.zeros(classes, layout.rows.tile, width, device=device)
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

    def add(self, probabilities: torch.Tensor, columns: tuple[int, ...]) -> None:
        """Add tiles of the present row. probabilities: (B, K, tile, tile)."""
        tile = self._layout.cols.tile
        for image, column in zip(probabilities, columns, strict=True):
            left = column - self._first
            self._sums[:, :, left : left + tile].addcmul_(image, self._weights)

    def finish(self, number: int, valid: NDArray[np.bool_], computed: int) -> Iterator[RowBand]:
        """Return the rows that no later row of tiles touches, few at a time."""
        first, last = self._done, self._layout.finished_rows(number)
        self._done = last
        cols = slice(-self._first, -self._first + self._layout.cols.length)
        for start in range(first, last, BAND_ROWS):
            stop = min(last, start + BAND_ROWS)
            sums = self._sums[:, start - self._top : stop - self._top, cols]
            total = self._row_total[start:stop, None] * self._col_total[None, :]
            yield RowBand(
                start,
                (sums / total).cpu(),
                valid[start - first : stop - first],
                computed if start == first else 0,
            )
