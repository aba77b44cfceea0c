import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from zarrdock.errors import ReadOnlyError
from zarrdock.ranges import Span
from zarrdock.stores.base import Read, join_value, value_parts
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.memory import MemoryStore
from zarrdock.testing.contract_read import in_fork, whole


def test_ranges_are_views_of_the_value():
    store = MemoryStore()
    value = os.urandom(100)
    store.write("k", value)
    assert store.get("k").data is value  # bytes can't change: no copy
    part = store.get("k", Span(10, 20)).data
    assert isinstance(part, memoryview)
    assert part.readonly
    assert part.obj is value


def test_pickle_copies_the_contents():
    store = MemoryStore()
    store.write("k", b"1")
    copy = pickle.loads(pickle.dumps(store))
    copy.write("k", b"2")
    store.write("other", b"3")
    assert whole(store, "k") == b"1"
    assert copy.get("other") is None
    assert copy.get("k").version != store.get("k").version


def test_versions_of_a_forked_child_are_its_own():
    store = MemoryStore()
    ready, tell = os.pipe()
    assert in_fork(lambda: os.write(tell, store.write("k", b"child")) > 0)
    theirs = os.read(ready, 100)
    assert store.write("k", b"parent") != theirs
    assert theirs != store.get("k").version


def test_read_only():
    store = MemoryStore(read_only=True)
    with pytest.raises(ReadOnlyError):
        store.write("k", b"")


def test_other_keys_do_not_wait():
    store = MemoryStore()
    entered, leave = threading.Event(), threading.Event()

    def slow(_):
        entered.set()
        assert leave.wait(30)
        return b"slow"

    with ThreadPoolExecutor(1) as pool:
        update = pool.submit(store.update, "k", slow)
        assert entered.wait(30)
        store.write("other", b"1")
        store.update("third", lambda _: b"2")
        results = store.read([Read("k"), Read("other"), Read("third")])
        assert [result and bytes(result.data) for result in results] == [None, b"1", b"2"]
        leave.set()
        update.result(30)
    assert whole(store, "k") == b"slow"


# -- locks by key ------------------------------------------------------------------------------------------------------


def test_key_locks_exclude_by_key_and_go():
    locks = KeyLocks()
    inside, most = dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)

    def work(i):
        key = "ab"[i % 2]
        with locks(key):
            inside[key] += 1
            most[key] = max(most[key], inside[key])
            time.sleep(0.001)
            inside[key] -= 1

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(work, range(80))] == [None] * 80
    assert most == {"a": 1, "b": 1}
    assert locks._locks == {}
    with pytest.raises(ZeroDivisionError), locks("a"):
        1 / 0  # noqa: B018
    assert locks._locks == {}


def test_a_forked_child_begins_with_locks_of_its_own_before_it_has_threads():
    # Were they made at the first use, each of the child's first threads could make some, and two enter at once.
    locks = KeyLocks()
    with locks("k"):
        guard, held = locks._guard, locks._locks
        assert in_fork(lambda: locks._guard is not guard and locks._locks == {})
        assert locks._guard is guard
        assert locks._locks is held


def test_a_forked_child_waits_for_no_thread_of_its_parent():
    store = MemoryStore()
    entered, leave = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        update = pool.submit(store.update, "k", lambda _: (entered.set(), leave.wait(30), b"1")[2])
        assert entered.wait(30)
        try:
            assert in_fork(lambda: store.write("k", b"child") is not None)
        finally:
            leave.set()
        update.result(30)
    assert whole(store, "k") == b"1"


# -- values ------------------------------------------------------------------------------------------------------------


def test_value_parts_are_flat_bytes():
    numbers = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    little = numbers.astype("<f4")
    for value in (numbers, memoryview(little), [numbers], (b"", memoryview(numbers.view("u1")))):
        parts = value_parts(value)
        assert sum(map(len, parts)) == numbers.nbytes
        assert all(memoryview(part).format == "B" and memoryview(part).ndim == 1 for part in parts)
    assert join_value(numbers.T[::2]) == numbers.T[::2].tobytes()
    assert join_value([]) == b""
    value = bytearray(b"the same object")
    assert join_value(value) is value
    assert join_value([value]) is value
    with pytest.raises(TypeError):
        value_parts("text")
