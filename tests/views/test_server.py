"""Stores and views over HTTP, read by our own client, by hand, and by others."""

import dataclasses
import http.client
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")

import zarrdock
from zarrdock.serve.server import PIECE_BYTES, Server
from zarrdock.views import as_v2, unshard

pytestmark = pytest.mark.server

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("u2")
DATA = bytes(range(256)) * 4


@pytest.fixture
def store() -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    zarrdock.create_group(store, attributes={"title": "x"})
    zarrdock.create_array(store, name="a", data=VALUES, chunks=(8, 8), shards=(16, 24))
    store.write("plain", DATA)
    store.write("empty", b"")
    store.write("odd name/é & <b>", b"1")
    return store


@pytest.fixture
def server(store: zarrdock.Store) -> Iterator[Server]:
    with Server(store) as server:
        yield server


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


@pytest.mark.parametrize(
    "header,expected,content_range",
    [
        ("bytes=0-9", DATA[:10], "bytes 0-9/1024"),
        ("bytes=1000-5000", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=0-", DATA, "bytes 0-1023/1024"),
        ("bytes=1000-", DATA[1000:], "bytes 1000-1023/1024"),
        ("bytes=-5", DATA[-5:], "bytes 1019-1023/1024"),
        ("bytes=-5000", DATA, "bytes 0-1023/1024"),
    ],
)
def test_one_range(server: Server, header: str, expected: bytes, content_range: str) -> None:
    status, headers, body = ask(server, "/plain", Range=header)
    assert (status, body, headers["Content-Range"]) == (206, expected, content_range)
    status, headers, body = ask(server, "/plain", "HEAD", Range=header)
    assert (status, body, headers["Content-Length"]) == (206, b"", str(len(expected)))


@pytest.mark.parametrize("header", ["bytes=9-3", "bytes=x", "lines=1-2", "bytes=", "bytes=-", "bytes=1-2-3"])
def test_what_is_no_range_is_ignored(server: Server, header: str) -> None:
    status, _, body = ask(server, "/plain", Range=header)
    assert (status, body) == (200, DATA)


def test_ranges_that_cannot_be_had(server: Server) -> None:
    for header in ("bytes=1024-", "bytes=2000-3000", "bytes=-0", "bytes=-00"):
        status, headers, _ = ask(server, "/plain", Range=header)
        assert (status, headers["Content-Range"]) == (416, "bytes */1024")
    assert ask(server, "/empty", Range="bytes=0-0")[0] == 416
    assert ask(server, "/empty")[::2] == (200, b"")


def test_several_ranges_bring_the_whole_object(server: Server) -> None:
    for header in ("bytes=0-3, 100-103, -2, 5000-", "bytes=0-,0-,0-"):
        status, headers, body = ask(server, "/plain", Range=header)
        assert (status, headers["Content-Range"], body) == (200, None, DATA)


def test_conditions(server: Server, store: zarrdock.Store) -> None:
    _, headers, _ = ask(server, "/plain")
    tag = headers["ETag"]
    assert ask(server, "/plain", If_None_Match=tag)[::2] == (304, b"")
    assert ask(server, "/plain", If_None_Match='"other"')[0] == 200
    assert ask(server, "/plain", If_None_Match=f'"other", W/{tag}')[0] == 304
    assert ask(server, "/plain", If_None_Match="*")[0] == 304
    assert ask(server, "/plain", If_Match=tag)[0] == 200
    assert ask(server, "/plain", If_Match=f'"other", {tag}')[0] == 200
    assert ask(server, "/plain", If_Match="*")[0] == 200
    assert ask(server, "/plain", If_Match='"other"')[0] == 412
    assert ask(server, "/plain", If_Match=f"W/{tag}")[0] == 412
    assert ask(server, "/plain", Range="bytes=0-1", If_Range=tag)[0] == 206
    store.write("plain", DATA[::-1] + b"longer")
    status, headers, body = ask(server, "/plain", If_None_Match=tag)
    assert (status, body) == (200, DATA[::-1] + b"longer")
    assert headers["ETag"] != tag
    assert ask(server, "/plain", Range="bytes=0-1", If_Range=tag)[0] == 200
    assert ask(server, "/plain", If_Match=tag)[0] == 412


def test_other_origins_may_read(server: Server) -> None:
    for method, path in (("GET", "/plain"), ("HEAD", "/plain"), ("GET", "/no"), ("OPTIONS", "/plain")):
        _, headers, _ = ask(server, path, method, Origin="https://viewer.example")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Range" in headers["Access-Control-Expose-Headers"]
    assert ask(server, "/plain", "OPTIONS")[0] == 204


@pytest.mark.parametrize("path", ["/no", "/a/c/9/9", "/../etc/passwd", "/%2e%2e/x", "/a//b", "/a%00b", "/a/c", "/x/"])
def test_what_is_not_there(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_nothing_can_be_changed(server: Server, store: zarrdock.Store) -> None:
    before = sorted(entry.key for entry in store.list())
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert ask(server, "/plain", method)[0] == 405
    assert sorted(entry.key for entry in store.list()) == before


def test_listings(server: Server) -> None:
    status, headers, body = ask(server, "/")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert b'href="a/"' in body
    assert ask(server, "/a/?format=json")[2] == b'{"keys": ["zarr.json"], "prefixes": ["c"]}'
    assert ask(server, "/a/", Accept="application/json")[1].get_content_type() == "application/json"
    body = ask(server, "/odd%20name/")[2]
    assert b"<b>" not in body
    href = body.decode().split('href="')[2].split('"')[0]
    assert urllib.request.urlopen(urllib.parse.urljoin(f"{server.url}/odd%20name/", href)).read() == b"1"


def test_a_node_without_its_slash_leads_to_its_page(server: Server, store: zarrdock.Store) -> None:
    zarrdock.create_group(store, path="odd: name/0")
    for path, page in (("/a", "a/"), ("/odd%3A%20name/0", "0/"), ("/odd: name/0".replace(" ", "%20"), "0/")):
        status, headers, _ = ask(server, path)
        assert (status, headers["Location"]) == (301, page)
        assert b'href="zarr.json"' in urllib.request.urlopen(server.url + path).read()
        # It is no object.
        key = urllib.parse.unquote(path[1:])
        client = zarrdock.open_store(server.url)
        assert (client.get(key), client.get(key, zarrdock.Tail(5)), client.size(key)) == (None, None, None)
        assert ask(server, path, "HEAD")[0] == 404
        assert ask(server, path, Range="bytes=0-9")[0] == 404


def test_chunks_that_are_missing_in_a_remote_store_cost_no_more(store: zarrdock.Store) -> None:
    record = zarrdock.RecordingStore(store)
    record.traits = dataclasses.replace(store.traits, remote=True)
    with Server(record) as server:
        for path in ("/a/c/9/9", "/a/9.9", "/a/c", "/a/.zarray"):
            assert ask(server, path)[0] == 404
    assert record.n_requests == 0


def test_a_large_object_comes_in_pieces_of_one_version(store: zarrdock.Store, server: Server) -> None:
    data = np.random.default_rng(0).bytes(2 * PIECE_BYTES + 5)
    store.write("large", data)
    assert ask(server, "/large")[2] == data
    assert ask(server, "/large", Range=f"bytes=7-{PIECE_BYTES + 20}")[2] == data[7 : PIECE_BYTES + 21]


def test_a_damaged_shard_is_an_error_not_an_absence(store: zarrdock.Store) -> None:
    store.write("a/c/0/0", b"broken")
    with Server(unshard(store)) as server:
        status, _, body = ask(server, "/a/c/0/0")
    assert status == 500
    assert b"a/c/0/0" in body


def test_many_at_once(store: zarrdock.Store) -> None:
    with Server(store, n_concurrent=2) as server:
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(ask(server, "/plain")[2])) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [DATA] * 20


@pytest.mark.parametrize("view", [None, unshard, as_v2])
def test_zarrdock_reads_it(store: zarrdock.Store, view: Any) -> None:
    with Server(view(store) if view else store) as server:
        array = zarrdock.open_array(f"{server.url}/a")
        assert array.zarr_format == (2 if view is as_v2 else 3)
        np.testing.assert_array_equal(array[...], VALUES)
        array.store.close()


@pytest.mark.peer
@pytest.mark.parametrize("view", [None, unshard, as_v2])
def test_zarr_python_reads_it(store: zarrdock.Store, view: Any) -> None:
    zarr = pytest.importorskip("zarr")
    with Server(view(store) if view else store) as server:
        array = zarr.open_array(f"{server.url}/a", mode="r")
        np.testing.assert_array_equal(array[3:40, ::2], VALUES[3:40, ::2])


@pytest.mark.peer
@pytest.mark.parametrize("view", [None, unshard, as_v2])
def test_tensorstore_reads_it(store: zarrdock.Store, view: Any) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    with Server(view(store) if view else store) as server:
        kvstore = {"driver": "http", "base_url": f"{server.url}/a/"}
        spec = {"driver": "zarr" if view is as_v2 else "zarr3", "kvstore": kvstore}
        array = tensorstore.open(spec, read=True).result()
        np.testing.assert_array_equal(array.read().result(), VALUES)


@pytest.mark.peer
def test_fsspec_reads_it(store: zarrdock.Store) -> None:
    import fsspec

    with Server(store) as server:
        fs = fsspec.filesystem("http", skip_instance_cache=True)
        assert fs.cat_file(f"{server.url}/plain", 10, 20) == DATA[10:20]
        assert fs.info(f"{server.url}/plain")["size"] == 1024
        names = [name.rstrip("/").rpartition("/")[2] for name in fs.ls(f"{server.url}/a/", detail=False)]
        assert sorted(names) == ["c", "zarr.json"]
        with pytest.raises(FileNotFoundError):
            fs.cat_file(f"{server.url}/no")


def test_the_command(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(8, 8), shards=(16, 24))
    code = "from zarrdock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "a.zarr"), "--as-v2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split(" at ")[1].strip()
        try:
            assert url.startswith("http://127.0.0.1:")
            np.testing.assert_array_equal(zarrdock.open_array(url, zarr_format=2)[...], VALUES)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{url}zarr.json")
        finally:
            os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "GET /.zarray 200" in errors
