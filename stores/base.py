"""The contract every store keeps, and the values that cross it.

A store maps keys to immutable, versioned blobs of bytes. It is synchronous and batch-oriented: ``read`` takes many
reads and answers them together, so that a plan of requests is sent as one round, with no coroutine a chunk. What every
store answers to every edge case is written in ``docs/reference/store-contract.md`` and held by :mod:`zarrdock.testing`.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from zarrdock.errors import InvalidKeyError, ReadOnlyError, UnsupportedError, VersionChangedError
from zarrdock.ranges import Range
from zarrdock.stores.identity import Identity, identity_of_object
from zarrdock.stores.urls import below, pipeline_url

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "Blob",
    "Buffer",
    "Change",
    "Entry",
    "FileBytes",
    "LazyParts",
    "Listing",
    "OldValue",
    "Patch",
    "PatchChange",
    "Read",
    "Result",
    "Results",
    "Store",
    "Traits",
    "Value",
    "Version",
    "WrapperStore",
    "attempts",
    "check_key",
    "check_prefix",
    "join_value",
    "sized_entries",
    "value_parts",
]

T = TypeVar("T")

# collections.abc.Buffer is 3.12; memoryview() accepts all of these, numpy arrays included.
Buffer: TypeAlias = "bytes | bytearray | memoryview"
Value: TypeAlias = "Buffer | Sequence[Buffer]"
Version: TypeAlias = Hashable
Change: TypeAlias = "Callable[[Buffer | None], Value | None]"


@dataclass(frozen=True, slots=True)
class Read:
    """A request to read: a key, a range of it (None: everything), and, where it must be so, of one version only.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"0123456789")
    >>> [first, last] = store.read([zarrdock.Read("key", zarrdock.Span(0, 2)), zarrdock.Read("key", zarrdock.Tail(2))])
    >>> bytes(first.data), bytes(last.data)
    (b'01', b'89')
    """

    key: str
    range: Range = None
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """The answer to a read.

    Attributes:
        data: the bytes, exactly those of the range. Not to be written to.
        version: an opaque, hashable token: two blobs of one key with equal tokens come from the same object. None
            where the store has no versions.

    >>> store = zarrdock.MemoryStore()
    >>> version = store.write("key", b"value")
    >>> blob = store.get("key")
    >>> bytes(blob.data), blob.version == version
    (b'value', True)
    """

    data: Buffer
    version: Version | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # As answers of worker processes: views of a larger buffer don't pickle.
        return Blob, (bytes(self.data), self.version)


# A read of a version that is gone is answered by an error value in its own place: the other reads of the batch are
# still good.
Result: TypeAlias = "Blob | VersionChangedError | None"
Results: TypeAlias = list[Result]  # inside Store, `list` is a method


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that exists, and its size in bytes (None where listing does not tell).

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"value")
    >>> list(store.list())
    [Entry(key='key', size=5)]
    """

    key: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One level below a prefix: the names of keys and of deeper prefixes, without the prefix itself, each sorted.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("a", b""), store.write("b/c", b"")
    >>> store.list_dir()
    Listing(keys=('a',), prefixes=('b',))
    """

    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """Capabilities of a store, as positive facts, and the cost of a round trip.

    Attributes:
        writable: mutating operations are possible at all.
        listable: ``list`` and ``list_dir`` work.
        atomic_update: ``update`` and ``create_only`` are atomic against every other writer that uses the same service.
            Where values live in this process alone, by a lock of this process: against every other store.
        conditional_read: a read checks the version it is given.
        remote: reads cost a round trip; many should be in flight together.
        merge_gap_bytes: unwanted bytes that are cheaper to fetch than one more request.
        max_request_bytes: a merged request is not grown beyond this.
        n_concurrent: requests kept in flight at once.
        max_versions: number of versions that stay valid at once, if it is bounded: beyond it the least recently used
            count as changed, without any writer.
        one_request_tails: the last bytes of an object are one request. False: its size is asked for first, as a round
            of its own.
        any_key: every valid key can be stored, at any time. False: only the documents and chunks of Zarr nodes, a chunk
            after the document of its array.

    >>> traits = zarrdock.MemoryStore().traits
    >>> traits.atomic_update, traits.remote
    (True, False)
    """

    writable: bool = True
    listable: bool = True
    atomic_update: bool = False
    partial_update: bool = False
    conditional_read: bool = False
    remote: bool = False
    merge_gap_bytes: int = 4096
    max_request_bytes: int = 64 * 2**20
    n_concurrent: int = 1
    max_versions: int | None = None
    one_request_tails: bool = True
    any_key: bool = True


_BAD_KEY = re.compile(r"^/|//|/$|^$|\x00|(?:^|/)\.{1,2}(?:/|$)|^[A-Za-z]:[\\/]|\\")


@functools.lru_cache(maxsize=65536)
def _key_is_good(key: str) -> bool:
    if _BAD_KEY.search(key):
        return False
    try:
        key.encode()
    except UnicodeEncodeError:  # lone surrogates have no bytes in any store
        return False
    return True


def check_key(key: str, store: object = "") -> str:
    """Return ``key`` if every store could hold it.

    Raises:
        InvalidKeyError: empty, leading or trailing ``/``, ``//``, a ``.`` or ``..`` segment, NUL, a backslash, a
            drive letter, not encodable as UTF-8.

    >>> from zarrdock.storage import check_key
    >>> check_key("group/c/0/1")
    'group/c/0/1'
    """
    if not isinstance(key, str) or not _key_is_good(key):
        raise InvalidKeyError(
            "not a valid key: keys are relative, '/'-separated, without empty, '.' or '..' segments, NUL or backslash",
            key=str(key)[:200],
            store=store,
        )
    return key


def check_prefix(prefix: str, store: object = "") -> str:
    """Return ``prefix`` without a trailing ``/``; "" is the whole store. A prefix always means whole path segments:
    "foo" never matches "foobar/a".

    >>> from zarrdock.storage import check_prefix
    >>> check_prefix("group/"), check_prefix("")
    ('group', '')
    """
    prefix = prefix.removesuffix("/")
    return check_key(prefix, store) if prefix else ""


class FileBytes(Sequence[int]):
    """Bytes of an open file, read when they are asked for. The file stays open for as long as this lives.

    Args:
        fd: of the file. start, nbytes: where in it. read: reads bytes ``start`` to ``stop`` of it, or raises a store's
            error, and keeps the file open.

    >>> from zarrdock.storage import FileBytes
    >>> data = b"0123456789"
    >>> found = FileBytes(0, 2, 5, lambda start, stop: data[start:stop])
    >>> len(found), found[1:3], found[-1]
    (5, b'34', 54)
    """

    __slots__ = ("_read", "fd", "nbytes", "start")

    def __init__(self, fd: int, start: int, nbytes: int, read: Callable[[int, int], Buffer]) -> None:
        self.fd = fd
        self.start = start
        self.nbytes = nbytes
        self._read = read

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, i: Any) -> Any:
        which = range(self.nbytes)[i]
        if isinstance(which, int):
            return self._read(self.start + which, self.start + which + 1)[0]
        return self._read(self.start + which.start, self.start + which.stop)[:: which.step] if which else b""


class LazyParts(Sequence[Buffer]):
    """A value in parts that are made when asked for, anew each time. A store that writes them as they come never holds
    them all; to every other one it is a sequence of buffers.
    """

    @abstractmethod
    def part(self, i: int) -> Buffer:
        """Part ``i``: flat and contiguous, one item a byte."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Size of all parts together in bytes."""

    def __getitem__(self, i: Any) -> Any:
        which = range(len(self))[i]
        return [self.part(j) for j in which] if isinstance(which, range) else self.part(which)


