"""An in-process fake of Google Cloud Storage's JSON API that honours every generation precondition, decided and
applied in one step.

Written to the service's documentation: the emulator that the tests use otherwise ignores ``ifGenerationMatch`` on GET
and DELETE. It knows media download with Range, metadata, multipart upload, deletion, listing and making a bucket. It
checks no credentials.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from support.loopback import LoopbackServer

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["StrictGCS", "StrictGCSByXML"]


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    generation: int
    metadata: dict[str, str] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


_Objects: TypeAlias = dict[str, _Object]
_Query: TypeAlias = dict[str, str]
_OBJECT = re.compile(r"(?:/download|/upload)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?$")


class StrictGCS(LoopbackServer):
    """See the module. ``buckets`` maps a bucket's name to its objects and may be looked into; ``n_lost_races`` counts
    the 412s given.
    """

    def __init__(self, *buckets: str) -> None:
        super().__init__()
        self.buckets: dict[str, dict[str, _Object]] = {name: {} for name in buckets}
        self.n_lost_races = 0
        self._generations = itertools.count(1_700_000_000_000_000)

    @property
    def storage_options(self) -> dict[str, Any]:
        """Storage options for gcsfs."""
        return {"project": "test", "token": "anon", "endpoint_url": self.url}

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object past the protocol, under any name."""
        self.buckets[bucket][key] = _Object(data, next(self._generations))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        from aiohttp import web

        body = await self.body(request)  # everything after this line happens in one step of the loop
        try:
            return self._dispatch(request, body)
        except _Refused as error:
            return web.json_response({"error": {"code": error.status, "message": error.message}}, status=error.status)

    def _dispatch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        from aiohttp import web

        parts = urlsplit(request.raw_path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if request.method == "POST" and parts.path.rstrip("/") == "/storage/v1/b":
            name = json.loads(body)["name"]
            self.buckets.setdefault(name, {})
            return web.json_response({"kind": "storage#bucket", "name": name})
        match = _OBJECT.match(parts.path)
        if match is None:
            raise _Refused(501, f"{request.method} {parts.path}")
        bucket, key = unquote(match[1]), unquote(match[2] or "")
        if bucket not in self.buckets:
            raise _Refused(404, "The specified bucket does not exist.")
        objects = self.buckets[bucket]
        match request.method, bool(key):
            case "POST", False if query.get("uploadType") == "multipart":
                return self._upload(bucket, objects, query, request.headers.get("Content-Type", ""), body)
            case "GET", False:
                return self._list(bucket, objects, query)
            case "GET", True:
                return self._get(request, bucket, objects, key, query)
            case "DELETE", True:
                self._found(objects, key, query)
                del objects[key]
                return web.Response(status=204)
        raise _Refused(501, f"{request.method} {parts.path}")

    def _refuse_stale(self, query: _Query, generation: int) -> None:
        if int(query.get("ifGenerationMatch", generation)) != generation:
            self.n_lost_races += 1
            raise _Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def _found(self, objects: _Objects, key: str, query: _Query) -> _Object:
        found = objects.get(key)
        if found is None or int(query.get("generation", found.generation)) != found.generation:
            raise _Refused(404, f"No such object: {key}")
        self._refuse_stale(query, found.generation)
        return found

    def _get(self, request: web.BaseRequest, bucket: str, objects: _Objects, key: str, query: _Query) -> web.Response:
        from aiohttp import web

        found = self._found(objects, key, query)
        if query.get("alt") != "media":
            return web.json_response(_resource(bucket, key, found))
        return _ranged(request, found, {"Content-Type": "application/octet-stream"})

    def _upload(self, bucket: str, objects: _Objects, query: _Query, content_type: str, body: bytes) -> web.Response:
        from aiohttp import web

        boundary = re.search(r'boundary="?([^";]+)', content_type)
        if boundary is None:
            raise _Refused(400, "no boundary")
        mark = b"--" + boundary[1].encode()
        start = body.index(mark) + len(mark)
        resource_end = body.index(b"\r\n" + mark, start)
        resource = json.loads(body[body.index(b"\r\n\r\n", start) : resource_end])
        data_start = body.index(b"\r\n\r\n", resource_end + 2 + len(mark)) + 4
        data = body[data_start : body.rindex(b"\r\n" + mark + b"--")]
        key = resource["name"]
        old = objects.get(key)
        self._refuse_stale(query, old.generation if old else 0)
        made = objects[key] = _Object(data, next(self._generations), resource.get("metadata", {}))
        return web.json_response(_resource(bucket, key, made))

    def _list(self, bucket: str, objects: _Objects, query: _Query) -> web.Response:
        from aiohttp import web

        prefix, delimiter, after = query.get("prefix", ""), query.get("delimiter", ""), query.get("pageToken", "")
        limit = min(int(query.get("maxResults", "1000")), 5000)
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        last = token = ""
        for key in sorted(k for k in objects if k.startswith(prefix)):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            name = prefix + head + delimiter if found else key
            if name <= after or name == last:
                continue
            if len(items) + len(prefixes) == limit:
                token = last
                break
            last = name
            if found:
                prefixes.append(name)
            else:
                items.append(_resource(bucket, key, objects[key]))
        page = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
        return web.json_response({**page, "nextPageToken": token} if token else page)


def _resource(bucket: str, key: str, found: _Object) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "name": key,
        "bucket": bucket,
        "size": str(len(found.data)),
        "generation": str(found.generation),
        "metadata": found.metadata,
    }


