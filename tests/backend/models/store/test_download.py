"""Downloads come whole or not at all, go on after a break, and fail in words."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import traceback

import pytest
from downloads import proxying, serving

from mmearth.errors import DiskFullError, DownloadError, JobCancelled
from mmearth.models.store.download import download
from mmearth.models.store.transfer import BLOCK_BYTES

BODY = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
ETAGS = {"tagged": {"ETag": '"one"'}, "dated": {"Last-Modified": "Mon, 05 Oct 2026 10:00:00 GMT"}}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with serving(BODY) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights.pth"


def get(server, target, **options) -> None:
    download(server.url, target, **{"silent_seconds": 0.5, "pause_seconds": 0.01, **options})


def interrupted(server, target) -> int:
    """Cancel a download half way; return the bytes that are kept."""
    server.faults = ["stall"]
    arrived = []
    with pytest.raises(JobCancelled):
        get(
            server, target, silent_seconds=20,
            progress=lambda done, total: arrived.append(done),
            cancelled=lambda: bool(arrived) and arrived[-1] > 400_000,
        )  # fmt: skip
    size = target.with_name("weights.pth.part").stat().st_size
    assert 400_000 < size < 600_000 and not target.exists()
    return size


def left(target) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole(server, target) -> None:
    told = []
    get(server, target, sha256=SHA256, size=len(BODY), progress=lambda *now: told.append(now))
    assert target.read_bytes() == BODY and left(target) == ["weights.pth"]
    assert told[-1] == (len(BODY), len(BODY)) and len(told) > 5
    (request,) = server.seen
    assert request["Accept-Encoding"] == "identity" and "MMEarth" in request["User-Agent"]


@pytest.mark.parametrize("headers", ETAGS.values(), ids=ETAGS)
def test_it_goes_on_after_a_break(server, target, headers) -> None:
    server.headers = headers
    server.faults = ["drop", "drop", "drop", "drop", "drop"]
    get(server, target, sha256=SHA256[:8])
    assert target.read_bytes() == BODY and left(target) == ["weights.pth"]
    starts = [int(seen["Range"][6:-1]) for seen in server.seen[1:]]
    assert len(starts) == 5 and starts == sorted(set(starts)) and starts[0] > 400_000
    assert {seen["If-Range"] for seen in server.seen[1:]} == set(headers.values())


def test_a_later_call_goes_on_too(server, target) -> None:
    size = interrupted(server, target)
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    assert server.seen[-1]["Range"] == f"bytes={size}-"


@pytest.mark.parametrize(("fault", "sent"), [("silent", 0), ("stall", len(BODY) // 2)])
def test_a_cancel_does_not_wait_for_a_silent_server(server, target, fault, sent) -> None:
    server.faults = [fault]
    arrived = [0]

    def waiting() -> bool:
        # Less than a block may have arrived, but not been handed over.
        return bool(server.seen) and arrived[-1] > sent - 2 * BLOCK_BYTES

    ends = threading.Timer(10, server.over.set)  # else a download that waits would go on for ever
    ends.start()
    with pytest.raises(JobCancelled):
        get(
            server, target, silent_seconds=60, cancelled=waiting,
            progress=lambda done, total: arrived.append(done),
        )  # fmt: skip
    ends.cancel()
    assert not server.over.is_set() and len(server.seen) == 1


def test_a_server_without_ranges_sends_all_again(server, target) -> None:
    server.ranges = False
    server.faults = ["drop", "drop"]
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY and len(server.seen) == 3


def test_a_file_without_a_version_is_not_gone_on_with(server, target) -> None:
    server.headers = {"ETag": 'W/"weak"'}
    server.faults = ["drop"]
    get(server, target)
    assert target.read_bytes() == BODY and "Range" not in server.seen[1]


@pytest.mark.parametrize("blind", [False, True])
def test_a_file_that_changed_meanwhile_comes_anew(server, target, blind) -> None:
    interrupted(server, target)
    server.body, server.headers, server.blind = BODY[::-1], {"ETag": '"two"'}, blind
    get(server, target)
    assert target.read_bytes() == BODY[::-1]


@pytest.mark.parametrize("now", ETAGS.values(), ids=ETAGS)
def test_a_file_of_the_same_size_that_changed_comes_anew(server, target, now) -> None:
    """The server says that there is nothing beyond the last byte, of another file."""
    interrupted(server, target)
    target.with_name("weights.pth.part").write_bytes(BODY)
    server.body, server.blind = BODY[::-1], True
    server.headers = {name: value.replace("one", "two") for name, value in now.items()}
    get(server, target)
    assert target.read_bytes() == BODY[::-1] and left(target) == ["weights.pth"]


def test_another_size_is_not_believed_of_a_file_that_has_arrived(server, target) -> None:
    interrupted(server, target)
    target.with_name("weights.pth.part").write_bytes(BODY)
    with pytest.raises(DownloadError, match="expected 77 bytes, found 1,000,000"):
        get(server, target, size=77)
    assert left(target) == []


@pytest.mark.parametrize("told", [True, False])
def test_all_bytes_but_the_end_of_the_answer_are_enough(server, target, told) -> None:
    server.tells = told
    interrupted(server, target)
    target.with_name("weights.pth.part").write_bytes(BODY)
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    assert server.seen[-1]["Range"] == f"bytes={len(BODY)}-"


def test_more_bytes_than_the_file_has_are_thrown_away(server, target) -> None:
    interrupted(server, target)
    target.with_name("weights.pth.part").write_bytes(BODY + b"more")
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_bytes_of_another_address_are_thrown_away(server, target) -> None:
    interrupted(server, target)
    server.url += "?other"
    get(server, target)
    assert target.read_bytes() == BODY and "Range" not in server.seen[-1]


def test_a_connection_that_always_breaks_is_given_up(server, target) -> None:
    server.ranges = False
    server.faults = ["drop"] * 9
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 broke off the download") as caught:
        get(server, target)
    assert "goes on" in caught.value.advice and not target.exists()
    assert len(server.seen) == 4


def test_a_silent_server_is_given_up(server, target) -> None:
    server.faults = ["silent"] * 9
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 sent nothing for 0\.2 s; 0 MB"):
        get(server, target, silent_seconds=0.2)


def test_a_stalled_server_is_asked_again(server, target) -> None:
    server.faults = ["stall"]
    get(server, target, silent_seconds=0.2, sha256=SHA256)
    assert target.read_bytes() == BODY and "Range" in server.seen[1]


def test_a_slow_server_is_waited_for(server, target) -> None:
    server.faults = ["wait"]
    get(server, target, silent_seconds=5)
    assert target.read_bytes() == BODY and len(server.seen) == 1


def test_another_file_than_the_published_one_is_deleted(server, target) -> None:
    with pytest.raises(DownloadError, match=f"begins with abcdef01, found {SHA256[:12]}"):
        get(server, target, sha256="abcdef01")
    assert left(target) == []


def test_another_size_is_refused_before_it_is_downloaded(server, target) -> None:
    told = []
    with pytest.raises(DownloadError, match="expected 77 bytes, found 1,000,000"):
        get(server, target, size=77, progress=lambda *now: told.append(now))
    assert left(target) == [] and told == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "no longer has"), (403, "to everybody"), (401, "to everybody"), (451, "refuses")],
)
def test_a_refusal_is_told_at_once(server, target, status, words) -> None:
    server.faults = [status]
    with pytest.raises(DownloadError, match=rf"127\.0\.0\.1 .*{words}.*{status}") as caught:
        get(server, target)
    assert caught.value.advice and left(target) == [] and len(server.seen) == 1


def test_trouble_that_passes_is_waited_out(server, target) -> None:
    server.faults = [500, 503, 429]
    get(server, target)
    assert target.read_bytes() == BODY and len(server.seen) == 4


def test_trouble_that_stays_is_told(server, target) -> None:
    server.faults = [503] * 9
    with pytest.raises(DownloadError, match=r"out of order at the moment .HTTP status 503"):
        get(server, target)
    assert len(server.seen) == 4


@pytest.mark.parametrize("fault", ["html", "html in disguise"])
def test_a_web_page_is_not_taken_for_the_file(server, target, fault) -> None:
    server.faults = [fault]
    with pytest.raises(DownloadError, match="web page came in place of the file"):
        get(server, target)
    assert not target.exists()


def test_redirects_are_followed(server, target) -> None:
    server.faults = [{"Location": "/elsewhere"}]
    get(server, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    assert [seen["path"] for seen in server.seen] == ["/weights.pth", "/elsewhere"]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_out_of_the_web_are_refused(server, target, place) -> None:
    server.faults = [{"Location": place}]
    with pytest.raises(DownloadError, match="not safe to download from"):
        get(server, target)
    assert left(target) == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/x", "weights", "http://["]
)
def test_only_the_web_is_downloaded_from(target, url) -> None:
    with pytest.raises(DownloadError, match="does not begin with https"):
        download(url, target)


def test_nobody_there_is_told(target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 could not be reached"):
        download(f"http://127.0.0.1:{port}/x", target, pause_seconds=0.01)
    with pytest.raises(DownloadError, match=r"nowhere\.invalid is not known to the network"):
        download("http://nowhere.invalid/x", target, pause_seconds=0.01)


def test_a_disk_without_room_is_told_before(server, small_disk) -> None:
    server.body = BODY * 2
    target = small_disk / "weights.pth"
    with pytest.raises(DiskFullError, match="2 MB are needed"):
        get(server, target)
    assert not target.exists()


class TestProxy:
    def test_it_is_used(self, server, target) -> None:
        with proxying() as proxy:
            get(server, target, proxy=proxy.url.replace("http://", "http://anna:pearl@"))
            (request,) = proxy.seen
        assert target.read_bytes() == BODY
        assert request["path"] == server.url and "Basic" in request["Proxy-Authorization"]

    def test_that_of_the_environment_is_used(self, server, target, monkeypatch) -> None:
        with proxying() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            get(server, target)
            assert len(proxy.seen) == 1
            with proxying() as other:
                get(server, target, proxy=other.url)
                assert len(proxy.seen) == 1 and len(other.seen) == 1

    @pytest.mark.parametrize(
        "address",
        ["http://anna:pearl@127.0.0.1:9", "http://anna:pearl@:nonsense", "socks5h://anna:pearl@127.0.0.1:9",
         "anna:pearl@127.0.0.1:9", "nonsense://anna:pearl@127.0.0.1:9", "http://anna:pe arl@[:9"],
    )  # fmt: skip
    def test_its_password_is_told_to_nobody(self, server, target, address) -> None:
        with pytest.raises(DownloadError) as caught:
            get(server, target, proxy=address)
        told = "".join(traceback.format_exception(caught.value))
        assert "arl" not in told and "anna" not in told
        assert "proxy" in str(caught.value)

    def test_a_wrong_password_is_told(self, server, target) -> None:
        with proxying() as proxy:
            proxy.faults = [407]
            with pytest.raises(DownloadError, match="asks for a name and a password"):
                get(server, target, proxy=proxy.url)
