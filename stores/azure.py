"""Azure Blob Storage, and Data Lake Storage over it, through adlfs: its client and credentials, the service's own
requests, ETags as versions.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import io
import os
import uuid
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies
from xml.etree import ElementTree as ET

import fsspec.asyn
from fsspec.spec import AbstractFileSystem

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.ranges import Range, Tail
from zarrdock.stores.base import Traits, Version
from zarrdock.stores.conditions import ABSENT, AZURE_METADATA_NAME, Answer, Expected, Lineage
from zarrdock.stores.diagnose import HttpStatusError, Kind, diagnose, has_expired, redact, xml_error
from zarrdock.stores.fsspec_ import from_url, place_of
from zarrdock.stores.http_ranges import range_header
from zarrdock.stores.identity import Identity, service_of_azure
from zarrdock.stores.io_loop import Live, expect_bytes, forget_session, running_loop, send_once
from zarrdock.stores.remote import Page, RemoteStore

__all__ = ["AzureStore"]

MAX_PUT_BYTES = 5000 * 2**20  # more is only taken in blocks
BLOCK_BYTES = 100 * 2**20
DELETE_BATCH = 256
# Above this aiohttp wants a body that it can send in pieces.
_LARGE_BYTES = 2**20
# Metadata of an empty blob that stands for a folder.
_FOLDER = "hdi_isfolder"
# By account: what services answered in this process.
_hierarchical: dict[str, bool] = {}


class AzureStore(RemoteStore):
    """A prefix of a container of Azure Blob Storage, with or without a hierarchical namespace (Data Lake Storage).

    ETags are versions; reads and writes are conditional on them where they must be (If-Match, If-None-Match), and
    deletions too. The service knows no ranges that are counted from the end: there a read is two requests, one for the
    size and one for a bounded range of the same version. Directories of a hierarchical namespace, and the empty blobs
    that stand for them elsewhere, are no keys. Requests go through the client that adlfs holds, with its credentials
    and its connections, but not through its retries.

    Args:
        fs: a URL (``az://container/prefix``, ``abfss://container@account.dfs.core.windows.net/prefix``), or an adlfs
            filesystem.
        path: container and prefix; only with a filesystem.
        storage_options: all of adlfs's (``account_name``, ``account_key``, ``sas_token``, ``connection_string``,
            ``credential``, ``anon``, ...); only with a URL.

    The other arguments are those of :class:`~zarrdock.stores.remote.RemoteStore`.

    >>> options = {"account_name": "account", "anon": True}
    >>> zarrdock.AzureStore("az://container/folder", storage_options=options).url
    'az://container/folder'
    """

    # CPU time of one request (0.7 ms) times the bandwidth of a network, and of loopback, would be 74 kB and 410 KiB.
    default_gap_bytes = 128 * 1024

    def __init__(
        self,
        fs: AbstractFileSystem | str,
        path: str = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        place = place_of(fs, path, storage_options, _from_url)
        is_text = isinstance(fs, (str, os.PathLike))
        url = redact(os.fspath(fs)).rstrip("/") if is_text else f"az://{place.root}"
        super().__init__(place.fs, place.root, url, **settings)
        if not self._root:
            raise StoreError("an Azure store needs a container: az://container/prefix", store=self)

    def _make_traits(self, traits: Traits) -> Traits:
        return replace(super()._make_traits(traits), one_request_tails=False)

    @property
    def identity(self) -> Identity:
        """The endpoint, the account, the container and the prefix."""
        service = self._bridge.fs.service_client
        return Identity(service_of_azure(service.url, service.account_name), self._root)

    def _is_anonymous(self) -> bool:
        service = self._bridge.fs.service_client
        return service.credential is None and "sig=" not in service.url

    # -- requests
    # ----------------------------------------------------------------------------------------------------------

    def _address(self, live: Live, key: str, query: Mapping[str, str] | None = None) -> str:
        """URL of a blob, or, without a key, of the container."""
        account = urlsplit(live.fs.service_client.url)
        container, _, root = self._root.partition("/")
        name = f"{root}/{key}" if root and key else key
        path = f"{account.path.rstrip('/')}/{quote(container)}" + (f"/{quote(name, safe='/~')}" if name else "")
        parts = [f"{name}={quote(text, safe='')}" for name, text in (query or {}).items()]
        together = "&".join([*parts, account.query] if account.query else parts)
        return f"{account.scheme}://{account.netloc}{path}" + (f"?{together}" if together else "")

    async def _send(
        self,
        live: Live,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> tuple[int, Any, bytes]:
        """One request for a blob, or for the container where ``query`` says so: status, headers and body of a success.

        Raises:
            HttpStatusError: anything but a success. Errors of the client's library.
        """
        from azure.core.rest import HttpRequest

        service = live.fs.service_client
        url = self._address(live, "" if query and "restype" in query else key, query)
        sent: dict[str, str] = {"x-ms-version": service.api_version, **(headers or {})}
        if data is not None:  # as aiohttp would say by itself, after the request was signed
            sent.setdefault("Content-Type", "application/octet-stream")
        content: bytes | io.BytesIO | None = data
        if data is not None and len(data) > _LARGE_BYTES:
            content, sent["Content-Length"] = io.BytesIO(data), str(len(data))
        request = HttpRequest(method, url, headers=sent, content=content)
        _close_at_exit(live.fs)
        options = _options(live.fs)
        if method in ("PUT", "DELETE"):  # aiohttp repeats them by itself, and then a refusal may be of our own making
            options["middlewares"] = (send_once,)
        response = (await service._pipeline.run(request, stream=True, **options)).http_response
        try:
            expect_bytes(int(response.headers.get("Content-Length") or 0))
            if response.headers.get("Content-Encoding", "identity") == "identity":
                body: bytes = await response.read()
            else:  # the client would decode it, and parts of what is encoded can't be
                body = b"".join([part async for part in response.iter_raw()])
        except BaseException:
            await response.close()
            raise
        if response.status_code < 300:
            return response.status_code, response.headers, body
        raise _refusal(response.status_code, body, response.headers, url)

    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        if isinstance(range_, Tail):
            return await self._send_get_tail(live, key, range_.n, version)
        header = range_header(range_)
        # The client does not sign the header of this name that has no prefix.
        wanted = {"x-ms-range": header} if header else {}
        if isinstance(version, str):  # of anything else, what came is not the version
            wanted["If-Match"] = version
        try:
            status, headers, data = await self._send(live, "GET", key, headers=wanted)
        except HttpStatusError as error:
            if error.status in (412, 416):
                await self._send_properties(live, key)  # it may be that there is none, or a folder
            raise
        _check_is_blob(headers)
        if status == 206 and headers.get("Content-Range", "").endswith("/0"):  # Azurite does so for an empty blob
            raise HttpStatusError(416, "there is no range of an empty blob", code="InvalidRange")
        length = headers.get("Content-Length")
        return Answer(
            data,
            headers.get("ETag"),
            status,
            headers.get("Content-Range"),
            int(length) if length else None,
            Lineage.parse(headers.get(f"x-ms-meta-{AZURE_METADATA_NAME}")),
        )

    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        headers = _condition(expected)
        if lineage is not None:
            headers[f"x-ms-meta-{AZURE_METADATA_NAME}"] = str(lineage)
        if len(data) > MAX_PUT_BYTES:
            return await self._send_blocks(live, key, data, headers)
        headers["x-ms-blob-type"] = "BlockBlob"
        _, answered, _ = await self._send(live, "PUT", key, headers=headers, data=data)
        etag: Version = answered.get("ETag")
        return etag

    async def _send_blocks(self, live: Live, key: str, data: bytes, headers: Mapping[str, str]) -> Version:
        """Write an object in blocks, which become the object by a last request, if its condition holds."""
        attempt, view = uuid.uuid4().hex, memoryview(data)
        names = []
        for i, start in enumerate(range(0, len(data), BLOCK_BYTES)):
            names.append(base64.b64encode(f"{attempt}-{i:06}".encode()).decode())
            block = bytes(view[start : start + BLOCK_BYTES])
            await self._send(live, "PUT", key, {"comp": "block", "blockid": names[-1]}, data=block)
        blocks = "".join(f"<Latest>{name}</Latest>" for name in names)
        document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
        described = {
            **headers,
            "Content-Type": "application/xml",
            "x-ms-blob-content-type": "application/octet-stream",
        }
        _, answered, _ = await self._send(live, "PUT", key, {"comp": "blocklist"}, headers=described, data=document)
        etag: Version = answered.get("ETag")
        return etag

    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        await self._send(live, "DELETE", key, headers=_condition(expected))

    async def _send_properties(self, live: Live, key: str) -> Any:
        """Headers of the answer to HEAD."""
        _, headers, _ = await self._send(live, "HEAD", key)
        _check_is_blob(headers)
        return headers

    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        headers = await self._send_properties(live, key)
        return headers.get("ETag"), Lineage.parse(headers.get(f"x-ms-meta-{AZURE_METADATA_NAME}"))

    async def _send_size(self, live: Live, key: str) -> tuple[int, Version]:
        headers = await self._send_properties(live, key)
        return int(headers["Content-Length"]), headers.get("ETag")

    # -- sizes and listing
    # -------------------------------------------------------------------------------------------------

    async def _pages(self, live: Live, prefix: str, delimiter: str = "") -> AsyncIterator[_Page]:
        """Pages of up to 5,000 names, one request each."""
        # With the metadata, which mark the blobs that stand for folders.
        query = {"restype": "container", "comp": "list", "include": "metadata"}
        if beginning := self._bucket_and_prefix(prefix)[1]:
            query["prefix"] = beginning
        if delimiter:
            query["delimiter"] = delimiter

        async def request() -> _Page:
            return _Page.parse((await self._send(live, "GET", prefix, query))[2])

        while True:
            page = await self._request(live, prefix, request)
            yield page
            if not page.marker:
                return
            query["marker"] = page.marker

    # -- deletion, of directories too
    # --------------------------------------------------------------------------------------

    async def _is_hierarchical(self, live: Live) -> bool:
        """True for an account with a hierarchical namespace, where directories outlive what is in them. Asked once."""
        service = live.fs.service_client
        name = service_of_azure(service.url, service.account_name)
        if name not in _hierarchical:

            async def request() -> bool:
                try:
                    _, headers, _ = await self._send(live, "GET", "", {"restype": "account", "comp": "properties"})
                except HttpStatusError as error:
                    if error.status >= 500:
                        raise
                    return False  # it does not say so to everybody; empty directories are left then
                return bool(headers.get("x-ms-is-hns-enabled", "").lower() == "true")

            _hierarchical[name] = await self._request(live, "", request)
        return _hierarchical[name]

    async def _prune(self, live: Live, keys: Iterable[str]) -> None:
        """Delete the directories that deleted keys have left empty."""
        folders = _folders_of(keys)
        if folders and await self._is_hierarchical(live):
            await self._delete_folders(live, folders)

    async def _delete_one(self, live: Live, key: str) -> None:
        await super()._delete_one(live, key)
        await self._prune(live, [key])

    async def _commit(
        self, live: Live, key: str, data: bytes | None, expected: Expected, parent: Lineage
    ) -> Version | None:
        version = await super()._commit(live, key, data, expected, parent)
        if data is None:
            await self._prune(live, [key])
        return version

    async def _delete_below(self, live: Live, prefix: str) -> None:
        beginning, start = self._bucket_and_prefix(prefix)[1], len(self._bucket_and_prefix("")[1])
        keys: list[str] = []
        folders: dict[str, str] = {}
        async for page in self._pages(live, prefix):
            keys += [name[start:] for name in page.sizes if len(name) > len(beginning)]
            folders |= {name[start:].rstrip("/"): etag for name, etag in page.folders.items()}
        await self._delete_batches(live, keys)
        if prefix and await self._is_hierarchical(live):
            folders |= _folders_of([f"{prefix}/"])
        await self._delete_folders(live, folders)

    async def _delete_keys(self, live: Live, keys: Sequence[str]) -> None:
        await self._delete_batches(live, keys)
        await self._prune(live, keys)

    async def _delete_folders(self, live: Live, folders: Mapping[str, str]) -> None:
        """Delete directories, and blobs that mark one, the deepest first: those that hold nothing, and are still what
        they were seen to be. A blob that took the place of one stays.
        """

        async def delete(key: str) -> None:
            async def request() -> None:
                try:
                    etag = folders[key] or await self._etag_of_folder(live, key)
                    if etag:
                        await self._send_delete(live, key, etag)
                except HttpStatusError as error:
                    if diagnose(error).kind not in (Kind.MISSING, Kind.PRECONDITION):
                        raise

            await self._request(live, key, request)

        for depth in sorted({key.count("/") for key in folders}, reverse=True):
            await live.gather(delete, [key for key in folders if key and key.count("/") == depth])

    async def _etag_of_folder(self, live: Live, key: str) -> str:
        _, headers, _ = await self._send(live, "HEAD", key)
        return str(headers.get("ETag", "")) if _is_folder(headers) else ""

    async def _delete_batches(self, live: Live, keys: Sequence[str]) -> None:
        batches = [keys[i : i + DELETE_BATCH] for i in range(0, len(keys), DELETE_BATCH)]

        async def delete(batch: Sequence[str]) -> None:
            await self._request(live, batch[0], lambda: self._send_delete_many(live, batch))

        await live.gather(delete, batches)

    async def _send_delete_many(self, live: Live, keys: Sequence[str]) -> None:
        """Delete blobs by one request, which holds a signed request for each."""
        from azure.core.pipeline.transport import HttpRequest

        service = live.fs.service_client
        dated = {"x-ms-date": formatdate(usegmt=True)}
        deletions = []
        for key in keys:
            parts = urlsplit(self._address(live, key))
            url = f"{parts.path}?{parts.query}" if parts.query else parts.path
            deletions.append(HttpRequest("DELETE", url, headers=dict(dated)))
        url = self._address(live, "", {"restype": "container", "comp": "batch"})
        request = HttpRequest("POST", url, headers={"x-ms-version": service.api_version})
        policies = [service._credential_policy] if service._credential_policy else []
        # Azurite does not understand the client's own boundary, which begins with "=".
        boundary = f"batch_{uuid.uuid4().hex}"
        request.set_multipart_mixed(*deletions, policies=policies, boundary=boundary, enforce_https=False)
        response = (await service._pipeline.run(request, **_options(live.fs))).http_response
        if response.status_code >= 300:
            raise _refusal(response.status_code, response.body(), response.headers, url)
        errors = [
            _refusal(answer.status_code, answer.body(), answer.headers, url)
            async for answer in response.parts()
            if answer.status_code >= 300
        ]
        errors = [error for error in errors if diagnose(error).kind is not Kind.MISSING]
        if errors:
            text = f"{len(errors)} of {len(keys)} keys could not be deleted, the first for {errors[0]}"
            raise HttpStatusError(errors[0].status, text, code=errors[0].code)


@dataclass(frozen=True, slots=True)
class _Page(Page):
    """A page of a listing, with directories and the blobs that mark them.

    Attributes:
        folders: name of a directory, or of a blob that marks one, to its ETag.
        marker: where the next page begins, "" after the last.
    """

    folders: dict[str, str]
    marker: str

    @classmethod
    def parse(cls, body: bytes) -> _Page:
        """Parse the service's document.

        Raises:
            HttpStatusError: it is none.
        """
        try:
            root = ET.fromstring(body)
        except ET.ParseError as error:
            raise HttpStatusError(502, f"a listing that is no XML: {error}") from error
        sizes: dict[str, int | None] = {}
        prefixes: list[str] = []
        page = cls(sizes, prefixes, {}, root.findtext("NextMarker") or "")
        for item in root.iterfind("Blobs/*"):
            element = item.find("Name")
            name = (element.text if element is not None else "") or ""
            if element is not None and element.get("Encoded") == "true":  # XML could not hold it
                name = unquote(name)
            kind = item.findtext("Properties/ResourceType") or ""
            if item.tag == "BlobPrefix":
                prefixes.append(name)
            elif kind == "directory" or item.findtext(f"Metadata/{_FOLDER}", "").lower() == "true":
                etag = item.findtext("Properties/Etag") or ""
                page.folders[name] = f'"{etag}"' if etag and not etag.startswith('"') else etag
            else:
                sizes[name] = int(item.findtext("Properties/Content-Length") or 0)
        return page


def _folders_of(keys: Iterable[str]) -> dict[str, str]:
    """All folders that keys lie in, of unknown ETags."""
    return {key[:i]: "" for key in keys for i, letter in enumerate(key) if letter == "/"}


def _is_folder(headers: Mapping[str, str]) -> bool:
    """True for the answer of a directory, or of an empty blob that marks one."""
    is_marked = headers.get(f"x-ms-meta-{_FOLDER}", "").lower() == "true"
    return is_marked or headers.get("x-ms-resource-type") == "directory"


def _check_is_blob(headers: Mapping[str, str]) -> None:
    """Raise for the answer of a folder."""
    if _is_folder(headers):
        raise HttpStatusError(404, "a directory, not a blob", code="BlobNotFound")


def _refusal(status: int, body: bytes, headers: Mapping[str, str], url: str) -> HttpStatusError:
    """The error of an answer; one whose SAS has expired says so, whatever the service's own words."""
    error = xml_error(status, body, headers)
    if status in (401, 403) and has_expired(urlsplit(url).query):
        return HttpStatusError(status, f"the SAS has expired: {error.code}", code="ExpiredToken")
    return error


