"""Small reads, whose chunks several threads take one by one."""

import threading
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.execution import decode
from zarrdock.array.execution.decode import Scatter
from zarrdock.config import config
from zarrdock.errors import CodecError

VALUES = np.random.default_rng(0).integers(0, 1000, (96, 96, 96)).astype("u2")


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "threads", 4)
    monkeypatch.setattr(config, "inline_bytes", 0)
    monkeypatch.setattr(config, "compiled", 0)


@pytest.fixture(params=[None, (96, 96, 96), (64, 32, 96)])
def array(request: pytest.FixtureRequest) -> zarrdock.Array:
    shards = request.param
    return zarrdock.create_array(zarrdock.MemoryStore(), data=VALUES, chunks=(32, 32, 32), shards=shards)


SELECTIONS: dict[str, Any] = {
    "all": ...,
    "box": np.s_[5:70, 10:90, 40:41],
    "steps": np.s_[::7, 90:2:-3, 31:33],
    "integer": np.s_[:, 40],
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_values(array: zarrdock.Array, selection: str) -> None:
    index = SELECTIONS[selection]
    for _ in range(3):
        np.testing.assert_array_equal(array[index], VALUES[index])
    out = np.zeros_like(VALUES[index])
    assert array.read(index, out=out) is out
    np.testing.assert_array_equal(out, VALUES[index])


def test_points(array: zarrdock.Array) -> None:
    points = tuple(np.random.default_rng(1).integers(0, 96, (3, 200)))
    np.testing.assert_array_equal(array.vindex[points], VALUES[points])
    np.testing.assert_array_equal(array.oindex[[90, 3, 3], :, [1, 50]], VALUES[np.ix_([90, 3, 3], range(96), [1, 50])])


def test_several_threads_take_part(array: zarrdock.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    lock = threading.Lock()
    together = threading.Barrier(2)
    work_off = Scatter._work_off

    def noted(self: Scatter, work: Any) -> None:
        with lock:
            waits = len(threads) < 2
            threads.add(threading.get_ident())
        if waits:
            together.wait(30)
        work_off(self, work)

    monkeypatch.setattr(Scatter, "_work_off", noted)
    np.testing.assert_array_equal(array[...], VALUES)
    assert len(threads) >= 2


def test_damage_is_named(array: zarrdock.Array) -> None:
    key = "c/0/0/0"
    data = bytearray(array.store.get(key).data)  # type: ignore[union-attr]
    data[:40] = bytes(40)
    array.store.write(key, data)
    with pytest.raises(CodecError) as caught:
        array[...]
    assert caught.value.key == key
    assert caught.value.chunk == (None if array.shards is None else (0, 0, 0))
    assert array[40, 40, 40] == VALUES[40, 40, 40]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Thin slices of small chunks bring much that is not wanted.
    monkeypatch.setattr(config, "job_bytes", 10_000)
    held: list[int] = []
    take = Scatter._take

    def noted(self: Scatter, found: Any) -> None:
        take(self, found)
        held.append(sum(len(buffer) for each in self._batch for buffer in each.buffers))

    monkeypatch.setattr(Scatter, "_take", noted)
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype("u1")
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), data=values, chunks=(8, 8, 8), shards=(16, 64, 64), compressors=None
    )
    np.testing.assert_array_equal(array[:, :, 0], values[:, :, 0])
    largest = max(held)
    assert len(held) == 4
    assert largest < decode._SHARED_JOBS * 10_000 + 16 * 64 * 64


@pytest.mark.parametrize("n_each", [1, 3, 7, 100])
def test_groups(n_each: int) -> None:
    class Leaves:
        def __init__(self, numbers: list[int]) -> None:
            self.numbers = numbers

        def part(self, first: int, stop: int) -> "Leaves":
            return Leaves(self.numbers[first:stop])

    batch: Any = [Leaves([1]), Leaves([2, 3, 4, 5]), Leaves([6]), Leaves([7]), Leaves([*range(8, 20)])]
    groups = decode._groups(batch, n_each)
    assert [n for group in groups for each in group for n in each.numbers] == [*range(1, 20)]
    assert {sum(len(each.numbers) for each in group) for group in groups[:-1]} <= {n_each}
