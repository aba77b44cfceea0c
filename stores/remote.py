"""Base of all stores that are reached over an IO loop: services and fsspec filesystems.

The contract's verbs are sent over the bridge to coroutines. A service with conditional requests (S3 by ETag, Google
Cloud Storage by generation) implements the four requests ``_send_*``, sizes and listings, and has here the rest: reads
that check the bytes and the version they got, and an update that is never lost, not even when the reply to a write is
lost. Anything else overrides the hooks above them: ``_read_one``, ``_put``, ``_delete_one``.

**An update** reads the value with its version, changes it, and writes it on condition that the version is still the
same; if it is not, it begins again. A lost reply is settled by lineages: see ``conditions.py``.

**Conditions that are ignored.** Imitations of S3 exist that take a condition and write all the same. A service that is
not known to keep them is asked once in a process, before the first conditional write: see
:meth:`RemoteStore.conditions`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import hashlib
import random
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from fsspec.spec import AbstractFileSystem

from zarrdock.errors import (
    AccessError,
    ConflictError,
    KeyExistsError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.ranges import Range, Span, Tail, is_empty
from zarrdock.stores.base import (
    Blob,
    Change,
    Entry,
    Listing,
    Read,
    Result,
    Results,
    Store,
    Traits,
    Value,
    Version,
    check_key,
    check_prefix,
    join_value,
)
from zarrdock.stores.conditions import ABSENT, Answer, Conditions, Expected, Lineage, landed
from zarrdock.stores.diagnose import Diagnosis, Kind, cause_of, diagnose, translate
from zarrdock.stores.group_commit import Combiner, Doubt, KeyLocks, Ticket, apply_all
from zarrdock.stores.http_ranges import take
from zarrdock.stores.io_loop import Bridge, Live, Transport
from zarrdock.stores.retry import RetryPolicy, is_slow_down
from zarrdock.stores.urls import sub_url

__all__ = ["Page", "RemoteStore", "as_bytes", "as_statuses", "key_locks", "nbytes_of"]

T = TypeVar("T")
# Inside Store, `list` is a method.
Entries = list[Entry]
Keys = list[str]

# By filesystem and path: two store objects on one filesystem exclude each other too.
key_locks = KeyLocks()


def as_bytes(value: Value) -> bytes:
    """A value, in one part or several, as bytes that no other code can change."""
    return bytes(join_value(value))


def nbytes_of(range_: Range) -> int:
    """Bytes a read may bring, as far as it says; a guess of one megabyte otherwise."""
    match range_:
        case Span(start, stop):
            return stop - start
        case Tail(n):
            return n
        case _:
            return 2**20


def as_statuses(statuses: Collection[int]) -> frozenset[int]:
    """HTTP statuses that may stand for "no such key"; 200 for a page of HTML instead of the object.

    Raises:
        ValueError: one can never mean that.
    """
    wrong = [status for status in statuses if status != 200 and not 400 <= status < 500]
    if wrong:
        raise ValueError(f"missing_statuses: {wrong[0]!r} never means that a key is missing: 200 or 400 to 499")
    return frozenset(statuses)


# A pause between two lost races; each loss means that another writer won, so short pauses cost little.
_RACE_PAUSE_SECONDS: Final = (0.02, 2.0)
# How long an interrupt (Ctrl-C) waits for the outcome of a write that others rely on.
_FINISH_SECONDS: Final = 10.0
# By service and bucket: what services answered in this process.
_answers: dict[str, Conditions] = {}
_asking = KeyLocks()
_MARK: Final = b"a mark by zarrdock: it may be removed\n"
# Of an object, while its end is read in two requests.
_MAX_CHANGES: Final = 3
# No object has this ETag.
_STALE: Final = '"00000000000000000000000000000000"'


class _LostRace(ConflictError):
    """The object was not the version the write was to replace, and nothing was changed."""


def _is_refusal(found: Diagnosis) -> bool:
    """True where a service says that the condition of a write does not hold."""
    return found.kind is Kind.PRECONDITION or (found.kind is Kind.CONFLICT and not found.is_transient)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing.

    Attributes:
        sizes: name of an object in the bucket to its size in bytes; None for a size the listing does not tell.
        prefixes: names up to the delimiter, with it, that stand for all names that go on behind it.
    """

    sizes: Mapping[str, int | None]
    prefixes: Sequence[str]


