"""Copies into other shards: chunks are carried over as the bytes they are, wherever that is possible."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from support.stores import HookedStore
from zarrdock.copying import repack_shards as module
from zarrdock.errors import ShardIndexError, StoreError
from zarrdock.layouts.indexes import ObjectIndexes, layout_of, listed_objects, read_indexes
from zarrdock.stores.wrappers import Event
from zarrdock.testing import FaultyStore, StoreFault

RANDOM = np.random.default_rng(6)
VALUES = (RANDOM.integers(0, 2**16, (50, 70)) >> (np.arange(50)[:, None] // 4)).astype("u2")
VALUES[16:30, 20:40] = 0

SHARDS: dict[str, Any] = {
    "none": None,
    "one": (16, 32),
    "other": (48, 16),
    "whole": (64, 96),
    "two": [(32, 64), (8, 16)],
    "three": [(64, 64), (32, 32), (4, 16)],
}


def encoded(array: zarrdock.Array) -> dict[tuple[int, ...], bytes]:
    """Every leaf chunk's bytes by its coordinates."""
    region = tuple(slice(0, n) for n in array.shape)
    found = module._encoded(array, region, module.IndexCache(0))
    return {at: bytes(data) for at, data in found.items()}


@pytest.mark.parametrize("codec", [None, "blosc"])
def test_large_chunks_at_the_edge(codec: str | None) -> None:
    """Only part of them lies within the array, but all of them is copied."""
    values = np.arange(700_000, dtype="f8").reshape(700, 1000) // 9
    compressors = codec and [{"name": codec, "configuration": {"blocksize": 2**16}}]
    source = zarrdock.create_array(zarrdock.MemoryStore(), data=values, chunks=(600, 1000), compressors=compressors)
    copied = zarrdock.copy(source, zarrdock.MemoryStore(), shards=(1200, 1000))
    assert isinstance(copied, zarrdock.Array)
    assert np.array_equal(copied[...], values)
    assert encoded(copied) == encoded(source)


@pytest.mark.parametrize("to", SHARDS)
@pytest.mark.parametrize("of", SHARDS)
def test_from_any_shards_to_any_others(of: str, to: str, counting: Any) -> None:
    source = zarrdock.create_array(
        zarrdock.MemoryStore(), data=VALUES, chunks=(4, 8), shards=SHARDS[of], compressors=["zstd", counting]
    )
    counting.calls.clear()
    store = zarrdock.MemoryStore()
    copied = zarrdock.copy(source, store, shards=SHARDS[to], options={"subchunk_write_order": "hilbert"})
    assert isinstance(copied, zarrdock.Array)
    # Where nothing is sharded there is no order, and whole objects are copied.
    assert counting.calls == [] or of == to == "none"
    assert np.array_equal(copied[...], VALUES)
    assert encoded(copied) == encoded(source)
    fresh = zarrdock.create_array(
        zarrdock.MemoryStore(),
        data=VALUES,
        chunks=(4, 8),
        shards=SHARDS[to],
        compressors=["zstd", counting],
        options={"subchunk_write_order": "hilbert"},
    )
    for entry in fresh.store.list("c"):  # as if it had been written so
        assert bytes(store.get(entry.key).data) == bytes(fresh.store.get(entry.key).data)  # type: ignore[union-attr]
    assert sorted(e.key for e in store.list("c")) == sorted(e.key for e in fresh.store.list("c"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"chunks": (8, 8), "shards": (16, 32)},
        {"compressors": "gzip"},
        {"shards": (16, 32), "options": {"write_empty_chunks": True}},
    ],
)
def test_what_needs_other_bytes_is_encoded(arguments: Any, counting: Any) -> None:
    source = zarrdock.create_array(
        zarrdock.MemoryStore(), data=VALUES, chunks=(4, 8), shards=(32, 32), compressors=["zstd", counting]
    )
    counting.calls.clear()
    copied = zarrdock.copy(source, zarrdock.MemoryStore(), **arguments)
    assert "decode" in counting.calls
    assert np.array_equal(copied[...], VALUES)  # type: ignore[index]


