"""Stores that claim other traits, or let a test act before and after every call.

Stores that fail or wait are :class:`zarrdock.testing.FaultyStore` and :class:`zarrdock.testing.LatencyStore`; the one
that counts is :class:`zarrdock.RecordingStore`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from zarrdock.stores.base import (
    Blob,
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
)
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import Event, settled

__all__ = ["AbleStore", "Apart", "HookedStore", "WithTraits", "remote"]

Hook: TypeAlias = Callable[[Event], object]


class WithTraits(WrapperStore):
    """A store with other traits than the one inside, which it keeps to.

    Without ``atomic_update`` an update is refused, without ``conditional_read`` no versions come or go. Without
    ``listable`` a listing is a failed test: callers look at the trait first.

    >>> WithTraits(zarrdock.MemoryStore(), merge_gap_bytes=100).traits.merge_gap_bytes
    100
    """

    def __init__(self, store: Store, **traits: Any) -> None:
        super().__init__(store)
        self.traits = replace(store.traits, **traits)

    def read(self, requests: Sequence[Read], /) -> Results:
        if self.traits.conditional_read:
            return self.store.read(requests)
        results = self.store.read([replace(request, version=None) for request in requests])
        return [Blob(result.data) if isinstance(result, Blob) else result for result in results]

    def update(self, key: str, change: Change, /) -> None:
        if not self.traits.atomic_update:
            raise self._no_update(key)
        self.store.update(key, change)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        assert self.traits.listable, "not listable"
        return self.store.list(prefix)

    def list_dir(self, prefix: str = "", /) -> Listing:
        assert self.traits.listable, "not listable"
        return self.store.list_dir(prefix)


def remote(store: Store, **traits: Any) -> WithTraits:
    """A store that claims to be a round trip away, and merges no ranges across gaps unless told."""
    return WithTraits(store, **{"remote": True, "n_concurrent": 16, "merge_gap_bytes": 0, **traits})


class HookedStore(WrapperStore):
    """Calls ``before`` and ``after`` around every call of the store inside.

    A hook gets the verb, the key or prefix (of many the first) and, for ``read``, the requests. It may count, wait,
    raise, or change the store inside, as another writer would.
    """

    def __init__(self, store: Store, before: Hook | None = None, after: Hook | None = None) -> None:
        super().__init__(store)
        self.before = before
        self.after = after

    def _call(self, event: Event, call: Callable[[], Any]) -> Any:
        if self.before is not None:
            self.before(event)
        result = call()
        if self.after is not None:
            self.after(event)
        return result

    def read(self, requests: Sequence[Read], /) -> Results:
        event = self._asked(requests)
        return self._came(event, self.store.read(requests))

    async def aread(self, requests: Sequence[Read], /) -> Results:
        event = self._asked(requests)
        results = await self.store.aread(requests)
        return self._came(event, results)

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        if self.store.submit_read([]) is None:
            return None
        event = self._asked([read for part in parts for read in part])
        futures = self.store.submit_read(parts)
        return None if futures is None else [settled(future, partial(self._came, event)) for future in futures]

    def _asked(self, requests: Sequence[Read]) -> Event:
        event = Event("read", requests[0].key if requests else "", tuple(requests))
        if self.before is not None:
            self.before(event)
        return event

    def _came(self, event: Event, results: Results) -> Results:
        if self.after is not None:
            self.after(event)
        return results

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        version: Version | None = self._call(
            Event("write", key), lambda: self.store.write(key, value, create_only=create_only)
        )
        return version

    def update(self, key: str, change: Change, /) -> None:
        self._call(Event("update", key), lambda: self.store.update(key, change))

    def patch(self, key: str, change: PatchChange, /) -> None:
        self._call(Event("patch", key), lambda: self.store.patch(key, change))

    def delete(self, key: str, /) -> None:
        self._call(Event("delete", key), lambda: self.store.delete(key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            self.delete(key)

    def delete_prefix(self, prefix: str, /) -> None:
        self._call(Event("delete_prefix", prefix), lambda: self.store.delete_prefix(prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        entries: Iterator[Entry] = self._call(Event("list", prefix), lambda: self.store.list(prefix))
        return entries

    def list_dir(self, prefix: str = "", /) -> Listing:
        listing: Listing = self._call(Event("list_dir", prefix), lambda: self.store.list_dir(prefix))
        return listing

    def size(self, key: str, /) -> int | None:
        nbytes: int | None = self._call(Event("size", key), lambda: self.store.size(key))
        return nbytes

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        found: Sequence[int | None] = self._call(
            Event("sizes", keys[0] if keys else ""), lambda: self.store.sizes(keys)
        )
        return found


class AbleStore(MemoryStore):
    """A store in memory with every optional ability, which lists the abilities that were used."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[str] = []

    async def aread(self, requests: Sequence[Read], /) -> Results:
        self.used.append("aread")
        return self.read(requests)

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]]:
        self.used += ["submit_read"] if parts else []
        with ThreadPoolExecutor(1) as pool:
            return [pool.submit(self.read, part) for part in parts]

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        self.used.append("sizes")
        return [self.size(key) for key in keys]

    def patch(self, key: str, change: PatchChange, /) -> None:
        self.used.append("patch")
        super().patch(key, change)


_numbers = itertools.count()


class Apart:
    """Mixin for stores of services: threads do not queue up with those of other stores, as if in another process."""

    def _exclusive(self, key: str) -> Any:
        number = self.__dict__.setdefault("number", next(_numbers))
        return super()._exclusive(f"{number}/{key}")  # type: ignore[misc]
