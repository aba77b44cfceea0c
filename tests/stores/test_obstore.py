"""obstore's stores under the contract, and at the wire."""

import copy
import itertools
import pickle
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

import zarrdock
from support.servers import Endpoint, Fault, FaultProxy
from support.stores import Apart
from support.strict_gcs import StrictGCSByXML
from zarrdock.errors import (
    AccessError,
    ConflictError,
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Read, Store
from zarrdock.stores.memory import MemoryStore as OwnMemoryStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.open import open_store
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store as OwnS3Store
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.contract_parallel import ParallelContract
from zarrdock.testing.contract_read import in_fork

pytestmark = pytest.mark.server
_numbers = itertools.count()


def s3(endpoint: Endpoint, prefix: str, url: str = "", **options: Any) -> S3Store:
    return S3Store(
        endpoint.bucket,
        prefix=prefix,
        endpoint=url or endpoint.url,
        access_key_id="test",
        secret_access_key="test",
        region="us-east-1",
        client_options={"allow_http": True},
        **options,
    )


class NoFork:
    """obstore can't be used in a forked child: it must say so, at once."""

    def test_fork(self) -> None:
        store = self.filled({"k": b"1"})  # type: ignore[attr-defined]
        store.get("k")

        def check() -> bool:
            with pytest.raises(StoreError, match="forked"):
                store.get("k")
            return True

        assert in_fork(check)
        assert store.get("k").data == b"1"


class TestMemory(NoFork, StoreContract):
    def make_store(self) -> Store:
        return ObstoreStore(MemoryStore())


class TestMemoryAsync(NoFork, AsyncStoreContract):
    def make_store(self) -> Store:
        return ObstoreStore(MemoryStore())


class TestLocal(NoFork, StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Any) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        return ObstoreStore(LocalStore(folder))


class OnS3(NoFork):
    n_updates = 8
    n_threads = 4
    endpoint: Endpoint

    def make_store(self) -> Store:
        return ObstoreStore(s3(self.endpoint, f"obstore-{type(self).__name__}-{next(_numbers)}"))


class TestS3Moto(OnS3, StoreContract):
    n_keys = 30

    @pytest.fixture(autouse=True)
    def _server(self, moto: Endpoint) -> None:
        self.endpoint = moto


class OnStrictS3(OnS3):
    @pytest.fixture(autouse=True)
    def _server(self, strict_s3: Endpoint) -> None:
        self.endpoint = strict_s3


class TestS3Racing(OnStrictS3, ParallelContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, ObstoreStore)
        return [ObstoreApart(store.obstore) for _ in range(self.n_threads)]


class TestS3Async(OnStrictS3, AsyncStoreContract):
    n_keys = 1100  # more than a page


class TestHTTP(OnStrictS3, StoreContract):
    """The read half, over a server that knows conditions."""

    def fill(self, items: Mapping[str, bytes]) -> Store:
        prefix = f"obstore-http-{next(_numbers)}"
        writer = OwnS3Store(f"s3://{self.endpoint.bucket}/{prefix}", storage_options=self.endpoint.storage_options)
        for key, value in items.items():
            writer.write(key, value)
        return ObstoreStore(
            HTTPStore(f"{self.endpoint.url}/{self.endpoint.bucket}/{prefix}", client_options={"allow_http": True})
        )


@pytest.fixture(scope="session")
def gcs_by_xml() -> Iterator[StrictGCSByXML]:
    with StrictGCSByXML("zarrdock-test") as server:
        yield server


class OnGCS(NoFork):
    n_updates = 8
    n_threads = 4
    server: StrictGCSByXML
    folder: Any

    @pytest.fixture(autouse=True)
    def _server(self, gcs_by_xml: StrictGCSByXML, tmp_path: Any) -> None:
        self.server, self.folder = gcs_by_xml, tmp_path

    def make_store(self) -> Store:
        return ObstoreStore(self.server.obstore(self.folder, f"obstore-{type(self).__name__}-{next(_numbers)}"))


class TestGCS(OnGCS, StoreContract):
    n_keys = 1100  # more than a page

    def test_update_to_nothing_deletes(self) -> None:
        """obstore has no conditional deletion for it: refused before anything is lost."""
        store = self.filled({"k": b"1"})
        with pytest.raises(UnsupportedError, match="write_empty_chunks"):
            store.update("k", lambda _: None)
        assert bytes(store.get("k").data) == b"1"


class TestGCSRacing(OnGCS, ParallelContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, ObstoreStore)
        return [ObstoreApart(store.obstore) for _ in range(self.n_threads)]


class Wrapped:
    """Some object that follows obspec, in its coroutine half or its plain one."""

    def __init__(self, inner: Any, *names: str) -> None:
        self.inner, self.names = inner, names

    def __getattr__(self, name: str) -> Any:
        if name in ("inner", "names") or name not in self.names:
            raise AttributeError(name)
        return getattr(self.inner, name)


PLAIN = ("get", "put", "delete", "list", "list_with_delimiter")
COROUTINES = ("get_async", "put_async", "delete_async", "list", "list_with_delimiter_async")


class TestPlainObspec(NoFork, StoreContract):
    """An object nobody knows: no atomic update, but the versions it tells."""

    def make_store(self) -> Store:
        return ObstoreStore(Wrapped(MemoryStore(), *PLAIN))

    def test_pickle(self) -> None:
        with pytest.raises(TypeError, match="pickle"):
            super().test_pickle()


class TestCoroutinesOfObspec(NoFork, AsyncStoreContract):
    updates = True

    def make_store(self) -> Store:
        return ObstoreStore(Wrapped(MemoryStore(), *COROUTINES), assume_single_writer=True)

    def test_pickle(self) -> None:
        with pytest.raises(TypeError, match="pickle"):
            super().test_pickle()


# -- at the wire -------------------------------------------------------------------------------------------------------

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=3, initial=0.01, max=0.02)
ONCE = RetryPolicy(attempts=1)
DATA = bytes(range(100))


