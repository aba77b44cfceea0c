"""What GCSStore sends, counted at the wire, and what only Google Cloud Storage has: generations, an emulator's gaps.

The emulator ignores preconditions on GET and DELETE: where they matter the strict fake answers, or the request that was
sent is looked at.
"""

import contextlib
import gzip
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pytest
from aiohttp import web

import zarrdock
from support.servers import Endpoint, Fault, FaultProxy, StrictGCS
from zarrdock.checking import check
from zarrdock.errors import ConflictError, RangeError, VersionChangedError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Read
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.retry import RetryPolicy

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=3, initial=0.01, max=0.02)
DATA = bytes(range(100))


@pytest.fixture(scope="module")
def proxy(strict_gcs: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(strict_gcs.url, "gcs") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, strict_gcs: Endpoint, prefix: str) -> GCSStore:
    proxy.clear()
    return GCSStore(f"gs://{strict_gcs.bucket}/{prefix}", storage_options=strict_gcs.through(proxy), retry=QUICK)


def conditions(proxy: FaultProxy) -> list[tuple[str, str]]:
    """Method and ifGenerationMatch of what was sent since the last look."""
    log = [(seen.method, seen.path.partition("ifGenerationMatch=")[2]) for seen in proxy.log]
    proxy.clear()
    return log


# -- requests ----------------------------------------------------------------------------------------------------------


