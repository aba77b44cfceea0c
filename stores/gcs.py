"""Google Cloud Storage through gcsfs: its session and credentials, the service's JSON API, generations as versions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
import weakref
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from fsspec.spec import AbstractFileSystem

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.ranges import Range
from zarrdock.stores.base import Version
from zarrdock.stores.conditions import ABSENT, METADATA_NAME, Answer, Expected, Lineage
from zarrdock.stores.diagnose import HttpStatusError
from zarrdock.stores.fsspec_ import from_url, place_of
from zarrdock.stores.http_ranges import range_header
from zarrdock.stores.identity import Identity, service_of_url
from zarrdock.stores.io_loop import Live, expect_bytes, forget_session, running_loop, send_once
from zarrdock.stores.remote import Page, RemoteStore

__all__ = ["GCSStore"]

PAGE_SIZE = 1000


# Of objects that the service decodes when they are read.
_ENCODINGS = ("gzip", "x-gzip")


class GCSStore(RemoteStore):
    """A prefix of a Google Cloud Storage bucket.

    One request for any read; generations are versions; writes and deletions are conditional on them where they must
    be. Requests go through the filesystem's own session with its credentials, but not through its retries, which
    can't be turned off. Objects stored with ``Content-Encoding: gzip`` are read as what was compressed, whole for any
    part of them; a RuntimeWarning says so once.

    Args:
        fs: a URL (``gs://bucket/prefix``), or a gcsfs filesystem.
        path: bucket and prefix; only with a filesystem.
        storage_options: all of gcsfs's (``project``, ``token``, ``endpoint_url``, ``requester_pays``, ...); only with
            a URL.

    The other arguments are those of :class:`~zarrdock.stores.remote.RemoteStore`.

    >>> zarrdock.GCSStore("gs://bucket/folder", storage_options={"token": "anon"}).url
    'gs://bucket/folder'
    """

    # CPU time of one request (0.2 to 0.3 ms, a quarter of what s3fs takes) times the bandwidth of loopback.
    default_gap_bytes = 64 * 1024
    price_of_a_part = (
        "objects are stored compressed (Content-Encoding: gzip), and each part of one costs the whole object: store "
        "them uncompressed"
    )

    def __init__(
        self,
        fs: AbstractFileSystem | str,
        path: str = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        place = place_of(fs, path, storage_options, _from_url)
        super().__init__(place.fs, place.root, place.url, **settings)
        if not self._root:
            raise StoreError("a GCS store needs a bucket: gs://bucket/prefix", store=self)

    @property
    def identity(self) -> Identity:
        """The endpoint, the bucket and the prefix."""
        endpoint = str(self._bridge.fs._location)
        own = endpoint == "https://storage.googleapis.com" or "mtls.googleapis" in endpoint
        return Identity(service_of_url("gs", None if own else endpoint), self._root)

    def _is_anonymous(self) -> bool:
        return getattr(self._bridge.fs.credentials, "method", "") == "anon"

    # -- requests
    # ----------------------------------------------------------------------------------------------------------

    def _object_path(self, key: str) -> str:
        bucket, _, name = self._path(key).partition("/")
        return f"storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"

    async def _send(
        self,
        live: Live,
        method: str,
        path: str,
        params: dict[str, Any],
        *,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> tuple[int, Any, bytes]:
        """One request, as the filesystem would send it: status, headers and body of a success.

        Raises:
            HttpStatusError: anything but a success.
        """
        import aiohttp
        import yarl

        fs = live.fs
        session = await fs._set_session()
        if session not in _closed_at_exit:
            _close_at_exit(fs, session)
        url = yarl.URL(f"{fs._location}/{path}", encoded=True).update_query(fs._get_params(params))
        # A stall, not a long answer, is a failure; aiohttp's own limit is five minutes for all of it.
        timeout = fs.requests_timeout or aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=30)
        options: dict[str, Any] = {"headers": fs._get_headers(headers), "data": data, "timeout": timeout}
        if method == "DELETE":  # aiohttp repeats it by itself, and then a refusal may be of our own making
            options["middlewares"] = (*fs.session_kwargs.get("middlewares", ()), send_once)
        async with session.request(method, url, **options) as answer:
            if answer.status == 206 and answer.headers.get("Content-Encoding", "identity") != "identity":
                return answer.status, answer.headers, b""  # a part of compressed bytes cannot be decoded
            expect_bytes(answer.content_length or 0)
            body: bytes = await answer.read()
            if answer.status < 300:
                return answer.status, answer.headers, body
        retry_after = answer.headers.get("Retry-After", "")
        text = _message(body)
        code = ""
        # An upload needs no object that is there already.
        if answer.status == 404 and (method == "POST" or "bucket does not exist" in text.lower()):
            code = "NoSuchBucket"
        elif answer.status == 409:  # another request was at the same object; whether it won, the next try will tell
            code = "OperationAborted"
        raise HttpStatusError(
            answer.status, text, code=code, retry_after=float(retry_after) if retry_after.isdecimal() else None
        )

    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        header = range_header(range_)
        # What is not a generation is answered by the comparison with what came.
        wanted = version if isinstance(version, str) and version.isdigit() else None
        path, params = "download/" + self._object_path(key), {"alt": "media", "ifGenerationMatch": wanted}
        # Objects that are stored compressed are then decoded by the service, and sent whole, whatever the range.
        plain = {"Accept-Encoding": "identity"}
        ranged = {**plain, "Range": header} if header else plain
        status, headers, data = await self._send(live, "GET", path, params, headers=ranged)
        if status == 206 and headers.get("Content-Encoding", "identity") != "identity":  # with "no-transform"
            status, headers, data = await self._send(live, "GET", path, params, headers=plain)
        self._ignores_ranges |= header is not None and status == 200 and bool(data)
        # Of an object stored compressed, the length announced is that of other bytes than those that come.
        announced = None if headers.get("Content-Encoding") else headers.get("Content-Length")
        generation = headers.get("x-goog-generation")
        return Answer(
            data,
            generation,
            status,
            headers.get("Content-Range"),
            int(announced) if announced else None,
            # A download does not bring the object's metadata; the generation names the write as well as its token does.
            Lineage((f"g{generation}",), is_whole=False),
        )

    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        bucket, _, name = self._path(key).partition("/")
        resource: dict[str, Any] = {"name": name}
        if lineage is not None:
            resource["metadata"] = {METADATA_NAME: str(lineage)}
        boundary = uuid.uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        async def body() -> AsyncIterator[bytes]:  # in pieces, so that a large value is not copied
            yield head
            yield data
            yield tail

        _, _, answer = await self._send(
            live,
            "POST",
            f"upload/storage/v1/b/{quote(bucket, safe='')}/o",
            {"uploadType": "multipart", "fields": "generation", **_condition(expected)},
            headers={
                "Content-Type": f'multipart/related; boundary="{boundary}"',
                "Content-Length": str(len(head) + len(data) + len(tail)),
            },
            data=body(),
        )
        generation: Version = json.loads(answer).get("generation")
        return generation

    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        await self._send(live, "DELETE", self._object_path(key), _condition(expected))

    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        _, _, answer = await self._send(live, "GET", self._object_path(key), {"fields": "generation,metadata"})
        found = json.loads(answer)
        return found.get("generation"), Lineage.parse(found.get("metadata", {}).get(METADATA_NAME))

    # -- sizes and listing
    # -------------------------------------------------------------------------------------------------

    async def _send_size(self, live: Live, key: str) -> tuple[int, Version]:
        fields = {"fields": "size,contentEncoding,generation"}
        found = json.loads((await self._send(live, "GET", self._object_path(key), fields))[2])
        if found.get("contentEncoding") in _ENCODINGS:  # the size is that of the compressed bytes
            whole = await self._send_get(live, key, None, None)
            return len(whole.data), whole.version
        return int(found.get("size", 0)), found.get("generation")

    async def _pages(self, live: Live, prefix: str, delimiter: str = "") -> AsyncIterator[Page]:
        """Pages of up to 1,000 names, one request each."""
        bucket, beginning = self._bucket_and_prefix(prefix)
        params = {
            "prefix": beginning or None,
            "delimiter": delimiter or None,
            "maxResults": str(PAGE_SIZE),
            "fields": "items(name,size,contentEncoding),prefixes,nextPageToken",
        }

        async def request() -> dict[str, Any]:
            path = f"storage/v1/b/{quote(bucket, safe='')}/o"
            try:
                answer: dict[str, Any] = json.loads((await self._send(live, "GET", path, params))[2])
            except HttpStatusError as error:
                if error.status == 404:  # there is nothing else to be missing
                    raise HttpStatusError(404, str(error), code="NoSuchBucket") from error
                raise
            return answer

        while True:
            answer = await self._request(live, prefix, request)
            yield Page({item["name"]: _size_in(item) for item in answer.get("items", [])}, answer.get("prefixes", []))
            if not answer.get("nextPageToken"):
                return
            params["pageToken"] = answer["nextPageToken"]


# Sessions that are closed before gcsfs tries to.
_closed_at_exit: weakref.WeakSet[Any] = weakref.WeakSet()


def _close_at_exit(fs: AbstractFileSystem, session: Any) -> None:
    """gcsfs closes a session by touching its loop from another thread, which Python's development mode reports at
    exit. What is registered last is called first: this finds the session open, and gcsfs finds it closed.
    """
    _closed_at_exit.add(session)
    weakref.finalize(fs, _close, session, asyncio.get_running_loop(), os.getpid())


def _close(session: Any, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    if session.closed:
        return
    if pid != os.getpid():  # its sockets are the parent's: neither gcsfs nor aiohttp is to close them here
        forget_session(session)
    elif loop.is_running():
        closing = asyncio.run_coroutine_threadsafe(session.close(), loop)
        if running_loop() is not loop:
            with contextlib.suppress(TimeoutError):
                closing.result(1)


def _from_url(url: str, storage_options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
    if storage_options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST"):
        # Read when gcsfs is imported: with an emulator its gRPC side would hang for a minute at the first touch.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        from gcsfs import GCSFileSystem
    except ImportError as error:
        raise UnsupportedError('GCS needs gcsfs: pip install "zarrdock[gcs]"') from error
    fs, path = from_url(url, storage_options)
    if not isinstance(fs, GCSFileSystem):  # another library has taken the protocol
        fs = GCSFileSystem(**storage_options)
        path = fs._strip_protocol(url)
    return fs, path


def _condition(expected: Expected) -> dict[str, Any]:
    if expected is None:
        return {}
    return {"ifGenerationMatch": "0" if expected is ABSENT else expected}


def _size_in(item: Mapping[str, Any]) -> int | None:
    """The size of a listed object; None where the service tells only that of the compressed bytes."""
    return None if item.get("contentEncoding") in _ENCODINGS else int(item.get("size", 0))


def _message(body: bytes) -> str:
    """The service's words for an error."""
    text = body[:2000].decode(errors="replace").strip()
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]
