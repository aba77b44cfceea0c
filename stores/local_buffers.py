"""Memory that reads of files use again: fresh memory costs more than the copy out of the page cache, since the system
hands it out page by page, each at a fault.

A buffer is free again when nobody refers to it: whoever keeps a view of one keeps the buffer.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["Buffers", "buffers"]

# Less is used again by the allocator itself; more is read rarely.
_LEAST, _MOST = 64 * 2**10, 2 * 2**20
_HELD_NBYTES = 8 * 2**20


class Buffers:
    """Buffers of sizes that are powers of two, used in turns by all threads.

    Args:
        most: bytes held in all, in use or not.
    """

    def __init__(self, most: int = _HELD_NBYTES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[int, list[bytearray]] = {}
        self._n_bytes = 0
        # Without the global lock a count of references is no proof.
        self._works = getattr(sys, "_is_gil_enabled", lambda: True)()
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
            if self._n_bytes + size > self._most:
                return None
            self._n_bytes += size
            held.append(bytearray(size))
            return memoryview(held[-1])[:n_bytes]


buffers = Buffers()


def _after_fork_in_child() -> None:
    global buffers
    buffers = Buffers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
