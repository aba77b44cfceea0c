"""HTTPStore against a web server that logs, and can be told to misbehave in the ways web servers do."""

import asyncio
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from support.loopback import LoopbackServer
from zarrdock.errors import AccessError, RangeError, ReadOnlyError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import Read, Store
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.open import open_store
from zarrdock.stores.retry import RetryPolicy

DATA = bytes(range(256)) * 4
QUICK = RetryPolicy(attempts=4, deadline_seconds=5, attempt_seconds=2, initial=0.001, max=0.01)


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class WebServer(LoopbackServer):
    """Objects by path, and quirks by name, for all of them or the first so many requests."""

    objects: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"{hash}"'
    quirks: dict[str, float] = field(default_factory=dict)
    log: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        LoopbackServer.__init__(self)

    def is_on(self, quirk: str) -> bool:
        left = self.quirks.get(quirk, 0)
        if left <= 0:
            return False
        self.quirks[quirk] = left - 1
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.log.append(Seen(request.method, request.raw_path, dict(request.headers)))
        for status in (401, 403, 404, 410, 429, 500, 502, 503, 504):
            if self.is_on(str(status)):
                headers = {"Retry-After": "0"} if status == 429 else {}
                return web.Response(status=status, text="<Error><Code>Nope</Code></Error>", headers=headers)
        if request.method == "HEAD" and self.is_on("no-head"):
            return web.Response(status=405)
        data = self.objects.get(request.path)
        if data is None:
            return web.Response(status=404)
        headers = {"ETag": self.etag.format(hash=f"{hash(data):x}")} if self.etag else {}
        wanted = request.headers.get("If-Match")
        if wanted is not None and wanted != headers.get("ETag") and not self.is_on("no-if-match"):
            return web.Response(status=412)
        if self.is_on("stall"):
            await asyncio.sleep(30)
        if self.is_on("gzip"):
            response = web.Response(body=data, headers=headers)
            response.enable_compression(web.ContentCoding.gzip)
            return response
        if self.is_on("chunked"):
            response = web.StreamResponse(headers=headers)
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(data)
            return response
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if found is None or self.is_on("no-ranges") or (not found[1] and self.is_on("no-suffix-ranges")):
            if self.is_on("cut"):
                return await self.cut(request, data, headers)
            return web.Response(body=data, headers=headers)
        return self.part(found[1], found[2], data, headers)

    def part(self, first: str, last: str, data: bytes, headers: dict[str, str]) -> web.Response:
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        if start >= len(data) or (not first and self.is_on("416-suffix")):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        if self.is_on("short"):
            stop = max(start + 1, stop - 3)
        if self.is_on("early"):
            start = max(0, start - 7)
        if self.is_on("late"):
            start += 1
        total = "*" if self.is_on("no-total") else len(data)
        if not self.is_on("no-content-range"):
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        if self.is_on("liar"):
            stop -= 1
        return web.Response(status=206, body=data[start:stop], headers=headers)

    async def cut(self, request: web.BaseRequest, data: bytes, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:-1])
        assert request.transport is not None
        request.transport.close()
        return response


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer(objects={"/data/a/c/0": DATA, "/data/empty": b"", "/data/sp ace/ü%": b"odd"}) as server:
        yield server


@pytest.fixture
def store(server: WebServer) -> HTTPStore:
    return HTTPStore(f"{server.url}/data", retry=QUICK)


RANGES: list[tuple[Range, bytes]] = [
    (None, DATA),
    (Span(0, 1), DATA[:1]),
    (Span(5, 50), DATA[5:50]),
    (Span(1000, 5000), DATA[1000:]),
    (Span(0, 1024), DATA),
    (From(0), DATA),
    (From(1000), DATA[1000:]),
    (Tail(16), DATA[-16:]),
    (Tail(1024), DATA),
    (Tail(10**6), DATA),
]


def data_of(store: Store, key: str, range_: Range = None) -> bytes | None:
    blob = store.get(key, range_)
    return None if blob is None else bytes(blob.data)


