"""System calls for writing archives, made whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Part", "pwritev_all", "unlink", "write_all"]

Part: TypeAlias = "bytes | bytearray | memoryview"

_MAX_PARTS: int = getattr(os, "IOV_MAX", 0) or 16


def pwritev_all(fd: int, parts: Sequence[Part], position: int) -> None:
    """Write buffers one after another from ``position`` on."""
    for first in range(0, len(parts), _MAX_PARTS):
        batch = [part for part in parts[first : first + _MAX_PARTS] if len(part)]
        n = os.pwritev(fd, batch, position) if batch else 0
        position += n
        for part in batch:
            skipped = min(n, len(part))
            n -= skipped
            view = memoryview(part)[skipped:]
            while view:
                written = os.pwrite(fd, view, position)
                position += written
                view = view[written:]


def write_all(fd: int, data: Part) -> int:
    """Write at the file's position; returns the number of bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def unlink(path: str) -> None:
    """Remove a file that need not exist."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
