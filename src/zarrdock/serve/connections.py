"""Bounds on connections: how many there are, and for how long each may be idle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Connections", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the time and connections a client may take of a server.

    Attributes:
        n_connections: open at one time; further ones are closed at once.
        request_seconds: from the beginning of a connection, or the end of an answer, to the end of the next request's
            header.
        write_seconds: for a client to take a piece (4 MiB) of a long answer.
        bytes_per_second: a client that takes a short answer more slowly is cut off.
        header_bytes: of the line a request begins with, and of each header.
    """

    n_connections: int = 256
    request_seconds: float = 30.0
    write_seconds: float = 60.0
    bytes_per_second: float = 10_000.0
    header_bytes: int = 8190


class Connections:
    """The open connections of a server, by their transports."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._guards: dict[Any, _Guard] = {}

    def protocol(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        """Wrap the protocol of a new connection in one that enforces the limits."""
        return _Guard(inner, self)

    def begin(self, transport: Any) -> None:
        """A request has come: the server's own time is not the client's fault."""
        if (guard := self._guards.get(transport)) is not None:
            guard.rest()

    def end(self, transport: Any, nbytes: int) -> None:
        """End a request: it is answered, and the client has to take the answer and send the next request."""
        if (guard := self._guards.get(transport)) is not None:
            guard.watch(self.limits.request_seconds + nbytes / self.limits.bytes_per_second)

    def add(self, transport: Any, guard: _Guard) -> bool:
        """False where there are too many."""
        if len(self._guards) >= self.limits.n_connections:
            return False
        self._guards[transport] = guard
        return True

    def remove(self, transport: Any) -> None:
        self._guards.pop(transport, None)


class _Guard(asyncio.Protocol):
    """Hands everything on, and cuts the connection when a client is too slow."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, seconds: float) -> None:
        self.rest()
        if self._transport is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        if not self._connections.add(transport, self):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)
        self.watch(self._connections.limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.rest()
        if self._transport is not None:
            self._connections.remove(self._transport)
            self._transport = None
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
