"""What is in flight at once, and how ranges are merged, seen by the proxy before the service."""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zarrdock
from support.fault_proxy import Fault
from support.operations import Place, Service, place
from zarrdock.errors import UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import CostedStore, Read, Store
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.open import open_store
from zarrdock.stores.remote import RemoteStore
from zarrdock.stores.retry import RetryPolicy

pytestmark = pytest.mark.server

SERVICES: list[Service] = ["S3", "GCS", "Azure", "HTTP", "S3 by obstore"]
MEGABYTE = 10**6
ITEMS = {"k": bytes(4 * MEGABYTE)}


@pytest.fixture(scope="module", params=SERVICES)
def where(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place(request.param, items()) as opened:
        yield opened


def items() -> Mapping[str, bytes]:
    store = zarrdock.MemoryStore()
    values = np.random.default_rng(0).integers(0, 60000, (64, 64, 64)).astype("u2")
    zarrdock.create_array(store, name="volume", data=values, chunks=(8, 8, 8), shards=(64, 64, 64), compressors=None)
    return {**ITEMS, **{entry.key: bytes(store.get(entry.key).data) for entry in store.list()}}


def opened(where: Place, path: str = "", **tuning: object) -> RemoteStore:
    if where.scheme == "obstore":
        inner = where.store(path)
        assert isinstance(inner, ObstoreStore)
        store = open_store(inner.obstore, **tuning)
    else:
        store = open_store(where.url(path), storage_options=where.options or None, **tuning)
    assert isinstance(store, RemoteStore)
    where.proxy.clear()
    return store


def test_one_limit_for_all_users_of_a_store(where: Place) -> None:
    store = opened(where, n_concurrent=6)
    assert store.traits.n_concurrent == 6
    where.proxy.inject(Fault("delay", seconds=0.05, times=None))
    reads = [Read("k", Span(i, i + 10)) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        batches = [pool.submit(store.read, reads) for _ in range(3)]
        batches.append(pool.submit(lambda: asyncio.run(AsyncStore(store).read(reads))))
        assert all(len(batch.result()) == 20 for batch in batches)
    assert len(where.proxy.log) == 80
    assert where.proxy.most_at_once == 6


def test_bytes_in_flight_are_bounded(where: Place) -> None:
    store = opened(where)
    store._bridge._settings["max_bytes"] = 2 * MEGABYTE
    store._bridge._live = None
    where.proxy.inject(Fault("delay", seconds=0.05, times=None))
    parts = [Span(i * MEGABYTE, (i + 1) * MEGABYTE) for i in range(4)]
    results = store.read([Read("k", part) for part in parts] * 2)
    assert all(len(result.data) == MEGABYTE for result in results)
    assert where.proxy.most_at_once == 2
    where.proxy.clear()
    store.read([Read("k", Span(i, i + 10)) for i in range(30)])
    assert where.proxy.most_at_once > 2, "small ones go together"


def test_the_limit_goes_down_when_asked_to_and_recovers(where: Place) -> None:
    quick = RetryPolicy(initial=0.2, max=0.2)
    store = opened(where, n_concurrent=16, retry=quick)
    reads = [Read("k", Span(i, i + 10)) for i in range(16)]
    delay = Fault("delay", seconds=0.1, times=None)
    where.proxy.inject(delay)
    store.read(reads)
    assert where.proxy.most_at_once == 16
    where.proxy.clear()
    where.proxy.inject(Fault("status", 503, times=1), delay)
    assert len(store.read(reads)) == 16
    where.proxy.clear()
    limiter = store._bridge.live().limiter
    assert 8 <= limiter.limit < 12
    where.proxy.inject(delay)
    store.read(reads)
    assert where.proxy.most_at_once < 16
    for _ in range(20):
        store.read([Read("k", Span(i, i + 10)) for i in range(16)])
        where.proxy.clear()
    where.proxy.inject(delay)
    store.read(reads)
    assert where.proxy.most_at_once == 16


def test_a_gap_for_each_store_and_for_each_user(where: Place) -> None:
    box = (slice(0, 20), slice(0, 20), slice(0, 20))  # 27 chunks of 1 KiB in 9 rows of 3, up to 64 KiB apart

    def n_requests(store: Store) -> int:
        array = zarrdock.open_array(store, zarr_format=3)
        where.proxy.clear()
        array[box]
        return sum(seen.method == "GET" for seen in where.proxy.log) - 1  # without the index, and the size of the shard

    own = opened(where, "volume")
    assert own.traits.merge_gap_bytes >= 32 * 1024
    assert n_requests(own.with_costs(merge_gap_bytes=10**6)) == 1
    assert n_requests(opened(where, "volume", merge_gap_bytes=6000)) == 3
    assert n_requests(opened(where, "volume", merge_gap_bytes=0)) == 9
    assert n_requests(own.with_costs(merge_gap_bytes=0)) == 9
    assert n_requests(own.with_costs(merge_gap_bytes=10**6, max_request_bytes=2048)) == 18


def test_what_overlaps_or_repeats_is_asked_for_once(where: Place) -> None:
    array = zarrdock.open_array(opened(where, "volume", merge_gap_bytes=0), zarr_format=3)
    array[0, 0, 0]
    where.proxy.clear()
    again = [5, 3, 3, 5, 0, 7]
    array.vindex[again, again, again]
    array.oindex[again, 0, 0]
    assert [seen.range.count("-") for seen in where.proxy.log] == [1, 1], "one chunk, one request each time"


def test_who_can_be_tuned() -> None:
    memory = open_store(zarrdock.MemoryStore(), merge_gap_bytes=123)
    assert isinstance(memory, CostedStore)
    assert memory.traits.merge_gap_bytes == 123
    for setting in ({"n_concurrent": 3}, {"retry": RetryPolicy()}):
        with pytest.raises(UnsupportedError, match="go with a remote store"):
            open_store(zarrdock.MemoryStore(), **setting)
    with pytest.raises(ValueError, match="0 or more"):
        memory.with_costs(merge_gap_bytes=-1)
