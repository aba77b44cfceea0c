"""Memory that reads of files use again: fresh memory costs more than the copy out of the page cache, since the system
hands it out page by page, each at a fault.

A buffer is free again when nobody refers to it: whoever keeps a view of one keeps the buffer.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["Buffers", "Slab", "buffers"]

# Less is used again by the allocator itself; more is read rarely.
_LEAST, _MOST = 64 * 2**10, 2 * 2**20
_HELD_NBYTES = 8 * 2**20
# Reads of one batch that are smaller than the first share buffers of the second size: else the allocator would give the
# memory of hundreds of them back to the system.
_SMALL_NBYTES, _SLAB_NBYTES = 256 * 2**10, 512 * 2**10
# Small reads of a batch that the allocator serves: a few are not worth a buffer.
_ALONE = 3


class Buffers:
    """Buffers of sizes that are powers of two, used in turns by all threads.

    Args:
        most: bytes held in all, in use or not.
    """

    def __init__(self, most: int = _HELD_NBYTES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[int, list[bytearray]] = {}
        # Without the global lock a count of references is no proof.
        self._works = "t" not in getattr(sys, "abiflags", "")
        self._idle = self._count([bytearray(1)], 0)

    @staticmethod
    def _count(buffers: list[bytearray], i: int) -> int:
        return sys.getrefcount(buffers[i])

    def take(self, n_bytes: int) -> memoryview | None:
        """``n_bytes`` of memory with anything in it; None where there is none to be had."""
        if not _LEAST <= n_bytes <= _MOST or not self._works:
            return None
        size = 1 << (n_bytes - 1).bit_length()
        with self._lock:
            held = self._held.setdefault(size, [])
            for i in range(len(held)):
                if self._count(held, i) == self._idle:
                    return memoryview(held[i])[:n_bytes]
            missing = sum(each * len(some) for each, some in self._held.items()) + size - self._most
            if missing > 0 and not self._let_go(missing, size):
                return None
            held.append(bytearray(size))
            return memoryview(held[-1])[:n_bytes]

    def _let_go(self, n_bytes: int, wanted: int) -> bool:
        """Give up idle buffers of other sizes than the one wanted, the largest first, until that much is free; none
        where all of them are not enough.
        """
        idle = [
            (size, i)
            for size in sorted(self._held.keys() - {wanted}, reverse=True)
            for i in reversed(range(len(self._held[size])))
            if self._count(self._held[size], i) == self._idle
        ]
        if sum(size for size, _ in idle) < n_bytes:
            return False
        for size, i in idle:
            if n_bytes > 0:
                del self._held[size][i]
                n_bytes -= size
        return True


class Slab:
    """Memory for the reads of one batch, small ones side by side. For one thread."""

    def __init__(self, held: Buffers | None = None) -> None:
        self._held = buffers if held is None else held
        self._rest: memoryview | None = None
        self._n_alone = _ALONE

    def take(self, n_bytes: int) -> memoryview | None:
        """As :meth:`Buffers.take`."""
        if n_bytes >= _SMALL_NBYTES or not n_bytes:
            return self._held.take(n_bytes)
        if self._n_alone:
            self._n_alone -= 1
            return None
        rest = self._rest
        if rest is None or len(rest) < n_bytes:
            rest = self._held.take(_SLAB_NBYTES)
            if rest is None:
                return None
        self._rest = rest[n_bytes:]
        return rest[:n_bytes]


buffers = Buffers()


def _after_fork_in_child() -> None:
    global buffers
    buffers = Buffers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
