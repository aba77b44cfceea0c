"""An in-process fake of Azure Blob Storage whose conditional writes are decided and applied in one step.

Written to the service's documentation: blobs with ETags, If-Match and If-None-Match, ranges that are bounded or open
but never counted from the end, metadata under names that are identifiers, blobs put together of blocks, flat and
hierarchical listings in pages, batches of deletions, and, where it is asked for, a hierarchical namespace, in which
directories exist by themselves. It checks no signatures.
"""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from support.loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from obstore.store import AzureStore

__all__ = ["StrictAzure", "connection_string"]

_DATE = "Wed, 01 Jan 2025 00:00:00 GMT"
_KEY = base64.b64encode(b"key").decode()


def connection_string(url: str, account: str, key: str) -> str:
    """Connection string of an account: all that a client needs to know, in Azure's own form."""
    scheme = urlsplit(url).scheme
    return f"DefaultEndpointsProtocol={scheme};AccountName={account};AccountKey={key};BlobEndpoint={url};"


@dataclass(frozen=True, slots=True)
class _Blob:
    data: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)
    is_directory: bool = False


class StrictAzure(LoopbackServer):
    """See the module. ``blobs`` maps names in the one container to blobs; ``log`` has method and range of each request.

    Args:
        bucket: name of the container.
        hierarchical: the account has a hierarchical namespace: directories are made with the blobs in them, and stay.
    """

    page_size = 1000

    def __init__(self, bucket: str = "c", *, hierarchical: bool = False) -> None:
        super().__init__()
        self.bucket = bucket
        self.hierarchical = hierarchical
        self.blobs: dict[str, _Blob] = {}
        self.log: list[tuple[str, str]] = []
        self._blocks: dict[str, dict[str, bytes]] = {}
        self._etags = itertools.count(1)

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options of adlfs for this server."""
        return {"connection_string": connection_string(self.url, "acc", _KEY)}

    def store(self, prefix: str = "", account: str = "acc") -> AzureStore:
        """A store of obstore's on a prefix of the container."""
        from obstore.store import AzureStore

        return AzureStore(
            container_name=self.bucket,
            account_name=account,
            prefix=prefix or None,
            endpoint=self.url,
            account_key=_KEY,
            client_options={"allow_http": True},
        )

    def put(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> _Blob:
        """Store a blob past the protocol."""
        if self.hierarchical:
            for i, letter in enumerate(name):
                if letter == "/":
                    self.blobs.setdefault(name[:i], _Blob(b"", self._etag(), is_directory=True))
        new = self.blobs[name] = _Blob(data, self._etag(), dict(metadata or {}))
        return new

    def _etag(self) -> str:
        return f'"0x{next(self._etags):X}"'

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await self.body(request)  # everything after this line happens in one step of the loop
        parts = urlsplit(request.raw_path)
        container, _, name = unquote(parts.path).lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        wanted = request.headers.get("x-ms-range") or request.headers.get("Range") or ""
        self.log.append((request.method, wanted))
        if "x-ms-version" not in request.headers and "sv" not in query:
            return _refused(400, "MissingRequiredHeader")
        if container != self.bucket:
            return _refused(404, "ContainerNotFound")
        if query.get("restype") == "account":
            return _answer(200, headers={"x-ms-is-hns-enabled": str(self.hierarchical).lower()})
        if request.method == "POST":
            return self._batch(body.decode())
        if not name:
            return self._list(query)
        blob = self.blobs.get(name)
        if request.method in ("GET", "HEAD"):
            return self._get(request, blob, wanted)
        if query.get("comp") == "block":
            self._blocks.setdefault(name, {})[query["blockid"]] = body
            return _answer(201)
        if blob is not None and blob.is_directory and request.method == "PUT":
            return _refused(409, "ResourceTypeMismatch")
        match, none = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        if match is not None and (blob is None or blob.etag != match):
            return _refused(412, "ConditionNotMet")
        if none == "*" and blob is not None:
            return _refused(409, "BlobAlreadyExists")
        if request.method == "PUT":
            return self._put(request, name, query, body)
        if request.method == "DELETE":
            status, code = self._delete(name)
            return _refused(status, code) if code else _answer(status)
        return _refused(400, "UnsupportedHttpVerb")

    def _put(self, request: web.BaseRequest, name: str, query: Mapping[str, str], body: bytes) -> web.Response:
        metadata = {k[10:]: v for k, v in request.headers.items() if k.lower().startswith("x-ms-meta-")}
        if any(not re.fullmatch(r"[A-Za-z_]\w*", key) for key in metadata):
            return _refused(400, "InvalidMetadata")
        if query.get("comp") == "blocklist":
            staged = self._blocks.pop(name, {})
            body = b"".join(staged[block] for block in re.findall("<Latest>(.*?)</Latest>", body.decode()))
        elif request.headers.get("x-ms-blob-type") != "BlockBlob":
            return _refused(400, "MissingRequiredHeader")
        return _answer(201, self.put(name, body, {key.lower(): text for key, text in metadata.items()}))

    def _get(self, request: web.BaseRequest, blob: _Blob | None, wanted: str) -> web.Response:
        if blob is None:
            return _refused(404, "BlobNotFound")
        if request.headers.get("If-Match", blob.etag) != blob.etag:
            return _refused(412, "ConditionNotMet")
        data, status, content_range = blob.data, 200, ""
        if wanted:
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            if match is None:
                return _refused(400, "InvalidHeaderValue")
            start, stop = int(match[1]), min(len(data), int(match[2]) + 1 if match[2] else len(data))
            if start >= stop:
                return _refused(416, "InvalidRange")
            content_range = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        return _answer(status, blob, data, content_range, is_head=request.method == "HEAD")

    def _delete(self, name: str) -> tuple[int, str]:
        """Status and code of a deletion."""
        blob = self.blobs.get(name)
        if blob is None:
            return 404, "BlobNotFound"
        if blob.is_directory and any(other.startswith(f"{name}/") for other in self.blobs):
            return 409, "DirectoryIsNotEmpty"
        del self.blobs[name]
        return 202, ""

    def _batch(self, body: str) -> web.Response:
        """Delete many blobs."""
        from aiohttp import web

        answers = []
        for i, name in enumerate(re.findall(rf"^DELETE /{self.bucket}/(\S+) HTTP/1.1", body, re.MULTILINE)):
            status, code = self._delete(unquote(urlsplit(name).path))
            code = code and f"x-ms-error-code: {code}\r\n"
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {i}\r\n\r\nHTTP/1.1 {status} -\r\n{code}"
                "x-ms-request-id: 1\r\nx-ms-version: 2023-11-03\r\n\r\n"
            )
        text = "".join(answers) + "--batch--\r\n"
        return web.Response(status=202, body=text.encode(), headers={"Content-Type": "multipart/mixed; boundary=batch"})

    def _list(self, query: dict[str, str]) -> web.Response:
        from aiohttp import web

        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        rows: dict[str, str] = {}
        for name in sorted(self.blobs):
            if not name.startswith(prefix):
                continue
            blob = self.blobs[name]
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if found or (delimiter and blob.is_directory):
                folder = prefix + head + delimiter
                rows[folder] = f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>"
            else:
                rows[name] = self._row(name, blob, query)
        names = [name for name in sorted(rows) if name >= query.get("marker", "")]
        n = int(query.get("maxresults", self.page_size))
        marker = f"<NextMarker>{escape(names[n])}</NextMarker>" if len(names) > n else "<NextMarker />"
        text = "".join(rows[name] for name in names[:n])
        document = f'<?xml version="1.0"?><EnumerationResults><Blobs>{text}</Blobs>{marker}</EnumerationResults>'
        return web.Response(text=document, content_type="application/xml")

    def _row(self, name: str, blob: _Blob, query: Mapping[str, str]) -> str:
        kind = "directory" if blob.is_directory else "file"
        resource = f"<ResourceType>{kind}</ResourceType>" if self.hierarchical else ""
        shown = blob.metadata.items() if query.get("include") == "metadata" else ()
        metadata = "".join(f"<{key}>{escape(text)}</{key}>" for key, text in shown)
        return (
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{_DATE}</Last-Modified>"
            f"<Etag>{blob.etag.strip(chr(34))}</Etag>{resource}<Content-Length>{len(blob.data)}</Content-Length>"
            f"<Content-Type>application/octet-stream</Content-Type></Properties><Metadata>{metadata}</Metadata></Blob>"
        )


def _refused(status: int, code: str) -> web.Response:
    from aiohttp import web

    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml", headers={"x-ms-error-code": code})


def _answer(
    status: int,
    blob: _Blob | None = None,
    data: bytes = b"",
    content_range: str = "",
    *,
    is_head: bool = False,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    from aiohttp import web

    headers = {"Last-Modified": _DATE, **({"Content-Range": content_range} if content_range else {}), **(headers or {})}
    if blob is not None:
        headers |= {"ETag": blob.etag, **{f"x-ms-meta-{name}": text for name, text in blob.metadata.items()}}
        if blob.is_directory:
            headers |= {"x-ms-resource-type": "directory", "x-ms-meta-hdi_isfolder": "true"}
    if is_head:
        return web.Response(status=status, headers={**headers, "Content-Length": str(len(data))})
    return web.Response(status=status, headers=headers, body=data)
