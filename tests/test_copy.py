"""Copies equal their source, whatever the layouts; they are resumable, and never mistaken for finished ones."""

import json
import signal
import subprocess
import sys
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrdock
from zarrdock.array.group import Group
from zarrdock.array.planning.overlap import Division, touched
from zarrdock.copying import CopyProgress
from zarrdock.copying.blocks import choose_blocks
from zarrdock.copying.npy import Npy
from zarrdock.copying.progress import MARK
from zarrdock.copying.recognise import locate
from zarrdock.errors import (
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    ReadOnlyError,
    StoreError,
    UnknownExtensionError,
    UnsupportedError,
)
from zarrdock.testing import FaultyStore, RecordingStore, StoreFault

DATA = np.random.default_rng(0).integers(0, 1000, (30, 40, 20)).astype("uint16")


def values(shape: tuple[int, ...], dtype: str = "int32") -> np.ndarray[Any, Any]:
    return np.arange(1, np.prod(shape, dtype=int) + 1).reshape(shape).astype(dtype)


def keys(store: zarrdock.Store) -> set[str]:
    return {entry.key for entry in store.list()}


# -- layouts ----------------------------------------------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    chunks = tuple(draw(st.integers(1, max(1, n))) for n in shape)
    layout: dict[str, Any] = {"chunks": chunks}
    if draw(st.booleans()):
        shards = tuple(c * draw(st.integers(1, 3)) for c in chunks)
        layout["shards"] = shards
        if draw(st.booleans()):
            layout["shards"] = [tuple(2 * n for n in shards), shards]
    layout["compressors"] = draw(st.sampled_from([None, "zstd", "gzip", {"name": "crc32c"}]))
    return layout


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], dict[str, Any], dict[str, Any], int]:
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=0, max_size=3)))
    dtype = draw(st.sampled_from(["uint8", "int32", "float64", "complex64", "bool"]))
    data = values(shape, dtype)
    if data.size and draw(st.booleans()):  # most of it is not stored at all
        data = np.where(np.random.default_rng(1).random(shape) < 0.05, data, np.zeros((), dtype)).astype(dtype)
    # From "one element at a time" to "all at once".
    memory = draw(st.sampled_from([1, 64, 400, 2000, 2**29]))
    return data, draw(layouts(shape)), draw(layouts(shape)), memory


@given(case=cases())
@settings(max_examples=150)
def test_a_copy_equals_its_source_whatever_the_layouts(
    case: tuple[np.ndarray[Any, Any], dict[str, Any], dict[str, Any], int],
) -> None:
    data, old, new, memory = case
    source = zarrdock.create_array(None, data=data, **old)
    new.setdefault("shards", None)
    copied = zarrdock.copy(source, None, **new, memory_bytes=memory)
    assert isinstance(copied, zarrdock.Array)
    assert copied.dtype == data.dtype
    np.testing.assert_array_equal(copied[...], data)
    again = zarrdock.create_array(None, data=data, **new)
    assert copied.metadata == again.metadata
    assert keys(copied.store) == keys(again.store), "nothing is stored that a direct write would not store"


@given(case=cases(), fortran=st.booleans())
@settings(max_examples=60)
def test_npy_files_are_read_as_numpy_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[np.ndarray[Any, Any], dict[str, Any], dict[str, Any], int],
    fortran: bool,
) -> None:
    data, _, new, memory = case
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    np.save(path, np.array(data, order="F" if fortran else "C"))
    copied = zarrdock.copy(path, None, **new, memory_bytes=memory)
    np.testing.assert_array_equal(copied[...], np.load(path))


