"""Doing many things at once, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from mmearth.errors import WorkerDiedError

LOOK_SECONDS = 0.2  # between two looks at whether to stop
Result = TypeVar("Result")


def each(
    function: Callable[..., Result],
    arguments: Sequence[tuple[Any, ...]],
    processes: int,
    check: Callable[[], None],
) -> Iterator[tuple[int, Result]]:
    """Call a function of a module with each of many arguments.

    Args:
        function: it and its arguments have to be such that another process can be told of them.
        arguments: of each call.
        processes: at most; one, or a single call, is done in this process.
        check: called often; raises to stop. Calls that have begun are then ended first.

    Yields:
        Number of the call and its result, as they come.

    Raises:
        Exception: the first that a call raises.
        WorkerDiedError: if a process ended unexpectedly.
    """
    if min(processes, len(arguments)) <= 1:
        for number, one in enumerate(arguments):
            check()
            yield number, function(*one)
        return
    # A fresh process each: one that is forked with threads under way may wait for ever.
    spawn = multiprocessing.get_context("spawn")
    count = min(processes, len(arguments))
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin) as pool:
        calls = {pool.submit(function, *one): number for number, one in enumerate(arguments)}
        try:
            waiting = set(calls)
            while waiting:
                check()
                done, waiting = wait(waiting, LOOK_SECONDS, FIRST_COMPLETED)
                for call in done:
                    yield calls[call], call.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "A process that computed a part of the job ended unexpectedly, for lack of memory "
                "perhaps.",
                "Close other programs or allow for fewer threads, and start the job again.",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl+C to the parent, and end when it does, however that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