@pytest.mark.parametrize("range_,expected", RANGES)
def test_one_get_for_one_read(server: WebServer, store: HTTPStore, range_: Range, expected: bytes) -> None:
    assert data_of(store, "a/c/0", range_) == expected
    assert [seen.method for seen in server.log] == ["GET"]
    assert server.log[0].headers["Accept-Encoding"] == "identity"


def test_missing_and_empty(server: WebServer, store: HTTPStore) -> None:
    assert store.read([Read("nope"), Read("nope", Tail(3)), Read("nope", Span(2, 3), '"x"')]) == [None] * 3
    assert len(server.log) == 3
    server.quirks["410"] = 1
    assert store.get("a/c/0") is None
    assert data_of(store, "empty") == b""
    assert data_of(store, "empty", Tail(8)) == b""
    assert data_of(store, "a/c/0", Span(7, 7)) == data_of(store, "a/c/0", Tail(0)) == b""
    assert len(server.log) == 6, "an empty range needs no request"


def test_keys_are_percent_encoded_once(server: WebServer, store: HTTPStore) -> None:
    assert data_of(store, "sp ace/ü%") == b"odd"
    assert server.log[0].path == "/data/sp%20ace/%C3%BC%25"


@pytest.mark.parametrize("range_", [Span(1024, 1025), Span(9999, 10000), From(1024)])
def test_beyond_the_end(store: HTTPStore, range_: Range) -> None:
    with pytest.raises(RangeError) as caught:
        store.get("a/c/0", range_)
    assert caught.value.key == "a/c/0"


@pytest.mark.parametrize("quirk", ["no-ranges", "gzip", "chunked"])
@pytest.mark.parametrize("range_,expected", RANGES[1:])
def test_ignored_ranges_are_cut_with_one_warning(
    server: WebServer, store: HTTPStore, quirk: str, range_: Range, expected: bytes
) -> None:
    server.quirks[quirk] = 10
    with pytest.warns(RuntimeWarning, match="ignores byte ranges"):
        assert data_of(store, "a/c/0", range_) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data_of(store, "a/c/0", range_) == expected
        with pytest.raises(RangeError):
            store.get("a/c/0", Span(1024, 1030))
        with pytest.raises(RangeError):
            store.get("a/c/0", From(2000))


def test_ignored_range_is_not_read_to_its_end(server: WebServer, store: HTTPStore) -> None:
    server.objects["/data/big"] = bytes(64 * 2**20)
    server.quirks["no-ranges"] = 1
    with pytest.warns(RuntimeWarning):
        assert data_of(store, "big", Span(10, 20)) == bytes(10)


PASSING = ["short", "liar", "cut", "late", "no-content-range", "500", "502", "503", "504", "429"]


@pytest.mark.parametrize("quirk", PASSING)
@pytest.mark.parametrize("range_", [None, Span(5, 50), From(1000), Tail(16)])
def test_passing_faults_are_tried_again(server: WebServer, store: HTTPStore, quirk: str, range_: Range) -> None:
    server.quirks[quirk] = 2
    assert data_of(store, "a/c/0", range_) == dict(RANGES)[range_]


@pytest.mark.parametrize("quirk", ["short", "liar", "late", "no-content-range"])
def test_lasting_faults_never_become_data(server: WebServer, store: HTTPStore, quirk: str) -> None:
    server.quirks[quirk] = 100
    with pytest.raises(StoreError, match="cut short") as caught:
        store.get("a/c/0", Span(5, 50))
    assert caught.value.key == "a/c/0"
    assert len(server.log) == QUICK.attempts


def test_a_stall_ends_at_the_time_allowed(server: WebServer) -> None:
    server.quirks["stall"] = 1
    patient = RetryPolicy(attempts=2, deadline_seconds=5, attempt_seconds=0.2, initial=0.01, max=0.01)
    assert data_of(HTTPStore(f"{server.url}/data", retry=patient), "a/c/0") == DATA
    server.quirks["stall"] = 5
    with pytest.raises(StoreError, match="timed out"):
        HTTPStore(f"{server.url}/data", retry=patient).get("a/c/0")


