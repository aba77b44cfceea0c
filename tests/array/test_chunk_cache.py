"""Chunks kept decoded: what they save, that they are never stale, that they are bounded."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import remote
from zarrdock.array.planning import chunk_cache
from zarrdock.array.planning.chunk_cache import ChunkCache, configured_cache
from zarrdock.array.planning.layout import Layout
from zarrdock.config import config

SHAPE = (32, 32)
LAYOUTS: dict[str, dict[str, Any]] = {
    "sharded": {"chunks": (4, 4), "shards": (16, 16)},
    "nested": {"chunks": (4, 4), "shards": [(16, 16), (8, 8)]},
    "unsharded": {"chunks": (8, 8), "shards": None},
    "plain": {"chunks": (4, 4), "shards": (16, 16), "compressors": None},
    "v2": {"chunks": (8, 8), "zarr_format": 2},
}
READS: dict[str, Callable[[zarrdock.Array], Any]] = {
    "all": lambda a: a[...],
    "box": lambda a: a[3:17, 5:30],
    "element": lambda a: a[9, 21],
    "strided": lambda a: a[::-3, 1::2],
    "points": lambda a: a.vindex[[1, 30, 17], [4, 31, 2]],
    "orthogonal": lambda a: a.oindex[[3, 8, 8], [1, 20]],
}


@pytest.fixture(params=["memory", "local", "far"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.RecordingStore:
    inner: zarrdock.Store = zarrdock.LocalStore(tmp_path) if request.param == "local" else zarrdock.MemoryStore()
    return zarrdock.RecordingStore(remote(inner) if request.param == "far" else inner, n_events=1000)


@pytest.fixture(params=LAYOUTS)
def values(request: pytest.FixtureRequest, store: zarrdock.RecordingStore) -> Any:
    """An array with data in the store."""
    data = np.arange(1, 1 + SHAPE[0] * SHAPE[1], dtype="<u4").reshape(SHAPE)
    data[4:8, 4:8] = 0  # a chunk that is not stored
    zarrdock.create_array(store, data=data, **LAYOUTS[request.param])
    return data


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_was_read_once_is_only_confirmed(
    store: zarrdock.RecordingStore, values: Any, read: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = zarrdock.open_array(store, cache_bytes=10**6)
    assert np.array_equal(read(array), read_numpy(read, values))
    assert np.array_equal(read(array), read_numpy(read, values))
    bound = type(Layout.of(array.metadata).leaf)
    monkeypatch.setattr(bound, "decode", None)  # whoever decodes now fails
    store.reset()
    assert np.array_equal(read(array), read_numpy(read, values))
    n_objects = 4 if array.shards else 16
    assert store.n_requests <= n_objects
    assert store.nbytes <= n_objects
    assert store.n_rounds == 1


def read_numpy(read: Callable[[Any], Any], values: Any) -> Any:
    class Plain:
        """numpy under the names of our indexers."""

        vindex = values

        class _Orthogonal:
            def __getitem__(self, key: Any) -> Any:
                return values[np.ix_(*key)]

        oindex = _Orthogonal()

        def __getitem__(self, key: Any) -> Any:
            return values[key]

    return read(Plain())


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_never_stale(store: zarrdock.RecordingStore, values: Any, read: Callable[[Any], Any]) -> None:
    array = zarrdock.open_array(store, cache_bytes=10**6)
    writer = zarrdock.open_array(store, "r+")
    for i in range(3):
        assert np.array_equal(read(array), read_numpy(read, values))
        values = values + 1
        if i == 1:
            values[8:24] = 0  # chunks and objects go
        writer[...] = values
    store.delete_prefix("c")
    for key in [f"{i}.{j}" for i in range(4) for j in range(4)]:
        store.delete(key)
    assert not np.any(read(array))


def test_part_of_it_is_there(store: zarrdock.RecordingStore, values: Any) -> None:
    array = zarrdock.open_array(store, cache_bytes=10**6)
    array[3:17, 5:30]
    assert np.array_equal(array[...], values)
    assert np.array_equal(array[::2, 3], values[::2, 3])


def test_a_plan_announces_it(store: zarrdock.RecordingStore, values: Any) -> None:
    array = zarrdock.open_array(store, cache_bytes=10**6)
    for selection in (np.s_[:10, :10], np.s_[...], np.s_[:, 3]):
        plan = array.plan(selection)
        store.reset()
        array[selection]
        assert (plan.n_rounds, plan.n_requests, plan.nbytes) == (store.n_rounds, store.n_requests, store.nbytes)
        array[selection]


def test_bounded(values: Any, store: zarrdock.RecordingStore) -> None:
    limit = 3000
    array = zarrdock.open_array(store, cache_bytes=limit)
    assert array._chunk_cache is not None
    for _ in range(3):
        assert np.array_equal(array[...], values)
        assert 0 < array._chunk_cache.nbytes <= limit
        kept = sum(chunk.nbytes for chunk in [chunk for chunk, _ in array._chunk_cache._kept._items.values()])
        assert kept + chunk_cache._OVERHEAD * len(array._chunk_cache) == array._chunk_cache.nbytes
    array._chunk_cache.clear()
    assert (array._chunk_cache.nbytes, len(array._chunk_cache)) == (0, 0)


def test_nobody_can_write_to_what_is_kept(store: zarrdock.RecordingStore, values: Any) -> None:
    array = zarrdock.open_array(store, cache_bytes=10**6)
    found = array[...]
    found[...] = 7
    assert np.array_equal(array[...], values)
    assert array._chunk_cache is not None
    assert not any(chunk.flags.writeable for chunk in [chunk for chunk, _ in array._chunk_cache._kept._items.values()])


def test_arrays_of_a_group_share() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    group = zarrdock.create_group(store)
    group.create_array("a", data=np.ones((8, 8)), chunks=(4, 4))
    opened = zarrdock.open_group(store, cache_bytes=10**6)
    for name in ("a", "a"):  # two objects
        store.reset()
        assert np.array_equal(opened[name][...], np.ones((8, 8)))
    assert opened["a"]._chunk_cache is opened["a"]._chunk_cache is not None


def test_one_cache_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_cache, "_shared", None)
    monkeypatch.setattr(config, "cache_bytes", 10**6)
    stores = [zarrdock.MemoryStore(), zarrdock.MemoryStore()]
    for i, store in enumerate(stores):
        zarrdock.create_array(store, data=np.full((8, 8), i + 1), chunks=(4, 4), shards=(8, 8))
    arrays = [zarrdock.open_array(store) for store in stores]
    for _ in range(2):  # same keys, perhaps the same versions: never each other's chunks
        assert [int(a[3, 3]) for a in arrays] == [1, 2]
        assert [int(a[:2, :2].max()) for a in arrays] == [1, 2]
    shared = configured_cache()
    assert shared is not None
    assert shared.n_hits > 0
    again = zarrdock.open_array(stores[0])
    n = shared.n_hits
    assert int(again[3, 3]) == 1
    assert shared.n_hits == n + 1  # another array of the same store finds them
    apart = zarrdock.open_array(stores[0], cache_bytes=0)
    assert int(apart[3, 3]) == 1
    assert shared.n_hits == n + 1


def test_arrays_of_one_folder_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_cache, "_shared", None)
    monkeypatch.setattr(config, "cache_bytes", 10**6)
    zarrdock.create_array(tmp_path, data=np.ones((8, 8)), chunks=(4, 4), shards=(8, 8))
    shared = configured_cache()
    assert shared is not None
    zarrdock.open_array(tmp_path)[...]
    n = shared.n_misses
    zarrdock.open_array(str(tmp_path) + "/")[...]
    assert shared.n_misses == n


def test_the_same_bytes_in_another_form() -> None:
    """Metadata replaced, chunks left: what was decoded by the old metadata is not found by the new."""
    store = zarrdock.MemoryStore()
    group = zarrdock.open_group(store, "w", cache_bytes=10**6)
    group.create_array("a", data=np.ones((4, 4), "u2"), chunks=(4, 4), compressors=None)
    assert group["a"][...].dtype == np.uint16
    document = bytes(store.get("a/zarr.json").data)  # type: ignore[union-attr]
    store.write("a/zarr.json", document.replace(b'"uint16"', b'"int16"'))
    assert group["a"][...].dtype == np.int16


def test_stores_without_versions_keep_nothing() -> None:
    store = zarrdock.open_store({})
    zarrdock.create_array(store, data=np.ones((4, 4)), chunks=(2, 2))
    array = zarrdock.open_array(store, cache_bytes=10**6)
    if store.traits.conditional_read:
        pytest.fail("this store has versions: the test needs another")
    array[...]
    assert array._chunk_cache is not None
    assert len(array._chunk_cache) == 0


def test_pickled() -> None:
    cache = ChunkCache(5000)
    cache.put(("s", "k", 1), [(0, np.zeros(10))])
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.max_bytes, len(copy)) == (5000, 0)
    assert len(cache.get(("s", "k", 1), [0, 1])) == 2
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=np.ones((4, 4)))
    array = zarrdock.Array(array.store, "", array.metadata, chunk_cache=cache)
    assert pickle.loads(pickle.dumps(array))._chunk_cache.max_bytes == 5000


def test_many_threads(store: zarrdock.RecordingStore, values: Any) -> None:
    array = zarrdock.open_array(store, cache_bytes=4000)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(25):
                i, j = random.integers(0, 24, 2)
                assert np.array_equal(array[i : i + 8, j : j + 8], values[i : i + 8, j : j + 8])
                assert array[int(i), int(j)] == values[i, j]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert array._chunk_cache is not None
    assert array._chunk_cache.nbytes <= 4000
