"""An in-process fake of S3 whose conditional writes are decided and applied in one step.

Written to the service's documentation, for the tests of concurrent writers: a fake that checks the condition and
stores the object in two steps would lose updates by itself. It knows the calls a store needs and nothing else: GET and
HEAD of objects with Range and If-Match, PUT and DELETE with If-Match and If-None-Match, ListObjectsV2, DeleteObjects,
CreateBucket. It checks no signatures.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from support.loopback import LoopbackServer

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["StrictS3"]


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        self.status, self.code, self.message, self.headers = status, code, message or code, headers or {}


class StrictS3(LoopbackServer):
    """See the module. ``buckets`` maps a bucket's name to its objects and may be looked into; ``n_lost_races`` counts
    the 412s and 409s given.
    """

    def __init__(self, *buckets: str) -> None:
        super().__init__()
        self.buckets: dict[str, dict[str, _Object]] = {name: {} for name in buckets}
        self.n_lost_races = 0

    @property
    def storage_options(self) -> dict[str, Any]:
        """Storage options for s3fs."""
        return {
            "key": "test",
            "secret": "test",
            "endpoint_url": self.url,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object past the protocol, under any name."""
        self.buckets[bucket][key] = _Object(data, _etag(data))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        from aiohttp import web

        body = await self.body(request)  # everything after this line happens in one step of the loop
        try:
            return self._dispatch(request, body)
        except _Refused as error:
            text = f"<?xml version='1.0'?><Error><Code>{error.code}</Code>"
            text += f"<Message>{escape(error.message)}</Message></Error>"
            if request.method == "HEAD":
                return web.Response(status=error.status, headers=error.headers)
            return web.Response(status=error.status, text=text, content_type="application/xml", headers=error.headers)

    def _dispatch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        from aiohttp import web

        parts = urlsplit(request.raw_path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if not key and request.method == "PUT":
            self.buckets.setdefault(bucket, {})
            return web.Response(status=200)
        if bucket not in self.buckets:
            raise _Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        objects = self.buckets[bucket]
        match request.method, bool(key):
            case "GET", False if "list-type" in query:
                return self._list(bucket, objects, query)
            case "HEAD", False:
                return web.Response(status=200)
            case "POST", False if "delete" in query:
                return self._delete_many(objects, body)
            case (("GET" | "HEAD"), True):
                return self._get(request, objects, key)
            case "PUT", True:
                return self._put(request, objects, key, body)
            case "DELETE", True:
                self._check(request, objects.get(key))
                objects.pop(key, None)
                return web.Response(status=204)
        raise _Refused(501, "NotImplemented", f"{request.method} {request.raw_path}")

    def _check(self, request: web.BaseRequest, old: _Object | None) -> None:
        """The conditions of a mutation."""
        wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        if wanted is not None and old is None:
            raise _Refused(404, "NoSuchKey")
        stale = wanted is not None and old is not None and wanted not in ("*", old.etag)
        if stale or (unwanted == "*" and old is not None):
            self.n_lost_races += 1
            raise _Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")

    def _get(self, request: web.BaseRequest, objects: dict[str, _Object], key: str) -> web.Response:
        from aiohttp import web

        found = objects.get(key)
        if found is None:
            raise _Refused(404, "NoSuchKey", "The specified key does not exist.")
        if request.headers.get("If-Match", found.etag) not in ("*", found.etag):
            raise _Refused(412, "PreconditionFailed")
        headers = {
            "ETag": found.etag,
            "Accept-Ranges": "bytes",
            **{f"x-amz-meta-{k}": v for k, v in found.metadata.items()},
        }
        data, status = found.data, 200
        if wanted := request.headers.get("Range"):
            start, stop = _span(wanted, len(data))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        if request.method == "HEAD":
            return web.Response(status=status, headers={**headers, "Content-Length": str(len(data))})
        return web.Response(status=status, headers=headers, body=data)

    def _put(self, request: web.BaseRequest, objects: dict[str, _Object], key: str, body: bytes) -> web.Response:
        from aiohttp import web

        if "aws-chunked" in request.headers.get("Content-Encoding", "") or "uploadId" in request.query:
            raise _Refused(501, "NotImplemented", "only plain single-request uploads")
        self._check(request, objects.get(key))
        metadata = {k[11:].lower(): v for k, v in request.headers.items() if k.lower().startswith("x-amz-meta-")}
        made = objects[key] = _Object(body, _etag(body), metadata)
        return web.Response(status=200, headers={"ETag": made.etag})

    def _delete_many(self, objects: dict[str, _Object], body: bytes) -> web.Response:
        from aiohttp import web

        request = ET.fromstring(body)
        names = [element.text for element in request.iter() if element.tag.endswith("Key") and element.text]
        for name in names:
            objects.pop(name, None)
        quiet = any(element.tag.endswith("Quiet") and element.text == "true" for element in request.iter())
        told = "" if quiet else "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        return web.Response(status=200, text=f"<DeleteResult>{told}</DeleteResult>", content_type="application/xml")

    def _list(self, bucket: str, objects: dict[str, _Object], query: dict[str, str]) -> web.Response:
        from aiohttp import web

        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        limit = min(int(query.get("max-keys", "1000")), 1000)
        rows: dict[str, str] = {}  # in order; a common prefix counts as one row
        token = ""
        for key in sorted(objects):
            if not key.startswith(prefix):
                continue
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            name = prefix + head + delimiter if found else key
            if name <= after or name in rows:
                continue
            if len(rows) == limit:
                token = next(reversed(rows))
                break
            shown = quote(name, safe="/") if query.get("encoding-type") == "url" else escape(name)
            rows[name] = (
                f"<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>"
                if found
                else f"<Contents><Key>{shown}</Key><ETag>{escape(objects[key].etag)}</ETag>"
                f"<Size>{len(objects[key].data)}</Size><LastModified>{_LAST_MODIFIED}</LastModified></Contents>"
            )
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        text = (
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name>{encoding}"
            f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{''.join(rows.values())}</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")


_LAST_MODIFIED = "2025-01-01T00:00:00.000Z"  # the fake keeps no times


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _span(header: str, size: int) -> tuple[int, int]:
    """The half-open span of a Range header with one range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or not (match[1] or match[2]):
        raise _Refused(400, "InvalidArgument", header)
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    stop = min(size, int(match[2]) + 1) if match[1] and match[2] else size
    if start >= stop:
        raise _Refused(
            416, "InvalidRange", "The requested range is not satisfiable", {"Content-Range": f"bytes */{size}"}
        )
    return start, stop
