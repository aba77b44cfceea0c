"""A dask cluster as workers of :func:`zarrdock.copy`: the way past one machine.

>>> zarrdock.copy("s3://a/x.zarr", "s3://b/x.zarr", workers=DaskWorkers("tcp://scheduler:8786"))  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import zarrdock
from zarrdock.errors import StoreError, UnsupportedError, ZarrdockError
from zarrdock.stores.base import Store
from zarrdock.stores.mapping import MappingStore
from zarrdock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskWorkers", "check_reach"]

T = TypeVar("T")

# What jobs have in common travels with each of them up to here (bytes); what is larger is sent to every worker once.
_MAX_PAYLOAD = 64 * 1024

# Jobs of a worker beyond one a thread: there is always a next one, while its answer is on the way.
_AHEAD = 1

# So long it is taken for granted how many workers there are.
_KNOWN_SECONDS = 1.0


class DaskWorkers:
    """The workers of a dask cluster. A worker that is lost has its jobs done by others.

    Stores are opened anew where they are used: a local path here has to be the same folder there.

    Args:
        cluster: address of a scheduler, or a ``distributed.Client``.
    Raises:
        UnsupportedError: dask's ``distributed`` is missing, or nothing answers at this address.

    >>> from zarrdock.adapters import DaskWorkers
    >>> zarrdock.copy("s3://a/x.zarr", "s3://b/x.zarr", workers=DaskWorkers("tcp://scheduler:8786"))  # doctest: +SKIP
    """

    def __init__(self, cluster: str | Client) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UnsupportedError(f'dask\'s cluster is needed: pip install "zarrdock[dask]" ({error})') from error
        self._is_ours = isinstance(cluster, str)
        self._threads: dict[str, int] = {}
        self._known_until = 0.0
        try:
            self._client: Any = Client(cluster, set_as_default=False) if isinstance(cluster, str) else cluster  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise UnsupportedError(f"there is no dask scheduler at {cluster}: {error}") from error

    def __enter__(self) -> DaskWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, where it was made here."""
        if self._is_ours:
            self._client.close()

    def check(self, *stores: Store) -> None:
        """Make sure that the workers know zarrdock, this release of it, and that the stores are not in this process.

        Raises:
            UnsupportedError: they don't, or there are none.
        """
        for store in stores:
            check_reach(store)
        try:
            found: dict[str, str] = self._client.run(_release)
        except Exception as error:
            raise UnsupportedError(f"dask's workers cannot run zarrdock: {error}") from error
        if not found:
            raise UnsupportedError(f"the dask cluster has no workers: {self._client}")
        for worker, release in found.items():
            if release != zarrdock.__version__:
                raise UnsupportedError(f"dask's worker {worker} has zarrdock {release}, not {zarrdock.__version__}")

    def run(self, jobs: Iterable[tuple[int, Callable[[], T]]], *, budget: int) -> Iterator[T]:
        """Do jobs, each with a weight in bytes; results as they come.

        The first error is raised when the jobs under way have ended; what was not begun is dropped.

        Args:
            budget: weight that may be under way, for each worker of the cluster.
        """
        from distributed import as_completed

        running: dict[Any, int] = {}
        send = _Sender(self._client)
        done: Any = as_completed([], loop=self._client.loop)  # type: ignore[no-untyped-call]
        try:
            for weight, job in jobs:
                n, most = self._capacity(budget)
                while running and (len(running) >= n or sum(running.values()) + weight > most):
                    yield from self._finished(running, done)
                future = self._told(send, job)
                running[future] = weight
                done.add(future)
            while running:
                yield from self._finished(running, done)
        except Exception:
            self._wait_for_all([*running])
            raise
        finally:
            if self._client.status == "running":
                self._client.cancel([*running])

    def _capacity(self, budget: int) -> tuple[int, int]:
        """Number and total weight of the jobs that may be under way: clusters grow and shrink."""
        now = time.monotonic()
        if now >= self._known_until:
            # A round trip, too much for each of a million jobs.
            self._threads = self._told(self._client.nthreads)
            self._known_until = now + _KNOWN_SECONDS
        threads = self._threads
        return max(1, sum(threads.values()) + _AHEAD * len(threads)), budget * max(1, len(threads))

    def _finished(self, running: dict[Any, int], done: Any) -> Iterator[Any]:
        for future in done.next_batch(block=True):
            del running[future]
            yield self._told(future.result)

    def _told(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Result of a call; the loss of the cluster is a ``StoreError``.

        Raises:
            StoreError: the scheduler is gone, or a job took several workers down with it.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            return call(*arguments)
        except KilledWorker as error:
            raise StoreError(
                f"a job was on {error.allowed_failures + 1} workers that died, one after the other, likely for want "
                "of memory: give them more, or less to do at once (memory_bytes=...), and run again with resume=True"
            ) from error
        except (FutureCancelledError, CancelledError, CommClosedError, OSError, RuntimeError, TimeoutError) as error:
            if isinstance(error, ZarrdockError) or self._client.status == "running":
                raise
            raise StoreError(
                f"the dask cluster is gone ({error or type(error).__name__}): run again with resume=True"
            ) from error

    def _wait_for_all(self, futures: list[Any]) -> None:
        from distributed import wait

        if futures and self._client.status == "running":
            with self._client.as_current():
                wait(futures)  # type: ignore[no-untyped-call]


class _Sender:
    """Submits jobs. What they have in common is pickled once."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._function: Any = None
        self._payload: Any = None

    def __call__(self, job: Callable[[], Any]) -> Any:
        function, arguments = (job.func, job.args) if isinstance(job, functools.partial) else (job, ())
        if function != self._function:
            from distributed.protocol import pickle

            payload: Any = pickle.dumps(function)  # type: ignore[no-untyped-call]  # knows functions within functions, too
            if len(payload) > _MAX_PAYLOAD:
                payload = self._client.scatter(payload, broadcast=True)
            self._function, self._payload = function, payload
        return self._client.submit(_do, self._payload, arguments, pure=False)


def _do(payload: bytes, arguments: tuple[Any, ...]) -> Any:
    return _loaded(payload)(*arguments)


@functools.lru_cache(maxsize=4)
def _loaded(payload: bytes) -> Callable[..., Any]:
    """The function of a worker's jobs: loaded once, so that its stores keep their connections and indexes."""
    from distributed.protocol import pickle

    function: Callable[..., Any] = pickle.loads(payload)  # type: ignore[no-untyped-call]
    return function


def _release() -> str:
    return zarrdock.__version__


def check_reach(store: Store) -> None:
    """Refuse stores in this process's memory: other processes would read and write copies of it.

    Raises:
        UnsupportedError: it is one.
    """
    inside: Any = store
    while isinstance(getattr(inside, "store", None), Store):
        inside = inside.store
    if isinstance(inside, (MemoryStore, MappingStore)):
        raise UnsupportedError(
            f"{inside} is in this process's memory, and dask's workers are elsewhere: use another store"
        )
