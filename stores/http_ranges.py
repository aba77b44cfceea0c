"""HTTP byte ranges: the headers of clients and servers, and the check of an answer against its range. Pure: no I/O.

A service may ignore a range and send everything, or send less than was asked for: neither is ever handed on as if it
were the range.
"""

from __future__ import annotations

import re

from zarrdock.errors import RangeError
from zarrdock.ranges import From, Range, Span, Tail, resolve
from zarrdock.stores.diagnose import TruncatedError

__all__ = ["content_range", "range_header", "size_of_content_range", "take"]

# No more digits than a size can have: int() refuses thousands of them, with an error of its own.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,19})")


def range_header(range_: Range) -> str | None:
    """The Range header that asks for ``range_``, which must not be empty: "bytes=5-4" brings the whole object."""
    match range_:
        case Span(start, stop):
            return f"bytes={start}-{stop - 1}"
        case From(start):
            return f"bytes={start}-"
        case Tail(n):
            return f"bytes=-{n}"
        case None:
            return None


def content_range(span: tuple[int, int] | None, size: int) -> str:
    """The Content-Range header of bytes ``span[0]`` to ``span[1]``, half-open; of an answer 416 without a span."""
    return f"bytes */{size}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{size}"


def size_of_content_range(content_range: str | None) -> int | None:
    """Size of the whole object in bytes, where a Content-Range header tells it."""
    match = _CONTENT_RANGE.fullmatch(content_range or "") or _UNSATISFIED.fullmatch(content_range or "")
    size = match[match.lastindex or 0] if match else "*"
    return None if size == "*" else int(size)


def take(
    data: bytes | bytearray, range_: Range, *, status: int, content_range: str | None, length: int | None
) -> bytes | bytearray:
    """Exactly the bytes of ``range_``, out of the body of a successful answer.

    Args:
        data: the body as it came.
        status: 200, or 206 for a part.
        content_range: the header of that name.
        length: what Content-Length announced, in bytes; None where it says nothing about ``data``, as with compressed
            transfer.
    Raises:
        RangeError: the range starts at or beyond the end.
        TruncatedError: less came than was announced, or than was asked for and is there; worth asking again.
    """
    if length is not None and len(data) < length:
        raise TruncatedError(f"{len(data)} bytes came instead of the {length} announced")
    if status != 206:  # the range was not asked for, or was ignored
        start, size = 0, len(data)
    elif match := _CONTENT_RANGE.fullmatch(content_range or ""):
        start = int(match[1])
        if len(data) != int(match[2]) + 1 - start:
            raise TruncatedError(f"{len(data)} bytes came for the content range {match[0]!r}")
        # Without a size what was asked for is held against what came.
        size = (
            int(match[3]) if match[3] != "*" else max(int(match[2]) + 1, range_.stop if isinstance(range_, Span) else 0)
        )
    elif not data and isinstance(range_, Tail):  # some servers answer the tail of an empty object so
        return data
    else:
        raise TruncatedError(f"a part without a usable content range: {content_range!r}")
    wanted = resolve(range_, size)
    if wanted is None:
        raise RangeError(f"the range starts at or beyond the end of an object of {size} bytes")
    first, last = wanted[0] - start, wanted[1] - start
    if first < 0 or last > len(data):
        raise TruncatedError(f"bytes {start} to {start + len(data)} came instead of {wanted[0]} to {wanted[1]}")
    return data if (first, last) == (0, len(data)) else data[first:last]
