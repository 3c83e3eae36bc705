"""Downloading a file: resumed after a break, checked when whole, and put in words when it fails.

What has arrived lies in ``NAME.part``; beside it, ``NAME.part.json`` keeps what tells whether the
server still has the same file. The file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from mmearth.errors import DownloadError, JobCancelled
from mmearth.files import check_space, explained
from mmearth.models.card import file_sha256
from mmearth.models.store.transfer import Answer, Broken, host_of, proxy_wants_a_password, request

TRIES = 4  # in a row that bring nothing new
PAUSE_SECONDS = 1.0  # before the second of them, then twice as long each time
SILENT_SECONDS = 30.0

OK, PARTIAL, NOT_SATISFIABLE, PROXY_PASSWORD = 200, 206, 416, 407
MAY_PASS = {408, 425, 429, *range(500, 600)}
_Request: TypeAlias = AbstractContextManager[Answer]
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html)\b", re.IGNORECASE)


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    size: int | None = None,
    proxy: str = "",
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    silent_seconds: float = SILENT_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> None:
    """Download a file, whole or not at all.

    What an earlier call left unfinished is gone on with, if the server still has the same file.
    No two calls may have the same target at once.

    Args:
        url: an ``http`` or ``https`` address.
        target: file to write; one that is there is replaced.
        sha256: hash that the file must have, or the beginning of it, in hexadecimal digits.
        size: bytes that the file must have, if known.
        proxy: address of a proxy; if empty, those of the environment are used.
        progress: called often with the bytes that have arrived, and those in all if known.
        cancelled: asked often; true ends the download and keeps what has arrived.
        silent_seconds: after so long without a byte the server is given up.
        pause_seconds: rest before trying again; twice as long each time.

    Raises:
        DownloadError: if the server does not give the file, or gives another one.
        DiskFullError: if the disk has no room for it.
        OutputError: if it cannot be written for another reason.
        JobCancelled: if it is cancelled.
    """
    host = host_of(url)
    part = _Part(target, url)

    def ask(headers: dict[str, str]) -> _Request:
        return request(
            url, headers, proxy=proxy, silent_seconds=silent_seconds, cancelled=cancelled
        )

    most, failures = part.size, 0
    while True:
        try:
            _fetch(ask, part, host, size, progress)
            break
        except Broken as broken:
            failures = failures + 1 if part.size <= most else 1
            most = max(most, part.size)
            if failures >= TRIES:
                raise DownloadError(
                    f"{host} {broken}; {_megabytes(part.size)} had arrived.",
                    "Check the connection and try again: it goes on where it stopped.",
                ) from None
            _rest(pause_seconds * 2 ** (failures - 1), cancelled)
    if sha256:
        _check_hash(part, sha256, host)
    with explained(target):
        os.replace(part.path, target)
        part.remove()


class _Part:
    """What has arrived of a file, and which version of it that is.

    A version is what the server gave with the first bytes: the ETag, or the time of the last
    change. Bytes of an unknown version are not gone on with.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._facts = target.with_name(f"{target.name}.part.json")
        self._url = url

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        try:
            facts = json.loads(self._facts.read_text("utf-8"))
            return str(facts["version"]) if facts["url"] == self._url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, version: str) -> None:
        """Start anew, with bytes of a version."""
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.remove()
            self.path.touch()
            self._facts.write_text(json.dumps({"url": self._url, "version": version}), "utf-8")

    def write(self, blocks: Iterator[bytes]) -> Iterator[int]:
        """Append what arrives; yield the size so far."""
        with explained(self.path), self.path.open("ab") as file:
            for block in blocks:
                file.write(block)
                yield file.tell()

    def remove(self) -> None:
        self._facts.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _fetch(
    ask: Callable[[dict[str, str]], _Request],
    part: _Part,
    host: str,
    size: int | None,
    progress: Callable[[int, int | None], None],
) -> None:
    """Get what is missing of a file.

    Raises:
        Broken: if that fails in a way that may pass; what has arrived is kept.
    """
    have = part.size if part.version else 0
    wanted = {"Range": f"bytes={have}-", "If-Range": part.version} if have else {}
    with ask(wanted) as answer:
        if answer.status == NOT_SATISFIABLE and have:
            same = _version(answer) in ("", part.version)
            if same and _whole_size(answer) == have and size in (None, have):
                return  # the last byte had arrived
            part.remove()
            raise Broken("has another file now")
        _refuse(answer, host)
        if answer.status == OK:
            have = 0
            part.begin(_version(answer))
        elif _first_byte(answer) != have or _version(answer) not in ("", part.version):
            part.remove()
            raise Broken("has another file now")
        total = _whole_size(answer)
        if size is not None and total is not None and total != size:
            part.remove()
            raise DownloadError(
                f"{host} has another file: expected {size:,} bytes, found {total:,}.", _ANOTHER_FILE
            )
        total = size if total is None else total
        check_space(part.path.parent, max(0, (total or 0) - have))
        for done in part.write(_no_web_page(answer.blocks, host)):
            progress(done, total)
    if total is not None and part.size > total:
        part.remove()
        raise Broken(f"sent more than the {_megabytes(total)} that it had announced")
    if total is not None and part.size < total:
        raise Broken("broke off the download")


