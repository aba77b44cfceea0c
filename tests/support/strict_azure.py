"""An in-process fake of Azure Blob Storage whose conditional writes are decided and applied in one step.

Written to the service's documentation: blobs with ETags, If-Match and If-None-Match, ranges that are bounded or open
but never counted from the end, metadata, flat and hierarchical listings, batches of deletions. It checks no signatures.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from support.loopback import LoopbackServer

if TYPE_CHECKING:
    from aiohttp import web
    from obstore.store import AzureStore

__all__ = ["StrictAzure"]

_DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class _Blob:
    data: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)


class StrictAzure(LoopbackServer):
    """See the module. ``blobs`` maps names in the one container, ``c``, to blobs; ``log`` has method and range of each
    request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, _Blob] = {}
        self.log: list[tuple[str, str]] = []
        self._etags = itertools.count(1)

    def store(self, prefix: str = "", account: str = "acc") -> AzureStore:
        """A store of obstore's on a prefix of the container."""
        from obstore.store import AzureStore

        return AzureStore(
            container_name="c",
            account_name=account,
            prefix=prefix or None,
            endpoint=self.url,
            account_key="a2V5",
            client_options={"allow_http": True},
        )

    def put(self, name: str, data: bytes) -> None:
        """Store a blob past the protocol."""
        self.blobs[name] = _Blob(data, f'"0x{next(self._etags):X}"')

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await self.body(request)  # everything after this line happens in one step of the loop
        parts = urlsplit(request.raw_path)
        name = unquote(parts.path).lstrip("/").partition("/")[2]
        wanted = request.headers.get("Range") or request.headers.get("x-ms-range") or ""
        self.log.append((request.method, wanted))
        if request.method == "POST":
            return self._batch(body.decode())
        if not name:
            return self._list({key: values[0] for key, values in parse_qs(parts.query).items()})
        blob = self.blobs.get(name)
        if request.method in ("GET", "HEAD"):
            return self._get(request, blob, wanted)
        match, none = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        if match is not None and (blob is None or blob.etag != match):
            return _refused(412, "ConditionNotMet")
        if none == "*" and blob is not None:
            return _refused(409, "BlobAlreadyExists")
        if request.method == "PUT":
            metadata = {k[10:].lower(): v for k, v in request.headers.items() if k.lower().startswith("x-ms-meta-")}
            new = self.blobs[name] = _Blob(body, f'"0x{next(self._etags):X}"', metadata)
            return _answer(201, new)
        if request.method == "DELETE":
            return _refused(404, "BlobNotFound") if self.blobs.pop(name, None) is None else _answer(202)
        return _refused(400, "UnsupportedHttpVerb")

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

    def _batch(self, body: str) -> web.Response:
        """Delete many blobs."""
        from aiohttp import web

        answers = []
        for i, name in enumerate(re.findall(r"^DELETE /c/(\S+) HTTP/1.1", body, re.MULTILINE)):
            gone = self.blobs.pop(unquote(urlsplit(name).path), None)
            status = "202 Accepted" if gone is not None else "404 The specified blob does not exist."
            code = "" if gone is not None else "x-ms-error-code: BlobNotFound\r\n"
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {i}\r\n\r\nHTTP/1.1 {status}\r\n{code}"
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
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if found:
                folder = escape(prefix + head + delimiter)
                rows[folder] = f"<BlobPrefix><Name>{folder}</Name></BlobPrefix>"
            else:
                blob = self.blobs[name]
                rows[name] = (
                    f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{_DATE}</Last-Modified>"
                    f"<Etag>{escape(blob.etag)}</Etag><Content-Length>{len(blob.data)}</Content-Length>"
                    "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
                )
        text = f'<?xml version="1.0"?><EnumerationResults><Blobs>{"".join(rows.values())}</Blobs></EnumerationResults>'
        return web.Response(text=text, content_type="application/xml")


def _refused(status: int, code: str) -> web.Response:
    from aiohttp import web

    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml", headers={"x-ms-error-code": code})


def _answer(
    status: int, blob: _Blob | None = None, data: bytes = b"", content_range: str = "", *, is_head: bool = False
) -> web.Response:
    from aiohttp import web

    headers = {"Last-Modified": _DATE, **({"Content-Range": content_range} if content_range else {})}
    if blob is not None:
        headers |= {"ETag": blob.etag, **{f"x-ms-meta-{name}": text for name, text in blob.metadata.items()}}
    if is_head:
        return web.Response(status=status, headers={**headers, "Content-Length": str(len(data))})
    return web.Response(status=status, headers=headers, body=data)
