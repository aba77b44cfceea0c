"""The LRU of every cache: its bounds and its order; many threads, a collection of garbage within a call, forks."""

from __future__ import annotations

import contextlib
import doctest
import gc
import os
import pickle
import random
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import zarrdock
from zarrdock import after_fork, lru
from zarrdock.after_fork import reset_after_fork
from zarrdock.array.planning.chunk_cache import ROOT, ChunkCache, IndexCache
from zarrdock.lru import BoundedLRU
from zarrdock.stores import local_version
from zarrdock.stores.cache_memory import MemoryCache
from zarrdock.stores.local_version import Handle, LocalVersion
from zarrdock.testing.contract_read import in_fork

_keys = st.integers(0, 6)


@given(
    max_bytes=st.one_of(st.none(), st.integers(0, 40)),
    max_items=st.one_of(st.none(), st.integers(1, 4)),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), _keys, st.binary(max_size=15)),
            st.tuples(st.sampled_from(["get", "pop", "many", "clear"]), _keys, st.just(b"")),
        ),
        max_size=40,
    ),
)
def test_as_a_model(max_bytes: int | None, max_items: int | None, steps: list[tuple[str, int, bytes]]) -> None:
    cache: BoundedLRU[int, bytes] = BoundedLRU(max_bytes, len, max_items=max_items)
    model: OrderedDict[int, bytes] = OrderedDict()
    for verb, key, item in steps:
        if verb == "put":
            gone = cache.put(key, item)
            model.pop(key, None)
            expected = []
            if max_bytes is None or len(item) <= max_bytes:
                model[key] = item
                while (max_bytes is not None and sum(map(len, model.values())) > max_bytes) or (
                    max_items is not None and len(model) > max_items
                ):
                    expected.append(model.popitem(last=False))
            assert gone == expected
        elif verb == "get":
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif verb == "many":
            assert cache.get_many([key, key + 1]) == [model.get(key), model.get(key + 1)]
            for one in (key, key + 1):
                if one in model:
                    model.move_to_end(one)
        elif verb == "pop":
            assert cache.pop(key) == model.pop(key, None)
        else:
            assert cache.clear() == [*model.items()]
            model.clear()
        assert [*cache] == [*model]
        assert len(cache) == len(model)
        assert cache.nbytes == sum(map(len, model.values()))
        assert (key in cache) == (key in model)


def test_small_things() -> None:
    cache: BoundedLRU[str, int | None] = BoundedLRU(max_items=3)
    assert cache  # though it is empty
    cache.put("none", None)
    assert "none" in cache
    assert cache.get("none", 7) is None
    assert cache.get("other", 7) == 7
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.resize(max_items=1) == [("none", None), ("a", 1)]
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.max_items) == (0, 1)
    assert doctest.testmod(lru).failed == 0


