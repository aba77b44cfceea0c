"""How shards are written: aligned chunks, orders a level, and what the bytes of a shard are used for."""

from __future__ import annotations

from typing import Any, Literal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from zarrdock.codecs.base import ChunkSpec
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.shard_index import IndexLocation
from zarrdock.codecs.shard_usage import ShardUsage, alignment_of, usage_of
from zarrdock.codecs.sharding import BoundSharding, Sharding, ShardOptions, with_options
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import UnsupportedError
from zarrdock.repairing import repair_shard

RANDOM = np.random.default_rng(3)
# Compressible by differing amounts, so that no two chunks are of equal length.
VALUES = (RANDOM.integers(0, 2**16, (64, 64)) >> (np.arange(64)[:, None] // 4)).astype("u2")


def bound(location: IndexLocation = "end", *codecs: Any, **options: Any) -> BoundSharding:
    sharding = Sharding((8, 8), codecs or (Bytes(), Zstd()), index_location=location, options=ShardOptions(**options))
    return sharding.bind(ChunkSpec((64, 64), np.dtype("u2"), np.uint16(0)))


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("align", [2, 64, 100])
def test_chunks_begin_where_they_are_told_to(location: Literal["start", "end"], align: int) -> None:
    plain, aligned = bound(location), bound(location, chunk_alignment=align, order="morton")
    data = aligned.encode(VALUES)
    index = aligned.split(data)
    assert (index.offsets % align == 0).all()
    assert np.array_equal(plain.decode(data), VALUES)
    assert sorted(index.lengths.tolist()) == sorted(plain.split(plain.encode(VALUES)).lengths.tolist())
    assert len(data) <= len(plain.encode(VALUES)) + align * 65


@pytest.mark.parametrize("location", ["start", "end"])
@settings(max_examples=25)
@given(changes=st.dictionaries(st.integers(0, 63), st.one_of(st.none(), st.binary(max_size=300)), max_size=12))
def test_a_changed_shard_is_the_one_that_would_be_written_anew(
    location: Literal["start", "end"], changes: dict[int, bytes | None]
) -> None:
    """Whatever the alignment of the old shard, what is copied from it is what it held."""
    chunks = {i: bytes([i % 251]) * (i * 7 % 50) for i in range(0, 64, 2)}
    writers = [bound(location, chunk_alignment=align, order=order) for align, order in ((1, "hilbert"), (32, "morton"))]
    expected = {**chunks, **changes}
    for first in writers:
        old = b"".join(first.assemble(None, chunks) or [])
        for second in writers:
            new = second.assemble(old, changes)
            assert new is not None
            assert b"".join(new) == b"".join(second.assemble(None, expected) or [])


def test_alignment_at_every_level(tmp_path: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=VALUES, chunks=(8, 8), shards=[(64, 64), (32, 32)], checksums=True)
    options = ShardOptions(chunk_alignment=512)
    aligned = zarrdock.Array(store, "", array.metadata, options=options)
    aligned[...] = VALUES
    data = memoryview(store.get("c/0/0").data)  # type: ignore[union-attr]
    outer = with_options(array.metadata.codecs, options)[0].bind(  # type: ignore[attr-defined]
        ChunkSpec((64, 64), np.dtype("u2"), np.uint16(0))
    )
    starts = []
    index = outer.split(data)
    for start, length in zip(index.offsets.tolist(), index.lengths.tolist(), strict=True):
        inner = outer.inner.serializer.split(data[start : start + length])
        starts += [start + offset for offset in inner.offsets.tolist()]
    assert len(starts) == 64
    assert all(start % 512 == 0 for start in starts)
    aligned[3:30, 40] = 7
    expected = VALUES.copy()
    expected[3:30, 40] = 7
    assert np.array_equal(array[...], expected)


def test_no_alignment_that_readers_would_take_for_damage() -> None:
    nested = Sharding((2, 2), (Sharding((1, 1), (Bytes(),)),))
    with pytest.raises(UnsupportedError, match="at most 2 bytes"):
        with_options((nested,), ShardOptions(chunk_alignment=65536))[0].bind(  # type: ignore[attr-defined]
            ChunkSpec((128, 128), np.dtype("u2"), np.uint16(0))
        )
    for wrong in (0, -4, 2.0, True):
        with pytest.raises(UnsupportedError, match="chunk_alignment"):
            ShardOptions(chunk_alignment=wrong)  # type: ignore[arg-type]


def test_orders_a_level_are_those_of_the_levels() -> None:
    nested = Sharding((4, 4), (Sharding((2, 2), (Bytes(),)),))
    (codec,) = with_options((nested,), ShardOptions(order=("colexicographic", (3, 2, 1, 0))))  # type: ignore[arg-type]
    shard = codec.bind(ChunkSpec((8, 8), np.dtype("u2"), np.uint16(0)))  # type: ignore[attr-defined]
    data = memoryview(shard.encode(np.arange(1, 65, dtype="u2").reshape(8, 8)))
    index = shard.split(data)
    assert np.argsort(index.offsets).tolist() == [0, 2, 1, 3]
    inner = shard.inner.serializer.split(data[int(index.offsets[0]) : int(index.offsets[0] + index.lengths[0])])
    assert np.argsort(inner.offsets).tolist() == [3, 2, 1, 0]


# -- what bytes are used for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["start", "end"])
def test_usage(location: Literal["start", "end"]) -> None:
    plain, aligned = bound(location), bound(location, chunk_alignment=64)
    for shard in (plain, aligned):
        data = shard.encode(VALUES)
        index = shard.split(data)
        used = usage_of(shard.layout, index, len(data))
        assert used.total == len(data)
        assert (used.chunks, used.index, used.garbage) == (int(index.lengths.sum()), shard.layout.nbytes, 0)
        assert (used.padding > 0) == (shard is aligned)
    assert alignment_of(plain.split(plain.encode(VALUES))) == 1
    assert ShardUsage(1, 2, 3, 4) + ShardUsage(10, 20, 30, 40) == ShardUsage(11, 22, 33, 44)


def test_garbage_is_what_nothing_explains() -> None:
    values = np.random.default_rng(3).integers(1, 2**12, (64, 64)).astype("u2")
    shard = bound("start")
    data = bytearray(shard.encode(values))
    index = shard.split(data)
    n_removed, n_left = int(index.lengths[[3, 63]].sum()), int(index.lengths.sum())
    index.offsets[[3, 63]], index.lengths[[3, 63]] = -1, 0  # as a writer does that only changes the index
    data[: shard.layout.nbytes] = shard.layout.serialise(index)
    used = usage_of(shard.layout, shard.split(data), len(data))
    assert (used.garbage, used.chunks, used.padding) == (n_removed, n_left - n_removed, 0)
    mended = repair_shard(shard, data, has_checksums=False)
    assert mended is not None
    assert len(b"".join(mended[0])) == len(data) - n_removed


def test_places_of_uncompressed_chunks_are_room() -> None:
    """Where every chunk is as long as any other, nobody can tell a place that is kept from one that was left."""
    shard = bound("start", Bytes())
    data = bytearray(shard.encode(np.arange(4096, dtype="u2").reshape(64, 64) + 1))
    index = shard.split(data)
    index.offsets[[3, 63]], index.lengths[[3, 63]] = -1, 0
    data[: shard.layout.nbytes] = shard.layout.serialise(index)
    used = usage_of(shard.layout, shard.split(data), len(data))
    assert (used.garbage, used.room, used.chunks, used.padding) == (0, 2 * 128, 62 * 128, 0)
    assert used.total == len(data)
    assert repair_shard(shard, data, has_checksums=False) is None


def test_repairing_keeps_padding() -> None:
    shard = bound("end", chunk_alignment=64)
    assert repair_shard(shard, shard.encode(VALUES), has_checksums=False) is None
    chunks = {i: shard.inner.encode(VALUES[:8, 8 * i : 8 * i + 8]) for i in range(8)}
    data = b"".join(shard.assemble(None, chunks) or [])
    index = shard.split(data)
    index.offsets[2], index.lengths[2] = -1, 0
    damaged = data[: -shard.layout.nbytes] + bytes(shard.layout.serialise(index))
    mended = repair_shard(shard, damaged, has_checksums=False)
    assert mended is not None
    whole = b"".join(mended[0])
    assert (shard.split(whole).offsets[[0, 1, 3, 7]] % 64 == 0).all()
    del chunks[2]
    assert whole == b"".join(shard.assemble(None, chunks) or [])