class RemoteStore(Store):
    """Verbs over a bridge to an IO loop.

    Args:
        fs: the filesystem, or a client in its place. root: the folder within it that is the root. url: without secrets.
        remote: requests cost a round trip.
        read_only: refuse every mutating verb.
        assume_single_writer: make ``update`` a plain read and write under a lock of this process, where the service has
            no conditional writes. The caller promises that no other process writes the same keys.
        retry: when requests are tried again.
        n_concurrent: requests in flight at most, over all users of this store object.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request.
        conditional_writes: the service refuses writes whose condition does not hold; None: Amazon, Google and Azure do,
            any other is asked.
        missing_statuses: HTTP statuses that are taken for "no such key" in reads, beside 404 and 410: 403 where listing
            is not allowed. An answer that names the credentials as the reason is never taken so.
    """

    default_concurrency = 128  # planes across many chunks are one round, not two; more than that gains nothing
    default_gap_bytes = 32 * 1024
    # Whether a library sends a PUT or a DELETE again by itself: aiohttp does so with both where a connection breaks.
    put_may_repeat = False
    delete_may_repeat = False
    # The cost of reading a part from a server that answers byte ranges with whole objects, in a warning's words.
    price_of_a_part = "each partial read costs as much as the whole object"
    # All who can reach the values are in this process, where a lock keeps them apart.
    _is_in_process = False
    _ignores_ranges = False
    _warned = False
    _kept: Conditions | None = None

    def __init__(
        self,
        fs: AbstractFileSystem | Transport,
        root: str,
        url: str,
        *,
        remote: bool = True,
        read_only: bool = False,
        assume_single_writer: bool = False,
        retry: RetryPolicy | None = None,
        n_concurrent: int | None = None,
        merge_gap_bytes: int | None = None,
        conditional_writes: bool | None = None,
        missing_statuses: Collection[int] = (),
    ) -> None:
        self._root = root
        self._url = url
        self.read_only = read_only
        self.assume_single_writer = assume_single_writer
        self.retry = retry or RetryPolicy()
        self.missing_statuses = as_statuses(missing_statuses)
        n = n_concurrent or (self.default_concurrency if remote else 1)
        gap = merge_gap_bytes if merge_gap_bytes is not None else (self.default_gap_bytes if remote else 4096)
        self._bridge = Bridge(fs, remote=remote, n_concurrent=n)
        self.traits = self._make_traits(Traits(remote=remote, merge_gap_bytes=gap, n_concurrent=n))
        self._combiner = Combiner()
        if conditional_writes is not None:
            self._keep(Conditions(*[conditional_writes] * 3))

    def _make_traits(self, traits: Traits) -> Traits:
        """The traits of this kind of store; ``traits`` has the settings that the constructor was given."""
        return replace(traits, atomic_update=True, conditional_read=True)

    @property
    def url(self) -> str:
        return self._url

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return (sub_url(self._url, path),)

    @property
    def fs(self) -> Any:
        """The filesystem, usable in this process."""
        return self._bridge.live().fs

    @property
    def root(self) -> str:
        """The folder within the filesystem."""
        return self._root

    def above(self) -> tuple[Store, str] | None:
        folder, _, name = self._root.rstrip("/").rpartition("/")
        if not folder.strip("/") or not name:  # the bucket, the container, or a folder right below all
            return None
        store = copy.copy(self)  # over the same connections
        store._root, store._url = folder, self._url.rstrip("/").rpartition("/")[0]
        store._combiner = Combiner()  # its keys are others
        return store, name

    # -- the contract -------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        self._check_reads(requests)
        results = self._bridge.run(lambda live: self._read_batch(live, requests)) if requests else []
        self._warn_once()
        return results

    async def aread(self, requests: Sequence[Read], /) -> Results:
        self._check_reads(requests)
        results = await self._bridge.arun(lambda live: self._read_batch(live, requests)) if requests else []
        self._warn_once()
        return results

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[concurrent.futures.Future[Results]] | None:
        for part in parts:
            self._check_reads(part)
        if not self._bridge.is_async:
            return None
        if self._ignores_ranges:  # as an earlier read has found out
            self._warn_once()
        futures = []
        for part in parts:
            futures.append(self._bridge.submit(partial(self._read_batch, requests=part)))  # noqa: PERF401 - one call less
        return futures

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        self._check_key(key)
        self._check_writable(key)
        if create_only and self.traits.atomic_update:
            self.conditions()
        data = as_bytes(value)
        with self._exclusive(key) if create_only or self._takes_turns else nullcontext():
            return self._bridge.run(lambda live: self._put(live, key, data, create_only))

    def update(self, key: str, change: Change, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        if not self._is_in_process and self._is_atomic():
            # Threads of this process join forces here instead of colliding over there.
            self._combiner.update(key, change, self._exclusive(key), lambda tickets: self._update(key, tickets))
            return
        if not self._takes_turns:
            raise self._no_update(key)
        with self._exclusive(key):
            blob = self.get(key)
            old = None if blob is None else blob.data
            new = change(old)
            if new is None:
                if old is not None:
                    self._bridge.run(lambda live: self._delete_one(live, key))
            elif new is not old:
                data = as_bytes(new)
                self._bridge.run(lambda live: self._put(live, key, data, False))

    def delete(self, key: str, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        with self._exclusive(key) if self._takes_turns else nullcontext():
            self._bridge.run(lambda live: self._delete_one(live, key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            self._check_key(key)
        self._check_writable(keys[0] if keys else "")
        if self._takes_turns:
            super().delete_many(keys)
        elif keys:
            self._bridge.run(lambda live: self._delete_keys(live, keys))

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        if self._takes_turns:
            for entry in self.list(prefix):
                self.delete(entry.key)
        else:
            self._bridge.run(lambda live: self._delete_below(live, prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = check_prefix(prefix, self)
        return iter(self._bridge.run(lambda live: self._find(live, prefix)))

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        return self._bridge.run(lambda live: self._list_level(live, prefix))

    def size(self, key: str, /) -> int | None:
        self._check_key(key)
        return self._bridge.run(lambda live: self._size(live, key))

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        for key in keys:
            self._check_key(key)
        return self._bridge.run(lambda live: live.gather(lambda key: self._size(live, key), keys)) if keys else []

    @property
    def _takes_turns(self) -> bool:
        """True where every change of a value waits for a lock of this process, and no other process has to be kept
        from it.
        """
        return self.assume_single_writer or self._is_in_process

    # -- hooks: coroutines, on the IO loop where the filesystem is asynchronous ---------------------------------

    async def _find(self, live: Live, prefix: str) -> Entries:
        """All entries below a prefix."""
        start = len(self._bucket_and_prefix("")[1])
        return [
            Entry(key, size)
            async for page in self._pages(live, prefix)
            for name, size in page.sizes.items()
            for key in self._names_to_keys([name], start)
        ]

    async def _list_level(self, live: Live, prefix: str) -> Listing:
        """Names and prefixes right below a prefix."""
        start = len(self._bucket_and_prefix(prefix)[1])
        keys: Keys = []
        prefixes: Keys = []
        async for page in self._pages(live, prefix, "/"):
            keys += self._names_to_keys([*page.sizes], start)
            prefixes += self._names_to_keys([name.removesuffix("/") for name in page.prefixes], start)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    async def _size(self, live: Live, key: str) -> int | None:
        """Size of a key, None where it does not exist."""

        async def request() -> int:
            return (await self._send_size(live, key))[0]

        return await self._request(live, key, self._or_missing(request))

    async def _delete_below(self, live: Live, prefix: str) -> None:
        """Remove all keys below a prefix.

        Key by key: fsspec's recursive removal expands wildcards, and takes the prefix itself along.
        """
        await self._delete_keys(live, [entry.key for entry in await self._find(live, prefix)])

    async def _delete_keys(self, live: Live, keys: Sequence[str]) -> None:
        """Remove many keys; they need not exist."""
        await live.gather(lambda key: self._delete_one(live, key), keys)

    # -- the requests of a service with conditions; errors of its library are translated by the caller

    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        """GET the range (not empty), of that version if one is given."""
        raise UnsupportedError(f"{self}: key {key!r}: no request with conditions can be sent to this store")

    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        """Write the whole object if it still is the expected one, with the lineage in its metadata."""
        raise UnsupportedError(f"{self}: key {key!r}: no request with conditions can be sent to this store")

    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        """Delete the object if it still is the expected one."""
        raise UnsupportedError(f"{self}: key {key!r}: no request with conditions can be sent to this store")

    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        """Version and lineage of the object as it is now."""
        raise UnsupportedError(f"{self}: key {key!r}: no request with conditions can be sent to this store")

    async def _send_size(self, live: Live, key: str) -> tuple[int, Version]:
        """Size and version of the object as it is now."""
        raise UnsupportedError(f"{self}: key {key!r}: no request for a size can be sent to this store")

    def _pages(self, live: Live, prefix: str, delimiter: str = "") -> AsyncIterator[Page]:
        """Pages of the names below a prefix, one request each."""
        raise UnsupportedError(f"{self}: prefix {prefix!r}: no request for a listing can be sent to this store")

    async def _send_get_tail(self, live: Live, key: str, n: int, version: Version | None) -> Answer:
        """GET the last ``n`` bytes where a service knows no ranges that are counted from the end: by a bounded range,
        the object's size asked for first; of one version.
        """
        for _ in range(_MAX_CHANGES):
            size, seen = await self._send_size(live, key)
            if not size or (version is not None and seen != version):
                return Answer(b"", seen, 206)
            try:
                answer = await self._send_get(live, key, Span(max(0, size - n), size), version or seen)
            except Exception as error:
                if diagnose(error).kind is Kind.PRECONDITION:
                    continue
                raise
            if seen is None or answer.version == seen:
                return answer
        whole = await self._send_get(live, key, None, version)  # which no writer can tear
        return replace(whole, data=whole.data[-n:], status=200, content_range=None, length=None)

    # -- the conditions that a service keeps

    def conditions(self) -> Conditions:
        """The conditional requests that the service keeps. Amazon, Google and Azure are known to keep all of them.

        An imitation of S3 is asked once in a process, by five small requests before the first conditional write: a mark
        is created beside the store's keys, created again, replaced and deleted on stale conditions, and deleted.

        Raises:
            AccessError, StoreError: the mark cannot be written.
        """
        if self._kept is None:
            identity = self.identity
            if not identity.service.startswith("s3 at "):
                return self._keep(Conditions())
            name = f"{identity.service}/{identity.path.partition('/')[0]}"
            with _asking(name):
                if name not in _answers:
                    try:
                        _answers[name] = self._bridge.run_to_end(self._ask, _FINISH_SECONDS)
                    except AccessError as error:
                        text = "conditional_writes=True on the store says that the service keeps conditions on writes"
                        error.add_note(f"to find out, a mark is written beside the keys; {text}")
                        raise
                return self._keep(_answers[name])
        return self._kept

    def _keep(self, conditions: Conditions) -> Conditions:
        self._kept = conditions
        if self.traits.atomic_update and not (conditions.create and conditions.replace):
            self.traits = replace(self.traits, atomic_update=False)
        return conditions

    def _is_atomic(self) -> bool:
        if not self.traits.atomic_update:
            return False
        conditions = self.conditions()
        return conditions.create and conditions.replace

    async def _ask(self, live: Live) -> Conditions:
        key = f".zarrdock-conditions-{uuid.uuid4().hex}"

        async def refuses(send: Callable[[], Awaitable[object]]) -> bool:
            async def request() -> bool:
                try:
                    await send()
                except Exception as error:
                    if _is_refusal(diagnose(error)):
                        return True
                    raise
                return False

            return await self._request(live, key, request)

        etags: list[Version] = []

        async def put(expected: Expected) -> None:
            version = await self._send_put(live, key, _MARK, expected, None)
            etags.append(version[0] if isinstance(version, tuple) else version)

        try:
            await refuses(lambda: put(ABSENT))  # refused where an earlier try was applied and its reply lost
            await self._check_mark(live, key, etags)
            conditions: Sequence[Expected] = [ABSENT, _STALE]
            create, replaces = await asyncio.gather(*(refuses(functools.partial(put, one)) for one in conditions))
        except UnsupportedError:  # "not implemented"; where a plain PUT is neither, that is another matter
            await self._request(live, key, lambda: put(None))
            create = replaces = False
        try:
            deletes = await refuses(lambda: self._send_delete(live, key, _STALE))
        except UnsupportedError:  # as an update that deletes will be told
            deletes = True
        await self._delete_one(live, key)
        return Conditions(create, replaces, deletes)

    async def _check_mark(self, live: Live, key: str, etags: Sequence[Version]) -> None:
        """Make sure that the mark was stored as it was sent. Most services tell by an ETag, which is its hash."""
        if [f'"{hashlib.md5(_MARK, usedforsecurity=False).hexdigest()}"'] == [*etags]:
            return
        found = await self._fetch(live, key, None, None)
        if isinstance(found, Answer) and bytes(found.data) != _MARK:
            await self._delete_one(live, key)
            raise StoreError(
                "the service does not store what it is sent; if it adds lines to uploads, it does not know the "
                "encoding aws-chunked: config_kwargs={'request_checksum_calculation': 'when_required'} in "
                "storage_options does without",
                key=key,
                store=self,
            )

    # -- reading, writing and deleting under conditions

    async def _read_one(self, live: Live, read: Read) -> Result:
        answer = await self._fetch(live, read.key, read.range, read.version)
        return Blob(answer.data, answer.version) if isinstance(answer, Answer) else answer

    async def _fetch(
        self, live: Live, key: str, range_: Range, version: Version | None
    ) -> Answer | VersionChangedError | None:
        """One GET. The answer's data are exactly those of the range."""

        async def request() -> Answer | VersionChangedError | None:
            try:
                answer = await self._send_get(live, key, range_, version)
            except Exception as error:
                found = diagnose(error)
                if self._is_missing(found):
                    return None
                match found.kind:
                    case Kind.PRECONDITION:
                        return self._changed(key, version)
                    case Kind.RANGE if isinstance(range_, Tail):  # only an empty object has no tail
                        return Answer(b"", version, 206)
                    case Kind.RANGE:
                        raise RangeError(
                            "the range starts at or beyond the end of the object", key=key, store=self
                        ) from error
                raise
            if version is not None and answer.version != version:  # services exist that ignore the condition
                return self._changed(key, version)
            try:
                data = take(
                    answer.data, range_, status=answer.status, content_range=answer.content_range, length=answer.length
                )
            except RangeError as error:
                raise RangeError(str(error), key=key, store=self) from None
            return answer if data is answer.data else replace(answer, data=data)

        return await self._request(live, key, request, nbytes=nbytes_of(range_))

    def _changed(self, key: str, version: Version | None) -> VersionChangedError:
        return VersionChangedError(f"the object is no longer the version {version}", key=key, store=self)

    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        if create_only and not (self._kept or Conditions()).create:
            if await self._size(live, key) is not None:
                raise KeyExistsError("the key exists already", key=key, store=self)
            create_only = False
        if not create_only:
            return await self._request(live, key, lambda: self._send_put(live, key, data, None, None), nbytes=len(data))
        try:
            return await self._commit(live, key, data, ABSENT, Lineage())
        except _LostRace as error:
            raise KeyExistsError("the key exists already", key=key, store=self) from error

    def _update(self, key: str, tickets: Sequence[Ticket[Change]]) -> None:
        began, n_lost = time.monotonic(), 0
        while True:
            try:
                self._update_once(key, tickets)
                return
            except _LostRace as race:
                n_lost += 1
                passed = time.monotonic() - began
                if passed > self.retry.deadline_seconds:
                    text = f"lost {n_lost} races in {passed:.0f} s against other writers, nothing was changed"
                    raise ConflictError(text, key=key, store=self) from race
            # Full jitter. In each round one of the writers that collide wins, so together they always get on.
            first, most = _RACE_PAUSE_SECONDS
            time.sleep(random.uniform(0, min(most, first * 2 ** min(n_lost, 20))))

    def _update_once(self, key: str, tickets: Sequence[Ticket[Change]]) -> None:
        found = self._bridge.run(lambda live: self._fetch(live, key, None, None))
        base = found if isinstance(found, Answer) else None
        old = bytes(base.data) if base else None
        new = apply_all(tickets, old)
        if new is old:
            return
        if base is not None and base.version is None:
            raise UnsupportedError(f"{self}: key {key!r}: the service tells no version, so no write can be tied to one")
        if new is None and not self.conditions().delete:
            raise UnsupportedError(
                f"{self}: key {key!r}: the service ignores conditions on DELETE, so that an update that deletes could "
                "take another writer's value with it; WriteOptions(write_empty_chunks=True) keeps empty chunks"
            )
        data = None if new is None else as_bytes(new)
        expected, parent = (base.version, base.lineage) if base else (ABSENT, Lineage())
        doubt = Doubt(
            tickets,
            ConflictError(
                "the thread that wrote for several was interrupted, and it is unknown if the change was made: "
                "read the key and decide",
                key=key,
                store=self,
            ),
            unmade=_LostRace,
        )

        async def commit(live: Live) -> None:
            with doubt:  # on the IO loop, where no interrupt comes
                await self._commit(live, key, data, expected, parent)

        self._bridge.run_to_end(commit, _FINISH_SECONDS)

    async def _commit(
        self, live: Live, key: str, data: bytes | None, expected: Expected, parent: Lineage
    ) -> Version | None:
        """Write ``data``, or delete, if the object still is the ``expected`` one.

        Raises:
            _LostRace: it is not. ConflictError: it is unknown if the change was made.
        """
        token = uuid.uuid4().hex[:12]
        n_sent = 0

        async def request() -> Version | None:
            nonlocal n_sent
            n_sent += 1
            try:
                if data is None:
                    await self._send_delete(live, key, expected)
                    return None
                return await self._send_put(live, key, data, expected, parent.then(token))
            except Exception as error:
                found = diagnose(error)
                if not _is_refusal(found) and (found.kind is not Kind.MISSING or expected in (None, ABSENT)):
                    raise
                if n_sent > 1 or (self.delete_may_repeat if data is None else self.put_may_repeat):
                    # An earlier try may have been applied, and be the very reason for this refusal. Settled at once:
                    # the longer one waits, the more writes of others hide it.
                    applied, version = await self._settle(live, key, data is None, token, parent)
                    if applied:
                        return version
                raise _LostRace("another writer was faster", key=key, store=self) from error

        return await self._request(live, key, request, nbytes=len(data or b""))

    async def _settle(
        self, live: Live, key: str, is_delete: bool, token: str, parent: Lineage
    ) -> tuple[bool, Version | None]:
        """Find out if an earlier try had applied a write that was refused, and the present version."""
        try:
            version, found = await self._send_head(live, key)
        except Exception as error:
            if not self._is_missing(diagnose(error)):
                raise
            # Deleted: all that was wanted, if it was. A value: whether it was there before the deletion or not, it is
            # to be there now.
            return is_delete, None
        applied = landed(token, parent, found)
        if applied is None:
            raise ConflictError(
                "the reply to a write was lost and others have written since; it is unknown if the change was "
                "made: read the key and decide",
                key=key,
                store=self,
            )
        return applied, version

    async def _delete_one(self, live: Live, key: str) -> None:
        async def request() -> None:
            try:
                await self._send_delete(live, key, None)
            except Exception as error:
                if diagnose(error).kind is not Kind.MISSING:
                    raise

        await self._request(live, key, request)

    # -- for the hooks ------------------------------------------------------------------------------------------

    async def _request(self, live: Live, key: str, request: Callable[[], Awaitable[T]], *, nbytes: int = 0) -> T:
        """Send one request: inside the store's limits, tried again as the policy says, with errors of our own kind.

        FileExistsError is passed on as it is. ``nbytes`` is the expected amount.
        """

        async def attempt(seconds: float) -> T:
            return await live.attempt(request, seconds, nbytes, is_slow_down)

        try:
            return await self.retry.call(attempt, sleep=live.sleep)
        except (ZarrdockError, FileExistsError):
            raise
        except Exception as error:
            raise translate(error, key=key, store=self, is_anonymous=self._is_anonymous()) from cause_of(error)

    def _or_missing(self, request: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T | None]]:
        """A request that answers None where the service says that there is no such key."""

        async def asked() -> T | None:
            try:
                return await request()
            except Exception as error:
                if isinstance(error, ZarrdockError) or not self._is_missing(diagnose(error)):
                    raise
                return None

        return asked

    def _is_anonymous(self) -> bool:
        """True where requests are known to be sent without credentials."""
        return False

    def _is_missing(self, found: Diagnosis) -> bool:
        """True for an answer to a read that says that there is no such key. What a service says of the credentials
        themselves is never taken for that.
        """
        if found.kind is Kind.MISSING or (found.kind is Kind.PAGE and 200 in self.missing_statuses):
            return True
        status = 403 if found.status is None and found.kind is Kind.DENIED else found.status
        says_so = found.kind in (Kind.DENIED, Kind.NO_CONTAINER) or not found.code
        return status in self.missing_statuses and says_so

    async def _read_batch(self, live: Live, requests: Sequence[Read]) -> Results:
        results: Results = [Blob(b"") if is_empty(read.range) else None for read in requests]
        wanted = [i for i, read in enumerate(requests) if not is_empty(read.range)]
        answers = await live.gather(lambda i: self._read_one(live, requests[i]), wanted)
        for i, answer in zip(wanted, answers, strict=True):
            results[i] = answer
        return results

    def _warn_once(self) -> None:
        if self._ignores_ranges and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.url}: the server ignores byte ranges; {self.price_of_a_part}",
                RuntimeWarning,
                stacklevel=4,
            )

    def _path(self, key: str) -> str:
        """Path of a key in the filesystem; the root for ""."""
        if not key:
            return self._root
        return f"{self._root.rstrip('/')}/{key}" if self._root else key

    def _key(self, name: str) -> str:
        """The key of a name that the filesystem lists; "" for a name that is not below the root."""
        name, root = name.lstrip("/"), self._root.strip("/")
        if not root:
            return name
        return name[len(root) + 1 :] if name.startswith(root + "/") else ""

    def _check_key(self, key: str) -> None:
        check_key(key, self)

    def _check_reads(self, requests: Sequence[Read]) -> None:
        for read in requests:
            self._check_key(read.key)

    def _exclusive(self, key: str) -> AbstractContextManager[None]:
        """Keep the other threads of this process from the key; services with conditional writes need no more."""
        return key_locks(f"{self._url}\0{key}")

    def _bucket_and_prefix(self, prefix: str) -> tuple[str, str]:
        """The bucket, and the beginning of all names below ``prefix``: whole segments only."""
        bucket, _, name = self._path(prefix).partition("/")
        return bucket, f"{name}/" if name else ""

    def _names_to_keys(self, names: Sequence[str], strip: int) -> Keys:
        """Names without their first ``strip`` characters; markers of folders and what no store could hold as a key
        left out.
        """
        keys = (name[strip:] for name in names)
        return [key for key in keys if key and not key.endswith("/") and not key.startswith("/") and "//" not in key]
