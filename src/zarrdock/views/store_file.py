"""An object of a store as a file, for libraries that want one to seek in."""

from __future__ import annotations

import io
from typing import Any

from zarrdock.errors import NodeNotFoundError, VersionChangedError, ZarrdockError
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Store, Version

__all__ = ["StoreFile"]

KEPT_BYTES = 32 * 2**20


class StoreFile(io.RawIOBase):
    """A read-only file over one version of an object. Reads are of whole blocks, neighbours in one request, and
    kept.

    Args:
        store, key: the object.

    Attributes:
        version: that all bytes are of; None where the store has none.
        error: what went wrong in the store, for callers behind a library that hides it.

    Raises:
        NodeNotFoundError: there is no such object.
    """

    def __init__(self, store: Store, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        size = store.size(key)
        if size is None:
            raise NodeNotFoundError(f"there is no {key!r} in {store}")
        self._size = size
        self._at = 0
        # A block costs as much as what a store reads rather than sending another request, within reason.
        self._block = min(max(2**15, store.traits.merge_gap_bytes), 2**19)
        self._blocks: BoundedLRU[int, bytes] = BoundedLRU(KEPT_BYTES, len)
        self.version: Version | None = None
        self.error: ZarrdockError | None = None
        self._fetch(0, min(1, -(-size // self._block)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self._size - self._at))
        if not n:
            return 0
        try:
            view[:n] = self._bytes(self._at, self._at + n)
        except ZarrdockError as error:
            self.error = error
            raise
        self._at += n
        return n

    def bytes_at(self, start: int, length: int) -> bytes:
        """Bytes at a place, fewer if the file ends before; does not move the position of the next read."""
        stop = min(start + length, self._size)
        return self._bytes(start, stop) if start < stop else b""

    def _bytes(self, start: int, stop: int) -> bytes:
        first, last = start // self._block, -(-stop // self._block)
        held: dict[int, bytes] = {}
        missing: list[int] = []
        for i in range(first, last):
            block = self._blocks.get(i)
            if block is None:
                missing.append(i)
            else:
                held[i] = block
        if missing:
            held |= self._fetch(missing[0], missing[-1] + 1)
        data = b"".join(held[i] for i in range(first, last))
        return data[start - first * self._block : stop - first * self._block]

    def _fetch(self, first: int, last: int) -> dict[int, bytes]:
        """Blocks in one request."""
        if first == last:
            return {}
        span = Span(first * self._block, min(last * self._block, self._size))
        (answer,) = self._store.read([Read(self._key, span, self.version)])
        if not isinstance(answer, Blob) or len(answer.data) != span.stop - span.start:
            raise VersionChangedError("replaced while it was read", key=self._key, store=self._store)
        self.version = answer.version
        data = bytes(answer.data)
        found = {i: data[(i - first) * self._block : (i - first + 1) * self._block] for i in range(first, last)}
        for i, block in found.items():
            self._blocks.put(i, block)
        return found
