"""Versions of local files that can't be mistaken for one another.

Device, inode, time and size are no version: a file that was replaced frees its inode, and the next file made often gets
it, within the same tick of the clock and with the same size. A file that is open keeps its inode. So a version here
keeps the file open that it stands for: as long as it does, a path with the same inode, size and time is that same file.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import TypeAlias

from zarrdock.lru import BoundedLRU

__all__ = ["Handle", "Identity", "LocalVersion", "drop_all", "get_limit", "identity_of", "set_limit"]

# Device, inode, size, time of last change in nanoseconds.
Identity: TypeAlias = tuple[int, int, int, int]


def identity_of(status: os.stat_result) -> Identity:
    """Identity of an open file: differs from every other file, and from the same one after a change in place."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Handle:
    """An open descriptor, closed when the last reference goes: every reader holds one."""

    __slots__ = ("fd", "identity", "size")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.identity = identity_of(status)
        self.size = status.st_size

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


class LocalVersion:
    """A version of a file; see the module. Hashable; pickles to a version that equals nothing.

    Only so many files are kept open: the version used longest ago loses its file, and then equals none but itself.
    """

    __slots__ = ("__weakref__", "_handle", "_identity")

    def __init__(self, handle: Handle | None = None) -> None:
        self._handle = handle
        self._identity = handle.identity if handle is not None else None
        if handle is not None and (gone := _pinned.put(id(self), weakref.ref(self))):
            _let_go(gone)

    def handle_for(self, identity: Identity) -> Handle | None:
        """The open file, where a path with this identity still names it."""
        handle = self._handle
        if handle is None or handle.identity != identity:
            return None
        _pinned.get(id(self))  # used now; dropped this very moment, the reference held here keeps the file open
        return handle

    def drop(self) -> None:
        """Let go of the file."""
        self._handle = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, LocalVersion):
            return NotImplemented
        return self._handle is not None and other._handle is not None and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"<version {self._identity}{'' if self._handle is not None else ', dropped'}>"

    def __del__(self) -> None:
        if _pinned is not None:  # at the interpreter's exit the module may be gone first
            _pinned.pop(id(self))

    def __reduce__(self) -> tuple[type[LocalVersion], tuple[()]]:
        return LocalVersion, ()  # another process has no such file open

    def __copy__(self) -> LocalVersion:
        return self

    def __deepcopy__(self, _: object) -> LocalVersion:
        return self


# What lies open costs memory of the kernel.
_MOST = 4096


def _default_limit() -> int:
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        soft = 256
    return _MOST if soft < 0 else max(16, min(_MOST, soft // 2))


# Versions with an open file, by their id. The references are weak: a version nobody has any more closes its file by
# itself.
_pinned: BoundedLRU[int, weakref.ref[LocalVersion]] = BoundedLRU(max_items=_default_limit())


def get_limit() -> int:
    """Number of files this process keeps open for versions."""
    assert _pinned.max_items is not None
    return _pinned.max_items


def set_limit(n_files: int) -> int:
    """Keep at most ``n_files`` files open for versions, in this process; return the limit until now.

    It is half of the process's limit (``ulimit -n``) at the time of the import to begin with, and at most 4096. Stores
    that are there already keep the ``traits.max_versions`` they have.
    """
    before = get_limit()
    _let_go(_pinned.resize(max_items=n_files))
    return before


def drop_all() -> None:
    """Let go of every file kept open for a version."""
    _let_go(_pinned.clear())


def _let_go(pinned: Iterable[tuple[int, weakref.ref[LocalVersion]]]) -> None:
    for _, reference in pinned:
        version = reference()
        if version is not None:
            version.drop()
