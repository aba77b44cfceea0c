"""Reading ahead: the next round is on its way while one is decoded, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.execution.decode import Scatter
from zarrdock.array.execution.drivers import Ahead
from zarrdock.array.planning import rounds
from zarrdock.array.planning.rounds import Round
from zarrdock.codecs import compiled
from zarrdock.config import config
from zarrdock.copying.sources import ZarrSource
from zarrdock.errors import ShardIndexError, StoreError
from zarrdock.stores.base import Read, Results, WrapperStore
from zarrdock.testing import FaultyStore, LatencyStore

SHAPE = (8, 64, 64)


class Far(WrapperStore):
    """A remote store that counts its rounds, and may do something before it answers one."""

    def __init__(self, store: zarrdock.Store) -> None:
        super().__init__(store)
        self.traits = replace(store.traits, remote=True, n_concurrent=16, max_request_bytes=9000)
        self.pool = ThreadPoolExecutor(4)
        self.n = 0
        self.before_answer: Any = None

    def close(self) -> None:
        self.pool.shutdown()

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]]:
        futures = []
        for part in parts:
            number, self.n = self.n, self.n + 1
            futures.append(self.pool.submit(self._answer, number, list(part)))
        return futures

    def _answer(self, number: int, requests: list[Read]) -> Results:
        if self.before_answer is not None:
            self.before_answer(number)
        return self.store.read(requests)

    async def aread(self, requests: Sequence[Read], /) -> Results:
        return await asyncio.wrap_future(self.submit_read([requests])[0])


@pytest.fixture
def values() -> Any:
    return np.random.default_rng(1).integers(0, 1000, SHAPE, np.uint16)


@pytest.fixture(params=["shards", "one large shard", "chunks"])
def far(request: pytest.FixtureRequest, values: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store with an array that takes several rounds to read."""
    monkeypatch.setattr(config, "remote_round_bytes", 20_000)
    monkeypatch.setattr(config, "whole_fraction", 2.0)  # through the index, whatever is read
    shards = {"shards": (2, 64, 64), "one large shard": SHAPE, "chunks": None}[request.param]
    inner = zarrdock.MemoryStore()
    array = zarrdock.create_array(
        inner, shape=SHAPE, chunks=(1, 64, 64), shards=shards, dtype="uint16", compressors=None, fill_value=0
    )
    array[...] = values
    with Far(inner) as store:
        yield store


def test_the_next_round_is_sent_before_this_one_is_answered(far: Far, values: Any) -> None:
    array = zarrdock.open_array(far, mode="r", zarr_format=3)
    array[:1]
    far.n = 0
    n_in_company = 0

    def look(number: int) -> None:
        nonlocal n_in_company
        for _ in range(20):
            if far.n > number + 1:
                n_in_company += 1
                return
            threading.Event().wait(0.01)

    far.before_answer = look
    assert np.array_equal(array[...], values)
    assert far.n >= 3
    assert n_in_company >= far.n - 3  # not the indexes, not the last round, and not the last of shards read in step


