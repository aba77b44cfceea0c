"""Large chunks that Blosc compressed, read by block: numpy's values, fewer bytes, never of two versions."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.blosc import compress

import zarrdock
from support.stores import HookedStore, WithTraits
from zarrdock.array.planning import chunk_parts
from zarrdock.array.planning.chunk_parts import pays
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs import chain
from zarrdock.codecs.blosc_frame import Frame, parse
from zarrdock.errors import CodecError
from zarrdock.stores.base import Blob, Read, WrapperStore
from zarrdock.stores.wrappers import Event, PrefixStore
from zarrdock.testing import RecordingStore

SHAPE = (64, 128, 64)  # 1 MiB of uint16
LZ4 = {
    "cname": "lz4",
    "clevel": 5,
    "shuffle": "shuffle",
    "blocksize": 65536,
}  # asked for, and doubled by the library: 8 blocks


def blosc(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "blosc", "configuration": {**LZ4, **changes}}]


def volume(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 50, SHAPE, "u2")


@pytest.fixture(params=["chunk", "shard"])
def store(request: pytest.FixtureRequest) -> RecordingStore:
    """One chunk of 1 MiB, as an object or in a shard of two, of which the other is missing."""
    store = RecordingStore(zarrdock.MemoryStore(), n_events=9)
    shards = None if request.param == "chunk" else (128, 128, 64)
    shape = (64 if shards is None else 128, 128, 64)
    array = zarrdock.create_array(
        store,
        shape=shape,
        dtype="u2",
        chunks=SHAPE,
        shards={"shape": shards, "index_location": "start"},
        compressors=blosc(),
    )
    array[:64] = volume()
    return store


def opened(store: RecordingStore, **options: Any) -> zarrdock.Array:
    """Without what only the first read costs."""
    array = zarrdock.open_array(store, **options)
    if array.shards is not None:
        array[127, 0, 0]
    store.reset()
    return array


@pytest.mark.parametrize("selection", [np.s_[5], np.s_[5, 7, 9], np.s_[60:64, ::3], ([3, 4], [5, 9], [60, 2])])
def test_fewer_bytes(store: RecordingStore, selection: Any) -> None:
    array = opened(store)
    plan = array.plan(selection)
    store.reset()
    np.testing.assert_array_equal(array[selection], volume()[selection])
    assert (store.n_rounds, store.n_requests, store.nbytes) == (plan.n_rounds, plan.n_requests, plan.nbytes)
    assert store.n_requests == 2
    assert 0 < store.nbytes < 0.2 * max(entry.size or 0 for entry in store.list("c"))
    assert plan.rounds[0] == (1, 16 + 4 * 32)


def test_where_the_whole_chunk_is_read(store: RecordingStore) -> None:
    stored = max(entry.size or 0 for entry in store.list("c"))
    expected = volume()
    array = opened(store)
    for selection in (np.s_[:64], np.s_[2:50], np.s_[:64, 3]):  # all; more than half; some of every block
        store.reset()
        np.testing.assert_array_equal(array[selection], expected[selection])
        assert (store.n_requests, store.nbytes > 0.9 * stored) == (1, True)
    kept = opened(store, cache_bytes=2**24)
    np.testing.assert_array_equal(kept[5], expected[5])
    assert store.nbytes > 0.9 * stored
    timeless = zarrdock.open_array(WithTraits(store, conditional_read=False))
    store.reset()
    np.testing.assert_array_equal(timeless[5], expected[5])
    assert store.nbytes > 0.9 * stored


class Untold(WrapperStore):
    """A server of objects without versions, though the protocol has such."""

    def read(self, requests: Sequence[Read], /) -> Any:
        return [replace(found, version=None) if isinstance(found, Blob) else found for found in super().read(requests)]


def test_that_there_are_no_versions_is_found_out_once(store: RecordingStore) -> None:
    array = zarrdock.open_array(Untold(store))
    is_sharded = array.shards is not None
    for n_requests in (2, 1, 1):
        plan = array.plan(np.s_[5])
        store.reset()
        np.testing.assert_array_equal(array[5], volume()[5])
        assert store.n_requests == plan.n_requests == n_requests + is_sharded
    store.reset()
    assert array[5, 7, 9] == volume()[5, 7, 9]
    assert store.n_requests == 1 + is_sharded


def test_what_one_more_round_is_worth() -> None:
    local, remote = zarrdock.MemoryStore().traits, WithTraits(zarrdock.MemoryStore(), remote=True).traits

    def leaf(mib: int, **changes: Any) -> Any:
        array = zarrdock.create_array(
            zarrdock.MemoryStore(), shape=mib * 2**20, dtype="u1", chunks=mib * 2**20, compressors=blosc(**changes)
        )
        return Layout.of(array.metadata).leaf

    assert pays(leaf(1), 2**18, local)
    assert not pays(leaf(1), 2**19, local)
    assert not pays(leaf(1, blocksize=2**20), 1, local)
    assert pays(leaf(1, blocksize=0), 2**17, local)
    assert not pays(leaf(8), 1, remote)
    assert pays(leaf(9), 2**17, remote)
    assert not pays(leaf(64), 57 * 2**20, remote)
    assert pays(leaf(64), 55 * 2**20, remote)
    small = zarrdock.create_array(zarrdock.MemoryStore(), shape=2**18, dtype="u1", chunks=2**18, compressors=blosc())
    assert Layout.of(small.metadata).leaf.framed is None
    for compressors in (["zstd"], [*blosc(), "crc32c"]):
        other = zarrdock.create_array(
            zarrdock.MemoryStore(), shape=2**20, dtype="u1", chunks=2**20, compressors=compressors
        )
        assert Layout.of(other.metadata).leaf.framed is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_remote_chunks(zarr_format: Any) -> None:
    store = RecordingStore(WithTraits(zarrdock.MemoryStore(), remote=True, merge_gap_bytes=2**15))
    values = np.arange(3 * 10 * 2**20, dtype="u4").reshape(3, 10, 1024, 1024)[:, :, :, :512]
    compressors: Any = [{"id": "blosc", **LZ4, "shuffle": 1}] if zarr_format == 2 else blosc()
    zarrdock.create_array(
        store, data=values, chunks=(1, *values.shape[1:]), zarr_format=zarr_format, compressors=compressors
    )
    array = zarrdock.open_array(store)
    plan = array.plan(np.s_[:, 4])
    store.reset()
    np.testing.assert_array_equal(array[:, 4], values[:, 4])
    assert (store.n_rounds, store.n_requests, store.nbytes) == (2, 6, plan.nbytes) == (plan.n_rounds, 6, plan.nbytes)
    assert store.nbytes < 0.2 * sum(entry.size or 0 for entry in store.list())


def test_missing_chunks() -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(store, shape=SHAPE, dtype="u2", chunks=SHAPE, compressors=blosc(), fill_value=7)
    plan = array.plan(np.s_[3])
    store.reset()
    assert (array[3] == 7).all()
    assert array[3, 4, 5] == 7
    assert (plan.n_missing, plan.nbytes, store.nbytes) == (1, 0, 0)


# -- every kind of frame ----------------------------------------------------------------------------------------------


@contextmanager
def everything_pays() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_FRAMED_NBYTES", 0)
        patch.setattr(chunk_parts, "_LEAST", 0)
        patch.setattr(chunk_parts, "_USUAL_BLOCK", 0)
        patch.setattr(chunk_parts, "_LEAST", 0)
        yield


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_numpys_values(data: st.DataObject) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from(["bool", "<u1", ">u2", "<f4", ">i8", "<c16", "S3", "S7", "S13", "<U3"]))
    shape = tuple(draw(st.lists(st.integers(1, 24), min_size=1, max_size=3)))
    chunks = tuple(draw(st.integers(max(1, n // 2), n + 2)) for n in shape)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    most = draw(st.sampled_from([1, 3, 2**31]))  # one value, compressible, not compressible (stored as it is)
    values = rng.integers(0, most, shape).astype(dtype if dtype[0] != "S" else "S3").astype(dtype)
    shuffle = draw(st.sampled_from(["noshuffle", "shuffle", "bitshuffle"]))
    cname = draw(st.sampled_from(["blosclz", "lz4", "lz4hc", "zlib", "zstd"]))
    given_ = {"cname": cname, "shuffle": shuffle, "clevel": draw(st.sampled_from([0, 1, 5, 9]))}
    given_["blocksize"] = draw(st.sampled_from([0, 128, 160, 1000]))
    shards = tuple(2 * n for n in chunks) if draw(st.booleans()) else None
    store = RecordingStore(WithTraits(zarrdock.MemoryStore(), merge_gap_bytes=draw(st.sampled_from([0, 300]))))
    options: dict[str, Any] = {"compressors": [{"name": "blosc", "configuration": given_}]}
    if shards is None and draw(st.booleans()):
        number = ["noshuffle", "shuffle", "bitshuffle"].index(shuffle)
        options = {"zarr_format": 2, "compressors": [{"id": "blosc", **given_, "shuffle": number}]}
    with everything_pays():
        layout = zarrdock.create_array(store, shape=shape, dtype=dtype, chunks=chunks, shards=shards, **options)
        layout[...] = values
        for _ in range(3):
            selection = tuple(draw(st.one_of(st.integers(0, n - 1), st.slices(n))) for n in shape)
            array = zarrdock.open_array(store)
            plan = array.plan(selection)
            store.reset()
            np.testing.assert_array_equal(array[selection], values[selection])
            asked = (store.n_rounds, store.n_requests, store.nbytes)
            if all(isinstance(index, slice) for index in selection):
                assert asked == (plan.n_rounds, plan.n_requests, plan.nbytes)


def test_what_blosc2_wrote() -> None:
    document = json.loads(Path(__file__, "../../codecs/blosc2/chunks.json").resolve().read_text("utf-8"))
    contents = {name: base64.b85decode(text) for name, text in document["contents"].items()}
    with everything_pays():
        for name, _, text in document["chunks"][::7]:
            content = np.frombuffer(contents[name], "u1")
            store = zarrdock.MemoryStore()
            array = zarrdock.create_array(
                store, shape=len(content), dtype="u1", chunks=len(content), compressors=blosc(blocksize=0)
            )
            store.write("c/0", base64.b85decode(text))
            np.testing.assert_array_equal(array[5:9], content[5:9])


@pytest.mark.parametrize("name", ["zarr2", "zarr3", "tensorstore"])
def test_what_others_wrote(name: str) -> None:
    n = 0
    with zipfile.ZipFile(Path(__file__, "../../golden", f"{name}.zip").resolve()) as archive:
        store = zarrdock.MemoryStore()
        for info in archive.infolist():
            if "blosc" in info.filename and not info.is_dir():
                store.write(info.filename, archive.read(info))
        paths = [e["path"] for e in json.loads(archive.read("manifest.json")) if "blosc" in e["path"]]
    for path in paths:
        with everything_pays():
            array = zarrdock.open_array(PrefixStore(store, path))
            n += Layout.of(array.metadata).leaf.framed is not None
            expected = array[...]
            for i in range(0, array.shape[0], 3):
                np.testing.assert_array_equal(array[i], expected[i])
                np.testing.assert_array_equal(array[i : i + 2], expected[i : i + 2])
    assert n > 1


@pytest.mark.parametrize("peer", ["zarr2", "zarr3", "tensorstore"])
def test_large_chunks_that_others_wrote(tmp_path: Path, peer: str) -> None:
    values = volume().astype("u4")
    if peer == "tensorstore":
        import tensorstore as ts

        codec = {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle"}}
        metadata = {
            "shape": SHAPE,
            "data_type": "uint32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": SHAPE}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, codec],
        }
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path)}, "metadata": metadata}
        ts.open(spec, create=True).result()[...] = values
    else:
        import numcodecs
        import zarr

        compressor: Any = zarr.codecs.BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=4)
        if peer == "zarr2":
            compressor = numcodecs.Blosc("zstd", 5, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = zarr.create_array(
                str(tmp_path),
                shape=SHAPE,
                dtype="u4",
                chunks=SHAPE,
                compressors=compressor,
                zarr_format=2 if peer == "zarr2" else 3,
            )
            theirs[...] = values
    store = RecordingStore(zarrdock.LocalStore(tmp_path))
    array = zarrdock.open_array(store)
    for i in (0, 31, 63):
        store.reset()
        np.testing.assert_array_equal(array[i], values[i])
        assert 0 < store.nbytes < 0.5 * max(entry.size or 0 for entry in store.list())


def parts(encoded: bytes, nbytes: int) -> tuple[Frame, list[bytes]]:
    frame = parse(encoded, nbytes, len(encoded), 2 * nbytes)
    assert frame is not None
    assert frame.starts is not None
    assert frame.lengths is not None
    pairs = zip(frame.starts.tolist(), frame.lengths.tolist(), strict=True)
    return frame, [encoded[a : a + n] for a, n in pairs]


@pytest.mark.parametrize("cname", [b"lz4", b"zstd"])
def test_blocks_in_any_order(cname: bytes) -> None:
    """As several threads of the library write them."""
    content = (np.arange(2**18 + 20, dtype="u4") // 7).tobytes()
    encoded = compress(content, cname, 5, 1, 2**15, 4)
    _, blocks = parts(encoded, len(content))
    order = np.random.default_rng(0).permutation(len(blocks)).tolist()
    starts, at = [0] * len(blocks), 16 + 4 * len(blocks)
    for i in order:
        starts[i] = at
        at += len(blocks[i])
    table = struct.pack(f"<{len(starts)}I", *starts)
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(
        store, shape=2**18 + 20, dtype="<u4", chunks=2**18 + 20, compressors=blosc(blocksize=2**15)
    )
    store.write("c/0", encoded[:16] + table + b"".join(blocks[i] for i in order))
    values = np.frombuffer(content, "<u4")
    np.testing.assert_array_equal(array[...], values)
    for a in (0, 2**13 - 5, 2**17, 2**18 + 3):
        np.testing.assert_array_equal(array[a : a + 17], values[a : a + 17])


# -- changes and damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_changes", [1, 2, 99])
def test_an_object_that_changes_between_the_rounds(store: RecordingStore, n_changes: int) -> None:
    meddling = HookedStore(store)
    array = zarrdock.open_array(meddling)
    writer = zarrdock.open_array(store.store, "r+")
    n = 0

    def act(_: Event) -> None:
        nonlocal n
        n += 1
        if n <= n_changes:
            writer[:64] = volume(n)

    meddling.after = act
    found = array[3]
    meddling.after = None
    assert any(np.array_equal(found, volume(i)[3]) for i in range(n + 1))


def test_an_object_that_is_deleted_between_the_rounds(store: RecordingStore) -> None:
    meddling = HookedStore(store)
    array = zarrdock.open_array(meddling)
    array[3]
    meddling.after = lambda _: store.store.delete_prefix("c")
    found = array[3]
    assert np.array_equal(found, volume()[3]) or not found.any()


DAMAGE: dict[str, Callable[[bytearray], Any]] = {
    "nothing": lambda data: data.clear(),
    "header cut off": lambda data: data.__delitem__(slice(9, None)),
    "table cut off": lambda data: data.__delitem__(slice(40, None)),
    "blocks cut off": lambda data: data.__delitem__(slice(len(data) - 9, None)),
    "first block cut off": lambda data: data.__delitem__(slice(100, None)),
    "version": lambda data: data.__setitem__(0, 9),
    "content": lambda data: struct.pack_into("<I", data, 4, 2**31 - 17),
    "blocks of no bytes": lambda data: struct.pack_into("<I", data, 8, 0),
    "blocks larger than the chunk": lambda data: struct.pack_into("<I", data, 8, 2**31),
    "length": lambda data: struct.pack_into("<I", data, 12, 2**31 - 1),
    "start before the blocks": lambda data: struct.pack_into("<I", data, 16 + 7 * 4, 3),
    "start behind the end": lambda data: struct.pack_into("<I", data, 16 + 7 * 4, 2**31 - 1),
    "block": lambda data: struct.pack_into("<I", data, struct.unpack_from("<I", data, 16 + 7 * 4)[0], 2**30),
    "compressor": lambda data: data.__setitem__(2, data[2] | 0xE0),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage(what: str) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=volume(), chunks=SHAPE, compressors=blosc())
    blob = store.get("c/0/0/0")
    assert blob is not None
    data = bytearray(blob.data)
    DAMAGE[what](data)
    store.write("c/0/0/0", bytes(data))
    for selection in (np.s_[63], np.s_[63, 127, 63]):
        tracemalloc.start()
        with pytest.raises(CodecError, match="c/0/0/0"):
            array[selection]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * volume().nbytes


@pytest.mark.parametrize("shards", [None, SHAPE])
def test_plans_of_empty_objects_fail_as_reads_do(shards: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=volume(), chunks=SHAPE, shards=shards, compressors=blosc())
    store.write("c/0/0/0", b"")
    with pytest.raises(CodecError) as of_read:
        array[63]
    with pytest.raises(CodecError, match="c/0/0/0") as of_plan:
        array.plan(np.s_[63])
    assert (type(of_plan.value), str(of_plan.value)) == (type(of_read.value), str(of_read.value))


def test_damage_in_a_shard(store: RecordingStore) -> None:
    (key,) = (entry.key for entry in store.list("c"))
    blob = store.get(key)
    assert blob is not None
    data = bytearray(blob.data)
    begin = 0 if opened(store).shards is None else 2 * 16 + 4  # behind the index
    at = begin + struct.unpack_from("<I", data, begin + 16 + 7 * 4)[0]
    struct.pack_into("<I", data, at, 2**30)
    store.write(key, bytes(data))
    array = zarrdock.open_array(store)
    with pytest.raises(CodecError) as caught:
        array[63]
    assert caught.value.key == key
    assert caught.value.chunk == (None if array.shards is None else (0, 0, 0))
    np.testing.assert_array_equal(array[5], volume()[5])  # that block is sound


FUZZ = """
import random, numpy as np
from numcodecs.blosc import compress
from zarrdock.codecs.blosc_frame import BoundExcerpt, parse
from zarrdock.errors import CodecError

