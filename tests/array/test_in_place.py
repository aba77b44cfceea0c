"""Partial writes that leave the rest of a shard to the file system: the same values, fewer bytes, nothing lost."""

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
from hypothesis import given, settings

import zarrdock
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.errors import ReadOnlyError, ShardIndexError, StoreError, UnsupportedError
from zarrdock.layouts.relayout import relayout
from zarrdock.layouts.shard_stats import survey
from zarrdock.stores import local_patch
from zarrdock.stores.base import Patch

VALUES = np.random.default_rng(9).integers(1, 2**16, (64, 96)).astype("u2")

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "start": {"compressors": None, "shards": {"shape": (64, 96), "index_location": "start"}},
    "zstd": {},
    "zstd start": {"shards": {"shape": (64, 96), "index_location": "start"}},
    "nested": {"shards": [(64, 96), (16, 24)]},
    "nested plain": {"shards": [(64, 96), (16, 24)], "compressors": None},
}


def create(tmp_path: Path, kind: str, **arguments: Any) -> tuple[zarrdock.RecordingStore, zarrdock.Array]:
    store = zarrdock.RecordingStore(zarrdock.LocalStore(tmp_path / "a"), n_events=100)
    settings = {"chunks": (8, 8), "shards": (64, 96), "options": {"in_place": True}, **KINDS[kind], **arguments}
    array = zarrdock.create_array(store, data=VALUES, **settings)
    store.reset()
    return store, array


def usage(array: zarrdock.Array) -> Any:
    return survey(array.store, "", array.metadata).usage


@pytest.mark.parametrize("kind", ["plain", "start", "nested plain"])
def test_chunks_of_equal_length_are_written_over(tmp_path: Path, kind: str) -> None:
    store, array = create(tmp_path, kind)
    size = store.size("c/0/0")
    expected = VALUES.copy()
    for selection, n_chunks in ((np.s_[3, 5], 1), (np.s_[8:24, 8:16], 2), (np.s_[60:, 90:], 1)):
        store.reset()
        array[selection] = expected[selection] = 7
        assert [(event.verb, event.key) for event in store.log] == [("read", "zarr.json"), ("patch", "c/0/0")]
        assert store.bytes_written == n_chunks * 128  # not even an index
    assert store.size("c/0/0") == size
    assert usage(array).garbage == 0
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)


@pytest.mark.parametrize("kind", ["zstd", "zstd start", "nested"])
def test_other_chunks_go_behind_and_garbage_is_accounted_for(tmp_path: Path, kind: str) -> None:
    store, array = create(tmp_path, kind)
    whole = store.size("c/0/0") or 0
    expected = VALUES.copy()
    for i in range(6):
        store.reset()
        box = np.s_[8 * i : 8 * i + 8, 24:40]
        array[box] = expected[box] = i  # packs far better than what was there
        assert store.bytes_written < whole / 3
        assert np.array_equal(array[...], expected)
    array[:8, :48] = expected[:8, :48] = VALUES[::-1][:8, :48]  # and as badly again
    used = usage(array)
    assert used.total == store.size("c/0/0")
    assert used.garbage > 0
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)
    assert relayout(array).nbytes_saved >= used.garbage
    assert usage(array).garbage == 0
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], expected)


