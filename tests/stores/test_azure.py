"""Azure through obstore: it knows no ranges that are counted from the end, so sizes are asked for first."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.strict_azure import StrictAzure
from zarrdock.errors import RangeError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.testing.contract import StoreContract

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=60, attempt_seconds=20, initial=0.01, max=0.02)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def azure() -> Iterator[StrictAzure]:
    with StrictAzure() as server:
        yield server


class TestAzure(StoreContract):
    n_threads = 4
    n_updates = 20

    @pytest.fixture(autouse=True)
    def _server(self, azure: StrictAzure) -> None:
        self.azure = azure

    def make_store(self) -> Store:
        return ObstoreStore(self.azure.store(f"t{next(_numbers)}"), retry=QUICK)

    def test_fork(self) -> None:
        pytest.skip("obstore does not work in a forked child: see test_obstore.py")


def requests(azure: StrictAzure) -> list[tuple[str, str]]:
    found = azure.log[:]
    azure.log.clear()
    return found


def test_a_tail_is_its_size_and_a_bounded_range(azure: StrictAzure) -> None:
    azure.put("t/k", bytes(range(100)))
    azure.put("t/empty", b"")
    store = ObstoreStore(azure.store("t"), retry=QUICK)
    assert not store.traits.one_request_tails
    requests(azure)
    assert bytes(store.get("k", Tail(3)).data) == bytes([97, 98, 99])
    assert requests(azure) == [("HEAD", ""), ("GET", "bytes=97-99")]
    assert bytes(store.get("k", Tail(1000)).data) == bytes(range(100))
    assert bytes(store.get("empty", Tail(5)).data) == b""
    assert store.get("missing", Tail(5)) is None
    version = store.get("k").version
    assert isinstance(store.read([Read("k", Tail(3), version)])[0], Blob)
    azure.put("t/k", bytes(50))
    assert isinstance(store.read([Read("k", Tail(3), version)])[0], zarrdock.errors.VersionChangedError)
    with pytest.raises(RangeError):
        store.get("k", From(50))


def test_a_tail_is_of_one_version(azure: StrictAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.put("race/k", b"a" * 100)
    store = ObstoreStore(azure.store("race"), retry=QUICK)
    get, left = azure._get, [2]

    def replaced(request: Any, blob: Any, wanted: str) -> Any:
        answer = get(request, blob, wanted)
        if request.method == "HEAD" and left[0]:
            left[0] -= 1
            azure.put("race/k", b"bcd"[left[0] : left[0] + 1] * (50 + left[0]))
        return answer

    monkeypatch.setattr(azure, "_get", replaced)
    assert bytes(store.get("k", Tail(60)).data) == b"b" * 50
    left[0] = 3
    assert bytes(store.get("k", Tail(60)).data) == b"b" * 50, "the whole object, at last"


def test_plans_announce_it(azure: StrictAzure) -> None:
    store = ObstoreStore(azure.store("plan"), retry=QUICK)
    zarrdock.create_array(store, data=np.arange(64), chunks=(4,), shards=(32,))
    array = zarrdock.open_array(store)
    plan = array.plan((slice(5, 40),))
    assert plan.rounds[0] == (2, 0)
    requests(azure)
    assert array[5:40].tolist() == list(range(5, 40))
    sent = requests(azure)
    assert plan.n_requests == len(sent)
    assert plan.n_rounds == 3
    assert [method for method, _ in sent].count("HEAD") == 2
    plan = array.plan((slice(5, 40),))
    array[5:40]
    assert plan.n_requests == len(requests(azure)) == 2, "hot: the indexes are known"


class NoTails:
    """An object of obspec's kind whose service refuses ranges from the end, which nobody knows beforehand."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def get(self, path: str, *, options: Any = None) -> Any:
        if isinstance((options or {}).get("range"), dict) and "suffix" in options["range"]:
            raise NotImplementedError("Operation not supported: this service does not support suffix range requests")
        return self.inner.get(path, options=options)

    def put(self, path: str, data: bytes, **options: Any) -> Any:
        return self.inner.put(path, data, **options)


def test_found_out_and_remembered() -> None:
    import obstore.store

    store = ObstoreStore(NoTails(obstore.store.MemoryStore()))
    store.write("k", bytes(range(10)))
    assert store.traits.one_request_tails
    assert bytes(store.get("k", Tail(3)).data) == b"\7\10\11"
    assert not store.traits.one_request_tails
    assert bytes(store.get("k", Span(1, 3)).data) == b"\1\2"
    assert bytes(store.get("k", Tail(30)).data) == bytes(range(10))
