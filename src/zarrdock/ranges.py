"""Byte ranges and their merging. Pure: no I/O, no imports of the rest of zarrdock but errors.

Three kinds of range, all in bytes. A plan asks for many small spans of one object; :func:`merge` says which requests
to send for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["From", "Merged", "Range", "Span", "Tail", "merge", "resolve"]

Int64Array: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``stop``, half-open. ``stop`` may lie beyond the end; the range then ends there.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"0123456789")
    >>> bytes(store.get("key", zarrdock.Span(2, 5)).data)
    b'234'
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.stop < self.start:
            raise ValueError(f"not a byte span: [{self.start}, {self.stop})")


@dataclass(frozen=True, slots=True)
class From:
    """Everything from byte ``start`` on.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"0123456789")
    >>> bytes(store.get("key", zarrdock.From(7)).data)
    b'789'
    """

    start: int

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"not a byte offset: {self.start}")


@dataclass(frozen=True, slots=True)
class Tail:
    """The last ``n`` bytes; the whole object where it is shorter.

    >>> store = zarrdock.MemoryStore()
    >>> _ = store.write("key", b"0123456789")
    >>> bytes(store.get("key", zarrdock.Tail(3)).data)
    b'789'
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"not a number of bytes: {self.n}")


Range: TypeAlias = Span | From | Tail | None


def is_empty(range_: Range) -> bool:
    """True where no byte is asked for: such a range is answered without a request."""
    return (isinstance(range_, Span) and range_.start == range_.stop) or (isinstance(range_, Tail) and range_.n == 0)


def resolve(range_: Range, size: int) -> tuple[int, int] | None:
    """The half-open span of an object of ``size`` bytes that ``range_`` means.

    Returns:
        ``(start, stop)`` within ``[0, size]``, or None where the range starts at or beyond the end (a RangeError for
        the store to raise).

    >>> from zarrdock.storage import Span, Tail, resolve
    >>> resolve(Span(2, 100), 10), resolve(Tail(4), 10), resolve(Span(10, 12), 10)
    ((2, 10), (6, 10), None)
    """
    match range_:
        case None:
            return 0, size
        case Tail(n):
            return max(0, size - n), size
        case Span(start, stop) if start == stop:
            return min(start, size), min(start, size)
        case Span(start, stop):
            return (start, min(stop, size)) if start < size else None
        case From(start):
            return (start, size) if start < size else None


@dataclass(frozen=True, slots=True)
class Merged:
    """Requests for many spans.

    Attributes:
        starts, stops: shape (n_requests,), the spans to ask for, ascending and disjoint.
        request: shape (n_spans,), which request holds each span asked for.
        offset: shape (n_spans,), where in that request's bytes the span begins.
    """

    starts: Int64Array
    stops: Int64Array
    request: Int64Array
    offset: Int64Array

    @property
    def nbytes(self) -> int:
        """Bytes over all requests."""
        return int((self.stops - self.starts).sum())


def merge(starts: Int64Array, lengths: Int64Array, *, gap_bytes: int = 0, max_bytes: int | None = None) -> Merged:
    """Merge spans of one object into as few requests as the gap allows.

    Overlapping and repeated spans are asked for once. Two neighbours share a request where at most ``gap_bytes``
    unwanted bytes lie between them, and, if ``max_bytes`` is given, where the request then stays within it (a single
    longer span is still one request).

    Args:
        starts: shape (n,), first byte of each span.
        lengths: shape (n,), bytes of each span; zero is allowed.
    """
    n = len(starts)
    if n == 0:
        empty = np.empty(0, np.int64)
        return Merged(empty, empty, empty, empty)
    stops = starts + lengths
    if n == 1:
        zero = np.zeros(1, np.int64)
        return Merged(starts, stops, zero, zero)
    in_order = bool((starts[1:] >= starts[:-1]).all())
    order = np.arange(n) if in_order else np.argsort(starts, kind="stable")
    s = starts if in_order else starts[order]
    e = np.maximum.accumulate(stops if in_order else stops[order])
    new = np.empty(n, bool)
    new[0] = True
    np.greater(s[1:], e[:-1] + gap_bytes, out=new[1:])
    first, last = _runs(new)
    if max_bytes is not None and int((e[last] - s[first]).max()) > max_bytes:
        _split_long(s, e, new, max_bytes)
        first, last = _runs(new)
    run = np.cumsum(new) - 1
    request = np.empty(n, np.int64)
    request[order] = run
    run_starts = s[first]
    return Merged(run_starts, e[last], request, starts - run_starts[request])


def _runs(new: npt.NDArray[np.bool_]) -> tuple[Int64Array, Int64Array]:
    """The first and the last span of each run; ``new`` is True where one begins."""
    first = new.nonzero()[0]
    last = np.empty_like(first)
    last[:-1] = first[1:]
    last[-1] = len(new)
    return first, last - 1


def _split_long(s: Int64Array, e: Int64Array, new: npt.NDArray[np.bool_], max_bytes: int) -> None:
    """Begin a new request, in place, wherever a run would grow beyond ``max_bytes`` and the spans do not overlap
    there.
    """
    first, last = _runs(new)
    long = (e[last] - s[first]) > max_bytes
    for a, b in zip(first[long], last[long], strict=True):
        begin = int(s[a])
        for i in range(int(a) + 1, int(b) + 1):
            if int(e[i]) - begin > max_bytes and s[i] >= e[i - 1]:
                new[i] = True
                begin = int(s[i])
