"""A zarrdock store as a store of zarr-python: ``zarr.open_array(ZarrStore("s3://bucket/a.zarr"))``.

Every key is one request, keys of one batch are read together, ranges of one key are merged by the gap the store asks
for, and "missing" means missing: denied and broken raise.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    SuffixByteRequest,
)
from zarr.abc.store import (
    Store as ZarrPythonStore,
)
from zarr.core.buffer import Buffer, default_buffer_prototype

from zarrdock.adapters.lazy_reads import refuse_reads_of_writers
from zarrdock.adapters.merged_spans import MergedSpans
from zarrdock.array.consolidated_copies import Copies, take_from_copies
from zarrdock.array.metadata.same_storage import store_alike
from zarrdock.array.metadata.v2 import parse_array_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, parse_node
from zarrdock.array.node_storage import clear_node
from zarrdock.errors import (
    ConflictError,
    KeyExistsError,
    NodeChangedError,
    NodeNotFoundError,
    RangeError,
    ZarrdockError,
)
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import Blob, Change, Read, Result, Store, sized_entries
from zarrdock.stores.open import open_store

if TYPE_CHECKING:
    from zarr.core.buffer import BufferPrototype

__all__ = ["ZarrStore"]

_MAX_DOCUMENTS = 10_000
_MAX_COPIES = 16
# A document that was looked at so long ago is looked at again before a chunk is written that relies on it.
_TRUSTED_SECONDS = 0.1


class ZarrStore(ZarrPythonStore):
    """Any zarrdock store, behind zarr-python's interface.

    Args:
        store: whatever :func:`zarrdock.open_store` takes.
        read_only: refuse to write.
        storage_options: options of the fsspec filesystem that a URL leads to.

    Usable from any event loop and thread, after ``fork``, and through ``pickle`` where the store is.

    >>> import zarr
    >>> from zarrdock.adapters import ZarrStore
    >>> array = zarr.create_array(ZarrStore(zarrdock.MemoryStore()), shape=(4,), dtype="int8")
    >>> array[:2] = 1
    >>> array[:].tolist()
    [1, 1, 0, 0]
    """

    def __init__(self, store: Any, *, read_only: bool = False, storage_options: dict[str, Any] | None = None) -> None:
        # Opened for writing even here: with_read_only(False) must be able to come back.
        self.store: Store = open_store(store, storage_options=storage_options)
        super().__init__(read_only=read_only or self.store.read_only)
        self._async = AsyncStore(self.store)
        self._documents = Documents()

    # -- identity ------------------------------------------------------------------------------------------------------

    def __eq__(self, value: object) -> bool:
        if not isinstance(value, ZarrStore):
            return False
        mine, other = self.store, value.store
        return mine is other or (type(mine) is type(other) and mine.identity == other.identity)

    def __hash__(self) -> int:
        return hash((type(self.store), self.store.identity.service))  # which never changes

    def __str__(self) -> str:
        return self.store.url

    def __repr__(self) -> str:
        return f"ZarrStore({self.store!r})"

    def with_read_only(self, read_only: bool = False) -> ZarrStore:
        """The same store, read-only or not."""
        other = type(self)(self.store, read_only=read_only)
        other._documents = self._documents
        return other

    @property
    def supports_writes(self) -> bool:
        """True where the store can be written to."""
        return self.store.traits.writable and not self.store.read_only

    @property
    def supports_deletes(self) -> bool:
        """True if the store can be written to."""
        return self.supports_writes

    @property
    def supports_listing(self) -> bool:
        """False for HTTP, for one."""
        return self.store.traits.listable

    def close(self) -> None:
        """Release what the store holds open."""
        self.store.close()
        super().close()

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """One value, or the asked-for part of it, in one request; None where there is no such key."""
        return (await self._read([(key, byte_range)], prototype or default_buffer_prototype()))[0]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Many values or parts of values, in one round."""
        return await self._read(list(key_ranges), prototype)

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        wanted = list(requests)
        prototype = wanted[0][1] if wanted else default_buffer_prototype()
        for (key, _, _), buffer in zip(
            wanted, await self._read([(k, r) for k, _, r in wanted], prototype), strict=True
        ):
            yield key, buffer

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        **_: Any,  # zarr-python's own limits: how far to merge is the store's business here
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Parts of one value, all of one version of it, merged where that saves requests.

        Raises:
            BaseExceptionGroup: of a FileNotFoundError, where there is no such key: what zarr-python looks for.
            VersionChangedError: replaced while its parts were read.
        """
        if byte_ranges:
            yield _present(key, await self._read_merged(key, [*byte_ranges], prototype))

    async def exists(self, key: str) -> bool:
        """True where there is such a key."""
        return await self._async.size(key) is not None

    async def getsize(self, key: str) -> int:
        """Size in bytes. Raises FileNotFoundError where there is no such key."""
        size = await self._async.size(key)
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def _read(
        self, wanted: list[tuple[str, ByteRequest | None]], prototype: BufferPrototype
    ) -> list[Buffer | None]:
        reads = [Read(key, _range(request)) for key, request in wanted]
        try:
            results = await self._async.read(reads)
        except RangeError:
            # zarr-python's stores answer a range beyond the end with nothing; ours refuse the batch, so each alone.
            results = [await self._read_leniently(read) for read in reads]
        self._documents.note(reads, results)
        return [_buffer(result, prototype) for result in results]

    async def _read_leniently(self, read: Read) -> Result:
        try:
            return (await self._async.read([read]))[0]
        except RangeError:
            return Blob(b"")

    async def _read_merged(
        self, key: str, requests: list[ByteRequest | None], prototype: BufferPrototype
    ) -> list[Buffer | None]:
        merging = _Merging(self.store, key, requests)
        try:
            return merging.take(await self._async.read(merging.reads), prototype)
        except RangeError:
            return await self._read([(key, request) for request in requests], prototype)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value, atomically.

        Raises:
            ConflictError: it is the document of an array that another writer changed since it was read from here.
            NodeChangedError, NodeNotFoundError: it is a chunk of an array that was replaced or deleted since its
                document was read from here.
        """
        self._check_writable()
        data = _data(value)
        if _is_metadata(key):  # with the copies that hold it: several steps, but few such keys
            await asyncio.to_thread(self._write_document, key, data)
            return
        await self._look_again(key)
        await self._async.write(key, data)

    async def _look_again(self, key: str) -> None:
        """See that the document is in force that a chunk at ``key`` is written by."""
        for document in self._documents.doubtful(key):
            self._documents.compare(self.store, document, (await self._async.read([Read(document)]))[0])

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value unless the key is there, decided by the service in one step."""
        self._check_writable()
        try:
            await self._async.write(key, _data(value), create_only=True)
        except KeyExistsError:
            return

    async def delete(self, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        await asyncio.to_thread(self.delete_sync, key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove the node at a prefix and all nodes below it: zarr-python calls this where it overwrites and deletes
        nodes. Files that belong to no node stay, with all that is in a folder of such files, and a warning names them.

        Raises:
            UnsupportedError: xarray or dask is about to write there what it has still to read from there.
        """
        self._check_writable()
        await asyncio.to_thread(refuse_reads_of_writers, self.store, prefix.rstrip("/"))
        self._documents.forget()
        await asyncio.to_thread(clear_node, self.store, prefix.rstrip("/"))

    async def clear(self) -> None:
        """Remove every key, whatever it belongs to; from consolidated metadata above the store first.

        Raises:
            UnsupportedError: xarray or dask is about to write there what it has still to read from there.
        """
        self._check_writable()
        await asyncio.to_thread(refuse_reads_of_writers, self.store, "")
        self._documents.forget()
        await asyncio.to_thread(take_from_copies, self.store, "")
        await self._async.delete_prefix("")

    # -- listing -------------------------------------------------------------------------------------------------------

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        async for entry in self._async.list():
            yield entry.key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every key that begins with ``prefix``: zarr-python means the text, not whole path segments."""
        folder, _, stem = prefix.rpartition("/")
        async for entry in self._async.list(folder):
            if not stem or entry.key.startswith(prefix):
                yield entry.key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of keys and prefixes right below ``prefix``."""
        listing = await self._async.list_dir(prefix.rstrip("/"))
        for name in (*listing.keys, *listing.prefixes):
            yield name

    async def is_empty(self, prefix: str) -> bool:
        """True where there is no key below ``prefix``; folders without any do not count."""
        listing = await self._async.list_dir(prefix.rstrip("/"))
        if listing.keys:
            return False
        # Level by level: on an object store the first prefix leads to a key, and all below it may be millions.
        start = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        for name in listing.prefixes:
            if not await self.is_empty(start + name):
                return False
        return True

    async def getsize_prefix(self, prefix: str) -> int:
        """Bytes of all values below ``prefix``."""
        entries = await asyncio.to_thread(sized_entries, self._async.store, prefix.rstrip("/"))
        return sum(entry.size or 0 for entry in entries)

    # -- without an event loop: what zarr-python uses where a store has it ---------------------------------------------

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """:meth:`get` without an event loop."""
        reads = [Read(key, _range(byte_range))]
        try:
            (result,) = self.store.read(reads)
        except RangeError:
            result = Blob(b"")
        self._documents.note(reads, [result])
        return _buffer(result, prototype or default_buffer_prototype())

    def set_sync(self, key: str, value: Buffer) -> None:
        """:meth:`set` without an event loop."""
        self._check_writable()
        data = _data(value)
        if _is_metadata(key):
            self._write_document(key, data)
            return
        self._look_again_sync(key)
        self.store.write(key, data)

    def _look_again_sync(self, key: str) -> None:
        for document in self._documents.doubtful(key):
            self._documents.compare(self.store, document, self.store.read([Read(document)])[0])

    def _write_document(self, key: str, data: memoryview | bytes) -> None:
        """Write a document, and bring the consolidated copies that hold it up to date."""
        copies = self._copies_of(key)
        self._look_again_sync(key)
        if (change := self._documents.replacement(self.store, key, data)) is not None:
            self.store.update(key, change)
        else:
            self.store.write(key, data)
        copies.refresh()

    def _copies_of(self, key: str) -> Copies:
        path, _, name = key.rpartition("/")
        return Copies(self.store, [path], 3 if name == "zarr.json" else 2, own=True)

    def delete_sync(self, key: str) -> None:
        """:meth:`delete` without an event loop."""
        self._check_writable()
        self._documents.forget(key)
        copies = self._copies_of(key) if _is_metadata(key) else None
        self.store.delete(key)
        if copies is not None:
            copies.refresh()

    def get_ranges_sync(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], *, prototype: BufferPrototype, **_: Any
    ) -> Sequence[tuple[int, Buffer | None]]:
        """:meth:`get_ranges` without an event loop."""
        merging = _Merging(self.store, key, [*byte_ranges])
        try:
            found = merging.take(self.store.read(merging.reads), prototype)
        except RangeError:
            found = [self.get_sync(key, prototype=prototype, byte_range=request) for request in byte_ranges]
        return _present(key, found)


