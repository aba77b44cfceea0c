"""Threads for decoding and encoding.

Work is a queue of jobs that the calling thread empties together with helpers from one shared pool. The caller never
only waits: it makes progress even if no helper is free, so work may be nested without deadlock, and one core needs no
pool at all.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from zarrdock.after_fork import reset_after_fork
from zarrdock.config import config

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Job", "Jobs", "run"]

Job: TypeAlias = Callable[[], None]

_pool: ThreadPoolExecutor | None = None
_pool_of: tuple[int, int] = (0, 0)
_pool_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _pool_lock
    _pool_lock = threading.Lock()


reset_after_fork(_after_fork_in_child)


def _helpers() -> ThreadPoolExecutor | None:
    """The shared pool, made when first needed, again in a forked child, and again if the number of threads was
    changed.
    """
    global _pool, _pool_of
    n = config.n_threads - 1
    wanted = (os.getpid(), n)
    if _pool_of != wanted:
        with _pool_lock:
            if _pool_of != wanted:
                if _pool is not None and _pool_of[0] == wanted[0]:
                    _pool.shutdown(wait=False)
                from concurrent.futures import ThreadPoolExecutor  # not before a thread is needed

                _pool = ThreadPoolExecutor(n, "zarrdock") if n > 0 else None
                _pool_of = wanted
    return _pool


class Jobs:
    """A queue of jobs, worked on by helpers from the moment they are added.

    ``weight`` is the memory a job holds until it is done. :meth:`add` itself works on the queue while more than
    ``max_weight`` is outstanding, which bounds the memory of a caller that adds jobs faster than they are done.
    """

    def __init__(self, max_weight: int) -> None:
        self._queue: deque[tuple[Job, int]] = deque()
        self._max_weight = max_weight
        self._outstanding = 0
        self._running = 0
        self._helping = 0
        self._error: BaseException | None = None
        self._abandoned = False
        self._done = threading.Condition()

    def add(self, job: Job, weight: int = 0) -> None:
        """Queue a job; raises what an earlier one raised. Once abandoned, the queue takes no more."""
        with self._done:
            if self._abandoned:
                return
            self._outstanding += weight
            self._queue.append((job, weight))
        self._call_helper()
        while self._outstanding > self._max_weight:
            if not self._work_once():
                with self._done:
                    if self._running and self._outstanding > self._max_weight:
                        self._done.wait(1.0)
                    elif not self._queue:
                        break
        self._raise()

    def finish(self) -> None:
        """Work until every job is done; raises the first error of any."""
        while self._work_once():
            pass
        with self._done:
            while self._running or self._queue:
                self._done.wait(1.0)
        self._raise()

    def abandon(self) -> None:
        """Drop what was not begun, and wait for what was."""
        with self._done:
            self._abandoned = True
            self._queue.clear()
            while self._running:
                self._done.wait(1.0)

    def _raise(self) -> None:
        if self._error is not None:
            self.abandon()
            raise self._error

    def _call_helper(self) -> None:
        pool = _helpers()
        if pool is not None and self._helping < config.n_threads - 1:
            with self._done:
                self._helping += 1
            try:
                pool.submit(self._help)
            except RuntimeError:
                # The interpreter is shutting down, or another thread changed the pool: the caller does it alone.
                with self._done:
                    self._helping -= 1

    def _help(self) -> None:
        while self._work_once():
            pass
        with self._done:
            self._helping -= 1
        # A job may have been added between the last look and the line above.
        if self._queue:
            self._call_helper()

    def _work_once(self) -> bool:
        with self._done:
            if not self._queue:
                return False
            job, weight = self._queue.popleft()
            self._running += 1
        try:
            if self._error is None:
                job()
        except BaseException as error:
            if self._error is None:
                self._error = error
        finally:
            del job
            with self._done:
                self._running -= 1
                self._outstanding -= weight
                self._done.notify_all()
        return True


def run(jobs: Iterable[Job]) -> None:
    """Do all jobs, with helpers; raises the first error."""
    waiting = iter(jobs)
    first = next(waiting, None)
    second = next(waiting, None)
    if first is None:
        return
    if second is None:  # no helper to share it with
        first()
        return
    queue = Jobs(2**62)
    for job in chain((first, second), waiting):
        queue.add(job)
    queue.finish()
