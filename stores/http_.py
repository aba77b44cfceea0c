"""HTTP and HTTPS, read-only: one GET for one read, with everything the server says checked.

fsspec's filesystem provides the session and its options; the requests are our own, because what matters (status,
Content-Range, ETag) does not come through its methods. Source: RFC 9110, sections 13 (conditional requests) and 14
(range requests).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from zarrdock.errors import RangeError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Blob, Entry, Listing, Read, Result, Traits, Version
from zarrdock.stores.diagnose import (
    HttpStatusError,
    PageError,
    TruncatedError,
    has_expired,
    is_expired,
    is_page,
    redact,
)
from zarrdock.stores.http_ranges import range_header, size_of_content_range, take
from zarrdock.stores.identity import Identity, service_of_url
from zarrdock.stores.io_loop import Live
from zarrdock.stores.remote import Entries, RemoteStore, nbytes_of
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.urls import encoded

__all__ = ["HTTPStore"]

_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")  # S3 and GCS explain themselves in XML
_SAFE = "/!$&'()*+,;=:@-._~"


class HTTPStore(RemoteStore):
    """A folder on a web server.

    Args:
        url: the folder's address; a query string is sent with every request. Or an fsspec HTTP filesystem, and the
            address as ``path``.
        storage_options: options of fsspec's HTTP filesystem (``headers``, ``client_kwargs``, ...).
        retry: when to try again.
        n_concurrent: requests in flight at most.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request.
        missing_statuses: HTTP statuses that are taken for "no such key", beside 404 and 410: 403 where the server says
            so of what is missing; 200 where it sends a page of HTML instead, which is an error otherwise.

    A strong ETag is the object's version. A server that ignores ranges sends whole objects: what was asked is cut out
    of them, and a RuntimeWarning says so once. There is no listing over HTTP.

    >>> store = zarrdock.HTTPStore("https://example.org/data.zarr")
    >>> store.read_only, store.traits.listable
    (True, False)
    """

    def __init__(
        self,
        url: str | HTTPFileSystem,
        path: str = "",
        *,
        storage_options: dict[str, Any] | None = None,
        read_only: bool = True,
        retry: RetryPolicy | None = None,
        n_concurrent: int = 64,
        merge_gap_bytes: int = 32 * 1024,
        missing_statuses: Collection[int] = (),
    ) -> None:
        if isinstance(url, HTTPFileSystem):
            # Keys are encoded here; the filesystem must not do it a second time.
            fs = type(url)(*url.storage_args, **{**url.storage_options, "asynchronous": False, "encoded": True})
            url = path
        else:
            fs = HTTPFileSystem(**{**(storage_options or {}), "asynchronous": False, "encoded": True})
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UnsupportedError(f"not an http(s) URL: {redact(url)!r}")
        self._parts = parts._replace(path=quote(parts.path.rstrip("/"), safe=_SAFE + "%"), fragment="")
        self._calls_all_html = False
        address = redact(urlunsplit(self._parts._replace(query="")))
        super().__init__(
            fs,
            address,
            address,
            read_only=True,
            retry=retry,
            n_concurrent=n_concurrent,
            merge_gap_bytes=merge_gap_bytes,
            missing_statuses=missing_statuses,
        )

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return (f"{self.url}/{encoded(path)}" if path else self.url,)  # which is encoded

    def _make_traits(self, traits: Traits) -> Traits:
        return replace(traits, writable=False, listable=False, conditional_read=True)

    @property
    def identity(self) -> Identity:
        """The server and the folder on it; a query string counts where it is no signature."""
        parts = self._parts
        netloc = parts.netloc.rpartition("@")[2]
        service = service_of_url("http", urlunsplit((parts.scheme, netloc, "", parts.query, "")))
        return Identity(service, unquote(parts.path).strip("/"))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        raise UnsupportedError(f"{self.url}: HTTP has no listing; open a node by its full path")

    def list_dir(self, prefix: str = "", /) -> Listing:
        raise UnsupportedError(f"{self.url}: HTTP has no listing; open a node by its full path")

    # -- hooks --------------------------------------------------------------------------------------------------

    async def _read_one(self, live: Live, read: Read) -> Result:
        request = self._or_missing(lambda: self._get(live, read))
        return await self._request(live, read.key, request, nbytes=nbytes_of(read.range))

    async def _size(self, live: Live, key: str) -> int | None:
        return await self._request(live, key, self._or_missing(lambda: self._size_once(live, key)))

    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        raise UnsupportedError("HTTP stores are read-only")

    async def _delete_one(self, live: Live, key: str) -> None:
        raise UnsupportedError("HTTP stores are read-only")

    async def _find(self, live: Live, prefix: str) -> Entries:
        raise UnsupportedError("HTTP has no listing")

    async def _list_level(self, live: Live, prefix: str) -> Listing:
        raise UnsupportedError("HTTP has no listing")

    # -- requests -----------------------------------------------------------------------------------------------

    async def _send(self, live: Live, method: str, key: str, headers: dict[str, str]) -> Any:
        """A context manager that gives the response."""
        fs = live.fs
        session = await fs.set_session()
        path = f"{self._parts.path}/{quote(key, safe=_SAFE)}"
        options = {"allow_redirects": True, **fs.kwargs}
        # Compressed answers have other lengths and other ranges than the object.
        options["headers"] = {**options.get("headers", {}), "Accept-Encoding": "identity", **headers}
        if "timeout" not in options and "timeout" not in fs.client_kwargs:
            # A stall, not a long answer, is a failure.
            options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=30)
        return session.request(method, fs.encode_url(urlunsplit(self._parts._replace(path=path))), **options)

    async def _get(self, live: Live, read: Read) -> Result:
        headers: dict[str, str] = {}
        if (wanted := range_header(read.range)) is not None:
            headers["Range"] = wanted
        if read.version is not None:
            headers["If-Match"] = str(read.version)
        async with await self._send(live, "GET", read.key, headers) as response:
            status = response.status
            if _is_missing(response):
                return None
            await self._check_page(response, read.key, is_whole=read.range is None)
            if status == 412 and read.version is not None:
                return VersionChangedError("the object has changed", key=read.key, store=self)
            if status == 416 and read.range is not None:
                total = size_of_content_range(response.headers.get("Content-Range"))
                if not isinstance(read.range, Tail):
                    raise RangeError("the range begins beyond the end of the object", key=read.key, store=self)
                if not total:
                    return Blob(b"", _version(response))
                return await self._get(live, Read(read.key, Span(max(0, total - read.range.n), total), read.version))
            if status not in (200, 206) or (status == 206 and read.range is None):
                raise await self._failed(response)
            version = _version(response)
            if read.version is not None and version != read.version:  # a server that does not know If-Match
                return VersionChangedError("the object has changed", key=read.key, store=self)
            if read.range is None:
                return Blob(await response.read(), version)
            if status == 200:
                self._ignores_ranges = True
                return Blob(await self._cut(response, read), version)
            return Blob(await self._partial(live, response, read), version)

    async def _check_page(self, response: aiohttp.ClientResponse, key: str, *, is_whole: bool = False) -> None:
        """Raise for a page of HTML in the place of the object."""
        if response.status not in (200, 206) or self._calls_all_html or not is_page(response.content_type, key):
            return
        if is_whole and not (await response.read()).lstrip().startswith(b"<"):
            self._calls_all_html = True  # a server that knows no better type
            return
        raise PageError(f"HTTP {response.status}, {response.content_type}")

    def _is_anonymous(self) -> bool:
        return not self._parts.query and "Authorization" not in self._bridge.fs.kwargs.get("headers", {})

    async def _failed(self, response: aiohttp.ClientResponse) -> HttpStatusError:
        """The error for a status that is no answer."""
        code, text = "", response.reason or ""
        if response.method == "GET":
            body = (await response.content.read(2048)).decode(errors="replace")
            found = _CODE.search(body)
            code = found[1] if found else ""
            if response.status in (400, 401, 403) and (is_expired(body) or has_expired(self._parts.query)):
                code, text = "ExpiredToken", "the signature of the URL has expired"
        wait = response.headers.get("Retry-After", "")
        return HttpStatusError(response.status, text, code=code, retry_after=float(wait) if wait.isdecimal() else None)

    async def _partial(self, live: Live, response: aiohttp.ClientResponse, read: Read) -> bytes | bytearray:
        """The body of a 206, if it is the requested range."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise StoreError("the server compresses its partial answers", key=read.key, store=self)
        header = response.headers.get("Content-Range")
        data = await response.read()
        complete = isinstance(read.range, Span) and len(data) == nbytes_of(read.range)
        if header is not None and header.endswith("/*") and not complete:
            # "bytes 5-9/*": only the size tells whether the object ends there, or the answer was cut short.
            header = header[:-1] + str(await self._size_once(live, read.key))
        return take(data, read.range, status=206, content_range=header, length=None)

    async def _cut(self, response: aiohttp.ClientResponse, read: Read) -> bytes:
        """Cut the requested range out of the whole object; bytes behind it are not read."""
        total = _length(response)
        if total is None and isinstance(read.range, Span):
            data = await _take(response, read.range.start, read.range.stop - read.range.start, short=True)
            if not data:
                raise RangeError("the range begins beyond the end of the object", key=read.key, store=self)
            return data
        if total is None:
            body = await response.read()
            start, stop = _bounds(read.range, len(body))
            data = body[start:stop]
        else:
            start, stop = _bounds(read.range, total)
            data = b"" if start >= stop else await _take(response, start, stop - start)
        if not data and not isinstance(read.range, Tail):
            raise RangeError("the range begins beyond the end of the object", key=read.key, store=self)
        return data

    async def _size_once(self, live: Live, key: str) -> int | None:
        async with await self._send(live, "HEAD", key, {}) as response:
            if _is_missing(response):
                return None
            await self._check_page(response, key)
            length = _length(response) if response.status == 200 else None
            if length is not None:
                return length
            if response.status not in (200, 400, 401, 403, 405, 501):  # a signed URL may be good for GET only
                raise await self._failed(response)
        async with await self._send(live, "GET", key, {"Range": "bytes=0-0"}) as response:
            if _is_missing(response):
                return None
            await self._check_page(response, key)
            header = response.headers.get("Content-Range")
            total = _length(response) if response.status == 200 else size_of_content_range(header)
            if response.status == 416:
                return total or 0
            if response.status not in (200, 206):
                raise await self._failed(response)
            if total is not None:
                return total
            if response.status == 206:
                raise StoreError("the server does not tell the object's size", key=key, store=self)
            return len(await response.read())


