"""Any store of zarr-python as a store of zarrdock: Icechunk's sessions, VirtualiZarr's ManifestStore, wrappers, caches.

A store of zarr-python is a set of coroutines for single keys. Here the reads of a batch are sent together on the event
loop on which zarr-python itself runs its stores, since many of them belong to the loop that used them first.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.abc.store import Store as ZarrPythonStore
from zarr.core.buffer import default_buffer_prototype
from zarr.core.common import concurrent_map
from zarr.core.config import config as zarr_config
from zarr.core.sync import _get_loop, sync
from zarr.storage import MemoryStore as ZarrPythonMemoryStore

from zarrdock.errors import (
    ConflictError,
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.ranges import From, Range, Span, Tail, is_empty, resolve
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
    check_key,
    check_prefix,
    join_value,
)
from zarrdock.stores.diagnose import cause_of, translate
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.identity import Identity, identity_of_object

__all__ = ["ForeignStore"]

T = TypeVar("T")
list_ = list  # inside the class, `list` is a method

_DOCUMENTS = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}

# By kind of store and key: stores of one kind wait for each other needlessly, and never miss each other.
_key_locks = KeyLocks()


class ForeignStore(Store):
    """A store of zarr-python, or an Icechunk session, behind zarrdock's contract.

    Args:
        store: any ``zarr.abc.store.Store``, or an object whose ``store`` is one, as Icechunk's sessions have it.
        read_only: refuse every mutating verb.
        assume_single_writer: make ``update`` a plain read and write under a lock of this process. Whoever sets it
            promises that no other process writes the same keys.

    What it promises is in ``traits``. zarr-python's interface has neither versions nor atomic updates, so there are
    none, with two exceptions: what is written to an Icechunk session, or to zarr-python's memory store, is seen by this
    process alone, and updates of one key take turns; and a read-only Icechunk session shows one snapshot, which is the
    version of all its values. Icechunk does not survive ``fork``: a forked child gets an error.

    >>> import zarr
    >>> store = ForeignStore(zarr.storage.LoggingStore(zarr.storage.MemoryStore()))
    >>> store.write("a", b"1")
    >>> bytes(store.get("a").data)
    b'1'
    """

    def __init__(self, store: Any, *, read_only: bool = False, assume_single_writer: bool = False) -> None:
        found = store if isinstance(store, ZarrPythonStore) else getattr(store, "store", None)
        if not isinstance(found, ZarrPythonStore):
            raise UnsupportedError(f"a {type(store).__name__} is no store of zarr-python")
        self.store = found
        self.read_only = read_only or found.read_only
        self.assume_single_writer = assume_single_writer
        session = getattr(found, "session", None)
        self._is_session = session is not None and hasattr(session, "snapshot_id")
        # A session that can be written to shows what was written, not only its snapshot.
        self._snapshot: str | None = None
        if self._is_session and session.read_only:  # type: ignore[union-attr]
            self._snapshot = str(session.snapshot_id)  # type: ignore[union-attr]
        self._pid = os.getpid()
        # An Icechunk session hands out another store each time it is asked.
        self._place = _first_of(found) if self._is_session else found
        in_memory = isinstance(found, ZarrPythonMemoryStore)
        self.traits = Traits(
            writable=bool(found.supports_writes and found.supports_deletes) and self._snapshot is None,
            listable=bool(found.supports_listing),
            atomic_update=self._is_session or in_memory,
            conditional_read=self._snapshot is not None,
            remote=not in_memory,
            any_key=not self._is_session,
            n_concurrent=int(zarr_config.get("async.concurrency")),
        )

    def __reduce__(self) -> Any:
        return _again, (self.store, self.read_only, self.assume_single_writer)

    @property
    def identity(self) -> Identity:
        return identity_of_object(type(self.store).__name__, self._place)

    @property
    def url(self) -> str:
        text = str(self.store)
        short = len(text) < 200 and "\n" not in text and " object at 0x" not in text
        return f"<{type(self.store).__name__} {text}>" if short else f"<{type(self.store).__name__}>"

    def commit(self, message: str, **options: Any) -> str:
        """Commit an Icechunk session, and return the identifier of the new snapshot.

        Args:
            message: of the commit.
            options: more arguments of the session's own ``commit``, such as ``rebase_with``.
        Raises:
            ConflictError: others committed changes since the session began. Nothing was committed, and the session
                still has its changes.
            UnsupportedError: the store is no Icechunk session.
        """
        if not self._is_session:
            raise UnsupportedError(f"{self.url} has nothing to commit: only sessions of Icechunk have")
        try:
            return str(self.store.session.commit(message, **options))  # type: ignore[attr-defined]
        except Exception as error:
            raise self._translated(error, "") from cause_of(error)

    # -- the contract --------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        for read in requests:
            check_key(read.key, self)
        return self._run(self._each(self._read_one, requests)) if requests else []

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        if not self.traits.remote:
            return None
        for part in parts:
            for read in part:
                check_key(read.key, self)
        self._check_process()
        loop = _get_loop()
        return [asyncio.run_coroutine_threadsafe(self._each(self._read_one, part), loop) for part in parts]

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> None:
        check_key(key, self)
        self._check_writable(key)
        data = bytes(join_value(value))
        with self._exclusive(key):
            if create_only and self._run(self._exists(key)):
                raise KeyExistsError("the key exists already", key=key, store=self)
            self._run(self._set(key, data))

    def update(self, key: str, change: Change, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        if not (self.traits.atomic_update or self.assume_single_writer):
            raise self._no_update(key)
        with self._exclusive(key):
            blob = self.get(key)
            old = None if blob is None else blob.data
            new = change(old)
            if new is None:
                if old is not None:
                    self._run(self._delete_one(key))
            elif new is not old:
                self._run(self._set(key, bytes(join_value(new))))

    def delete(self, key: str, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        with self._exclusive(key):
            self._run(self._delete_one(key))

    def delete_many(self, keys: Sequence[str], /) -> None:
        if self.traits.atomic_update or self.assume_single_writer:  # each takes its turn among updates
            super().delete_many(keys)
            return
        for key in keys:
            check_key(key, self)
            self._check_writable(key)
        self._run(self._each(self._delete_one, keys))

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        # Key by key: stores differ in what else they remove with a prefix. Deepest first, so that in Icechunk an array
        # is there as long as it has chunks.
        self.delete_many(sorted(self._run(self._find(prefix)), key=lambda key: -key.count("/")))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = check_prefix(prefix, self)
        self._check_listable()
        return iter([Entry(key) for key in self._run(self._find(prefix))])

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        self._check_listable()
        return self._run(self._list_level(prefix))

    def size(self, key: str, /) -> int | None:
        check_key(key, self)
        return self._run(self._size(key))

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        for key in keys:
            check_key(key, self)
        return self._run(self._each(self._size, keys)) if keys else []

    def close(self) -> None:
        self.store.close()

    # -- coroutines of one key, on zarr-python's event loop ------------------------------------------------------------

    async def _read_one(self, read: Read) -> Result:
        if is_empty(read.range):
            return Blob(b"")
        if read.version is not None and read.version != self._snapshot:
            return VersionChangedError("not the version that was asked for", key=read.key, store=self)
        wanted = read.range
        if wanted is not None and self._is_session:
            # Icechunk has sizes at hand, and is not to be asked for anything beyond an end.
            size = await self._size(read.key)
            if size is None:
                return None
            wanted = Span(*self._resolved(read, size))
            if is_empty(wanted):
                return Blob(b"", self._snapshot)
        data = await self._get(read.key, wanted)
        if data is None:
            return None
        if wanted is not None:
            data = await self._checked(Read(read.key, wanted), data)
        return Blob(data, self._snapshot)

    async def _checked(self, read: Read, data: memoryview) -> memoryview:
        """The answer to a read of a range, if it can be no other; not all stores keep to what they were asked."""
        n = len(data)
        match read.range:
            case Span(start, stop) if n == stop - start:
                return data
            case Tail(length) if n == length:
                return data
        size = await self._size(read.key)
        if size is None:
            raise StoreError("it was deleted while it was read", key=read.key, store=self)
        start, stop = self._resolved(read, size)
        if n == stop - start:
            return data
        if n == size:  # all of it
            return data[start:stop]
        raise StoreError(f"the store answered with {n} bytes, expected {stop - start}", key=read.key, store=self)

    def _resolved(self, read: Read, size: int) -> tuple[int, int]:
        span = resolve(read.range, size)
        if span is None:
            message = f"the range begins beyond the end of an object of {size} bytes"
            raise RangeError(message, key=read.key, store=self)
        return span

    async def _get(self, key: str, range_: Range = None) -> memoryview | None:
        buffer = await self._asked(key, lambda: self.store.get(key, default_buffer_prototype(), _request(range_)))
        return None if buffer is None else np.ascontiguousarray(buffer.as_numpy_array()).view(np.uint8).data

    async def _exists(self, key: str) -> bool:
        try:
            return bool(await self._asked(key, lambda: self.store.exists(key)))
        except UnsupportedError:
            return await self._get(key) is not None

    async def _size(self, key: str) -> int | None:
        try:
            size = await self._asked(key, lambda: self.store.getsize(key))
        except (UnsupportedError, OverflowError):  # Icechunk's sizes of documents
            data = await self._get(key)
            return None if data is None else len(data)
        # Icechunk says that of chunks that are not there.
        return None if size is None or (size == 0 and not await self._exists(key)) else int(size)

    async def _set(self, key: str, data: bytes) -> None:
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        try:
            await self.store.set(key, buffer)
        except Exception as error:
            raise self._translated(error, key) from cause_of(error)

    async def _delete_one(self, key: str) -> None:
        # Some stores remove what is below a prefix where a key of that name is asked for.
        if await self._exists(key):
            await self._asked(key, lambda: self.store.delete(key))

    async def _find(self, prefix: str) -> list_[str]:
        """Every key below a prefix."""
        start = f"{prefix}/" if prefix else ""
        # Icechunk lists nodes alone: of what is below one, the node's own keys are asked for.
        for place in [start, *(f"{above}/" for above in _above(prefix)), ""]:
            try:
                keys = [key async for key in self.store.list_prefix(place)]
            except NotImplementedError:
                return [key async for key in self._walk(prefix)]
            except Exception as error:
                if place and "prefix" in str(error):
                    continue
                raise self._translated(error, prefix) from cause_of(error)
            return sorted({key for key in keys if key.startswith(start)})
        return []

    async def _walk(self, prefix: str) -> Any:
        """Every key below a prefix of a store that lists single levels only."""
        listing = await self._list_level(prefix)
        start = f"{prefix}/" if prefix else ""
        for name in listing.keys:
            yield start + name
        for name in listing.prefixes:
            async for key in self._walk(start + name):
                yield key

    async def _list_level(self, prefix: str) -> Listing:
        """Names right below a prefix. zarr-python's stores do not say which of them are keys: each is asked for."""
        start = f"{prefix}/" if prefix else ""
        names = sorted({name.strip("/") for name in await self._names(prefix)} - {""})
        unsure = [name for name in names if name not in _DOCUMENTS]
        kinds = dict(zip(unsure, await self._each(self._kinds, [start + name for name in unsure]), strict=True))
        keys = tuple(name for name in names if name in _DOCUMENTS or kinds[name][0])
        return Listing(keys, tuple(name for name in unsure if kinds[name][1]))

    async def _kinds(self, key: str) -> tuple[bool, bool]:
        """Find out if a listed name is a key, and if it is a prefix."""
        is_prefix = await self._has_keys(key)
        try:
            return bool(await self._asked(key, lambda: self.store.exists(key))), is_prefix
        except UnsupportedError:
            return not is_prefix, is_prefix

    async def _has_keys(self, prefix: str) -> bool:
        """True if there is a key below a prefix; local files may have empty folders."""
        try:
            names = [name.strip("/") for name in await self._names(prefix)]
        except UnsupportedError:  # the name was listed, and of a key it would be known that nothing is below it
            return True
        if not _DOCUMENTS.isdisjoint(names):
            return True
        for name in names:
            try:
                if await self._asked(name, lambda name=name: self.store.exists(f"{prefix}/{name}")):  # type: ignore[misc]
                    return True
            except UnsupportedError:
                return True
            if await self._has_keys(f"{prefix}/{name}"):
                return True
        return False

    async def _names(self, prefix: str) -> list_[str]:
        try:
            return [name async for name in self.store.list_dir(prefix)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except NotImplementedError as error:
            message = f"{self.url} cannot list the keys below {prefix!r}: {error}"
            raise UnsupportedError(message) from error
        except Exception as error:
            raise self._translated(error, prefix) from cause_of(error)

    def _check_listable(self) -> None:
        if not self.traits.listable:
            raise UnsupportedError(f"{self.url} cannot list its keys")

    # -- how they are run ----------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._check_process()
        except StoreError:
            work.close()
            raise
        return sync(work)

    def _check_process(self) -> None:
        """Raise StoreError in a child made by fork: Icechunk's threads are not there, and it would wait for ever."""
        if self._is_session and self._pid != os.getpid():
            message = "Icechunk does not work in a forked process: start workers with 'spawn' or 'forkserver'"
            raise StoreError(message, store=self)

    async def _each(self, one: Callable[[Any], Awaitable[T]], items: Sequence[Any]) -> list_[T]:
        return await concurrent_map([(item,) for item in items], one, self.traits.n_concurrent)

    async def _asked(self, key: str, request: Callable[[], Awaitable[T]]) -> T | None:
        """The answer to a request; None where there is no such key, or the store could have none of that name."""
        try:
            return await request()
        except OverflowError:
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except NotImplementedError as error:
            raise UnsupportedError(f"{self.url} cannot do that: {error or key}") from error
        except Exception as error:
            if self._is_session and any(text in str(error) for text in ("invalid zarr key", "key not found")):
                return None
            raise self._translated(error, key) from cause_of(error)

    def _translated(self, error: Exception, key: str) -> ZarrdockError:
        """The error to raise for one of the store's; Icechunk's are known by the names of their classes."""
        if isinstance(error, ZarrdockError):
            return error
        names = {kind.__name__ for kind in type(error).__mro__}
        text = str(error).strip().partition("\n")[0].strip()
        if "ConflictError" in names or "RebaseFailedError" in names:
            found = [f"{each.conflict_type} at {each.path}" for each in getattr(error, "conflicts", None) or ()]
            more = f": {'; '.join(found)}" if found else ""
            return ConflictError(
                f"others committed changes since this session began ({text}){more}; nothing was committed: rebase the "
                "session, or make the changes again in a new one",
                store=self,
            )
        if "IcechunkError" in names:
            if "read-only" in text:
                return ReadOnlyError("the session is read-only: it was committed, or opened so", key=key, store=self)
            if "Zarr V2" in text:
                return UnsupportedError(f"Icechunk holds Zarr v3 only, and {key!r} is of v2: write zarr_format=3")
            if "invalid zarr key" in text:
                return InvalidKeyError("Icechunk holds keys of Zarr's nodes and chunks only", key=key, store=self)
            return StoreError(text, key=key, store=self)
        return translate(error, key=key, store=self)

    def _exclusive(self, key: str) -> AbstractContextManager[None]:
        return _key_locks(f"{type(self.store).__qualname__}\0{key}")


_sessions: list[weakref.ref[ZarrPythonStore]] = []


def _first_of(store: ZarrPythonStore) -> ZarrPythonStore:
    """One store in use for each session, always the same one."""
    _sessions[:] = [ref for ref in _sessions if ref() is not None]
    for ref in _sessions:
        known = ref()
        if known is not None and known == store:
            return known
    _sessions.append(weakref.ref(store))
    return store


def _again(store: ZarrPythonStore, read_only: bool, assume_single_writer: bool) -> ForeignStore:
    return ForeignStore(store, read_only=read_only, assume_single_writer=assume_single_writer)


def _above(prefix: str) -> Iterator[str]:
    """The prefixes that a prefix lies below, the nearest first."""
    while "/" in prefix:
        prefix = prefix.rpartition("/")[0]
        yield prefix


def _request(range_: Range) -> ByteRequest | None:
    match range_:
        case Span(start, stop):
            return RangeByteRequest(start, stop)
        case From(start):
            return OffsetByteRequest(start)
        case Tail(n):
            return SuffixByteRequest(n)
    return None
