"""Group commit: threads that change parts of one object share rewrites, each with its own outcome."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import zarrdock
from support.stores import HookedStore
from zarrdock.array.execution import read_write
from zarrdock.errors import StoreError

N = 8


class Gate:
    """Holds the first update until ``n`` more writers wait, and counts the updates."""

    def __init__(self, store: zarrdock.Store, failure: Exception | None = None) -> None:
        self.n_updates = 0
        self.failure = failure
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.store = HookedStore(store, self.before)

    def before(self, event) -> None:
        if event.verb != "update" or not event.key.startswith("c/"):
            return
        self.n_updates += 1
        if self.n_updates == 1:
            self.entered.set()
            assert self.go_on.wait(10)
        elif self.failure is not None:
            raise self.failure


@contextmanager
def all_at_once(gate: Gate, work) -> Iterator[list[BaseException | None]]:
    """``work(0)`` goes ahead; ``work(1)`` to ``work(N - 1)`` come while it is at it."""
    raised: list[BaseException | None] = [None] * N

    def run(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            raised[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(N)]
    threads[0].start()
    assert gate.entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 10
    while sum(map(len, read_write._combiner._queue.waiting.values())) < N - 1:  # the first one's has been taken off
        assert time.monotonic() < deadline
    gate.go_on.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not read_write._combiner._queue.waiting
    yield raised


def make(inner: zarrdock.Store) -> np.ndarray:
    data = np.arange(4 * N)
    zarrdock.create_array(inner, data=data, chunks=4, shards=4 * N)
    return data


@pytest.mark.parametrize("apart", [False, True])
def test_two_rewrites_for_many_writers(tmp_path, apart: bool) -> None:
    data = make(inner := zarrdock.LocalStore(tmp_path))
    gate = Gate(inner)
    arrays = [zarrdock.open_array(gate.store, mode="r+") for _ in range(N if apart else 1)]

    def work(i: int) -> None:
        arrays[i % len(arrays)][4 * i + 1 : 4 * i + 3] = -i - 1

    with all_at_once(gate, work) as raised:
        assert raised == [None] * N
    assert gate.n_updates == 2
    for i in range(N):
        data[4 * i + 1 : 4 * i + 3] = -i - 1
    assert np.array_equal(zarrdock.open_array(inner)[:], data)


def test_one_bad_change_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(inner := zarrdock.MemoryStore())
    gate = Gate(inner)
    array = zarrdock.open_array(gate.store, mode="r+")
    bad = threading.local()
    write = read_write._write_task

    def checked(store, edit, cache, check, check_whole, expected, task) -> None:
        def refuse() -> None:
            raise KeyError("bad")

        check = refuse if getattr(bad, "is_bad", False) else check
        write(store, edit, cache, check, check_whole, expected, task)

    monkeypatch.setattr(read_write, "_write_task", checked)

    def work(i: int) -> None:
        bad.is_bad = i == 3
        array[4 * i + 1] = -i - 1

    with all_at_once(gate, work) as raised:
        assert [type(error) for error in raised] == [KeyError if i == 3 else type(None) for i in range(N)]
    for i in set(range(N)) - {3}:
        data[4 * i + 1] = -i - 1
    assert np.array_equal(zarrdock.open_array(inner)[:], data)


def test_a_store_that_refuses_is_asked_once_for_all() -> None:
    make(inner := zarrdock.MemoryStore())
    gate = Gate(inner, StoreError("the service is down", key="c/0"))
    array = zarrdock.open_array(gate.store, mode="r+")

    def work(i: int) -> None:
        array[4 * i + 1] = -i - 1

    with all_at_once(gate, work) as raised:
        assert raised[0] is None
        assert [type(error) for error in raised[1:]] == [StoreError] * (N - 1)
        assert len({id(error) for error in raised}) == N  # a traceback each
    assert gate.n_updates == 2
