"""Jobs side by side in threads, bounded in number and in weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from zarrdock.stores.base import Store

__all__ = ["Workers", "in_parallel"]

T = TypeVar("T")


class Workers(Protocol):
    """Processes, here or on other machines, that do jobs in place of threads of this one."""

    def check(self, *stores: Store) -> None:
        """Make sure that the workers can do anything for us, and reach these stores.

        Raises:
            UnsupportedError: they can't.
        """

    def run(self, jobs: Iterable[tuple[int, Callable[[], T]]], *, budget: int) -> Iterator[T]:
        """Do jobs like :func:`in_parallel`; each worker has the budget for itself. A job may be done more than once."""


def in_parallel(
    jobs: Iterable[tuple[int, Callable[[], T]]], *, n: int, budget: int, workers: Workers | None = None
) -> Iterator[T]:
    """Do jobs in ``n`` threads, each with a weight, of which about ``budget`` may be under way; results as they come.

    The first error is raised when the jobs under way have ended; what was not begun is dropped.

    Args:
        workers: who does them instead of threads; then ``n`` is theirs to choose.
    """
    if workers is not None:
        yield from workers.run(jobs, budget=budget)
        return
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
