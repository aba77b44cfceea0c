"""Services that take conditions on writes and ignore them: asked once, and refused partial writes."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.deaf_s3 import Deaf, by_obstore, by_s3fs
from support.servers import Fault, FaultProxy, StrictGCS, StrictS3
from zarrdock.errors import AccessError, KeyExistsError, NodeExistsError, UnsupportedError
from zarrdock.stores import remote
from zarrdock.stores.conditions import Conditions
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

ASKED = [("PUT", 200), ("PUT", 412), ("PUT", 412), ("DELETE", 412), ("DELETE", 204)]


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    with Deaf("bucket", keeps=Conditions(False, False, False)) as server:
        yield server


@pytest.fixture
def strict() -> Iterator[tuple[StrictS3, FaultProxy]]:
    with StrictS3("bucket") as server, FaultProxy(server.url) as proxy:
        yield server, proxy


CLIENTS = pytest.mark.parametrize("client", [by_s3fs, by_obstore])


@CLIENTS
@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("delete", [True, False])
def test_what_a_service_keeps(client: Any, create: bool, replace: bool, delete: bool) -> None:
    with Deaf("bucket", keeps=Conditions(create, replace, delete)) as server:
        store = client(server)
        assert store.conditions() == server.keeps
        assert store.traits.atomic_update is (create and replace)
        assert server.buckets["bucket"] == {}, "the mark is taken away"


@CLIENTS
def test_asked_once_and_only_before_a_conditional_write(client: Any, strict: tuple[StrictS3, FaultProxy]) -> None:
    server, proxy = strict
    store = client(server, proxy)
    store.write("k", b"1")
    store.get("k")
    store.delete("k")
    list(store.list())
    proxy.sent()
    store.write("k", b"1", create_only=True)
    sent = [("DELETE", 204) if entry == ("POST", 200) else entry for entry in proxy.sent()]
    assert sorted(sent[:5]) == sorted(ASKED)
    assert sent[5:] == [("PUT", 200)]
    other = client(server, proxy)
    other.update("k", lambda _: b"2")
    assert proxy.sent() == [("GET", 200), ("PUT", 200)]


def test_the_answer_travels(strict: tuple[StrictS3, FaultProxy]) -> None:
    server, proxy = strict
    store = by_s3fs(server, proxy)
    store.write("k", b"1", create_only=True)
    proxy.sent()
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read()).update('k', lambda _: b'2')"
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(store), check=True)
    assert proxy.sent() == [("GET", 200), ("PUT", 200)]


def test_known_services_are_not_asked() -> None:
    anonymous = {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}
    for options in (anonymous, {**anonymous, "endpoint_url": "https://s3.eu-west-1.amazonaws.com"}):
        assert (
            S3Store("s3://bucket/x", storage_options=options, retry=RetryPolicy(attempts=1)).conditions()
            == Conditions()
        )
    with StrictGCS("bucket") as server, FaultProxy(server.url, "gcs") as proxy:
        options = {**server.storage_options, "endpoint_url": proxy.url}
        GCSStore("gs://bucket/x", storage_options=options).write("k", b"1", create_only=True)
        assert len(proxy.log) == 1


@CLIENTS
def test_without_conditions(client: Any, deaf: Deaf) -> None:
    store = client(deaf)
    array = zarrdock.create_array(store, shape=(8,), dtype="i4", chunks=(1,), shards=(4,))
    with pytest.raises(NodeExistsError):
        zarrdock.create_array(store, shape=(8,), dtype="i4", chunks=(1,), shards=(4,))
    with pytest.raises(KeyExistsError):
        store.write("zarr.json", b"", create_only=True)
    array[:4] = 7  # whole shards
    with pytest.raises(UnsupportedError, match="no atomic updates"):
        array[1:3] = 8
    assert array[:].tolist() == [7] * 4 + [0] * 4
    unsafe = zarrdock.open_array(store, "r+", options=zarrdock.WriteOptions(single_writer=True))
    unsafe[1:3] = 8
    unsafe.resize((12,))
    assert zarrdock.open_array(store)[:].tolist() == [7, 8, 8, 7] + [0] * 8
    single = client(deaf, assume_single_writer=True)
    zarrdock.open_array(single, "r+")[2:6] = 9
    single.update("c/0", lambda _: None)
    assert zarrdock.open_array(store)[:].tolist() == [0] * 4 + [9, 9] + [0] * 6


def test_found_out_by_an_unsafe_write_around_a_wrapper(deaf: Deaf) -> None:
    zarrdock.create_array(by_s3fs(deaf, conditional_writes=True), shape=(8,), dtype="i4", chunks=(1,), shards=(4,))
    wrapped = zarrdock.CachingStore(by_s3fs(deaf), max_bytes=10**6)
    array = zarrdock.open_array(wrapped, "r+", options=zarrdock.WriteOptions(single_writer=True))
    array[1:3] = 8
    assert array[:].tolist() == [0, 8, 8] + [0] * 5


def test_several_processes_lose_nothing_in_silence(deaf: Deaf) -> None:
    zarrdock.create_array(by_s3fs(deaf), shape=(32,), dtype="i4", chunks=(1,), shards=(32,))
    code = f"""
