"""Shards written anew: the same values, the order asked for, nothing unused, nothing decoded, nothing lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.chunk_order import permutation
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.errors import NodeNotFoundError, ReadOnlyError, ShardIndexError, StoreError, UnsupportedError
from zarrdock.layouts.indexes import layout_of, listed_objects, read_indexes
from zarrdock.layouts.relayout import relayout, relayout_shard
from zarrdock.testing import FaultyStore, StoreFault

RANDOM = np.random.default_rng(5)
# Chunks of differing lengths, and some that are not there.
VALUES = (RANDOM.integers(0, 2**16, (50, 70)) >> (np.arange(50)[:, None] // 4)).astype("u2")
VALUES[16:30, 20:40] = 0

KINDS: dict[str, dict[str, Any]] = {
    "end": {"shards": (32, 32)},
    "start": {"shards": {"shape": (32, 32), "index_location": "start"}},
    "nested": {"shards": [(32, 32), (16, 16)]},
}


def create(store: Any, kind: str = "end", **arguments: Any) -> zarrdock.Array:
    return zarrdock.create_array(store, data=VALUES, chunks=(4, 8), **{**KINDS[kind], **arguments})


def places(array: zarrdock.Array) -> dict[str, list[int]]:
    """Of every leaf shard: flat numbers of the chunks present, as they lie."""
    layout = layout_of(array.metadata, array.path)
    depth = len(layout.levels) - 1
    found = {}
    for one in read_indexes(array.store, layout, listed_objects(array.store, array.path, array.metadata)):
        for shard in one.shards:
            if shard.depth == depth:
                there = np.flatnonzero(shard.index.offsets >= 0)
                found[f"{one.key}@{shard.start}"] = there[np.argsort(shard.index.offsets[there])].tolist()
    return found


def garbage(array: zarrdock.Array) -> int:
    layout = layout_of(array.metadata, array.path)
    objects = listed_objects(array.store, array.path, array.metadata)
    found = [one.usage(layout) for one in read_indexes(array.store, layout, objects)]
    assert sum(used.total for used in found) == sum(e.size or 0 for e in array.store.list("c"))
    return sum(used.garbage for used in found)


def litter(store: zarrdock.Store, array: zarrdock.Array, nbytes: int = 1024) -> None:
    """Unused bytes in front of the chunks of every shard, as writers leave them that never move a chunk."""
    sharding = Layout.of(array.metadata).levels[0].sharding
    for entry in [*store.list("c")]:
        blob = store.get(entry.key)
        assert blob is not None
        data = memoryview(blob.data)
        index = sharding.split(data)
        moved = ShardIndex(np.where(index.offsets < 0, -1, index.offsets + nbytes), index.lengths)
        encoded = sharding.layout.serialise(moved)
        n = sharding.layout.nbytes
        body = data[n:] if sharding.layout.location == "start" else data[: len(data) - n]
        junk = b"\xaa" * nbytes
        store.write(entry.key, [encoded, junk, body] if sharding.layout.location == "start" else [junk, body, encoded])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["hilbert", "colexicographic", "morton"])
def test_the_order_asked_for_and_nothing_decoded(kind: str, order: Any, counting: Any) -> None:
    store = zarrdock.MemoryStore()
    array = create(store, kind, compressors=["zstd", counting])
    counting.calls.clear()
    before = {entry.key: entry.size for entry in store.list("c")}
    litter(store, array)
    assert garbage(array) == 1024 * len(before)
    done = relayout(array, order=order)
    assert counting.calls == []
    assert (done.n_objects, done.n_rewritten) == (len(before), len(before))
    assert done.nbytes_after == sum(entry.size or 0 for entry in store.list("c"))
    assert done.nbytes_saved == 1024 * len(before)
    assert {entry.key: entry.size for entry in store.list("c")} == before
    assert garbage(array) == 0
    grid = Layout.of(array.metadata).levels[-1].sharding.grid
    sequence = permutation(order, grid).tolist()
    for found in places(array).values():
        assert found == [flat for flat in sequence if flat in found]
    assert np.array_equal(array[...], VALUES)
    again = relayout(array, order=order)
    assert (again.n_objects, again.n_rewritten, again.nbytes_saved) == (len(before), 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_order_garbage_goes_and_chunks_stay_in_their_order(kind: str, tmp_path: Path) -> None:
    array = create(tmp_path / "a", kind, options={"subchunk_write_order": "hilbert"})
    before = places(array)
    litter(array.store, array)
    done = relayout(tmp_path / "a")
    assert done.nbytes_saved == 1024 * done.n_objects
    assert [found for _, found in sorted(places(array).items())] == [found for _, found in sorted(before.items())]
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], VALUES)
    assert relayout(tmp_path / "a").n_rewritten == 0


def test_what_is_finished_costs_its_indexes() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=100)
    create(store, "nested", options={"subchunk_write_order": "morton"})
    n_shards = sum(1 for _ in store.list("c"))
    store.reset()
    assert relayout(store, order="morton").n_rewritten == 0
    # The metadata, the outer indexes, the inner indexes: a round each.
    assert store.n_rounds == 3
    assert store.n_requests < 5 + 5 * n_shards
    assert store.n_updates == 0
    store.reset()
    looked = relayout(store, order="hilbert", dry_run=True)
    assert (looked.n_objects, looked.nbytes_saved, store.n_updates) == (n_shards, 0, 0)
    assert 0 < looked.n_rewritten == relayout(store, order="hilbert").n_rewritten == store.n_updates


def test_an_interrupted_run_is_resumed() -> None:
    store = zarrdock.MemoryStore()
    array = create(store)
    n = relayout(store, order="hilbert", dry_run=True).n_rewritten
    stopping = FaultyStore(store, [StoreFault("update", error=StoreError("stop"), after=3, count=None)])
    with pytest.raises(StoreError, match="stop"):
        relayout(stopping, order="hilbert", memory_bytes=1)
    assert np.array_equal(array[...], VALUES)
    done = relayout(store, order="hilbert")
    assert done.n_rewritten == n - 3 > 0
    assert np.array_equal(array[...], VALUES)


def test_readers_and_writers_go_on_meanwhile(tmp_path: Path) -> None:
    """Every value is written while shards are rewritten again and again; none is lost, and no read is wrong."""
    array = create(tmp_path / "a", "nested")
    expected = VALUES.copy()
    expected[5:45, 3:66] = 7
    stop = threading.Event()
    errors: list[BaseException] = []

    def rewrite() -> None:
        try:
            while not stop.is_set():
                for order in ("hilbert", "colexicographic"):
                    relayout(tmp_path / "a", order=order)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for row in range(5, 45):
            array[row, 3:66] = 7
            assert np.array_equal(array[:5], VALUES[:5])
            assert (array[row, 3:66] == 7).all()
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)


def test_a_hierarchy(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "g")
    group.create_array("a/sharded", data=VALUES, chunks=(4, 8), shards=(32, 32))
    group.create_array("plain", data=VALUES, chunks=(8, 8))
    steps: list[Any] = []
    done = relayout(tmp_path / "g", order="morton", progress=steps.append)
    assert (done.n_objects, len(steps)) == (6, 6)
    assert done.n_rewritten > 3
    assert steps[-1].path == "a/sharded"
    assert np.array_equal(group["a/sharded"][...], VALUES)


def test_a_shard_whose_chunks_share_bytes_is_left_alone() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=np.ones((8, 8), "u1"), chunks=(4, 4), shards=(8, 8), compressors=None)
    sharding = Layout.of(array.metadata).levels[0].sharding
    assert isinstance(sharding, BoundSharding)
    shared = ShardIndex(np.zeros(4, np.int64), np.full(4, 16, np.int64))
    store.write("c/0/0", [b"\x01" * 16, sharding.layout.serialise(shared)])
    done = relayout(store, order="morton")
    assert (done.n_objects, done.n_rewritten, done.nbytes_saved) == (1, 0, 0)
    assert (array[...] == 1).all()


def test_a_shard_that_holds_nothing_but_garbage_goes() -> None:
    sharding = Layout.of(create(zarrdock.MemoryStore()).metadata).levels[0].sharding
    assert relayout_shard(sharding, b"\xaa" * 100 + bytes(sharding.empty())) == []


def test_refusals(tmp_path: Path) -> None:
    create(tmp_path / "a")
    with pytest.raises(NodeNotFoundError):
        relayout(tmp_path / "nothing", order="hilbert")
    with pytest.raises(UnsupportedError, match="'zigzag'"):
        relayout(tmp_path / "a", order="zigzag")  # type: ignore[arg-type]
    with pytest.raises(ReadOnlyError):
        relayout(zarrdock.LocalStore(tmp_path / "a", read_only=True), order="hilbert")
    zarrdock.create_array(tmp_path / "plain", data=VALUES, chunks=(8, 8))
    with pytest.raises(UnsupportedError, match="no array is sharded"):
        relayout(tmp_path / "plain", order="hilbert")
    shard = tmp_path / "a" / "c" / "1" / "1"
    data = shard.read_bytes()
    shard.write_bytes(data[:-10] + bytes(10))
    with pytest.raises(ShardIndexError, match="c/1/1"):
        relayout(tmp_path / "a", order="hilbert")
    assert shard.read_bytes() == data[:-10] + bytes(10)
