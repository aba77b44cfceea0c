"""A store that remembers what it read from another one, and never takes what it remembers for newer than it is."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from zarrdock.after_fork import reset_after_fork
from zarrdock.errors import VersionChangedError
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import Tail, is_empty
from zarrdock.stores.base import (
    Blob,
    Buffer,
    Change,
    PatchChange,
    Read,
    Results,
    Store,
    Value,
    Version,
    WrapperStore,
    check_key,
    check_prefix,
)
from zarrdock.stores.cache_folder import FolderCache
from zarrdock.stores.cache_memory import UNKNOWN, Cache, MemoryCache

__all__ = ["CachingStore", "Flights"]


# -- Reads under way: threads that want the same bytes at the same time ask for them once.


class Flights:
    """Reads under way, by thread. A thread lands what it began before it waits for others, so none waits in a
    circle.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Read, threading.Event] = {}

    def begin(self, reads: Iterable[Read]) -> dict[Read, threading.Event]:
        """Begin those not yet begun.

        Returns:
            Those that another thread has, each with the event of its end.
        """
        others: dict[Read, threading.Event] = {}
        begun: set[Read] = set()
        with self._lock:
            for read in reads:
                event = self._under_way.get(read)
                if event is None:
                    self._under_way[read] = threading.Event()
                    begun.add(read)
                elif read not in begun:  # twice in one batch
                    others[read] = event
        return others

    def land(self, reads: Iterable[Read]) -> None:
        """Mark reads as over, successful or not."""
        with self._lock:
            events = [self._under_way.pop(read, None) for read in reads]
        for event in events:
            if event is not None:
                event.set()


# A read that names a version mostly follows the one that brought the version, as data follow the index of a shard.
_VERSION_SECONDS = 1.0
_MAX_SEEN = 100_000


@dataclass(slots=True)
class _Kept:
    """A request that the cache can answer, if the version is still the current one."""

    index: int
    version: Version | None
    data: Buffer


def _namespace(store: Store) -> str:
    """The name of a store in a folder. One that lives in this process may get its name from an object that is gone."""
    identity = store.identity
    return f"{identity} {secrets.token_hex(8)}" if identity.in_process else str(identity)


_KeptByVersion: TypeAlias = "dict[tuple[str, Version | None], list[_Kept]]"