def test_from_v2_without_shards(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    zarrdock.create_array(tmp_path / "v2", data=VALUES, chunks=(4, 8), zarr_format=2)
    monkeypatch.setattr("zarrdock.copying.copy_.transfer", None)  # that would decode
    copied = zarrdock.copy(tmp_path / "v2", tmp_path / "v3", zarr_format=3, shards=(32, 32))
    assert isinstance(copied, zarrdock.Array)
    assert copied.shards == (32, 32)
    assert np.array_equal(copied[...], VALUES)
    back = zarrdock.copy(tmp_path / "v3", tmp_path / "again", zarr_format=2)
    assert isinstance(back, zarrdock.Array)
    assert np.array_equal(back[...], VALUES)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 20), min_size=0, max_size=3),
    leaf=st.integers(1, 3),
    factors=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_of_any_shape(shape: list[int], leaf: int, factors: tuple[int, int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 2, shape).astype("u1") * random.integers(1, 200, shape).astype("u1")
    a, b, c = factors
    chunks = (leaf,) * len(shape)
    source = zarrdock.create_array(
        zarrdock.MemoryStore(), data=values, chunks=chunks, shards=(leaf * a,) * len(shape), compressors=None
    )
    levels = [(leaf * b * c,) * len(shape), (leaf * b,) * len(shape)]
    copied = zarrdock.copy(source, zarrdock.MemoryStore(), shards=levels)
    assert isinstance(copied, zarrdock.Array)
    assert np.array_equal(copied[...], values)


def test_one_look_at_each_shard_and_merged_reads() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    zarrdock.create_array(store, data=VALUES, chunks=(4, 8), shards=(32, 32), compressors=None)
    n_shards = sum(1 for _ in store.list("c"))
    store.reset()
    zarrdock.copy(store, zarrdock.MemoryStore(), shards=(64, 96))
    # The metadata, whose format is unknown; of each shard its index and one run of chunks, all shards together.
    assert store.n_requests == 5 + 2 * n_shards
    assert store.n_rounds == 3
    assert store.nbytes == sum(entry.size or 0 for entry in store.list())


def test_an_interrupted_copy_is_completed() -> None:
    source = zarrdock.create_array(zarrdock.MemoryStore(), data=VALUES, chunks=(4, 8), shards=(32, 32))
    store = zarrdock.MemoryStore()
    stopping = FaultyStore(store, [StoreFault("write", "c/*", StoreError("stop"), after=5, count=None)])
    arguments: dict[str, Any] = {"shards": (16, 16), "options": {"subchunk_write_order": "morton"}}
    with pytest.raises(StoreError, match="stop"):
        zarrdock.copy(source, stopping, **arguments)
    assert sum(1 for _ in store.list("c")) == 5
    kept: list[int] = []
    copied = zarrdock.copy(source, store, **arguments, resume=True, progress=lambda now: kept.append(now.n_kept))
    assert isinstance(copied, zarrdock.Array)
    assert kept[-1] == 5
    assert np.array_equal(copied[...], VALUES)


def test_a_shard_that_changes_meanwhile_is_never_mixed() -> None:
    inside = zarrdock.MemoryStore()
    array = zarrdock.create_array(inside, data=VALUES, chunks=(4, 8), shards=(64, 96))
    new = VALUES[::-1].copy()
    new[:20] = 0  # chunks that were there are gone

    def change_once(event: Event) -> None:
        # Between the read of the shard's index and that of its chunks.
        if event.requests and event.requests[0].version is not None:
            store.before = None
            array.write(..., new)

    store = HookedStore(inside, change_once)
    copied = zarrdock.copy(store, zarrdock.MemoryStore(), shards=(128, 96))
    assert store.before is None
    assert np.array_equal(copied[...], new)  # type: ignore[index]


def test_damage_is_named() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(4, 8), shards=(32, 32))
    blob = store.get("c/0/1")
    assert blob is not None
    store.write("c/0/1", bytes(blob.data[:-3]) + b"\0\0\0")
    with pytest.raises(ShardIndexError, match="c/0/1"):
        zarrdock.copy(store, zarrdock.MemoryStore(), shards=(16, 16))


def test_indexes_of_an_array(tmp_path: Any) -> None:
    array = zarrdock.create_array(tmp_path / "a", data=VALUES, chunks=(4, 8), shards=SHARDS["three"])
    layout = layout_of(array.metadata, "")
    objects = listed_objects(array.store, "", array.metadata)
    assert [coords for coords, _ in objects] == [(0, 0), (0, 1)]
    known = {one.key: one for one in read_indexes(array.store, layout, objects)}
    for one in known.values():
        used = one.usage(layout)
        assert used.total == one.nbytes == array.store.size(one.key)
        assert used.garbage == 0
    sizes = list(encoded(array).values())
    assert sum(used.usage(layout).chunks for used in known.values()) == sum(map(len, sizes))
    # Sizes that nobody tells are asked for; what is gone is left out.
    asked = [(coords, None) for coords, _ in objects] + [((0, 7), None)]
    again = {one.key: one for one in read_indexes(array.store, layout, asked)}

    def extents(one: ObjectIndexes) -> list[tuple[int, int, int | None]]:
        return [(shard.depth, shard.start, shard.nbytes) for shard in one.shards]

    assert {key: extents(one) for key, one in again.items()} == {key: extents(one) for key, one in known.items()}
    assert {shard.depth for one in again.values() for shard in one.shards} == {0, 1, 2}