def _condition(expected: Expected) -> dict[str, str]:
    if expected is None:
        return {}
    return {"If-None-Match": "*"} if expected is ABSENT else {"If-Match": str(expected)}


def _options(fs: Any) -> dict[str, Any]:
    """Settings of one request of the client: sent once; a stall, not a long answer, is a failure."""
    given = {name: value for name, value in getattr(fs, "_timeout_kwargs", {}).items() if name != "timeout"}
    return {"retry_total": 0, "connection_timeout": 15, "read_timeout": 30, **given}


# Filesystems that are closed as below.
_closed_at_exit: weakref.WeakSet[Any] = weakref.WeakSet()


def _close_at_exit(fs: Any) -> None:
    """Close the client of a filesystem when the process ends, or the filesystem goes.

    adlfs does so by waiting for its loop, without end where that does not run any more: in a forked child, which has
    its parent's filesystems, too.
    """
    if fs in _closed_at_exit:
        return
    _closed_at_exit.add(fs)
    transport = fs.service_client._pipeline._transport
    if not getproxies() and getattr(transport, "session", None) is None:
        # Otherwise aiohttp looks for proxies in a thread, at each request: where those are all busy, for ever.
        transport._use_env_settings = False
    for finalizer in tuple(getattr(weakref.finalize, "_registry", ())):
        if (found := finalizer.peek()) is not None and found[0] is fs and found[1] is fsspec.asyn.sync:
            finalizer.detach()
    credential = fs.credential if hasattr(fs.credential, "close") else None
    weakref.finalize(fs, _close, fs.service_client, credential, fs.loop, os.getpid())