@pytest.fixture(scope="module")
def proxy(strict_s3: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(strict_s3.url, "s3") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, strict_s3: Endpoint, prefix: str) -> ObstoreStore:
    store = ObstoreStore(s3(strict_s3, prefix, proxy.url), retry=QUICK)
    store.conditions()  # asked once in a process: see test_conditions.py
    proxy.clear()
    return store


def test_requests_of_the_rest(store: ObstoreStore, proxy: FaultProxy) -> None:
    store.write("k", DATA, create_only=True)
    assert [(s.method, s.if_match) for s in proxy.log] == [("PUT", "*")]
    proxy.clear()
    with pytest.raises(KeyExistsError):
        store.write("k", DATA, create_only=True)
    store.update("k", lambda old: bytes(old or b"") + b"x")
    assert proxy.sent() == [("PUT", 412), ("HEAD", 200), ("GET", 200), ("PUT", 200)]
    version = store.get("k").version
    proxy.clear()
    store.update("k", lambda old: None)
    assert [(s.method, s.if_match, s.status) for s in proxy.log] == [("GET", "", 200), ("DELETE", version, 204)]
    proxy.clear()
    assert store.get("k", Tail(3), version=version) is None
    assert store.size("k") is None
    store.delete("k")
    assert proxy.sent() == [("GET", 404), ("HEAD", 404), ("POST", 200)]
    for key in ("a/b", "a/c", "d"):
        store.write(key, b"1")
    proxy.clear()
    assert {entry.key for entry in store.list("a")} == {"a/b", "a/c"}
    assert store.list_dir().prefixes == ("a",)
    store.delete_prefix("a")
    assert proxy.sent() == [("GET", 200)] * 3 + [("POST", 200)]
    assert [entry.key for entry in store.list()] == ["d"]


