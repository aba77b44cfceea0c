"""Many threads, processes and event loops on one array; copies of the object."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import ReadOnlyError, SelectionError, ShardIndexError


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.Store:
    return zarrdock.MemoryStore() if request.param == "memory" else zarrdock.LocalStore(tmp_path)


def at_once(acts: Iterable[Callable[[], Any]]) -> list[Any]:
    """All of them in threads that begin together; their results, or the first error."""
    acts = list(acts)
    barrier = threading.Barrier(len(acts))

    def act(what: Callable[[], Any]) -> Any:
        barrier.wait()
        return what()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result() for future in [pool.submit(act, what) for what in acts]]


@pytest.mark.parametrize("shards", [(8,), [(8,), (4,)]])
@pytest.mark.parametrize("how", ["one object", "an object each"])
def test_eight_writers_of_one_shard(store: zarrdock.Store, shards: Any, how: str) -> None:
    zarrdock.create_array(store, shape=8, chunks=1, shards=shards, dtype="i4")
    one = zarrdock.open_array(store, "r+")
    for turn in range(1, 6):
        arrays = [one if how == "one object" else zarrdock.open_array(store, "r+") for _ in range(8)]
        at_once([lambda i=i, a=a: a.write(i, 10 * turn + i) for i, a in enumerate(arrays)])  # type: ignore[misc] # noqa: B023
        assert one[...].tolist() == [10 * turn + i for i in range(8)]


@pytest.mark.parametrize("shards", [None, (8,)])
def test_writers_of_parts_of_one_chunk(store: zarrdock.Store, shards: Any) -> None:
    array = zarrdock.create_array(store, shape=8, chunks=8, shards=shards, dtype="i4", zarr_format=3)
    at_once([lambda i=i: array.write(i, i + 1) for i in range(8)])  # type: ignore[misc]
    assert array[...].tolist() == list(range(1, 9))


def test_threads_append_to_one_object(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(store, shape=(0, 2), chunks=(2, 2), shards=(6, 2), dtype="i4")

    def append(number: int) -> None:
        for i in range(10):
            array.append(np.full((3, 2), 100 * number + i))

    at_once([lambda n=n: append(n) for n in range(1, 5)])  # type: ignore[misc]
    check_appended(zarrdock.open_array(store), 4, 10)
    assert array.shape == (120, 2)


def check_appended(array: zarrdock.Array, n_writers: int, n_times: int) -> None:
    """Every piece of three rows is there once, whole, and in its writer's order."""
    assert array.shape == (3 * n_writers * n_times, 2)
    pieces = array[...].reshape(-1, 6)
    assert (pieces == pieces[:, :1]).all()
    order = pieces[:, 0].tolist()
    assert sorted(order) == sorted(100 * n + i for n in range(1, n_writers + 1) for i in range(n_times))
    for n in range(1, n_writers + 1):
        assert [v for v in order if v // 100 == n] == [100 * n + i for i in range(n_times)]


APPENDER = """
import sys, numpy, zarrdock
array = zarrdock.open_array(sys.argv[1], "r+")
number = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(8):
    array.append(numpy.full((3, 2), 100 * number + i))
"""


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_processes_append(tmp_path: Path, zarr_format: Any) -> None:
    zarrdock.create_array(tmp_path, shape=(0, 2), chunks=(4, 2), dtype="i4", zarr_format=zarr_format)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(tmp_path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(1, 5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    check_appended(zarrdock.open_array(tmp_path), 4, 8)


def test_attributes_set_by_many(store: zarrdock.Store) -> None:
    zarrdock.create_array(store, shape=1, dtype="u1")
    arrays = [zarrdock.open_array(store, "r+") for _ in range(6)]
    at_once([lambda i=i, a=a: a.attrs.update({str(i): i}) for i, a in enumerate(arrays)])  # type: ignore[misc]
    assert dict(zarrdock.open_array(store).attrs) == {str(i): i for i in range(6)}


def test_readers_share_one_object(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(store, shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="i4")
    data = np.arange(4096).reshape(64, 64)
    array[...] = data
    rng = np.random.default_rng(1)
    boxes = [tuple(slice(a, a + 20) for a in rng.integers(0, 44, 2)) for _ in range(40)]
    for found, box in zip(at_once([lambda b=b: array[b] for b in boxes]), boxes, strict=True):  # type: ignore[misc]
        np.testing.assert_array_equal(found, data[box])


# -- coroutines -------------------------------------------------------------------------------------------------------


def test_coroutines_on_several_loops(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(store, shape=64, chunks=4, shards=16, dtype="i4")
    array[...] = np.arange(64)

    async def work(number: int) -> list[Any]:
        parts = await asyncio.gather(*(array.read_async(slice(i, i + 9)) for i in range(0, 40, 5)))
        await array.write_async(slice(48 + 4 * number, 52 + 4 * number), -number)
        out = np.empty(2, "i8")
        assert await array.read_async([1, 2], out=out) is out
        assert out.tolist() == [1, 2]
        # The same object used synchronously, in a running loop.
        assert array[3] == 3
        return [part.tolist() for part in parts]

    expected = [list(range(i, i + 9)) for i in range(0, 40, 5)]
    for _ in range(2):
        assert at_once([lambda n=n: asyncio.run(work(n)) for n in range(4)]) == [expected] * 4  # type: ignore[misc]
    assert array[48:].tolist() == [-n for n in range(4) for _ in range(4)]


async def test_errors_in_coroutines(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(store, name="x", shape=64, chunks=4, shards=16, dtype="i4", compressors=None)
    array[...] = 1
    with pytest.raises(SelectionError):
        await array.read_async(100)
    with pytest.raises(SelectionError):
        await array.read_async(..., np.empty(3))
    with pytest.raises(SelectionError):
        await array.write_async(slice(0, 3), np.zeros(5))
    blob = store.get("x/c/1")
    assert blob is not None
    for n in (10, 0, 80):
        store.write("x/c/1", bytes(blob.data[:n]))
        for selection in (slice(20, 22), slice(0, 40)):
            with pytest.raises(ShardIndexError) as caught:
                await array.read_async(selection)
            assert caught.value.key == "x/c/1"


async def test_a_cancelled_read_leaves_the_array_usable(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(store, shape=10_000, chunks=10, shards=1000, dtype="i4")
    array[...] = 1
    for delay in (0.0, 0.001, 0.005):
        task = asyncio.create_task(array.read_async())
        await asyncio.sleep(delay)
        task.cancel()
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(done, asyncio.CancelledError) or done.sum() == 10_000
        assert (await array.read_async()).sum() == 10_000


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_read_and_write(store: zarrdock.Store, make: Callable[[Any], Any]) -> None:
    group = zarrdock.create_group(store)
    array = group.create_array("a/x", shape=(20, 20), chunks=(4, 4), shards=(8, 8), dtype="i4", fill_value=3)
    array[:10] = 1
    array[0, 0]
    other = make(array)
    assert other.metadata == array.metadata
    assert (other.path, other.read_only, other.shape) == (array.path, False, (20, 20))
    np.testing.assert_array_equal(other[...], array[...])
    other[0, 0] = 5
    assert other[0, 0] == 5
    if not (isinstance(store, zarrdock.MemoryStore) and make is not copy.copy):  # a copy of the contents, too
        assert array[0, 0] == 5
    read_only = make(zarrdock.open_array(store, path="a/x"))
    with pytest.raises(ReadOnlyError):
        read_only[0, 0] = 1
    found = make(group)
    assert list(found) == ["a"]
    assert found["a/x"][1, 1] == 1


def test_settings_of_the_writer_survive_pickling(tmp_path: Path) -> None:
    array = zarrdock.create_array(
        zarrdock.LocalStore(tmp_path),
        shape=16,
        chunks=1,
        shards=16,
        dtype="u1",
        compressors=None,
        options={"subchunk_write_order": tuple(range(15, -1, -1)), "write_empty_chunks": True},
    )
    other = pickle.loads(pickle.dumps(array))
    other[...] = np.arange(16)
    assert (tmp_path / "c" / "0").read_bytes()[:16] == bytes(range(15, -1, -1))


FORK = """
import os, sys, threading, numpy, zarrdock
zarrdock.config.threads, zarrdock.config.inline_bytes, zarrdock.config.job_bytes = 3, 0, 1000
array = zarrdock.open_array(sys.argv[1], "r+")
stop = threading.Event()

def keep_busy():
    while not stop.is_set():
        array[100:200] = array[100:200]

busy = threading.Thread(target=keep_busy)
busy.start()
assert array[...].sum() == 10_000
for turn in range(5):
    child = os.fork()
    if child == 0:
        try:
            assert array[...].sum() == 10_000
            array[turn] = 1
            array[5000 + turn : 5010] = 1
            assert array[:200].sum() == 200
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
busy.join()
assert array[...].sum() == 10_000
print("done")
"""


def test_a_forked_child_reads_and_writes(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path, shape=10_000, chunks=100, shards=1000, dtype="i4")
    array[...] = 1
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", (done.stdout, done.stderr)
