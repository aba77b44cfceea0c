"""Places of their own for all chunks of a shard: nothing moves, nothing is left behind, any reader reads it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings

import zarrdock
from zarrdock.array.planning.index_cache import ROOT
from zarrdock.checking import check
from zarrdock.codecs.base import BytesBytesCodec, ByteSpec
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.conditional import Conditional
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import ReadOnlyError, UnsupportedError
from zarrdock.holes import BLOCK, is_hole, split_holes, zeros
from zarrdock.layouts.indexes import layout_of, read_indexes, stored_objects
from zarrdock.layouts.relayout import relayout
from zarrdock.layouts.survey import survey
from zarrdock.repairing import repair
from zarrdock.stores.local_io import writev_all

SHAPE = (64, 96)
NESTED = [(64, 96), (16, 24)]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "checksums": {"compressors": None, "checksums": True},
    "zstd": {},
    "blosc start": {"compressors": ["blosc"], "index_location": "start"},
    "conditional": {"compressors": [Conditional((Zstd(),))]},
    "conditional hilbert": {"compressors": [Conditional((Zstd(),))], "subchunk_write_order": "hilbert"},
    "unordered": {"subchunk_write_order": "unordered"},
    "aligned": {"chunk_alignment": 64},
    "aligned start": {"chunk_alignment": 64, "index_location": "start"},
    "nested": {"shards": NESTED},
    "nested start": {"shards": NESTED, "index_location": "start", "checksums": True},
    "nested aligned": {"shards": NESTED, "chunk_alignment": 32, "subchunk_write_order": ("morton", "colexicographic")},
}
WRITER = ("subchunk_write_order", "chunk_alignment")


def create(store: Any, kind: str, **arguments: Any) -> zarrdock.Array:
    settings = {"chunks": (8, 8), "shards": SHAPE, "in_place": True, "fixed_slots": True, **KINDS[kind], **arguments}
    return zarrdock.create_array(store, shape=SHAPE, dtype="u2", **settings)


def reopened(store: Any, kind: str, **arguments: Any) -> zarrdock.Array:
    same = {name: value for name, value in KINDS[kind].items() if name in WRITER}
    return zarrdock.open_array(store, "r+", **{**same, **arguments})


def their_spec(root: Path) -> dict[str, Any]:
    """Of an array, for TensorStore."""
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{root}/"}}


def noise(shape: tuple[int, ...], bits: int = 16, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(1, 2**bits, shape).astype("u2")


def places(array: zarrdock.Array) -> dict[tuple[int, ...], int]:
    """First byte of every chunk and inner shard in the object."""
    found: dict[tuple[int, ...], int] = {}
    layout = layout_of(array.metadata, "")
    for one in read_indexes(array.store, layout, stored_objects(array.store, "", array.metadata)):
        for (depth, start), index in one.indexes.items():
            base = 0 if (depth, start) == ROOT else start
            for flat in np.flatnonzero(index.offsets >= 0).tolist():
                found[depth, base, flat] = base + int(index.offsets[flat])
    return found


BOXES = st.lists(
    st.tuples(st.integers(0, 63), st.integers(1, 40), st.integers(0, 95), st.integers(1, 40), st.integers(0, 16)),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), in_place=st.booleans(), boxes=BOXES)
def test_nothing_ever_moves(kind: str, in_place: bool, boxes: Any, tmp_path_factory: Any) -> None:
    """Compressed or not, filled or empty: every chunk is where it was, and the object is as long as it was."""
    root = tmp_path_factory.mktemp("slots")
    array = create(root, kind, in_place=in_place)
    expected = np.zeros(SHAPE, "u2")
    array[5, 5] = expected[5, 5] = 1
    size = array.store.size("c/0/0")
    seen: dict[tuple[int, ...], int] = {}
    for i, (y, height, x, width, bits) in enumerate(boxes):
        box = np.s_[y : y + height, x : x + width]
        array[box] = expected[box] = np.random.default_rng(i).integers(0, 2**bits, expected[box].shape)
        assert np.array_equal(zarrdock.open_array(root)[...], expected)
        now = places(array)
        assert all(seen.setdefault(name, at) == at for name, at in now.items())
        assert array.store.size("c/0/0") == (size if expected.any() else None)
        used = survey(array.store, "", array.metadata).usage
        assert (used.garbage, used.padding) == (0, 0)
        assert used.total == (array.store.size("c/0/0") or 0)
    array[...] = 0
    assert array.store.size("c/0/0") is None


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    steps=st.lists(st.tuples(st.integers(0, 5), BOXES.filter(bool).map(lambda boxes: boxes[0])), max_size=8),
)
def test_writers_of_all_kinds_take_turns(kind: str, steps: Any, tmp_path_factory: Any) -> None:
    """Some know of the places and some do not: the shard is right after each of them."""
    root = tmp_path_factory.mktemp("slots")
    create(root, kind)
    expected = np.zeros(SHAPE, "u2")
    writers: list[Any] = [
        reopened(root, kind, fixed_slots=True, in_place=True),
        reopened(root, kind, fixed_slots=True),
        reopened(root, kind, in_place=True),
        zarrdock.open_array(root, "r+", subchunk_write_order="morton"),
        zarrdock.open_array(root, "r+", subchunk_write_order="colexicographic", fixed_slots=True, in_place=True),
    ]
    if "conditional" not in kind:  # which nobody else knows
        writers.append(tensorstore.open(their_spec(root), open=True).result())
    for i, (who, (y, height, x, width, bits)) in enumerate(steps):
        box = np.s_[y : min(y + height, 64), x : min(x + width, 96)]
        expected[box] = np.random.default_rng(i).integers(0, 2**bits, expected[box].shape)
        writers[who % len(writers)][box] = expected[box]
        assert np.array_equal(zarrdock.open_array(root)[...], expected)
        assert not check(root).problems


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_other_readers_read_it(tmp_path: Path, kind: str) -> None:
    array = create(tmp_path / "a", kind)
    expected = np.zeros(SHAPE, "u2")
    array[10:50, 20:70] = expected[10:50, 20:70] = noise((40, 50))
    array[12:20, 20:60] = expected[12:20, 20:60] = 3
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)
    if "conditional" not in kind:  # which none of them knows
        assert np.array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[...], expected)
        assert np.array_equal(
            tensorstore.open(their_spec(tmp_path / "a"), open=True).result().read().result(), expected
        )


def test_what_is_written_is_the_chunk_and_the_index(tmp_path: Path) -> None:
    """Whether the chunk was there before or not, and whatever becomes of its length."""
    store = zarrdock.RecordingStore(zarrdock.LocalStore(tmp_path / "a"))
    array = create(store, "zstd")
    array[0, 0] = 1
    n_index = 16 * 96 + 4
    for values in (noise((8, 8)), 5, noise((8, 8), seed=1), 0, noise((8, 8))):
        store.reset()
        array[16:24, 32:40] = values
        assert n_index <= store.bytes_written <= n_index + 160
    plain = create(store, "plain", name="plain")
    plain[...] = noise(SHAPE)
    store.reset()
    plain[16:24, 32:40] = 7
    assert store.bytes_written == 128
    nested = create(store, "nested", name="nested")
    nested[0, 0] = 1
    store.reset()
    nested[40, 60] = 1  # in an inner shard that was not there
    assert 16 * 16 + 4 + 16 * 6 + 4 < store.bytes_written < 16 * 16 + 4 + 16 * 6 + 4 + 64


def sparse(folder: Path) -> bool:
    with (folder / "hole").open("wb") as file:
        file.truncate(2**20)
    return (folder / "hole").stat().st_blocks * 512 < 2**19


@pytest.mark.parametrize("shards", [(1024, 1024), [(1024, 1024), (512, 512)]])
def test_holes_take_no_room_on_the_disk(tmp_path: Path, shards: Any) -> None:
    assert sparse(tmp_path) or sys.platform != "linux"
    array = zarrdock.create_array(
        tmp_path / "a",
        shape=(1024, 1024),
        dtype="u2",
        chunks=(256, 256),
        shards=shards,
        fixed_slots=True,
        in_place=True,
    )
    file = tmp_path / "a" / "c" / "0" / "0"
    array[...] = expected = (np.arange(2**20, dtype="u2") >> 7).reshape(1024, 1024)
    assert file.stat().st_size > 2**21
    assert file.stat().st_blocks * 512 < 2**19 or not sparse(tmp_path)
    array[70:80, 3:500] = expected[70:80, 3:500] = 9
    assert file.stat().st_blocks * 512 < 2**19 + 2**15 or not sparse(tmp_path)
    whole = zarrdock.open_array(tmp_path / "a", "r+", fixed_slots=True)
    whole[90, 3:500] = expected[90, 3:500] = 10
    assert file.stat().st_blocks * 512 < 2**19 + 2**15 or not sparse(tmp_path)
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)
    memory = zarrdock.MemoryStore()
    zarrdock.create_array(
        memory, data=expected, chunks=(256, 256), shards=shards, fixed_slots=True
    )  # zeros where there are no holes
    assert memory.size("c/0/0") == file.stat().st_size


def test_places_are_given_and_taken_back(tmp_path: Path) -> None:
    expected = noise(SHAPE, 6)
    array = zarrdock.create_array(tmp_path / "a", data=expected, chunks=(8, 8), shards=[(32, 48), (16, 24)])
    size = array.nbytes_stored()
    done = relayout(tmp_path / "a", fixed_slots=True)
    assert (done.n_objects, done.n_rewritten) == (4, 4)
    assert relayout(tmp_path / "a", fixed_slots=True).n_rewritten == 0
    used = survey(array.store, "", array.metadata).usage
    assert used.room == -done.n_bytes_saved > 0
    assert repair(tmp_path / "a") == []
    writer = zarrdock.open_array(tmp_path / "a", "r+", fixed_slots=True, in_place=True)
    writer[3:30, 5:9] = expected[3:30, 5:9] = 0
    assert np.array_equal(array[...], expected)
    assert relayout(tmp_path / "a").n_rewritten == 4
    assert array.nbytes_stored() <= size
    assert np.array_equal(array[...], expected)


@pytest.mark.parametrize("compressors", [["gzip"], [Conditional((Gzip(),), decision="always")]])
def test_codecs_without_a_bound_are_refused(compressors: Any) -> None:
    store = zarrdock.MemoryStore()
    with pytest.raises(UnsupportedError, match="fixed_slots: nobody knows how long"):
        zarrdock.create_array(
            store, shape=SHAPE, dtype="u2", chunks=(8, 8), shards=SHAPE, compressors=compressors, fixed_slots=True
        )
    assert list(store.list()) == []
    with pytest.raises(UnsupportedError, match="fixed_slots"):
        zarrdock.create_array(store, name="t", shape=4, dtype=str, chunks=2, shards=4, fixed_slots=True)


def test_only_writers_need_a_bound() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    group.create_array("x/gzip", data=noise(SHAPE), chunks=(8, 8), shards=SHAPE, compressors=["gzip"])
    group.create_array("x/zstd", data=noise(SHAPE), chunks=(8, 8), shards=SHAPE)
    settings: dict[str, Any] = {"fixed_slots": True, "chunk_alignment": 2**20}
    for array in (
        zarrdock.open_array(store, "r", path="x/gzip", **settings),
        zarrdock.open_group(store, "r", **settings)["x/gzip"],
        zarrdock.open(zarrdock.ReadOnlyStore(store), "r+", path="x/gzip", **settings),
    ):
        assert isinstance(array, zarrdock.Array)
        assert np.array_equal(array[...], noise(SHAPE))
        with pytest.raises(ReadOnlyError):
            array[3] = 1
    with pytest.raises(UnsupportedError, match=r"^/x/gzip: fixed_slots: .*'gzip'; .*; leave fixed_slots out$"):
        zarrdock.open_array(store, "r+", path="x/gzip", fixed_slots=True)
    writers = zarrdock.open_group(store, "r+", fixed_slots=True)
    with pytest.raises(UnsupportedError, match=r"^/x/gzip: fixed_slots"):
        writers["x/gzip"]
    assert np.array_equal(writers["x/zstd"][...], noise(SHAPE))  # type: ignore[index,arg-type]


@settings(max_examples=60, deadline=None)
@given(
    codec=st.sampled_from(
        [
            Zstd(1),
            Zstd(-5, checksum=True),
            Zstd(19),
            *(Blosc(c, shuffle="shuffle", typesize=2) for c in ("lz4", "zstd")),
        ]
    ),
    n=st.one_of(st.integers(0, 70), st.integers(0, 300_000)),
    seed=st.integers(0, 99),
)
def test_bounds_are_bounds(codec: BytesBytesCodec, n: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(n)
    bound = codec.bind(ByteSpec(n, n))
    assert len(bound.encode(data)) <= (bound.longest(n) or 0)
    both = Conditional((codec,)).bind(ByteSpec(n, n))
    assert len(both.encode(data)) <= (both.longest(n) or 0) == n + 1
    assert Crc32c().bind(both.encoded).longest(n + 1) == n + 5


def test_chunks_of_others_that_are_too_long_for_their_places(tmp_path: Path) -> None:
    """Written by a decision that grows chunks: the shard is then packed, and right."""
    array = create(tmp_path / "a", "conditional", compressors=[Conditional((Zstd(), Blosc()))])
    expected = noise(SHAPE)
    from zarrdock.codecs.conditional import with_decision

    store = zarrdock.LocalStore(tmp_path / "a")
    metadata = array.metadata.replace(codecs=with_decision(array.metadata.codecs, "always"))
    zarrdock.Array(store, "", metadata)[...] = expected
    array[3:30, 5:9] = expected[3:30, 5:9] = noise((27, 4), seed=3)
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)
    array[...] = expected
    assert survey(store, "", array.metadata).usage.room == 0  # each fills its place
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)


# -- safety -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["clone", "write_pieces", "rename_to"])
def test_a_writer_that_is_killed_leaves_the_old_values(tmp_path: Path, step: str) -> None:
    array = create(tmp_path / "a", "zstd")
    expected = noise(SHAPE)
    expected[8:16, :48] = 0
    array[...] = expected
    before = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
    code = (
        "import os, signal, sys, zarrdock\n"
        "from zarrdock.stores import local, local_lock\n"
        "where = local_lock.Held if sys.argv[2] == 'rename_to' else local\n"
        "setattr(where, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "zarrdock.open_array(sys.argv[1], 'r+', in_place=True, fixed_slots=True)[8:30, 8:30] = 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a"), step], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a" / "c" / "0" / "0").read_bytes() == before
    array[8:30, 8:30] = expected[8:30, 8:30] = 3
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)
    assert list(zarrdock.LocalStore(tmp_path / "a").stale_files()) == []


def test_writers_lose_nothing(tmp_path: Path) -> None:
    create(tmp_path / "a", "nested")
    expected = np.zeros(SHAPE, "u2")

    def write(n: int) -> None:
        own = reopened(tmp_path / "a", "nested", in_place=n % 3 > 0, fixed_slots=n % 2 > 0)
        for i in range(12):
            own[8 * n : 8 * n + 8, 8 * i : 8 * i + 5] = 100 * n + i

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(6):
        for i in range(12):
            expected[8 * n : 8 * n + 8, 8 * i : 8 * i + 5] = 100 * n + i
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)


# -- zeros ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 100, BLOCK - 1, BLOCK, 3 * BLOCK + 5])), max_size=8)
)
def test_holes_are_zeros(parts: Any, tmp_path_factory: Any) -> None:
    data = b"".join(bytes(n) if empty else b"x" * n for empty, n in parts)
    found = [*split_holes(data)]
    assert b"".join(found) == data
    assert all(not any(part) for part in found if is_hole(part))
    path = tmp_path_factory.mktemp("holes") / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    writev_all(fd, [piece for empty, n in parts for piece in (zeros(n) if empty else [b"x" * n])])
    os.close(fd)
    assert path.read_bytes() == data
    assert sum(map(len, zeros(5 * 2**20 + 3))) == 5 * 2**20 + 3
