"""One HTTP request, read in a thread of its own so that a silent server can be left at any time."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from mmearth import __version__
from mmearth.errors import DownloadError, JobCancelled

BLOCK_BYTES = 16 * 2**10
BLOCKS_AHEAD = 64  # that wait to be written
WAKE_SECONDS = 0.2  # at least so often is a cancel looked for
END = b""

_Item = TypeVar("_Item")


class Broken(Exception):
    """Raised when a request fails in a way that may pass; its text continues the server's name."""


@dataclass(frozen=True)
class Answer:
    """What a server answers.

    Attributes:
        status: HTTP status.
        headers: its header fields; names in any case.
        blocks: the bytes, as they arrive.
    """

    status: int
    headers: Mapping[str, str]
    blocks: Iterator[bytes]


def host_of(url: str) -> str:
    """Return the host of an address to download from.

    Raises:
        DownloadError: if it is no such address.
    """
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname
    raise DownloadError(
        "The address of the file does not begin with https:// or http://.",
        "Use the address that the publisher gives.",
    )


@contextlib.contextmanager
def request(
    url: str,
    headers: Mapping[str, str],
    *,
    proxy: str,
    silent_seconds: float,
    cancelled: Callable[[], bool],
) -> Iterator[Answer]:
    """Ask for a file; redirects are followed, but never from https to http.

    Args:
        url: an ``http`` or ``https`` address.
        headers: further header fields.
        proxy: address of a proxy, perhaps with name and password, which are told to nobody; if
            empty, those of the environment are used.
        silent_seconds: after so long without a byte the server is given up.
        cancelled: asked often.

    Raises:
        Broken: if the connection fails.
        DownloadError: if there is no point in trying again.
        JobCancelled: if it is cancelled.
    """
    reader = _Reader(url, headers, proxy, silent_seconds)
    threading.Thread(target=reader.run, name="download", daemon=True).start()
    try:
        status, fields = reader.head(cancelled)
        yield Answer(status, fields, reader.blocks(cancelled))
    finally:
        reader.stopped.set()


class _Reader:
    """Reads in one thread what is taken in another; only the latter touches files."""

    def __init__(
        self, url: str, headers: Mapping[str, str], proxy: str, silent_seconds: float
    ) -> None:
        self._url = url
        self._host = host_of(url)
        self._headers = {
            "User-Agent": f"MMEarth-for-QGIS/{__version__}",
            "Accept-Encoding": "identity",  # the length is that of the file, and a range its own
            **headers,
        }
        # Given with the request, they go before those of the environment.
        self._proxies = dict.fromkeys(("http", "https"), proxy) if proxy else None
        self._silent_seconds = silent_seconds
        self._heads: queue.Queue[tuple[int, Mapping[str, str]] | Exception] = queue.Queue()
        self._blocks: queue.Queue[bytes | Exception] = queue.Queue(BLOCKS_AHEAD)
        self.stopped = threading.Event()

    def run(self) -> None:
        """Send the request and read the answer."""
        try:
            with requests.Session() as session:
                if self._url.startswith("https:"):
                    del session.adapters["http://"]
                with session.get(
                    self._url,
                    headers=self._headers,
                    proxies=self._proxies,
                    timeout=self._silent_seconds,
                    stream=True,
                ) as response:
                    self._heads.put((response.status_code, response.headers))
                    for block in response.iter_content(BLOCK_BYTES):
                        if not self._hand_over(block):
                            return
            self._hand_over(END)
        except Exception as error:  # whatever happens here, the other thread must not wait for ever
            # Without its cause: texts of libraries may name the proxy, and so its password.
            told = _explained(error, self._host, self._silent_seconds, bool(self._proxies))
            self._heads.put(told)
            self._hand_over(told)

    def head(self, cancelled: Callable[[], bool]) -> tuple[int, Mapping[str, str]]:
        """Wait for status and header fields."""
        return _take(self._heads, cancelled)

    def blocks(self, cancelled: Callable[[], bool]) -> Iterator[bytes]:
        """Wait for one block after the other."""
        while block := _take(self._blocks, cancelled):
            yield block

    def _hand_over(self, block: bytes | Exception) -> bool:
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._blocks.put(block, timeout=WAKE_SECONDS)
                return True
        return False


def _take(items: queue.Queue[_Item | Exception], cancelled: Callable[[], bool]) -> _Item:
    while True:
        if cancelled():
            raise JobCancelled("Cancelled.")
        with contextlib.suppress(queue.Empty):
            item = items.get(timeout=WAKE_SECONDS)
            if isinstance(item, Exception):
                raise item
            return item


def _explained(error: Exception, host: str, silent_seconds: float, proxied: bool) -> Exception:
    """Return what to raise for an error of the libraries."""
    text = str(error)
    if isinstance(error, requests.exceptions.ProxyError):
        if "407" in text:
            return proxy_wants_a_password()
        return Broken("could not be reached through the proxy")
    if isinstance(error, requests.exceptions.SSLError) and "certificate" in text.lower():
        return DownloadError(
            f"The certificate of {host} could not be confirmed.",
            "If your network inspects connections, set the environment variable "
            "REQUESTS_CA_BUNDLE to the certificate file that its administrator gives.",
        )
    if isinstance(error, requests.exceptions.InvalidSchema):
        return DownloadError(
            f"{host} leads to an address that is not safe to download from.",
            "Obtain the file from the publisher's page, and install it from there.",
        )
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return DownloadError(
            f"{host} leads from one address to the next without end.", "Try again later."
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Broken(f"did not answer within {silent_seconds:g} s")
    if isinstance(error, requests.exceptions.ReadTimeout) or "Read timed out" in text:
        return Broken(f"sent nothing for {silent_seconds:g} s")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return Broken("broke off the download")
    if isinstance(error, requests.exceptions.ConnectionError):
        if "resolve" in text:
            return Broken("is not known to the network")
        return Broken(f"could not be reached{' through the proxy' if proxied else ''}")
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)):
        return DownloadError(
            f"The request to {host} could not be made ({type(error).__name__}).",
            "Check the address of the proxy: it has the form http://host:port.",
        )
    return Broken("broke off the download") if isinstance(error, OSError) else error


def proxy_wants_a_password() -> DownloadError:
    """Return the error of a proxy that does not know the user."""
    return DownloadError(
        "The proxy asks for a name and a password, or refuses those it was given.",
        "Enter them in QGIS under Settings > Options > Network, or set MMEARTH_PROXY.",
    )
