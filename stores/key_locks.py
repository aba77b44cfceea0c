"""Locks by key, for the threads of one process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["KeyLocks"]


class KeyLocks:
    """One lock a key, made when it is first wanted and gone when nobody wants it any more.

    ``with locks(key): ...`` excludes the other threads that ask for the same key, and nobody else. Not reentrant. A
    forked child starts with no lock held: the threads that held them exist in the parent only. A copy made by
    ``pickle`` is a new, independent set.
    """

    __slots__ = ("__weakref__", "_guard", "_locks")

    def __init__(self) -> None:
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, list[int]]] = {}

    def __reduce__(self) -> tuple[type[KeyLocks], tuple[()]]:
        return KeyLocks, ()

    @contextmanager
    def __call__(self, key: str) -> Iterator[None]:
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


_all: weakref.WeakSet[KeyLocks] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Here and not at the first use: by then the child may have threads, and each would find a set of its own.
    for locks in _all:
        locks._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