def test_one_get_for_what_is_not_there(store: GCSStore, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    proxy.clear()
    assert store.get("missing") is None
    assert store.get("missing", Tail(3), version="123") is None
    assert proxy.sent() == [("GET", 404)] * 2
    for stale, status in (("123", 412), ("no generation", 200), (5, 200)):
        assert isinstance(store.read([Read("k", None, stale)])[0], VersionChangedError)
        assert proxy.sent() == [("GET", status)]
    with pytest.raises(ValueError, match="beyond the end"):
        store.get("k", From(100))
    assert proxy.sent() == [("GET", 416)]
    assert store.get("k", Span(3, 3)) == Blob(b"")
    assert proxy.sent() == []


def test_requests_of_writes(store: GCSStore, proxy: FaultProxy) -> None:
    version = store.write("k", DATA, create_only=True)
    assert conditions(proxy) == [("POST", "0")]
    store.update("k", lambda old: bytes(old or b"") + b"x")
    assert conditions(proxy) == [("GET", ""), ("POST", version)]
    store.update("new", lambda old: b"x")
    assert conditions(proxy) == [("GET", ""), ("POST", "0")]
    store.update("k", lambda old: old)
    assert conditions(proxy) == [("GET", "")]
    version = store.get("k").version
    proxy.clear()
    store.update("k", lambda old: None)
    assert conditions(proxy) == [("GET", ""), ("DELETE", version)]
    store.delete("k")
    store.size("k")
    assert proxy.sent() == [("DELETE", 404), ("GET", 404)]


def test_a_page_each_thousand_and_names_no_store_would_write() -> None:
    with StrictGCS("bucket") as server, FaultProxy(server.url, "gcs") as proxy:
        store = GCSStore("gs://bucket/root", storage_options={**server.storage_options, "endpoint_url": proxy.url})
        for name in ("root/", "root/folder/", "root/folder//odd", "root//", "root/folder/key", "rootless"):
            server.put("bucket", name, b"")
        assert [entry.key for entry in store.list()] == ["folder/key"]
        assert (store.list_dir().keys, store.list_dir().prefixes) == ((), ("folder",))
        proxy.clear()
        keys = [f"k{i:04}" for i in range(1100)]
        for key in keys:
            server.put("bucket", f"root/{key}", b"")
        assert sorted(entry.key for entry in store.list()) == ["folder/key", *keys]
        assert proxy.sent() == [("GET", 200)] * 2
        store.delete_prefix("")
        assert list(store.list()) == []
        assert {"rootless"} <= set(server.buckets["bucket"])


# -- lost replies ------------------------------------------------------------------------------------------------------


def count(old: Any) -> bytes:
    return b"%d" % (int(bytes(old or b"0")) + 1)


class Between(GCSStore):
    """Lets another writer act between a lost reply and the look at what became of it, as if it was another process."""

    between: Any = None

    def _exclusive(self, key):
        return contextlib.nullcontext()

    async def _send_head(self, live, key):
        if self.between:
            act, self.between = self.between, None
            thread = threading.Thread(target=act)
            thread.start()
            while thread.is_alive():
                await fsspec.asyn.asyncio.sleep(0.005)
        return await super()._send_head(live, key)


def test_when_nobody_can_tell_it_says_so(store: GCSStore, proxy: FaultProxy) -> None:
    # A download brings no metadata, so a write knows the generation before it and no more: one write of others in
    # between can be told from ours, two can't.
    mine = Between(store.url, storage_options=store.fs.storage_options, retry=QUICK)
    store.update("n", count)
    proxy.inject(Fault("lost_reply", method="POST"))
    mine.between = lambda: store.update("n", count)
    with pytest.raises(ConflictError, match="unknown if the change was"):
        mine.update("n", count)
    assert store.get("n").data == b"3"


@pytest.mark.parametrize("n_others", [1, 2, 5])
def test_a_deletion_refused_at_once_is_a_race_that_was_lost(store: GCSStore, n_others: int) -> None:
    # Nothing was lost on the way, so that there is nothing to wonder about, however many others wrote.
    mine = Between(store.url, storage_options=store.fs.storage_options, retry=QUICK)
    store.write("n", b"0")
    seen = []

    def change(old: Any) -> None:
        seen.append(int(bytes(old)))
        if len(seen) == 1:
            thread = threading.Thread(target=lambda: [store.update("n", count) for _ in range(n_others)])
            thread.start()
            thread.join()

    mine.update("n", change)
    assert seen == [0, n_others]
    assert store.get("n") is None


def test_nobody_but_us_repeats_a_conditional_deletion(store: GCSStore, proxy: FaultProxy) -> None:
    n_sent = 0
    send = store._send_delete

    async def counted(*args: Any) -> None:
        nonlocal n_sent
        n_sent += 1
        await send(*args)

    store._send_delete = counted  # type: ignore[method-assign]
    store.write("k", DATA)
    proxy.clear()
    proxy.inject(Fault("reset", method="DELETE"))
    store.update("k", lambda old: None)
    assert [seen.method for seen in proxy.log] == ["GET", "DELETE", "DELETE"]
    assert n_sent == 2
    assert store.get("k") is None


@pytest.mark.parametrize("replaced", [False, True])
def test_what_others_did_instead_can_be_told(store: GCSStore, proxy: FaultProxy, replaced: bool) -> None:
    # The first try fails before it arrives; another writer is faster than the second.
    mine = Between(store.url, storage_options=store.fs.storage_options, retry=QUICK)
    store.update("n", count)
    proxy.inject(Fault("reset", method="POST"))
    send = mine._send_put
    n_sent = 0

    async def late(*args: Any) -> Any:
        nonlocal n_sent
        n_sent += 1
        if n_sent == 2:
            act = (lambda: store.write("n", b"50")) if replaced else (lambda: store.update("n", count))
            await fsspec.asyn.asyncio.to_thread(lambda: run_elsewhere(act))
        return await send(*args)

    def run_elsewhere(act: Any) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()

    mine._send_put = late
    mine.update("n", count)
    assert store.get("n").data == (b"51" if replaced else b"3")


# -- the emulator ------------------------------------------------------------------------------------------------------


def test_a_stale_version_is_noticed_where_the_service_ignores_the_condition(
    gcs_emulator: Endpoint, prefix: str
) -> None:
    with FaultProxy(gcs_emulator.url, "gcs") as proxy:
        store = GCSStore(f"gs://{gcs_emulator.bucket}/{prefix}", storage_options=gcs_emulator.through(proxy))
        old = store.write("k", DATA)
        new = store.write("k", DATA)
        proxy.clear()
        assert isinstance(store.read([Read("k", Span(0, 3), old)])[0], VersionChangedError)
        assert [seen.status for seen in proxy.log] == [206]  # the emulator did not look
        assert conditions(proxy) == [("GET", old)]
        assert store.get("k", Span(0, 3), version=new) == Blob(DATA[:3], new)
        proxy.clear()
        store.update("k", lambda data: None)
        assert conditions(proxy) == [("GET", ""), ("DELETE", new)]


def test_emulator_honours_conditions_on_upload(gcs_emulator: Endpoint, prefix: str) -> None:
    url = f"gs://{gcs_emulator.bucket}/{prefix}"
    stores = [Between(url, storage_options=gcs_emulator.storage_options) for _ in range(4)]

    def work(store: GCSStore) -> None:
        for _ in range(15):
            store.update("n", count)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stores[0].get("n").data == b"60"


def test_nothing_of_the_environment_is_needed(strict_gcs: Endpoint) -> None:
    # Without the variable gcsfs's gRPC side hangs for a minute at the first touch of an emulator.
    program = (
        "from zarrdock.stores.gcs import GCSStore\n"
        f"store = GCSStore('gs://{strict_gcs.bucket}/env', storage_options={strict_gcs.storage_options!r})\n"
        "store.write('k', b'1')\n"
        "assert store.get('k').data == b'1'\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"}
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=45, env=environment)


# -- options -----------------------------------------------------------------------------------------------------------


