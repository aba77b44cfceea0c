"""Two hands on one array: an index known from before is never believed against what is there now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import ConflictError, ZarrdockError
from zarrdock.stores.base import Results, WrapperStore

SHARDS: dict[str, Any] = {
    "one level": {"chunks": (4,), "shards": (16,)},
    "two levels": {"chunks": (2,), "shards": [(16,), (8,)]},
    "start": {"chunks": (4,), "shards": {"shape": (16,), "index_location": "start"}},
}


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.Store:
    return zarrdock.MemoryStore() if request.param == "memory" else zarrdock.LocalStore(tmp_path)


@pytest.fixture(params=SHARDS)
def pair(request: pytest.FixtureRequest, store: zarrdock.Store) -> tuple[zarrdock.Array, zarrdock.Array]:
    """A writer, and a reader that knows the index of the first shard."""
    writer = zarrdock.create_array(
        store, shape=40, dtype="i4", compressors=None, fill_value=-1, **SHARDS[request.param]
    )
    writer[...] = np.arange(40)
    reader = zarrdock.open_array(store)
    assert reader[3] == 3
    np.testing.assert_array_equal(reader[...], np.arange(40))
    return writer, reader


CHANGES: dict[str, Callable[[zarrdock.Array], Any]] = {
    "part of a chunk": lambda a: a.write(2, 100),
    "chunks": lambda a: a.write(slice(0, 8), np.arange(100, 108)),
    "the whole shard": lambda a: a.write(slice(0, 16), np.arange(100, 116)),
    "the same size again": lambda a: a.write(slice(0, 16), np.arange(16)[::-1]),
    "chunks emptied": lambda a: a.write(slice(0, 8), -1),
    "the shard emptied": lambda a: a.write(slice(0, 16), -1),
    "everything": lambda a: a.write(..., 7),
    "twice": lambda a: (a.write(slice(0, 16), -1), a.write(slice(4, 6), 5)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["element", "slice", "all", "points", "out", "plan"])
def test_a_hot_reader_sees_what_a_writer_wrote(
    pair: tuple[zarrdock.Array, zarrdock.Array], change: str, how: str
) -> None:
    writer, reader = pair
    CHANGES[change](writer)
    expected = zarrdock.open_array(writer.store)[...]
    found = np.full(40, -99, "i4")
    match how:
        case "element":
            found[:] = [reader[i] for i in range(40)]
        case "slice":
            found[:20], found[20:] = reader[:20], reader[20:]
        case "all":
            found = reader[...]
        case "points":
            found = reader.vindex[np.arange(40)]
        case "out":
            reader.read(out=found)
        case "plan":  # planning believes what it knows, but leaves nothing behind that reading would
            reader.plan()
            found = reader.read()
    np.testing.assert_array_equal(found, expected)


def test_a_hot_reader_sees_another_array_in_the_same_place(pair: tuple[zarrdock.Array, zarrdock.Array]) -> None:
    writer, reader = pair
    smaller = zarrdock.create_array(
        writer.store, shape=40, dtype="i4", chunks=4, shards=16, compressors=None, fill_value=-1, overwrite=True
    )
    smaller[1] = 5
    if reader.metadata == smaller.metadata:
        assert reader[:4].tolist() == [-1, 5, -1, -1]
    reader.refresh()
    assert reader[:4].tolist() == [-1, 5, -1, -1]
    assert reader[0] == -1


def test_chunks_known_to_be_empty_are_seen_when_filled(pair: tuple[zarrdock.Array, zarrdock.Array]) -> None:
    writer, reader = pair
    writer[:8] = -1
    assert reader[:16].tolist() == [-1] * 8 + list(range(8, 16))
    assert reader[0] == -1
    writer[1] = 3
    assert reader[1] == 3
    writer[5] = 4
    np.testing.assert_array_equal(reader[:8], [-1, 3, -1, -1, -1, 4, -1, -1])


class Meddling(WrapperStore):
    """Runs something between two rounds of a read."""

    def __init__(self, store: zarrdock.Store) -> None:
        super().__init__(store)
        self.traits = replace(store.traits, merge_gap_bytes=0)
        self.before: list[Callable[[], Any] | None] = []
        self.n_rounds = 0

    def read(self, requests: Sequence[zarrdock.Read], /) -> Results:
        act = self.before.pop(0) if self.before else None
        if act is not None:
            act()
        self.n_rounds += 1
        return self.store.read(requests)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_shard_that_changes_between_rounds(pair: tuple[zarrdock.Array, zarrdock.Array], change: str, at: int) -> None:
    """Whatever happens between two rounds: the result is the shard before the change, or the shard after it."""
    writer, _ = pair
    before = writer[:16]
    meddling = Meddling(writer.store)
    reader = zarrdock.Array(meddling, "", writer.metadata)
    for hot in (False, True):
        if hot:
            writer[:16] = before
            np.testing.assert_array_equal(reader[:16], before)
        meddling.before = [None] * (at - 1) + [lambda: CHANGES[change](writer)]
        out = np.full(16, -99, "i4")
        reader.read(slice(0, 16), out)
        meddling.before = []
        after = writer[:16]
        assert out.tolist() in (before.tolist(), after.tolist())
        np.testing.assert_array_equal(reader[:16], after)


def test_what_was_read_of_an_old_version_does_not_shine_through(store: zarrdock.Store) -> None:
    """Data of the first attempt is already in the result when the second one finds those chunks empty."""
    writer = zarrdock.create_array(store, shape=64, dtype="i4", chunks=4, shards=64, compressors=None)
    writer[...] = 1
    meddling = Meddling(store)
    reader = zarrdock.Array(meddling, "", writer.metadata)
    zarrdock.config.round_bytes, was = 64, zarrdock.config.round_bytes
    try:
        meddling.before = [None, None, lambda: writer.write(slice(0, 60), 0)]
        assert reader[::8].tolist() == [0] * 8
        assert meddling.n_rounds == 4  # index, data, data of another version; index, and nothing there
    finally:
        zarrdock.config.round_bytes = was


@pytest.mark.parametrize("n_changes", [2, 3, 4, 7])
def test_a_shard_that_changes_again_and_again(store: zarrdock.Store, n_changes: int) -> None:
    writer = zarrdock.create_array(store, shape=16, dtype="i4", chunks=4, shards=16, compressors=None)
    writer[...] = 0
    meddling = Meddling(store)
    reader = zarrdock.Array(meddling, "", writer.metadata)
    values = iter(range(1, 100))
    meddling.before = [lambda: writer.write(..., next(values))] * (2 * n_changes)
    try:
        found = reader[2:14]
    except ConflictError:
        pytest.fail("the whole object is one request, which no writer can tear")
    assert len(set(found.tolist())) == 1


@pytest.mark.parametrize("shards", [(64,), [(64,), (32,)]])
def test_a_reader_of_a_shard_that_is_replaced_all_the_time(store: zarrdock.Store, shards: Any) -> None:
    """Every version has one value all over; 500 versions, or more until both threads have read once."""
    writer = zarrdock.create_array(store, shape=64, dtype="i4", chunks=8, shards=shards)
    writer[...] = 0
    done = threading.Event()
    errors: list[BaseException] = []
    n_reads = [0, 0]

    def read(number: int) -> None:
        mine = zarrdock.open_array(store)
        try:
            last = 0
            while not done.is_set():
                found = mine[1:63] if n_reads[number] % 3 else mine[...]
                assert (found == found[0]).all(), found
                assert found[0] >= last
                last = found[0]
                assert mine[33] >= last
                n_reads[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    version = 0
    try:
        while version < 500 or (version < 50_000 and not errors and min(n_reads) == 0):
            version += 1
            writer[...] = version
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not errors, errors
    assert min(n_reads) > 0
    assert (zarrdock.open_array(store)[...] == version).all()


def test_consistent_reads_are_of_one_moment(store: zarrdock.Store) -> None:
    writer = zarrdock.create_array(store, shape=32, dtype="i4", chunks=4, shards=16)
    writer[...] = 0
    meddling = Meddling(store)
    reader = zarrdock.Array(meddling, "", writer.metadata)
    # The second shard changes when the first one has been read.
    meddling.before = [None, lambda: None, lambda: writer.write(..., 1)]
    assert reader.read(consistent=True).tolist() in ([0] * 32, [1] * 32)
    meddling.before = [lambda: writer.write(0, int(writer[0]) + 1)] * 200
    with pytest.raises(ConflictError, match="attempts"):
        reader.read(consistent=True)
    assert issubclass(ConflictError, ZarrdockError)