rng = random.Random(int(__import__("sys").argv[1]))
values = (np.arange(20_003, dtype="u4") // 5).tobytes()
kinds = [(0, 4096), (1, 16384), (2, 8192)]
frames = [compress(values, c, 5, s, b, 4) for c in (b"lz4", b"zstd", b"blosclz", b"zlib") for s, b in kinds]
good = bad = 0
for i in range(3000):
    data = bytearray(rng.choice(frames))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(rng.choice((16, 100, len(data))))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    frame = parse(bytes(data), len(values), len(data), 2 * len(data))
    if frame is None or frame.starts is None:
        bad += 1
        continue
    first = rng.randrange(len(frame.starts))
    stop = rng.randrange(first, len(frame.starts)) + 1
    places = zip(frame.starts[first:stop].tolist(), frame.lengths[first:stop].tolist())
    blocks = [bytes(data[a : a + n]) for a, n in places]
    n = min(stop * frame.blocksize, frame.nbytes) - first * frame.blocksize
    a = rng.randrange(n)
    try:
        assert len(BoundExcerpt(n, a, n).decode(frame.excerpt(first, blocks))) == n - a
        good += 1
    except CodecError:
        bad += 1
print(good, bad)
"""


@pytest.mark.slow  # a process of its own: memory that was written beside a buffer ends it
def test_damage_writes_nothing_beside_its_buffers() -> None:
    environment = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", FUZZ, "7"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    good, bad = map(int, done.stdout.split())
    assert good > 100
    assert bad > 100
