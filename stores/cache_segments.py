"""Which bytes of an object are known. Pure: no I/O, no bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from zarrdock.ranges import From, Range, Span, Tail, resolve

__all__ = ["TAIL", "Known", "Place"]

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
        """Where the bytes of a range are; None where they are not all known, or where the range is beyond the end."""
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
        """What an answer of ``n`` bytes to a read of ``range_`` tells about the object's size.

        Returns:
            Where the segment of those bytes begins.
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
