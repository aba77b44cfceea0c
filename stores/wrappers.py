"""Stores around a store: a part of it, a read-only face of it, a record of its requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from zarrdock.errors import ReadOnlyError
from zarrdock.ranges import Tail, is_empty
from zarrdock.stores.base import (
    Blob,
    Buffer,
    Change,
    Entry,
    FileBytes,
    Listing,
    OldValue,
    Patch,
    PatchChange,
    Read,
    Results,
    Store,
    Value,
    Version,
    WrapperStore,
    check_key,
    check_prefix,
    value_parts,
)
from zarrdock.stores.identity import Identity

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Event", "PrefixStore", "ReadOnlyStore", "RecordingStore", "RefusingStore"]


class RefusingStore(Store):
    """Refuses every verb that changes something. The base of stores that cannot be written to.

    Attributes:
        refusal: what the error says.
    """

    refusal = "the store is read-only"

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        raise self._refuse(check_key(key, self))

    def update(self, key: str, change: Change, /) -> None:
        raise self._refuse(check_key(key, self))

    def patch(self, key: str, change: PatchChange, /) -> None:
        raise self._refuse(check_key(key, self))

    def delete(self, key: str, /) -> None:
        raise self._refuse(check_key(key, self))

    def delete_many(self, keys: Sequence[str], /) -> None:
        raise self._refuse(keys[0] if keys else "")

    def delete_prefix(self, prefix: str, /) -> None:
        raise self._refuse(check_prefix(prefix, self))

    def _refuse(self, key: str) -> ReadOnlyError:
        return ReadOnlyError(self.refusal, key=key, store=self)


class ReadOnlyStore(RefusingStore, WrapperStore):
    """A store that refuses writes by way of this object.

    >>> store = zarrdock.ReadOnlyStore(zarrdock.open_store({"key": b"value"}))
    >>> store.read_only, bytes(store.get("key").data)
    (True, b'value')
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.read_only = True


