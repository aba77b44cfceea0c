"""Stores that break and delay, on purpose and on demand."""

from __future__ import annotations

import asyncio
import fnmatch
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from zarrdock.errors import StoreError
from zarrdock.stores.base import (
    Blob,
    Buffer,
    Change,
    Entry,
    Listing,
    PatchChange,
    Read,
    Results,
    Store,
    Value,
    Version,
    WrapperStore,
    value_parts,
)
from zarrdock.stores.wrappers import settled

__all__ = ["FaultyStore", "LatencyStore", "StoreFault"]


@dataclass(frozen=True, slots=True)
class StoreFault:
    """A fault: its kind, the calls it hits, and how often.

    Attributes:
        method: the name of the store's method, "*" for any.
        key: a pattern (``fnmatch``) for the key or prefix; of ``read`` any of its keys.
        error: raised; a class is called with a message and the key. None where only ``spoil`` is wanted.
        count: number of calls it hits; None for all.
        after: number of matching calls that go well first.
        when: "before" the call, or "lost": it is done, and the error comes all the same, as when a reply is lost.
        spoil: for ``read``: given the bytes of each blob whose key matches, returns those to be handed out.

    >>> from zarrdock.testing import FaultyStore, StoreFault
    >>> store = FaultyStore(zarrdock.MemoryStore(), [StoreFault("write", after=1, when="lost")])
    >>> _ = store.write("a", b"1")
    >>> store.write("b", b"2")
    Traceback (most recent call last):
        ...
    zarrdock.errors.StoreError: injected fault in write (key 'b')
    """

    method: str = "*"
    key: str = "*"
    error: Exception | type[StoreError] | None = StoreError
    count: int | None = 1
    after: int = 0
    when: Literal["before", "lost"] = "before"
    spoil: Callable[[Buffer], Buffer] | None = None

    def make_error(self, key: str) -> Exception | None:
        """The error to raise for ``key``."""
        if isinstance(self.error, type):
            return self.error(f"injected fault in {self.method}", key=key)
        return self.error


