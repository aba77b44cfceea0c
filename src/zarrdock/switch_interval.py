"""Turns with the interpreter's lock: shorter ones while something is read or written.

A thread that waits for the lock asks for it after the interpreter's *switch interval*, 5 ms unless changed. Beside a
thread that computes in Python, a read waits that long for each of its system calls. So while a read or write runs the
interval is ``config.switch_seconds``, for the whole process; after the last of them it is again what it was.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from zarrdock.after_fork import reset_after_fork
from zarrdock.config import config

__all__ = ["short_turns"]


class _ShortTurns:
    """Context of a read or write, in any thread, nested or not."""

    def __init__(self) -> None:
        self._n = 0
        self._before = self._set = 0.0
        self._lock = threading.Lock()

    def reset(self) -> None:
        """In a forked child: the threads that would have restored the interval are not there."""
        self._lock = threading.Lock()
        if self._n:
            self._n = 0
            self._restore()

    def __enter__(self) -> None:
        with self._lock:
            if self._n == 0 and 0 < config.switch_seconds < (before := sys.getswitchinterval()):
                sys.setswitchinterval(config.switch_seconds)
                self._before, self._set = before, sys.getswitchinterval()
            self._n += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._n:  # 0: begun before a fork
                self._n -= 1
                if self._n == 0:
                    self._restore()

    def _restore(self) -> None:
        # Where other code has set another one meanwhile, that is what is wanted now.
        if self._before and sys.getswitchinterval() == self._set:
            sys.setswitchinterval(self._before)
        self._before = 0.0


short_turns = _ShortTurns()
reset_after_fork(short_turns.reset)
