"""Locks by key, for the threads of one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["KeyLocks"]


class KeyLocks:
    """One lock a key, made when it is first wanted and gone when nobody wants it any more.

    ``with locks(key): ...`` excludes the other threads that ask for the same key, and nobody else. Not reentrant. A
    forked child starts with no lock held: the threads that held them exist in the parent only. A copy made by
    ``pickle`` is a new, independent set.
    """

    __slots__ = ("_guard", "_locks", "_pid")

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, list[int]]] = {}

    def __reduce__(self) -> tuple[type[KeyLocks], tuple[()]]:
        return KeyLocks, ()

    @contextmanager
    def __call__(self, key: str) -> Iterator[None]:
        if self._pid != os.getpid():
            self._reset()
        locks, guard = self._locks, self._guard
        with guard:
            lock, n_users = locks.setdefault(key, (threading.Lock(), [0]))
            n_users[0] += 1
        try:
            with lock:
                yield
        finally:
            with guard:
                n_users[0] -= 1
                if not n_users[0]:
                    del locks[key]
