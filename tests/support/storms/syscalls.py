"""System calls that fail, or kill the process, at a chosen moment."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["CALLS", "Trap", "forked", "trapped"]

_WRITES: Final = ("write", "writev", "pwrite", "pwritev")
# What changes a file system. "open" is also what only looks: it may be denied as well.
CALLS: Final = (
    *_WRITES,
    "open",
    "mkdir",
    "rename",
    "link",
    "unlink",
    "rmdir",
    "ftruncate",
    "fsync",
    "fdatasync",
    "fchmod",
)


class Trap:
    """Counts calls, and springs at one of them.

    Attributes:
        sprung: the name of the call it sprang at, "" before.
    """

    def __init__(self, at: int, action: Callable[[str], None]) -> None:
        self.sprung = ""
        self._at = at
        self._action = action
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """``real``, with the trap before it. A write that it springs at has written half of its first buffer."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                mine = next(self._numbers) == self._at
                if mine:
                    self.sprung = name
            if mine:
                if name in _WRITES:
                    _half(name, real, args)
                self._action(name)
            return real(*args, **kwargs)

        return call


def _half(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    fd, data, *rest = args
    first = memoryview(data[0] if name.endswith("v") else data).cast("B")
    half = first[: len(first) // 2]
    real(fd, [half] if name.endswith("v") else half, *rest)


@contextlib.contextmanager
def trapped(trap: Trap) -> Iterator[Trap]:
    """The functions of ``os`` with a trap in them."""
    real = {name: getattr(os, name) for name in CALLS if hasattr(os, name)}
    for name, function in real.items():
        setattr(os, name, trap.around(name, function))
    try:
        yield trap
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def forked(work: Callable[[], object]) -> int:
    """The id of a forked child that does ``work`` and ends, with 0, or 1 where it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those are what is to be survived
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)
