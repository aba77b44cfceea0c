"""Arrays that are damaged, lie, or are not arrays: a typed error that names key and chunk, and no allocation."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

import zarrdock
from support.stores import remote
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.crc32c_ import crc32c
from zarrdock.errors import (
    ChecksumError,
    CodecError,
    MetadataError,
    NodeNotFoundError,
    ReadOnlyError,
    ShardIndexError,
    StoreError,
    ZarrdockError,
)

EMPTY = 2**64 - 1
READS: dict[str, Callable[[zarrdock.Array], Any]] = {
    "element": lambda a: a[17],
    "slice": lambda a: a[17:30],
    "all": lambda a: a[...],
    "points": lambda a: a.vindex[[17, 20, 3]],
}


@pytest.fixture(params=["memory", "local", "prefix", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.Store:
    match request.param:
        case "memory":
            return zarrdock.MemoryStore()
        case "local":
            return zarrdock.LocalStore(tmp_path)
        case "remote":
            return remote(zarrdock.MemoryStore(), merge_gap_bytes=zarrdock.MemoryStore.traits.merge_gap_bytes)
        case _:
            return zarrdock.PrefixStore(zarrdock.MemoryStore(), "below/here")


def create(store: zarrdock.Store, **arguments: Any) -> zarrdock.Array:
    arguments = {"chunks": (4,), "shards": (16,), "dtype": "i4", "compressors": None, **arguments}
    array = zarrdock.create_array(store, name="x", shape=32, **arguments)
    array[...] = np.arange(1, 33)
    return zarrdock.open_array(store, "r+", path="x")


def outcome(act: Callable[[], Any], kind: type[ZarrdockError]) -> tuple[Any, Any]:
    """What ``act`` returns and None, or None and the error it raises, which must be of that kind."""
    try:
        return act(), None
    except kind as error:
        return None, error


def value(store: zarrdock.Store, key: str) -> bytes:
    blob = store.get(key)
    assert blob is not None
    return bytes(blob.data)


def with_index(chunks: bytes, pairs: list[tuple[int, int]]) -> bytes:
    raw = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    return chunks + raw + struct.pack("<I", crc32c(raw))


SHARDED: dict[str, Any] = {
    "end": {},
    "start": {"shards": {"shape": (16,), "index_location": "start"}},
    "nested": {"chunks": (2,), "shards": [(16,), (8,)]},
    "hidden": {"filters": [{"name": "transpose", "configuration": {"order": [0]}}]},
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", SHARDED)
@pytest.mark.parametrize("n", [0, 1, 50, 68, 90, -1])
def test_a_truncated_shard(store: zarrdock.Store, kind: str, n: int, read: str) -> None:
    array = create(store, **SHARDED[kind])
    store.write("x/c/1", value(store, "x/c/1")[:n])
    found, error = outcome(lambda: READS[read](array), ShardIndexError)
    if error is not None:
        assert error.key == "x/c/1"
    else:  # with the index in front, chunks before the cut are as good as ever
        assert kind == "start"
        np.testing.assert_array_equal(found, [18, 21, 4] if read == "points" else READS[read](np.arange(1, 33)))
    assert array[:16].tolist() == list(range(1, 17))


@pytest.mark.parametrize("read", ["element", "slice", "all"])
@pytest.mark.parametrize("kind", SHARDED)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_an_index(kind: str, read: str, data: st.DataObject) -> None:
    array = create(zarrdock.MemoryStore(), **SHARDED[kind])
    shard = bytearray(value(array.store, "x/c/1"))
    at = data.draw(st.integers(0, 67))
    n = Layout.of(array.metadata).levels[0].sharding.layout.nbytes if Layout.of(array.metadata).levels else 68
    at %= n
    shard[at if kind == "start" else len(shard) - n + at] ^= 1 << data.draw(st.integers(0, 7))
    array.store.write("x/c/1", shard)
    with pytest.raises(ShardIndexError, match="checksum") as caught:
        READS[read](array)
    assert caught.value.key == "x/c/1"


LIES = [
    [(0, 16), (16, 16), (32, 16), (2**63, 16)],
    [(0, 16), (16, 16), (32, 16), (48, 2**63)],
    [(0, 2**62), (0, 2**62), (0, 2**62), (0, 2**62)],
    [(2**60, 16)] * 4,
    [(0, 10**12)] * 4,
    [(EMPTY, 16)] * 4,
    [(0, EMPTY)] * 4,
    [(2**61 + 1, 16)] * 4,
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("pairs", LIES)
def test_an_index_that_lies(store: zarrdock.Store, pairs: list[tuple[int, int]], read: str) -> None:
    array = create(store)
    READS[read](array)  # what is imported when first used is not counted
    store.write("x/c/1", with_index(bytes(64), pairs))
    tracemalloc.start()
    try:
        for _ in range(2):
            error = outcome(lambda: (READS[read](array), array[28:]), ShardIndexError)[1]
            assert error.key == "x/c/1"
        with pytest.raises(ShardIndexError):
            array[17] = 0  # and it is not made worse: what can be saved is still there
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert value(store, "x/c/1") == with_index(bytes(64), pairs)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("inner", [(0, 3), (0, 0), (5, 30), (0, 36), (10, 60)])
def test_an_inner_shard_that_is_none(store: zarrdock.Store, inner: tuple[int, int], read: str) -> None:
    """Too short for an index, or where there is none."""
    array = create(store, **SHARDED["nested"])
    store.write("x/c/1", with_index(bytes(64), [inner, (EMPTY, EMPTY)]))
    error = outcome(lambda: (READS[read](array), array[16:18]), ShardIndexError)[1]
    assert error.key == "x/c/1"
    with pytest.raises(ShardIndexError):
        array[17] = 1
    array[24:] = 1  # the other inner shard is not concerned
    assert array[24:].tolist() == [1] * 8


def test_an_index_cannot_multiply_a_shard(store: zarrdock.Store) -> None:
    """All chunks in the same bytes, which are longer than any chunk: not to be copied once for each."""
    array = zarrdock.create_array(store, name="x", shape=4096, chunks=1, shards=4096, dtype="u1", compressors=None)
    store.write("x/c/0", with_index(bytes(10**6), [(0, 10**6)] * 4096))
    tracemalloc.start()
    try:
        with pytest.raises(ShardIndexError, match="at most 1 "):
            array[5] = 1
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["end", "start", "nested"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_a_codec_error_or_wrong_numbers_but_nothing_else(kind: str, data: st.DataObject) -> None:
    array = create(zarrdock.MemoryStore(), **SHARDED[kind], compressors="zstd")
    shard = bytearray(value(array.store, "x/c/1"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(shard) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "zero"])):
            case "flip":
                shard[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del shard[at : at + data.draw(st.integers(1, 30))]
            case "insert":
                shard[at:at] = data.draw(st.binary(max_size=10))
            case "zero":
                shard[at : at + 20] = bytes(len(shard[at : at + 20]))
        if not shard:
            break
    array.store.write("x/c/1", shard)
    for read in READS.values():
        error = outcome(lambda: read(array), CodecError)[1]  # noqa: B023 - called at once
        if error is not None:
            assert error.key == "x/c/1"
            assert "x/c/1" in str(error)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("n", [0, 15, 17, 40])
def test_a_chunk_of_the_wrong_size(store: zarrdock.Store, n: int, read: str) -> None:
    array = create(store, shards=None)
    store.write("x/c/4", bytes(n))
    with pytest.raises(CodecError) as caught:
        READS[read](array)
    assert (caught.value.key, caught.value.chunk, caught.value.codec) == ("x/c/4", None, "bytes")
    with pytest.raises(CodecError) as caught:
        array[17] = 1
    assert caught.value.key == "x/c/4"
    array[16:20] = 1  # written whole, it is repaired
    assert array[16:20].tolist() == [1] * 4


@pytest.mark.parametrize("read", READS)
def test_a_chunk_of_the_wrong_size_in_a_shard(store: zarrdock.Store, read: str) -> None:
    array = create(store)
    store.write("x/c/1", with_index(bytes(64), [(0, 15), (16, 16), (32, 16), (48, 16)]))
    with pytest.raises(CodecError) as caught:
        READS[read](array)
    assert (caught.value.key, caught.value.chunk, caught.value.codec) == ("x/c/1", (0,), "bytes")
    assert array[28:].tolist() == [0] * 4  # the others are not concerned


@pytest.mark.parametrize("shards", [None, (16,), [(16,), (8,)]])
def test_a_checksum_names_key_and_chunk(store: zarrdock.Store, shards: Any) -> None:
    array = create(store, shards=shards, compressors="crc32c")
    key = "x/c/4" if shards is None else "x/c/1"
    damaged = bytearray(value(store, key))
    damaged[0] ^= 1
    store.write(key, damaged)
    for read in READS.values():
        with pytest.raises(ChecksumError) as caught:
            read(array)
        assert caught.value.key == key
        assert caught.value.chunk == (None if shards is None else (0,))
    with pytest.raises(ChecksumError):
        array[17] = 1


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"zarr"',
        b"{}",
        b'{"zarr_format": 4, "node_type": "array"}',
        b'{"zarr_format": 3}',
        b'{"zarr_format": 3, "node_type": "tree"}',
        b'{"zarr_format": 3, "node_type": "array"}',
        b"PK\x03\x04",
        b"{" * 100_000,
    ],
)
def test_a_document_that_is_none(store: zarrdock.Store, document: bytes) -> None:
    store.write("x/zarr.json", document)
    for act in (zarrdock.open, zarrdock.open_array):
        with pytest.raises(MetadataError) as caught:
            act(store, path="x")
        assert caught.value.key == "x/zarr.json"
        assert len(str(caught.value)) < 500


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    member=st.sampled_from(["shape", "data_type", "chunk_grid", "codecs", "fill_value", "chunk_key_encoding"]),
    wrong=st.none()
    | st.integers(-2, 2)
    | st.just(2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.lists(st.integers(-2, 2) | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.sampled_from(["name", "configuration"]), st.text(max_size=3) | st.just({}), max_size=2),
)
@example("shape", [2**63])
@example("shape", [2**70])
@example("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [2**63]}})
@example("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [0]}})
@example("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [3]}})
def test_members_of_the_wrong_kind(member: str, wrong: Any) -> None:
    store = zarrdock.MemoryStore()
    create(store)
    document = json.loads(value(store, "x/zarr.json"))
    document[member] = wrong
    store.write("x/zarr.json", json.dumps(document).encode())
    error = outcome(lambda: zarrdock.open_array(store, path="x")[:3], ZarrdockError)[1]
    if error is not None:
        assert "x/" in str(error)


def test_there_is_no_array(store: zarrdock.Store) -> None:
    zarrdock.create_group(store, path="g")
    for path in ("nothing", "g/nothing"):
        with pytest.raises(NodeNotFoundError, match=path):
            zarrdock.open_array(store, path=path)
        with pytest.raises(NodeNotFoundError, match=path):
            zarrdock.open(store, path=path)
    with pytest.raises(NodeNotFoundError, match="group"):
        zarrdock.open_array(store, path="g")
    create(store)
    with pytest.raises(NodeNotFoundError, match="array"):
        zarrdock.open_group(store, path="x")


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    store = zarrdock.LocalStore(tmp_path)
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(store, path="f")
    with pytest.raises(StoreError) as caught:
        zarrdock.create_array(store, name="f/a", shape=4, dtype="u1")
    assert caught.value.key == "f/a/zarr.json"
    array = zarrdock.create_array(store, name="a", shape=4, dtype="u1")
    (tmp_path / "a" / "c").write_bytes(b"x")
    assert array[...].tolist() == [0] * 4
    with pytest.raises(StoreError) as caught:
        array[...] = 1
    assert caught.value.key == "a/c/0"


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    array = zarrdock.create_array(zarrdock.LocalStore(tmp_path), name="a", shape=4, dtype="u1")
    (tmp_path / "a" / "c" / "0").mkdir(parents=True)
    assert array[...].tolist() == [0] * 4
    with pytest.raises(StoreError) as caught:
        array[...] = 1
    assert caught.value.key == "a/c/0"
    (tmp_path / "b" / "zarr.json").mkdir(parents=True)
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(tmp_path, path="b")


def test_a_folder_that_may_not_be_written_to() -> None:
    """In a process that is not root, whom nothing is forbidden."""
    with tempfile.TemporaryDirectory() as folder:
        create(zarrdock.LocalStore(folder))
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o555)
        code = f"""