def value_parts(value: Value) -> list[bytes | bytearray | memoryview]:
    """The buffers of a value in order, each flat and contiguous, one item a byte: fit for ``len`` and ``writev``."""
    if isinstance(value, (bytes, bytearray)):
        return [value]
    if hasattr(value, "__array_interface__"):  # an ndarray is one buffer, though it is a sequence as well
        value = memoryview(value)  # type: ignore[arg-type]
    return [_flat(value)] if isinstance(value, memoryview) else [_flat(part) for part in value]


def _flat(part: Buffer) -> bytes | bytearray | memoryview:
    if isinstance(part, (bytes, bytearray)):
        return part
    view = memoryview(part)
    if not view.c_contiguous or 0 in (view.shape or ()):
        return bytes(view)
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")


def join_value(value: Value) -> Buffer:
    """A value that may come in parts as one flat buffer.

    >>> from zarrdock.storage import join_value
    >>> bytes(join_value([b"in ", b"parts"]))
    b'in parts'
    """
    parts = value_parts(value)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class OldValue(Protocol):
    """A value that is about to be changed; to be used during the call it is given to only."""

    @property
    def size(self) -> int:
        """Size of the stored value in bytes."""

    def read(self, start: int, stop: int) -> Buffer:
        """Bytes ``start`` to ``stop`` of it, which lie within it."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A partial change of a value: it is cut or lengthened with zeros to ``size``, then pieces are written over it.

    Attributes:
        pieces: start and bytes of each; all within ``size``.

    >>> Patch(4, [(1, b"XY")]).applied(b"abcdef")
    b'aXYd'
    """

    size: int
    pieces: Sequence[tuple[int, Buffer]]

    def applied(self, old: Buffer) -> bytes:
        """Apply the patch to a whole value in memory."""
        new = bytearray(bytes(old)[: self.size].ljust(self.size, b"\0"))
        for start, piece in self.pieces:
            view = memoryview(piece).cast("B")
            new[start : start + len(view)] = view
        return bytes(new)