def test_too_much_garbage_is_removed(tmp_path: Path) -> None:
    store, created = create(tmp_path, "zstd")
    array = zarrdock.Array(store, "", created.metadata, options=WriteOptions(in_place=True, max_garbage=0.1))
    expected = VALUES.copy()
    random = np.random.default_rng(1)
    for i in range(40):
        box = np.s_[8 * (i % 8) : 8 * (i % 8) + 8, 8:32]
        bits = random.integers(2, 16)
        array[box] = expected[box] = random.integers(0, 2**bits, (8, 24))
        used = usage(array)
        assert used.garbage <= 0.1 * used.total
    assert np.array_equal(array[...], expected)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    limit=st.sampled_from([0.0, 0.3, 1.0]),
    boxes=st.lists(
        st.tuples(st.integers(0, 63), st.integers(1, 40), st.integers(0, 95), st.integers(1, 40), st.integers(0, 16)),
        max_size=8,
    ),
)
def test_what_is_written_is_read(
    kind: str, limit: float, boxes: list[tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, created = create(tmp_path_factory.mktemp("in_place"), kind)
    options = WriteOptions(in_place=True, max_garbage=limit)
    array = zarrdock.Array(store, "", created.metadata, options=options)
    random = np.random.default_rng(len(boxes))
    expected = VALUES.copy()
    for y, height, x, width, bits in boxes:
        box = np.s_[y : y + height, x : x + width]
        # 0 bits: nothing but the fill value, so that chunks and inner shards go.
        array[box] = expected[box] = random.integers(0, 2**bits, expected[box].shape)
        assert np.array_equal(array[...], expected)
    used = usage(array)
    assert used.total == (store.size("c/0/0") or 0)
    other = zarrdock.open_array(tmp_path_factory.getbasetemp() / Path(store.store.url.removeprefix("file://")))
    assert np.array_equal(other[...], expected)
    array[...] = 0
    assert store.size("c/0/0") is None


def test_what_is_not_there_yet_is_written(tmp_path: Path) -> None:
    array = zarrdock.create_array(
        tmp_path / "a",
        shape=(64, 96),
        dtype="u2",
        chunks=(8, 8),
        shards=[(64, 96), (16, 24)],
        options={"in_place": True},
    )
    expected = np.zeros((64, 96), "u2")
    for box in (np.s_[3, 5], np.s_[40:50, 60:90], np.s_[0:10, 0:10]):
        array[box] = expected[box] = 9
    assert np.array_equal(array[...], expected)
    array[40:50, 60:90] = 0
    array[0:10, 0:10] = 0
    assert list(array.store.list("c")) == []


def test_a_large_shard_costs_what_changes(tmp_path: Path) -> None:
    """Of a shard of shards the indexes and one chunk are read and written; the rest is the file system's affair."""
    store = zarrdock.LocalStore(tmp_path / "a")
    values = np.random.default_rng(2).integers(0, 256, (256, 256), np.uint8)
    array = zarrdock.create_array(
        store, data=values, chunks=(16, 16), shards=[(256, 256), (64, 64)], compressors=None, options={"in_place": True}
    )
    asked: list[int] = []
    patch = store.patch

    def spied(key: str, change: Any) -> None:
        def watched(old: Any) -> Any:
            def read(start: int, stop: int) -> Any:
                asked.append(stop - start)
                return old.read(start, stop)

            new = change(type("Old", (), {"size": old.size, "read": staticmethod(read)})())
            assert isinstance(new, Patch)
            asked.append(-sum(len(piece) for _, piece in new.pieces))
            return new

        patch(key, watched)

    store.patch = spied  # type: ignore[method-assign]
    array[100, 100] = 1
    assert asked == [16 * 16 + 4, 16 * 16 + 4, 256, -256]


# -- safety -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cannot", ["clone", "clone and copy"])
def test_on_file_systems_that_can_do_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cannot: str) -> None:
    def refused(*_: object) -> Any:
        raise OSError(95, "not supported")

    if cannot != "clone":
        monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr(local_patch, "_reflink", lambda source, target: False)
    _, array = create(tmp_path, "zstd")
    array[8:40, 3:5] = 0
    expected = VALUES.copy()
    expected[8:40, 3:5] = 0
    assert np.array_equal(array[...], expected)


def test_where_files_can_share_their_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the system call: what follows it is the same on every file system."""
    calls: list[tuple[int, int]] = []

    def ioctl(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        calls.append((target, source))
        os.pwrite(target, os.pread(source, 2**20, 0), 0)
        return 0

    monkeypatch.setattr(local_patch.fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "copy_file_range", None)
    _, array = create(tmp_path, "zstd")
    array[8:16, 8:16] = 0  # the last but some chunks go: the file becomes shorter or stays
    array[56:, 80:] = 0
    expected = VALUES.copy()
    expected[8:16, 8:16] = 0
    expected[56:, 80:] = 0
    assert len(calls) == 2
    assert np.array_equal(array[...], expected)


@pytest.mark.parametrize("step", ["clone", "write_pieces", "rename"])
def test_an_interruption_leaves_the_old_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    _, array = create(tmp_path, "plain")
    before = (tmp_path / "a" / "c" / "0" / "0").read_bytes()

    def broken(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    where = {"clone": "zarrdock.stores.local.clone", "write_pieces": "zarrdock.stores.local.write_pieces"}
    with monkeypatch.context() as patched:
        patched.setattr(where.get(step, "os.rename"), broken)
        with pytest.raises(StoreError, match="c/0/0"):
            array[3, 5] = 1
    assert (tmp_path / "a" / "c" / "0" / "0").read_bytes() == before
    assert list(zarrdock.LocalStore(tmp_path / "a").stale_files()) == []
    assert sorted(entry.key for entry in array.store.list()) == ["c/0/0", "zarr.json"]
    array[3, 5] = 1
    assert array[3, 5] == 1


@pytest.mark.parametrize("step", ["clone", "write_pieces", "rename_to"])
def test_a_writer_that_is_killed_leaves_the_old_values(tmp_path: Path, step: str) -> None:
    _, array = create(tmp_path, "zstd")
    before = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
    code = (
        "import os, signal, sys, zarrdock\n"
        "from zarrdock.stores import local, local_lock\n"
        "where = local_lock.Held if sys.argv[2] == 'rename_to' else local\n"
        "def killed(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(where, sys.argv[2], killed)\n"
        "zarrdock.open_array(sys.argv[1], 'r+', options={'in_place': True})[8:30, 8:30] = 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a"), step], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a" / "c" / "0" / "0").read_bytes() == before
    assert sorted(entry.key for entry in array.store.list()) == ["c/0/0", "zarr.json"]
    array[8:30, 8:30] = 3  # what the killed one left behind is taken over
    expected = VALUES.copy()
    expected[8:30, 8:30] = 3
    assert np.array_equal(array[...], expected)
    assert list(zarrdock.LocalStore(tmp_path / "a").stale_files()) == []


def test_a_reader_sees_the_old_values_or_the_new_ones(tmp_path: Path) -> None:
    """Each write changes two chunks in place; no read ever finds one of them changed and the other not."""
    _, array = create(tmp_path, "plain")
    stop = threading.Event()
    seen: set[tuple[int, int]] = set()

    def read() -> None:
        reader = zarrdock.open_array(tmp_path / "a")
        while not stop.is_set():
            pair = reader[0, 0:96:95]
            seen.add((int(pair[0]), int(pair[1])))

    array[0, 0:96:95] = 0
    thread = threading.Thread(target=read)
    thread.start()
    for i in range(1, 150):
        array[0, 0:96:95] = i
    stop.set()
    thread.join()
    assert seen
    assert all(a == b for a, b in seen)


def test_writers_lose_nothing(tmp_path: Path) -> None:
    _, array = create(tmp_path, "zstd")

    def write(n: int, in_place: bool) -> None:
        own = zarrdock.open_array(tmp_path / "a", "r+", options={"in_place": in_place})
        for i in range(12):
            own[8 * n : 8 * n + 8, 8 * i : 8 * i + 5] = 100 * n + i

    threads = [threading.Thread(target=write, args=(n, n % 3 > 0)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = VALUES.copy()
    for n in range(6):
        for i in range(12):
            expected[8 * n : 8 * n + 8, 8 * i : 8 * i + 5] = 100 * n + i
    assert np.array_equal(array[...], expected)


def test_damage_is_not_written_over(tmp_path: Path) -> None:
    _, array = create(tmp_path, "zstd")
    shard = tmp_path / "a" / "c" / "0" / "0"
    damaged = shard.read_bytes()[:-5] + bytes(5)
    shard.write_bytes(damaged)
    with pytest.raises(ShardIndexError, match="c/0/0"):
        array[3, 5] = 1
    assert shard.read_bytes() == damaged


def test_chunks_that_share_bytes_are_told_apart(tmp_path: Path) -> None:
    store, array = create(tmp_path, "plain")
    sharding = Layout.of(array.metadata).levels[0].sharding
    blob = store.get("c/0/0")
    assert blob is not None
    index = sharding.split(blob.data)
    index.offsets[1] = index.offsets[0]
    body = bytes(blob.data[: -sharding.layout.nbytes])
    store.write("c/0/0", [body, sharding.layout.serialise(index)])
    assert np.array_equal(array[:8, :8], array[:8, 8:16])
    array[2, 2] = 77
    assert array[2, 2] == 77
    assert array[2, 10] == VALUES[2, 2]


@pytest.mark.parametrize("within", [0, 1, 128])
@pytest.mark.parametrize("kind", ["plain", "start"])
def test_chunks_without_bytes_have_no_place(tmp_path: Path, kind: str, within: int) -> None:
    """An index that claims such is damaged; what lies where it points is another chunk, the index, or nothing."""
    store, array = create(tmp_path, kind)
    layout = Layout.of(array.metadata).levels[0].sharding.layout
    blob = store.get("c/0/0")
    assert blob is not None
    data = bytearray(blob.data)
    first, stop = layout.span_within(0, len(data))
    index = Layout.of(array.metadata).levels[0].sharding.split(data)
    index.offsets[0], index.lengths[0] = index.offsets[-1] + within, 0  # 128: where the last chunk ends
    data[first:stop] = layout.serialise(index)
    store.write("c/0/0", data)
    array[:8, :8] = 77
    expected = VALUES.copy()
    expected[:8, :8] = 77
    assert np.array_equal(array[...], expected)
    assert "patch" in [event.verb for event in store.log]


def test_stores_that_can_not_are_refused(tmp_path: Path) -> None:
    for store in (zarrdock.MemoryStore(), zarrdock.ZipStore(tmp_path / "a.zip")):
        with pytest.raises(UnsupportedError, match="in_place=True"):
            zarrdock.create_array(store, data=VALUES, chunks=(8, 8), shards=(64, 96), options={"in_place": True})
        assert list(store.list()) == []
    local = zarrdock.LocalStore(tmp_path / "a")
    assert zarrdock.PrefixStore(zarrdock.RecordingStore(local), "x").traits.partial_update
    with pytest.raises(ReadOnlyError):
        zarrdock.ReadOnlyStore(local).patch("k", lambda old: Patch(1, []))
    group = zarrdock.create_group(zarrdock.PrefixStore(local, "g"))
    array = group.create_array("x", data=VALUES, chunks=(8, 8), shards=(64, 96), options={"in_place": True})
    array[3, 5] = 1
    assert zarrdock.open_array(tmp_path / "a" / "g" / "x")[3, 5] == 1
    with pytest.raises(UnsupportedError, match="max_garbage"):
        WriteOptions(max_garbage=2)
