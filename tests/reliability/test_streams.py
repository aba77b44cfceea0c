"""Streams from several processes, and processes that are killed: what was flushed is there, and nothing else."""

import mmap
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from support.storms.syscalls import Trap, forked, trapped
from support.storms.workers import in_processes

N, SHARD, FRAME = 1153, 16, (32, 32)
NBYTES = N * 32 * 32 * 2


def frame(seed: int, i: int) -> np.ndarray:
    return np.random.default_rng([seed, i]).integers(1, 2**16, FRAME, "uint16")


def create(store: zarrdock.Store, name: str) -> zarrdock.Array:
    return zarrdock.create_array(
        store, name=name, shape=(0, *FRAME), dtype="uint16", chunks=(1, *FRAME), shards=(SHARD, *FRAME)
    )


def acquire(store: zarrdock.Store, name: str, told: Callable[[zarrdock.Stream], object] | None = None) -> None:
    array = create(store, name)
    with array.stream(memory_bytes=4 * SHARD * 32 * 32 * 2) as out:
        for i in range(N):
            out.write(frame(len(name), i))
            if told is not None:
                told(out)


def acquire_counted(store: zarrdock.Store, name: str) -> tuple[int, int]:
    counting = zarrdock.RecordingStore(store)
    acquire(counting, name)
    return counting.bytes_written, counting.n_writes


@pytest.fixture(params=["local", "S3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.Store:
    if request.param == "local":
        return zarrdock.LocalStore(tmp_path)
    moto: Endpoint = request.getfixturevalue("moto")
    return zarrdock.open_store(f"s3://{moto.bucket}/{tmp_path.name}", storage_options=moto.storage_options)


@pytest.mark.slow
@pytest.mark.server
def test_two_processes_write_each_byte_once(store: zarrdock.Store) -> None:
    names = ["a", "bb"]
    found, _ = in_processes(acquire_counted, [(store, name) for name in names])
    for name, (nbytes, n_writes) in zip(names, found, strict=True):
        assert nbytes <= 1.1 * NBYTES
        assert n_writes == 1 + -(-N // SHARD), "the document, and each shard once"
        array = zarrdock.open_array(store, path=name)
        assert array.shape == (N, *FRAME)
        np.testing.assert_array_equal(array[...], np.stack([frame(len(name), i) for i in range(N)]))


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_loses_what_was_not_flushed_and_nothing_else(store: zarrdock.Store, seed: int) -> None:
    numbers = np.frombuffer(mmap.mmap(-1, 8 * 4), np.int64)  # of each child: frames taken, frames flushed
    names = ["a", "bb"]

    def child(number: int) -> None:
        def told(out: zarrdock.Stream) -> None:
            numbers[2 * number : 2 * number + 2] = out.written, out.flushed

        acquire(store, names[number], told)

    children = [forked(lambda number=number: child(number)) for number in range(2)]  # type: ignore[misc]
    at, limit = random.Random(seed).randrange(100, 900), time.monotonic() + 60
    while numbers[0] < at and time.monotonic() < limit:
        time.sleep(0.005)
    os.kill(children[0], signal.SIGKILL)
    assert os.waitpid(children[0], 0)[1] == signal.SIGKILL, "it had ended before"
    assert os.waitpid(children[1], 0)[1] == 0, "the other one goes on"
    check(zarrdock.open_array(store, path="bb"), N)
    array = zarrdock.open_array(store, mode="r+", path="a", missing="error")
    n, (taken, flushed) = array.shape[0], numbers[:2].tolist()
    assert n % SHARD == 0, "whole shards only"
    assert flushed <= n <= taken + 1
    check(array, n)
    # The next stream goes on where the first one ended, over the objects it may have left.
    with array.stream() as out:
        for i in range(n, n + 40):
            out.write(frame(1, i))
    check(zarrdock.open_array(store, path="a"), n + 40)


def check(array: zarrdock.Array, n: int) -> None:
    assert array.shape == (n, *FRAME)
    if n:
        expected = np.stack([frame(len(array.path), i) for i in range(n)])
        np.testing.assert_array_equal(array[...], expected)


def test_a_kill_at_every_system_call(tmp_path: Path) -> None:
    """There is no moment at which the array is not a whole one, nor one that the next stream does not go on from."""
    frames = np.arange(1, 12 * 4 + 1).reshape(12, 4)

    def work(folder: Path) -> None:
        array = zarrdock.open_array(folder, mode="r+")
        with array.stream() as out:
            for i in range(5, 12):
                out.write(frames[i])
                if i == 9:
                    out.flush()

    for at in range(1000):
        folder = tmp_path / str(at)
        zarrdock.create_array(folder, data=frames[:5], chunks=(1, 4), shards=(5, 4))

        def child(at: int = at, folder: Path = folder) -> None:
            with trapped(Trap(at, lambda name: os.kill(os.getpid(), signal.SIGKILL))):
                work(folder)

        _, status = os.waitpid(forked(child), 0)
        array = zarrdock.open_array(folder, mode="r+")
        n = array.shape[0]
        assert n in (5, 10, 12)
        np.testing.assert_array_equal(array[...], frames[:n])
        with array.stream() as out:
            out.write(frames[n:])
        np.testing.assert_array_equal(array[...], frames)
        if status == 0:
            break
    assert status == 0
    assert at > 20