class FaultyStore(WrapperStore):
    """Forwards every call to the store inside, except those hit by a fault.

    Every call is compared with the faults in their order: each that matches counts it, the first that is due hits it.

    Attributes:
        n_faults: calls hit by a fault.

    >>> from zarrdock.testing import FaultyStore, StoreFault
    >>> store = FaultyStore(zarrdock.MemoryStore(), [StoreFault("write", "c/*")])
    >>> store.write("c/0", b"value")
    Traceback (most recent call last):
        ...
    zarrdock.errors.StoreError: injected fault in write (key 'c/0')
    """

    def __init__(self, store: Store, faults: Sequence[StoreFault] = ()) -> None:
        super().__init__(store)
        self.n_faults = 0
        self._lock = threading.Lock()
        self._faults: list[StoreFault] = [*faults]
        self._n_calls = [0] * len(faults)

    def add(self, fault: StoreFault) -> None:
        """Add a fault."""
        with self._lock:
            self._faults.append(fault)
            self._n_calls.append(0)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()
            self._n_calls.clear()

    def _due(self, method: str, keys: Sequence[str]) -> tuple[StoreFault, str] | None:
        due = None
        with self._lock:
            for i, fault in enumerate(self._faults):
                key = next((key for key in keys if fnmatch.fnmatchcase(key, fault.key)), None)
                if key is None or fault.method not in ("*", method):
                    continue
                n = self._n_calls[i] - fault.after
                self._n_calls[i] += 1
                if due is None and n >= 0 and (fault.count is None or n < fault.count):
                    due = fault, key
            self.n_faults += due is not None
        return due

    def _call(self, method: str, key: str, call: Callable[[], Any]) -> Any:
        due = self._due(method, [key])
        if due is None:
            return call()
        fault, key = due
        error = fault.make_error(key)
        if error is not None and fault.when == "before":
            raise error
        result = call()
        if error is not None:
            raise error
        return result

    def read(self, requests: Sequence[Read], /) -> Results:
        due = self._due_to_read(requests)
        return _answered(due, requests, self.store.read(requests))

    async def aread(self, requests: Sequence[Read], /) -> Results:
        due = self._due_to_read(requests)
        return _answered(due, requests, await self.store.aread(requests))

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        try:
            due = self._due_to_read([read for part in parts for read in part])
        except Exception as error:  # raised where the answers are looked at, as errors of requests are
            return [_failed(error) for _ in parts]
        futures = self.store.submit_read(parts)
        if futures is None:
            return None
        return [settled(future, partial(_answered, due, part)) for future, part in zip(futures, parts, strict=True)]

    def _due_to_read(self, requests: Sequence[Read]) -> tuple[StoreFault, Exception | None] | None:
        due = self._due("read", [request.key for request in requests])
        if due is None:
            return None
        fault, key = due
        error = fault.make_error(key)
        if error is not None and fault.when == "before" and fault.spoil is None:
            raise error
        return fault, error

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        version: Version | None = self._call(
            "write", key, lambda: self.store.write(key, value, create_only=create_only)
        )
        return version

    def update(self, key: str, change: Change, /) -> None:
        self._call("update", key, lambda: self.store.update(key, change))

    def patch(self, key: str, change: PatchChange, /) -> None:
        self._call("update", key, lambda: self.store.patch(key, change))

    def delete(self, key: str, /) -> None:
        self._call("delete", key, lambda: self.store.delete(key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            self.delete(key)

    def delete_prefix(self, prefix: str, /) -> None:
        self._call("delete_prefix", prefix, lambda: self.store.delete_prefix(prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        entries: Iterator[Entry] = self._call("list", prefix, lambda: self.store.list(prefix))
        return entries

    def list_dir(self, prefix: str = "", /) -> Listing:
        listing: Listing = self._call("list_dir", prefix, lambda: self.store.list_dir(prefix))
        return listing

    def size(self, key: str, /) -> int | None:
        nbytes: int | None = self._call("size", key, lambda: self.store.size(key))
        return nbytes

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        errors: list[Exception] = []
        for key in keys:  # each of them may fail
            due = self._due("size", [key])
            error = None if due is None else due[0].make_error(key)
            if due is not None and error is not None:
                if due[0].when == "before":
                    raise error
                errors.append(error)
        found = self.store.sizes(keys)
        if errors:
            raise errors[0]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _answered(due: tuple[StoreFault, Exception | None] | None, requests: Sequence[Read], results: Results) -> Results:
    if due is None:
        return results
    fault, error = due
    if fault.spoil is None:
        if error is not None:
            raise error
        return results
    return [
        Blob(fault.spoil(result.data), result.version)
        if isinstance(result, Blob) and fnmatch.fnmatchcase(request.key, fault.key)
        else result
        for request, result in zip(requests, results, strict=True)
    ]


def _failed(error: Exception) -> Future[Results]:
    future: Future[Results] = Future()
    future.set_exception(error)
    return future


class LatencyStore(WrapperStore):
    """Forwards every call with a delay: a batch of reads waits once, as requests that travel together do.

    Args:
        seconds: delay of every call. A read returns the values the store held before the delay.
        seconds_per_byte: further delay for every byte read or written.

    >>> from zarrdock.testing import LatencyStore
    >>> LatencyStore(zarrdock.MemoryStore(), 0.01).get("key") is None
    True
    """

    def __init__(self, store: Store, seconds: float, *, seconds_per_byte: float = 0.0) -> None:
        super().__init__(store)
        self.seconds = seconds
        self.seconds_per_byte = seconds_per_byte

    def _wait(self, nbytes: int = 0) -> None:
        time.sleep(self._seconds(nbytes))

    def _seconds(self, nbytes: int) -> float:
        return self.seconds + nbytes * self.seconds_per_byte

    def read(self, requests: Sequence[Read], /) -> Results:
        results = self.store.read(requests)
        self._wait(_nbytes(results))
        return results

    async def aread(self, requests: Sequence[Read], /) -> Results:
        results = await self.store.aread(requests)
        await asyncio.sleep(self._seconds(_nbytes(results)))
        return results

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        futures = self.store.submit_read(parts)
        return None if futures is None else [self._late(future) for future in futures]

    def _late(self, future: Future[Results]) -> Future[Results]:
        late: Future[Results] = Future()

        def settle() -> None:
            if late.set_running_or_notify_cancel():
                error = future.exception()
                if error is None:
                    late.set_result(future.result())
                else:
                    late.set_exception(error)

        def came(done: Future[Results]) -> None:
            nbytes = 0 if done.cancelled() or done.exception() is not None else _nbytes(done.result())
            timer = threading.Timer(self._seconds(nbytes), settle)
            timer.daemon = True
            timer.start()

        late.add_done_callback(lambda done: done.cancelled() and future.cancel())
        future.add_done_callback(came)
        return late

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        parts = value_parts(value)
        self._wait(sum(map(len, parts)))
        return self.store.write(key, parts, create_only=create_only)

    def update(self, key: str, change: Change, /) -> None:
        self._wait()
        self.store.update(key, change)

    def patch(self, key: str, change: PatchChange, /) -> None:
        self._wait()
        self.store.patch(key, change)

    def delete(self, key: str, /) -> None:
        self._wait()
        self.store.delete(key)

    def delete_many(self, keys: Sequence[str], /) -> None:
        self._wait()
        self.store.delete_many(keys)

    def delete_prefix(self, prefix: str, /) -> None:
        self._wait()
        self.store.delete_prefix(prefix)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        self._wait()
        return self.store.list(prefix)

    def list_dir(self, prefix: str = "", /) -> Listing:
        self._wait()
        return self.store.list_dir(prefix)

    def size(self, key: str, /) -> int | None:
        self._wait()
        return self.store.size(key)

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        self._wait()
        return self.store.sizes(keys)


def _nbytes(results: Results) -> int:
    return sum(memoryview(result.data).nbytes for result in results if isinstance(result, Blob))