#: Given the old value, or None where there is none: a patch of it, a whole new value, or None to delete the key. It may
#: run more than once, and must not touch the store itself.
PatchChange: TypeAlias = "Callable[[OldValue | None], Patch | Value | None]"


@dataclass(frozen=True, slots=True)
class _Whole:
    """A value that is all in memory, as :meth:`Store.patch` shows it."""

    data: memoryview

    @property
    def size(self) -> int:
        return self.data.nbytes

    def read(self, start: int, stop: int) -> Buffer:
        return self.data[start:stop]


def attempts(n: int, error: Callable[[], Exception]) -> Iterator[int]:
    """Number the attempts at a change that others may overtake. The caller leaves the loop on success; after the last
    attempt ``error()`` is raised.

    >>> for number in attempts(3, lambda: ConflictError("it kept changing")):
    ...     if number == 1:
    ...         break
    """
    yield from range(n)
    raise error()


def sized_entries(store: Store, prefix: str = "") -> list[Entry]:
    """Every key below ``prefix`` with its size; sizes that the listing does not tell are asked for together."""
    entries = [*store.list(prefix)]
    unsure = [i for i, entry in enumerate(entries) if entry.size is None]
    for i, size in zip(unsure, store.sizes([entries[i].key for i in unsure]) if unsure else (), strict=True):
        entries[i] = Entry(entries[i].key, size or 0)
    return entries