@pytest.mark.parametrize("range_,expected", RANGES)
def test_longer_parts_and_unknown_totals(server: WebServer, store: HTTPStore, range_: Range, expected: bytes) -> None:
    server.quirks.update({"early": 1})
    assert data_of(store, "a/c/0", range_) == expected
    server.quirks.update({"no-total": 1})
    assert data_of(store, "a/c/0", range_) == expected
    server.quirks.update({"416-suffix": 1})
    assert data_of(store, "a/c/0", range_) == expected


@pytest.mark.parametrize("status,words", [(401, "credentials"), (403, "not allowed a missing key")])
def test_denied_is_not_missing(server: WebServer, store: HTTPStore, status: int, words: str) -> None:
    server.quirks[str(status)] = 1
    with pytest.raises(AccessError, match=words):
        store.get("a/c/0")
    assert len(server.log) == 1, "no second try"


def test_versions(server: WebServer, store: HTTPStore) -> None:
    first = store.get("a/c/0", Span(0, 4))
    assert first is not None
    assert first.version is not None
    assert store.get("a/c/0", Tail(4), version=first.version).version == first.version  # type: ignore[union-attr]
    server.objects["/data/a/c/0"] = b"something else"
    for quirk in ({}, {"no-if-match": 10}):
        server.quirks.update(quirk)
        stale, fresh, gone = store.read(
            [Read("a/c/0", Span(0, 4), first.version), Read("a/c/0"), Read("nope", None, first.version)]
        )
        assert isinstance(stale, VersionChangedError)
        assert fresh is not None
        assert gone is None
    with pytest.raises(VersionChangedError):
        store.get("a/c/0", version=first.version)


@pytest.mark.parametrize("etag", ["", 'W/"{hash}"'])
def test_weak_and_absent_tags_are_no_versions(server: WebServer, store: HTTPStore, etag: str) -> None:
    server.etag = etag
    blob = store.get("a/c/0")
    assert blob is not None
    assert blob.version is None


def test_size(server: WebServer, store: HTTPStore) -> None:
    assert store.size("a/c/0") == 1024
    assert store.size("nope") is None
    assert [seen.method for seen in server.log] == ["HEAD", "HEAD"]
    for quirks in ({"no-head": 1}, {"403": 1}, {"no-head": 1, "no-ranges": 1}, {"no-head": 1, "chunked": 1}):
        server.quirks = dict(quirks)
        assert store.size("a/c/0") == 1024
        server.quirks = dict(quirks)
        assert store.size("empty") == 0
    assert store.exists("empty")


def test_read_only_and_unlisted(store: HTTPStore) -> None:
    assert not store.traits.writable
    for verb in (lambda: store.write("k", b""), lambda: store.delete("k"), lambda: store.delete_prefix("")):
        with pytest.raises(ReadOnlyError):
            verb()
    with pytest.raises(ReadOnlyError):
        store.update("k", lambda old: old)
    for listing in (store.list, store.list_dir):
        with pytest.raises(UnsupportedError, match="no listing"):
            listing("a")


def test_query_and_credentials_stay_out_of_sight(server: WebServer) -> None:
    url = server.url.replace("http://", "http://user:pa55@")
    store = HTTPStore(f"{url}/data?X-Amz-Signature=s3cret", retry=QUICK, storage_options={"headers": {"X-Mine": "1"}})
    assert data_of(store, "a/c/0", Span(0, 2)) == DATA[:2]
    assert server.log[0].path == "/data/a/c/0?X-Amz-Signature=s3cret"
    assert server.log[0].headers["X-Mine"] == "1"
    assert server.log[0].headers["Authorization"].startswith("Basic ")
    server.quirks["403"] = 1
    with pytest.raises(AccessError) as caught:
        store.get("a/c/0")
    for text in (str(caught.value), repr(store), store.url):
        assert "s3cret" not in text
        assert "pa55" not in text


