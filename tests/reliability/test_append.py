"""Appending and resizing beside others, and when something fails."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch

import numpy as np
import pytest

import zarrdock
from support.stores import HookedStore
from support.storms.syscalls import forked
from zarrdock.array.execution import read_write
from zarrdock.errors import AccessError, SelectionError, StoreError
from zarrdock.testing import FaultyStore, LatencyStore, RecordingStore, StoreFault

OLD = np.arange(1, 21)


def make(store, **options):
    return zarrdock.create_array(store, data=OLD, chunks=4, shards=12, **options)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("n_good", [0, 1, 2, 3])
def test_rows_are_given_back_where_a_chunk_cannot_be_written(n_good, zarr_format) -> None:
    inner = zarrdock.MemoryStore()
    shards = {} if zarr_format == 2 else {"shards": 12}
    zarrdock.create_array(inner, data=OLD, chunks=12, zarr_format=zarr_format, **shards)
    store = FaultyStore(inner)
    array = zarrdock.open_array(store, mode="r+")
    pattern = "c/*" if zarr_format == 3 else "[0-9]*"
    # Chunk 1 is updated, 2, 3 and 4 are written; one of them fails, and what went well must be undone.
    for method in ("update", "write"):
        store.add(StoreFault(method, pattern, AccessError, count=1, after=n_good if method == "write" else 0))
    if n_good:
        store.clear()
        store.add(StoreFault("write", pattern, AccessError, count=1, after=n_good - 1))
    with pytest.raises(AccessError) as caught:
        array.append(np.full(40, -1))
    assert not getattr(caught.value, "__notes__", [])
    fresh = zarrdock.open_array(inner, mode="r+")
    assert fresh.shape == array.shape == (20,)
    np.testing.assert_array_equal(fresh[:], OLD)
    fresh.resize(60)
    np.testing.assert_array_equal(fresh[20:], 0)  # nothing of what was appended comes to light
    fresh.resize(20)
    array.append([7, 8])
    np.testing.assert_array_equal(zarrdock.open_array(inner)[:], [*OLD, 7, 8])


def test_rows_that_cannot_be_given_back_are_told() -> None:
    store = FaultyStore(zarrdock.MemoryStore())
    array = make(store)
    store.add(StoreFault("*", "c/*", AccessError, count=None))
    with pytest.raises(AccessError) as caught:
        array.append([1, 2, 3])
    assert "20 to 23 along axis 0 stay part of the array" in caught.value.__notes__[0]
    store.clear()
    array.refresh()
    np.testing.assert_array_equal(array[:], [*OLD, 0, 0, 0])


def test_rows_are_not_given_back_where_others_came_behind() -> None:
    inner = zarrdock.MemoryStore()
    other = make(inner)

    def too_late(event) -> None:
        if event.verb == "update" and event.key.startswith("c/") and other.shape == (20,):
            other.append([5, 6])
            raise StoreError("too late", key=event.key)

    with pytest.raises(StoreError, match="too late") as caught:
        zarrdock.open_array(HookedStore(inner, too_late), mode="r+").append([1, 2, 3])
    assert "other writers have appended since" in caught.value.__notes__[0]
    np.testing.assert_array_equal(zarrdock.open_array(inner)[:], [*OLD, 0, 0, 0, 5, 6])


def test_a_claim_that_may_have_been_made_is_told() -> None:
    store = FaultyStore(zarrdock.MemoryStore())
    array = make(store)
    store.add(StoreFault("update", "zarr.json", StoreError, when="lost"))
    with pytest.raises(StoreError) as caught:
        array.append([1, 2, 3])
    assert "20 to 23 along axis 0" in caught.value.__notes__[0]
    array.refresh()
    np.testing.assert_array_equal(array[:], [*OLD, 0, 0, 0])


@pytest.mark.parametrize("data", [["x"], [object()], [[1]], [1j]])
def test_what_does_not_fit_is_refused_before_anything_is_changed(data) -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    array = make(store)
    store.reset()
    with pytest.raises(SelectionError):
        array.append(data)
    assert (store.n_updates, store.n_writes) == (0, 0)
    assert zarrdock.open_array(store).shape == (20,)


def test_threads_with_one_array_object() -> None:
    # A thread that comes late must not take its own shape for the newest, nor another's for its own.
    store = LatencyStore(zarrdock.MemoryStore(), 0.001)
    array = zarrdock.create_array(store, shape=(0, 2), dtype="i4", chunks=(5, 2), shards=(20, 2), fill_value=-1)

    def append(who):
        return [array.append([[who, i]])[0] for i in range(15)]

    with ThreadPoolExecutor(8) as pool:
        lengths = [n for part in pool.map(append, range(8)) for n in part]
    assert array.shape == (120, 2)
    assert sorted(lengths) == [*range(1, 121)]
    assert sorted(map(tuple, array[:].tolist())) == [(who, i) for who in range(8) for i in range(15)]


# -- resizing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "verb", "key"),
    [
        ("before", "delete", "c/*"),
        ("before", "update", "c/*"),
        ("before", "update", "zarr.json"),
        ("after", "update", "zarr.json"),
    ],
)
def test_rows_appended_while_an_array_shrinks(when, verb, key) -> None:
    inner = zarrdock.MemoryStore()
    other = zarrdock.create_array(inner, data=np.arange(1, 61), chunks=4, shards=12)
    lengths = []

    def append_once(event) -> None:
        if not lengths and event.verb == verb and fnmatch(event.key, key):
            lengths.extend(other.append([-1, -2]))

    store = HookedStore(inner, **{when: append_once})
    zarrdock.open_array(store, mode="r+").resize(20)
    array = zarrdock.open_array(inner, mode="r+")
    # Before the shape changed, the rows were cut off with the rest; after, they are part of the smaller array.
    after = [-1, -2] if when == "after" else []
    assert lengths == [22 if after else 62]
    np.testing.assert_array_equal(array[:], [*range(1, 21), *after])
    array.resize(70)
    np.testing.assert_array_equal(array[20 + len(after) :], 0)


def test_a_shrinking_that_fails_can_be_done_again() -> None:
    store = FaultyStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(store, data=np.arange(1, 61), chunks=4, shards=12)
    store.add(StoreFault("delete", "c/4", AccessError))
    with pytest.raises(AccessError):
        array.resize(20)
    array.refresh()
    assert array.shape == (60,)
    np.testing.assert_array_equal(array[:20], np.arange(1, 21))
    array.resize(20)
    array.resize(60)
    np.testing.assert_array_equal(array[20:], 0)


@pytest.mark.parametrize("shape", [(1, 2), (-1,), "x", None, 1.5, (2**64,) * 2])
def test_what_is_no_shape(shape) -> None:
    array = make(zarrdock.MemoryStore())
    with pytest.raises(SelectionError):
        array.resize(shape)
    array.resize(np.int64(5))
    assert array.shape == (5,)


def test_an_array_known_as_smaller_than_it_is() -> None:
    array = make(zarrdock.MemoryStore())
    stale = zarrdock.open_array(array.store, mode="r+")
    array.append(np.full(40, 9))
    stale.resize(30)  # growing, as far as it knows
    assert stale.shape == (30,)
    stale.resize(60)
    np.testing.assert_array_equal(stale[30:], 0)


# -- writers of one process --------------------------------------------------------------------------------------------


def test_writers_of_the_chunks_of_a_shard_share_updates() -> None:
    store = RecordingStore(LatencyStore(zarrdock.MemoryStore(), 0.02))
    array = zarrdock.create_array(store, shape=64, dtype="i4", chunks=2, shards=64)
    store.reset()
    barrier = threading.Barrier(32)

    def write(i):
        barrier.wait()
        array[2 * i : 2 * i + 2] = i + 1

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(write, range(32)))
    np.testing.assert_array_equal(array[:], np.repeat(np.arange(1, 33), 2))
    assert store.n_updates <= 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_wait_for_writers_of_its_parent(tmp_path) -> None:
    store = zarrdock.LocalStore(tmp_path)
    array = make(store)
    in_change, leave = threading.Event(), threading.Event()
    queue = f"{id(store)}/{id(array._layout.chain)}/c/0"
    work_long = lambda _: (in_change.set(), leave.wait(30))  # noqa: E731
    leader = threading.Thread(target=read_write._combiner.update, args=(queue, 0, read_write._locks(queue), work_long))
    leader.start()
    assert in_change.wait(10)

    def work():
        import signal

        signal.alarm(10)
        array[0] = -5

    assert os.waitpid(forked(work), 0)[1] == 0
    leave.set()
    leader.join()
    assert array[0] == -5
