"""A proxy that misbehaves on purpose, and counts what passes through it.

It stands between a client and a service (moto, the GCS emulator, a strict fake, any HTTP server) and does what
networks and overloaded services do: refuse, stall, cut short, answer for something else, or apply a write and lose
the reply.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from support.loopback import LoopbackServer

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web

__all__ = ["Fault", "FaultKind", "FaultProxy", "Seen", "n_rounds"]

FaultKind: TypeAlias = Literal[
    "status", "delay", "stall", "truncate", "reset", "lost_reply", "ignore_range", "short_206"
]

_S3_CODES = {
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
_AZURE_CODES = {
    403: "AuthorizationPermissionMismatch",
    404: "BlobNotFound",
    409: "BlobAlreadyExists",
    412: "ConditionNotMet",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}
# Belong to one connection, or are made anew for the forwarded body.
_HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect", "date", "server"}
)


@dataclass(slots=True)
class Fault:
    """A fault: its kind, the requests it hits, and how often.

    Attributes:
        kind: ``status`` answers with ``status``, and with the service's word ``code`` for it; ``delay`` waits
            ``seconds`` first; ``stall`` sends half the body and then nothing for ``seconds``;
            ``truncate`` promises the whole body, sends half and closes; ``reset`` closes without an answer;
            ``lost_reply`` lets the service do it, then closes without an answer; ``ignore_range`` drops the Range
            header; ``short_206`` answers half of the range.
        method, path: regular expressions, matched against the whole method and searched in the path with its query.
        times: how many requests it hits; None is all of them.
        skip: how many matching requests pass before it begins.
    """

    kind: FaultKind
    status: int = 503
    code: str = ""
    seconds: float = 0.0
    method: str = ".*"
    path: str = ""
    times: int | None = 1
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that passed, as the client sent it. ``status`` is 0 where the client got no answer; ``fault`` is ""
    where nothing was done to it; ``began`` and ``ended`` are seconds of ``time.monotonic``.
    """

    method: str
    path: str
    range: str
    if_match: str
    status: int
    fault: str
    began: float = 0.0
    ended: float = 0.0


def n_rounds(log: Sequence[Seen]) -> int:
    """Round trips, one after another, that the requests of a log took: the longest chain of requests of which each
    began when the one before had been answered. A request must take longer than sending a round of them: let the proxy
    delay each.
    """
    n, answered = 0, float("-inf")
    for seen in sorted(log, key=lambda seen: seen.ended):
        if seen.began >= answered:
            n, answered = n + 1, seen.ended
    return n


