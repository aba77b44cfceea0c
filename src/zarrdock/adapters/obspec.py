"""A zarrdock store as an obspec object: ``as_obspec("s3://bucket/a.zarr").get_range("c/0/0", start=0, end=16)``.

Every protocol of obspec 0.1, plain and asynchronous. Errors have obspec's names and are zarrdock's own as well. obspec
itself is not needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zarrdock.adapters.merged_spans import MergedSpans
from zarrdock.adapters.obspec_answers import (
    Got,
    NotFoundError,
    NotModifiedError,
    NotSupportedError,
    PreconditionError,
    Tags,
    check_span,
    describe,
    named_errors,
)
from zarrdock.errors import RangeError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Buffer, Store, Value, check_prefix
from zarrdock.stores.open import open_store

if TYPE_CHECKING:
    import obspec
    from obspec import Attributes, GetOptions, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer as AnyBuffer  # collections.abc has it from 3.12 on

__all__ = ["ObspecStore", "as_obspec"]

_PAGE = 1000


class ObspecStore:
    """Any zarrdock store, behind obspec's protocols.

    ``e_tag`` and ``version`` are both the store's version of the object, which listings do not tell; ``last_modified``
    is always 1970: stores do not tell it. Attributes, tags and conditions on times are refused.

    Args:
        store: whatever :func:`zarrdock.open_store` takes.
    """

    def __init__(self, store: Any, *, read_only: bool = False, storage_options: dict[str, Any] | None = None) -> None:
        self.store: Store = open_store(store, storage_options=storage_options, read_only=read_only)
        self._tags = Tags()

    def __repr__(self) -> str:
        return f"ObspecStore({self.store!r})"

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, path: str, *, options: GetOptions | None = None) -> Got:
        """An object, or the part of it that the options ask for, in one request."""
        wanted: dict[str, Any] = {name: value for name, value in (options or {}).items() if value is not None}
        if wanted.pop("head", False):
            meta = self.head(path)
            return Got(path, b"", start=0, size=meta["size"], tag=meta["e_tag"], find_size=lambda: meta["size"])
        range_ = _range(path, wanted.pop("range", None))
        unless = wanted.pop("if_none_match", None)
        tag = wanted.pop("version", None) or wanted.pop("if_match", None)
        if wanted:
            raise NotSupportedError(f"stores have no {', '.join(wanted)}")
        with named_errors():
            blob = self.store.get(path, range_, version=None if tag in (None, "*") else self._tags.version(tag))
        if blob is None:
            raise NotFoundError("there is no such key", key=path, store=self.store)
        found = self._tags.of(blob.version)
        if unless is not None and unless in (found, "*"):
            raise NotModifiedError("not modified", key=path, store=self.store)
        return Got(
            path,
            blob.data,
            start=_start(range_),
            size=_size(range_, len(blob.data)),
            tag=found,
            find_size=lambda: self.head(path)["size"],
        )

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        """Bytes ``start`` to ``end`` of an object, those beyond its end left out, in one request."""
        (stop,) = _stops([start], None if end is None else [end], None if length is None else [length])
        check_span(path, start, stop)
        with named_errors():
            blob = self.store.get(path, Span(start, stop))
        if blob is None:
            raise NotFoundError("there is no such key", key=path, store=self.store)
        return blob.data

    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Sequence[Buffer]:
        """Many parts of an object, all of one version of it, merged where that saves requests, in one round."""
        spans = [*zip(starts, _stops(starts, ends, lengths), strict=True)]
        for start, stop in spans:
            check_span(path, start, stop)
        merged = MergedSpans(self.store, path, spans)
        with named_errors():
            found = [data for data in merged.take(self.store.read(merged.reads)) if data is not None]
        if len(found) < len(spans):
            raise NotFoundError("there is no such key", key=path, store=self.store)
        if not all(map(len, found)):  # merged with one that begins earlier
            raise RangeError("a range starts at or beyond the end of the object", key=path, store=self.store)
        return [*found]

    def head(self, path: str) -> ObjectMeta:
        """Size and version. Stores tell the latter with bytes: two requests, and the size alone where it is zero."""
        with named_errors():
            size = self.store.size(path)
            if size is None:
                raise NotFoundError("there is no such key", key=path, store=self.store)
            blob = self.store.get(path, Span(0, 1)) if size else None
        return describe(path, size, self._tags.of(blob.version) if blob is not None else None)

    # -- listing -------------------------------------------------------------------------------------------------------

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        """Every object below a prefix, in pages."""
        with named_errors():
            entries = self.store.list(prefix or "")
            while page := [*islice(entries, _PAGE)]:
                kept = [entry for entry in page if offset is None or entry.key > offset]
                yield [describe(e.key, self._size(e.key) if e.size is None else e.size, None) for e in kept]

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        """The objects and prefixes right below a prefix; sizes are asked for one by one."""
        with named_errors():
            listing = self.store.list_dir(prefix or "")
            before = f"{check_prefix(prefix)}/" if prefix else ""
            objects = [describe(before + name, self._size(before + name), None) for name in listing.keys]
        return {"common_prefixes": [before + name for name in listing.prefixes], "objects": objects}

    def _size(self, key: str) -> int:
        return self.store.size(key) or 0

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(
        self,
        path: str,
        file: IO[bytes] | Path | AnyBuffer | Iterator[AnyBuffer] | Iterable[AnyBuffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> PutResult:
        """Set an object, atomically. How it is sent is the store's business: the last three are not used.

        Args:
            mode: "overwrite", "create", or a version: replaced only if it is still that one. The comparison is by
                content: an object that was replaced by an equal one meanwhile is taken for the same.
        """
        if attributes or tags:
            raise NotSupportedError("zarrdock stores keep values without attributes and tags: leave them out")
        value = _value(file)
        with named_errors():
            if mode is None or isinstance(mode, str):
                tag = self._tags.of(self.store.write(path, value, create_only=mode == "create"))
                return {"e_tag": tag, "version": tag}
            self._replace(path, value, mode.get("e_tag") or mode.get("version"))
        return {"e_tag": None, "version": None}

    def _replace(self, path: str, value: Value, tag: str | None) -> None:
        if tag is None:
            raise NotSupportedError("an update needs an e_tag or a version")
        # Stores compare and swap contents: what had this version is found first.
        before = self.store.get(path, version=self._tags.version(tag))
        expected = None if before is None else bytes(before.data)

        def change(now: Buffer | None) -> Value:
            if expected is None or now is None or bytes(now) != expected:
                raise PreconditionError("replaced or removed meanwhile", key=path, store=self.store)
            return value

        self.store.update(path, change)

    def delete(self, paths: str | Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        with named_errors():
            for path in [paths] if isinstance(paths, str) else paths:
                self.store.delete(path)

    def copy(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Copy an object, through this machine."""
        (data,) = self.get(from_)
        with named_errors():
            self.store.write(to, data, create_only=not overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Copy an object and remove the first."""
        self.copy(from_, to, overwrite=overwrite)
        if from_ != to:
            self.delete(from_)

    # -- the same, awaited ---------------------------------------------------------------------------------------------

    async def get_async(self, path: str, *, options: GetOptions | None = None) -> Got:
        """:meth:`get`; the size of an object of which a part is read is asked for at once, not on first use:
        that would block the event loop.
        """
        return await asyncio.to_thread(lambda: self.get(path, options=options).complete())

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> Buffer:
        """:meth:`get_range`."""
        return await asyncio.to_thread(self.get_range, path, start=start, end=end, length=length)

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Sequence[Buffer]:
        """:meth:`get_ranges`."""
        return await asyncio.to_thread(self.get_ranges, path, starts=starts, ends=ends, lengths=lengths)

    async def head_async(self, path: str) -> ObjectMeta:
        """:meth:`head`."""
        return await asyncio.to_thread(self.head, path)

    async def list_async(
        self, prefix: str | None = None, *, offset: str | None = None
    ) -> AsyncIterator[Sequence[ObjectMeta]]:
        """:meth:`list`; an asynchronous iterator."""
        pages = self.list(prefix, offset=offset)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    async def list_with_delimiter_async(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        """:meth:`list_with_delimiter`."""
        return await asyncio.to_thread(self.list_with_delimiter, prefix)

    async def put_async(
        self,
        path: str,
        file: IO[bytes]
        | Path
        | AnyBuffer
        | AsyncIterator[AnyBuffer]
        | AsyncIterable[AnyBuffer]
        | Iterator[AnyBuffer]
        | Iterable[AnyBuffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = 0,
        max_concurrency: int = 0,
    ) -> PutResult:
        """:meth:`put`; parts may come from an asynchronous iterator."""
        if isinstance(file, AsyncIterable) and not isinstance(file, Got):
            file = [part async for part in file]
        return await asyncio.to_thread(self.put, path, file, attributes=attributes, tags=tags, mode=mode)

    async def delete_async(self, paths: str | Sequence[str]) -> None:
        """:meth:`delete`."""
        await asyncio.to_thread(self.delete, paths)

    async def copy_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """:meth:`copy`."""
        await asyncio.to_thread(self.copy, from_, to, overwrite=overwrite)

    async def rename_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """:meth:`rename`."""
        await asyncio.to_thread(self.rename, from_, to, overwrite=overwrite)


def as_obspec(store: Any, *, storage_options: dict[str, Any] | None = None, read_only: bool = False) -> ObspecStore:
    """``store`` (anything :func:`zarrdock.open_store` takes) as an object with obspec's methods.

    >>> from zarrdock.adapters import as_obspec
    >>> store = as_obspec({"key": b"0123456789"})
    >>> bytes(store.get_range("key", start=2, end=5))
    b'234'
    """
    return ObspecStore(store, storage_options=storage_options, read_only=read_only)


def _range(path: str, asked: Any) -> Range:
    if asked is None:
        return None
    if not isinstance(asked, dict):
        start, stop = asked
        check_span(path, start, stop)
        return Span(start, stop)
    return From(asked["offset"]) if "offset" in asked else Tail(asked["suffix"])


def _start(range_: Range) -> int | None:
    return None if isinstance(range_, Tail) else 0 if range_ is None else range_.start


def _size(range_: Range, n: int) -> int | None:
    """Size of an object of which ``n`` bytes came for a range, where that tells."""
    match range_:
        case None:
            return n
        case From(start):
            return start + n
        case Tail(length):
            return n if n < length else None
        case Span(start, stop):
            return start + n if n < stop - start else None


def _stops(starts: Sequence[int], ends: Sequence[int] | None, lengths: Sequence[int] | None) -> Sequence[int]:
    if (ends is None) == (lengths is None):
        raise TypeError("give either the ends of the ranges or their lengths, not both")
    if ends is not None:
        return ends
    return [start + length for start, length in zip(starts, lengths or (), strict=True)]


def _value(file: Any) -> Value:
    if isinstance(file, Path):
        return file.read_bytes()
    if hasattr(file, "read"):
        data: bytes = file.read()
        return data
    try:
        return memoryview(file)
    except TypeError:
        return [memoryview(part) for part in file]


if TYPE_CHECKING:

    def _conforms(store: ObspecStore) -> None:
        """The protocols, held by the type checker."""
        _get: tuple[obspec.Get, obspec.GetAsync] = (store, store)
        _range: tuple[obspec.GetRange, obspec.GetRangeAsync] = (store, store)
        _ranges: tuple[obspec.GetRanges, obspec.GetRangesAsync] = (store, store)
        _head: tuple[obspec.Head, obspec.HeadAsync] = (store, store)
        _list: tuple[obspec.List, obspec.ListAsync] = (store, store)
        _dir: tuple[obspec.ListWithDelimiter, obspec.ListWithDelimiterAsync] = (store, store)
        _put: tuple[obspec.Put, obspec.PutAsync] = (store, store)
        _delete: tuple[obspec.Delete, obspec.DeleteAsync] = (store, store)
        _copy: tuple[obspec.Copy, obspec.CopyAsync] = (store, store)
        _rename: tuple[obspec.Rename, obspec.RenameAsync] = (store, store)