class Documents:
    """The documents of arrays as zarr-python read them through a store.

    zarr-python changes metadata by writing a whole document, made of the one it has read some time ago: of two writers
    that make an array longer at one time, as xarray's ``append_dim`` does, one is lost. So a document replaces only
    the one that was read here. Chunks are written as that document says, too: where it is not known to be in force, it
    is looked at again.
    """

    def __init__(self) -> None:
        self._known: BoundedLRU[str, _Known] = BoundedLRU(max_items=_MAX_DOCUMENTS)
        self._copies: BoundedLRU[str, bytes] = BoundedLRU(max_items=_MAX_COPIES)

    def note(self, reads: Sequence[Read], results: Sequence[Result]) -> None:
        """Documents were read."""
        for read, result in zip(reads, results, strict=True):
            if read.range is None and isinstance(result, Blob):
                if _is_document(read.key):
                    self._note(read.key, result.data)
                if read.key.endswith((".zmetadata", "zarr.json")) and b"consolidated_" in (data := bytes(result.data)):
                    self._copies.put(read.key, data)

    def _in_copy(self, key: str) -> _Known | None:
        """An array's document as it stood in a consolidated copy that was read."""
        path, _, name = key.rpartition("/")
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            copy = self._copies.get("/".join(filter(None, (folder, ".zmetadata" if name == ".zarray" else name))))
            relative = path[len(folder) + 1 :] if folder else path
            if copy is not None and (found := _member(copy, relative, name)) is not None:
                return found
        return None

    def _note(self, key: str, data: memoryview | bytes | bytearray) -> _Known | None:
        known = _Known.of(data)
        if known is None:
            self._known.pop(key)
        else:
            self._known.put(key, known)
        return known

    def forget(self, key: str | None = None) -> None:
        """A key, or none in particular, is to be removed."""
        if key is None:
            self._known.clear()
            self._copies.clear()
        elif _is_document(key):
            self._known.pop(key)

    def doubtful(self, key: str) -> list[str]:
        """Keys of the documents that a chunk at ``key`` relies on, and that were last looked at some time ago."""
        found: list[str] = []
        if _is_document(key):
            return found
        folder = key
        while folder:
            folder = folder.rpartition("/")[0]
            for name in (f"{folder}/zarr.json", f"{folder}/.zarray") if folder else ("zarr.json", ".zarray"):
                known = self._known.get(name)
                if known is not None and time.monotonic() > known.trusted_until:
                    found.append(name)
        return found

    def compare(self, store: Store, key: str, result: Result) -> None:
        """Look at a document again.

        Raises:
            NodeChangedError: it is that of an array that stores chunks in another way. NodeNotFoundError: it is gone.
        """
        known = self._known.get(key)
        if known is None:
            return
        if not isinstance(result, Blob):
            raise NodeNotFoundError(f"the array with the document {key!r} in {store} was deleted since it was opened")
        found = _Known.of(result.data)
        if found != known and (found is None or not _alike(key, known.storage, found.storage)):
            raise NodeChangedError(
                "the array was replaced by another one since it was opened, and nothing was written: open it again",
                key=key,
                store=store,
            )
        self._known.put(key, replace(known, trusted_until=time.monotonic() + _TRUSTED_SECONDS))

    def replacement(self, store: Store, key: str, data: memoryview | bytes) -> Change | None:
        """Function that replaces the document that was read; None where it is written without a comparison."""
        if not _is_document(key):
            return None
        copy = self._in_copy(key)
        known = self._known.get(key) or copy
        new = self._note(key, data)
        if known is None or new is None or not store.traits.atomic_update:
            return None

        def change(old: memoryview | bytes | bytearray | None) -> memoryview | bytes:
            if old is None or (found := _Known.of(old)) is None:
                return data
            # Two that make it longer by the same number of rows write the same document.
            is_known = found == known or (found == new and new.shape == known.shape)
            # No call of zarr-python changes shape and attributes. Where it does, or goes back to what a copy says, its
            # array was made of that copy, and other changes came since.
            is_stale = found.shape != new.shape and (found.attributes != new.attributes or new == copy)
            if not is_known or is_stale:
                self._known.put(key, known)  # so that the same write is refused again, until the document is read anew
                raise ConflictError(
                    "the array's metadata was changed since it was read: nothing was written; open it again, from its "
                    "own metadata (zarr-python's and xarray's use_consolidated=False, consolidated=False). For "
                    "appending from several processes there are zarrdock.append and zarrdock.Array.append",
                    key=key,
                    store=store,
                )
            return data

        return change


