"""Shards in shards: what a read of them costs, which indexes are kept, and what a partial write leaves alone."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.errors import MetadataError, UnsupportedError

INDEX_OF_512 = 512 * 16 + 4


def cost(store: zarrdock.RecordingStore, array: zarrdock.Array, selection: Any) -> tuple[int, int, int]:
    """Rounds, requests and bytes of a read, which are those of its plan."""
    plan = array.plan(selection)
    store.reset()
    array[selection]
    found = store.n_rounds, store.n_requests, store.nbytes
    assert found == (plan.n_rounds, plan.n_requests, plan.nbytes)
    return found


def recorded(**arguments: Any) -> tuple[zarrdock.RecordingStore, zarrdock.Array]:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=100)
    return store, zarrdock.create_array(store, **arguments)


def test_a_large_shard_of_shards_costs_its_indexes_and_the_chunk() -> None:
    """Objects of 2048^3: what is read of one is two indexes and a chunk, whatever else is in it."""
    store, array = recorded(
        shape=(4096,) * 3,
        dtype="u1",
        chunks=(32,) * 3,
        shards=[(2048,) * 3, (256,) * 3],
        compressors=None,
        options={"subchunk_write_order": "hilbert"},
    )
    box = np.s_[300:332, 500:532, 1000:1032]
    values = np.random.default_rng(1).integers(1, 255, (32,) * 3, np.uint8)
    array[box] = values
    array[2040, 2040, 2040] = 9
    assert [entry.key for entry in store.list("c")] == ["c/0/0/0"]
    cold = zarrdock.Array(store, "", array.metadata)
    assert np.array_equal(cold[box], values)
    inside = np.s_[320:350, 512:542, 993:1024]  # one chunk, too much of it for reading only a part of it
    cold = zarrdock.Array(store, "", array.metadata)
    assert cost(store, cold, inside) == (3, 3, 2 * INDEX_OF_512 + 32**3)
    assert cost(store, cold, inside) == (1, 1, 32**3)
    # Another inner shard: its index is new, the outer one is known.
    assert cost(store, cold, np.s_[2017:2048, 2020:2048, 2040]) == (2, 2, INDEX_OF_512 + 32**3)
    assert cost(store, cold, np.s_[2017:2048, 2020:2048, 2040]) == (1, 1, 32**3)
    # Of a chunk without compression the bytes wanted will do.
    assert cost(store, cold, np.s_[2040, 2040, 2040:2044]) == (1, 1, 4)
    # Where there is no inner shard the outer index is asked for again, as nothing else confirms its version.
    assert cost(store, cold, np.s_[0:10, 0:10, 0:10]) == (1, 1, INDEX_OF_512)


SHAPE = (32, 48)
SHARDS = [(32, 48), (16, 24), (8, 12)]
VALUES = np.arange(1, 1 + 32 * 48, dtype="u2").reshape(SHAPE)


def test_one_more_round_a_level() -> None:
    for n in range(1, 4):
        store, array = recorded(data=VALUES, chunks=(4, 4), shards=SHARDS[:n], compressors=None)
        array = zarrdock.Array(store, "", array.metadata)
        across = np.s_[14:18, 20:28]
        assert cost(store, array, across)[0] == n + 1
        assert cost(store, array, across)[0] == 1
        assert cost(store, array, np.s_[15, 23])[:2] == (1, 1)


def test_indexes_of_a_changed_object_are_forgotten_at_every_level() -> None:
    store, array = recorded(data=VALUES, chunks=(4, 4), shards=SHARDS)
    reader = zarrdock.Array(store, "", array.metadata)
    assert np.array_equal(reader[...], VALUES)
    array[17, 30] = 7
    array[3:29, 2] = 0
    expected = VALUES.copy()
    expected[17, 30] = 7
    expected[3:29, 2] = 0
    for selection in (np.s_[17, 30], np.s_[3:5, 2], np.s_[...]):
        assert np.array_equal(reader[selection], expected[selection])


def inner_shards(array: zarrdock.Array, store: zarrdock.Store) -> dict[int, bytes]:
    """The encoded inner shards of the one object there is."""
    blob = store.get("c/0/0")
    assert blob is not None
    outer = array.metadata.codecs[0].bind(Layout.of(array.metadata).chain.spec)  # type: ignore[attr-defined]
    assert isinstance(outer, BoundSharding)
    index = outer.split(blob.data)
    there = np.flatnonzero(index.offsets >= 0).tolist()
    return {i: bytes(blob.data[index.offsets[i] : index.offsets[i] + index.lengths[i]]) for i in there}


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("order", ["hilbert", "unordered", ("morton", "colexicographic")])
def test_a_partial_write_leaves_other_inner_shards_as_they_are(order: Any, location: Any) -> None:
    store, array = recorded(
        data=VALUES,
        chunks=(4, 4),
        shards={"shape": SHARDS[:2], "index_location": location},
        options={"subchunk_write_order": order},
    )
    before = inner_shards(array, store)
    store.reset()
    array[3:9, 5] = 0
    assert [(event.verb, event.key) for event in store.log if event.key != "zarr.json"] == [("update", "c/0/0")]
    after = inner_shards(array, store)
    assert [i for i in before if before[i] != after[i]] == [0]
    array[16:32, 0:24] = 0  # an inner shard emptied is an inner shard gone
    assert sorted(inner_shards(array, store)) == [0, 1, 3]
    array[...] = 0
    assert [entry.key for entry in store.list("c")] == []


@settings(max_examples=20, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 31), st.integers(1, 20), st.integers(0, 47), st.integers(1, 30), st.integers(0, 3)),
        max_size=6,
    ),
    n_levels=st.integers(1, 3),
)
def test_what_is_written_is_read(boxes: list[tuple[int, int, int, int, int]], n_levels: int) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=SHAPE, dtype="u2", chunks=(4, 4), shards=SHARDS[:n_levels])
    expected = np.zeros(SHAPE, "u2")
    for y, height, x, width, value in boxes:
        array[y : y + height, x : x + width] = value
        expected[y : y + height, x : x + width] = value
    assert np.array_equal(array[...], expected)
    assert np.array_equal(zarrdock.open_array(store)[5:30, 7:40], expected[5:30, 7:40])


def test_levels_that_do_not_fit_are_refused() -> None:
    for shards in ([(64,), (48,)], [(64,), (128,)], [(64,), (32, 32)], [(64,), ()], [(64,), (0,)]):
        with pytest.raises(MetadataError, match="shards"):
            zarrdock.create_array(zarrdock.MemoryStore(), shape=(256,), dtype="u1", chunks=(16,), shards=shards)
    store = zarrdock.MemoryStore()
    with pytest.raises(UnsupportedError, match=r"range\(4\)"):
        zarrdock.create_array(
            store,
            shape=(256,),
            dtype="u1",
            chunks=(8,),
            shards=[(64,), (32,)],
            options={"subchunk_write_order": ("hilbert", (1, 0))},
        )
    assert list(store.list()) == []
