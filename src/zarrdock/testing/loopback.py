"""An aiohttp application on a thread of its own, on the loopback interface: what the fake services and the fault
proxy are built from.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["LoopbackServer"]


class LoopbackServer:
    """Base of a server that lives in this process. Use it as a context manager; ``url`` is known once it runs.

    A subclass answers in ``handle``. It runs on one event loop in one thread, so whatever it does between two awaits
    is atomic.
    """

    def __init__(self) -> None:
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raise AssertionError("a LoopbackServer answers in handle()")

    @staticmethod
    async def body(request: web.BaseRequest) -> bytes:
        """The request's body, whatever its size. Clients of S3 wait for a "100 Continue" before they send a large
        one.
        """
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[attr-defined]
        return await request.content.read(-1)

    async def on_start(self) -> None:
        """Called on the server's loop before it listens."""

    async def on_stop(self) -> None:
        """Called on the server's loop after it has stopped listening."""

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True, name=type(self).__name__)
        self._thread.start()
        ready.wait(timeout=30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self.on_start()
        # A plain handler rather than routes: fakes want the undecoded path.
        runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await self._stop.wait()
        await runner.cleanup()
        await self.on_stop()
