"""Zeros that nobody has to store: parts of a value that stores with sparse files leave out, and others write."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

__all__ = ["BLOCK", "is_hole", "split_holes", "zeros"]

# Blocks of most file systems: shorter holes save nothing.
BLOCK = 4096
_SHARED = bytes(2**20)


def zeros(n_bytes: int) -> list[bytes | bytearray | memoryview]:
    """So many zero bytes, in parts that share their memory."""
    view = memoryview(_SHARED)
    return [view[: min(len(view), n_bytes - at)] for at in range(0, n_bytes, len(view))]


def is_hole(part: bytes | bytearray | memoryview) -> bool:
    """Whether a part comes from :func:`zeros`, and is long enough to be left out of a file."""
    return len(part) >= BLOCK and isinstance(part, memoryview) and part.obj is _SHARED


def split_holes(data: bytes | bytearray | memoryview) -> Iterator[bytes | bytearray | memoryview]:
    """The same bytes, where whole blocks of them (counted from the first byte) are zeros as such parts."""
    n = len(data) // BLOCK
    if not n:
        yield data
        return
    view = memoryview(data)
    blocks = np.frombuffer(view[: n * BLOCK], np.uint8).reshape(n, BLOCK)
    is_empty = np.asarray(~np.any(blocks, axis=1), bool)
    turns = [0, *(np.flatnonzero(is_empty[1:] != is_empty[:-1]) + 1).tolist(), n]
    for first, last in pairwise(turns):
        if is_empty[first]:
            yield from zeros((last - first) * BLOCK)
        else:
            yield view[first * BLOCK : last * BLOCK]
    if n * BLOCK < len(view):
        yield view[n * BLOCK :]