@pytest.fixture
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def storm(*works: object, seconds: float = 1.0, n_each: int = 3) -> None:
    """Call each function again and again, in several threads at once."""
    stop = time.monotonic() + seconds
    errors: list[BaseException] = []

    def loop(work: object, seed: int) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < stop and not errors:
                for _ in range(50):
                    work(chance)  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(work, i)) for i, work in enumerate(works * n_each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_storm_of_threads(eager_switches: None) -> None:
    cache: BoundedLRU[int, bytes] = BoundedLRU(500, len)
    bounds = [500, 100, 900]

    def put(chance: random.Random) -> None:
        key = chance.randrange(40)
        cache.put(key, bytes([key]) * chance.randrange(60))
        assert cache.nbytes <= max(bounds)

    def get(chance: random.Random) -> None:
        key = chance.randrange(40)
        found = cache.get(key)
        assert found is None or set(found) <= {key}
        assert all(item is None or set(item) <= {i} for i, item in enumerate(cache.get_many(range(5))))

    def remove(chance: random.Random) -> None:
        cache.pop(chance.randrange(40))
        if chance.random() < 0.02:
            cache.clear()
            cache.resize(max_bytes=chance.choice(bounds))
        assert len([*cache]) <= 40

    storm(put, get, remove)
    assert cache.nbytes == sum(len(item) for _, item in cache.clear())
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_versions_that_come_and_go_in_many_threads(tmp_path: Path, eager_switches: None) -> None:
    """The last reference to a version removes it from the LRU of open files, from within whatever runs just then."""
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    before = local_version.set_limit(20)
    kept: list[LocalVersion] = []

    def work(chance: random.Random) -> None:
        fd = os.open(path, os.O_RDONLY)
        handle = Handle(fd, os.fstat(fd))
        version = LocalVersion(handle)
        kept.append(version)
        if len(kept) > 50:
            del kept[: chance.randrange(50)]
        found = version.handle_for(handle.identity)
        assert found is None or os.fstat(found.fd).st_size == 4
        if chance.random() < 0.01:
            local_version.drop_all()
        ring: list[object] = [version]
        ring.append(ring)  # only a collection of garbage finds it

    def collect(chance: random.Random) -> None:
        gc.collect(0)
        assert len(local_version._pinned) <= 20

    folder = Path("/proc/self/fd")  # of Linux
    n_open = len([*folder.iterdir()]) if folder.is_dir() else 0
    try:
        storm(work, collect, n_each=2)
        kept.clear()
        gc.collect()
    finally:
        local_version.set_limit(before)
    if n_open:
        assert len([*folder.iterdir()]) <= n_open


def test_an_item_may_go_within_a_call_of_its_own_cache() -> None:
    """A collection of garbage runs anywhere, and a ``__del__`` may remove something from the cache at work."""
    cache: BoundedLRU[int, Leaving] = BoundedLRU(max_items=2)

    class Leaving:
        def __init__(self, key: int) -> None:
            self.key = key

        def __del__(self) -> None:
            cache.pop(self.key + 1)

    for key in range(100):
        cache.put(key, Leaving(key))
        with cache.lock:
            cache.put(key, Leaving(key))  # the one before goes while the lock is held
    assert len(cache) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_uses_a_cache_that_a_thread_of_its_parent_was_using() -> None:
    cache: BoundedLRU[str, bytes] = BoundedLRU(100, len)
    cache.put("a", b"1234")
    indexes = IndexCache(10_000)
    indexes.put("k", 1, {})
    chunks = ChunkCache(10_000)
    memory = MemoryCache(10_000)
    memory.put("k", 1, None, b"1234")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.lock, indexes._known.lock, chunks._kept.lock, memory._parts.lock:
            cache._nbytes += 50  # in the middle of something
            entered.set()
            leave.wait(60)
            cache._nbytes -= 50

    def child() -> bool:
        assert cache.get("a") == b"1234"
        assert cache.nbytes == 4
        cache.put("b", b"12")
        assert indexes.get("k") == (1, {})  # what was known is known: no request more
        indexes.put("l", 2, {})
        indexes.drop("k")
        chunks.put(("s", "k", 1), [])
        assert chunks.get(("s", "k", 1), [0]) == [None]
        memory.put("k", 1, None, b"5678")
        assert memory.find("k", 1, None) == b"5678"
        return in_fork(lambda: cache.get("b") == b"12")

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(30)
        assert in_fork(child)
    finally:
        leave.set()
        thread.join()
    assert [*cache] == ["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_arrays_are_read_on_in_a_forked_child(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path, data=np.arange(100, dtype="u1"), chunks=(5,), shards=(50,))
    array = zarrdock.open_array(tmp_path, cache_bytes=10_000)
    assert array[7] == 7
    known = array._cache.get("c/0")
    assert known is not None
    assert ROOT in known[1]
    assert array._chunk_cache is not None
    entered, leave = threading.Event(), threading.Event()

    def hold(*locks: Any) -> None:
        with contextlib.ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            entered.set()
            leave.wait(60)

    locks = array._cache._known.lock, array._chunk_cache._kept.lock, local_version._pinned.lock
    thread = threading.Thread(target=hold, args=locks)
    thread.start()
    try:
        assert entered.wait(30)
        assert in_fork(lambda: array[7] == 7 and array[60] == 60 and zarrdock.open_array(tmp_path)[99] == 99)
    finally:
        leave.set()
        thread.join()


class Renewed:
    def __init__(self) -> None:
        self.n = 0
        reset_after_fork(self.renew)

    def renew(self) -> None:
        self.n += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_objects_are_reset_once_in_each_child_and_kept_by_nothing() -> None:
    one = Renewed()
    reset_after_fork(one.renew)  # a second time

    def child(one: Renewed = one) -> bool:
        return one.n == 1 and in_fork(lambda: one.n == 2)

    assert in_fork(child)
    assert one.n == 0
    n_known = len(after_fork._methods)
    gone = weakref.ref(one)
    del one, child
    assert gone() is None
    assert len(after_fork._methods) == n_known - 1
    assert doctest.testmod(after_fork).failed == 0


def test_an_object_that_cannot_be_reset_keeps_no_other_from_it(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def renew(self) -> None:
            raise ZeroDivisionError("not this one")

    broken, one = Broken(), Renewed()
    reset_after_fork(broken.renew)
    later = Renewed()
    assert in_fork(lambda: one.n == later.n == 1)
    assert "not this one" in capfd.readouterr().err