@given(
    shape=st.lists(st.integers(1, 200), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 2**32),
    budget=st.sampled_from([1, 100, 10_000, 10**6]),
)
def test_blocks_cover_the_array_once_and_fit_the_budget(shape: tuple[int, ...], seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    leaves = tuple(int(rng.integers(1, n + 1)) for n in shape)
    objects = tuple(int(n * rng.integers(1, 4)) for n in leaves)
    grain = tuple(int(rng.integers(1, n + 1)) for n in shape)
    blocks = choose_blocks(shape, objects, leaves, grain, 2, budget)
    assert all(block % n == 0 for block, n in zip(blocks.block, objects, strict=True))
    assert all(slab % n == 0 for slab, n in zip(blocks.slab, leaves, strict=True) if slab not in blocks.block)
    # Where even one chunk is larger than the budget, one chunk it is.
    assert blocks.slab_nbytes <= max(budget, 2 * int(np.prod(leaves)))
    covered = sum(
        int(np.prod([part.stop - part.start for part in slab]))
        for number in range(min(int(np.prod(blocks.grid)), 50))
        for slab in blocks.slabs(blocks.region(number))
    )
    if np.prod(blocks.grid) <= 50:
        assert covered == np.prod(shape)


def test_blocks_grow_along_the_axes_that_the_source_reads_as_a_whole() -> None:
    # Planes in, cubes out: whole planes are read once if memory allows.
    blocks = choose_blocks((64, 512, 512), (64, 64, 64), (32, 32, 32), (1, 512, 512), 2, 64 * 2**20)
    assert blocks.block == (64, 512, 512)
    assert choose_blocks((64, 512, 512), (64, 64, 64), (32, 32, 32), (1, 512, 512), 2, 2**20).block == (64, 64, 128)


def test_touched_blocks_are_those_that_chunks_overlap() -> None:
    rng = np.random.default_rng(5)
    shape, chunk = (50, 37), (7, 4)
    for _ in range(20):
        blocks = choose_blocks(shape, (int(rng.integers(1, 20)), int(rng.integers(1, 20))), (1, 1), chunk, 1, 1000)
        n = tuple(-(-a // b) for a, b in zip(shape, chunk, strict=True))
        chosen = np.stack([rng.integers(0, n[0], 5), rng.integers(0, n[1], 5)], axis=1)
        mask = np.zeros(shape, bool)
        for a, b in chosen:
            mask[a * 7 : (a + 1) * 7, b * 4 : (b + 1) * 4] = True
        expected = [i for i in range(int(np.prod(blocks.grid))) if mask[blocks.region(i)].any()]
        assert (
            list(touched([chosen[:2], chosen[2:]], Division(shape, chunk, (None, None)), blocks.division)) == expected
        )


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_all_that_metadata_says_is_kept_and_objects_are_the_same_bytes() -> None:
    nan = np.array([0x7FF8DEADBEEF0001], "uint64").view("float64")[0]
    source = zarrdock.create_array(
        None,
        name="a/b",
        shape=(10, 12),
        dtype="float64",
        chunks=(2, 3),
        shards={"shape": (4, 6), "index_location": "start"},
        fill_value=nan,
        attributes={"unit": "mm"},
        dimension_names=("y", None),
        compressors=["gzip", {"name": "crc32c"}],
    )
    source[3:9, 2:7] = 4.5
    copied = zarrdock.copy(source, None)
    assert copied.metadata == source.metadata
    for entry in source.store.list("a/b"):
        old, new = source.store.get(entry.key), copied.store.get(entry.key.removeprefix("a/b/"))
        assert old is not None
        assert new is not None
        assert bytes(old.data) == bytes(new.data)


def test_a_copy_within_a_store_goes_to_another_path() -> None:
    source = zarrdock.create_array(None, name="a", data=DATA, chunks=(10, 10, 10))
    copied = zarrdock.copy(source, source.store, dst_path="b/c", shards=(20, 20, 20))
    assert copied.path == "b/c"
    np.testing.assert_array_equal(copied[...], DATA)
    assert keys(source.store) == {k for k in keys(source.store) if k.startswith(("a/", "b/c/"))}
    third = zarrdock.copy(source.store, None, src_path="b/c")
    np.testing.assert_array_equal(third[...], DATA)


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "|u1", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}, {"id": "blosc", "cname": "lz4"}])
def test_v2_to_v3_and_back(dtype: str, order: Any, compressor: Any) -> None:
    data = DATA.astype(dtype)
    source = zarrdock.create_array(
        None,
        data=data,
        chunks=(7, 9, 20),
        zarr_format=2,
        order=order,
        compressors=compressor,
        fill_value=7,
        attributes={"_ARRAY_DIMENSIONS": ["z", "y", "x"], "a": 1},
    )
    three = zarrdock.copy(source, None, zarr_format=3)
    assert three.zarr_format == 3
    assert three.dimension_names == ("z", "y", "x")
    assert dict(three.attrs) == {"a": 1}
    assert three.fill_value == 7
    np.testing.assert_array_equal(three[...], data)
    two = zarrdock.copy(three, None, zarr_format=2)
    assert two.zarr_format == 2
    assert two.dimension_names == ("z", "y", "x")
    np.testing.assert_array_equal(two[...], data)
    if compressor is None:
        assert two.dtype == source.dtype
    sharded = zarrdock.copy(source, None, zarr_format=3, shards=(14, 18, 20), compressors="zstd")
    np.testing.assert_array_equal(sharded[...], data)