class CachingStore(WrapperStore):
    """Keeps values read, in memory or in a folder, up to ``max_bytes``; what was used longest ago goes first.

    What is kept is a part of a version of an object: a whole object answers every range of it, a range every range
    within. Before it is used, the store inside is asked whether that is still the current version: a read of one byte,
    in the same round as everything else that is asked. So a cached read costs a round trip, but no transfer. It is not
    asked

    - with ``immutable``, ever;
    - for ``ttl`` seconds after the version was last seen to be current;
    - for a second, by reads that name the version: the second round of a sharded read costs nothing.

    Threads that want the same part at the same time ask for it once, where the answer to a question asked a moment ago
    will do: reads that name a version, and all with ``immutable`` or ``ttl``. Without, each asks for what is the latest
    when it asks.

    Objects of stores without versions are kept with ``immutable`` or ``ttl`` only. Writing goes through, and what was
    kept of the object is forgotten; missing keys and listings are not kept.

    Args:
        store: the store inside.
        max_bytes: room for cached values.
        folder: where to keep it; None: in memory. Several processes and several stores may share a folder. Versions
            that mean nothing to another process (those of a LocalStore) are not kept in a folder.
        ttl: seconds for which a version that was seen to be current is taken to be so.
        immutable: nothing in the store ever changes, except by way of this object.
    Attributes:
        n_hits, n_misses: reads answered from the cache, and by the store inside.
        n_checks: questions whether a version is still the current one.
        hit_bytes, miss_bytes: bytes of those answers.

    >>> slow = zarrdock.RecordingStore(zarrdock.MemoryStore())
    >>> _ = slow.write("key", b"value")
    >>> store = zarrdock.CachingStore(slow, max_bytes=10**6, ttl=60)
    >>> for _ in range(3):
    ...     blob = store.get("key")
    >>> slow.n_requests
    1
    """

    def __init__(
        self,
        store: Store,
        *,
        max_bytes: int,
        folder: str | os.PathLike[str] | None = None,
        ttl: float = 0.0,
        immutable: bool = False,
    ) -> None:
        super().__init__(store)
        if max_bytes < 0 or ttl < 0:
            raise ValueError(f"max_bytes and ttl can't be negative: {max_bytes}, {ttl}")
        self.ttl = ttl
        self.immutable = immutable
        self._cache: Cache = (
            MemoryCache(max_bytes) if folder is None else FolderCache(folder, max_bytes, _namespace(store))
        )
        self._renew()
        self.reset()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        # When a version was last seen to be the current one, by the monotonic clock.
        self._seen: BoundedLRU[str, tuple[Version | None, float]] = BoundedLRU(max_items=_MAX_SEEN)
        self._n_changes = 0
        self._flights = Flights()

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.n_hits = self.n_misses = self.n_checks = self.hit_bytes = self.miss_bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        self._forget_below("")

    @property
    def cached_bytes(self) -> int:
        """Bytes in use by cached values."""
        return self._cache.nbytes()

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        for request in requests:
            check_key(request.key, self)
        results: Results = [None] * len(requests)
        others = self._answer(range(len(requests)), requests, results, join=True)
        for event in others.values():
            event.wait()
        if others:
            self._answer(others, requests, results, join=False)
        return results

    def _answer(
        self, indexes: Iterable[int], requests: Sequence[Read], results: Results, *, join: bool
    ) -> dict[int, threading.Event]:
        """Answer requests from the cache or by asking.

        Returns:
            With ``join`` those that other threads are about reading: when they have, the cache is to be looked at
            again.
        """
        n_changes = self._n_changes
        kept: _KeptByVersion = {}
        asked: list[int] = []
        for i in indexes:
            request = requests[i]
            if is_empty(request.range):
                results[i] = Blob(b"")
                continue
            found = self._find(i, request)
            if found is None:
                asked.append(i)
            elif self._is_current(request, found.version):
                results[i] = self._hit(found)
            else:
                kept.setdefault((request.key, found.version), []).append(found)
        shared = [requests[i] for i in asked if self._may_share(requests[i])] if join else []
        flights = self._flights
        under_way = flights.begin(shared) if shared else {}
        others = {i: under_way[requests[i]] for i in asked if requests[i] in under_way}
        try:
            asked = [i for i in asked if i not in others]
            if asked or kept:
                again = self._ask(requests, asked, kept, results, n_changes)
                if again:
                    self._ask(requests, again, {}, results, self._n_changes)
        finally:
            if shared:
                flights.land(read for read in shared if read not in under_way)
        return others

    def _may_share(self, request: Read) -> bool:
        """True if the request may share the answer to an equal one under way; not if it has to be the latest."""
        return request.version is not None or self._may_trust()

    def _find(self, index: int, request: Read) -> _Kept | None:
        version = request.version
        if version is None:
            known = self._cache.version(request.key)
            if known is UNKNOWN or (known is None and not self._may_trust()):
                return None
            version = known
        data = self._cache.find(request.key, version, request.range)
        if data is None or (version is None and not self._was_seen(request.key, None, self.ttl)):
            return None  # without a version there is no asking
        return _Kept(index, version, data)

    def _ask(
        self, requests: Sequence[Read], asked: Sequence[int], kept: _KeptByVersion, results: Results, n_changes: int
    ) -> list[int]:
        """Read values that are not cached, and confirm those that are, in one round.

        Returns:
            Which requests of the latest version, whatever that is, are still to be read, because it is another.
        """
        reads = [requests[i] for i in asked]
        # What is read of an object anyway tells whether the version is current, too.
        told: dict[tuple[str, Version | None], int] = {}
        for n, read in enumerate(reads):
            told[read.key, read.version] = n
        checks = [place for place in kept if place not in told and (place[0], None) not in told]
        told.update({place: len(reads) + n for n, place in enumerate(checks)})
        answers = self.store.read([*reads, *(Read(key, Tail(1), version) for key, version in checks)])
        with self._lock:
            self.n_misses += len(reads)
            self.n_checks += len(checks)
            self.miss_bytes += sum(memoryview(a.data).nbytes for a in answers[: len(reads)] if isinstance(a, Blob))
        for i, read, answer in zip(asked, reads, answers, strict=False):
            results[i] = answer
            if isinstance(answer, Blob):
                self._keep(read, answer, n_changes)
            elif answer is None or read.version == self._cache.version(read.key):
                self._cache.drop(read.key)
        again: list[int] = []
        for (key, version), founds in kept.items():
            answer = answers[told[key, version] if (key, version) in told else told[key, None]]
            if isinstance(answer, Blob) and answer.version == version:
                self._see(key, version, n_changes)
                for found in founds:
                    results[found.index] = self._hit(found)
                continue
            if answer is None or self._cache.version(key) == version:
                self._cache.drop(key)
            for found in founds:
                if answer is None:
                    results[found.index] = None
                elif requests[found.index].version is not None:
                    results[found.index] = VersionChangedError("the object has changed", key=key, store=self)
                else:
                    again.append(found.index)
        return again

    def _keep(self, read: Read, blob: Blob, n_changes: int) -> None:
        key, version = read.key, blob.version
        if version is None:
            if not self._may_trust():
                return
            if not self._was_seen(key, None, self.ttl):
                self._cache.drop(key)  # parts of it are too old, and nothing tells them from this one
        if n_changes != self._n_changes:
            return  # something was written meanwhile: it may be what was read, or what was there before
        self._cache.put(key, version, read.range, blob.data)
        if n_changes != self._n_changes:
            self._cache.drop(key)
        else:
            self._see(key, version, n_changes)

    def _hit(self, found: _Kept) -> Blob:
        with self._lock:
            self.n_hits += 1
            self.hit_bytes += memoryview(found.data).nbytes
        return Blob(found.data, found.version)

    # -- current versions ----------------------------------------------------------------------------------------------

    def _may_trust(self) -> bool:
        return self.immutable or self.ttl > 0

    def _is_current(self, request: Read, version: Version | None) -> bool:
        if self.immutable:
            return True
        seconds = self.ttl if request.version is None else max(self.ttl, _VERSION_SECONDS)
        return self._was_seen(request.key, version, seconds)

    def _was_seen(self, key: str, version: Version | None, seconds: float) -> bool:
        if self.immutable:
            return True
        seen = self._seen.get(key)
        return seen is not None and seen[0] == version and time.monotonic() - seen[1] < seconds

    def _see(self, key: str, version: Version | None, n_changes: int) -> None:
        with self._lock:
            if version is None and self._was_seen(key, None, self.ttl):
                return  # the oldest part counts
            if n_changes == self._n_changes:
                self._seen.put(key, (version, time.monotonic()))

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        check_key(key, self)
        try:
            return self.store.write(key, value, create_only=create_only)
        finally:
            self._forget(key)

    def update(self, key: str, change: Change, /) -> None:
        check_key(key, self)
        try:
            self.store.update(key, change)
        finally:
            self._forget(key)

    def patch(self, key: str, change: PatchChange, /) -> None:
        check_key(key, self)
        try:
            self.store.patch(key, change)
        finally:
            self._forget(key)

    def delete(self, key: str, /) -> None:
        check_key(key, self)
        try:
            self.store.delete(key)
        finally:
            self._forget(key)

    def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            check_key(key, self)
        try:
            self.store.delete_many(keys)
        finally:
            for key in keys:
                self._forget(key)

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        try:
            self.store.delete_prefix(prefix)
        finally:
            self._forget_below(prefix)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._n_changes += 1
            self._seen.pop(key)
        self._cache.drop(key)

    def _forget_below(self, prefix: str) -> None:
        with self._lock:
            self._n_changes += 1
            self._seen.clear()
        self._cache.drop_below(prefix)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_lock", "_seen", "_flights")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        reset_after_fork(self._renew)