class Store(ABC):
    """A mapping of keys to versioned blobs. See the module's docstring and ``docs/reference/store-contract.md``.

    Stores may be used from any thread and any number of threads, from within a running event loop, after ``fork`` and
    through ``pickle``.

    >>> store = zarrdock.open_store("folder")
    >>> _ = store.write("key", b"1")
    >>> store.update("key", lambda old: bytes(old) + b"2")
    >>> bytes(store.get("key").data)
    b'12'
    """

    traits: Traits = Traits()
    read_only: bool = False
    # -- required -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, requests: Sequence[Read], /) -> Results:
        """Answer many reads together, in their order; on a remote store this is one round of concurrent requests.

        Returns:
            For each read a :class:`Blob`; None where there is no such key; a :class:`VersionChangedError` (as a
            value, not raised) where the object
            is not the version that was asked for. An empty range gives an empty blob without a request.
        Raises:
            InvalidKeyError: before any I/O. RangeError: a range starts at or beyond the end of an object that exists.
            AccessError: denied. StoreError: anything else; only "not found" is ever None.

        >>> from zarrdock.storage import Read
        >>> store = zarrdock.open_store({"key": b"value"})
        >>> found, missing = store.read([Read("key"), Read("missing")])
        >>> bytes(found.data), missing
        (b'value', None)
        """

    @abstractmethod
    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        """Set ``key`` to ``value`` atomically: a reader sees the old bytes or the new ones, never a mixture.

        Args:
            value: one buffer, or a sequence of buffers that are stored one after another.
            create_only: write only where the key does not exist, decided atomically where ``traits.atomic_update``.
        Returns:
            The version written, where the store tells.
        Raises:
            KeyExistsError: with ``create_only``. ReadOnlyError, InvalidKeyError, AccessError, StoreError.

        >>> store = zarrdock.MemoryStore()
        >>> _ = store.write("key", [b"one", b"two"])
        >>> bytes(store.get("key").data)
        b'onetwo'
        """

    @abstractmethod
    def update(self, key: str, change: Change, /) -> None:
        """Replace ``key``'s value by ``change(old value or None)`` so that no other writer's update is lost.

        ``change`` may run more than once, and must not touch the store itself; returning None deletes the key;
        returning the very object it was given leaves the key as it is. An exception it raises leaves the store
        unchanged and is passed on.

        Raises:
            UnsupportedError: where ``traits.atomic_update`` is False. ConflictError: it kept losing. ReadOnlyError,
                AccessError, StoreError.

        >>> store = zarrdock.MemoryStore()
        >>> for _ in range(3):
        ...     store.update("n", lambda old: b"x" if old is None else bytes(old) + b"x")
        >>> bytes(store.get("n").data)
        b'xxx'
        """

    @abstractmethod
    def delete(self, key: str, /) -> None:
        """Remove ``key``; a key that does not exist is no error."""

    @abstractmethod
    def delete_prefix(self, prefix: str, /) -> None:
        """Remove every key below ``prefix`` ("" for all). Only whole path segments match, and a key equal to
        ``prefix`` itself stays.

        >>> store = zarrdock.open_store({"a/x": b"", "ab/y": b""})
        >>> store.delete_prefix("a")
        >>> [entry.key for entry in store.list()]
        ['ab/y']
        """

    @abstractmethod
    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        """Every key below ``prefix``, in no promised order. Only whole path segments match: "foo" does not list
        "foobar/a".

        >>> store = zarrdock.open_store({"a/x": b"12", "ab/y": b""})
        >>> [(entry.key, entry.size) for entry in store.list("a")]
        [('a/x', 2)]
        """

    @abstractmethod
    def list_dir(self, prefix: str = "", /) -> Listing:
        """The level right below ``prefix``; an empty listing where there is nothing.

        >>> store = zarrdock.open_store({"a/b/c": b"", "a/x": b""})
        >>> level = store.list_dir("a")
        >>> level.keys, level.prefixes
        (('x',), ('b',))
        """

    @abstractmethod
    def size(self, key: str, /) -> int | None:
        """Size in bytes, or None where there is no such key."""

    # -- conveniences -------------------------------------------------------------------------------------------------

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        """Start one round of reads without waiting for it, so that work done meanwhile costs no round trip.

        Args:
            parts: the requests of the round; the answers to each part may come by themselves.
        Returns:
            A future for each part; None, without anything being sent, where the store can only be waited for.
        """
        return None

    def read_lazily(self, requests: Sequence[Read], /) -> Results | None:
        """:meth:`read`, but bytes may stay in files until they are decoded: the data of a blob may be a
        :class:`FileBytes`. The version was checked as by :meth:`read`.

        Returns:
            None, without anything being read, where the store's bytes are not in files.

        >>> from zarrdock.storage import Read
        >>> print(zarrdock.MemoryStore().read_lazily([Read("key")]))
        None
        """
        return None

    async def aread(self, requests: Sequence[Read], /) -> Results:
        """:meth:`read` as a coroutine, on any event loop.

        >>> import asyncio
        >>> from zarrdock.storage import Read
        >>> store = zarrdock.open_store({"key": b"value"})
        >>> [bytes(blob.data) for blob in asyncio.run(store.aread([Read("key")]))]
        [b'value']
        """
        import asyncio

        return await asyncio.to_thread(self.read, requests)

    def patch(self, key: str, change: PatchChange, /) -> None:
        """:meth:`update` of parts of a value. ``change`` is given a way to look at the old value, and returns a
        :class:`Patch`, a whole value, or None to delete the key.

        It keeps every promise of ``update``. Where ``traits.partial_update`` the rest of the value is neither read nor
        written; other stores do it by ``update``.

        >>> from zarrdock.storage import Patch
        >>> store = zarrdock.open_store({"key": b"abcdef"})
        >>> store.patch("key", lambda old: Patch(old.size, [(2, b"XY")]))
        >>> bytes(store.get("key").data)
        b'abXYef'
        """

        def whole(old: Buffer | None) -> Value | None:
            new = change(None if old is None else _Whole(memoryview(old)))
            return new.applied(old or b"") if isinstance(new, Patch) else new

        self.update(key, whole)

    def get(self, key: str, range: Range = None, *, version: Version | None = None) -> Blob | None:
        """Read one key: :meth:`read` for a single request, with :class:`VersionChangedError` raised.

        >>> store = zarrdock.open_store({"key": b"value"})
        >>> bytes(store.get("key").data), store.get("missing")
        (b'value', None)
        """
        result = self.read([Read(key, range, version)])[0]
        if isinstance(result, VersionChangedError):
            raise result
        return result

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        """Sizes of many keys in bytes, None for each that is not there; on a remote store one round of requests.

        >>> zarrdock.open_store({"key": b"value"}).sizes(["key", "missing"])
        [5, None]
        """
        return self._together(self.size, keys)

    def list_dirs(self, prefixes: Sequence[str], /) -> Sequence[Listing]:
        """:meth:`list_dir` of many prefixes; on a remote store one round of requests."""
        return self._together(self.list_dir, prefixes)

    def _together(self, verb: Callable[[str], T], keys: Sequence[str]) -> Sequence[T]:
        if not self.traits.remote or len(keys) < 2:
            return [verb(key) for key in keys]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(keys), self.traits.n_concurrent), "zarrdock-ask") as pool:
            return [*pool.map(verb, keys)]

    def exists(self, key: str) -> bool:
        """True where ``key`` is there.

        >>> zarrdock.open_store({"key": b"value"}).exists("key")
        True
        """
        return self.size(key) is not None

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        """Stores that hold the values below ``prefix``, each with the prefix or key there. A store that holds its
        values itself gives itself; wrappers and views give the stores inside.
        """
        yield self, prefix

    def delete_many(self, keys: Sequence[str], /) -> None:
        """Remove many keys, in any order; one that does not exist is no error. Stores that can do it in fewer requests
        than :meth:`delete` takes override this.
        """
        for key in keys:
            self.delete(key)

    def with_costs(self, *, merge_gap_bytes: int | None = None, max_request_bytes: int | None = None) -> Store:
        """The same store for readers who weigh bytes against requests otherwise; see :class:`Traits`.

        >>> store = zarrdock.MemoryStore().with_costs(merge_gap_bytes=2**20)
        >>> store.traits.merge_gap_bytes
        1048576
        """
        return CostedStore(self, merge_gap_bytes=merge_gap_bytes, max_request_bytes=max_request_bytes)

    def close(self) -> None:  # noqa: B027 - optional by design
        """Release what the store holds open. A closed store may be used again and opens what it needs anew."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> Identity:
        """The service and the place on it that the keys lie in; equal for stores that show the same values.

        By default an object is a place of its own. A store that others can open, too, names its endpoint, account and
        folder, without credentials.
        """
        return identity_of_object(type(self).__name__, self)

    def above(self) -> tuple[Store, str] | None:
        """The folder that the root of this store lies in, as a store, and the name of the root in it; None where there
        is none, or none that can be told.

        >>> store, name = zarrdock.PrefixStore(zarrdock.MemoryStore(), "a/b").above()
        >>> store.prefix, name
        ('a', 'b')
        """
        return None

    @property
    def url(self) -> str:
        """URL of the store without credentials, for messages and for opening it again."""
        return f"<{type(self).__name__}>"

    def url_of(self, path: str) -> str:
        """URL of the folder ``path`` in the store, for messages and for opening it again."""
        return below(self.url, path)

    def pipeline_url(self, path: str = "", *, zarr_format: int | None = None) -> str:
        """URL pipeline of a folder in the store (ZEP 8), as other implementations read it, too; without credentials.

        Args:
            path: of the folder.
            zarr_format: of the node there: ``|zarr3:`` or ``|zarr2:`` is put at the end.
        Raises:
            UnsupportedError: no URL leads to the store, as to an object of this process.

        >>> zarrdock.open_store("s3://bucket/a.zip", storage_options={"anon": True}).pipeline_url("b c", zarr_format=3)
        's3://bucket/a.zip|zip:b%20c|zarr3:'
        """
        return pipeline_url(self._sub_urls(path), zarr_format)

    def __dask_tokenize__(self) -> object:
        # Not its pickle, which of a store in memory is all that is in it.
        return type(self).__name__, str(self.identity)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __str__(self) -> str:
        return self.url

    # -- for implementations ------------------------------------------------------------------------------------------

    def _no_update(self, key: str) -> UnsupportedError:
        """The error of a store without atomic updates."""
        return UnsupportedError(
            f"{self} has no atomic updates, so that two writers who change {key!r} at the same time would undo each "
            "other's work; nothing was changed. Write whole chunks or shards (one that reaches beyond the end of the "
            "array never is); or, if no other process writes at the same time, say options={'single_writer': True} "
            "where the array is created or opened"
        )

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        """The parts of the URL pipeline of a folder."""
        raise UnsupportedError(f"no URL leads to {self.url}")

    def _check_writable(self, key: str = "") -> None:
        if self.read_only or not self.traits.writable:
            raise ReadOnlyError("the store is read-only", key=key, store=self)


# -- Stores around a store. More of them are in ``wrappers``.

# A wrapper that changes one of these verbs, and says nothing of the others, is asked by way of the one it changes.
_BY_WAY_OF = {
    "read": ("aread", "submit_read", "read_lazily"),
    "update": ("patch",),
    "size": ("sizes",),
    "delete": ("delete_many",),
}


class WrapperStore(Store):
    """Hands everything on to another store, traits and URL included. The base of wrappers that change one thing.

    A subclass that overrides ``read`` alone is read by it alone: ``aread``, ``submit_read`` and ``read_lazily`` do then
    what they do by default, until it overrides them too. The same holds for ``update`` and ``patch``, ``size`` and
    ``sizes``, ``delete`` and ``delete_many``.

    Attributes:
        store: the store inside.

    >>> from zarrdock.storage import WrapperStore
    >>> class Upper(WrapperStore):
    ...     def write(self, key, value, /, *, create_only=False):
    ...         return self.store.write(key, bytes(value).upper(), create_only=create_only)
    >>> store = Upper(zarrdock.MemoryStore())
    >>> _ = store.write("key", b"value")
    >>> bytes(store.get("key").data)
    b'VALUE'
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for verb, others in _BY_WAY_OF.items():
            for other in others if verb in vars(cls) else ():
                if other not in vars(cls):
                    setattr(cls, other, getattr(Store, other))

    def __init__(self, store: Store) -> None:
        self.store = store
        self.traits = store.traits
        self.read_only = store.read_only

    def read(self, requests: Sequence[Read], /) -> Results:
        return self.store.read(requests)

    async def aread(self, requests: Sequence[Read], /) -> Results:
        return await self.store.aread(requests)

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        return self.store.submit_read(parts)

    def read_lazily(self, requests: Sequence[Read], /) -> Results | None:
        return self.store.read_lazily(requests)

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        return self.store.write(key, value, create_only=create_only)

    def update(self, key: str, change: Change, /) -> None:
        self.store.update(key, change)

    def patch(self, key: str, change: PatchChange, /) -> None:
        self.store.patch(key, change)

    def delete(self, key: str, /) -> None:
        self.store.delete(key)

    def delete_many(self, keys: Sequence[str], /) -> None:
        self.store.delete_many(keys)

    def delete_prefix(self, prefix: str, /) -> None:
        self.store.delete_prefix(prefix)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        return self.store.list(prefix)

    def list_dir(self, prefix: str = "", /) -> Listing:
        return self.store.list_dir(prefix)

    def size(self, key: str, /) -> int | None:
        return self.store.size(key)

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        return self.store.sizes(keys)

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        return self.store.origins(prefix)

    def close(self) -> None:
        self.store.close()

    def above(self) -> tuple[Store, str] | None:
        return self.store.above()

    @property
    def identity(self) -> Identity:
        """Identity of the store inside."""
        return self.store.identity

    @property
    def url(self) -> str:
        """URL of the store inside."""
        return self.store.url

    def url_of(self, path: str) -> str:
        return self.store.url_of(path)

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return self.store._sub_urls(path)


class CostedStore(WrapperStore):
    """See :meth:`Store.with_costs`."""

    def __init__(
        self, store: Store, *, merge_gap_bytes: int | None = None, max_request_bytes: int | None = None
    ) -> None:
        super().__init__(store)
        own = store.traits
        gap = own.merge_gap_bytes if merge_gap_bytes is None else merge_gap_bytes
        most = own.max_request_bytes if max_request_bytes is None else max_request_bytes
        if gap < 0 or most < 1:
            raise ValueError(f"merge_gap_bytes must be 0 or more, max_request_bytes 1 or more: {gap}, {most}")
        self.traits = replace(own, merge_gap_bytes=gap, max_request_bytes=most)
