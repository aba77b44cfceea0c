"""A lean lane for S3 reads: one GET through the connections of s3fs's own client, without botocore's machinery.

botocore spends about 2 ms of CPU on a request, which is more than everything else a read costs. What it makes of a
request hardly changes from one read of a bucket to the next, so it is asked once a bucket: the lane lets it prepare a
GET of a strange key, catches the request before it is sent, and makes the same request itself. Only if URL, headers
and signature come out equal to the last character is the lane used for this bucket. So every option of s3fs is either
honoured or noticed: endpoints, addressing styles, regions and requester-pays come out equal; customer keys, older
signatures, access points with signatures of their own and whatever else is unusual do not, and are left to s3fs.

Answers that ask for botocore's knowledge (redirects to another region, malformed requests) are left to it too. See
``docs/design/s3-lane.md``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession
from botocore.auth import S3SigV4Auth
from botocore.exceptions import FlexibleChecksumError
from yarl import URL

from zarrdock.stores.conditions import METADATA_NAME, Answer, Lineage
from zarrdock.stores.diagnose import xml_error
from zarrdock.stores.io_loop import Live, expect_bytes

__all__ = ["Lane"]

# Has in it what encodings of URLs differ in.
_PROBE_KEY = "zarrdock probe/ä+(1)~&=%*'!.@,;:$x"
_PROBE_RANGE = "bytes=0-1"
_PROBE_ETAG = '"0123"'
_EVENT = "before-send.s3.GetObject"
_EVENTS = (
    *(f"{event}.s3.GetObject" for event in ("provide-client-params", "before-parameter-build", "before-call")),
    *(f"{event}.s3.GetObject" for event in ("request-created", "choose-signer", "before-sign", "before-send")),
    *(f"{event}.s3.GetObject" for event in ("response-received", "before-parse", "needs-retry", "after-call")),
    "before-endpoint-resolution.s3",
)

# Made anew for each request.
_VOLATILE = {"range", "if-match", "x-amz-date", "x-amz-security-token", "authorization"}
# Not signed, and of no use here: for retries inside botocore, and against functions that call themselves by writing.
_DROPPED = {"amz-sdk-invocation-id", "amz-sdk-request", "x-amzn-trace-id", "accept-encoding"}
# What is the same for all requests of a bucket. Anything else may depend on the key.
_CONSTANT = {
    "user-agent",
    "x-amz-checksum-mode",
    "x-amz-content-sha256",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
}

_METADATA_HEADER = f"x-amz-meta-{METADATA_NAME}"
_LEFT_TO_S3FS = frozenset([400, *range(300, 400)]) - {304}

# Bodies shorter than this are read as they come.
_LONG_NBYTES = 2**20
# 64 KiB each 0.3 ms: 220 MB/s over one connection. Object stores give one a third of that.
_BUSY_SECONDS = 0.0003
_PAUSE_SECONDS = 0.001

# Other tasks use the same client meanwhile, and their requests are to be sent.
_probing: ContextVar[bool] = ContextVar("_probing", default=False)


class _Caught(Exception):
    """Carries the request that botocore was about to send."""

    def __init__(self, request: Any) -> None:
        super().__init__("caught before it was sent")
        self.request = request


class _Unsigned:
    """The part of a request that botocore's signer reads."""

    __slots__ = ("body", "context", "headers", "method", "params", "url")

    def __init__(self, url: str, headers: dict[str, str], timestamp: str) -> None:
        self.method = "GET"
        self.url = url
        self.headers = headers
        self.context = {"timestamp": timestamp}
        self.params: dict[str, str] = {}
        self.body = b""


def _sign(url: str, headers: dict[str, str], credentials: Any, region: str, service: str, timestamp: str) -> None:
    """Add the headers of a signature (version 4) to ``headers``, made by botocore's own signer."""
    headers["X-Amz-Date"] = timestamp
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    signer = S3SigV4Auth(credentials, service, region)
    request = _Unsigned(url, headers, timestamp)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"
    )


