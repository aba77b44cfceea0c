"""Streams: frames collected, and written as whole objects in the background."""

import asyncio
import copy
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import zarrdock
from support.stores import HookedStore, WithTraits, remote
from support.storms.syscalls import forked
from zarrdock.errors import AccessError, NodeChangedError, ReadOnlyError, SelectionError, UnsupportedError
from zarrdock.testing import FaultyStore, StoreFault

N, SHARD, H, W = 1153, 16, 24, 40
FRAMES = np.random.default_rng(7).integers(1, 2**15, (N, H, W), "int16")


def create(store: Any, n: int = 0, **options: Any) -> zarrdock.Array:
    return zarrdock.create_array(
        store, **{"shape": (n, H, W), "dtype": "int16", "chunks": (1, H, W), "shards": (SHARD, H, W), **options}
    )


def test_each_shard_is_written_once() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=10_000)
    array = create(store, compressors=None)
    store.reset()
    with array.stream(memory_bytes=10 * SHARD * FRAMES[0].nbytes) as out:
        for frame in FRAMES:
            out.write(frame)
    n_shards = -(-N // SHARD)
    written = [event.key for event in store.log if event.verb == "write"]
    assert len(written) == len(set(written)) == n_shards
    assert store.bytes_written <= 1.1 * FRAMES.nbytes
    # One update of the shape for several shards, where they come faster than they are written; here five at most.
    updates = [event.key for event in store.log if event.verb == "update"]
    assert set(updates) == {"zarr.json"}
    assert n_shards / 5 <= len(updates) <= n_shards + 1
    assert (out.written, out.flushed, out.rows) == (N, N, (range(N),))
    np.testing.assert_array_equal(zarrdock.open_array(store)[...], FRAMES)
    assert array.shape == FRAMES.shape


def pour(array: zarrdock.Array, frames: Any, then: Callable[[zarrdock.Stream], object] | None = None) -> None:
    with array.stream() as out:
        for frame in frames:
            out.write(frame)
        if then is not None:
            then(out)


def fail(out: zarrdock.Stream) -> None:
    raise KeyError("mine")


GRIDS: list[dict[str, Any]] = [
    {"chunks": (1, 4, 4), "shards": (4, 8, 8)},
    {"chunks": (3, 5, 40)},
    {"chunks": (2, 3, 3), "shards": [(8, 12, 12), (4, 6, 6)], "compressors": None},
    {"chunks": (1, 4, 4), "zarr_format": 2},
    {"chunks": ([2, 3, 4], 7, 7)},
]


@st.composite
def streamed(draw: st.DrawFn) -> tuple[dict[str, Any], int, int, list[int], bool]:
    grid = draw(st.sampled_from(GRIDS))
    axis = 0 if isinstance(grid["chunks"][0], list) else draw(st.integers(0, 2))
    start = 9 if isinstance(grid["chunks"][0], list) else draw(st.integers(0, 9))
    return grid, axis, start, draw(st.lists(st.integers(0, 13), max_size=12)), draw(st.booleans())


@given(streamed())
def test_any_blocks_along_any_axis(drawn: tuple[dict[str, Any], int, int, list[int], bool]) -> None:
    grid, axis, start, blocks, flush = drawn
    shape = [9, 10, 11]
    shape[axis] = start + sum(blocks)
    values = np.arange(np.prod(shape)).reshape(shape) % 5  # some chunks are nothing but the fill value
    values = np.where(values < 2, 0, values)
    old = values.take(range(start), axis)
    array = zarrdock.create_array({}, shape=old.shape, dtype="int32", **grid)
    if old.size:
        array[...] = old
    unit = array.metadata.grid.largest[axis]
    others = int(np.prod(shape)) // max(1, shape[axis]) if shape[axis] else {0: 110, 1: 99, 2: 90}[axis]
    slab = 4 * unit * others
    at = start
    with array.stream(axis - 3, memory_bytes=2 * slab) as out:
        for n in blocks:
            block = values.take(range(at, at + n), axis)
            out.write(block.squeeze(axis) if n == 1 else block)
            at += n
            if flush and n % 2:
                out.flush()
                np.testing.assert_array_equal(zarrdock.open_array(array.store)[...], values.take(range(at), axis))
    np.testing.assert_array_equal(array[...], values)
    assert out.rows == ((range(start, at),) if sum(blocks) else ())


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("string", ["a", "", "longer than others", "d", "e"]),
        ("U3", ["abc", "", "x", "y", "z"]),
        ([("a", "int16"), ("b", "float32")], [(1, 2.5), (3, 4.5), (0, 0), (5, 6), (7, 8)]),
        ("M8[s]", np.arange(5).astype("M8[s]")),
        ("bool", [True, False, True, True, False]),
    ],
)
def test_scalars_of_any_type(dtype: Any, values: Any) -> None:
    array = zarrdock.create_array({}, shape=0, dtype=dtype, chunks=2)
    with array.stream() as out:
        out.write(values[0])
        out.write(values[1:])
    np.testing.assert_array_equal(array[...], np.asarray(values, array.dtype))


