"""Repair: indexes rebuilt where it is proved what they were, room given back, everything else left as it is."""

import random
import time

import numpy as np
import pytest

import zarrdock
from zarrdock.array.planning.layout import Layout
from zarrdock.checking import check
from zarrdock.cli.main import run as run_command
from zarrdock.errors import CodecError, ReadOnlyError
from zarrdock.repairing import repair
from zarrdock.testing import RecordingStore

VALUES = np.arange(1, 257, dtype="i4").reshape(16, 16)
KINDS = {
    "zstd and checksums": {"checksums": True},
    "zstd": {},
    "not compressed": {"compressors": None},
    "index at the start": {"shards": {"shape": (16, 16), "index_location": "start"}, "checksums": True},
    "sparse": {"checksums": True, "sparse": True},
    "nested": {"shards": [(16, 16), (8, 8)], "checksums": True},
}


def make(kind: str) -> tuple[zarrdock.Array, bytes]:
    options = {"chunks": (4, 4), "shards": (16, 16), **KINDS[kind]}
    values = VALUES.copy()
    if options.pop("sparse", False):
        values[4:8, 8:] = values[12:, :4] = 0
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=values, **options)
    return array, stored(array)


def stored(array: zarrdock.Array) -> bytes:
    return bytes(array.store.get("c/0/0").data)


def index_of(array: zarrdock.Array, data: bytes) -> tuple[int, int]:
    n = Layout.of(array.metadata).levels[0].sharding.layout.nbytes
    return (0, n) if array.metadata.codecs[0].index_location == "start" else (len(data) - n, len(data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_index(kind: str) -> None:
    array, good = make(kind)
    assert repair(array.store) == []
    start, stop = index_of(array, good)
    rng = random.Random(kind)
    n_mended = 0
    left = []
    tried = range(start, stop) if kind != "nested" else range(start, stop, 3)
    for at in tried:
        broken = bytearray(good)
        broken[at] = (broken[at] + rng.randrange(1, 256)) % 256
        array.store.write("c/0/0", broken)
        done = repair(array.store)
        # As it was, or not touched: nothing in between.
        assert stored(array) == (good if done else bytes(broken))
        n_mended += len(done)
        left += [] if done else [at - start]
    # Without checksums of the chunks nobody can tell whether it is the index's own checksum that is wrong.
    is_sure = "checksums" in KINDS[kind]
    assert n_mended >= len(tried) - (0 if is_sure else 4), left


def test_several_damaged_entries() -> None:
    array, good = make("zstd and checksums")
    start, _ = index_of(array, good)
    for entries in ([0, 5], [3, 9, 15], [1, 6, 8, 11]):
        broken = bytearray(good)
        for i in entries:
            broken[start + 16 * i : start + 16 * i + 16] = random.Random(i).randbytes(16)
        array.store.write("c/0/0", broken)
        assert [one.key for one in repair(array.store)] == ["c/0/0"]
        assert stored(array) == good


@pytest.mark.parametrize("order", ["lexicographic", "colexicographic", "morton", "hilbert"])
def test_any_number_of_entries_where_chunks_lie_in_a_known_order(order: str) -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), data=VALUES, chunks=(4, 4), shards=(16, 16), options={"subchunk_write_order": order}
    )
    good = stored(array)
    start, _ = index_of(array, good)
    by_place = np.argsort(Layout.of(array.metadata).levels[0].sharding.split(good).offsets)
    broken = bytearray(good)
    for i in by_place[::2].tolist():  # every other one, so that none is next to another
        broken[start + 16 * i : start + 16 * i + 16] = random.Random(i).randbytes(16)
    array.store.write("c/0/0", broken)
    assert len(repair(array.store)) == 1
    assert stored(array) == good


@pytest.mark.parametrize("compressors", [None, "crc32c"])
def test_all_entries_of_chunks_of_one_length(compressors: str | None) -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(),
        data=VALUES,
        chunks=(4, 4),
        shards=(16, 16),
        compressors=None,
        checksums=compressors is not None,
    )
    good = stored(array)
    start, stop = index_of(array, good)
    array.store.write("c/0/0", good[:start] + random.Random(0).randbytes(stop - start - 4) + good[stop - 4 :])
    assert len(repair(array.store)) == 1
    assert stored(array) == good


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("outer_too", [False, True])
def test_indexes_of_shards_within_a_shard(location: str, outer_too: bool) -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(),
        data=VALUES,
        chunks=(4, 4),
        shards={"shape": [(16, 16), (8, 8)], "index_location": location},
        checksums=True,
    )
    good = stored(array)
    outer, inner = (level.sharding for level in Layout.of(array.metadata).levels)
    index = outer.split(good)
    for damaged in ([1], [0, 3]):
        broken = bytearray(good)
        for i in damaged:
            at, n = int(index.offsets[i]), int(index.lengths[i])
            broken[at + 17 if location == "start" else at + n - inner.layout.nbytes + 17] ^= 255
        if outer_too:  # of a shard within that is whole
            broken[index_of(array, good)[0] + 16 * 2] ^= 255
        array.store.write("c/0/0", broken)
        assert [p for p in check(array.store).problems if p.severity == "error"]
        (done,) = repair(array.store)
        assert stored(array) == good
        assert f"shards within it were damaged and are whole again: {len(damaged)}" in done.message
        assert done.message.startswith("its index was") == outer_too