@dataclass(frozen=True, slots=True)
class _Route:
    """Route to the objects of a bucket: URL, signing, headers.

    Attributes:
        client: s3fs's client when this was found out; with another one it has to be found out again.
        prefix: URL of the bucket, up to the key.
        headers: those that are the same for every request.
        credentials: botocore's, which refresh themselves; None where requests are not signed.
    """

    client: object
    session: ClientSession
    prefix: str
    headers: dict[str, str]
    credentials: Any
    region: str
    service: str

    async def request(
        self, key: str, range_: str | None, etag: str | None, timestamp: str
    ) -> tuple[URL, dict[str, str]]:
        """URL and headers of a GET."""
        url = self.prefix + quote(key, safe="/~")
        headers = self.headers.copy()
        if range_ is not None:
            headers["Range"] = range_
        if etag is not None:
            headers["If-Match"] = etag
        if self.credentials is not None:
            frozen = await self.credentials.get_frozen_credentials()
            _sign(url, headers, frozen, self.region, self.service, timestamp)
        headers["Accept-Encoding"] = "identity"  # after signing, as aiobotocore adds it
        return URL(url, encoded=True), headers


class Lane:
    """GETs for one store. Used on the IO loop only; a pickled or forked one finds its routes anew."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._routes: dict[str, _Route | None] = {}
        self._finding: dict[str, asyncio.Lock] = {}

    def __reduce__(self) -> tuple[type[Lane], tuple[()]]:
        return Lane, ()

    async def get(self, live: Live, bucket: str, key: str, range_: str | None, etag: str | None) -> Answer | None:
        """One GET, with headers ``Range`` and ``If-Match`` where given; None where s3fs has to do it.

        Raises:
            HttpStatusError: the service said no. Otherwise what aiohttp raises.
        """
        route = self._routes.get(bucket)
        if route is None or self._live is not live or route.client is not live.fs._s3 or route.session.closed:
            route = await self._find(live, bucket)
            if route is None:
                return None
        url, headers = await route.request(key, range_, etag, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        async with route.session.get(url, headers=headers, allow_redirects=False) as response:
            found = response.headers
            length = found.get("Content-Length")
            nbytes = int(length) if length is not None and length.isdigit() else None
            if nbytes:
                expect_bytes(nbytes)
            status = response.status
            data = await _read_body(response, nbytes)
        if status in _LEFT_TO_S3FS:
            self._routes.pop(bucket, None)  # botocore may learn something from the answer
            return None
        if status >= 300:
            raise xml_error(status, data, found)
        if status == 200 and range_ is None:
            _verify(data, found)
        return Answer(
            data,
            found.get("ETag"),
            status,
            found.get("Content-Range"),
            nbytes,
            Lineage.parse(found.get(_METADATA_HEADER)),
        )

    async def _find(self, live: Live, bucket: str) -> _Route | None:
        if self._live is not live:
            self._live, self._routes, self._finding = live, {}, {}
        async with self._finding.setdefault(bucket, asyncio.Lock()):
            if bucket in self._routes:
                known = self._routes[bucket]
                if known is None or (known.client is live.fs._s3 and not known.session.closed):
                    return known
            try:
                route = await _find_route(live, bucket)
            except Exception:
                # s3fs says in its own words what is wrong, and next time it may be better.
                return None
            self._routes[bucket] = route
            return route


async def _find_route(live: Live, bucket: str) -> _Route | None:
    """Let botocore prepare a request, and see whether ours is the same; None where it is not."""
    await live.fs.set_session()
    client = await live.fs.get_s3(bucket)
    if _is_hooked(client):
        return None
    prepared = await _prepared_by_botocore(live, client, bucket)
    if prepared is None or prepared.method != "GET" or prepared.body:
        return None
    theirs = {name: value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()}
    low = {name.lower(): value for name, value in theirs.items()}
    ending = quote(_PROBE_KEY, safe="/~")
    if low.keys() - _VOLATILE - _DROPPED - _CONSTANT or not prepared.url.endswith("/" + ending):
        return None
    http = client._endpoint.http_session
    if http._proxy_config.proxy_url_for(prepared.url):
        return None
    session = await http._get_session(None)
    if not isinstance(session, ClientSession):
        return None
    headers = {name: value for name, value in theirs.items() if name.lower() in _CONSTANT}
    region, service, credentials = "", "", None
    if "authorization" in low:
        # AWS4-HMAC-SHA256 Credential=key/date/region/service/aws4_request, ...
        region, service = low["authorization"].split(", ")[0].split("/")[-3:-1]
        credentials = client._request_signer._credentials
        if credentials is None:
            return None
    prefix = prepared.url[: -len(ending)]
    route = _Route(live.fs._s3, session, prefix, headers, credentials, region, service)
    url, ours = await route.request(_PROBE_KEY, _PROBE_RANGE, _PROBE_ETAG, low.get("x-amz-date", ""))
    return route if str(url) == prepared.url and _same(ours, low) else None


def _is_hooked(client: Any) -> bool:
    """True if a listener other than botocore's is registered for GETs: it would miss direct ones.

    A listener that declares itself off (moto's, in every process that imported moto) misses nothing.
    """
    events = client.meta.events
    handlers = getattr(events, "_emitter", events)._handlers
    return any(
        getattr(handler, "__module__", "").partition(".")[0] not in ("botocore", "aiobotocore")
        and getattr(handler, "enabled", True)
        for event in _EVENTS
        for handler in handlers.prefix_search(event)
    )


async def _prepared_by_botocore(live: Live, client: Any, bucket: str) -> Any:
    def catch(request: Any, **_: Any) -> None:
        if _probing.get():
            raise _Caught(request)

    events, name = client.meta.events, f"zarrdock-{id(catch)}"  # other stores may be at the same client
    events.register_last(_EVENT, catch, name)
    token = _probing.set(True)
    try:
        answer = await live.fs._call_s3(
            "get_object", Bucket=bucket, Key=_PROBE_KEY, Range=_PROBE_RANGE, IfMatch=_PROBE_ETAG
        )
        answer["Body"].close()  # somebody answers requests without sending them
        return None
    except _Caught as caught:
        return caught.request
    finally:
        _probing.reset(token)
        events.unregister(_EVENT, catch, name)


def _same(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """True if our headers equal theirs, except for those we drop; names of ``theirs`` are in lower case."""
    mine = {name.lower(): value for name, value in ours.items() if name.lower() not in _DROPPED}
    return mine == {name: value for name, value in theirs.items() if name not in _DROPPED}


_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data).digest(),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


def _verify(data: bytes, headers: Any) -> None:
    """Hold a whole object against the checksum that came with it, as botocore does.

    Raises:
        FlexibleChecksumError: it is not what was stored.
    """
    for name, function in _CHECKSUMS.items():
        stored = headers.get(name)
        if stored is None or "-" in stored:  # that of an object written in parts is of the parts' checksums
            continue
        if (found := base64.b64encode(function(data)).decode()) != stored:
            raise FlexibleChecksumError(error_msg=f"{name}: expected {stored}, found {found}")
        return


# -- long bodies ------------------------------------------------------------------------------------------------------

# Bodies that share the processor all end at the same time, and only then is there anything to decode. Where the oldest
# one's bytes come faster than any service sends them, the machine is what is slow, and younger ones wait for it: the
# first is decoded while the next is read. Over a network that is slower than that, nothing waits for anything.


@dataclass(slots=True, eq=False)
class _Body:
    loop: object
    last: float


_bodies: list[_Body] = []  # oldest first, of all loops


async def _read_body(response: Any, nbytes: int | None) -> bytes:
    """The body of an aiohttp response of ``nbytes``, if that is known."""
    if nbytes is None or nbytes < _LONG_NBYTES:
        data: bytes = await response.read()
        return data
    me = _Body(asyncio.get_running_loop(), 0.0)
    _bodies.append(me)
    parts: list[bytes] = []
    try:
        while True:
            while _must_wait(me):  # noqa: ASYNC110 - until nothing happens: there is no event for that
                await asyncio.sleep(_PAUSE_SECONDS)
            part = await response.content.readany()
            if not part:
                return b"".join(parts)
            me.last = time.perf_counter()
            parts.append(part)
    finally:
        _bodies.remove(me)


def _must_wait(me: _Body) -> bool:
    """True if an older body of the same loop is being read as fast as this process can."""
    oldest = next(body for body in _bodies if body.loop is me.loop)
    return oldest is not me and time.perf_counter() - oldest.last < _BUSY_SECONDS
