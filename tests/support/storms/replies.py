"""A web server that answers with whatever bytes it is given, for a store that must make sense of them."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import warnings
from typing import Final

from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Read
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.retry import RetryPolicy

__all__ = ["Replies"]

_HEADS: Final = (
    (b"200 OK", b'ETag: "abc"\r\n'),
    (b"200 OK", b"Transfer-Encoding: chunked\r\n"),
    (b"206 Partial Content", b'Content-Range: bytes 2-8/40\r\nETag: "abc"\r\n'),
    (b"206 Partial Content", b"Content-Range: bytes 36-39/*\r\n"),
    (b"404 Not Found", b""),
    (b"403 Forbidden", b"Content-Type: application/xml\r\n"),
    (b"416 Range Not Satisfiable", b"Content-Range: bytes */40\r\n"),
    (b"503 Slow Down", b"Retry-After: 1\r\n"),
    (b"302 Found", b"Location: /elsewhere\r\n"),
    (b"200 OK", b"Content-Encoding: gzip\r\n"),
)


class Replies:
    """The target: an input is a whole reply, status line and all. See :mod:`support.storms.targets`."""

    WANTED: Final[tuple[Range, ...]] = (None, Span(2, 9), From(30), Tail(4))

    def __init__(self) -> None:
        self._reply = b""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._serve, daemon=True, name="replies").start()
        port = self._socket.getsockname()[1]
        policy = RetryPolicy(attempts=1, deadline_seconds=2.0, attempt_seconds=2.0)
        self._store = HTTPStore(f"http://127.0.0.1:{port}/x", retry=policy)

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(2)
                request = b""
                while b"\r\n\r\n" not in request:
                    more = connection.recv(4096)
                    if not more:
                        break
                    request += more
                connection.sendall(self._reply)

    def seeds(self) -> list[bytes]:
        """One of each kind that a server may send."""
        found = []
        for status, headers in _HEADS:
            body = b"<Error><Code>AccessDenied</Code></Error>" if status.startswith(b"403") else bytes(range(65, 105))
            if b"bytes 2-8" in headers:
                body = body[2:9]
            elif b"bytes 36" in headers:
                body = body[36:]
            elif b"gzip" in headers:
                body = gzip.compress(bytes(2**20), mtime=0)
            if b"chunked" in headers:
                body = b"5\r\nABCDE\r\n23\r\n" + bytes(range(70, 105)) + b"\r\n0\r\n\r\n"
            else:
                headers += b"Content-Length: %d\r\n" % len(body)
            found.append(b"HTTP/1.1 " + status + b"\r\n" + headers + b"Connection: close\r\n\r\n" + body)
        return found

    def feed(self, data: bytes, number: int) -> None:
        """Ask for a range, and be answered ``data``."""
        self._reply = data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a server that ignores ranges
            self._store.read([Read("k", self.WANTED[number % len(self.WANTED)])])