def test_no_server() -> None:
    with pytest.raises(StoreError, match="the connection failed"):
        HTTPStore("http://127.0.0.1:1/x", retry=RetryPolicy(attempts=2, initial=0.001)).get("k")
    with pytest.raises(StoreError, match="host name could not be resolved"):
        HTTPStore("http://nowhere.invalid/x", retry=RetryPolicy(attempts=2, initial=0.001)).get("k")
    for url in ("ftp://x/y", "https://", "just/a/path"):
        with pytest.raises(UnsupportedError):
            HTTPStore(url)


def test_slow_down_lowers_the_limit_and_it_recovers(server: WebServer) -> None:
    store = HTTPStore(f"{server.url}/data", retry=QUICK, n_concurrent=16)
    server.quirks["503"] = 3
    store.read([Read("a/c/0", Span(i, i + 1)) for i in range(16)])
    limiter = store._bridge.live().limiter
    lowered = limiter.limit
    assert lowered < 16
    for _ in range(20):
        store.read([Read("a/c/0", Span(i, i + 1)) for i in range(16)])
    assert limiter.limit == 16
    assert (limiter.n_in_flight, limiter.bytes_in_flight) == (0, 0)


def test_one_limit_for_all_callers(server: WebServer) -> None:
    store = HTTPStore(f"{server.url}/data", n_concurrent=3)
    limiter = store._bridge.live().limiter
    peaks: list[int] = []
    take = limiter._take

    def counted(nbytes: int) -> None:
        take(nbytes)
        peaks.append(limiter.n_in_flight)

    limiter._take = counted  # type: ignore[method-assign]
    reads = [Read("a/c/0", Span(i, i + 4)) for i in range(20)]
    threads = [threading.Thread(target=store.read, args=(reads,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(peaks) == 3
    assert len(peaks) == 80


def test_a_batch_stops_at_its_first_error(server: WebServer, store: HTTPStore) -> None:
    server.quirks["403"] = 1
    with pytest.raises(AccessError):
        store.read([Read("a/c/0", Span(i, i + 4)) for i in range(200)])
    limiter = store._bridge.live().limiter
    assert (limiter.n_in_flight, limiter.bytes_in_flight) == (0, 0)
    assert data_of(store, "a/c/0") == DATA


def test_blocking_inside_a_running_loop_and_one_loop_after_another(server: WebServer, store: HTTPStore) -> None:
    async def blocking() -> bytes | None:
        return data_of(store, "a/c/0", Span(0, 9))

    async def awaiting() -> bytes:
        blob, missing = await AsyncStore(store).read([Read("a/c/0", Span(0, 9)), Read("nope")])
        assert missing is None
        return bytes(blob.data)  # type: ignore[union-attr]

    for use in (blocking, awaiting, blocking, awaiting):
        assert asyncio.run(use()) == DATA[:9]


def test_nothing_is_said_at_exit(server: WebServer) -> None:
    program = f"""
import asyncio
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.http_ import HTTPStore
store = HTTPStore({server.url + "/data"!r})
assert bytes(store.get("a/c/0").data) == bytes(range(256)) * 4
assert asyncio.run(AsyncStore(store).size("empty")) == 0
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_forked_children_and_the_parent_go_on(server: WebServer, store: HTTPStore) -> None:
    from zarrdock.testing.contract_read import in_fork

    assert data_of(store, "a/c/0") == DATA
    for _ in range(3):
        assert in_fork(lambda: data_of(store, "a/c/0", Span(3, 9)) == DATA[3:9])
        assert data_of(store, "a/c/0", Tail(9)) == DATA[-9:]


def test_open_store_makes_one_of_urls_and_filesystems(server: WebServer) -> None:
    import fsspec

    fs = fsspec.filesystem("http", headers={"X-Mine": "2"})
    for store in (open_store(f"{server.url}/data"), open_store(fs, path=f"{server.url}/data/")):
        assert isinstance(store, HTTPStore)
        assert data_of(store, "a/c/0", Tail(2)) == DATA[-2:]
    assert server.log[-1].headers["X-Mine"] == "2"
