import pickle
import threading
import time

import pytest

from support.stores import AbleStore, HookedStore
from zarrdock.errors import AccessError, InvalidKeyError, RangeError, ReadOnlyError, StoreError, VersionChangedError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Listing, Patch, Read, WrapperStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import Event, PrefixStore, ReadOnlyStore, RecordingStore
from zarrdock.testing import FaultyStore, LatencyStore, StoreFault
from zarrdock.testing.contract_read import whole


@pytest.fixture
def inner():
    store = MemoryStore()
    for key in ("a/k", "a/b/k", "ab/k", "k"):
        store.write(key, key.encode())
    return store


# -- PrefixStore -------------------------------------------------------------------------------------------------------


def test_prefix_translates_both_ways(inner):
    store = PrefixStore(inner, "a/")
    assert {entry.key: whole(store, entry.key) for entry in store.list()} == {"k": b"a/k", "b/k": b"a/b/k"}
    assert [entry.key for entry in store.list("b")] == ["b/k"]
    assert store.list_dir() == Listing(("k",), ("b",))
    store.write("new", b"1")
    assert whole(inner, "a/new") == b"1"
    store.delete_prefix("")
    assert sorted(entry.key for entry in inner.list()) == ["ab/k", "k"]


def test_prefix_cannot_be_left(inner):
    store = PrefixStore(inner, "a")
    for key in ("../k", "/k", "", "b/../../k", "C:/k"):
        with pytest.raises(InvalidKeyError):
            store.get(key)
        with pytest.raises(InvalidKeyError):
            store.write(key, b"")
    with pytest.raises(InvalidKeyError):
        PrefixStore(inner, "../a")


def test_prefix_errors_name_the_key_of_the_store_inside(inner):
    store = PrefixStore(inner, "a")
    with pytest.raises(RangeError) as caught:
        store.get("k", From(99))
    assert caught.value.key == "a/k"
    version = store.get("k").version
    store.write("k", b"new")
    assert store.read([Read("k", None, version)])[0].key == "a/k"


def test_urls_and_traits_pass_through(tmp_path):
    inner = LocalStore(tmp_path)
    url = f"file://{tmp_path}"
    assert PrefixStore(inner, "a/b").url == f"{url}/a/b"
    assert PrefixStore(PrefixStore(inner, "a"), "b").url == f"{url}/a/b"
    assert PrefixStore(inner, "").url == url
    for store in (WrapperStore(inner), ReadOnlyStore(inner), RecordingStore(inner), FaultyStore(inner)):
        assert store.url == url
        assert store.traits == inner.traits
        assert type(store).__name__ in repr(store)
    assert PrefixStore(ReadOnlyStore(inner), "a").read_only


WRAPPERS = {
    "none": WrapperStore,
    "prefix": lambda store: PrefixStore(store, "a"),
    "recording": RecordingStore,
    "costs": lambda store: store.with_costs(merge_gap_bytes=7),
    "faulty": FaultyStore,
    "slow": lambda store: LatencyStore(store, 0.001),
    "hooked": HookedStore,
    "several": lambda store: RecordingStore(PrefixStore(ReadOnlyStore(store), "")),
}


@pytest.mark.parametrize("name", WRAPPERS)
async def test_every_wrapper_forwards_every_ability(name):
    inner = AbleStore()
    inner.write("k", b"0123")
    inner.write("a/k", b"0123")
    store = WRAPPERS[name](inner)
    assert [r.data for r in await store.aread([Read("k"), Read("k", Span(1, 2))])] == [b"0123", b"1"]
    futures = store.submit_read([[Read("k"), Read("no")], [Read("k", Span(2, 3))]])
    first, second = (future.result(10) for future in futures)
    assert (first[0].data, first[1], second[0].data) == (b"0123", None, b"2")
    assert [*store.sizes(["k", "no"])] == [4, None]
    assert inner.used == ["aread", "submit_read", "sizes"]
    if name != "several":
        store.patch("k", lambda old: Patch(6, [(1, b"xy")]))
        assert store.get("k").data == b"0xy3\0\0"
        assert inner.used[-1] == "patch"


async def test_a_wrapper_that_changes_a_verb_is_asked_by_way_of_it():
    class Louder(WrapperStore):
        def read(self, requests):
            return [Blob(b"!") for _ in requests]

        def size(self, key):
            return 1

        def update(self, key, change):
            self.store.update(key + "!", change)

        def delete(self, key):
            self.store.delete(key + "!")

    inner = AbleStore()
    inner.write("k!", b"ab")
    store = Louder(inner)
    assert (await store.aread([Read("k")]))[0].data == b"!"
    assert store.submit_read([[Read("k")]]) is None
    assert [*store.sizes(["k"])] == [1]
    store.patch("k", lambda old: Patch(1, []))
    assert inner.get("k!").data == b"a"
    store.delete_many(["k"])
    assert not inner.exists("k!")
    assert inner.used == []


def test_a_recorded_round_counts_once_however_many_parts_it_has():
    store = RecordingStore(AbleStore(), n_events=9)
    store.write("k", b"0123")
    for future in store.submit_read([[Read("k")], [Read("k", Span(0, 1)), Read("k", Span(0, 0))]]):
        future.result(10)
    assert (store.n_rounds, store.n_requests, store.nbytes) == (1, 2, 5)
    assert store.log[-1] == Event("read", "k", (Read("k"), Read("k", Span(0, 1))), 5)


def test_faults_of_rounds_that_are_sent_early():
    store = FaultyStore(AbleStore(), [StoreFault("read", "k", count=1)])
    store.write("k", b"0123")
    (future,) = store.submit_read([[Read("k")]])
    with pytest.raises(StoreError):
        future.result(10)
    (future,) = store.submit_read([[Read("k")]])
    assert future.result(10)[0].data == b"0123"
    store.add(StoreFault("read", "k", None, spoil=lambda data: bytes(data)[::-1]))
    (future,) = store.submit_read([[Read("k")]])
    assert future.result(10)[0].data == b"3210"


