"""Rows of tiles computed by the workers of a Dask cluster, and blended here in their order.

A task is a row of tiles. It is told the request alone: the worker reads the rasters itself, under
the paths that the request names, with its own copy of the model, and refuses if it sees other files
than this machine. Since tiles come back unblended and are added up here as they would have been,
the map is the local one: to the bit on processors of the same kind where the rasters lie on the
map's pixels, and elsewhere to the rounding of 32-bit numbers.

A task hangs on no other one, so of a worker that dies nothing is lost but its own.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth import __version__
from mmearth.api import SegmentSpec
from mmearth.errors import ClusterError, JobCancelled, MissingExtraError, MMEarthError
from mmearth.inference.predict import RowBand, blended
from mmearth.inference.reader import Batch, read_row
from mmearth.jobs import mapping
from mmearth.jobs.prepare import Prepared, prepare
from mmearth.models.network import Network, loaded
from mmearth.settings import Settings

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0  # so long is waited for a worker where there is none
LOOK_UP_SECONDS = 0.03  # while a row is computed, so often is a cancel noticed
COUNT_SECONDS = 2.0  # so often are the workers counted
AHEAD = 2  # rows under way for each thread of the workers
SAME_PATHS = (
    "All workers have to see the rasters under the same paths as this machine, on a shared disk "
    "for example, and to have the same model installed (MMEARTH_HOME)."
)

_Row = tuple[tuple[int, ...], NDArray[np.float32] | None, NDArray[np.bool_]]


def compute_rows(
    spec: SegmentSpec,
    ready: Prepared,
    *,
    first_row: int,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> Iterator[RowBand]:
    """Compute a map on the workers of ``spec.scheduler``; see ``predict.compute_rows``.

    Raises:
        ClusterError: if there is no cluster or no worker, or one of them cannot compute.
        JobCancelled: if ``cancelled`` says so; what is under way is then taken back.
        MissingExtraError: if what speaks with clusters is not installed.
    """
    with closing(_rows(spec, ready, first_row, cancelled)) as rows:
        yield from blended(
            rows,
            ready.layout,
            ready.card.class_count,
            torch.device("cpu"),
            first_row=first_row,
            progress=progress,
        )


def _rows(
    spec: SegmentSpec, ready: Prepared, first_row: int, cancelled: Callable[[], bool]
) -> Generator[tuple[Batch, torch.Tensor | None], None, None]:
    """Yield the rows of tiles in their order, a few of them ahead under way."""
    layout = ready.layout
    numbers = deque(
        number
        for number, start in enumerate(layout.rows.starts)
        if start + layout.rows.tile > first_row
    )
    order = spec.model_dump_json(), mapping.fingerprint(ready), first_row
    cluster = _Cluster(str(spec.scheduler), cancelled)
    pending: deque[tuple[int, Any]] = deque()
    try:
        while numbers or pending:
            while numbers and len(pending) < max(2, AHEAD * cluster.threads()):
                number = numbers.popleft()
                pending.append((number, cluster.submit(_versions(), *order, number)))
            number, future = pending[0]
            columns, values, valid = cluster.result(future)
            pending.popleft()
            batch = Batch(number, len(layout.cols.starts), columns, valid=valid)
            # A copy: what has come over the wire is read-only.
            yield batch, None if values is None else torch.from_numpy(values.copy())
    finally:
        cluster.close([future for _, future in pending])


class _Cluster:
    """A connection to a scheduler; errors are told in words."""

    def __init__(self, address: str, cancelled: Callable[[], bool]) -> None:
        if find_spec("distributed") is None:
            raise MissingExtraError(
                "A cluster needs a package that is not installed: distributed.",
                "Install it beside the backend, on the workers too: pip install distributed.",
            )
        self._dask = importlib.import_module("distributed")
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its words reach no user
        self._address, self._cancelled = address, cancelled
        self._name = uuid.uuid4().hex[:12]
        self._counted, self._seen, self._count = -np.inf, time.monotonic(), 0
        try:
            self._client = self._dask.Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False, name="mmearth"
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"No Dask scheduler answers at {address}.",
                "Check the address and that it runs: dask scheduler, and on each machine dask "
                f"worker {address}. Both are to be of the same version as here.",
            ) from error

    def threads(self) -> int:
        """Return how many tasks the workers compute at once.

        Raises:
            ClusterError: if there has been no worker for long, or no scheduler any more.
        """
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            try:
                self._count = sum(self._client.nthreads().values())
            except Exception as error:  # of its wire, and of those who close it
                raise self._lost() from error
            self._counted = time.monotonic()
        if self._count:
            self._seen = now
        elif now - self._seen > IDLE_SECONDS:
            raise ClusterError(
                f"The cluster at {self._address} has no workers.",
                f"Start some, on each machine: dask worker {self._address}. What is computed "
                "already is kept for when you run this again.",
            )
        return self._count

    def submit(self, *arguments: object) -> Any:
        """Have a row of tiles computed."""
        key = f"mmearth-{self._name}-{arguments[-1]}"
        return self._client.submit(tile_row, *arguments, key=key, pure=False)

    def result(self, future: Any) -> _Row:
        """Wait for a row of tiles.

        Raises:
            ClusterError: if it cannot be computed.
            JobCancelled: if the user has had enough.
        """
        while not future.done():
            if self._cancelled():
                raise JobCancelled("Cancelled.")
            self.threads()
            time.sleep(LOOK_UP_SECONDS)
        try:
            row: _Row = future.result()
        except MMEarthError:
            raise
        except self._dask.KilledWorker as error:
            raise ClusterError(
                "One row of tiles has ended several workers, most likely for want of memory.",
                "Give each worker more memory or fewer threads.",
            ) from error
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"A worker of the cluster lacks {error.name}.",
                f"Install MMEarth {__version__} and what it needs on all workers.",
            ) from error
        except (self._dask.CancelledError, OSError, TimeoutError) as error:
            raise self._lost() from error
        except Exception as error:  # whatever a worker has run into
            raise ClusterError(
                f"A worker failed: {type(error).__name__}: {error}.",
                f"Check that all workers have MMEarth {__version__} and packages as here.",
            ) from error
        return row

    def close(self, futures: list[Any]) -> None:
        """Take back what is under way, and leave the cluster."""
        try:
            self._client.cancel(futures, force=True)
            self._client.close(timeout=CONNECT_SECONDS)
        except Exception as error:  # there is nobody left to tell
            logging.getLogger(__name__).warning("The cluster was not left in order: %s", error)

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"The connection to the scheduler at {self._address} is lost.",
            "Run this again once it answers: what is computed already is kept.",
        )


def _versions() -> dict[str, str]:
    """Return what decides how things are computed, by its name."""
    return {"MMEarth": __version__, "torch": torch.__version__.partition("+")[0]}


def tile_row(
    versions: dict[str, str], request: str, fingerprint: str, first_row: int, number: int
) -> _Row:
    """Compute a row of tiles; runs on a worker.

    Args:
        versions: of whoever asks.
        request: a ``SegmentSpec`` as JSON.
        fingerprint: of that request where it was made; see ``mapping.fingerprint``.
        first_row: rows of the scene above it are finished already.
        number: of the row of tiles.

    Returns:
        columns: first column of each tile that holds data.
        values: (B, K, tile, tile) float32, probabilities; None where no tile holds data.
        valid: (n, W) bool, of the rows that are finished after this row of tiles.

    Raises:
        ClusterError: if this worker cannot compute it as its client would.
    """
    for name, wanted in versions.items():
        found = _versions().get(name)
        if found != wanted:
            raise ClusterError(
                f"{_me()} has {name} {found}, this machine {wanted}.",
                "Install the same version on all machines.",
            )
    try:
        return _computed(*_at_hand(request, fingerprint), number, first_row)
    except ClusterError:
        raise
    except MMEarthError as error:
        refused = ClusterError(
            f"{_me()} cannot compute: {error.message}", f"{error.advice} {SAME_PATHS}".strip()
        )
    raise refused  # out here, without its cause: GDAL's errors cannot be sent


def _computed(ready: Prepared, network: Network, number: int, first_row: int) -> _Row:
    columns: list[int] = []
    values: list[NDArray[np.float32]] = []
    for batch in read_row(ready.stack(), ready.layout, number, first_row):
        if batch.images is not None and batch.masks is not None:
            columns += batch.columns
            values.append(network.probabilities(batch.images, batch.masks).cpu().numpy())
        valid = batch.valid
    return tuple(columns), np.concatenate(values) if values else None, np.asarray(valid)


_kept: dict[tuple[str, str], tuple[Prepared, Network]] = {}
_one_at_a_time = threading.Lock()


def _at_hand(request: str, fingerprint: str) -> tuple[Prepared, Network]:
    """Return a request made ready and its network; those of the last request are kept."""
    # A task takes a core; a worker with several computes as many tasks at once.
    torch.set_num_threads(1)
    with _one_at_a_time:
        key = request, fingerprint
        if key not in _kept:
            settings = Settings(threads=1)
            ready = prepare(SegmentSpec.model_validate_json(request), settings)
            if mapping.fingerprint(ready) != fingerprint:
                raise ClusterError(f"{_me()} sees other rasters or another model.", SAME_PATHS)
            _kept.clear()
            _kept[key] = ready, loaded(Network, ready.card, settings)
        return _kept[key]


def _me() -> str:
    """Name this worker in a sentence."""
    address = importlib.import_module("distributed").get_worker().address
    return f"The worker {address}"
