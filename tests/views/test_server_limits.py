"""What one client may take of a server, and what is left for the others."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("aiohttp")

import zarrdock
from zarrdock.serve.connections import Limits
from zarrdock.serve.server import PIECE_BYTES, Server
from zarrdock.stores.base import Read
from zarrdock.testing import FaultyStore, StoreFault

pytestmark = pytest.mark.server


class Slow(zarrdock.PrefixStore):
    """Counts how many reads are under way at one time, each of which takes a while."""

    def __init__(self, store: zarrdock.Store, seconds: float) -> None:
        super().__init__(store, "")
        self.seconds = seconds
        self.n_now = self.n_most = 0
        self.begun = threading.Event()
        self._lock = threading.Lock()

    def read(self, requests: Sequence[Read], /) -> Any:
        with self._lock:
            self.n_now += 1
            self.n_most = max(self.n_most, self.n_now)
        self.begun.set()
        time.sleep(self.seconds)
        try:
            return super().read(requests)
        finally:
            with self._lock:
                self.n_now -= 1


@pytest.fixture
def store() -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    store.write("plain", b"x" * 1000)
    store.write("large", b"y" * (PIECE_BYTES * 8))
    return store


def get(server: Server, path: str = "/plain") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@contextmanager
def connected(server: Server, receive_bytes: int = 0) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.socket() as client:
        client.settimeout(20)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect((host, int(port)))
        yield client


def closed_after(client: socket.socket) -> float:
    """Seconds until the other side has closed."""
    started = time.monotonic()
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started


def dribble(client: socket.socket, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.sendall(b"x")
        time.sleep(0.05)


def test_reads_at_one_time_are_bounded(store: zarrdock.Store) -> None:
    slow = Slow(store, 0.02)
    with Server(slow, n_concurrent=3) as server:
        found: list[tuple[int, bytes]] = []
        threads = [threading.Thread(target=lambda: found.append(get(server))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [(200, b"x" * 1000)] * 12
    assert 1 < slow.n_most <= 3


def test_a_request_that_is_begun_is_finished(store: zarrdock.Store) -> None:
    slow = Slow(store, 0.3)
    found: list[tuple[int, bytes]] = []
    with Server(slow) as server:
        thread = threading.Thread(target=lambda: found.append(get(server)))
        thread.start()
        assert slow.begun.wait(20)
    thread.join(20)
    assert found == [(200, b"x" * 1000)]
    with pytest.raises(ConnectionError):
        get(server)


def test_whoever_says_nothing_is_cut_off(store: zarrdock.Store) -> None:
    with Server(store, limits=Limits(request_seconds=0.3)) as server:
        with connected(server) as client:
            assert 0.1 < closed_after(client) < 10
        with connected(server) as client:  # a byte now and then is no request either
            client.sendall(b"GET /plain HTTP/1.1\r\n")
            with pytest.raises(ConnectionError):
                dribble(client, seconds=15)
        with connected(server) as client:  # nor is one request for ever
            client.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
            assert closed_after(client) < 10
        assert get(server)[0] == 200


def test_the_servers_own_time_is_not_the_clients(store: zarrdock.Store) -> None:
    with Server(Slow(store, 0.4), limits=Limits(request_seconds=0.2)) as server:
        assert get(server) == (200, b"x" * 1000)


@pytest.mark.parametrize("nbytes", [PIECE_BYTES, 8 * PIECE_BYTES])
def test_whoever_takes_nothing_is_cut_off_and_holds_nobody_up(store: zarrdock.Store, nbytes: int) -> None:
    limits = Limits(request_seconds=0.2, write_seconds=0.5, bytes_per_second=2 * PIECE_BYTES)
    with Server(store, n_concurrent=1, limits=limits) as server, connected(server, 4096) as client:
        client.sendall(f"GET /large HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{nbytes - 1}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 206"
        assert get(server) == (200, b"x" * 1000)  # though that one is not done
        time.sleep(1.5)
        received = 0
        try:
            while data := client.recv(2**20):
                received += len(data)
        except ConnectionError:
            pass
        assert received < nbytes
        assert get(server) == (200, b"x" * 1000)


def test_connections_are_counted(store: zarrdock.Store) -> None:
    with Server(store, limits=Limits(n_connections=2)) as server:
        with connected(server) as one, connected(server) as two:
            time.sleep(0.2)
            with connected(server) as three:
                assert closed_after(three) < 10
            for client in (one, two):
                client.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert client.recv(15) == b"HTTP/1.1 200 OK"
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                assert get(server)[0] == 200
                break
            except ConnectionError:
                time.sleep(0.05)
        else:
            pytest.fail("closed connections still count")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 10000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 10000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_requests_that_are_too_long_or_none(store: zarrdock.Store, request_: bytes) -> None:
    with Server(store) as server:
        with connected(server) as client:
            client.sendall(request_)
            assert client.recv(12)[8:] == b" 400"
        assert get(server)[0] == 200


def test_a_body_is_not_read(store: zarrdock.Store) -> None:
    with Server(store) as server, connected(server) as client:
        client.sendall(b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"z" * 1000)
        assert client.recv(12) == b"HTTP/1.1 405"
        assert closed_after(client) < 10


def test_the_access_log(store: zarrdock.Store) -> None:
    log: list[tuple[str, str, int, int]] = []
    with Server(store, log=lambda *line: log.append(line)) as server:
        get(server)
        get(server, "/no%0Asuch")
        get(server, "/large")
    assert log == [
        ("GET", "/plain", 200, 1000),
        ("GET", "/no%0Asuch", 404, 12),
        ("GET", "/large", 200, 8 * PIECE_BYTES),
    ]


def test_an_unforeseen_error_is_one_requests_trouble(store: zarrdock.Store) -> None:
    log: list[tuple[str, str, int, int]] = []
    broken = FaultyStore(store, [StoreFault("read", error=ZeroDivisionError("unforeseen"), count=None)])
    with Server(broken, log=lambda *line: log.append(line)) as server:
        status, body = get(server)
    assert (status, log[0][2]) == (500, 500)
    assert b"ZeroDivisionError: unforeseen" in body
