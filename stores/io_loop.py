"""Bridge from any thread and any event loop to fsspec's IO loop, and back.

fsspec runs all its asynchronous filesystems on one loop in one thread. A :class:`Bridge` sends a job (a coroutine
function) there and waits for it, blocking or awaiting. It is the one place that knows about processes and loops: after
a fork, or when a loop was closed, it makes the filesystem anew. Synchronous filesystems run the very same coroutines in
the calling thread, where they never suspend.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from fsspec.spec import AbstractFileSystem

from zarrdock.after_fork import reset_after_fork
from zarrdock.errors import StoreError
from zarrdock.switch_interval import short_turns

__all__ = [
    "Bridge",
    "Limiter",
    "Live",
    "Transport",
    "drive",
    "expect_bytes",
    "is_async",
    "remake",
    "running_loop",
    "send_once",
]

T = TypeVar("T")
R = TypeVar("R")

_MAX_THREADS = 8  # for one batch on a synchronous remote filesystem

_lock = threading.Lock()
# A session inherited through fork shares its sockets and its epoll descriptor with the parent: closing either here
# would disturb the parent. What was inherited is therefore kept, untouched, until the process ends.
_inherited: list[object] = []


# Turns at filesystems that do one request at a time, for all stores over one of them.
_turns: weakref.WeakKeyDictionary[Any, threading.BoundedSemaphore] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held the old one
    _turns.clear()


reset_after_fork(_after_fork)


class Transport:
    """A client that stands where the bridge expects a filesystem, with methods of its own.

    Asynchronous ones have coroutines, named with a leading underscore, which run on fsspec's IO loop. A client answers
    for itself what happens to it in a forked child.
    """

    async_impl: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """fsspec's IO loop, which runs in a thread of its own."""
        from fsspec.asyn import get_loop

        loop: asyncio.AbstractEventLoop = get_loop()
        return loop


def is_async(fs: AbstractFileSystem | Transport) -> bool:
    """True where ``fs`` has coroutine methods that run on an IO loop."""
    if isinstance(fs, Transport):
        return fs.async_impl
    # Asked of the class: after a fork, looking at the instance's loop raises.
    return bool(getattr(fs, "async_impl", False)) and hasattr(fs, "_cat_file") and hasattr(type(fs), "loop")


def remake(fs: Any, *, uncached: bool = False) -> Any:
    """A filesystem like ``fs``, blocking, on this process' own IO loop; those among its options are made anew too."""
    if isinstance(fs, Transport):
        return fs
    if type(fs).__reduce__ is not AbstractFileSystem.__reduce__ and not is_async(fs):
        return fs  # it has a state of its own, such as an independent in-memory filesystem

    def anew(value: Any) -> Any:
        return remake(value, uncached=uncached) if isinstance(value, AbstractFileSystem) else value

    options = {k: anew(v) for k, v in fs.storage_options.items() if k not in ("asynchronous", "loop")}
    if uncached:
        options["skip_instance_cache"] = True
    return type(fs)(*(anew(v) for v in fs.storage_args if v is not fs), **options)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine of a synchronous filesystem was suspended")


def _drive_one(one: Callable[[T], Coroutine[Any, Any, R]], item: T) -> R:
    return drive(one(item))


class Limiter:
    """Limit of the requests and bytes in flight at once; for one event loop, so it needs no lock.

    The number of requests adapts: it halves when the service says "slow down" and grows by one for each round of
    successes, up to ``n_max``.
    """

    def __init__(self, n_max: int, max_bytes: int) -> None:
        self.n_max = n_max
        self.max_bytes = max_bytes
        self.limit = float(n_max)
        self.n_in_flight = 0
        self.bytes_in_flight = 0
        self._waiting: collections.deque[tuple[asyncio.Future[None], int]] = collections.deque()
        self._halved_at = float("-inf")

    def _fits(self, nbytes: int) -> bool:
        # A request larger than the whole budget goes alone instead of never.
        return self.n_in_flight < max(1, int(self.limit)) and (
            self.bytes_in_flight + nbytes <= self.max_bytes or self.n_in_flight == 0
        )

    def _take(self, nbytes: int) -> None:
        self.n_in_flight += 1
        self.bytes_in_flight += nbytes

    async def acquire(self, nbytes: int = 0) -> None:
        """Wait, first come first served, until a request of ``nbytes`` may go."""
        if not self._waiting and self._fits(nbytes):
            self._take(nbytes)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, nbytes))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the slot in the same moment
                self.release(nbytes)
            raise

    def release(self, nbytes: int = 0) -> None:
        """Give the slot back and let the next ones go."""
        self.n_in_flight -= 1
        self.bytes_in_flight -= nbytes
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn, nbytes = self._waiting[0]
            if not turn.done():
                if not self._fits(nbytes):
                    return
                self._take(nbytes)
                turn.set_result(None)
            self._waiting.popleft()

    def slow_down(self, began: float) -> None:
        """The service asked for less, in answer to a request sent at ``began`` (``time.monotonic()``)."""
        if began > self._halved_at:  # the answers to requests sent before the last halving say nothing new
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = time.monotonic()

    def succeeded(self) -> None:
        """A request was answered well."""
        if self.limit < self.n_max:
            self.limit = min(float(self.n_max), self.limit + 1 / self.limit)
            self._wake()


