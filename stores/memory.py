"""A store in this process's memory."""

from __future__ import annotations

import os
from builtins import list as list_  # inside Store, `list` is a method
from collections.abc import Iterator, Sequence
from typing import Any

from zarrdock.errors import KeyExistsError, RangeError, VersionChangedError
from zarrdock.ranges import is_empty, resolve
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
from zarrdock.stores.group_commit import KeyLocks

__all__ = ["MemoryStore"]

_TRAITS = Traits(atomic_update=True, conditional_read=True, merge_gap_bytes=0)


class MemoryStore(Store):
    """Keys and values in a dictionary, gone with the process.

    Values are copied where the caller could still change them. Reads take no lock; writers of one key take turns,
    writers of different keys don't wait for each other. Pickling copies the contents as they are at that moment: the
    copy is a store of its own.

    Args:
        read_only: refuse every mutating operation.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"0123456789")
    >>> bytes(store.get("key", zarrdock.Span(2, 5)).data)
    b'234'
    """

    traits = _TRAITS

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        # A value and its version are one tuple, replaced as a whole: a reader that holds it holds both.
        self._blobs: dict[str, Blob] = {}
        self._locks = KeyLocks()

    def read(self, requests: Sequence[Read], /) -> Results:
        for request in requests:
            check_key(request.key, self)
        return [self._read_one(request) for request in requests]

    def _read_one(self, request: Read) -> Result:
        if is_empty(request.range):
            return Blob(b"")
        blob = self._blobs.get(request.key)
        if blob is None:
            return None
        if request.version is not None and request.version != blob.version:
            return VersionChangedError("the value was replaced", key=request.key, store=self)
        if request.range is None:
            return blob
        span = resolve(request.range, len(blob.data))
        if span is None:
            message = f"{request.range} starts at or beyond the end, at {len(blob.data)} bytes"
            raise RangeError(message, key=request.key, store=self)
        return Blob(memoryview(blob.data)[slice(*span)], blob.version)

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version:
        check_key(key, self)
        self._check_writable(key)
        blob = _blob(value)
        with self._locks(key):
            if create_only and key in self._blobs:
                raise KeyExistsError("the key exists already", key=key, store=self)
            self._blobs[key] = blob
        return blob.version

    def update(self, key: str, change: Change, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        with self._locks(key):
            blob = self._blobs.get(key)
            old = None if blob is None else blob.data
            new = change(old)
            if new is None:
                self._blobs.pop(key, None)
            elif new is not old:
                self._blobs[key] = _blob(new)

    def delete(self, key: str, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        with self._locks(key):
            self._blobs.pop(key, None)

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        for key in self._below(prefix):
            self.delete(key)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        for key in self._below(check_prefix(prefix, self)):
            blob = self._blobs.get(key)
            if blob is not None:
                yield Entry(key, len(blob.data))

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        keys: set[str] = set()
        prefixes: set[str] = set()
        for key in self._below(prefix):
            name, slash, _ = key[len(prefix) + 1 if prefix else 0 :].partition("/")
            (prefixes if slash else keys).add(name)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    def size(self, key: str, /) -> int | None:
        blob = self._blobs.get(check_key(key, self))
        return None if blob is None else len(blob.data)

    def _below(self, prefix: str) -> list_[str]:
        keys = [*self._blobs]  # one step of the interpreter, so that no writer can come between
        return [key for key in keys if key.startswith(f"{prefix}/")] if prefix else keys

    @property
    def url(self) -> str:
        """A name for messages; a store in memory can't be opened by URL."""
        return f"<memory {id(self):#x}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"read_only": self.read_only, "_blobs": {**self._blobs}, "_locks": self._locks}


def _blob(value: Value) -> Blob:
    data = join_value(value)
    # Random, not counted: a counter would give equal tokens to different values in a forked child or an unpickled copy.
    return Blob(data if isinstance(data, bytes) else bytes(data), os.urandom(12))