def test_the_caller_may_use_its_buffer_again() -> None:
    array = create({})
    buffer = np.empty((H, W), "int16")
    with array.stream() as out:
        for i in range(40):
            buffer[...] = i
            out.write(buffer)
    np.testing.assert_array_equal(array[:, 0, 0], np.arange(40))


class Gate:
    """Holds up every write of a chunk until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waits = threading.Event()

    def __call__(self, event: Any) -> None:
        if event.key.startswith("c/"):
            self.waits.set()
            assert self.open.wait(30)


def test_memory_is_bounded_and_writers_wait() -> None:
    gate = Gate()
    array = create(HookedStore(zarrdock.MemoryStore(), gate))
    slab = SHARD * FRAMES[0].nbytes
    with pytest.raises(UnsupportedError, match=rf"memory_bytes={2 * slab - 1}: {2 * slab} at least"):
        array.stream(memory_bytes=2 * slab - 1)
    with array.stream(memory_bytes=2 * slab) as out:
        writer = threading.Thread(target=lambda: [out.write(frame) for frame in FRAMES[:100]])
        writer.start()
        assert gate.waits.wait(30)
        writer.join(0.2)
        assert writer.is_alive()
        assert out.written == 2 * SHARD
        assert out.flushed == 0
        assert array.shape[0] == 0, "the shape comes after the data"
        gate.open.set()
        writer.join(30)
    np.testing.assert_array_equal(array[...], FRAMES[:100])


def test_errors_come_to_light_and_the_rest_can_be_had() -> None:
    store = FaultyStore(zarrdock.MemoryStore())
    array = create(store)
    store.add(StoreFault("write", "c/2/*", AccessError, count=None))
    out = array.stream(memory_bytes=2 * SHARD * FRAMES[0].nbytes)

    def write_all() -> None:
        for frame in FRAMES:
            out.write(frame)

    with pytest.raises(AccessError) as caught:
        write_all()
    assert "frames of a stream, from frame 32 on" in caught.value.__notes__[0]
    for again in (lambda: out.write(FRAMES[0]), out.flush, out.close):
        with pytest.raises(AccessError):
            again()
    assert out.flushed == 32
    assert 48 <= out.written <= 64
    np.testing.assert_array_equal(out.unflushed(), FRAMES[32 : out.written])
    np.testing.assert_array_equal(zarrdock.open_array(store)[...], FRAMES[:32])
    store.clear()
    with array.stream() as out:
        out.write(FRAMES[32:50])
    np.testing.assert_array_equal(zarrdock.open_array(store)[...], FRAMES[:50])


def test_an_error_comes_at_the_end_if_not_before() -> None:
    store = FaultyStore(zarrdock.MemoryStore())
    array = create(store)
    store.add(StoreFault("write", "c/*", AccessError, count=None))
    with pytest.raises(AccessError):
        pour(array, FRAMES[:1])
    with pytest.raises(KeyError, match="mine") as caught:
        pour(array, FRAMES[:1], fail)
    assert "was not written to its end" in caught.value.__notes__[0]
    assert array.shape[0] == 0


def test_an_exception_loses_nothing() -> None:
    array = create({})
    with pytest.raises(KeyError, match="mine"):
        pour(array, FRAMES[:41], fail)
    np.testing.assert_array_equal(array[...], FRAMES[:41])
    out = array.stream()
    out.close()
    out.close()
    with pytest.raises(UnsupportedError, match="closed"):
        out.write(FRAMES[0])


def test_wrong_frames_are_refused_at_once() -> None:
    array = create({})
    with array.stream() as out:
        for wrong in (np.zeros((H, 9)), np.zeros((2, H, 9)), np.zeros((1, 2, H, W)), 5, np.full((H, W), "x")):
            with pytest.raises(SelectionError):
                out.write(wrong)
        out.write(np.zeros((0, H, W)))
        assert out.written == 0
        out.write(FRAMES[:3])
    assert array.shape[0] == 3
    for axis in (3, -4, 1.5, True):
        with pytest.raises(SelectionError, match="axis="):
            array.stream(axis)  # type: ignore[arg-type]
    with pytest.raises(ReadOnlyError):
        zarrdock.open_array(array.store).stream()
    with pytest.raises(SelectionError):
        zarrdock.create_array({}, shape=(), dtype="int8").stream()
    with pytest.raises(ReadOnlyError):
        zarrdock.concatenate([array, array]).stream()


def test_without_atomic_updates_someone_must_vouch() -> None:
    store = WithTraits(zarrdock.MemoryStore(), atomic_update=False)
    array = create(store)
    with pytest.raises(UnsupportedError, match="single_writer"):
        array.stream()
    array = zarrdock.open_array(store, mode="r+", options=zarrdock.WriteOptions(single_writer=True))
    with array.stream() as out:
        out.write(FRAMES[:20])
        out.flush()
        out.write(FRAMES[20:35])
    np.testing.assert_array_equal(array[...], FRAMES[:35])


# -- beside others -----------------------------------------------------------------------------------------------------


def test_streams_and_appends_into_one_array_have_rows_of_their_own() -> None:
    store = zarrdock.MemoryStore()
    create(store)
    kept: dict[int, np.ndarray] = {}

    def stream(number: int) -> None:
        array = zarrdock.open_array(store, mode="r+")
        frames = np.full((90, H, W), number, "int16") + np.arange(90)[:, None, None].astype("int16")
        with array.stream(memory_bytes=2 * SHARD * frames[0].nbytes) as out:
            for i in range(0, 90, 5):
                out.write(frames[i : i + 5])
                if i % 20 == 0:
                    out.flush()
        kept[number] = np.concatenate([np.arange(rows.start, rows.stop) for rows in out.rows])

    def append(number: int) -> None:
        array = zarrdock.open_array(store, mode="r+")
        starts = [array.append(np.full((3, H, W), number + i, "int16"))[0] - 3 for i in range(30)]
        kept[number] = np.asarray(starts)

    threads = [threading.Thread(target=stream, args=(n,)) for n in (1000, 2000)]
    threads.append(threading.Thread(target=append, args=(3000,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = zarrdock.open_array(store)[...]
    assert found.shape[0] == 90 * 3
    for number in (1000, 2000):
        np.testing.assert_array_equal(found[kept[number]].min(axis=(1, 2)), number + np.arange(90))
        np.testing.assert_array_equal(found[kept[number]].max(axis=(1, 2)), number + np.arange(90))
    for i in range(3):
        np.testing.assert_array_equal(found[kept[3000] + i, 0, 0], 3000 + np.arange(30))


@pytest.mark.parametrize("seed", range(20))
def test_streams_and_appends_between_any_two_calls(seed: int) -> None:
    """Small shards, frames of nothing but fill value too, and an append before one call of the store in ten."""
    chosen = random.Random(seed)
    inner: zarrdock.Store = remote(zarrdock.MemoryStore()) if seed % 2 else zarrdock.MemoryStore()
    shard = chosen.choice([2, 4, 5])
    chunks: dict[str, Any] = {"chunks": (1, 2), "shards": (shard, 2)} if seed % 3 else {"chunks": (shard, 2)}
    zarrdock.create_array(inner, shape=(0, 3), dtype="int32", **chunks)
    others: list[tuple[int, int]] = []

    def appends(event: Any) -> None:
        if chosen.random() < 0.1:
            n = chosen.randrange(1, 7)
            stop = zarrdock.open_array(inner, mode="r+").append(np.full((n, 3), -1))[0]
            others.append((stop - n, stop))

    found: list[tuple[zarrdock.Stream, np.ndarray]] = []

    def work(number: int) -> None:
        own = random.Random(seed * 10 + number)
        frames = np.repeat(np.arange(1, 60)[:, None] + 1000 * number, 3, axis=1)
        frames[own.randrange(0, 30) : own.randrange(30, 59)] = 0
        store = HookedStore(inner)
        array = zarrdock.open_array(store, mode="r+")
        out = array.stream(memory_bytes=own.choice([2, 3, 5]) * shard * 12)
        found.append((out, frames))
        store.before = appends
        with out:
            at = 0
            while at < len(frames):
                n = own.randrange(1, 9)
                out.write(frames[at : at + n])
                at += n
                if own.random() < 0.2:
                    out.flush()

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = zarrdock.open_array(inner)[...]
    expected = np.full(values.shape, -2)
    for start, stop in others:
        expected[start:stop] = -1
    for out, frames in found:
        assert out.written == out.flushed == len(frames)
        expected[[row for rows in out.rows for row in rows]] = frames
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("when", ["read", "write", "update"])
@pytest.mark.parametrize("n_others", [1, 5, 16, 30])
@pytest.mark.parametrize("start", [0, 5])
def test_another_writer_at_every_moment(when: str, n_others: int, start: int) -> None:
    """Another handle appends before, between and after the steps of a flush."""
    inner = zarrdock.MemoryStore()
    other = create(inner, start)
    if start:
        other[...] = FRAMES[:start]
    done: list[int] = []

    def appends(event: Any) -> None:
        if event.verb == when and len(done) < 2 and out.written > 20 * (1 + 2 * len(done)):
            done.append(other.append(np.full((n_others, H, W), -5, "int16"))[0] - n_others)

    store = HookedStore(inner)
    array = zarrdock.open_array(store, mode="r+")
    with array.stream(memory_bytes=2 * SHARD * FRAMES[0].nbytes) as out:
        store.before = appends
        for frame in FRAMES[start:150]:
            out.write(frame)
    found = zarrdock.open_array(inner)[...]
    mine = np.concatenate([np.arange(rows.start, rows.stop) for rows in out.rows])
    np.testing.assert_array_equal(found[mine], FRAMES[start:150])
    theirs = [i for first in done for i in range(first, first + n_others)]
    np.testing.assert_array_equal(found[theirs], -5)
    assert sorted([*range(start), *mine.tolist(), *theirs]) == list(range(len(found)))
    assert len(done) == 2


def test_an_object_that_a_killed_stream_left() -> None:
    store = zarrdock.MemoryStore()
    array = create(store)
    with array.stream() as out:
        out.write(FRAMES[:48])
    store.write("zarr.json", bytes(store.get("zarr.json").data).replace(b"48,", b"16,"))  # type: ignore[union-attr]
    array = zarrdock.open_array(store, mode="r+")
    assert array.shape[0] == 16
    with array.stream() as out:
        out.write(FRAMES[100:120])
    np.testing.assert_array_equal(array[...], np.concatenate([FRAMES[:16], FRAMES[100:120]]))


def test_objects_of_nothing_but_fill_value_hold_their_place() -> None:
    for options in ({}, {"shards": None}, {"shards": [(16, H, W), (4, H, W)]}):
        store = zarrdock.MemoryStore()
        array = create(store, **options)
        with array.stream() as out:
            out.write(np.zeros((32, H, W)))
        n = 32 if options.get("shards", 1) is None else 2
        assert len([*store.list("c")]) == n
        assert not zarrdock.open_array(store)[...].any()


@pytest.mark.peer
@pytest.mark.parametrize("shards", [(SHARD, H, W), None])
def test_others_read_what_streams_write(tmp_path: Path, shards: Any) -> None:
    zarr, tensorstore = pytest.importorskip("zarr"), pytest.importorskip("tensorstore")
    frames = FRAMES[:50].copy()
    frames[10:40] = 0
    pour(create(tmp_path, shards=shards), frames)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[...], frames)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), frames)


def test_an_array_that_was_replaced_is_not_written_to() -> None:
    store = zarrdock.MemoryStore()
    array = create(store)

    def replace(out: zarrdock.Stream) -> None:
        out.flush()
        zarrdock.create_array(store, shape=(0, 4), dtype="int8", overwrite=True)
        out.write(FRAMES[20:40])

    with pytest.raises(NodeChangedError):
        pour(array, FRAMES[:20], replace)
    assert {entry.key for entry in store.list()} == {"zarr.json"}


def test_several_threads_share_a_stream() -> None:
    array = create({})

    def work(number: int) -> None:
        for _ in range(10):
            out.write(np.full((7, H, W), number))

    with array.stream(memory_bytes=2 * SHARD * FRAMES[0].nbytes) as out:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = array[:, 0, 0].reshape(-1, 7)
    assert (found == found[:, :1]).all(), "the frames of one call stay together"
    assert sorted(found[:, 0].tolist()) == sorted([0, 1, 2, 3] * 10)


def test_async() -> None:
    array = create(remote(zarrdock.MemoryStore()))

    async def acquire() -> None:
        async with array.stream() as out:
            for frame in FRAMES[:37]:
                await out.write_async(frame)

    asyncio.run(acquire())
    np.testing.assert_array_equal(array[...], FRAMES[:37])


def test_a_stream_belongs_to_its_process() -> None:
    array = create({})
    held = [array.stream()]
    held[0].write(FRAMES[0])
    with pytest.raises(UnsupportedError, match="send the array"):
        copy.copy(held[0])

    def child() -> None:
        with pytest.raises(UnsupportedError, match="another process"):
            held[0].write(FRAMES[0])

    _, status = os.waitpid(forked(child), 0)
    assert status == 0
    assert "1 frames written, 0 flushed" in repr(held[0])
    with pytest.warns(ResourceWarning, match="1 frames are lost"):
        held.clear()