# A connection slower than this counts as broken.
SLOWEST_BYTES_PER_SECOND = 2**20
_timer: ContextVar[asyncio.Timeout | None] = ContextVar("_timer", default=None)


def expect_bytes(nbytes: int) -> None:
    """Called by a request that learns how much is coming: its time limit grows by what a slow connection needs."""
    timer = _timer.get()
    if timer is not None and (when := timer.when()) is not None:
        timer.reschedule(when + nbytes / SLOWEST_BYTES_PER_SECOND)


def forget_session(session: Any) -> None:
    """Let go of a session of aiohttp that was inherited by ``fork``: its sockets are the parent's."""
    connector = session.connector
    session.detach()
    connector._closed = True


async def send_once(request: Any, handler: Any) -> Any:
    """A middleware of aiohttp: a connection that broke is an error, not a reason to send the request again."""
    import aiohttp

    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:  # nothing was sent; never repeated
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionResetError(str(error)) from error


class Live:
    """A filesystem that can be used in this process now, with the limits that all its users share."""

    def __init__(self, fs: AbstractFileSystem | Transport, *, remote: bool, n_concurrent: int, max_bytes: int) -> None:
        self.pid = os.getpid()
        self.fs: Any = fs
        self.remote = remote
        self.n_concurrent = n_concurrent
        self.loop: asyncio.AbstractEventLoop | None = fs.loop if is_async(fs) else None
        self.limiter = Limiter(n_concurrent, max_bytes)
        self._threads = threading.BoundedSemaphore(n_concurrent)
        if n_concurrent == 1 and remote and self.loop is None:
            self._threads = _turns.setdefault(fs, self._threads)

    @property
    def usable(self) -> bool:
        return self.pid == os.getpid() and (self.loop is None or not self.loop.is_closed())

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the filesystem by its public name, in whichever form it has."""
        if self.loop is None:
            return getattr(self.fs, method)(*args, **kwargs)
        return await getattr(self.fs, "_" + method)(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        if self.loop is None:
            time.sleep(seconds)  # noqa: ASYNC251 - driven in the caller's own thread
        else:
            await asyncio.sleep(seconds)

    async def attempt(
        self,
        request: Callable[[], Awaitable[T]],
        seconds: float,
        nbytes: int,
        is_slow_down: Callable[[Exception], bool],
    ) -> T:
        """Send one request inside the limits, for at most ``seconds`` where it can be cut short.

        A request of ``nbytes`` is given the time a slow connection needs for them on top; see :func:`expect_bytes`.

        Raises:
            TimeoutError: it took longer. Otherwise what the request raises.
        """
        if self.loop is None:
            if not self.remote:  # nothing to spare, and a semaphore lets a busy thread starve the others
                return await request()
            with self._threads:
                return await request()
        await self.limiter.acquire(nbytes)
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds + nbytes / SLOWEST_BYTES_PER_SECOND) as timer:
                _timer.set(timer)
                result = await request()
            self.limiter.succeeded()
            return result
        except Exception as error:
            if is_slow_down(error):
                self.limiter.slow_down(began)
            raise
        finally:
            self.limiter.release(nbytes)

    async def gather(self, one: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T]) -> list[R]:
        """``one(item)`` for all items, together; the first error stops the rest and is raised."""
        if not items:
            return []
        if len(items) == 1:
            return [await one(items[0])]
        n_workers = min(len(items), self.n_concurrent)
        if self.loop is None:
            n_workers = min(n_workers, _MAX_THREADS)
            if not self.remote or n_workers < 2:
                return [await one(item) for item in items]
            with concurrent.futures.ThreadPoolExecutor(n_workers, "zarrdock-read") as pool:
                futures = [pool.submit(_drive_one, one, item) for item in items]
                try:
                    return [future.result() for future in futures]
                finally:
                    for future in futures:
                        future.cancel()
        results: list[Any] = [None] * len(items)
        todo = iter(enumerate(items))

        async def work() -> None:
            # Workers that share one iterator: as many tasks as requests in flight, not as requests.
            for i, item in todo:
                results[i] = await one(item)

        tasks = [self.loop.create_task(work()) for _ in range(n_workers)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return results


Job = Callable[[Live], Coroutine[Any, Any, T]]


class Bridge:
    """Runs jobs against one filesystem from anywhere. Pickles as the filesystem does: by class and options.

    Args:
        fs: any fsspec filesystem, or a :class:`Transport`. A filesystem made with ``asynchronous=True`` belongs to one
            loop of its user's, so it is made anew from its options.
        remote: its requests cost a round trip.
        n_concurrent: requests in flight at most, over all callers.
        max_bytes: bytes asked for and not yet arrived at most.
    """

    def __init__(
        self, fs: AbstractFileSystem | Transport, *, remote: bool, n_concurrent: int, max_bytes: int = 256 * 2**20
    ) -> None:
        self._fs: Any = fs
        self._settings: dict[str, Any] = {"remote": remote, "n_concurrent": n_concurrent, "max_bytes": max_bytes}
        self._live: Live | None = None
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"fs": self._fs, "settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._fs = state["fs"]
        self._settings = state["settings"]
        self._live = None
        self._pid = os.getpid()

    @property
    def fs(self) -> Any:
        """The filesystem as it was given or last made: for its options, not to be used."""
        return self._fs

    @property
    def is_async(self) -> bool:
        return is_async(self._fs)

    def live(self) -> Live:
        """The filesystem, made anew where this process or its loop is not the one it was made for."""
        live = self._live
        return live if live is not None and live.usable else self._renew()

    def _renew(self) -> Live:
        with _lock:
            live, fs = self._live, self._fs
            if live is not None and live.usable:
                return live
            forked = self._pid != os.getpid()
            if forked:
                _inherited.append((live, fs))
            if is_async(fs):
                dead = not forked and not fs.asynchronous and fs.loop.is_closed()
                if forked or dead or fs.asynchronous:
                    fs = remake(fs, uncached=dead)
            elif forked:
                fs = remake(fs)  # an open file's offset is shared with the parent
            self._fs, self._pid = fs, os.getpid()
            self._live = Live(fs, **self._settings)
            return self._live

    def submit(self, job: Job[T]) -> concurrent.futures.Future[T]:
        """Start a job on the IO loop; for asynchronous filesystems only."""
        live = self.live()
        if live.loop is None:
            raise RuntimeError("a synchronous filesystem has no IO loop")
        return asyncio.run_coroutine_threadsafe(job(live), live.loop)

    def run(self, job: Job[T]) -> T:
        """Run a job and wait for it; from any thread, also from one in which another event loop is running.

        Raises:
            StoreError: called on the IO loop itself, which would wait for itself for ever.
        """
        live = self.live()
        if live.loop is None:
            return drive(job(live))
        if running_loop() is live.loop:
            raise StoreError("blocking call on fsspec's own IO loop; await the async facade instead")
        with short_turns:
            future = asyncio.run_coroutine_threadsafe(job(live), live.loop)
            try:
                return future.result()
            except BaseException:
                future.cancel()  # KeyboardInterrupt: no caller waits for the answers any more
                raise

    def run_to_end(self, job: Job[T], seconds: float) -> T:
        """:meth:`run` for a job that changes something: an interrupt is raised when the job has ended, so that it is
        known what it did; or after ``seconds``, or with the next interrupt, and then the job is given up.
        """
        live = self.live()
        if live.loop is None or running_loop() is live.loop:
            return self.run(job)
        future = asyncio.run_coroutine_threadsafe(job(live), live.loop)
        try:
            concurrent.futures.wait([future])
        except BaseException:
            try:
                concurrent.futures.wait([future], seconds)
            finally:
                future.cancel()
            raise
        return future.result()

    async def arun(self, job: Job[T]) -> T:
        """Run a job and await it; from any event loop."""
        if self.live().loop is None:
            return await asyncio.to_thread(self.run, job)
        with short_turns:
            return await asyncio.wrap_future(self.submit(job))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
