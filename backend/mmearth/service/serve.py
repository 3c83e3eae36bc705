"""Starting and ending the service as somebody's child process.

It binds a free port of the loopback interface itself, says which in one line of JSON on standard
output, and ends when its parent does: at the end of its standard input, or, should that be held
open by someone else, when the parent's process is gone. Unused for a while it ends by itself.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from mmearth import __version__, api
from mmearth.errors import InputError, OutputError
from mmearth.processes import is_alive, process_stamp
from mmearth.service.app import create_app
from mmearth.service.logs import log_to
from mmearth.service.store import JobStore
from mmearth.service.supervisor import Supervisor
from mmearth.settings import Settings

WATCH_SECONDS = 1.0
LOOPBACK = "127.0.0.1"

log = logging.getLogger(__name__)


def serve(settings: Settings, *, parent_pid: int | None = None, watch_stdin: bool = True) -> None:
    """Run the service until it is told to end, its parent ends, or nobody uses it.

    Args:
        settings: settings; a token is required.
        parent_pid: process to live no longer than.
        watch_stdin: end when standard input ends.

    Raises:
        InputError: if there is no token.
        OutputError: if the folder of the backend cannot be written to.
    """
    if not settings.token:
        raise InputError(
            "The service needs a token.", "Set the environment variable MMEARTH_TOKEN."
        )
    # Standard output carries the handshake only.
    handshake = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        log_to(settings, "service")
        store = JobStore(settings.jobs_folder, settings.work_folder)
    except OSError as error:
        raise OutputError(
            f"The folder of the backend, {settings.home}, cannot be written to: {error}.",
            "Make it writable, or set MMEARTH_HOME to a folder that is.",
        ) from error
    supervisor = Supervisor(settings, store)
    used = _LastUse()
    app = create_app(settings, supervisor, on_request=used.touch, on_shutdown=lambda: stop())

    listener = socket.create_server((LOOPBACK, 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    )

    def stop() -> None:
        server.should_exit = True

    @asynccontextmanager
    async def announce(_app: FastAPI) -> AsyncIterator[None]:
        hello = {
            "app": "mmearth",
            "version": __version__,
            "api": api.API_VERSION,
            "pid": os.getpid(),
            "port": listener.getsockname()[1],
        }
        handshake.write(json.dumps(hello) + "\n")
        handshake.flush()
        yield

    app.router.lifespan_context = announce
    if watch_stdin:
        threading.Thread(target=_await_end_of_input, args=(stop,), daemon=True).start()
    watch = threading.Thread(
        target=_watch, args=(settings, supervisor, used, parent_pid, stop), daemon=True
    )
    watch.start()
    log.info("Service %s on port %d", __version__, listener.getsockname()[1])
    try:
        server.run(sockets=[listener])
    finally:
        supervisor.close()
        log.info("Service ended")


class _LastUse:
    def __init__(self) -> None:
        self._at = time.monotonic()

    def touch(self) -> None:
        self._at = time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._at) / 60


def _await_end_of_input(stop: Callable[[], None]) -> None:
    # Not through sys.stdin: its lock, held here, would abort the end of the interpreter.
    while os.read(0, 4096):
        pass
    log.info("The parent closed our input")
    stop()


def _watch(
    settings: Settings,
    supervisor: Supervisor,
    used: _LastUse,
    parent_pid: int | None,
    stop: Callable[[], None],
) -> None:
    parent = _stamp_of(parent_pid)
    while True:
        time.sleep(WATCH_SECONDS)
        if supervisor.busy:
            used.touch()
        if parent_pid and not is_alive(parent):
            log.info("The parent is gone")
            return stop()
        if used.minutes > settings.idle_minutes:
            log.info("Unused for %.0f minutes", settings.idle_minutes)
            return stop()


def _stamp_of(pid: int | None) -> str:
    try:
        return process_stamp(pid) if pid else ""
    except ProcessLookupError:  # it ended before we were up
        return ""
