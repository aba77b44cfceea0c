"""How shards are written: orders for each level, and what the bytes of a shard are used for."""

from __future__ import annotations

from typing import Any, Literal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.shard_index import IndexLocation, ShardUsage, usage_of
from zarrdock.codecs.sharding import BoundSharding, Sharding, with_options
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.repairing import repair_shard

RANDOM = np.random.default_rng(3)
# Compressible by differing amounts, so that no two chunks are of equal length.
VALUES = (RANDOM.integers(0, 2**16, (64, 64)) >> (np.arange(64)[:, None] // 4)).astype("u2")


def bound(location: IndexLocation = "end", *codecs: Any, **options: Any) -> BoundSharding:
    sharding = Sharding((8, 8), codecs or (Bytes(), Zstd()), index_location=location, options=WriteOptions(**options))
    return sharding.bind(ChunkSpec((64, 64), np.dtype("u2"), np.uint16(0)))


@pytest.mark.parametrize("location", ["start", "end"])
@settings(max_examples=25)
@given(changes=st.dictionaries(st.integers(0, 63), st.one_of(st.none(), st.binary(max_size=300)), max_size=12))
def test_a_changed_shard_is_the_one_that_would_be_written_anew(
    location: Literal["start", "end"], changes: dict[int, bytes | None]
) -> None:
    """Whatever the order of the old shard, what is copied from it is what it held."""
    chunks = {i: bytes([i % 251]) * (i * 7 % 50) for i in range(0, 64, 2)}
    writers = [bound(location, subchunk_write_order=order) for order in ("hilbert", "morton")]
    expected = {**chunks, **changes}
    for first in writers:
        old = b"".join(first.assemble(None, chunks) or [])
        for second in writers:
            new = second.assemble(old, changes)
            assert new is not None
            assert b"".join(new) == b"".join(second.assemble(None, expected) or [])


def test_orders_a_level_are_those_of_the_levels() -> None:
    nested = Sharding((4, 4), (Sharding((2, 2), (Bytes(),)),))
    (codec,) = with_options((nested,), WriteOptions(subchunk_write_order=("colexicographic", (3, 2, 1, 0))))  # type: ignore[arg-type]
    shard = codec.bind(ChunkSpec((8, 8), np.dtype("u2"), np.uint16(0)))  # type: ignore[attr-defined]
    data = memoryview(shard.encode(np.arange(1, 65, dtype="u2").reshape(8, 8)))
    index = shard.split(data)
    assert np.argsort(index.offsets).tolist() == [0, 2, 1, 3]
    inner = shard.inner.serializer.split(data[int(index.offsets[0]) : int(index.offsets[0] + index.lengths[0])])
    assert np.argsort(inner.offsets).tolist() == [3, 2, 1, 0]


# -- what bytes are used for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["start", "end"])
def test_usage(location: Literal["start", "end"]) -> None:
    shard = bound(location)
    data = shard.encode(VALUES)
    index = shard.split(data)
    used = usage_of(shard.layout, index, len(data))
    assert used.total == len(data)
    assert (used.chunks, used.index, used.garbage) == (int(index.lengths.sum()), shard.layout.nbytes, 0)
    assert ShardUsage(1, 2, 3) + ShardUsage(10, 20, 30) == ShardUsage(11, 22, 33)


@pytest.mark.parametrize("codecs", [(Bytes(),), (Bytes(), Zstd())])
def test_gaps_are_garbage(codecs: tuple[Any, ...]) -> None:
    values = np.random.default_rng(3).integers(1, 2**12, (64, 64)).astype("u2")
    shard = bound("start", *codecs)
    data = bytearray(shard.encode(values))
    index = shard.split(data)
    n_removed, n_left = int(index.lengths[[3, 63]].sum()), int(index.lengths.sum())
    index.offsets[[3, 63]], index.lengths[[3, 63]] = -1, 0  # as a writer does that only changes the index
    data[: shard.layout.nbytes] = shard.layout.serialise(index)
    used = usage_of(shard.layout, shard.split(data), len(data))
    assert (used.garbage, used.chunks) == (n_removed, n_left - n_removed)
    mended = repair_shard(shard, data, has_checksums=False)
    assert mended is not None
    assert len(b"".join(mended[0])) == len(data) - n_removed
