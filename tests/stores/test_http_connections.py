"""GETs over kept connections, against servers that send what a test tells them to, byte for byte."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zarrdock.stores import http_connections
from zarrdock.stores.diagnose import TruncatedError, diagnose
from zarrdock.stores.http_connections import OddAnswerError, Origin, Reply

Answering = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@dataclass
class Server:
    """Answers the ``n``-th request of all by ``answering(writer, n)``."""

    answering: Answering
    requests: list[bytes] = field(default_factory=list)
    n_connections: int = 0
    n_closed: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await self.answering(writer, len(self.requests) - 1)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.n_closed += 1
            writer.close()

    def origin(self, **settings: Any) -> Origin:
        usual: dict[str, Any] = {"n_max": 8, "connect_seconds": 5, "read_seconds": 5, "idle_seconds": 5}
        return Origin("http", f"127.0.0.1:{self.port}", None, **{**usual, **settings})

    async def get(self, origin: Origin, **headers: str) -> Reply:
        return await asyncio.wait_for(origin.get(f"http://127.0.0.1:{self.port}/a/b", headers, lambda _: None), 20)


@asynccontextmanager
async def serving(answering: Answering) -> AsyncIterator[Server]:
    server = Server(answering)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def sends(*parts: bytes, close: bool = False) -> Answering:
    """Each part in a packet of its own."""

    async def answer(writer: asyncio.StreamWriter, _: int) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.002)
        if close:
            writer.close()

    return answer


def bytewise(text: bytes) -> list[bytes]:
    return [text[i : i + 1] for i in range(len(text))]


CHUNKED = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"
TRAILED = CHUNKED[:-2] + b"Expires: never\r\n\r\n"


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("text", "close", "status", "body", "kept"),
    [
        (OK + b"01234", False, 200, b"01234", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"01234", False, 200, b"01234", True),
        (b"HTTP/1.1 206\r\ncontent-length:  5 \r\n\r\n01234", False, 206, b"01234", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, 200, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", False, 304, b"", True),
        (CHUNKED, False, 404, b"abc0123456789", True),
        (TRAILED, False, 404, b"abc0123456789", True),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n") + b"01234", False, 200, b"01234", False),
        (OK.replace(b"1.1", b"1.0") + b"01234", False, 200, b"01234", False),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, 200, b"until the end", False),
        (OK + b"01234 and more", False, 200, b"01234", False),
    ],
)
async def test_answers(text: bytes, close: bool, status: int, body: bytes, kept: bool, split: bool) -> None:
    async with serving(sends(*(bytewise(text) if split else [text]), close=close)) as server:
        origin = server.origin()
        for _ in range(2):
            reply = await server.get(origin)
            assert (reply.status, bytes(reply.body)) == (status, body)
            await asyncio.sleep(0.02)
        # What follows an answer is never taken for the next one.
        assert server.n_connections == (1 if kept else 2)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n01234",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd",
    ],
)
async def test_odd_answers_are_said_to_be_odd(text: bytes, split: bool) -> None:
    async with serving(sends(*(bytewise(text) if split and len(text) < 200 else [text]))) as server:
        with pytest.raises(OddAnswerError):
            await server.get(server.origin())


async def test_headers_without_an_end() -> None:
    async with serving(sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000)) as server:
        with pytest.raises(OddAnswerError, match="without an end"):
            await server.get(server.origin())


@pytest.mark.parametrize("text", [OK + b"012", CHUNKED[:-4], b"HTTP/1.1 200 OK\r\n"])
async def test_an_answer_that_is_cut_short(text: bytes) -> None:
    async with serving(sends(text, close=True)) as server:
        with pytest.raises(TruncatedError):
            await server.get(server.origin())


async def test_a_length_is_not_believed_before_the_bytes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n0123"
    async with serving(sends(text, close=True)) as server:
        with pytest.raises(TruncatedError):
            await server.get(server.origin())
    monkeypatch.setattr(http_connections, "_MAX_CLAIMED_BYTES", 4)
    async with serving(sends(OK, b"012", b"34")) as server:
        origin = server.origin()
        assert [bytes((await server.get(origin)).body) for _ in range(2)] == [b"01234"] * 2
        assert server.n_connections == 1


async def test_the_request() -> None:
    async with serving(sends(OK + b"01234")) as server:
        told: list[int] = []
        await server.origin().get(f"http://127.0.0.1:{server.port}/a%20b?c", {"Range": "bytes=0-4"}, told.append)
        host = f"127.0.0.1:{server.port}"
        assert server.requests == [
            f"GET /a%20b?c HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nRange: bytes=0-4\r\n\r\n".encode()
        ]
        assert told == []
        for value in ("a\r\nX: y", "a\nX: y", "a\rb"):
            with pytest.raises(ValueError, match="line break"):
                await server.get(server.origin(), Bad=value)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("scheme", "netloc", "host"),
    [
        ("http", "A.example", "a.example"),
        ("http", "a.example:80", "a.example"),
        ("https", "a.example:443", "a.example"),
        ("https", "a.example:80", "a.example:80"),
        ("http", "[::1]:9000", "[::1]:9000"),
    ],
)
async def test_the_name_of_the_host(scheme: str, netloc: str, host: str) -> None:
    origin = Origin(scheme, netloc, None, n_max=1, connect_seconds=1, read_seconds=1, idle_seconds=1)
    assert origin.host == host


@pytest.mark.parametrize("netloc", ["user:secret@host", "", "ü.example"])
async def test_what_is_no_plain_name_of_a_host_is_refused(netloc: str) -> None:
    with pytest.raises(ValueError, match="not an address") as caught:
        Origin("http", netloc, None, n_max=1, connect_seconds=1, read_seconds=1, idle_seconds=1)
    assert "secret" not in str(caught.value)


async def test_a_kept_connection_that_the_server_closed_is_no_error() -> None:
    async def answer(writer: asyncio.StreamWriter, n: int) -> None:
        if n == 1:  # the request was sent before the end was seen
            writer.transport.abort()
        else:
            writer.write(OK + b"01234")

    async with serving(answer) as server:
        origin = server.origin()
        assert [(await server.get(origin)).status for _ in range(2)] == [200, 200]
        assert (len(server.requests), server.n_connections) == (3, 2)


async def test_a_new_connection_that_breaks_is_an_error() -> None:
    async with serving(sends(close=True)) as server:
        with pytest.raises(ConnectionResetError) as caught:
            await server.get(server.origin())
        assert diagnose(caught.value).is_transient
        assert len(server.requests) == 1


async def test_no_more_connections_than_allowed() -> None:
    async with serving(sends(OK, b"01234")) as server:
        origin = server.origin(n_max=3)
        replies = await asyncio.gather(*(server.get(origin) for _ in range(20)))
        assert {bytes(reply.body) for reply in replies} == {b"01234"}
        assert server.n_connections == 3


async def test_one_that_is_given_up_takes_its_connection_with_it() -> None:
    async def answer(writer: asyncio.StreamWriter, n: int) -> None:
        if n:
            writer.write(OK + b"01234")

    async with serving(answer) as server:
        origin = server.origin(n_max=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.get(origin), 0.05)
        assert bytes((await server.get(origin)).body) == b"01234"
        assert server.n_connections == 2


async def test_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_TICK_SECONDS", 0.02)
    async with serving(sends(OK + b"012")) as server:
        with pytest.raises(TimeoutError, match=r"no bytes for 0\.1 s"):
            await server.get(server.origin(read_seconds=0.1))
    async with serving(sends(OK + b"01234")) as server:
        origin = server.origin(idle_seconds=0.1)
        await server.get(origin)
        await asyncio.sleep(0.3)
        assert server.n_closed == 1
        await asyncio.sleep(0.05)
        assert not origin._ticking
        await server.get(origin)
        assert server.n_connections == 2


async def test_nobody_there_is_said_with_the_address() -> None:
    async with serving(sends()) as server:
        pass
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{server.port}"):
        await server.get(server.origin())
    nowhere = Origin("http", "no.such.invalid", None, n_max=1, connect_seconds=9, read_seconds=9, idle_seconds=9)
    with pytest.raises(OSError, match=r"no\.such\.invalid"):
        await nowhere.get("http://no.such.invalid/x", {}, lambda _: None)


def certificate_of(host: str, folder: Path) -> Path:
    """A certificate that was signed by its own key, and the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_encryption(tmp_path: Path) -> None:
    path = certificate_of("localhost", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    body = bytes(range(256)) * 2000
    server = Server(sends(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    times = {"n_max": 2, "connect_seconds": 5, "read_seconds": 5, "idle_seconds": 5}
    trusting = ssl.create_default_context(cafile=str(path))
    origin = Origin("https", f"localhost:{port}", trusting, **times)
    for _ in range(3):
        assert (await origin.get(f"https://localhost:{port}/x", {}, lambda _: None)).body == body
    assert server.n_connections == 1
    # Another name than that of the certificate, and one who does not trust it.
    for netloc, refusing in ((f"127.0.0.1:{port}", trusting), (f"localhost:{port}", ssl.create_default_context())):
        with pytest.raises(ssl.SSLCertVerificationError):
            await Origin("https", netloc, refusing, **times).get(f"https://{netloc}/x", {}, lambda _: None)
    assert len(server.requests) == 3
    listening.close()


# -- long bodies: one after the other where they come as fast as they can be read, else together ----------------------

N = 2 * 2**20


class Sent:
    """Long bodies, of which each part is sent when it is asked for; ``events`` has the order in which parts came."""

    def __init__(self, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[int] = []
        self.origin = origin
        updated = http_connections._Connection.buffer_updated

        def watch(connection: Any, nbytes: int) -> None:
            if connection._view is not None:
                self.events.append(connection._status)
            updated(connection, nbytes)

        monkeypatch.setattr(http_connections._Connection, "buffer_updated", watch)


def long_body(pause: float = 0.0) -> Answering:
    async def answer(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (200 + n, N))
        for _ in range(N // 2**16):
            writer.write(bytes([n]) * 2**16)
            await writer.drain()
            await asyncio.sleep(pause if n == 0 else 0)

    return answer


async def test_long_bodies_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_BUSY_SECONDS", 0.5)  # a busy machine is not taken for a slow network
    async with serving(long_body()) as server:
        origin = server.origin()
        told: list[int] = []
        await origin.get(f"http://127.0.0.1:{server.port}/", {}, told.append)
        assert told == [N]
        server.requests.clear()
        sent = Sent(origin, monkeypatch)
        found = await asyncio.gather(*(server.get(origin) for _ in range(3)))
        assert sorted((reply.status, bytes(reply.body)) for reply in found) == [
            (200 + n, bytes([n]) * N) for n in range(3)
        ]
        order = list(dict.fromkeys(sent.events))
        first = len(sent.events) - sent.events[::-1].index(order[0])
        assert all(sent.events[:first].count(other) <= 2 for other in order[1:])
        assert not origin.long
        assert server.n_connections == 3
        await server.get(origin)
        assert server.n_connections == 3


async def test_nobody_waits_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_BUSY_SECONDS", 1e-9)
    async with serving(long_body(0.1)) as server:
        origin = server.origin()
        slow = asyncio.ensure_future(server.get(origin))
        for _ in range(1000):
            await asyncio.sleep(0 if server.requests else 0.005)
        await server.get(origin)
        assert not slow.done()
        await slow


async def test_a_long_one_that_is_given_up_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "_BUSY_SECONDS", 3600.0)
    async with serving(long_body(3600)) as server:
        origin = server.origin()
        first = asyncio.ensure_future(server.get(origin))
        for _ in range(1000):
            await asyncio.sleep(0 if origin.long else 0.005)
        second = asyncio.ensure_future(server.get(origin))
        await asyncio.sleep(0.02)
        assert not second.done()
        first.cancel()
        assert (await asyncio.wait_for(second, 10)).body == b"\1" * N
        assert not origin.long
