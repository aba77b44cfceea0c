"""Direct reads from S3: one GET with the client's settings, without the machinery of botocore and aiohttp.

botocore spends about 2 ms of CPU on a request, which is more than everything else a read costs. What it makes of a
request hardly changes from one read of a bucket to the next, so it is asked once a bucket: this code lets it prepare a
GET of a strange key, catches the request before it is sent, and makes the same request itself. Only if URL, headers
and signature come out equal to the last character is it sent so for this bucket. So every option of s3fs is either
honoured or noticed: endpoints, addressing styles, regions and requester-pays come out equal; customer keys, older
signatures, access points with signatures of their own and whatever else is unusual do not, and are left to s3fs.

Answers that ask for botocore's knowledge (redirects to another region, malformed requests), and those that are not
understood, are left to it too. See ``docs/design/s3-direct-reads.md``.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import ssl
import time
import weakref
import zlib
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import ClientSession, TCPConnector
from botocore.exceptions import FlexibleChecksumError

from zarrdock.stores.conditions import METADATA_NAME, Answer, Lineage
from zarrdock.stores.diagnose import xml_error
from zarrdock.stores.http_connections import OddAnswerError, Origin
from zarrdock.stores.io_loop import Live, expect_bytes

__all__ = ["DirectReads"]

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

_BODY_HEADER = "x-amz-content-sha256"
_METADATA_HEADER = f"x-amz-meta-{METADATA_NAME}"  # as names of headers come, in lower case
_LEFT_TO_S3FS = frozenset([400, *range(300, 400)]) - {304}

# Other tasks use the same client meanwhile, and their requests are to be sent.
_probing: ContextVar[bool] = ContextVar("_probing", default=False)


class _Caught(Exception):
    """Carries the request that botocore was about to send."""

    def __init__(self, request: Any) -> None:
        super().__init__("caught before it was sent")
        self.request = request


def _sign(
    host: str, path: str, headers: dict[str, str], credentials: Any, region: str, service: str, timestamp: str
) -> None:
    """Add the headers of a signature (version 4) to ``headers``.

    botocore's own signer takes 0.1 ms; that this one signs like it is seen in each bucket's first request.
    """
    headers["X-Amz-Date"] = timestamp
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    lines = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    lines.pop("user-agent", None)
    lines["host"] = host
    names = sorted(lines)
    signed = ";".join(names)
    canonical = "\n".join(
        ["GET", path, "", *[f"{name}:{lines[name]}" for name in names], "", signed, lines.get(_BODY_HEADER, "")]
    )
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _signing_key(credentials.secret_key, scope)
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )


@functools.lru_cache(maxsize=16)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@dataclass(frozen=True, slots=True)
class _Route:
    """Route to the objects of a bucket: URL, signing, headers.

    Attributes:
        session: the client's; where it was closed, the route has to be found out again.
        origin: connections to the host of the bucket.
        prefix: URL of the bucket, up to the key.
        headers: those that are the same for every request.
        credentials: botocore's, which refresh themselves; None where requests are not signed.
    """

    session: ClientSession
    origin: Origin
    prefix: str
    headers: dict[str, str]
    credentials: Any
    region: str
    service: str

    async def request(
        self, key: str, range_: str | None, etag: str | None, timestamp: str | None = None
    ) -> tuple[str, dict[str, str]]:
        """URL and headers of a GET, signed at ``timestamp``, or now."""
        url = self.prefix + quote(key, safe="/~")
        headers = self.headers.copy()
        if range_ is not None:
            headers["Range"] = range_
        if etag is not None:
            headers["If-Match"] = etag
        if self.credentials is not None:
            frozen = await self.credentials.get_frozen_credentials()
            timestamp = timestamp or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            path = url[self.origin.begin :]
            _sign(self.origin.host, path, headers, frozen, self.region, self.service, timestamp)
        headers["Accept-Encoding"] = "identity"  # after signing, as aiobotocore adds it
        return url, headers


@dataclass(slots=True)
class _Known:
    """Routes by bucket and connections by scheme and host, of a client of s3fs: for all stores that use it."""

    routes: dict[str, _Route] = field(default_factory=dict)
    origins: dict[tuple[str, str], Origin] = field(default_factory=dict)


# Nothing in a value may hold its key.
_known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


class DirectReads:
    """GETs for one store. Used on the IO loop only; a pickled or forked one finds its routes anew."""

    def __init__(self) -> None:
        self._client: Any = None
        self._routes: dict[str, _Route | None] = {}
        self._finding: dict[str, asyncio.Lock] = {}

    def __reduce__(self) -> tuple[type[DirectReads], tuple[()]]:
        return DirectReads, ()

    async def get(self, live: Live, bucket: str, key: str, range_: str | None, etag: str | None) -> Answer | None:
        """One GET, with headers ``Range`` and ``If-Match`` where given; None where s3fs has to do it.

        Raises:
            HttpStatusError: the service said no. Otherwise what a connection raises.
        """
        route = self._routes.get(bucket)
        if route is None or self._client is not live.fs._s3 or route.session.closed:
            route = await self._find(live, bucket)
            if route is None:
                return None
        url, headers = await route.request(key, range_, etag)
        try:
            # What is told comes in the loop's own context.
            context = copy_context()
            reply = await route.origin.get(url, headers, lambda nbytes: context.run(expect_bytes, nbytes))
        except OddAnswerError:
            return None
        status, found = reply.status, reply.headers
        if status in _LEFT_TO_S3FS:
            self._routes.pop(bucket, None)  # botocore may learn something from the answer
            for known in _known.values():
                known.routes = {name: other for name, other in known.routes.items() if other is not route}
            return None
        if status >= 300:
            raise xml_error(status, reply.body, {"Retry-After": found.get("retry-after", "")})
        if status == 200 and range_ is None:
            _verify(reply.body, found)
        return Answer(
            reply.body,
            found.get("etag"),
            status,
            found.get("content-range"),
            reply.length,
            Lineage.parse(found.get(_METADATA_HEADER)),
        )

    async def _find(self, live: Live, bucket: str) -> _Route | None:
        try:
            client = await live.fs.set_session()
            if self._client is not client:
                self._client, self._routes, self._finding = client, {}, {}
            async with self._finding.setdefault(bucket, asyncio.Lock()):
                if bucket in self._routes:
                    known = self._routes[bucket]
                    if known is None or not known.session.closed:
                        return known
                self._routes[bucket] = route = await _find_route(live, bucket)
                return route
        except Exception:
            # s3fs says in its own words what is wrong, and next time it may be better.
            return None


async def _find_route(live: Live, bucket: str) -> _Route | None:
    """Let botocore prepare a request, and see whether ours is the same; None where it is not."""
    await live.fs.set_session()
    client = await live.fs.get_s3(bucket)
    if _is_hooked(client):
        return None
    known = _known.setdefault(client, _Known())
    if (route := known.routes.get(bucket)) is not None and not route.session.closed:
        return route
    prepared = await _prepared_by_botocore(live, client, bucket)
    if prepared is None or prepared.method != "GET" or prepared.body:
        return None
    theirs = {name: value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()}
    low = {name.lower(): value for name, value in theirs.items()}
    ending = quote(_PROBE_KEY, safe="/~")
    if low.keys() - _VOLATILE - _DROPPED - _CONSTANT or not prepared.url.endswith("/" + ending):
        return None
    http = client._endpoint.http_session
    if http._proxy_config.proxy_url_for(prepared.url) or http._connector_args.keys() - {"keepalive_timeout"}:
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
    scheme, netloc = urlsplit(prefix)[:2]
    if (origin := known.origins.get((scheme, netloc))) is None:
        origin = known.origins[scheme, netloc] = _origin(session, scheme, netloc)
    route = _Route(session, origin, prefix, headers, credentials, region, service)
    url, ours = await route.request(_PROBE_KEY, _PROBE_RANGE, _PROBE_ETAG, low.get("x-amz-date"))
    if url != prepared.url or not _same(ours, low):
        return None
    known.routes[bucket] = route
    return route


def _origin(session: ClientSession, scheme: str, netloc: str) -> Origin:
    """Connections of our own with the settings of s3fs's: certificates, time limits, number.

    Raises:
        ValueError: not all of them can be kept.
    """
    connector, times = session.connector, session.timeout
    if not isinstance(connector, TCPConnector):
        raise ValueError("connections of an unknown kind")
    context = connector._ssl if scheme == "https" else None
    if context is not None and not isinstance(context, ssl.SSLContext):
        raise ValueError("encryption of an unknown kind")
    return Origin(
        scheme,
        netloc,
        context,
        n_max=connector.limit or 2**31,
        connect_seconds=times.sock_connect,
        read_seconds=times.sock_read,
        idle_seconds=connector._keepalive_timeout or 0.0,
    )


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


_CHECKSUMS: dict[str, Callable[[bytes | bytearray], bytes]] = {
    "x-amz-checksum-crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data).digest(),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


def _verify(data: bytes | bytearray, headers: Any) -> None:
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
