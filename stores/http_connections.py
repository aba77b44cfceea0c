"""GETs over kept connections: as much of HTTP/1.1 as a read of an object needs.

aiohttp takes 0.15 to 0.2 ms of CPU for a GET, most of it for what such a read has no use of: cookies, redirects,
proxies, traces, streams. Here a request is one buffer that is written, and a body of known length arrives where it
stays. Whoever uses it falls back to a whole client where an answer is odd.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohappyeyeballs

from zarrdock.stores.diagnose import TruncatedError

__all__ = ["OddAnswerError", "Origin", "Reply"]

_BUFFER_BYTES = 2**17
_MAX_HEAD_BYTES = 2**16
# A length that is only claimed is not believed beyond this: memory is taken as bytes come.
_MAX_CLAIMED_BYTES = 2**26
# Names are looked up again after this time, as by aiohttp.
_LOOKUP_SECONDS = 10.0
_TICK_SECONDS = 1.0

# Bodies that share the processor all end at the same time, and only then is there anything to decode. Where the oldest
# long one's bytes come faster than any service sends them, the machine is what is slow, and younger ones wait for it:
# the first is decoded while the next is read. Over a network that is slower than that, nothing waits for anything.
_LONG_BYTES = 2**20
_PART_BYTES = 2**16
# 64 KiB each 0.3 ms: 220 MB/s over one connection. Object stores give one a third of that.
_BUSY_SECONDS = 0.0003
_PAUSE_SECONDS = 0.001


class OddAnswerError(Exception):
    """Not the HTTP that is spoken here."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Names of headers are in lower case; ``length`` is what was announced."""

    status: int
    headers: dict[str, str]
    body: bytes | bytearray
    length: int | None


