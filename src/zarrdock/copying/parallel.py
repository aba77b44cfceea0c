"""Jobs side by side in threads, bounded in number and in weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["in_parallel"]

T = TypeVar("T")


def in_parallel(jobs: Iterable[tuple[int, Callable[[], T]]], *, n: int, budget: int) -> Iterator[T]:
    """Do jobs in ``n`` threads, each with a weight, of which about ``budget`` may be under way; results as they come.

    The first error is raised when the jobs under way have ended; what was not begun is dropped.
    """
    running: dict[Future[T], int] = {}
    with ThreadPoolExecutor(n, "zarrdock-jobs") as pool:
        try:
            for weight, job in jobs:
                while running and (len(running) >= n or sum(running.values()) + weight > budget):
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[future]
                        yield future.result()
                running[pool.submit(job)] = weight
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    yield future.result()
        finally:
            for future in running:
                future.cancel()
