"""While something is read or written the interpreter's switch interval is short; then it is again what it was."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

import zarrdock
from zarrdock.config import config
from zarrdock.stores.base import Read, Results, Value, Version, WrapperStore
from zarrdock.switch_interval import short_turns

DEFAULT = 0.005


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(DEFAULT)
    yield
    sys.setswitchinterval(before)


class Watched(WrapperStore):
    """Looks at the interval whenever it is asked for data."""

    def __init__(self, store: zarrdock.Store) -> None:
        super().__init__(store)
        self.seen: list[float] = []

    def read(self, requests: Sequence[Read], /) -> Results:
        if any(read.key.startswith("c/") for read in requests):  # not the array's document
            self.seen.append(sys.getswitchinterval())
        return self.store.read(requests)

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        self.seen.append(sys.getswitchinterval())
        return self.store.write(key, value, create_only=create_only)


def make() -> tuple[Watched, zarrdock.Array]:
    values = np.arange(4096, dtype="u2").reshape(64, 64)
    store = Watched(zarrdock.MemoryStore())
    array = zarrdock.create_array(store, data=values, chunks=(16, 16))
    store.seen.clear()
    return store, array


def test_reads_and_writes() -> None:
    store, array = make()
    array[3:40]
    array.write(..., array[...])
    asyncio.run(array.read_async(np.s_[3:40]))
    assert len(store.seen) >= 3
    assert store.seen == pytest.approx([config.switch_seconds] * len(store.seen))
    assert sys.getswitchinterval() == pytest.approx(DEFAULT)


def test_a_failed_read() -> None:
    store, array = make()
    store.store.write("c/0/0", b"?")
    with pytest.raises(zarrdock.errors.CodecError):
        array[...]
    assert sys.getswitchinterval() == pytest.approx(DEFAULT)


def test_left_alone() -> None:
    store, array = make()
    with config.set(switch_seconds=0):
        array[...]
    sys.setswitchinterval(1e-4)  # shorter than ours
    array[...]
    assert store.seen == pytest.approx([DEFAULT, 1e-4])
    assert sys.getswitchinterval() == pytest.approx(1e-4)


def test_what_others_set_meanwhile_stays() -> None:
    with short_turns:
        sys.setswitchinterval(0.02)
    assert sys.getswitchinterval() == pytest.approx(0.02)


def test_nested_and_in_several_threads() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with short_turns:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with short_turns, short_turns:
        thread.start()
        inside.wait()
    assert sys.getswitchinterval() == pytest.approx(config.switch_seconds)
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == pytest.approx(DEFAULT)


def test_a_forked_child() -> None:
    """Of the threads that read in the parent none is there to end the read."""
    with short_turns:
        short_turns.reset()  # as in the child
        assert sys.getswitchinterval() == pytest.approx(DEFAULT)
    assert sys.getswitchinterval() == pytest.approx(DEFAULT)
    make()[1][...]
    assert sys.getswitchinterval() == pytest.approx(DEFAULT)