def test_v3_with_shards_to_v2_has_the_chunks() -> None:
    source = zarrdock.create_array(None, data=DATA, chunks=(10, 10, 10), shards=(20, 20, 20))
    two = zarrdock.copy(source, None, zarr_format=2)
    assert (two.chunks, two.shards) == ((10, 10, 10), None)
    np.testing.assert_array_equal(two[...], DATA)


def test_a_hierarchy_with_everything_in_it() -> None:
    source = zarrdock.create_group(None, attributes={"title": "all"})
    source.create_array("x", data=np.arange(20.0), chunks=(5,))
    inner = source.create_group("in/side", attributes={"n": 1})
    inner.create_array("volume", data=DATA, chunks=(10, 10, 10), dimension_names=("a", "b", "c"))
    source.create_group("empty")
    seen: list[CopyProgress] = []
    copied = zarrdock.copy(source, None, chunks=(5, 5, 5), shards=(10, 20, 20), progress=seen.append)
    assert isinstance(copied, Group)
    assert dict(copied.attrs) == {"title": "all"}
    assert sorted(copied) == ["empty", "in", "x"]
    assert copied["x"].chunks == (5,), "shapes of other dimensions are not for this array"
    volume = copied["in/side/volume"]
    assert (volume.chunks, volume.shards) == ((5, 5, 5), (10, 20, 20))
    assert volume.dimension_names == ("a", "b", "c")
    np.testing.assert_array_equal(volume[...], DATA)
    np.testing.assert_array_equal(copied["x"][...], np.arange(20.0))
    assert seen[-1].nbytes == seen[-1].nbytes_total == DATA.nbytes + 160
    assert seen[-1].n_objects == sum(1 for k in keys(copied.store) if "/c/" in k)
    assert [p.nbytes for p in seen] == sorted(p.nbytes for p in seen)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("target", [2, 3])
def test_consolidated_metadata_is_made_anew_where_the_source_had_it(zarr_format: Any, target: Any) -> None:
    source = zarrdock.create_group(None, zarr_format=zarr_format, attributes={"a": 1})
    source.create_array("g/x", data=DATA, chunks=(10, 10, 10))
    assert zarrdock.open_group(zarrdock.copy(source, None).store).metadata.consolidated is None
    source.consolidate()
    source.create_array("late", data=np.arange(3))  # consolidated metadata does not know it, the copy must
    store = zarrdock.copy(source.store, None, zarr_format=target, compressors="gzip").store
    copied = zarrdock.open_group(store)
    assert copied.zarr_format == target
    assert copied.metadata.consolidated is not None
    assert set(copied.metadata.consolidated) == {"g", "g/x", "late"}
    np.testing.assert_array_equal(copied["g/x"][...], DATA)
    np.testing.assert_array_equal(copied["late"][...], np.arange(3))


