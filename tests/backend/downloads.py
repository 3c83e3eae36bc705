"""Servers that misbehave as those of the world do, for tests of downloading."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves one file at every address; what it does wrong is set in its attributes.

    Attributes:
        body: the file.
        headers: sent with it, for instance an ETag.
        ranges: whether parts of it can be asked for.
        tells: whether it sends these even if there is no part of the file to send.
        blind: whether it sends a part of the file even if that is no longer the one asked for.
        faults: one for each request, in order: a status, header fields of a redirect, "html",
            "silent", or, half way, "drop", "stall" or "wait".
        seen: header fields of the requests.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.headers = {"ETag": '"one"'}
        self.tells = True
        self.ranges = True
        self.blind = False
        self.faults: list = []
        self.seen: list[dict[str, str]] = []
        self.over = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        facts: FileServer = self.server.facts
        facts.seen.append({"path": self.path, **self.headers})
        fault = facts.faults.pop(0) if facts.faults else None
        if isinstance(fault, int):
            return self._send(fault, b"no")
        if isinstance(fault, dict):
            return self._send(302, b"", **fault)
        if fault == "silent":
            return facts.over.wait()
        if fault == "html":
            return self._send(200, b"<!DOCTYPE html><p>Log in", **{"Content-Type": "text/html"})
        if fault == "html in disguise":
            return self._send(200, b"\n<html><p>Log in")
        start = self._start(facts)
        if start is None:
            size = {"Content-Range": f"bytes */{len(facts.body)}"}
            return self._send(416, b"", **size, **(facts.headers if facts.tells else {}))
        part = facts.body[start:]
        headers = dict(facts.headers)
        if start:
            last = len(facts.body) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(facts.body)}"
        announced = len(part)
        if fault in ("drop", "stall", "wait"):
            part = part[: len(part) // 2]
        self._send(206 if start else 200, part, announced, **headers)
        if fault == "stall":
            facts.over.wait()
        if fault == "wait":
            time.sleep(0.7)
            self.wfile.write(facts.body[start + len(part) :])

    def _start(self, facts: FileServer) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = facts.headers.get("ETag") or facts.headers.get("Last-Modified")
        same = facts.blind or self.headers.get("If-Range") == current
        if not (found and facts.ranges and same):
            return 0
        return int(found[1]) if int(found[1]) < len(facts.body) else None

    def _send(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None: ...


class _Proxy(_Handler):
    """Forwards requests for plain http addresses, as proxies do."""

    def do_GET(self) -> None:
        self.server.facts.seen.append({"path": self.path, **self.headers})
        if self.server.facts.faults:
            return self._send(self.server.facts.faults.pop(0), b"")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.path) as answer:
            self._send(200, answer.read(), ETag='"one"')


@contextlib.contextmanager
def serving(body: bytes, handler: type = _Handler) -> Iterator[FileServer]:
    """Run a server while the block runs; its address is ``url``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.facts = FileServer(body)
        server.facts.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.facts
        finally:
            server.facts.over.set()
            server.shutdown()
            thread.join()


def proxying() -> contextlib.AbstractContextManager[FileServer]:
    """Run a proxy while the block runs."""
    return serving(b"", _Proxy)
