"""A bounded cache of parts of objects, in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zarrdock.after_fork import reset_after_fork
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import From, Range, Span, Tail, resolve
from zarrdock.stores.base import Buffer, Version

__all__ = ["TAIL", "UNKNOWN", "Cache", "Known", "MemoryCache", "Place"]


# -- Which bytes of an object are known. Pure: no I/O, no bytes.

# Stands for the start of a segment that is the end of an object of unknown size.
TAIL = -1


class Place(NamedTuple):
    """Bytes ``offset`` to ``offset + n`` of the segment that begins at ``segment`` (or is the ``TAIL``)."""

    segment: int
    offset: int
    n: int


class Known:
    """Segments of one version of an object.

    None lies within another: of those that begin before a byte the last one reaches furthest.

    Attributes:
        size: of the object in bytes, where some answer told. tail: length of the ``TAIL`` segment, 0 without one.
    """

    __slots__ = ("size", "starts", "stops", "tail")

    def __init__(self) -> None:
        self.size: int | None = None
        self.tail = 0
        self.starts: list[int] = []
        self.stops: list[int] = []

    def locate(self, range_: Range) -> Place | None:
        """Locate the bytes of a range; None if not all of them are known, or if the range is beyond the end."""
        if self.size is None:
            match range_:
                case Tail(n) if n <= self.tail:
                    return Place(TAIL, self.tail - n, n)
                case Span(start, stop):
                    span: tuple[int, int] | None = start, stop
                case _:
                    return None
        else:
            span = resolve(range_, self.size)
        if span is None:
            return None
        start, stop = span
        i = bisect_right(self.starts, start) - 1
        if start == stop or (i >= 0 and self.stops[i] >= stop):
            return Place(self.starts[i] if i >= 0 else 0, start - self.starts[i] if i >= 0 else 0, stop - start)
        if self.size is not None and self.size - self.tail <= start:
            return Place(TAIL, start - (self.size - self.tail), stop - start)
        return None

    def learn(self, range_: Range, n: int) -> int:
        """Derive the object's size from an answer of ``n`` bytes to a read of ``range_``.

        Returns:
            The start of the segment of those bytes.
        """
        match range_:
            case None:
                self.size = n
                return 0
            case From(start):
                self.size = start + n
                return start
            case Span(start, stop):
                if n < stop - start:
                    self.size = start + n
                return start
            case Tail(wanted):
                if n < wanted:
                    self.size = n
                return TAIL if self.size is None else self.size - n

    def add(self, segment: int, n: int) -> list[int] | None:
        """Add a segment of ``n`` bytes.

        Returns:
            The segments that it makes superfluous; None where it is so itself, and was not added.
        """
        if segment == TAIL:
            if n <= self.tail:
                return None
            superfluous = [TAIL] if self.tail else []
            self.tail = n
            return superfluous
        stop = segment + n
        i = bisect_right(self.starts, segment) - 1
        if n == 0 or (i >= 0 and self.stops[i] >= stop):
            return None
        first = bisect_left(self.starts, segment)
        last = bisect_right(self.stops, stop)
        superfluous = self.starts[first:last]
        self.starts[first : max(first, last)] = [segment]
        self.stops[first : max(first, last)] = [stop]
        return superfluous

    def remove(self, segment: int) -> None:
        """Forget a segment."""
        if segment == TAIL:
            self.tail = 0
            return
        i = bisect_left(self.starts, segment)
        if i < len(self.starts) and self.starts[i] == segment:
            del self.starts[i], self.stops[i]


# What Python keeps for a segment besides its bytes, about.
_SEGMENT_BYTES = 300


class _Unknown:
    """No version: None is one, of a store that has none."""

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Cache(ABC):
    """Parts of objects, by key and version. One version a key: the latest that came.

    Attributes:
        max_bytes: room for all of them.
    """

    max_bytes: int

    @abstractmethod
    def version(self, key: str) -> Version | _Unknown | None:
        """The version of which something is kept."""

    @abstractmethod
    def find(self, key: str, version: Version | None, range_: Range) -> Buffer | None:
        """The bytes of a range, if they are all kept."""

    @abstractmethod
    def put(self, key: str, version: Version | None, range_: Range, data: Buffer) -> None:
        """Keep what a read of ``range_`` brought."""

    @abstractmethod
    def drop(self, key: str) -> None:
        """Forget an object."""

    @abstractmethod
    def drop_below(self, prefix: str) -> None:
        """Forget every object below a prefix ("": all)."""

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes in use."""


@dataclass(slots=True)
class _Object:
    version: Version | None
    known: Known = field(default_factory=Known)
    segments: set[int] = field(default_factory=set)


class MemoryCache(Cache):
    """Cache in memory, for the threads of one process. The least recently used entries go first. A copy made by
    ``pickle`` and a forked child begin empty.

    >>> store = zarrdock.CachingStore(zarrdock.MemoryStore(), max_bytes=10**6)
    >>> store.get("key") is None
    True
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._renew()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        # Its lock is that of the objects, too.
        self._parts: BoundedLRU[tuple[str, int], bytes] = BoundedLRU(self.max_bytes, _segment_nbytes)
        self._objects: dict[str, _Object] = {}

    def version(self, key: str) -> Version | _Unknown | None:
        found = self._objects.get(key)
        return UNKNOWN if found is None else found.version

    def find(self, key: str, version: Version | None, range_: Range) -> Buffer | None:
        with self._parts.lock:
            found = self._objects.get(key)
            place = found.known.locate(range_) if found is not None and found.version == version else None
            if place is None:
                return None
            if place.n == 0:
                return b""
            data = self._parts.get((key, place.segment))
        assert data is not None
        return data if place.n == len(data) else memoryview(data)[place.offset : place.offset + place.n]

    def put(self, key: str, version: Version | None, range_: Range, data: Buffer) -> None:
        n = memoryview(data).nbytes
        if n == 0 or n + _SEGMENT_BYTES > self.max_bytes:
            return
        own = bytes(data)  # a view would keep alive what it is a view of
        with self._parts.lock:
            found = self._objects.get(key)
            if found is None or found.version != version:
                self._drop(key)
                found = self._objects[key] = _Object(version)
            segment = found.known.learn(range_, n)
            superfluous = found.known.add(segment, n)
            if superfluous is None:
                return
            for old in superfluous:
                self._parts.pop((key, old))
            found.segments.difference_update(superfluous)
            found.segments.add(segment)
            for (other, oldest), _ in self._parts.put((key, segment), own):
                self._forget(other, oldest)

    def _forget(self, key: str, segment: int) -> None:
        found = self._objects[key]
        found.known.remove(segment)
        found.segments.discard(segment)
        if not found.segments:
            del self._objects[key]

    def _drop(self, key: str) -> None:
        found = self._objects.pop(key, None)
        if found is not None:
            for segment in found.segments:
                self._parts.pop((key, segment))

    def drop(self, key: str) -> None:
        with self._parts.lock:
            self._drop(key)

    def drop_below(self, prefix: str) -> None:
        with self._parts.lock:
            before = f"{prefix}/" if prefix else ""
            for key in [key for key in self._objects if key.startswith(before)]:
                self._drop(key)

    def nbytes(self) -> int:
        return self._parts.nbytes

    def __reduce__(self) -> Any:
        return MemoryCache, (self.max_bytes,)


def _segment_nbytes(data: bytes) -> int:
    return len(data) + _SEGMENT_BYTES