def test_arrays_that_nobody_here_understands_are_copied_as_they_are() -> None:
    source = zarrdock.create_array(None, data=DATA, chunks=(10, 10, 10))
    document = json.loads(bytes(source.store.get("zarr.json").data))  # type: ignore[union-attr]
    document["codecs"].append({"name": "example.mystery", "configuration": {"a": [1]}})
    source.store.write("zarr.json", json.dumps(document).encode())
    store = zarrdock.MemoryStore()
    with pytest.raises(UnknownExtensionError):
        zarrdock.copy(source.store, store, chunks=(5, 5, 5))
    assert keys(store) == set()
    with pytest.raises(UnknownExtensionError):  # the copy is complete, but cannot be opened here
        zarrdock.copy(source.store, store)
    assert keys(store) == keys(source.store)
    assert json.loads(bytes(store.get("zarr.json").data))["codecs"] == document["codecs"]  # type: ignore[union-attr]


def test_what_is_no_array_of_zarr_gets_chunks_and_shards() -> None:
    big = np.zeros((300, 300, 50), "float32")
    copied = zarrdock.copy(big, None)
    assert copied.shards is not None
    assert copied.nchunks > 1
    assert zarrdock.copy(np.arange(10), None).shards is None, "one chunk needs no shard"
    assert zarrdock.copy(DATA, None, chunks=10, shards=20).shards == (20, 20, 20)
    assert zarrdock.copy(DATA, None, zarr_format=2).zarr_format == 2


@pytest.mark.parametrize("order", ["morton", "hilbert", "colexicographic"])
def test_the_order_in_shards_is_as_asked_for(order: Any) -> None:
    source = zarrdock.create_array(None, data=DATA, chunks=(10, 10, 10), shards=(20, 20, 20))
    direct = zarrdock.create_array(
        None, data=DATA, chunks=(10, 10, 10), shards=(20, 20, 20), options={"subchunk_write_order": order}
    )
    copied = zarrdock.copy(source, None, options={"subchunk_write_order": order})
    for key in keys(direct.store):
        assert bytes(direct.store.get(key).data) == bytes(copied.store.get(key).data)  # type: ignore[union-attr]


# -- few reads --------------------------------------------------------------------------------------------------------


def test_what_is_not_stored_is_not_looked_at() -> None:
    recorder = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=1000)
    source = zarrdock.create_array(recorder, shape=(10**6, 10**6), dtype="u1", chunks=(1000, 1000))
    source[5000:5010, 7000:7010] = 3
    source[-1, -1] = 4
    recorder.reset()
    copied = zarrdock.copy(source, None, chunks=(500, 500), shards=(2000, 2000))
    assert recorder.n_requests == 3, "the metadata, and two chunks of a million"
    assert copied[5005, 7005] == 3
    assert copied[-1, -1] == 4
    assert len(keys(copied.store)) == 3


def test_leftovers_outside_of_the_array_are_left_behind() -> None:
    source = zarrdock.create_array(None, data=DATA, chunks=(10, 10, 10))
    source.store.write("c/99/0/0", b"of a larger array")
    source.store.write("notes.txt", b"not Zarr")
    copied = zarrdock.copy(source, None)
    assert keys(copied.store) == keys(source.store) - {"c/99/0/0"}


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_overwritten_unless_asked_for(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "dst", data=np.arange(5), attributes={"old": 1})
    with pytest.raises(NodeExistsError, match="overwrite=True"):
        zarrdock.copy(DATA, tmp_path / "dst")
    assert dict(zarrdock.open_array(tmp_path / "dst").attrs) == {"old": 1}
    copied = zarrdock.copy(DATA, tmp_path / "dst", overwrite=True)
    np.testing.assert_array_equal(copied[...], DATA)
    assert not (tmp_path / "dst" / "c" / "1").exists()


def test_a_broken_node_can_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "zarr.json").write_text("{")
    with pytest.raises(NodeExistsError):
        zarrdock.copy(DATA, tmp_path / "dst")
    np.testing.assert_array_equal(zarrdock.copy(DATA, tmp_path / "dst", overwrite=True)[...], DATA)