def _ranged(request: web.BaseRequest, found: _Object, headers: dict[str, str]) -> web.Response:
    from aiohttp import web

    size = len(found.data)
    headers |= {"x-goog-generation": str(found.generation), "x-goog-stored-content-length": str(size)}
    wanted = request.headers.get("Range")
    if wanted is None:
        return web.Response(status=200, headers=headers | {"Content-Length": str(size)}, body=found.data)
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if match is None or not (match[1] or match[2]):
        raise _Refused(400, wanted)
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    stop = min(size, int(match[2]) + 1) if match[1] and match[2] else size
    if start >= stop:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return web.Response(status=206, headers=headers, body=found.data[start:stop])


class StrictGCSByXML(StrictGCS):
    """The service's XML API, which obstore speaks: GET, HEAD, PUT and DELETE of an object, and listing in pages."""

    def obstore(self, folder: Path, prefix: str) -> Any:
        """An obstore store in the first bucket; a file with its credentials, which are none, is written to a folder."""
        from obstore.store import GCSStore

        account = {"gcs_base_url": self.url, "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        path = folder / "account.json"
        path.write_text(json.dumps(account))
        bucket, allow_http = next(iter(self.buckets)), {"allow_http": True}
        return GCSStore(bucket, prefix=prefix, service_account=str(path), client_options=allow_http)  # type: ignore[arg-type]

    def _dispatch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        from aiohttp import web

        parts = urlsplit(request.raw_path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, key = (unquote(part) for part in parts.path.lstrip("/").partition("/"))
        objects = self.buckets.get(bucket)
        if objects is None:
            raise _Refused(404, "NoSuchBucket")
        old = objects.get(key)
        generation = old.generation if old else 0
        self._refuse_stale(
            {"ifGenerationMatch": request.headers.get("x-goog-if-generation-match", str(generation))}, generation
        )
        if request.method == "GET" and not key:
            return self._page(objects, query)
        if request.method == "PUT":
            metadata = {name[12:]: value for name, value in request.headers.items() if name.startswith("x-goog-meta-")}
            made = objects[key] = _Object(body, next(self._generations), metadata)
            return web.Response(headers=_tags_of(made))
        if old is None:
            raise _Refused(404, "NoSuchKey")
        if request.method == "DELETE":
            del objects[key]
            return web.Response(status=204)
        if request.headers.get("If-Match", _tags_of(old)["ETag"]) != _tags_of(old)["ETag"]:
            self.n_lost_races += 1
            raise _Refused(412, "PreconditionFailed")
        return _ranged(request, old, _tags_of(old))

    def _page(self, objects: _Objects, query: _Query) -> web.Response:
        from aiohttp import web

        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        limit = min(int(query.get("max-keys", "1000")), 1000)
        lines: list[str] = []
        last = token = ""
        for key in sorted(k for k in objects if k.startswith(prefix)):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key[len(prefix) :], "", "")
            name = prefix + head + found
            if name <= after or name == last:
                continue
            if len(lines) == limit:
                token = last
                break
            last = name
            one, tag = objects[key], _tags_of(objects[key])["ETag"]
            lines.append(
                f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                if found
                else f"<Contents><Key>{escape(name)}</Key><Size>{len(one.data)}</Size><ETag>{tag}</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        text = f"<ListBucketResult><IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{''.join(lines)}"
        return web.Response(text=f"{text}</ListBucketResult>", content_type="application/xml")


def _tags_of(found: _Object) -> dict[str, str]:
    return {
        "ETag": f'"{found.generation:x}"',
        "x-goog-generation": str(found.generation),
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        **{f"x-goog-meta-{name}": value for name, value in found.metadata.items()},
    }