import os, zarrdock
from zarrdock.errors import AccessError
array = zarrdock.open_array({folder!r}, "r+", path="x")
array[0] = int(array[0])
if os.geteuid() == 0:
    os.setuid(65534)
assert array[5] == 6
for act in (lambda: array.write(5, 9), lambda: array.write(slice(0, 16), 9), lambda: array.attrs.update(a=1)):
    try:
        act()
    except AccessError as error:
        print(error.key)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o755)
    assert done.stdout.split() == ["x/c/0", "x/c/0", "x/zarr.json"], done.stderr


def test_an_array_opened_for_reading(store: zarrdock.Store) -> None:
    create(store)
    array = zarrdock.open_array(store, "r", path="x")
    for act in (
        lambda: array.write(0, 1),
        lambda: array.oindex.__setitem__(0, 1),
        lambda: array.resize(3),
        lambda: array.append([1]),
        lambda: array.attrs.update(a=1),
    ):
        with pytest.raises(ReadOnlyError) as caught:
            act()
        assert caught.value.key in ("x", "x/zarr.json")


# -- arrays larger than anything --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [None, (10**6,), [(10**7,), (10**6,)]])
@pytest.mark.parametrize("n", [10**18, 2**62])
def test_huge_arrays_cost_what_is_selected(n: int, shards: Any) -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    began = time.perf_counter()
    tracemalloc.start()
    array = zarrdock.create_array(store, shape=n, chunks=10**3, shards=shards, dtype="u1", fill_value=3)
    array[0:10] = 1
    array[-1] = 2
    array.vindex[[10**17, 5]] = 7
    assert array[0:10].tolist() == [1] * 5 + [7] + [1] * 4
    assert array[n - 2 :].tolist() == [3, 2]
    assert array[10**17] == 7
    assert array[:: n // 8][-1] == 3
    assert array[:: -(n // 8)][0] == 2
    assert array.oindex[[0, 10**17, -1]].tolist() == [1, 7, 2]
    assert array.blocks[-1][-1] == 2
    assert array.plan(slice(0, 10)).n_objects == 1
    assert array.size == n
    array.resize(5)
    assert array[...].tolist() == [1] * 5
    array.resize(n)
    assert array[0:10].tolist() == [1] * 5 + [3] * 5
    assert sum(1 for _ in store.list("c")) == 1
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
    assert time.perf_counter() - began < 60  # what enumerated chunks would never end


@pytest.mark.parametrize("n", [2**62 + 1, 2**63, 2**64, 10**30])
def test_lengths_beyond_64_bits_are_refused(n: int) -> None:
    with pytest.raises(MetadataError, match=r"expected an integer from 0|64 bits|a shape") as caught:
        zarrdock.create_array(zarrdock.MemoryStore(), shape=(3, n), chunks=(1, 1), dtype="u1")
    assert caught.value.pointer == "/shape/1"
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=3, dtype="u1")
    with pytest.raises(MetadataError, match=r"expected an integer from 0|64 bits|a shape"):
        array.resize(n)
    assert zarrdock.open_array(array.store).shape == (3,)
    with pytest.raises(MetadataError, match=r"expected an integer from 0|64 bits|a shape"):
        zarrdock.create_array(zarrdock.MemoryStore(), shape=3, chunks=n, dtype="u1")


def test_many_huge_dimensions() -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), shape=(10**18,) * 4, chunks=(10,) * 4, shards=(100,) * 4, dtype="u1"
    )
    array[1, 2, 3, 10**17] = 5
    assert array[1, 2, 3:5, 10**17].tolist() == [5, 0]
    points = ([1, 10**17], [2, 10**17], [3, 0], [10**17, 10**17])
    assert array.vindex[points].tolist() == [5, 0]
    assert array.nchunks == 10**68