import sys, zarrdock
a = zarrdock.open_array("s3://bucket/x", "r+", storage_options={deaf.storage_options!r})
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[1]), 32, 4):
    try:
        a[i : i + 1] = i + 1
        print(i)
    except zarrdock.errors.UnsupportedError:
        pass
"""
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(i)], **pipes) for i in range(4)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 4
    acknowledged = [int(line) for writer in writers for line in writer.communicate("go\n")[0].split()]
    found = zarrdock.open_array(by_s3fs(deaf))[:]
    assert all(found[i] == i + 1 for i in acknowledged)
    assert not acknowledged


def test_conditions_not_implemented() -> None:
    """Refused aloud is as good as ignored: whole values are written, partial writes refused."""
    with StrictS3("bucket") as server, FaultProxy(server.url) as proxy:
        plain_s3 = _Plain(server)
        with plain_s3:
            store = by_s3fs(plain_s3)
            assert store.conditions() == Conditions(False, False, True)
            store.write("k", b"1")
            with pytest.raises(UnsupportedError, match="no atomic updates"):
                store.update("k", lambda _: b"2")
        proxy.inject(Fault("status", status=501, code="NotImplemented", method="PUT", times=None))
        with pytest.raises(UnsupportedError, match="NotImplemented"):
            by_s3fs(server, proxy).conditions()


class _Plain(StrictS3):
    """A fake of S3 that says that it knows no conditions."""

    def __init__(self, other: StrictS3) -> None:
        super().__init__(*other.buckets)

    def _dispatch(self, request: Any, body: bytes) -> Any:
        from aiohttp import web

        if request.method != "GET" and {"If-Match", "If-None-Match"} & set(request.headers):
            text = "<Error><Code>NotImplemented</Code><Message>no conditions</Message></Error>"
            return web.Response(status=501, text=text, content_type="application/xml")
        return super()._dispatch(request, body)


@CLIENTS
def test_a_deletion_that_nothing_ties_to_a_version(client: Any) -> None:
    with Deaf("bucket", keeps=Conditions(delete=False)) as server:
        store = client(server)
        store.update("k", lambda _: b"1")
        with pytest.raises(UnsupportedError, match="write_empty_chunks"):
            store.update("k", lambda _: None)
        assert bytes(store.get("k").data) == b"1"
        store.update("missing", lambda _: None)
        array = zarrdock.create_array(
            store,
            data=np.ones(8, "i4"),
            chunks=(4,),
            shards=(8,),
            options=zarrdock.WriteOptions(write_empty_chunks=True),
        )
        array[:4] = 0
        array[4:] = 0
        assert array[:].tolist() == [0] * 8


def test_the_mark_is_denied(strict: tuple[StrictS3, FaultProxy]) -> None:
    server, proxy = strict
    proxy.inject(Fault("status", status=403, method="PUT", path="zarrdock-conditions", times=None))
    with pytest.raises(AccessError) as caught:
        by_s3fs(server, proxy).write("k", b"1", create_only=True)
    assert "conditional_writes=True" in caught.value.__notes__[0]
    by_s3fs(server, proxy, conditional_writes=True).write("k", b"1", create_only=True)
    with pytest.raises(UnsupportedError):
        by_s3fs(server, proxy, conditional_writes=False).update("k", lambda _: b"2")


@pytest.mark.parametrize("skip", range(5))
@pytest.mark.parametrize("kind", ["lost_reply", "status"])
def test_asked_through_faults(kind: Any, skip: int, strict: tuple[StrictS3, FaultProxy]) -> None:
    server, proxy = strict
    proxy.inject(Fault(kind, skip=skip, method="PUT|DELETE"))
    assert by_s3fs(server, proxy).conditions() == Conditions()
    assert server.buckets["bucket"] == {}


def test_a_failure_is_no_answer(strict: tuple[StrictS3, FaultProxy]) -> None:
    server, proxy = strict
    proxy.inject(Fault("status", status=503, times=3))
    store = by_s3fs(server, proxy)
    with pytest.raises(zarrdock.errors.StoreError):
        store.conditions()
    assert not any(proxy.url.removeprefix("http://") in name for name in remote._answers)
    assert store.conditions() == Conditions()