@dataclass(frozen=True, slots=True)
class _Known:
    """The document of an array, as far as it has to be told from others."""

    shape: str
    attributes: str
    storage: bytes
    trusted_until: float = field(compare=False)

    @classmethod
    def of(cls, data: memoryview | bytes | bytearray) -> _Known | None:
        """None for the document of a group, or of nothing known."""
        try:
            return cls.of_json(json.loads(bytes(data)))
        except ValueError:
            return None

    @classmethod
    def of_json(cls, document: Any) -> _Known | None:
        """The same for a document that was parsed."""
        if not isinstance(document, dict) or "shape" not in document:
            return None
        shape, attributes = json.dumps(document["shape"]), json.dumps(document.get("attributes") or {}, sort_keys=True)
        storage = json.dumps({name: document[name] for name in document if name != "attributes"}, sort_keys=True)
        return cls(shape, attributes, storage.encode(), time.monotonic() + _TRUSTED_SECONDS)


def _member(copy: bytes, path: str, name: str) -> _Known | None:
    """The document of the array at ``path`` in a group's consolidated metadata."""
    try:
        document = json.loads(copy)
        members = (document if name == ".zarray" else document["consolidated_metadata"])["metadata"]
        return _Known.of_json(members.get(f"{path}/{name}" if name == ".zarray" else path))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _alike(key: str, one: bytes, other: bytes) -> bool:
    """True where arrays of both documents store chunks alike, as far as that can be told."""
    parse = partial(parse_node, lenient=True) if key.endswith("zarr.json") else _parse_v2
    try:
        old, new = parse(one, key), parse(other, key)
    except ZarrdockError:
        return False
    return isinstance(old, ArrayMetadata) and isinstance(new, ArrayMetadata) and store_alike(old, new)