class Origin:
    """Connections to one host and port, kept for the next requests; for one event loop.

    Args:
        scheme, netloc: the beginning of a URL: ``https`` and ``host`` or ``host:port``.
        context: of TLS; None for plain connections.
        n_max: connections at most.
        connect_seconds, read_seconds: for a connection, and for the next bytes of an answer; None: no limit.
        idle_seconds: a connection that was not used for so long is closed.
    """

    def __init__(
        self,
        scheme: str,
        netloc: str,
        context: ssl.SSLContext | None,
        *,
        n_max: int,
        connect_seconds: float | None,
        read_seconds: float | None,
        idle_seconds: float,
    ) -> None:
        url = urlsplit(f"{scheme}://{netloc}")
        usual = {"http": 80, "https": 443}[scheme]
        if not url.hostname or "@" in netloc or not netloc.isascii():
            raise ValueError(f"not an address of a host: {netloc.rpartition('@')[2]!r}")
        self._host, self._port, self._context = url.hostname, url.port or usual, context
        name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        self.host = name if self._port == usual else f"{name}:{self._port}"  # as the header says it
        self.begin = len(f"{scheme}://{netloc}")  # of a path in a URL
        self._end = f" HTTP/1.1\r\nHost: {self.host}\r\nAccept: */*\r\n"
        self._turns = asyncio.Semaphore(n_max)
        self._connect_seconds, self._read_seconds, self._idle_seconds = connect_seconds, read_seconds, idle_seconds
        self._all: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._addresses: asyncio.Task[list[Any]] | None = None
        self._looked_up = 0.0
        self._ticking = False
        # Of all connections: filled and emptied within one step of the loop. A view: of anything else asyncio's
        # encryption takes slices that are copies, and what it writes to them is lost.
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.long: list[_Connection] = []  # oldest first

    async def get(self, url: str, headers: Mapping[str, str], expect: Callable[[int], object]) -> Reply:
        """GET an encoded URL that begins with this scheme and netloc.

        Args:
            expect: is told the length of a body of more than 1 MiB as soon as it is known.
        Raises:
            OddAnswerError: the answer is not understood. TruncatedError: less came than was announced.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if not lines.count("\n") == lines.count("\r") == len(headers):
            raise ValueError("a line break in a header")
        request = f"GET {url[self.begin :]}{self._end}{lines}\r\n".encode()
        async with self._turns:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_open:
                    continue
                try:
                    return await connection.get(request, expect)
                except ConnectionResetError:
                    if connection.has_answered:
                        raise
                    # The server had closed it, which was not known here.
            return await (await self._connect()).get(request, expect)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await self._lookup()
                # The next one begins with the next address: services have many.
                addresses.append(addresses.pop(0))
                sock = await aiohappyeyeballs.start_connection(
                    addresses.copy(), happy_eyeballs_delay=0.25, interleave=1, loop=loop
                )
                _, connection = await loop.create_connection(
                    lambda: _Connection(self),
                    sock=sock,
                    ssl=self._context,
                    server_hostname=self._host if self._context is not None else None,
                )
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"{error.strerror}: {self._host}") from None
        except ssl.SSLError:
            raise
        except TimeoutError as error:
            raise TimeoutError(f"no connection to {self._host}:{self._port}: {error}") from None
        except OSError as error:
            raise ConnectionError(f"cannot connect to {self._host}:{self._port}: {error}") from error
        self._all.add(connection)
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK_SECONDS, self._tick)
        return connection

    async def _lookup(self) -> list[Any]:
        """Addresses of the host; those who ask together ask once."""
        task, now = self._addresses, time.monotonic()
        if task is None or now > self._looked_up + _LOOKUP_SECONDS or (task.done() and task.exception()):
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._addresses, self._looked_up = task, now
        return await asyncio.shield(task)

    def _tick(self) -> None:
        """End what took too long."""
        now = time.monotonic()
        self._all = {connection for connection in self._all if connection.is_open}
        for connection in self._all:
            if not connection.is_busy:
                if now - connection.seen > self._idle_seconds:
                    connection.abort()
            elif self._read_seconds is not None and now - connection.seen > self._read_seconds:
                connection.fail(TimeoutError(f"no bytes for {self._read_seconds:g} s"))
        self._idle = [connection for connection in self._idle if connection.is_open]
        self._ticking = bool(self._all)
        if self._ticking:
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def keep(self, connection: _Connection) -> None:
        self._idle.append(connection)


class _Connection(asyncio.BufferedProtocol):
    """One connection: one request at a time, and its answer."""

    _status: int
    _headers: dict[str, str]
    _keeps: bool

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._transport: Any = None
        self._answer: asyncio.Future[Reply] | None = None
        self.is_open = True
        self.has_answered = False  # the request that is waiting or was last
        self.seen = 0.0  # when bytes last went either way

    @property
    def is_busy(self) -> bool:
        return self._answer is not None

    async def get(self, request: bytes, expect: Callable[[int], object]) -> Reply:
        self._expect = expect
        self._raw = bytearray()  # what was not understood yet
        self._parse: Callable[[], None] = self._parse_head
        self._body = bytearray()
        self._view: memoryview | None = None  # of the body, where it is filled in its place
        self._n = 0  # bytes of the body; of what was understood of a body in chunks
        self._length: int | None = None
        self.has_answered = False
        self.seen = time.monotonic()
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._transport.write(request)
        try:
            return await answer
        except BaseException:
            if self._answer is answer:  # which may still come
                self.abort()
            raise

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Give the answer up."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.abort()

    def _finish(self, body: bytes | bytearray, is_clean: bool) -> None:
        answer, self._answer = self._answer, None
        self._view = None
        self._leave()
        if is_clean and self._keeps:
            self._origin.keep(self)
        else:
            self.abort()
        if answer is not None and not answer.done():
            answer.set_result(Reply(self._status, self._headers, body, self._length))

    # -- called by the event loop

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._leave()
        if self._answer is None or self._answer.done():
            return
        if not self.has_answered:
            self.fail(ConnectionResetError(f"the connection was closed before an answer came: {error}"))
        elif self._parse == self._parse_rest and self._length is None and error is None:
            self._finish(bytes(self._raw), False)
        else:
            self.fail(TruncatedError("the connection was closed in the middle of an answer"))

    def get_buffer(self, _: int) -> Any:
        if self._answer is None or self._view is None:
            return self._origin.buffer
        return self._view[self._n : self._n + _PART_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if self._answer is None:
            self.abort()  # nobody asked
            return
        self.seen = time.monotonic()
        self.has_answered = True
        if self._view is not None:
            self._n += nbytes
            if self._n == self._length:
                self._finish(self._body, True)
            elif self._must_wait():
                self._transport.pause_reading()
                self._wait()
            return
        self._raw += self._origin.buffer[:nbytes]
        try:
            self._parse()
        except ValueError as error:
            self.fail(OddAnswerError(str(error)))

    # -- what came

    def _parse_head(self) -> None:
        raw = self._raw
        end = raw.find(b"\r\n\r\n")
        if end < 0:
            if len(raw) > _MAX_HEAD_BYTES:
                raise ValueError("headers without an end")
            return
        first, *lines = raw[:end].decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f"not HTTP/1.1: {version[:20]!r}")
        self._status = int(status[:3])
        headers: dict[str, str] = {}
        self._headers = headers
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if headers.setdefault(name, value) != value and name in ("content-length", "transfer-encoding"):
                raise ValueError(f"two headers {name}")
        begin = end + 4
        if self._status < 200:  # a word before the answer
            del raw[:begin]
            self._parse_head()
            return
        self._keeps = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        length = headers.get("content-length")
        if self._status in (204, 304):
            length = "0"
        elif (coding := headers.get("transfer-encoding")) is not None:
            if coding.lower() != "chunked":
                raise ValueError(f"transfer encoding {coding[:20]!r}")
            self._go_on_with(self._parse_chunks, begin)
            return
        if length is None:
            self._go_on_with(self._parse_rest, begin)
            return
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            raise ValueError(f"content length {length[:20]!r}")
        n, self._length = len(raw) - begin, int(length)
        if self._length > _LONG_BYTES:
            self._expect(self._length)
        if n >= self._length:
            self._finish(bytes(memoryview(raw)[begin : begin + self._length]), n == self._length)
        elif self._length > _MAX_CLAIMED_BYTES:
            self._go_on_with(self._parse_rest, begin)
        else:
            self._body = bytearray(self._length)
            self._view, self._n = memoryview(self._body), n
            self._view[:n] = memoryview(raw)[begin:]
            if self._length >= _LONG_BYTES:
                self._origin.long.append(self)

    def _go_on_with(self, parse: Callable[[], None], begin: int) -> None:
        del self._raw[:begin]
        self._parse = parse
        parse()

    def _parse_rest(self) -> None:
        """A body up to the end of the connection, or one too long to believe."""
        if self._length is not None and len(self._raw) >= self._length:
            self._finish(self._raw[: self._length], len(self._raw) == self._length)

    def _parse_chunks(self) -> None:
        raw = self._raw
        while (end := raw.find(b"\r\n", self._n)) >= 0:
            digits = bytes(raw[self._n : end].partition(b";")[0].strip())
            if not digits.isalnum() or len(digits) > 15:
                raise ValueError(f"length of a chunk: {digits[:20]!r}")
            size = int(digits, 16)
            if size == 0:
                if (stop := raw.find(b"\r\n\r\n", end)) >= 0:  # after trailers, of which there are hardly ever any
                    self._finish(bytes(self._body), stop + 4 == len(raw))
                return
            begin, stop = end + 2, end + 2 + size
            if len(raw) < stop + 2:
                return
            if raw[stop : stop + 2] != b"\r\n":
                raise ValueError("a chunk of another length than announced")
            self._body += memoryview(raw)[begin:stop]
            self._n = stop + 2

    # -- long bodies, one after the other

    def _must_wait(self) -> bool:
        """True if an older long body is being read as fast as this process can."""
        long = self._origin.long
        return bool(long) and self in long[1:] and time.monotonic() - long[0].seen < _BUSY_SECONDS

    def _wait(self) -> None:
        if not self.is_open or self._view is None:
            return
        if self._must_wait():
            self.seen = time.monotonic()
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._wait)
        else:
            self._transport.resume_reading()

    def _leave(self) -> None:
        if self in self._origin.long:
            self._origin.long.remove(self)
