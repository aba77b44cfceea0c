"""What reads and writes may cost in Python: calls of Python functions, counted, which no busy machine can change.

Each budget is what was measured with Python 3.11, which counts most, and a fifth more. Whoever needs more knows why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.config import config
from zarrdock.stores.base import Read, Results, WrapperStore

SHAPE = (64, 64, 64)

BUDGETS = {
    "small chunk of a large read": 3.7,
    "object of a large read": 73,
    "box of 8 chunks in one shard": 295,
    "the same box, remote": 338,
    "element": 35,
    "chunk that was kept": 4.2,
    "element of a chunk that was kept": 30,
    "chunk of a large write": 19,
    "chunk written into a full shard": 327,
    "open again": 117,
    "plan of 8 shards": 900,
}


def n_calls(act: Callable[[], Any]) -> int:
    """Python functions called, generators entered included, in this thread."""
    n = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal n
        n += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return n


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "threads", 1)


@pytest.fixture
def store(one_thread: None) -> zarrdock.Store:
    """Arrays of 512 chunks of 8^3 in 8 shards, and of 64 chunks of 16^3 without."""
    store = zarrdock.MemoryStore()
    values = np.random.default_rng(0).integers(1, 1000, SHAPE, np.uint16)
    zarrdock.create_array(store, name="sharded", data=values, chunks=(8, 8, 8), shards=(32, 32, 32))
    zarrdock.create_array(store, name="chunks", data=values, chunks=(16, 16, 16))
    return store


def test_a_large_read(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="sharded")
    array[:1]
    assert n_calls(lambda: array[...]) / 512 <= BUDGETS["small chunk of a large read"]


def test_objects(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="chunks")
    array[:1]
    assert n_calls(lambda: array[...]) / 64 <= BUDGETS["object of a large read"]


def test_a_box(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="sharded")
    array[3:13, 3:13, 3:13]
    assert n_calls(lambda: array[3:13, 3:13, 3:13]) <= BUDGETS["box of 8 chunks in one shard"]


class Early(WrapperStore):
    """A remote store whose answers are there as soon as they are asked for."""

    def __init__(self, store: zarrdock.Store) -> None:
        super().__init__(store)
        self.traits = replace(store.traits, remote=True, n_concurrent=16)

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]]:
        futures: list[Future[Results]] = []
        for part in parts:
            futures.append(Future())
            futures[-1].set_result(self.store.read(part))
        return futures


def test_a_box_of_a_remote_store(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(Early(store), path="sharded")
    array[3:13, 3:13, 3:13]
    assert n_calls(lambda: array[3:13, 3:13, 3:13]) <= BUDGETS["the same box, remote"]


def test_an_element(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="sharded")
    array[1, 2, 3]
    assert n_calls(lambda: array[4, 5, 6]) <= BUDGETS["element"]


def test_kept_chunks(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="sharded", cache_bytes=2**24)
    array[...]
    assert n_calls(lambda: array[...]) / 512 <= BUDGETS["chunk that was kept"]
    assert n_calls(lambda: array[1, 2, 3]) <= BUDGETS["element of a chunk that was kept"]


def test_a_large_write(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, "r+", path="sharded")
    values = array[...]
    assert n_calls(lambda: array.write(..., values)) / 512 <= BUDGETS["chunk of a large write"]


def test_a_chunk_of_a_shard(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, "r+", path="sharded")
    values = array[:8, :8, :8] + np.uint16(1)
    assert n_calls(lambda: array.write(np.s_[:8, :8, :8], values)) <= BUDGETS["chunk written into a full shard"]


def test_opening(store: zarrdock.Store) -> None:
    zarrdock.open_array(store, path="sharded", zarr_format=3)
    assert n_calls(lambda: zarrdock.open_array(store, path="sharded", zarr_format=3)) <= BUDGETS["open again"]


def test_masks_of_runs(store: zarrdock.Store) -> None:
    """A mask, or a list of rows, costs what slices of the same chunks cost."""
    mask = np.zeros(SHAPE, bool)
    mask[3:40] = True
    rows = np.arange(3, 40)
    scattered = np.append(rows, 60)
    for path in ("sharded", "chunks"):
        array = zarrdock.open_array(store, path=path)
        array[...]
        slices = n_calls(lambda: array[3:40])  # noqa: B023 - called at once
        for selection in (mask, rows, mask[:, 0, 0]):
            assert n_calls(lambda: array[selection]) <= slices + 80  # noqa: B023
        assert n_calls(lambda: array[scattered]) <= 3 * n_calls(lambda: array[...])  # noqa: B023


def test_a_plan(store: zarrdock.Store) -> None:
    array = zarrdock.open_array(store, path="sharded")
    array[...]
    assert n_calls(lambda: array.plan(...)) <= BUDGETS["plan of 8 shards"]
