"""Base of all stores behind fsspec.

The contract's verbs are sent over the bridge to coroutines, which a service or filesystem implements.
"""

from __future__ import annotations

import concurrent.futures
import warnings
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

from fsspec.spec import AbstractFileSystem

from zarrdock.errors import UnsupportedError, ZarrdockError
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
    Value,
    Version,
    check_key,
    check_prefix,
    join_value,
)
from zarrdock.stores.diagnose import Diagnosis, Kind, cause_of, diagnose, translate
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.io_loop import Bridge, Live
from zarrdock.stores.retry import RetryPolicy, is_slow_down

__all__ = ["BridgedStore", "RangedStore", "as_bytes", "as_statuses", "n_bytes_of"]

T = TypeVar("T")
Entries = list[Entry]  # inside Store, `list` is a method

# By filesystem and path: two store objects on one filesystem exclude each other too.
_key_locks = KeyLocks()


def as_bytes(value: Value) -> bytes:
    """A value, in one part or several, as bytes that no other code can change."""
    return bytes(join_value(value))


def n_bytes_of(range_: Range) -> int:
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


class BridgedStore(Store):
    """Verbs over a bridge. A subclass sets the attributes below in its constructor and implements the hooks.

    Attributes:
        retry: when requests are tried again.
        missing_statuses: HTTP statuses that are taken for "no such key" in reads, beside 404 and 410.
        assume_single_writer: whether ``update`` may be a plain read and write, under a lock of this process.
    """

    _bridge: Bridge
    _url: str
    _root: str
    retry: RetryPolicy
    assume_single_writer: bool = False
    missing_statuses: frozenset[int] = frozenset()

    @property
    def url(self) -> str:
        return self._url

    @property
    def fs(self) -> AbstractFileSystem:
        """The filesystem, usable in this process."""
        return self._bridge.live().fs

    @property
    def root(self) -> str:
        """The folder within the filesystem."""
        return self._root

    # -- hooks: coroutines, on the IO loop where the filesystem is asynchronous ---------------------------------

    @abstractmethod
    async def _read_one(self, live: Live, read: Read) -> Result:
        """Answer one read whose key is good and whose range is not empty."""

    @abstractmethod
    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        """Write a whole value; KeyExistsError with ``create_only`` where there is one."""

    @abstractmethod
    async def _delete_one(self, live: Live, key: str) -> None:
        """Remove one key; it need not exist."""

    @abstractmethod
    async def _find(self, live: Live, prefix: str) -> Entries:
        """All entries below a prefix."""

    @abstractmethod
    async def _list_level(self, live: Live, prefix: str) -> Listing:
        """One level below a prefix."""

    @abstractmethod
    async def _size(self, live: Live, key: str) -> int | None:
        """Size of a key, None where it does not exist."""

    async def _delete_below(self, live: Live, prefix: str) -> None:
        """Remove all keys below a prefix.

        Key by key: fsspec's recursive removal expands wildcards, and takes the prefix itself along.
        """
        await self._delete_keys(live, [entry.key for entry in await self._find(live, prefix)])

    async def _delete_keys(self, live: Live, keys: Sequence[str]) -> None:
        """Remove many keys; they need not exist."""
        await live.gather(lambda key: self._delete_one(live, key), keys)

    # -- the contract -------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        self._check_reads(requests)
        return self._bridge.run(lambda live: self._read_batch(live, requests)) if requests else []

    async def aread(self, requests: Sequence[Read], /) -> Results:
        self._check_reads(requests)
        return await self._bridge.arun(lambda live: self._read_batch(live, requests)) if requests else []

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[concurrent.futures.Future[Results]] | None:
        for part in parts:
            self._check_reads(part)
        if not self._bridge.is_async:
            return None
        return [self._bridge.submit(partial(self._read_part, part)) for part in parts]

    async def _read_part(self, part: Sequence[Read], live: Live) -> Results:
        return await self._read_batch(live, part)

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        self._check_key(key)
        self._check_writable(key)
        data = as_bytes(value)
        with self._exclusive(key) if create_only or self.assume_single_writer else nullcontext():
            return self._bridge.run(lambda live: self._put(live, key, data, create_only))

    def update(self, key: str, change: Change, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        if not self.assume_single_writer:
            raise UnsupportedError(
                f"{self.url} cannot replace a value atomically, so concurrent writers of {key!r} would lose each "
                "other's changes; write whole shards or chunks, or promise a single writer with "
                "options={'single_writer': True} on the array (assume_single_writer=True on the store)"
            )
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
        with self._exclusive(key) if self.assume_single_writer else nullcontext():
            self._bridge.run(lambda live: self._delete_one(live, key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            self._check_key(key)
        self._check_writable(keys[0] if keys else "")
        if self.assume_single_writer:
            super().delete_many(keys)
        elif keys:
            self._bridge.run(lambda live: self._delete_keys(live, keys))

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        if self.assume_single_writer:
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

    # -- for the hooks ------------------------------------------------------------------------------------------

    async def _request(self, live: Live, key: str, request: Callable[[], Awaitable[T]], *, n_bytes: int = 0) -> T:
        """Send one request: inside the store's limits, tried again as the policy says, with errors of our own kind.

        FileExistsError is passed on as it is. ``n_bytes`` is the expected amount.
        """

        async def attempt(seconds: float) -> T:
            return await live.attempt(request, seconds, n_bytes, is_slow_down)

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
        return status in self.missing_statuses and (found.kind is Kind.DENIED or not found.code)

    async def _read_batch(self, live: Live, requests: Sequence[Read]) -> Results:
        results: Results = [Blob(b"") if is_empty(read.range) else None for read in requests]
        wanted = [i for i, read in enumerate(requests) if not is_empty(read.range)]
        answers = await live.gather(lambda i: self._read_one(live, requests[i]), wanted)
        for i, answer in zip(wanted, answers, strict=True):
            results[i] = answer
        return results

    def _path(self, key: str) -> str:
        """Path of a key in the filesystem; the root for ""."""
        if not key:
            return self._root
        return f"{self._root.rstrip('/')}/{key}" if self._root else key

    def _key(self, name: str) -> str:
        """The key of a name the filesystem lists, "" for what is not below the root."""
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
        return _key_locks(f"{self._url}\0{key}")


class RangedStore(BridgedStore):
    """One whose server may answer a byte range with the whole object. The reader is warned of it, once.

    Attributes:
        price_of_a_part: what reading a part costs then, in the warning's words.
    """

    price_of_a_part: str
    _ignores_ranges = False
    _warned = False

    def read(self, requests: Sequence[Read], /) -> Results:
        results = super().read(requests)
        self._warn_once()
        return results

    async def aread(self, requests: Sequence[Read], /) -> Results:
        results = await super().aread(requests)
        self._warn_once()
        return results

    def _warn_once(self) -> None:
        if self._ignores_ranges and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.url}: the server ignores byte ranges; {self.price_of_a_part}",
                RuntimeWarning,
                stacklevel=4,
            )
