"""Any store or view over HTTP, read-only: ``with Server(store) as server: print(server.url)``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from urllib.parse import quote, unquote

from zarrdock.errors import (
    AccessError,
    InvalidKeyError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import From, Range, Span, Tail, resolve
from zarrdock.serve.connections import Connections, Limits
from zarrdock.serve.listings import CORS, listing_html, listing_json
from zarrdock.serve.pages import PAGE_HEADERS, error_page, node_page
from zarrdock.stores.base import Blob, Read, Version, attempts
from zarrdock.stores.http_ranges import content_range
from zarrdock.stores.open import open_store

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Limits", "Server"]

T = TypeVar("T")

# What aiohttp says of requests that are none, for those who want to hear it.
_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())

PIECE_BYTES = 4 * 2**20
SIZES_KEPT = 65536
ATTEMPTS = 3


class Server:
    """An HTTP server of a store's keys, on a thread of its own.

    GET and HEAD, ranges (one in a request, also from the end), ETag with conditional requests, CORS for every origin,
    listings of folders (HTML, or JSON where that is asked for), and for browsers a page for each node.
    Nothing but the keys of the store can be reached, and nothing can be changed.

    Args:
        store: anything :func:`zarrdock.open_store` takes, views included.
        host: the loopback interface by default: there is no authentication. port: 0 takes a free one.
        n_concurrent: reads of the store at one time; other requests wait.
        limits: of connections, and of what a slow client may take.
        log: told of every request: method, path, status, bytes sent.

    >>> import urllib.request
    >>> with zarrdock.tools.Server({"key": b"value"}) as server:
    ...     urllib.request.urlopen(f"{server.url}/key").read()
    b'value'
    """

    def __init__(
        self,
        store: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        n_concurrent: int = 32,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        log: Callable[[str, str, int, int], None] | None = None,
    ) -> None:
        self.store = open_store(store, read_only=True)
        self.host = host
        self.port = port
        self.url = ""
        self._n = n_concurrent
        self._connections = Connections(limits)
        self._log = log
        self._salt = secrets.token_hex(4)  # tags of an earlier run mean nothing
        self._sizes: BoundedLRU[str, tuple[Version, int]] = BoundedLRU(max_items=SIZES_KEPT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._in_thread, args=(ready,), daemon=True, name="zarrdock-serve")
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(30)

    def stop(self) -> None:
        """Take no more requests, and finish those begun within five seconds."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _in_thread(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self.run(ready.set))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    async def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until :meth:`stop`.

        Args:
            ready: called when ``url`` is known.
        Raises:
            UnsupportedError: aiohttp is missing. OSError: the port is taken.
        """
        try:
            from aiohttp import web
        except ImportError as error:
            raise UnsupportedError(f'serving needs aiohttp: pip install "zarrdock[serve]" ({error})') from error
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._pool = ThreadPoolExecutor(self._n, "zarrdock-serve")
        runner = web.ServerRunner(self._guarded(), shutdown_timeout=5.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=128).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            ready()
            await self._stopping.wait()
        finally:
            await runner.cleanup()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _guarded(self) -> web.Server:
        from aiohttp import web

        connections, most = self._connections, self._connections.limits.header_bytes

        class Guarded(web.Server):
            def __call__(self) -> Any:
                return connections.protocol(super().__call__())

        sizes: dict[str, Any] = {"max_line_size": most, "max_field_size": most}
        return Guarded(self._handle, access_log=None, logger=_logger, lingering_time=1.0, **sizes)

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        self._connections.begin(transport)
        response = await self._answer_of_one_version(request)
        if response.status >= 400 and not response.prepared and request.method == "GET" and _wants_page(request):
            response = await self._error_page(request, response)
        if not response.prepared:
            response.headers.update(CORS)
        nbytes = 0 if request.method == "HEAD" else response.content_length or 0
        if self._log is not None:
            self._log(request.method, request.rel_url.raw_path, response.status, nbytes)
        self._connections.end(transport, 0 if response.prepared else nbytes)
        return response

    async def _answer_of_one_version(self, request: web.BaseRequest) -> web.StreamResponse:
        """An answer, begun anew where the object was replaced on the way."""
        error: Exception
        for _ in range(ATTEMPTS):
            try:
                return await self._answer(request)
            except VersionChangedError as changed:
                self._sizes.clear()
                error = changed
            except Exception as other:  # whatever it is, it is this request's trouble and not the server's
                return self._refusal(other)
        return self._refusal(error)

    async def _error_page(self, request: web.BaseRequest, response: Any) -> web.StreamResponse:
        """The same refusal as a page."""
        from aiohttp import web

        key = unquote(request.rel_url.raw_path).removeprefix("/")
        try:
            text = await self._do(
                error_page, response.status, response.reason, (response.text or "").strip() or response.reason, key
            )
        except ImportError:
            return cast("web.StreamResponse", response)
        page = web.Response(status=response.status, text=text, content_type="text/html", headers=PAGE_HEADERS)
        if "Allow" in response.headers:
            page.headers["Allow"] = response.headers["Allow"]
        return page

    def _refusal(self, error: Exception) -> web.Response:
        from aiohttp import web

        if isinstance(error, (InvalidKeyError, FileNotFoundError)):
            status = 404
        elif isinstance(error, AccessError):
            status = 403
        elif isinstance(error, UnsupportedError):
            status = 501
        else:
            status = 502 if isinstance(error, StoreError) else 500
        text = (
            str(error) if isinstance(error, ZarrdockError | FileNotFoundError) else f"{type(error).__name__}: {error}"
        )
        return web.Response(status=status, text=f"{text}\n")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        if request.method == "OPTIONS":
            return web.Response(status=204)
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD, OPTIONS"}, text="read-only\n")
        key = unquote(request.rel_url.raw_path).removeprefix("/")
        if not key or key.endswith("/"):
            return await self._folder(request, key)
        return await self._object(request, key)

    async def _folder(self, request: web.BaseRequest, key: str) -> web.Response:
        from aiohttp import web

        if _wants_page(request):
            url = f"http://{request.host}"
            with contextlib.suppress(ImportError):  # without jinja2 there is the list below
                page = await self._do(node_page, self.store, key.removesuffix("/"), dict(request.rel_url.query), url)
                if page is None:
                    return web.Response(status=404, text="nothing here\n")
                return web.Response(text=page, content_type="text/html", headers=PAGE_HEADERS)
        if not self.store.traits.listable:
            return web.Response(status=404, text="this store cannot be listed\n")
        prefix = key.removesuffix("/")
        listing = await self._do(self.store.list_dir, prefix)
        if key and not listing.keys and not listing.prefixes:
            return web.Response(status=404, text="nothing here\n")
        if "application/json" in request.headers.get("Accept", "") or request.rel_url.query.get("format") == "json":
            return web.Response(text=listing_json(listing), content_type="application/json")
        return web.Response(text=listing_html(prefix, listing), content_type="text/html")

    async def _object(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        from aiohttp import web

        found = await self._do(self._look, key)
        if found is None:
            # fsspec, and people, ask for the page of a node without its "/". A part or a size is asked of objects only.
            asks_for_a_page = request.method == "GET" and "Range" not in request.headers
            if asks_for_a_page and await self._do(self._is_node, key):
                return web.Response(status=301, headers={"Location": f"{quote(key.rpartition('/')[2])}/"})
            return web.Response(status=404, text="no such key\n")
        size, version = found
        tag = None if version is None else f"{hash(version) & (2**64 - 1):016x}-{self._salt}"
        content_type = "application/json" if key.rpartition("/")[2] in _JSON else "application/octet-stream"
        headers = {"Accept-Ranges": "bytes", "Content-Type": content_type}
        if tag is not None:
            headers["ETag"] = f'"{tag}"'
        # Weak tags, which nobody got from here, never match for If-Match (RFC 9110, 8.8.3.2).
        if (tags := request.if_match) is not None and not any(
            one.value == "*" or (one.value == tag and not one.is_weak) for one in tags
        ):
            return web.Response(status=412, headers=headers)
        if (tags := request.if_none_match) is not None and any(one.value in ("*", tag) for one in tags):
            return web.Response(status=304, headers=headers)
        wanted = _range_of(request)
        if (condition := request.headers.get("If-Range")) is not None and condition != headers.get("ETag"):
            wanted = None
        if wanted is None:
            return await self._send(request, key, version, (0, size), 200, headers)
        span = resolve(wanted, size)
        if span is None or span[0] == span[1]:
            return web.Response(status=416, headers={**headers, "Content-Range": content_range(None, size)})
        headers["Content-Range"] = content_range(span, size)
        return await self._send(request, key, version, span, 206, headers)

    async def _send(
        self,
        request: web.BaseRequest,
        key: str,
        version: Version | None,
        span: tuple[int, int],
        status: int,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """The bytes of one span, in pieces where it is long, all of them of one version."""
        from aiohttp import web

        length = span[1] - span[0]
        response = web.StreamResponse(status=status, headers={**headers, **CORS})
        response.content_length = length
        if request.method == "HEAD":
            await response.prepare(request)
            await response.write_eof()
            return response
        if not length:
            return web.Response(status=status, headers=headers, body=b"")
        if length <= PIECE_BYTES:
            data = await self._do(self._bytes, key, Span(*span), version)
            return web.Response(status=status, headers=headers, body=data)
        await response.prepare(request)
        try:
            async for piece in self._pieces(key, version, span):
                # A client that does not take what it asked for must not hold its place for ever.
                await asyncio.wait_for(response.write(piece), self._connections.limits.write_seconds)
            await response.write_eof()
        except (ZarrdockError, TimeoutError):
            # Half of it is sent: only a broken connection says that the rest will not come.
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _pieces(self, key: str, version: Version | None, span: tuple[int, int]) -> AsyncIterator[bytes]:
        for start in range(*span, PIECE_BYTES):
            yield await self._do(self._bytes, key, Span(start, min(start + PIECE_BYTES, span[1])), version)

    # -- the store, in threads -----------------------------------------------------------------------------------------

    async def _do(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _look(self, key: str) -> tuple[int, Version | None] | None:
        """Size and version of an object, which belong together."""
        known = self._sizes.get(key)
        if known is not None:
            # One request for one byte says whether it is still what it was.
            result = self.store.read([Read(key, Span(0, 1), known[0])])[0]
            if isinstance(result, Blob):
                return known[1], known[0]
            self._sizes.pop(key)
        message = "other writers kept changing the object while it was read: try again"
        for _ in attempts(ATTEMPTS, lambda: VersionChangedError(message, key=key, store=self.store)):
            size = self.store.size(key)
            if size is None:
                return None
            if size == 0:
                blob = self.store.get(key)
                if blob is not None and not len(blob.data):
                    return 0, blob.version
                continue
            try:
                last = self.store.get(key, From(size - 1))
            except RangeError:
                continue
            if last is not None and len(last.data) == 1:
                if last.version is not None:
                    self._sizes.put(key, (last.version, size))
                return size, last.version
        raise AssertionError

    def _is_node(self, key: str) -> bool:
        """True where a node is at this path; chunks that are missing in a remote store are not worth the question."""
        name = key.rpartition("/")[2]
        if not self.store.traits.listable or name in _JSON or (self.store.traits.remote and _CHUNK.fullmatch(name)):
            return False
        found = self.store.read([Read(f"{key}/{document}") for document in ("zarr.json", ".zgroup", ".zarray")])
        return any(isinstance(result, Blob) for result in found)

    def _bytes(self, key: str, span: Span, version: Version | None) -> bytes:
        result = self.store.read([Read(key, span, version)])[0]
        if not isinstance(result, Blob):
            raise VersionChangedError("replaced while it was read", key=key, store=self.store)
        return bytes(result.data)


def _wants_page(request: web.BaseRequest) -> bool:
    """True for browsers: they name HTML. Programs, which take anything or ask for JSON, get the same bytes as ever."""
    accept = request.headers.get("Accept", "")
    return "text/html" in accept and "application/json" not in accept and request.rel_url.query.get("format") != "json"


def _range_of(request: web.BaseRequest) -> Range:
    """The requested range; None for the whole object, also where the header has several ranges or makes no sense.

    A server may ignore any Range header (RFC 9110, 14.2), and clients have to expect that.
    """
    try:
        wanted = request.http_range
    except ValueError:
        return None
    if wanted.start is None:
        return None
    if wanted.start < 0:
        return Tail(-wanted.start)
    if wanted.stop is None:
        # "-0" and "0-" give the same slice: the first asks for no byte, which can't be answered.
        is_tail = request.headers["Range"].rpartition("=")[2].startswith("-")
        return Tail(0) if is_tail else From(wanted.start)
    return Span(wanted.start, wanted.stop)


_CHUNK = re.compile(r"c|[\d.]+")
_JSON = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