def test_what_is_no_zarr_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(NodeExistsError, match="no Zarr"):
            zarrdock.copy(DATA, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_copy_into_itself_is_refused(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "g")
    group.create_array("x", data=DATA, chunks=(10, 10, 10))
    for src, dst in product(["g", "g/x"], repeat=2):
        with pytest.raises(UnsupportedError, match="overlap"):
            zarrdock.copy(tmp_path / src, tmp_path / dst, overwrite=True)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(group, zarrdock.PrefixStore(group.store, "x/y"))
    np.testing.assert_array_equal(group["x"][...], DATA)
    zarrdock.copy(tmp_path / "g", tmp_path / "g2")  # a longer name is another place


@pytest.mark.parametrize(
    "wish",
    [
        {"chunks": (7, 7, 7), "shards": (20, 20, 20)},
        {"shards": (15, 15, 15)},
        {"chunks": (10, 10)},
        {"chunks": "small"},
        {"compressors": "bytes"},
        {"compressors": {"name": "zstd", "configuration": {"level": 99}}},
        {"index_location": "middle"},
        {"zarr_format": 4},
        {"zarr_format": 2, "shards": (20, 20, 20)},
    ],
)
def test_wishes_that_cannot_be_are_refused_before_anything_is_written(wish: dict[str, Any]) -> None:
    source = zarrdock.create_array(None, data=DATA, chunks=(10, 10, 10))
    store = zarrdock.MemoryStore()
    with pytest.raises(MetadataError):
        zarrdock.copy(source, store, **wish)
    assert keys(store) == set()


def test_errors_of_either_end_are_typed(tmp_path: Path) -> None:
    with pytest.raises(NodeNotFoundError, match="does not exist"):
        zarrdock.copy(tmp_path / "nothing", None)
    with pytest.raises(NodeNotFoundError, match=r"nothing\.npy"):
        zarrdock.copy(tmp_path / "nothing.npy", None)
    with pytest.raises(ReadOnlyError):
        zarrdock.copy(DATA, zarrdock.ReadOnlyStore(zarrdock.MemoryStore()))
    with pytest.raises(UnsupportedError, match="always Zarr"):
        zarrdock.copy(DATA, tmp_path / "x.npy")


def npy_header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00\x40\x00" + text.ljust(64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .npy file"),
        (npy_header(b"")[:20] + b"{'descr': '<f8'}", "not a .npy file"),
        (b"\x93NUMPY\x09\x00\x10\x00" + bytes(16), "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(64), "header"),
        (npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}"), "cut short"),
        (npy_header(b"{'descr': 'x!', 'fortran_order': False, 'shape': (9,)}"), "not a .npy"),
        (npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-9,)}"), "not a .npy"),
        (npy_header(b"__import__('os').abort()"), "not a .npy"),
    ],
)
def test_bad_npy_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(MetadataError, match=message):
        zarrdock.copy(path, None)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UnsupportedError, match="Python objects"):
        zarrdock.copy(tmp_path / "x.npy", None)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_npy(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, DATA, version=version)
    np.testing.assert_array_equal(zarrdock.copy(tmp_path / "x.npy", None)[...], DATA)


