"""``sharding_indexed``: its metadata, its index, whole shards in memory, and shards changed in part."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import zarrdock
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.crc32c_ import Crc32c, crc32c
from zarrdock.codecs.shard_index import EMPTY, IndexLayout, ShardIndex
from zarrdock.codecs.sharding import BoundSharding, EmptyTest, Sharding, with_options
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError, MetadataError, ShardIndexError

SPEC = ChunkSpec((4, 6), np.dtype("u2"), np.uint16(9))
PLAIN = Sharding((2, 3), (Bytes(),))
ARRAY = np.arange(24, dtype="u2").reshape(4, 6)


def bound(codec: Sharding = PLAIN, spec: ChunkSpec = SPEC) -> BoundSharding:
    return codec.bind(spec)


def index_bytes(*pairs: tuple[int, int]) -> bytes:
    raw = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    return raw + struct.pack("<I", crc32c(raw))


# -- metadata ---------------------------------------------------------------------------------------------------------


def test_json_there_and_back() -> None:
    codec = Sharding((2, 3), (Transpose((1, 0)), Bytes("big"), Zstd(3)), (Bytes("big"),), "start")
    json = codec.to_json()
    assert json["name"] == "sharding_indexed"
    assert Sharding.from_json(json["configuration"]) == codec
    nested = Sharding((4, 6), (PLAIN, Crc32c()))
    assert Sharding.from_json(nested.to_json()["configuration"]) == nested


def test_the_index_is_at_the_end_where_nothing_is_said() -> None:
    configuration = PLAIN.to_json()["configuration"]
    del configuration["index_location"]
    assert Sharding.from_json(configuration).index_location == "end"


@pytest.mark.parametrize(
    "changes, pointer",
    [
        ({"chunk_shape": None}, "/chunk_shape"),
        ({"chunk_shape": "23"}, "/chunk_shape"),
        ({"chunk_shape": [2, 0]}, "/chunk_shape"),
        ({"chunk_shape": [2, True]}, "/chunk_shape"),
        ({"chunk_shape": [2, 3.0]}, "/chunk_shape"),
        ({"index_location": "middle"}, "/index_location"),
        ({"codecs": None}, "/codecs"),
        ({"codecs": [7]}, "/codecs/0"),
        ({"index_codecs": ...}, "/index_codecs"),
        ({"subchunk_write_order": "morton"}, "/subchunk_write_order"),
    ],
)
def test_wrong_metadata_is_refused_where_it_stands(changes: dict[str, Any], pointer: str) -> None:
    configuration = {**PLAIN.to_json()["configuration"], **changes}
    configuration = {name: value for name, value in configuration.items() if value is not ...}
    with pytest.raises(MetadataError) as caught:
        Sharding.from_json(configuration)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "codec, pointer",
    [
        (Sharding((2, 4), (Bytes(),)), "/configuration/chunk_shape"),
        (Sharding((2,), (Bytes(),)), "/configuration/chunk_shape"),
        (Sharding((2, 3), (Zstd(),)), "/configuration/codecs/0"),
        (Sharding((2, 3), (Bytes(),), (Bytes(), Zstd())), "/configuration/index_codecs"),
        (Sharding((2, 3), (Bytes(),), (Crc32c(),)), "/configuration/index_codecs/0"),
        (Sharding((4, 3), (Sharding((3, 3), (Bytes(),)),)), "/configuration/codecs/0/configuration/chunk_shape"),
    ],
)
def test_what_does_not_fit_the_shard_is_refused(codec: Sharding, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        bound(codec)
    assert caught.value.pointer == pointer


def test_options_reach_every_level_and_no_comparison() -> None:
    nested = Sharding((4, 6), (PLAIN,))
    options = WriteOptions(subchunk_write_order="morton", write_empty_chunks=True)
    (changed,) = with_options((nested,), options)
    assert isinstance(changed, Sharding)
    assert changed.options == options
    assert isinstance(changed.codecs[0], Sharding)
    assert changed.codecs[0].options == options
    assert changed == nested
    assert changed.to_json() == nested.to_json()


# -- the index --------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_shard() -> None:
    data = bytes(bound().encode(ARRAY))
    chunks = [ARRAY[:2, :3], ARRAY[:2, 3:], ARRAY[2:, :3], ARRAY[2:, 3:]]
    assert data == b"".join(c.tobytes() for c in chunks) + index_bytes((0, 12), (12, 12), (24, 12), (36, 12))
    at_start = bytes(bound(dataclasses.replace(PLAIN, index_location="start")).encode(ARRAY))
    pairs = [(68 + 12 * i, 12) for i in range(4)]
    assert at_start == index_bytes(*pairs) + b"".join(c.tobytes() for c in chunks)


def test_empty_chunks_are_left_out_or_not() -> None:
    array = ARRAY.copy()
    array[:2, 3:] = array[2:, :3] = 9
    data = bytes(bound().encode(array))
    assert data[-68:] == index_bytes((0, 12), (EMPTY, EMPTY), (EMPTY, EMPTY), (12, 12))
    full = bytes(bound(dataclasses.replace(PLAIN, options=WriteOptions(write_empty_chunks=True))).encode(array))
    assert full[-68:] == index_bytes((0, 12), (12, 12), (24, 12), (36, 12))
    for codec, encoded in ((bound(), data), (bound(), full)):
        np.testing.assert_array_equal(codec.decode(encoded), array)


def test_a_shard_of_nothing_is_its_index() -> None:
    data = bytes(bound().encode(np.full((4, 6), 9, "u2")))
    assert data == index_bytes(*[(EMPTY, EMPTY)] * 4)
    assert (bound().decode(data) == 9).all()


@pytest.mark.parametrize("index_codecs", [(Bytes(),), (Bytes("big"), Crc32c()), (Bytes(), Crc32c(), Crc32c())])
def test_index_codecs(index_codecs: Any) -> None:
    codec = bound(Sharding((2, 3), (Bytes(),), index_codecs))
    data = bytes(codec.encode(ARRAY))
    assert len(data) == 48 + codec.layout.nbytes
    assert codec.split(data).offsets.tolist() == [0, 12, 24, 36]
    np.testing.assert_array_equal(codec.decode(data), ARRAY)


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([(0, 12), (EMPTY, 12)], "chunk 1 claims"),
        ([(0, EMPTY), (0, 12)], "chunk 0 claims"),
        ([(0, 12), (2**63, 12)], "9223372036854775808"),
        ([(0, 12), (0, 2**63)], "9223372036854775808"),
        ([(0, 12), (2**62, 2**62)], "chunk 1 claims"),
        ([(EMPTY - 1, 1), (0, 12)], "chunk 0 claims"),
        ([(0, 12), (12, 13)], "at most 12"),
        ([(0, 12), (200, 12)], "200 to 212"),
    ],
)
def test_an_index_that_cannot_be_true_is_an_error(pairs: list[tuple[int, int]], message: str) -> None:
    codec = bound(PLAIN, ChunkSpec((2, 6), np.dtype("u2"), np.uint16(9)))
    data = bytes(24) + index_bytes(*pairs)
    for use in (codec.split, codec.decode, lambda old: codec.assemble(old, {0: bytes(12)})):
        with pytest.raises(ShardIndexError, match=message):
            use(data)


@given(st.integers(0, 67), st.integers(0, 7))
def test_a_flipped_bit_in_the_index_is_found(at: int, bit: int) -> None:
    data = bytearray(bound().encode(ARRAY))
    data[48 + at] ^= 1 << bit
    with pytest.raises(ShardIndexError, match="damaged"):
        bound().decode(bytes(data))


@given(st.integers(0, 115))
def test_a_truncated_shard_is_found(n: int) -> None:
    data = bytes(bound().encode(ARRAY))[:n]
    with pytest.raises(ShardIndexError):
        bound().decode(data)


def test_damage_in_a_chunk_names_the_chunk() -> None:
    codec = bound(Sharding((2, 3), (Bytes(), Crc32c())))
    data = bytearray(codec.encode(ARRAY))
    data[20] ^= 1
    with pytest.raises(CodecError) as caught:
        codec.decode(bytes(data))
    assert caught.value.chunk == (0, 1)


@given(
    st.lists(st.tuples(st.integers(0, EMPTY), st.integers(0, EMPTY)), min_size=4, max_size=4), st.binary(max_size=80)
)
def test_any_index_is_parsed_or_an_error(pairs: list[tuple[int, int]], chunks: bytes) -> None:
    data = chunks + index_bytes(*pairs)
    try:
        found = bound().decode(data)
    except CodecError:
        return
    assert found.shape == (4, 6)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_shard_or_an_error(data: bytes) -> None:
    for codec in (bound(), bound(Sharding((2, 3), (Bytes(),), (Bytes(),), "start"))):
        try:
            found = codec.decode(data)
        except CodecError:
            continue
        assert found.shape == (4, 6)


def test_chunks_may_overlap_have_gaps_and_any_order() -> None:
    chunk = ARRAY[:2, :3].tobytes()
    data = b"\xff" * 5 + chunk + b"\xff" * 3 + index_bytes((5, 12), (5, 12), (EMPTY, EMPTY), (5, 12))
    found = bound().decode(data)
    for part in (found[:2, :3], found[:2, 3:], found[2:, 3:]):
        np.testing.assert_array_equal(part, ARRAY[:2, :3])
    assert (found[2:, :3] == 9).all()
    changed = bound().assemble(data, {2: chunk})
    assert changed is not None
    np.testing.assert_array_equal(bound().decode(b"".join(changed)), np.tile(ARRAY[:2, :3], (2, 2)))


def test_an_index_without_a_place_is_refused() -> None:
    with pytest.raises(MetadataError, match="no fixed length"):
        IndexLayout.bind((2, 2), (Bytes(), Zstd()), "end")
    layout = IndexLayout.bind((2, 2), (Bytes(), Crc32c()), "end")
    with pytest.raises(ShardIndexError, match="shorter than its index"):
        layout.span_within(100, 67)
    assert layout.span_within(100, 80) == (112, 180)
    index = layout.parse(layout.serialise(ShardIndex(np.array([5, -1, 0, 7]), np.array([1, 0, 0, 2]))))
    assert index.offsets.tolist() == [5, -1, 0, 7]
    assert index.lengths.tolist() == [1, 0, 0, 2]


# -- shards changed in part -------------------------------------------------------------------------------------------


@given(
    st.sampled_from(ORDERS),
    st.sampled_from(["start", "end"]),
    st.lists(st.dictionaries(st.integers(0, 7), st.none() | st.binary(max_size=12), max_size=5), max_size=5),
)
def test_assemble_changes_what_it_is_told_and_nothing_else(order: Any, location: Any, rounds: Any) -> None:
    codec = Sharding(
        (2, 3), (Bytes(),), index_location=location, options=WriteOptions(subchunk_write_order=order)
    ).bind(ChunkSpec((4, 12), np.dtype("u2"), np.uint16(0)))
    model: dict[int, bytes] = {}
    shard: bytes | None = None
    for changed in rounds:
        parts = codec.assemble(shard, changed)
        model.update(changed)
        model = {flat: data for flat, data in model.items() if data is not None}
        if not model:
            assert parts is None
            shard = None
            continue
        assert parts is not None
        shard = b"".join(parts)
        index = codec.split(shard)
        found = {
            flat: shard[index.offsets[flat] : index.offsets[flat] + index.lengths[flat]]
            for flat in np.flatnonzero(index.offsets >= 0).tolist()
        }
        assert found == model
        assert len(shard) == codec.layout.nbytes + sum(map(len, model.values()))  # no gaps, nothing left behind


@pytest.mark.parametrize("order", ORDERS)
def test_chunks_lie_in_the_order_asked_for(order: Any) -> None:
    from zarrdock.codecs.chunk_order import permutation

    codec = bound(dataclasses.replace(PLAIN, options=WriteOptions(subchunk_write_order=order)))
    offsets = codec.split(codec.encode(ARRAY)).offsets
    assert np.argsort(offsets).tolist() == permutation(order, (2, 2)).tolist()


def test_unordered_shards_keep_what_is_there_in_front() -> None:
    codec = bound(dataclasses.replace(PLAIN, options=WriteOptions(subchunk_write_order="unordered")))
    first = codec.assemble(None, {3: b"d" * 12})
    assert first is not None
    second = codec.assemble(b"".join(first), {0: b"a" * 12})
    assert second is not None
    assert b"".join(second)[:24] == b"d" * 12 + b"a" * 12
    third = codec.assemble(b"".join(second), {3: b"D" * 12})
    assert third is not None
    assert b"".join(third)[:24] == b"a" * 12 + b"D" * 12


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16", "i1", "V3", "u8"])
def test_empty_means_the_same_bits(dtype: str) -> None:
    spec = ChunkSpec((2, 2), np.dtype(dtype), np.zeros((), dtype)[()])
    empty = EmptyTest(spec)
    zeros = np.zeros((2, 2), dtype)
    assert empty(zeros)
    assert empty(np.zeros((4, 2), dtype)[::2])
    ones = zeros.copy()
    ones.view("u1").reshape(-1)[-1] = 0x80  # of floats: -0.0
    assert not empty(ones)
    assert empty(np.empty((0, 2), dtype))


@pytest.mark.parametrize(("dtype", "short"), [("S2", b"a"), ("S8", b""), ("U2", "a"), ("V4", b"")])
def test_text_shorter_than_the_data_type_in_an_array_of_no_dimension(dtype: str, short: Any) -> None:
    fill = np.zeros((), dtype)[()]
    empty = EmptyTest(ChunkSpec((), np.dtype(dtype), fill))
    assert empty(np.zeros((), dtype))
    assert empty(np.array(short, dtype)) == (not short)
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(), dtype=dtype)
    array[...] = np.array(short, dtype)
    assert array[...] == np.array(short, dtype)


def test_a_nan_is_only_itself() -> None:
    quiet = np.float32(np.nan)
    other = np.array([0x7FC00001], "u4").view("f4")
    empty = EmptyTest(ChunkSpec((1,), np.dtype("f4"), quiet))
    assert empty(np.array([quiet]))
    assert not empty(other)
    assert EmptyTest(ChunkSpec((), np.dtype("f4"), quiet))(np.array(quiet))
