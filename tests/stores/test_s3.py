"""What S3Store sends, counted at the wire, and what only S3 has: options, batches, large objects, races."""

import contextlib
import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from support.servers import Endpoint, Fault, FaultProxy, Seen, StrictS3
from zarrdock.errors import (
    AccessError,
    ConflictError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores import io_loop
from zarrdock.stores import s3 as s3_module
from zarrdock.stores.base import Blob, Read
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=3, initial=0.01, max=0.02)
DATA = bytes(range(100))


@pytest.fixture(scope="module")
def proxy(strict_s3: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(strict_s3.url, "s3") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, strict_s3: Endpoint, prefix: str) -> S3Store:
    store = S3Store(f"s3://{strict_s3.bucket}/{prefix}", storage_options=strict_s3.through(proxy), retry=QUICK)
    store.conditions()  # asked once in a process: see test_conditions.py
    proxy.clear()
    return store


# -- requests ----------------------------------------------------------------------------------------------------------


def test_one_get_for_what_is_not_there(store: S3Store, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    proxy.clear()
    assert store.get("missing") is None
    assert store.get("missing", Tail(3), version='"v"') is None
    assert proxy.sent() == [("GET", 404)] * 2
    assert isinstance(store.read([Read("k", None, '"stale"')])[0], VersionChangedError)
    assert proxy.sent() == [("GET", 412)]
    with pytest.raises(ValueError, match="beyond the end"):
        store.get("k", From(100))
    assert proxy.sent() == [("GET", 416)]
    assert store.get("k", Span(3, 3)) == Blob(b"")
    assert proxy.sent() == []


def test_requests_of_writes(store: S3Store, proxy: FaultProxy) -> None:
    store.write("k", DATA, create_only=True)
    assert [(s.method, s.if_match) for s in proxy.log] == [("PUT", "*")]
    proxy.clear()
    store.update("k", lambda old: bytes(old or b"") + b"x")
    assert proxy.sent() == [("GET", 200), ("PUT", 200)]
    store.update("new", lambda old: b"x")
    assert [(s.method, s.if_match, s.status) for s in proxy.log] == [("GET", "", 404), ("PUT", "*", 200)]
    proxy.clear()
    store.update("k", lambda old: old)
    assert proxy.sent() == [("GET", 200)]
    version = store.get("k").version
    proxy.clear()
    store.update("k", lambda old: None)
    assert [(s.method, s.if_match, s.status) for s in proxy.log] == [("GET", "", 200), ("DELETE", version, 204)]
    proxy.clear()
    store.delete("k")
    store.size("k")
    assert proxy.sent() == [("DELETE", 204), ("HEAD", 404)]


@pytest.fixture
def own() -> Iterator[tuple[StrictS3, FaultProxy, S3Store]]:
    """A server into whose objects the test may reach."""
    with StrictS3("bucket") as server, FaultProxy(server.url) as proxy:
        options = {**server.storage_options, "endpoint_url": proxy.url}
        yield server, proxy, S3Store("s3://bucket/root", storage_options=options)


def test_names_no_store_would_write_are_not_listed(own: tuple[StrictS3, FaultProxy, S3Store]) -> None:
    server, proxy, store = own
    for name in ("root/", "root/folder/", "root/folder//odd", "root//", "root/folder/key", "rootless"):
        server.put("bucket", name, b"")
    assert [entry.key for entry in store.list()] == ["folder/key"]
    assert (store.list_dir().keys, store.list_dir().prefixes) == ((), ("folder",))
    assert store.list_dir("folder").keys == ("key",)
    proxy.clear()
    store.delete_prefix("")
    assert proxy.sent() == [("GET", 200), ("POST", 200)]
    assert list(server.buckets["bucket"]) == ["root/", "rootless"]


def test_a_page_and_a_batch_each_thousand(own: tuple[StrictS3, FaultProxy, S3Store]) -> None:
    server, proxy, store = own
    keys = [f"k{i:04}" for i in range(2001)]
    for key in keys:
        server.put("bucket", f"root/{key}", b"")
    assert sorted(entry.key for entry in store.list()) == keys
    assert proxy.sent() == [("GET", 200)] * 3
    store.delete_prefix("")
    assert proxy.sent() == [("GET", 200)] * 3 + [("POST", 200)] * 3


def test_a_key_that_a_batch_could_not_delete_is_an_error(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("k", b"")
    call = store.fs._call_s3

    async def refuse(method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "delete_objects":
            return await call(method, *args, **kwargs)
        return {"Errors": [{"Key": "k", "Code": "AccessDenied", "Message": "Access Denied"}]}

    monkeypatch.setattr(store.fs, "_call_s3", refuse)
    with pytest.raises(AccessError, match="1 of 1 keys"):
        store.delete_prefix("")


# -- lost replies ------------------------------------------------------------------------------------------------------


def count(old: Any) -> bytes:
    return b"%d" % (int(bytes(old or b"0")) + 1)


class Between(S3Store):
    """Lets another writer act between a lost reply and the look at what became of it, as if it was another process."""

    between: Any = None

    def _exclusive(self, key):
        return contextlib.nullcontext()

    async def _send_head(self, live, key):
        if self.between:
            act, self.between = self.between, None
            await act(live)
        return await super()._send_head(live, key)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("n_others", [1, 5, 25])
def test_others_write_between_a_lost_reply_and_the_look(
    store: S3Store, proxy: FaultProxy, applied: bool, n_others: int
) -> None:
    mine = Between(store.url, storage_options=store.fs.storage_options, retry=QUICK)
    store.write("n", b"100")
    store.update("n", count)

    async def others(_: Any) -> None:
        thread = threading.Thread(target=lambda: [store.update("n", count) for _ in range(n_others)])
        thread.start()
        while thread.is_alive():
            await fsspec.asyn.asyncio.sleep(0.005)

    if applied:
        proxy.inject(Fault("lost_reply", method="PUT"))
    else:  # the same look, after a write of somebody else instead of our own
        async_put = mine._send_put

        async def too_late(live: Any, *args: Any) -> Any:
            mine._send_put = async_put
            await others(live)
            return await async_put(live, *args)

        mine._send_put = too_late
    mine.between = others
    mine.update("n", count)
    assert store.get("n").data == b"%d" % (102 + n_others * (1 if applied else 2))


def test_when_nobody_can_tell_it_says_so(store: S3Store, proxy: FaultProxy) -> None:
    # More writes of others than the object remembers, between our write and our look at it.
    mine = Between(store.url, storage_options=store.fs.storage_options, retry=QUICK)

    async def others(_: Any) -> None:
        thread = threading.Thread(target=lambda: [store.update("n", count) for _ in range(70)])
        thread.start()
        while thread.is_alive():
            await fsspec.asyn.asyncio.sleep(0.005)

    store.update("n", count)
    mine.between = others
    proxy.inject(Fault("lost_reply", method="PUT"))
    with pytest.raises(ConflictError, match="unknown if the change was"):
        mine.update("n", count)


# -- races -------------------------------------------------------------------------------------------------------------


def _count_in_a_process(url: str, options: dict[str, Any], n: int, barrier: Any) -> None:
    store = S3Store(url, storage_options=options)
    store.get("n")
    barrier.wait(60)
    for _ in range(n):
        store.update("n", count)


@pytest.mark.slow
def test_processes_that_count(strict_s3: Endpoint, prefix: str) -> None:
    url = f"s3://{strict_s3.bucket}/{prefix}"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [
        context.Process(target=_count_in_a_process, args=(url, strict_s3.storage_options, 20, barrier))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert S3Store(url, storage_options=strict_s3.storage_options).get("n").data == b"40"


def test_a_writer_that_always_loses_gives_up(strict_s3: Endpoint, prefix: str) -> None:
    url, options = f"s3://{strict_s3.bucket}/{prefix}", strict_s3.storage_options
    S3Store(url, storage_options=options).conditions()  # asked once in a process, not within this short deadline
    policy = RetryPolicy(attempts=2, deadline_seconds=0.3, initial=0.01, max=0.01)
    store = S3Store(url, storage_options=options, retry=policy)
    n_calls = 0

    def overtaken(old: Any) -> bytes:
        nonlocal n_calls
        n_calls += 1
        store.write("k", b"other %d" % n_calls)  # not allowed to a change; here it is the other writer
        return b"mine"

    with pytest.raises(ConflictError, match="nothing was changed"):
        store.update("k", overtaken)
    assert n_calls > 1
    assert store.get("k").data == b"other %d" % n_calls


# -- options -----------------------------------------------------------------------------------------------------------


def test_a_users_filesystem_is_left_alone(strict_s3: Endpoint, prefix: str) -> None:
    fs = fsspec.filesystem("s3", **strict_s3.storage_options)
    before = fs.retries, dict(fs.config_kwargs)
    store = S3Store(fs, f"{strict_s3.bucket}/{prefix}")
    store.write("k", DATA)
    assert fs.cat_file(f"{strict_s3.bucket}/{prefix}/k") == DATA
    assert (fs.retries, dict(fs.config_kwargs)) == before
    assert store.fs is not fs
    assert store.fs.retries == 1


def test_options_reach_the_requests(strict_s3: Endpoint, prefix: str) -> None:
    headers: list[dict[str, str]] = []
    options = {
        **strict_s3.storage_options,
        "requester_pays": True,
        "s3_additional_kwargs": {"ServerSideEncryption": "AES256", "Metadata": {"mine": "1"}},
        "config_kwargs": {"retries": {"total_max_attempts": 2}},
    }
    store = S3Store(f"s3://{strict_s3.bucket}/{prefix}", storage_options=options)

    def look(request: Any, **_: Any) -> None:
        headers.append({k.lower(): v.decode() if isinstance(v, bytes) else v for k, v in request.headers.items()})

    store.conditions()  # asked once in a process
    store.fs.connect()
    store.fs.s3.meta.events.register("before-send.s3", look)
    store.update("k", lambda old: DATA)
    assert [h["x-amz-request-payer"] for h in headers] == ["requester"] * 2
    assert headers[1]["x-amz-server-side-encryption"] == "AES256"
    assert headers[1]["x-amz-meta-mine"] == "1"
    assert store.fs.s3.meta.config.retries["total_max_attempts"] == 2  # the user's own wins


def test_slow_down_lowers_the_limit(store: S3Store, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    limiter = store._bridge.live().limiter
    before = limiter.limit
    assert before == store.traits.n_concurrent
    proxy.inject(Fault("status", 503, method="GET"))
    store.get("k")
    assert limiter.limit < 0.6 * before


def test_anonymous(strict_s3: Endpoint, store: S3Store) -> None:
    store.write("k", DATA)
    options = {"anon": True, "endpoint_url": strict_s3.url}
    assert S3Store(store.url, storage_options=options).get("k").data == DATA


def test_no_secrets_in_words_and_errors(strict_s3: Endpoint, proxy: FaultProxy, prefix: str) -> None:
    options = {**strict_s3.through(proxy), "key": "AKIAEXAMPLEKEY", "secret": "very-secret-word", "token": "tokentoken"}
    store = S3Store(f"s3://{strict_s3.bucket}/{prefix}", storage_options=options, retry=QUICK)
    proxy.clear()
    proxy.inject(Fault("status", 403))
    with pytest.raises(AccessError) as caught:
        store.get("k")
    for text in (repr(store), str(store), store.url, str(caught.value), repr(caught.value.__cause__)):
        assert "very-secret-word" not in text
        assert "tokentoken" not in text
    assert b"very-secret-word" not in pickle.dumps(caught.value)


# -- large objects -----------------------------------------------------------------------------------------------------


def test_more_than_one_put_takes(moto: Endpoint, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store(f"s3://{moto.bucket}/{prefix}", storage_options=moto.storage_options)
    store.write("k", b"old")
    monkeypatch.setattr(s3_module, "MAX_PUT_BYTES", 1000)
    store.write("k", DATA * 20)
    assert store.get("k").data == DATA * 20
    for conditional in (
        lambda: store.update("k", lambda old: DATA * 30),
        lambda: store.write("new", DATA * 30, create_only=True),
    ):
        with pytest.raises(UnsupportedError, match="5 GiB"):
            conditional()
    assert store.get("k").data == DATA * 20
    assert store.get("new") is None


def test_moto_answers_conditions(moto: Endpoint, prefix: str) -> None:
    # What the other tests take from the strict fake, once from the emulator.
    with FaultProxy(moto.url) as proxy:
        store = S3Store(f"s3://{moto.bucket}/{prefix}", storage_options=moto.through(proxy), retry=QUICK)
        store.conditions()
        proxy.clear()
        store.write("k", DATA)
        version = store.get("k").version
        store.update("k", lambda old: DATA + b"!")
        assert isinstance(store.read([Read("k", Span(0, 5), version)])[0], VersionChangedError)
        store.update("k", lambda old: None)
        assert store.get("k") is None
        statuses = [(seen.method, bool(seen.if_match), seen.status) for seen in proxy.log]
        assert statuses == [
            ("PUT", False, 200),
            ("GET", False, 200),
            ("GET", False, 200),
            ("PUT", True, 200),
            ("GET", True, 412),
            ("GET", False, 200),
            ("DELETE", True, 204),
            ("GET", False, 404),
        ]


def test_strict_fake_refuses_what_it_does_not_know() -> None:
    with StrictS3("bucket") as server:
        store = S3Store("s3://bucket/x", storage_options=server.storage_options, retry=QUICK)
        with pytest.raises(UnsupportedError):
            store._bridge.run(
                lambda live: store._request(live, "", lambda: live.fs._call_s3("get_bucket_acl", Bucket="bucket"))
            )


def test_seen_is_what_was_sent(store: S3Store, proxy: FaultProxy) -> None:
    store.write("a b/ü", DATA)
    store.get("a b/ü", Span(0, 2))
    assert isinstance(proxy.log[0], Seen)
    assert [seen.method for seen in proxy.log] == ["PUT", "GET"]
    assert proxy.log[1].path.endswith("a%20b/%C3%BC")


def test_a_long_answer_is_given_its_time(store: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    # A limit of 0.3 s a request; the answer takes 1 s, at a rate that counts as slow and alive.
    monkeypatch.setattr(io_loop, "SLOWEST_BYTES_PER_SECOND", 1000)
    hurried = RetryPolicy(attempts=1, attempt_seconds=0.3)
    patient = S3Store(store.url, storage_options=store.fs.storage_options, retry=hurried)
    patient.write("k", bytes(2000))
    proxy.inject(Fault("delay", seconds=1.0, times=2))
    assert patient.get("k", Span(0, 2000)).data == bytes(2000)
    patient.write("k", bytes(2000))
    patient.write("k", b"")
    proxy.inject(Fault("delay", seconds=1.0))
    with pytest.raises(StoreError, match="timed out"):
        patient.get("k", Span(0, 1))