def test_npy_behind_a_url(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://copy-test/x.npy", "wb") as file:
        np.save(file, DATA)
    try:
        copied = zarrdock.copy("memory://copy-test/x.npy", None, memory_bytes=2000)
        np.testing.assert_array_equal(copied[...], DATA)
    finally:
        fsspec.filesystem("memory").rm("/copy-test", recursive=True)
    np.save(tmp_path / "y.npy", DATA)
    opened = Npy.load(*locate(f"file://{tmp_path}/y.npy", None))
    assert (opened.shape, opened.dtype) == (DATA.shape, DATA.dtype)


def test_an_npy_file_is_read_in_few_and_long_reads(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((64, 64, 256), "u2"))
    recorder = zarrdock.RecordingStore(zarrdock.LocalStore(tmp_path))
    npy = Npy.load(recorder, "x.npy")
    recorder.reset()
    npy.read((slice(0, 64), slice(0, 64), slice(0, 256)), np.empty((64, 64, 256), "u2"))
    assert recorder.n_requests == 1
    recorder.reset()
    npy.read((slice(8, 16), slice(0, 64), slice(0, 256)), np.empty((8, 64, 256), "u2"))
    assert (recorder.n_requests, recorder.nbytes) == (1, 8 * 64 * 256 * 2)


# -- interruptions ----------------------------------------------------------------------------------------------------


def full_after(n: int, store: zarrdock.Store) -> FaultyStore:
    """A store whose disk is full after ``n`` writes."""
    return FaultyStore(store, [StoreFault("write", error=StoreError("the disk is full"), after=n, count=None)])


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("n", range(0, 14, 2))
def test_an_interrupted_copy_is_no_node_and_can_be_completed(n: int, raw: bool) -> None:
    source = zarrdock.create_group(None, attributes={"a": 1})
    source.create_array("x", data=DATA, chunks=(10, 10, 10))
    source.create_array("y", data=DATA + 1, chunks=(10, 20, 20))
    source.consolidate()
    wishes = {} if raw else {"compressors": "gzip"}
    store = zarrdock.MemoryStore()
    with pytest.raises(StoreError, match="disk is full"):
        zarrdock.copy(source, full_after(n, store), memory_bytes=20_000, **wishes)
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(store)
    if n:
        with pytest.raises(NodeExistsError, match="resume=True"):
            zarrdock.copy(source, store, **wishes)
        with pytest.raises(NodeExistsError, match="other settings"):
            zarrdock.copy(source, store, resume=True, chunks=(5, 5, 5))
        with pytest.raises(NodeExistsError, match="a numpy array"):
            zarrdock.copy(source, _marked_by_another_source(), resume=True)
    recorder = zarrdock.RecordingStore(store)
    seen: list[CopyProgress] = []
    copied = zarrdock.copy(source, recorder, resume=True, progress=seen.append, **wishes)
    assert isinstance(copied, Group)
    np.testing.assert_array_equal(copied["x"][...], DATA)
    np.testing.assert_array_equal(copied["y"][...], DATA + 1)
    assert MARK not in keys(store)
    assert keys(store) == keys(source.store)
    opened = zarrdock.open_group(store)
    assert opened.metadata.consolidated is not None
    assert seen[-1].nbytes == seen[-1].nbytes_total
    # The mark, and what came after it, is not written a second time.
    if raw:
        n_all = len(keys(store)) + 1
        assert recorder.n_writes <= n_all - max(0, n - 1) + 1


def _marked_by_another_source() -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    with pytest.raises(StoreError):
        zarrdock.copy(DATA, full_after(1, store))
    return store


def test_overwrite_begins_an_unfinished_copy_anew() -> None:
    store = _marked_by_another_source()
    copied = zarrdock.copy(np.arange(6), store, overwrite=True)
    np.testing.assert_array_equal(copied[...], np.arange(6))
    assert MARK not in keys(store)


def test_a_finished_copy_is_not_resumed() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.copy(DATA, store, resume=True)
    with pytest.raises(NodeExistsError):
        zarrdock.copy(DATA, store, resume=True)


def test_an_array_that_was_changed_meanwhile_is_not_taken_for_a_finished_one() -> None:
    source = zarrdock.create_group(None)
    source.create_array("x", data=DATA, chunks=(10, 10, 10))
    source.create_array("y", data=DATA, chunks=(10, 10, 10))
    store = zarrdock.MemoryStore()
    with pytest.raises(StoreError):
        zarrdock.copy(source, full_after(28, store))
    zarrdock.open_array(store, "r+", path="x").attrs["mine"] = 1
    with pytest.raises(NodeExistsError, match=r"x/zarr\.json"):
        zarrdock.copy(source, store, resume=True)


KILLED = """
import os, signal, sys
import zarrdock
from zarrdock.stores.local import LocalStore

class Deadly(LocalStore):
    n = 0
    def _put(self, *arguments):
        Deadly.n += 1
        if Deadly.n == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        super()._put(*arguments)

zarrdock.copy(sys.argv[1], Deadly(sys.argv[2]), chunks=(5, 5, 5), shards=(10, 20, 20), memory_bytes=30_000)
"""


@pytest.mark.parametrize("n", [1, 3, 6])
def test_killed_and_run_again(tmp_path: Path, n: int) -> None:
    np.save(tmp_path / "x.npy", DATA)
    src, dst = tmp_path / "x.npy", tmp_path / "x.zarr"
    done = subprocess.run([sys.executable, "-c", KILLED, str(src), str(dst), str(n)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(dst)
    seen: list[CopyProgress] = []
    copied = zarrdock.copy(src, dst, chunks=(5, 5, 5), shards=(10, 20, 20), resume=True, progress=seen.append)
    np.testing.assert_array_equal(copied[...], DATA)
    assert seen[-1].n_objects + seen[-1].n_kept == 6
    assert sorted(p.name for p in dst.iterdir() if not p.name.endswith("lock")) == ["c", "zarr.json"]


# -- memory -----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
import numpy as np
import zarrdock
from zarrdock.config import config
config.threads = 2
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
zarrdock.copy(sys.argv[1], sys.argv[2], memory_bytes=64 * 2**20, **eval(sys.argv[3]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak_mib(src: Path, dst: Path, **wishes: Any) -> int:
    command = [sys.executable, "-c", PEAK, str(src), str(dst), repr(wishes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_is_bounded_for_a_huge_sparse_array(tmp_path: Path) -> None:
    shape = (3200, 4000, 4000)  # 102 GB
    source = zarrdock.create_array(tmp_path / "src", shape=shape, dtype="u2", chunks=(64, 64, 64))
    corners = [tuple(int(c) for c in row) for row in np.random.default_rng(0).integers(0, 3100, (12, 3))]
    for i, (a, b, c) in enumerate(corners):
        source[a : a + 3, b : b + 3, c : c + 3] = i + 1
    assert peak_mib(tmp_path / "src", tmp_path / "dst", chunks=(32, 32, 32), shards=(128, 128, 128)) < 160
    copied = zarrdock.open_array(tmp_path / "dst")
    for i, (a, b, c) in enumerate(corners):
        assert copied[a + 1, b + 1, c + 1] == i + 1


@pytest.mark.rare
def test_memory_is_bounded_for_a_large_dense_array(tmp_path: Path) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, "u2")) | {"shape": (512, 512, 1024)}
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2**29)  # 512 MiB of zeros that take no room
    wishes = {"chunks": (64, 64, 64), "options": {"write_empty_chunks": True}}
    assert peak_mib(tmp_path / "x.npy", tmp_path / "a", shards=(128, 128, 128), **wishes) < 160
    # One object larger than what may be held: slab by slab.
    assert peak_mib(tmp_path / "x.npy", tmp_path / "b", shards=(512, 512, 1024), **wishes) < 160


@pytest.mark.parametrize("wish", [{"chunks": (20,)}, {"compressors": "gzip"}, {"shards": (1000,)}, {}])
def test_chunks_that_are_not_there_cost_nothing(wish: dict[str, Any]) -> None:
    """A million of them, three that are: of the others neither names nor requests are made."""
    source = zarrdock.create_array(zarrdock.MemoryStore(), shape=(10**7,), chunks=(10,), dtype="u1", compressors=None)
    source[5:25] = 7
    source[-3:] = 1
    recorded = RecordingStore(source.store)
    tracemalloc.start()
    copied = zarrdock.copy(recorded, None, **wish)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20
    assert recorded.n_requests < 40
    np.testing.assert_array_equal(copied[:40], source[:40])
    np.testing.assert_array_equal(copied[-40:], source[-40:])