class FaultProxy(LoopbackServer):
    """See the module. ``log`` holds every request; ``most_at_once`` is how many were under way together at most;
    ``faults`` may be changed at any time through :meth:`inject` and :meth:`clear`.

    Args:
        upstream: URL of the service.
        dialect: in whose words a ``status`` fault speaks.
    """

    def __init__(self, upstream: str, dialect: Literal["s3", "gcs", "azure", "http"] = "s3") -> None:
        super().__init__()
        # An account of Azure may be a folder of its server; the client names it by itself.
        self.upstream = upstream.rstrip("/") if dialect != "azure" else "/".join(upstream.split("/")[:3])
        self.dialect = dialect
        self.log: list[Seen] = []
        self.most_at_once = 0
        self._n_under_way = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._session: aiohttp.ClientSession | None = None

    def inject(self, *faults: Fault) -> None:
        """Add faults; of several that match a request the first added acts."""
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Forget the faults and the log."""
        with self._lock:
            self._faults.clear()
            self.log.clear()
            self.most_at_once = self._n_under_way

    def sent(self) -> list[tuple[str, int]]:
        """Method and status of every request since the last :meth:`clear`, which this does, too."""
        log = [(seen.method, seen.status) for seen in self.log]
        self.clear()
        return log

    async def on_start(self) -> None:
        """Open the connections to the service."""
        import aiohttp

        # Bodies pass as they are, and no connection is kept: a service that is restarted between tests must not leave
        # dead ones behind.
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))

    async def on_stop(self) -> None:
        """Close them."""
        if self._session is not None:
            await self._session.close()

    def _next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times == 0 or not re.fullmatch(fault.method, method) or not re.search(fault.path, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward one request, or spoil it."""
        from aiohttp import web

        path = request.raw_path
        fault = self._next_fault(request.method, path)
        kind = fault.kind if fault else ""
        began = time.monotonic()
        self._n_under_way += 1
        self.most_at_once = max(self.most_at_once, self._n_under_way)
        try:
            response, status = await self._answer(request, await self.body(request), fault)
        except ConnectionError:  # the client has gone; its next attempt is logged by itself
            response, status = None, 0
        finally:
            self._n_under_way -= 1
        with self._lock:
            headers = request.headers
            condition = headers.get("If-Match") or headers.get("If-None-Match") or ""
            self.log.append(
                Seen(
                    request.method,
                    path,
                    headers.get("x-ms-range") or headers.get("Range") or "",
                    condition,
                    status,
                    f"{kind} {fault.status}" if fault and kind == "status" else kind,
                    began,
                    time.monotonic(),
                )
            )
        if response is None:
            if request.transport is not None:
                # What was sent of a body is to arrive; a connection without an answer may as well be reset.
                request.transport.close() if status else request.transport.abort()
            return web.Response()  # goes nowhere
        return response

    async def _answer(
        self, request: web.BaseRequest, body: bytes, fault: Fault | None
    ) -> tuple[web.StreamResponse | None, int]:
        from aiohttp import web

        kind = fault.kind if fault else ""
        if fault and kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "reset":
            return None, 0
        if fault and kind == "status":
            return self._error(fault.status, fault.code), fault.status
        status, headers, data = await self._forward(request, body, drop_range=kind == "ignore_range")
        if kind == "lost_reply":
            return None, 0
        if kind == "short_206" and status == 206:
            data = data[: len(data) // 2]
            headers["Content-Range"] = _shorter(headers.get("Content-Range", ""), len(data))
        if kind not in ("truncate", "stall") or request.method == "HEAD":
            if request.method == "HEAD":
                return web.Response(status=status, headers=headers), status
            return web.Response(status=status, headers=headers, body=data), status
        half = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(data))})
        await half.prepare(request)
        await half.write(data[: len(data) // 2])
        if fault and kind == "stall":
            await asyncio.sleep(fault.seconds)
        return None, status

    async def _forward(
        self, request: web.BaseRequest, body: bytes, *, drop_range: bool
    ) -> tuple[int, dict[str, str], bytes]:
        import yarl

        dropped = _HOP_HEADERS | {"range", "x-ms-range"} if drop_range else _HOP_HEADERS
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        headers["Host"] = urlsplit(self.upstream).netloc
        assert self._session is not None
        url = yarl.URL(self.upstream + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            data = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_HEADERS}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                kept["Content-Length"] = answer.headers["Content-Length"]
            return answer.status, kept, data

    def _error(self, status: int, code: str) -> web.Response:
        from aiohttp import web

        if self.dialect == "gcs":
            message = code or f"injected {status}"
            return web.json_response({"error": {"code": status, "message": message}}, status=status)
        azure = self.dialect == "azure"
        code = code or (_AZURE_CODES if azure else _S3_CODES).get(status, "InternalError")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected {status}</Message></Error>"
        headers = {"x-ms-error-code": code} if azure else {}
        return web.Response(status=status, text=text, content_type="application/xml", headers=headers)


def _shorter(content_range: str, n: int) -> str:
    """The Content-Range of the first ``n`` bytes of what ``content_range`` describes."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(.+)", content_range)
    return f"bytes {match[1]}-{int(match[1]) + n - 1}/{match[3]}" if match else content_range