# -- ReadOnlyStore -----------------------------------------------------------------------------------------------------


def test_read_only_leaves_the_store_inside_writable(inner):
    store = ReadOnlyStore(inner)
    for verb in (
        lambda: store.write("k", b""),
        lambda: store.update("k", lambda _: b""),
        lambda: store.delete("k"),
        lambda: store.delete_prefix(""),
    ):
        with pytest.raises(ReadOnlyError):
            verb()
    inner.write("k", b"new")
    assert whole(store, "k") == b"new"
    assert not inner.read_only


# -- RecordingStore ----------------------------------------------------------------------------------------------------


def test_recording_counts(inner):
    store = RecordingStore(inner, n_events=3)
    store.read([Read("k"), Read("missing"), Read("a/k", Tail(2)), Read("k", Span(0, 0))])
    assert (store.n_rounds, store.n_requests, store.nbytes) == (1, 3, 3)
    store.read([])
    store.read([Read("k", Tail(0))])
    assert (store.n_rounds, store.n_requests) == (1, 3)
    store.get("a/b/k", Span(0, 4))
    assert (store.n_rounds, store.n_requests, store.nbytes) == (2, 4, 7)
    store.write("w", [b"12", b"345"])
    store.update("w", lambda old: [old, b"6"])
    store.update("w", lambda old: old)
    store.update("w", lambda _: None)
    assert (store.n_writes, store.n_updates, store.bytes_written) == (1, 3, 11)
    assert [event.verb for event in store.log] == ["update"] * 3
    store.size("k")
    assert store.log[-1] == Event("size", "k")
    store.reset()
    assert (store.n_rounds, store.n_requests, store.nbytes, store.n_writes, len(store.log)) == (0, 0, 0, 0, 0)
    store.get("k", Tail(1))
    assert [*store.log] == [Event("read", "k", (Read("k", Tail(1)),), 1)]


def test_recording_counts_no_call_that_raises(inner):
    store = RecordingStore(inner)
    with pytest.raises(RangeError):
        store.get("k", From(99))
    with pytest.raises(ZeroDivisionError):
        store.update("k", lambda _: 1 // 0)
    with pytest.raises(InvalidKeyError):
        store.write("", b"")
    assert (store.n_rounds, store.n_updates, store.n_writes, store.bytes_written) == (0, 0, 0, 0)


def test_recording_among_threads_and_through_pickle(inner):
    store = RecordingStore(inner, n_events=5)
    threads = [threading.Thread(target=lambda: [store.get("k") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.n_rounds, store.n_requests, store.nbytes) == (800, 800, 800)
    copy = pickle.loads(pickle.dumps(store))
    copy.get("k")
    assert (copy.n_rounds, store.n_rounds, len(copy.log)) == (801, 800, 5)


# -- FaultyStore and LatencyStore --------------------------------------------------------------------------------------


def test_faults_befall_what_they_match(inner):
    store = FaultyStore(inner, [StoreFault("read", "a/*", AccessError, count=2, after=1)])
    assert whole(store, "a/k") == b"a/k"
    assert whole(store, "k") == b"k"
    for _ in range(2):
        with pytest.raises(AccessError) as caught:
            store.read([Read("k"), Read("a/k")])
        assert caught.value.key == "a/k"
    assert whole(store, "a/k") == b"a/k"
    assert store.n_faults == 2
    store.add(StoreFault(count=None))
    for verb in (lambda: store.size("k"), lambda: store.list(), lambda: store.delete("k"), lambda: store.list_dir("")):
        with pytest.raises(StoreError):
            verb()
    store.clear()
    assert store.size("k") == 1


def test_fault_before_and_lost_reply(inner):
    slow, lost = StoreFault("write", error=TimeoutError("slow")), StoreFault("write", when="lost", after=1)
    store = FaultyStore(inner, [slow, lost])
    with pytest.raises(TimeoutError):
        store.write("k", b"not written")
    assert whole(inner, "k") == b"k"
    with pytest.raises(StoreError):
        store.write("k", b"written")
    assert whole(inner, "k") == b"written"
    copy = pickle.loads(pickle.dumps(store))
    copy.write("k", b"again")
    assert whole(copy, "k") == b"again"


def test_spoilt_bytes(inner):
    store = FaultyStore(inner, [StoreFault("read", "a/k", None, spoil=lambda data: bytes(data)[:-1])])
    good, spoilt, missing = store.read([Read("k"), Read("a/k"), Read("missing")])
    assert isinstance(good, Blob)
    assert (bytes(good.data), bytes(spoilt.data), missing) == (b"k", b"a/", None)
    assert spoilt.version == inner.get("a/k").version
    assert whole(store, "a/k") == b"a/k"


def test_faults_of_updates_leave_versions_sound(inner):
    store = FaultyStore(inner, [StoreFault("update", when="lost")])
    version = store.get("k").version
    with pytest.raises(StoreError):
        store.update("k", lambda old: old + b"+")
    assert isinstance(store.read([Read("k", None, version)])[0], VersionChangedError)


def test_latency_once_a_batch(inner):
    store = LatencyStore(inner, 0.02, seconds_per_byte=0.01)
    begin = time.perf_counter()
    store.read([Read("k"), Read("missing")])
    seconds = time.perf_counter() - begin
    assert 0.03 <= seconds < 0.5
    begin = time.perf_counter()
    store.write("k", [b"12", b"3"])
    assert time.perf_counter() - begin >= 0.05