def _refuse(answer: Answer, host: str) -> None:
    """Raise whatever an answer other than the file stands for."""
    status = answer.status
    if status in MAY_PASS:
        raise Broken(f"is out of order at the moment (HTTP status {status})")
    if status == PROXY_PASSWORD:
        raise proxy_wants_a_password()
    if status in (404, 410):
        raise DownloadError(f"{host} no longer has the file (HTTP status {status}).", _ANOTHER_FILE)
    if status in (401, 403):
        raise DownloadError(
            f"{host} does not give the file to everybody (HTTP status {status}).",
            "Obtain it from the publisher's page, and install it from there.",
        )
    if status not in (OK, PARTIAL):
        raise DownloadError(f"{host} refuses the download (HTTP status {status}).", _ANOTHER_FILE)
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _web_page(host)


_ANOTHER_FILE = (
    "Update MMEarth; if that does not help, obtain the file from the publisher, and install it "
    "from there."
)


def _no_web_page(blocks: Iterator[bytes], host: str) -> Iterator[bytes]:
    """Pass on bytes, unless they begin as a web page does."""
    for number, block in enumerate(blocks):
        if number == 0 and WEB_PAGE.match(block):
            raise _web_page(host)
        yield block


def _web_page(host: str) -> DownloadError:
    return DownloadError(
        f"A web page came in place of the file from {host}.",
        "The network may ask for a login: open any page in a browser, then try again. Or obtain "
        "the file from the publisher's page, and install it from there.",
    )


def _version(answer: Answer) -> str:
    """Return what tells one version of a file from another; empty if the server does not say."""
    tag = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):  # weak ones are the same for files that differ
        return tag
    return answer.headers.get("Last-Modified", "")


def _first_byte(answer: Answer) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _whole_size(answer: Answer) -> int | None:
    """Return the bytes of the whole file, if the server says."""
    if answer.status == OK:
        length = answer.headers.get("Content-Length", "")
        plain = answer.headers.get("Content-Encoding", "identity") == "identity"
        return int(length) if length.isdecimal() and plain else None
    found = re.match(r"bytes (?:\d+-\d+|\*)/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _check_hash(part: _Part, expected: str, host: str) -> None:
    found = file_sha256(part.path)
    if not found.startswith(expected.lower()):
        part.remove()
        raise DownloadError(
            f"The file from {host} is not the one that was published: expected a SHA-256 that "
            f"begins with {expected[:12]}, found {found[:12]}….",
            "It was deleted. Try again; if that does not help, the publisher may have changed it.",
        )


def _rest(seconds: float, cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise JobCancelled("Cancelled.")
        time.sleep(min(left, 0.1))


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"