def _close(service: Any, credential: Any, loop: asyncio.AbstractEventLoop, pid: int) -> None:
    session = getattr(service._pipeline._transport, "session", None)
    if pid != os.getpid():
        if session is not None:
            forget_session(session)
    elif loop.is_running():

        async def close() -> None:
            await service.close()
            if credential is not None and inspect.isawaitable(closing := credential.close()):
                await closing

        closing = asyncio.run_coroutine_threadsafe(close(), loop)
        if running_loop() is not loop:
            with contextlib.suppress(TimeoutError):
                closing.result(1)


def _from_url(url: str, storage_options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
    try:
        from adlfs import AzureBlobFileSystem
    except ImportError as error:
        raise UnsupportedError('Azure needs adlfs: pip install "zarrdock[azure]"') from error
    names = ("account_name", "connection_string")
    known = any(storage_options.get(name) or os.environ.get(f"AZURE_STORAGE_{name.upper()}") for name in names)
    if not known and ".core." not in url and "::" not in url:
        raise UnsupportedError(
            f"{redact(url)} names no storage account: give account_name or connection_string in storage_options, set "
            "AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@account.dfs.core.windows.net/folder"
        )
    fs, path = from_url(url, storage_options)
    if not isinstance(fs, AzureBlobFileSystem):  # another library has taken the protocol
        fs = AzureBlobFileSystem(**{**AzureBlobFileSystem._get_kwargs_from_urls(url), **storage_options})
        path = fs._strip_protocol(url)
    return fs, path