@pytest.mark.parametrize(
    "damage", ["neighbours", "all", "checksum and entry", "chunk and index", "cut short", "no shard"]
)
def test_what_nobody_can_know_is_left_as_it_is(damage: str) -> None:
    array, good = make("zstd and checksums")
    start, stop = index_of(array, good)
    broken = bytearray(good)
    match damage:
        case "neighbours":  # where one ended and the other began is lost
            broken[start + 16 * 4 : start + 16 * 6] = bytes(32)
        case "all":
            broken[start : stop - 4] = random.Random(0).randbytes(stop - start - 4)
        case "checksum and entry":
            broken[start + 3] ^= 1
            broken[stop - 1] ^= 1
        case "chunk and index":
            broken[5] ^= 1
            broken[start + 3] ^= 1
            broken[start + 16 * 7] ^= 1
            broken[stop - 1] ^= 4
        case "cut short":
            del broken[stop - 30 :]
        case "no shard":
            broken = bytearray(b"hello")
    array.store.write("c/0/0", broken)
    assert repair(array.store) == []
    assert stored(array) == bytes(broken)
    with pytest.raises(CodecError):
        array[...]


def test_a_damaged_chunk_is_no_obstacle_and_stays_as_it_is() -> None:
    array, good = make("zstd and checksums")
    start, stop = index_of(array, good)
    for at in (stop - 6, start + 16 * 9 + 1):  # an entry of the last chunk, one in the middle
        broken = bytearray(good)
        broken[3] ^= 1
        broken[at] ^= 1
        array.store.write("c/0/0", broken)
        assert len(repair(array.store)) == 1
        assert stored(array)[start:] == good[start:]
        assert stored(array)[:start] == bytes(broken[:start])
        (problem,) = check(array.store).problems
        assert problem.chunk == (0, 0)


@pytest.mark.parametrize("location", ["start", "end"])
def test_unused_bytes_are_removed(location: str) -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), data=VALUES, chunks=(4, 4), shards={"shape": (16, 16), "index_location": location}
    )
    good = stored(array)
    # As a writer leaves it that adds chunks behind those they replace.
    sharding = Layout.of(array.metadata).levels[0].sharding
    index = sharding.split(good)
    body = good[: -sharding.layout.nbytes] if location == "end" else good[sharding.layout.nbytes :]
    index.offsets[:] += 100
    encoded = bytes(sharding.layout.serialise(index))
    junk = random.Random(1).randbytes(100)
    wasteful = junk + body + b"?" * 33 + encoded if location == "end" else encoded + junk + body + b"?" * 33
    array.store.write("c/0/0", wasteful)
    np.testing.assert_array_equal(array[...], VALUES)
    (done,) = repair(array.store)
    assert done.nbytes == 133
    assert done.message == "133 bytes that no chunk uses were removed"
    assert stored(array) == good
    assert repair(array.store) == []


def test_other_arrays_and_good_shards_are_not_written() -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    group = zarrdock.create_group(store)
    group.create_array("plain", data=VALUES, chunks=(4, 4))
    zarrdock.create_array(store, name="v2", data=VALUES, chunks=(4, 4), zarr_format=2)
    group.create_array("sharded", data=VALUES, chunks=(4, 4), shards=(8, 8))
    store.write("sharded/c/0/0/strange", b"?")
    store.reset()
    assert repair(store) == []
    assert store.bytes_written == store.n_writes == 0
    with pytest.raises(ReadOnlyError):
        repair(zarrdock.open_store(store, read_only=True))


def test_command(tmp_path, capsys) -> None:
    array = zarrdock.create_array(tmp_path, data=VALUES, chunks=(4, 4), shards=(16, 16))
    blob = bytearray(array.store.get("c/0/0").data)
    blob[-20] ^= 1
    array.store.write("c/0/0", blob)
    assert run(["check", "-q", str(tmp_path)], capsys)[0] == 1
    code, text = run(["check", "-q", "--repair", str(tmp_path)], capsys)
    assert code == 0, text
    assert "repaired: c/0/0: its index was damaged and is whole again" in text
    assert run(["check", "-q", str(tmp_path)], capsys)[0] == 0
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path)[...], VALUES)


def run(arguments, capsys) -> tuple[int, str]:
    return run_command(arguments), capsys.readouterr().out


@pytest.mark.parametrize("share", [0.01, 0.5, 1])
def test_a_large_index_that_is_beyond_repair_takes_no_time(share: float) -> None:
    values = np.random.default_rng(0).integers(1, 200, (128, 128), "u1")
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=values, chunks=(2, 2), shards=(128, 128))
    good = stored(array)
    start, stop = index_of(array, good)
    rng = random.Random(0)
    broken = bytearray(good)
    for i in range(int((stop - start) // 16 * share)):
        broken[start + 16 * i : start + 16 * i + 16] = rng.randbytes(16)
    array.store.write("c/0/0", broken)
    began = time.monotonic()
    assert repair(array.store) == []
    assert time.monotonic() - began < 20
    assert stored(array) == bytes(broken)