WRAPPERS: dict[str, Any] = {
    "recording": zarrdock.RecordingStore,
    "prefix": lambda store: zarrdock.PrefixStore(store, ""),
    "read only": zarrdock.ReadOnlyStore,
    "costs": lambda store: store.with_costs(merge_gap_bytes=0),
    "faulty": FaultyStore,
    "slow": lambda store: LatencyStore(store, 0.001),
    "several": lambda store: zarrdock.RecordingStore(zarrdock.ReadOnlyStore(LatencyStore(store, 0.001))),
    "source of a copy": lambda store: ZarrSource(store, "", zarrdock.open_array(store).metadata).array.store,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_read_ahead_too(name: str, far: Far, values: Any) -> None:
    """What is measured, slowed down or broken is the way that reads take."""
    store = WRAPPERS[name](far)
    array = zarrdock.open_array(store, mode="r", zarr_format=3)
    array[...]  # the indexes are known now
    plan = array.plan()
    assert plan.n_rounds > 1
    early = threading.Event()

    def look(number: int) -> None:
        if number == 0:
            early.wait(10)  # until another round was sent
        elif number:
            early.set()

    far.n = 0
    far.before_answer = look
    if isinstance(store, zarrdock.RecordingStore):
        store.reset()
    assert np.array_equal(array[...], values)
    assert early.is_set()
    if isinstance(store, zarrdock.RecordingStore):
        assert (store.n_rounds, store.n_requests, store.nbytes) == (plan.n_rounds, plan.n_requests, plan.nbytes)


def test_the_same_from_a_coroutine(far: Far, values: Any) -> None:
    array = zarrdock.open_array(far, mode="r", zarr_format=3)
    assert np.array_equal(asyncio.run(array.read_async()), values)
    assert far.n >= 3


def note_decoding(monkeypatch: pytest.MonkeyPatch, decoded: threading.Event) -> None:
    """Set an event once chunks were decoded, by whichever of the two ways."""
    in_python, compiled_way = Scatter._decode, compiled.decode

    def noted(way: Any, *args: Any) -> Any:
        answer = way(*args)
        decoded.set()
        return answer

    monkeypatch.setattr(Scatter, "_decode", lambda *args: noted(in_python, *args))
    monkeypatch.setattr(compiled, "decode", lambda *args: noted(compiled_way, *args))


def test_decoding_overlaps_with_reading(far: Far, values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array = zarrdock.open_array(far, mode="r", zarr_format=3)
    monkeypatch.setattr(config, "threads", 2)
    monkeypatch.setattr(config, "inline_bytes", 0)
    monkeypatch.setattr(config, "job_bytes", 1)
    decoded = threading.Event()
    note_decoding(monkeypatch, decoded)
    overlapped = []

    def look(number: int) -> None:
        if number == 3:
            overlapped.append(decoded.wait(5))

    array[:1]
    decoded.clear()
    far.before_answer = look
    far.n = 0
    assert np.array_equal(array[...], values)
    assert overlapped
    assert all(overlapped)


def test_a_shard_that_changes_under_way_is_read_again(far: Far, values: Any) -> None:
    array = zarrdock.open_array(far, mode="r", zarr_format=3)
    writer = zarrdock.open_array(far.store, mode="r+")
    assert np.array_equal(array[...], values)  # the indexes are known now
    far.n = 0

    def change(number: int) -> None:
        if number == 0:
            writer[:, 0, 0] = 7

    far.before_answer = change
    found = array[...]
    assert np.array_equal(found[:, 1:], values[:, 1:])
    assert set(found[:, 0, 0]) <= {7, *values[:, 0, 0].tolist()}
    assert np.array_equal(array[:, 0, 0], [7] * SHAPE[0])


def test_errors_of_an_early_round_are_raised(far: Far) -> None:
    array = zarrdock.open_array(far, mode="r", zarr_format=3)
    array[:1]

    def fail(number: int) -> None:
        if number >= 1:
            raise StoreError("broken on purpose")

    far.n = 0
    far.before_answer = fail
    for read in (lambda: array[...], lambda: asyncio.run(array.read_async())):
        far.n = 0
        with pytest.raises(StoreError, match="on purpose"):
            read()


def test_what_is_not_asked_for_is_forgotten() -> None:
    sent: list[tuple[Round, Future[int]]] = []

    def submit(asked: Round) -> list[Future[int]]:
        sent.append((asked, Future()))
        return [sent[-1][1]]

    ahead = Ahead(submit)
    second, other = Round([Read("b")], True, 1), Round([Read("c")], True, 1)
    first = Round([Read("a")], True, 1, second)
    ahead.send(first)
    assert [asked for asked, _ in sent] == [first, second]
    ahead.send(other)
    assert sent[1][1].cancelled()
    ahead.send(first)
    assert ahead.send(second) == [sent[-1][1]]
    assert len(sent) == 5
    ahead.send(first)
    ahead.close()
    assert sent[-1][1].cancelled()


def test_stores_that_can_only_wait() -> None:
    ahead: Ahead[Any] = Ahead(lambda asked: None)
    assert ahead.send(Round([Read("a")], True, 1, Round([Read("b")], True, 1))) is None
    ahead.close()


def test_a_part_is_dealt_with_while_the_next_is_on_its_way(values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of one round: the first is decoded before the last has come."""
    monkeypatch.setattr(rounds, "PART_BYTES", 1)
    monkeypatch.setattr(config, "job_bytes", 1)
    monkeypatch.setattr(config, "threads", 2)
    inner = zarrdock.MemoryStore()
    zarrdock.create_array(inner, data=values, chunks=(1, 64, 64), shards=(2, 64, 64))
    decoded = threading.Event()
    note_decoding(monkeypatch, decoded)
    waited = []

    def look(number: int) -> None:
        if number == 3:  # the last shard is not there before one of the others is decoded
            waited.append(decoded.wait(5))

    with Far(inner) as far:
        array = zarrdock.open_array(far, zarr_format=3)
        far.n = 0
        far.before_answer = look
        assert np.array_equal(array[...], values)
        assert far.n == 4
    assert waited == [True]


def test_an_error_in_a_part_ends_the_read(values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PART_BYTES", 1)
    inner = zarrdock.MemoryStore()
    zarrdock.create_array(inner, data=values, chunks=(1, 64, 64), shards=(2, 64, 64))

    def fail(number: int) -> None:
        if number % 4 == 2:
            raise StoreError("no more", key="k")

    with Far(inner) as far:
        array = zarrdock.open_array(far, zarr_format=3)
        far.n = 0
        far.before_answer = fail
        with pytest.raises(StoreError, match="no more"):
            array[...]
        far.before_answer = None
        assert np.array_equal(array[...], values)


def test_a_truncated_shard_in_a_part_says_so(values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that one task has to put into words, though it comes later than the round's first answers."""
    monkeypatch.setattr(rounds, "PART_BYTES", 1)
    monkeypatch.setattr(config, "whole_fraction", 2.0)
    inner = zarrdock.MemoryStore()
    zarrdock.create_array(inner, data=values, chunks=(1, 64, 64), shards=(2, 64, 64), compressors=None)
    whole = bytes(inner.get("c/2/0/0").data)  # type: ignore[union-attr]
    inner.write("c/2/0/0", whole[-100:])  # the index alone: all that it points to lies beyond the end
    with Far(inner) as far:
        array = zarrdock.open_array(far, zarr_format=3)
        with pytest.raises(ShardIndexError, match="beyond the end") as caught:
            array[...]
    assert caught.value.key == "c/2/0/0"