def _parse_v2(document: bytes, key: str) -> ArrayMetadata:
    return parse_array_v2(document, None, key, lenient=True)


def _is_metadata(key: str) -> bool:
    """True for the document of any node."""
    return key.rpartition("/")[2] in ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def _is_document(key: str) -> bool:
    return key.endswith((".zarray", "zarr.json"))


class _Merging:
    """The reads for many parts of one value, and how the parts are taken out of the answers."""

    def __init__(self, store: Store, key: str, requests: list[ByteRequest | None]) -> None:
        spans = [(i, r.start, max(r.start, r.end)) for i, r in enumerate(requests) if isinstance(r, RangeByteRequest)]
        self._spans = [i for i, _, _ in spans]
        self._merged = MergedSpans(store, key, [(start, stop) for _, start, stop in spans])
        self._others = [i for i, r in enumerate(requests) if not isinstance(r, RangeByteRequest)]
        self.reads = [*self._merged.reads, *(Read(key, _range(requests[i])) for i in self._others)]

    def take(self, results: Sequence[Result], prototype: BufferPrototype) -> list[Buffer | None]:
        """The parts, in the order they were asked for.

        Raises:
            VersionChangedError: they are not all of one version.
        """
        found: dict[int, Buffer | None] = {}
        for i, data in zip(self._spans, self._merged.take(results), strict=True):
            found[i] = None if data is None else _buffer(Blob(data), prototype)
        for i, result in zip(self._others, results[len(self._merged.reads) :], strict=True):
            found[i] = _buffer(result, prototype)
        return [found[i] for i in range(len(found))]


def _present(key: str, found: Sequence[Buffer | None]) -> Sequence[tuple[int, Buffer | None]]:
    if any(buffer is None for buffer in found):
        raise BaseExceptionGroup("chunk read failed", [FileNotFoundError(key)])
    return list(enumerate(found))


def _range(request: ByteRequest | None) -> Range:
    match request:
        case None:
            return None
        case RangeByteRequest(start, end):
            return Span(start, max(start, end))
        case OffsetByteRequest(offset):
            return From(offset)
        case SuffixByteRequest(suffix):
            return Tail(suffix)
    raise ValueError(f"Unexpected byte_range, got {request!r}")


def _buffer(result: Result, prototype: BufferPrototype) -> Buffer | None:
    if result is None:
        return None
    if not isinstance(result, Blob):
        raise result
    return prototype.buffer.from_array_like(np.frombuffer(result.data, np.uint8))


def _data(value: Buffer) -> memoryview | bytes:
    if not isinstance(value, Buffer):
        raise TypeError(f"a Buffer of zarr-python is needed, not a {type(value).__name__}")
    return np.ascontiguousarray(value.as_numpy_array()).view(np.uint8).data if len(value) else b""
