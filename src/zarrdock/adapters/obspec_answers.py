"""Parts of the obspec adapter: errors with obspec's names, tags for versions, the answer to a get."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from zarrdock.errors import (
    AccessError,
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.lru import BoundedLRU
from zarrdock.stores.base import Version

if TYPE_CHECKING:
    from obspec import Attributes, ObjectMeta

__all__ = [
    "AlreadyExistsError",
    "Got",
    "InvalidPathError",
    "NotFoundError",
    "NotModifiedError",
    "NotSupportedError",
    "PermissionDeniedError",
    "PreconditionError",
    "Tags",
    "describe",
    "named_errors",
]

#: Stores do not tell when an object was written; obspec has no word for that.
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)

# Of versions that are no text: beyond these, those used longest ago count as changed.
_MAX_TAGS = 1024


class NotFoundError(StoreError, FileNotFoundError):
    """There is no such key."""


class NotModifiedError(StoreError):
    """The object is still the version the caller has."""


class AlreadyExistsError(KeyExistsError):
    """The key is there already."""


class PreconditionError(VersionChangedError):
    """The object is not the version that was asked for."""


class InvalidPathError(InvalidKeyError):
    """The path is no key that any store accepts."""


class PermissionDeniedError(AccessError, ReadOnlyError):
    """The service denied access, or the store is read-only."""


class NotSupportedError(UnsupportedError):
    """The store, or any store of zarrdock, cannot do that."""


# obspec tells errors by the names of their classes. RangeError has none there.
_NAMES: dict[type[ZarrdockError], type[ZarrdockError]] = {
    KeyExistsError: AlreadyExistsError,
    VersionChangedError: PreconditionError,
    InvalidKeyError: InvalidPathError,
    AccessError: PermissionDeniedError,
    ReadOnlyError: PermissionDeniedError,
    UnsupportedError: NotSupportedError,
}


@contextlib.contextmanager
def named_errors() -> Iterator[None]:
    """Give zarrdock's errors the names that obspec's callers look for; they stay instances of their own classes."""
    try:
        yield
    except ZarrdockError as error:
        named = _NAMES.get(type(error))
        if named is None:
            raise
        renamed = named.__new__(named, *error.args)
        renamed.__dict__.update(error.__dict__)
        raise renamed from error


class Tags:
    """Versions as text and back: a store's own text (S3's ETags, GCS's generations) is kept as it is."""

    def __init__(self) -> None:
        self._versions: BoundedLRU[str, Version] = BoundedLRU(max_items=_MAX_TAGS)
        self._tags: dict[Version, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Tags, ()  # tags made for opaque versions are good in one process

    def of(self, version: Version | None) -> str | None:
        """The tag of a version."""
        if version is None or isinstance(version, str):
            return version
        with self._versions.lock:
            tag = self._tags.get(version)
            if tag is None:
                tag = self._tags[version] = f"zarrdock-{uuid4().hex}"
                for _, oldest in self._versions.put(tag, version):
                    del self._tags[oldest]
            else:
                self._versions.get(tag)
            return tag

    def version(self, tag: str) -> Version:
        """The version of a tag; an unknown tag is returned as it is, since the store may use it as its version."""
        return self._versions.get(tag, tag)


def describe(path: str, size: int, tag: str | None) -> ObjectMeta:
    """obspec's description of an object."""
    return {"path": path, "last_modified": UNKNOWN_TIME, "size": size, "e_tag": tag, "version": tag}


class Got:
    """The answer to a get: obspec's ``GetResult`` and ``GetResultAsync``.

    Args:
        data: the bytes. start: of them in the object; None: they are its last ones.
        size: of the object, where it is known; else ``find_size`` is called when it is first used.
    """

    def __init__(
        self,
        path: str,
        data: bytes | bytearray | memoryview,
        *,
        start: int | None,
        size: int | None,
        tag: str | None,
        find_size: Callable[[], int],
    ) -> None:
        self._path = path
        self._data = data
        self._start = start
        self._size = size
        self._tag = tag
        self._find_size = find_size

    def __repr__(self) -> str:
        return f"Got({self._path!r}, {len(self._data)} bytes)"

    @property
    def attributes(self) -> Attributes:
        """Always None: stores keep bytes alone."""
        return {}

    def buffer(self) -> bytes | bytearray | memoryview:
        """The bytes."""
        return self._data

    async def buffer_async(self) -> bytes | bytearray | memoryview:
        """The bytes; they are here already."""
        return self._data

    def complete(self) -> Got:
        """Complete this answer, so that nothing is left to ask for."""
        if self._size is None:
            self._size = self._find_size()
        return self

    @property
    def meta(self) -> ObjectMeta:
        """Metadata of the whole object. After a partial read this asks for the size, with one request."""
        size = self.complete()._size
        assert size is not None
        return describe(self._path, size, self._tag)

    @property
    def range(self) -> tuple[int, int]:
        """Start and stop of the bytes in the object."""
        start = self.meta["size"] - len(self._data) if self._start is None else self._start
        return start, start + len(self._data)

    def __iter__(self) -> Iterator[bytes | bytearray | memoryview]:
        yield self._data

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray | memoryview]:
        await asyncio.sleep(0)
        yield self._data


def check_span(key: str, start: int, stop: int) -> None:
    """obspec refuses a range that is empty or begins before the object; zarrdock's stores answer the former."""
    if start < 0 or stop <= start:
        raise RangeError(f"the range {start}:{stop} is empty or negative", key=key)