def test_a_batch_is_one_round(store: ObstoreStore, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    proxy.clear()
    proxy.inject(Fault("delay", seconds=0.3, times=None))
    results = store.read([Read("k", Span(i, i + 2)) for i in range(40)])
    assert [bytes(result.data) for result in results] == [DATA[i : i + 2] for i in range(40)]
    assert len(proxy.log) == 40
    assert proxy.most_at_once == 40


def test_a_change_between_is_seen(store: ObstoreStore, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    version = store.get("k").version
    store.write("k", DATA[::-1])
    assert isinstance(store.read([Read("k", Span(0, 5), version)])[0], VersionChangedError)
    deleted = []

    def change(old: Any) -> None:
        if not deleted:
            store.write("k", b"of another writer")
        deleted.append(bytes(old))

    store.update("k", change)
    assert deleted == [DATA[::-1], b"of another writer"], "a deletion on condition that nothing has changed"
    assert store.get("k") is None


def test_a_lost_reply_counts_once(store: ObstoreStore, proxy: FaultProxy) -> None:
    for i in range(1, 4):
        proxy.inject(Fault("lost_reply", method="PUT"))
        store.update("n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        assert bytes(store.get("n").data) == b"%d" % i
    proxy.inject(Fault("lost_reply", method="DELETE"))
    store.update("n", lambda old: None)
    assert store.get("n") is None


def test_retries_do_not_multiply(store: ObstoreStore, proxy: FaultProxy, strict_s3: Endpoint, prefix: str) -> None:
    store.write("k", DATA)
    proxy.clear()
    proxy.inject(Fault("status", 500, times=None))
    with pytest.raises(StoreError):
        ObstoreStore(s3(strict_s3, prefix, proxy.url), retry=ONCE).get("k")
    assert len(proxy.log) == 1
    proxy.log.clear()
    own = {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=5),
        "backoff": {"init_backoff": timedelta(seconds=0.01)},
    }
    with pytest.raises(StoreError):
        ObstoreStore(s3(strict_s3, prefix, proxy.url, retry_config=own), retry=ONCE).get("k")
    assert len(proxy.log) == 3, "the user's own setting wins"


def test_a_server_that_ignores_ranges(store: ObstoreStore, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    proxy.inject(Fault("ignore_range", times=None))
    with pytest.warns(RuntimeWarning, match="ignores byte ranges"):
        assert bytes(store.get("k", Span(5, 9)).data) == DATA[5:9]
    assert bytes(store.get("k", Tail(9)).data) == DATA[-9:]
    with pytest.raises(RangeError):
        store.get("k", From(100))


# -- failing well ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault("status", 403, times=None), AccessError, "check the permissions"),
        (Fault("status", 301, times=None), StoreError, "wrong region"),
        (Fault("status", 503, times=None), StoreError, "slow down"),
        (Fault("reset", times=None), StoreError, "the connection failed"),
        (Fault("truncate", times=None), StoreError, "cut short"),
        (Fault("short_206", times=None), StoreError, "cut short"),
        (Fault("delay", seconds=1.0, times=None), StoreError, "timed out"),
        (Fault("status", 409, method="PUT", times=None), ConflictError, "another writer"),
    ],
)
def test_errors(store: ObstoreStore, proxy: FaultProxy, fault: Fault, error: type[Exception], words: str) -> None:
    store.write("k", DATA)
    store.retry = RetryPolicy(attempts=2, attempt_seconds=0.3, deadline_seconds=2, initial=0.01)
    proxy.inject(fault)
    with pytest.raises(error, match=words) as caught:
        store.write("k", DATA) if fault.method == "PUT" else store.get("k", Span(0, 50))
    assert "Debug source" not in str(caught.value)
    pickle.loads(pickle.dumps(caught.value))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "the connection failed"),
        ("http://no-such-host.invalid", "the host name could not be resolved|the connection failed"),
    ],
)
def test_nobody_there(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        ObstoreStore(s3(Endpoint(url), "x"), retry=ONCE).get("k")


def test_a_server_without_tls(strict_s3: Endpoint) -> None:
    url = strict_s3.url.replace("http:", "https:")
    with pytest.raises(StoreError, match="TLS"):
        ObstoreStore(s3(Endpoint(url), "x"), retry=ONCE).get("k")


# -- names and kinds ---------------------------------------------------------------------------------------------------


def test_open_store_takes_it(strict_s3: Endpoint, prefix: str) -> None:
    opened = open_store(s3(strict_s3, prefix))
    assert isinstance(opened, ObstoreStore)
    assert opened.url == f"s3://{strict_s3.bucket}/{prefix}"
    assert open_store(MemoryStore(), read_only=True).read_only
    array = zarrdock.create_array(MemoryStore(), data=np.arange(16), shards=(8,), chunks=(2,))
    array[1:3] = 7  # a part of a shard: an atomic update
    assert array[:].tolist() == [0, 7, 7, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    array = zarrdock.create_array(s3(strict_s3, prefix), data=np.arange(16), shards=(8,), chunks=(2,))
    array[1:3] = 7
    array[8:] = 0  # empty shards go
    array[9:10] = 1
    array[9:10] = 0
    assert zarrdock.open_array(s3(strict_s3, prefix))[:].tolist() == [0, 7, 7, 3, 4, 5, 6, 7] + [0] * 8


def test_urls_and_traits() -> None:
    stores = {
        "s3://b/p": S3Store("b", prefix="p", region="eu-west-1"),
        "gs://b": GCSStore("b", skip_signature=True),
        "az://c/p": AzureStore("c", account_name="a", prefix="p"),
        "http://127.0.0.1:9/x": HTTPStore("http://127.0.0.1:9/x"),
        "memory:": MemoryStore(),
        "<Wrapped>": Wrapped(MemoryStore(), "get"),
    }
    for url, given in stores.items():
        store = ObstoreStore(given, merge_gap_bytes=5, n_concurrent=3)
        assert store.url == url
        assert (store.traits.merge_gap_bytes, store.traits.n_concurrent) == (5, 3)
    atomic = {url for url, given in stores.items() if ObstoreStore(given).traits.atomic_update}
    assert atomic == {"s3://b/p", "gs://b", "az://c/p", "memory:"}
    assert ObstoreStore(stores["s3://b/p"]).traits.remote
    assert not ObstoreStore(stores["memory:"]).traits.remote
    assert not ObstoreStore(stores["<Wrapped>"]).traits.writable
    assert not ObstoreStore(stores["<Wrapped>"]).traits.listable


def test_what_obstore_takes_no_key_for(tmp_path: Any) -> None:
    for store in (ObstoreStore(MemoryStore()), ObstoreStore(LocalStore(tmp_path))):
        with pytest.raises(InvalidKeyError):
            store.write("a\nb", b"")
    with pytest.raises(InvalidKeyError):
        store.write("a#1", b"")
    ObstoreStore(MemoryStore()).write("a#1", b"")


def test_two_faces_of_one_memory() -> None:
    memory = MemoryStore()
    one, other = ObstoreStore(memory), ObstoreStore(memory)
    one.write("k", b"1")
    assert bytes(other.get("k").data) == b"1"
    assert bytes(copy.copy(other).get("k").data) == b"1"
    assert bytes(pickle.loads(pickle.dumps(one)).get("k").data) == b"1"


def test_an_object_that_can_not_be_read() -> None:
    with pytest.raises(UnsupportedError, match="neither get nor get_async"):
        ObstoreStore(Wrapped(MemoryStore(), "get_range"))
    with pytest.raises(UnsupportedError, match="is no store"):
        open_store(OwnMemoryStore)


class ObstoreApart(Apart, ObstoreStore):
    pass