class PrefixStore(WrapperStore):
    """The keys of a store below ``prefix``, as a store of their own.

    Errors name the keys of the store inside, and that store.

    >>> store = zarrdock.MemoryStore()
    >>> _ = zarrdock.PrefixStore(store, "a/b").write("key", b"value")
    >>> [entry.key for entry in store.list()]
    ['a/b/key']
    """

    def __init__(self, store: Store, prefix: str) -> None:
        super().__init__(store)
        self.prefix = check_prefix(prefix, store)
        self._before = f"{self.prefix}/" if self.prefix else ""

    def _inner(self, key: str) -> str:
        # Before it is joined: "/x" and "" would become other keys.
        return self._before + check_key(key, self)

    def _inner_prefix(self, prefix: str) -> str:
        prefix = check_prefix(prefix, self)
        return self._before + prefix if prefix else self.prefix

    def _inner_reads(self, requests: Sequence[Read]) -> Sequence[Read]:
        return [Read(self._inner(r.key), r.range, r.version) for r in requests]

    def read(self, requests: Sequence[Read], /) -> Results:
        return self.store.read(self._inner_reads(requests))

    async def aread(self, requests: Sequence[Read], /) -> Results:
        return await self.store.aread(self._inner_reads(requests))

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        return self.store.submit_read([self._inner_reads(part) for part in parts])

    def read_lazily(self, requests: Sequence[Read], /) -> Results | None:
        return self.store.read_lazily(self._inner_reads(requests))

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        return self.store.write(self._inner(key), value, create_only=create_only)

    def update(self, key: str, change: Change, /) -> None:
        self.store.update(self._inner(key), change)

    def patch(self, key: str, change: PatchChange, /) -> None:
        self.store.patch(self._inner(key), change)

    def delete(self, key: str, /) -> None:
        self.store.delete(self._inner(key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        self.store.delete_many([self._inner(key) for key in keys])

    def delete_prefix(self, prefix: str, /) -> None:
        self.store.delete_prefix(self._inner_prefix(prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        n = len(self._before)
        for entry in self.store.list(self._inner_prefix(prefix)):
            yield Entry(entry.key[n:], entry.size)

    def list_dir(self, prefix: str = "", /) -> Listing:
        return self.store.list_dir(self._inner_prefix(prefix))

    def size(self, key: str, /) -> int | None:
        return self.store.size(self._inner(key))

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        return self.store.sizes([self._inner(key) for key in keys])

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        return self.store.origins(self._inner_prefix(prefix))

    def above(self) -> tuple[Store, str] | None:
        folder, _, name = self.prefix.rpartition("/")
        if not name:
            return self.store.above()
        return (PrefixStore(self.store, folder) if folder else self.store), name

    @property
    def identity(self) -> Identity:
        """Identity of the store inside, and the prefix."""
        return self.store.identity.below(self.prefix)

    @property
    def url(self) -> str:
        """URL of the store inside, and the prefix."""
        return self.url_of("")

    def url_of(self, path: str) -> str:
        return self.store.url_of(self._inner_prefix(path))

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return self.store._sub_urls(self._inner_prefix(path))


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded call of a store.

    Attributes:
        verb: the method's name.
        key: the key or prefix; of ``read`` the first key.
        requests: what ``read`` was asked for, empty ranges left out.
        nbytes: bytes read or written.

    >>> store = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=10)
    >>> _ = store.write("key", b"value")
    >>> store.log[-1].verb, store.log[-1].key
    ('write', 'key')
    """

    verb: str
    key: str
    requests: tuple[Read, ...] = ()
    nbytes: int = 0


class RecordingStore(WrapperStore):
    """Counts the requests to a store. A round is a call of ``read``, ``aread``, ``submit_read`` or ``read_lazily``: its
    requests travel together. Rounds count when they are sent, bytes when they come. Where an object's end takes its
    size first (``traits.one_request_tails``), that is counted too: a round, and a request an object.

    Args:
        n_events: how many of the latest calls ``log`` keeps.
    Attributes:
        n_rounds: calls that asked for any byte.
        n_requests: reads in them, empty ranges left out.
        nbytes: bytes they returned.
        n_writes, n_updates: calls that did not raise.
        bytes_written: bytes of the values of both.
        log: the latest :class:`Event` values, oldest first.

    >>> store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    >>> array = zarrdock.create_array(store, data=np.ones((8, 8)), chunks=(2, 2))
    >>> store.reset()
    >>> _ = array[:4, :4]
    >>> store.n_rounds, store.n_requests
    (1, 4)
    """

    def __init__(self, store: Store, *, n_events: int = 0) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self.log: deque[Event] = deque(maxlen=n_events)
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.n_rounds = self.n_requests = self.nbytes = 0
            self.n_writes = self.n_updates = self.bytes_written = 0
            self.log.clear()

    def read(self, requests: Sequence[Read], /) -> Results:
        results = self.store.read(requests)
        self._asked(requests, _nbytes(results))
        return results

    async def aread(self, requests: Sequence[Read], /) -> Results:
        results = await self.store.aread(requests)
        self._asked(requests, _nbytes(results))
        return results

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        futures = self.store.submit_read(parts)
        if futures is None:
            return None
        event = self._asked([read for part in parts for read in part], 0)
        return [settled(future, partial(self._came, event)) for future in futures]

    def read_lazily(self, requests: Sequence[Read], /) -> Results | None:
        results = self.store.read_lazily(requests)
        if results is not None:
            self._asked(requests, _nbytes(results))
        return results

    def _asked(self, requests: Sequence[Read], nbytes: int) -> list[Event]:
        """Count a round; returns its event in the log, if it has one."""
        asked = tuple(request for request in requests if not is_empty(request.range))
        if not asked:
            return []
        event = Event("read", asked[0].key, asked, nbytes)
        n_sizes = 0
        if not self.store.traits.one_request_tails:
            n_sizes = sum(isinstance(request.range, Tail) for request in asked)
        with self._lock:
            self.n_rounds += 1 + (n_sizes > 0)
            self.n_requests += len(asked) + n_sizes
            self.nbytes += nbytes
            self.log.append(event)
        return [event]

    def _came(self, asked: list[Event], results: Results) -> Results:
        """Count the bytes of a part of a round; ``asked`` holds its event as it stands in the log now."""
        nbytes = _nbytes(results)
        with self._lock:
            self.nbytes += nbytes
            for i, event in enumerate(self.log) if asked else ():
                if event is asked[0]:
                    asked[0] = self.log[i] = replace(event, nbytes=event.nbytes + nbytes)
                    break
        return results

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        parts = value_parts(value)
        version = self.store.write(key, parts, create_only=create_only)
        nbytes = sum(map(len, parts))
        with self._lock:
            self.n_writes += 1
            self.bytes_written += nbytes
            self.log.append(Event("write", key, nbytes=nbytes))
        return version

    def update(self, key: str, change: Change, /) -> None:
        nbytes = 0

        def counted(old: Buffer | None) -> Value | None:
            nonlocal nbytes
            new = change(old)
            # The attempt that counts is the last; one that leaves the value as it is writes nothing.
            if new is None or new is old:
                nbytes = 0
                return new
            parts = value_parts(new)
            nbytes = sum(map(len, parts))
            return parts

        self.store.update(key, counted)
        with self._lock:
            self.n_updates += 1
            self.bytes_written += nbytes
            self.log.append(Event("update", key, nbytes=nbytes))

    def patch(self, key: str, change: PatchChange, /) -> None:
        nbytes = 0

        def counted(old: OldValue | None) -> Patch | Value | None:
            nonlocal nbytes
            new = change(old)
            if isinstance(new, Patch):
                nbytes = sum(len(piece) for _, piece in new.pieces)
                return new
            parts = None if new is None else value_parts(new)
            nbytes = sum(map(len, parts or ()))
            return parts

        self.store.patch(key, counted)
        with self._lock:
            self.n_updates += 1
            self.bytes_written += nbytes
            self.log.append(Event("patch", key, nbytes=nbytes))

    def delete(self, key: str, /) -> None:
        self.store.delete(key)
        self._note("delete", key)

    def delete_many(self, keys: Sequence[str], /) -> None:
        self.store.delete_many(keys)
        for key in keys:
            self._note("delete", key)

    def delete_prefix(self, prefix: str, /) -> None:
        self.store.delete_prefix(prefix)
        self._note("delete_prefix", prefix)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        self._note("list", prefix)
        return self.store.list(prefix)

    def list_dir(self, prefix: str = "", /) -> Listing:
        self._note("list_dir", prefix)
        return self.store.list_dir(prefix)

    def size(self, key: str, /) -> int | None:
        self._note("size", key)
        return self.store.size(key)

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        for key in keys:
            self._note("size", key)
        return self.store.sizes(keys)

    def _note(self, verb: str, key: str) -> None:
        with self._lock:
            self.log.append(Event(verb, key))

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def settled(future: Future[Results], act: Callable[[Results], Results]) -> Future[Results]:
    """A future of ``act(results)``. ``act`` runs on the thread that brings the results, and must not wait."""
    from concurrent.futures import Future

    found: Future[Results] = Future()

    def settle(done: Future[Results]) -> None:
        if not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(act(done.result()))
        except BaseException as error:
            found.set_exception(error)

    found.add_done_callback(lambda done: done.cancelled() and future.cancel())
    future.add_done_callback(settle)
    return found


def _nbytes(results: Results) -> int:
    found = (result.data for result in results if isinstance(result, Blob))
    return sum(data.nbytes if isinstance(data, FileBytes) else memoryview(data).nbytes for data in found)
