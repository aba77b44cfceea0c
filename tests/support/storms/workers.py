"""Work done by several processes (or threads) that begin at the same moment.

Each process is a fresh interpreter: what it needs comes by pickle, as with dask or a cluster.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from support.storms.base import Stopwatch

__all__ = ["in_copies", "in_processes", "in_threads"]

T = TypeVar("T")
Work = Callable[..., T]

_READY = b"ready\n"
_GO = b"g"


class _Child:
    def __init__(self, work: Work[Any], arguments: tuple[Any, ...]) -> None:
        # The path of this process, where this module and the work are found.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        payload = pickle.dumps((work, arguments))
        assert self._process.stdin is not None
        self._process.stdin.write(len(payload).to_bytes(8, "little") + payload)
        self._process.stdin.flush()

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != _READY:
            raise RuntimeError(f"a worker ended before it began, with exit code {self._process.wait()}")

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(_GO)
        self._process.stdin.flush()

    def result(self) -> Any:
        out, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"a worker ended with exit code {self._process.returncode}")
        result, error = pickle.loads(out)
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def in_processes(work: Work[T], arguments: Sequence[tuple[Any, ...]]) -> tuple[list[T], float]:
    """``work(*a)`` for each ``a``, each in a process of its own, all let go at once.

    Args:
        work: a function of an importable module.
    Returns:
        The results in order, and the seconds from the word "go" to the last of them.
    Raises:
        What one of them raised; RuntimeError where one died.
    """
    children: list[_Child] = []
    try:
        for given in arguments:
            children.append(_Child(work, given))  # noqa: PERF401 - those begun must be known if one can't be
        for child in children:
            child.wait_ready()
        watch = Stopwatch()
        for child in children:
            child.go()
        return [child.result() for child in children], watch.seconds
    finally:
        for child in children:
            child.kill()


def in_threads(work: Work[T], arguments: Sequence[tuple[Any, ...]]) -> tuple[list[T], float]:
    """The same in threads of this process."""
    barrier = threading.Barrier(len(arguments))

    def one(given: tuple[Any, ...]) -> T:
        barrier.wait()
        return work(*given)

    with ThreadPoolExecutor(len(arguments)) as pool:
        watch = Stopwatch()
        return list(pool.map(one, arguments)), watch.seconds


def in_copies(work: Work[T], arguments: Sequence[tuple[Any, ...]]) -> tuple[list[T], float]:
    """The same in threads that share no store: each has a copy of its own, as a process would. For short storms."""
    return in_threads(work, [pickle.loads(pickle.dumps(given)) for given in arguments])


def _main() -> None:
    out = sys.stdout.buffer
    n = int.from_bytes(sys.stdin.buffer.read(8), "little")
    work, arguments = pickle.loads(sys.stdin.buffer.read(n))
    out.write(_READY)
    out.flush()
    if sys.stdin.buffer.read(1) != _GO:
        raise SystemExit(3)
    # Those woken first must not have the field for themselves.
    time.sleep(0.05)
    result, error = None, None
    try:
        result = work(*arguments)
    except Exception as raised:
        error = raised
    out.write(pickle.dumps((result, error)))
    out.flush()


if __name__ == "__main__":
    _main()