def test_a_users_filesystem(strict_gcs: Endpoint, prefix: str) -> None:
    fs = fsspec.filesystem("gs", **strict_gcs.storage_options)
    store = GCSStore(fs, f"{strict_gcs.bucket}/{prefix}")
    store.write("k", DATA)
    # Not by the filesystem itself: it first asks by gRPC, for up to a minute, what kind of bucket it is.
    again = GCSStore(f"gs://{strict_gcs.bucket}/{prefix}", storage_options=strict_gcs.storage_options)
    assert again.get("k").data == DATA


def test_requester_pays(strict_gcs: Endpoint, proxy: FaultProxy, prefix: str) -> None:
    options = {**strict_gcs.through(proxy), "requester_pays": "somebody"}
    store = GCSStore(f"gs://{strict_gcs.bucket}/{prefix}", storage_options=options)
    proxy.clear()
    store.update("k", lambda old: DATA)
    list(store.list())
    assert all("userProject=somebody" in seen.path for seen in proxy.log)
    assert len(proxy.log) == 3


# -- objects stored compressed -----------------------------------------------------------------------------------------


class Zipped(StrictGCS):
    """Serves some objects as the service does those that are stored with ``Content-Encoding: gzip``."""

    transforms = True

    def __init__(self, *buckets: str) -> None:
        super().__init__(*buckets)
        self.zipped: set[str] = set()

    def _get(self, request: Any, bucket: str, objects: Any, key: str, query: Any) -> Any:
        answer = super()._get(request, bucket, objects, key, query)
        if key not in self.zipped:
            return answer
        if query.get("alt") != "media":
            return web.json_response({**json.loads(answer.body), "contentEncoding": "gzip"})
        found = objects[key]
        if self.transforms and "gzip" not in request.headers.get("Accept-Encoding", ""):
            headers = {"x-goog-generation": str(found.generation), "x-goog-stored-content-encoding": "gzip"}
            return web.Response(headers=headers, body=gzip.decompress(found.data))
        answer.headers["Content-Encoding"] = "gzip"
        return answer

    def _list(self, *args: Any) -> Any:
        answer = super()._list(*args)
        document = json.loads(answer.body)
        for item in document.get("items", []):
            if item["name"] in self.zipped:
                item["contentEncoding"] = "gzip"
        return web.json_response(document)


@pytest.mark.parametrize("transforms", [True, False])
def test_objects_stored_compressed(transforms: bool) -> None:
    inside = zarrdock.MemoryStore()
    zarrdock.create_array(inside, data=np.arange(64), chunks=(8,), shards=(32,), compressors=None)
    with Zipped("bucket") as server:
        server.transforms = transforms
        for entry in inside.list():
            server.zipped.add(f"x/{entry.key}")
            server.put("bucket", f"x/{entry.key}", gzip.compress(bytes(inside.get(entry.key).data)))
        store = GCSStore("gs://bucket/x", storage_options=server.storage_options)
        array = zarrdock.open_array(store)
        assert array[:].tolist() == list(range(64))
        with pytest.warns(RuntimeWarning, match=r"Content-Encoding: gzip.*whole object") as caught:
            parts = [array[i : i + 2].tolist() for i in range(9, 12)]
        assert parts == [[9, 10], [10, 11], [11, 12]]
        assert len(caught) == 1
        assert bytes(store.get("c/0", Tail(4)).data) == bytes(inside.get("c/0", Tail(4)).data)
        assert store.size("c/0") == inside.size("c/0")
        assert {entry.key: entry.size for entry in store.list()} == {"zarr.json": None, "c/0": None, "c/1": None}
        assert check(store).is_good
        with pytest.raises(RangeError):
            store.get("c/0", Span(10**6, 10**6 + 1))
        server.zipped.discard("x/c/0")
        zarrdock.open_array(store, "r+")[:32] = 7
        assert zarrdock.open_array(store)[30:34].tolist() == [7, 7, 32, 33]


def test_plain_objects_are_no_matter_of_compression() -> None:
    with StrictGCS("bucket") as server, FaultProxy(server.url, "gcs") as proxy:
        store = GCSStore("gs://bucket/x", storage_options={**server.storage_options, "endpoint_url": proxy.url})
        store.write("k", bytes(100))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bytes(store.get("k", Span(3, 5)).data) == bytes(2)
            assert store.size("k") == 100
        assert len(proxy.log) == 3


def test_an_upload_to_no_bucket_says_so(any_gcs: Endpoint) -> None:
    with pytest.raises(zarrdock.errors.StoreError, match="no such bucket"):
        zarrdock.create_array("gs://not-there/a.zarr", shape=3, dtype="u1", storage_options=any_gcs.storage_options)
