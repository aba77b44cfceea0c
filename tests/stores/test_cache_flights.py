"""Threads that read the same through one cache at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import HookedStore
from zarrdock.errors import AccessError
from zarrdock.ranges import Span
from zarrdock.stores.base import Read, Results, Store
from zarrdock.stores.cache import CachingStore, Flights
from zarrdock.stores.memory import MemoryStore
from zarrdock.testing import FaultyStore, RecordingStore, StoreFault
from zarrdock.testing.contract_read import in_fork

N = 8


def slow(store: Store) -> HookedStore:
    """A store whose reads take until all threads are waiting for something."""
    return HookedStore(store, lambda event: time.sleep(0.2) if event.verb == "read" else None)


def stored() -> RecordingStore:
    store = MemoryStore()
    store.write("k", bytes(range(200)))
    return RecordingStore(store)


def together(cached: CachingStore, *reads: Read) -> list[Any]:
    barrier = threading.Barrier(N)

    def read(_: int) -> Results:
        barrier.wait(10)
        return cached.read(reads)

    with ThreadPoolExecutor(N) as pool:
        return list(pool.map(read, range(N)))


@pytest.mark.parametrize("options", [{"immutable": True}, {"ttl": 60}])
@pytest.mark.parametrize("folder", [False, True])
def test_asked_once_for_all(options, folder, tmp_path) -> None:
    inner = stored()
    cached = CachingStore(slow(inner), max_bytes=10**6, folder=tmp_path if folder else None, **options)
    for found in together(cached, Read("k"), Read("k", Span(3, 9)), Read("k")):
        assert [bytes(blob.data) for blob in found] == [bytes(range(200)), bytes(range(3, 9)), bytes(range(200))]
    assert inner.n_requests <= 3
    assert cached.n_misses + cached.n_hits == 3 * N
    assert cached._flights._under_way == {}


def test_reads_that_name_a_version() -> None:
    inner = stored()
    version = inner.get("k").version
    inner.reset()
    cached = CachingStore(slow(inner), max_bytes=10**6)
    assert all(bytes(found[0].data) == b"\x05" for found in together(cached, Read("k", Span(5, 6), version)))
    assert inner.n_requests == 1


def test_who_wants_the_latest_asks_for_himself() -> None:
    inner = stored()
    cached = CachingStore(slow(inner), max_bytes=10**6)
    together(cached, Read("k"))
    assert inner.n_requests == N


def test_what_can_not_be_kept_is_read_by_each() -> None:
    inner = stored()
    cached = CachingStore(slow(inner), max_bytes=10, immutable=True)
    assert all(bytes(found[0].data) == bytes(range(200)) for found in together(cached, Read("k")))
    assert inner.n_requests == N


def test_what_is_missing_is_missing_for_all() -> None:
    cached = CachingStore(slow(stored()), max_bytes=10**6, immutable=True)
    assert together(cached, Read("nothing")) == [[None]] * N


def test_an_error_is_of_who_got_it() -> None:
    faulty = FaultyStore(stored(), [StoreFault("read", "k", AccessError, count=1)])
    cached = CachingStore(slow(faulty), max_bytes=10**6, immutable=True)
    barrier = threading.Barrier(N)

    def read(_: int) -> str:
        barrier.wait(10)
        try:
            return bytes(cached.get("k").data).hex()
        except AccessError:
            return "denied"

    with ThreadPoolExecutor(N) as pool:
        found = list(pool.map(read, range(N)))
    assert sorted(found) == sorted(["denied"] + [bytes(range(200)).hex()] * (N - 1))


def test_two_that_wait_for_each_other() -> None:
    """Each begins one of two reads first, and finds that the other has the second."""
    inner = stored()
    inner.write("l", b"l")
    cached = CachingStore(slow(inner), max_bytes=10**6, immutable=True)
    barrier = threading.Barrier(2)

    def read(keys: str) -> list[bytes]:
        barrier.wait(10)
        return [bytes(blob.data)[:1] for blob in cached.read([Read(key) for key in keys])]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(read, ["kl", "lk"])) == [[b"\0", b"l"], [b"l", b"\0"]]


def test_begun_and_landed() -> None:
    flights = Flights()
    first, second = Read("a"), Read("b", Span(0, 1))
    assert flights.begin([first, first]) == {}
    others = flights.begin([first, second])
    assert list(others) == [first]
    assert not others[first].is_set()
    flights.land([first, first])
    assert others[first].is_set()
    flights.land([second])
    assert flights._under_way == {}


def test_a_forked_child_waits_for_nobody() -> None:
    inner = stored()
    cached = CachingStore(inner, max_bytes=10**6, immutable=True)
    cached._flights.begin([Read("k")])
    with cached._flights._lock:
        assert in_fork(lambda: bytes(cached.get("k").data) == bytes(range(200)))


def test_threads_that_read_one_shard() -> None:
    store: Store = MemoryStore()
    values = np.arange(64 * 64).reshape(64, 64)
    zarrdock.create_array(store, data=values, chunks=(8, 8), shards=(64, 64))
    inner = RecordingStore(store)
    array = zarrdock.open_array(CachingStore(slow(inner), max_bytes=10**6, immutable=True))
    inner.reset()
    with ThreadPoolExecutor(N) as pool:
        for found in pool.map(lambda _: array[10:20, 10:20], range(N)):
            np.testing.assert_array_equal(found, values[10:20, 10:20])
    alone = RecordingStore(store)
    zarrdock.open_array(alone)[10:20, 10:20]
    assert inner.n_requests <= 2 * (alone.n_requests - 1)