def _is_missing(response: aiohttp.ClientResponse) -> bool:
    """True where there is no object; many servers lead from the name of a folder to a page about it."""
    return response.status in (404, 410) or bool(response.history and response.url.path.endswith("/"))


def _bounds(range_: Range, total: int) -> tuple[int, int]:
    """The half-open span of an object of ``total`` bytes; empty where it begins beyond the end."""
    match range_:
        case Span(start, stop):
            return start, min(stop, total)
        case From(start):
            return start, total
        case Tail(n):
            return max(0, total - n), total
        case None:
            return 0, total


def _length(response: aiohttp.ClientResponse) -> int | None:
    """The object's size by Content-Length, which counts encoded bytes where there is an encoding."""
    length = response.headers.get("Content-Length", "")
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return int(length) if plain and length.isdecimal() and len(length) < 20 else None


def _version(response: aiohttp.ClientResponse) -> str | None:
    """A strong ETag; a weak one, or a date, does not tell two objects of equal meaning apart."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else None


async def _take(response: aiohttp.ClientResponse, skip: int, n: int, *, short: bool = False) -> bytes:
    """``n`` bytes of the body after the first ``skip``; fewer only where that is allowed."""
    if skip == 0 and response.headers.get("Content-Length") == str(n):
        data = await response.read()
    else:
        parts, left = [], n
        async for chunk in response.content.iter_chunked(2**18):
            piece = memoryview(chunk)[skip : skip + left]
            skip = max(0, skip - len(chunk))
            parts.append(piece)
            left -= len(piece)
            if left == 0:
                break
        data = b"".join(parts)
    if len(data) < n and not short:
        raise TruncatedError(f"{len(data)} bytes came instead of {n}")
    return data
