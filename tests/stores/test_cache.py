"""What a CachingStore keeps, what it asks for, and what it forgets."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.stores import HookedStore
from zarrdock.errors import RangeError, VersionChangedError
from zarrdock.ranges import From, Span, Tail, resolve
from zarrdock.stores import cache as cache_module
from zarrdock.stores.base import Blob, Read
from zarrdock.stores.cache import CachingStore
from zarrdock.stores.cache_memory import Known
from zarrdock.stores.local import LocalStore
from zarrdock.stores.mapping import MappingStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import PrefixStore, RecordingStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.machine import store_machine

DATA = bytes(range(256)) * 40
MIB = 2**20


# -- the contract ------------------------------------------------------------------------------------------------------


class InFolder:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path


class TestOverMemory(StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=10 * MIB)


class TestOverMemoryAsync(AsyncStoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=10 * MIB)


class TestOverMemoryWithHardlyAnyRoom(StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=700)


class TestOverMemoryWithTtl(StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=10 * MIB, ttl=1000)


class TestOverMemoryImmutable(StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=10 * MIB, immutable=True)


class TestOverLocal(InFolder, StoreContract):
    def make_store(self):
        return CachingStore(LocalStore(self.folder / "data"), max_bytes=10 * MIB)


class TestInAFolderOverMemory(InFolder, StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=10 * MIB, folder=self.folder / "cache")


class TestInAFolderOverLocal(InFolder, StoreContract):
    def make_store(self):
        return CachingStore(LocalStore(self.folder / "data"), max_bytes=10 * MIB, folder=self.folder / "cache")


class TestInAFolderImmutable(InFolder, StoreContract):
    def make_store(self):
        return CachingStore(MemoryStore(), max_bytes=MIB, folder=self.folder / "cache", immutable=True)


class TestWithoutVersions(StoreContract):
    def make_store(self):
        return CachingStore(MappingStore({}), max_bytes=10 * MIB, ttl=1000)


class TestBelowAPrefix(InFolder, StoreContract):
    def make_store(self):
        return PrefixStore(CachingStore(MemoryStore(), max_bytes=MIB, folder=self.folder), "a/b")


TestMachine = store_machine(lambda: CachingStore(MemoryStore(), max_bytes=500))
TestMachineWithTtl = store_machine(lambda: CachingStore(MemoryStore(), max_bytes=10_000, ttl=1000))


# -- what is asked -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "folder"])
def make(request, tmp_path):
    """A caching store, the recording store inside, and the one in it."""

    def make_stores(inner=None, **options):
        inner = MemoryStore() if inner is None else inner
        if request.param == "folder":
            options["folder"] = tmp_path / "cache"
        outer = RecordingStore(inner, n_events=100)
        return CachingStore(outer, **{"max_bytes": MIB, **options}), outer, inner

    return make_stores


def asked(outer: RecordingStore) -> list[Read]:
    requests = [request for event in outer.log for request in event.requests]
    outer.reset()
    return requests


def data_of(store, key="k", range_=None, version=None):
    blob = store.get(key, range_, version=version)
    return None if blob is None else bytes(blob.data)


def without_grace(monkeypatch):
    monkeypatch.setattr(cache_module, "_VERSION_SECONDS", 0.0)


def test_a_cached_read_transfers_one_byte(make):
    store, outer, inner = make()
    inner.write("k", DATA)
    assert data_of(store) == DATA
    assert [(r.range, r.version) for r in asked(outer)] == [(None, None)]
    for range_ in (None, Span(5, 100), From(1000), Tail(7), Span(10_000, 20_000)):
        start, stop = resolve(range_, len(DATA))
        assert data_of(store, range_=range_) == DATA[start:stop]
        (check,) = asked(outer)
        assert check.range == Tail(1)
        assert check.version is not None
    assert (store.n_hits, store.n_misses, store.n_checks) == (5, 1, 5)
    assert store.miss_bytes == len(DATA)
    assert store.hit_bytes == len(DATA) + 95 + (len(DATA) - 1000) + 7 + 240
    store.reset()
    assert (store.n_hits, store.n_misses, store.n_checks, store.hit_bytes, store.miss_bytes) == (0,) * 5


def test_a_range_is_answered_from_one_that_covers_it(make):
    store, outer, inner = make(ttl=1000)
    inner.write("k", DATA)
    data_of(store, range_=Span(100, 200))
    data_of(store, range_=Tail(50))
    assert len(asked(outer)) == 2
    for range_ in (Span(100, 200), Span(120, 130), Tail(50), Tail(3)):
        start, stop = resolve(range_, len(DATA))
        assert data_of(store, range_=range_) == DATA[start:stop]
    assert asked(outer) == []
    for range_ in (Span(99, 200), Span(100, 201), Tail(51), None):
        start, stop = resolve(range_, len(DATA))
        assert data_of(store, range_=range_) == DATA[start:stop]
        assert len(asked(outer)) == 1
    assert data_of(store, range_=Span(5000, 20_000)) == DATA[5000:]  # from the whole, at last
    assert asked(outer) == []
    with pytest.raises(RangeError):
        data_of(store, range_=From(len(DATA)))


def test_a_batch_is_one_round(make):
    store, outer, inner = make()
    for i in range(4):
        inner.write(f"k{i}", DATA)
    store.read([Read("k0"), Read("k1", Tail(9))])
    outer.reset()
    results = store.read([Read("k0"), Read("k0", Span(1, 2)), Read("k1", Tail(8)), Read("k2"), Read("k3", Span(0, 0))])
    assert [len(result.data) for result in results] == [len(DATA), 1, 8, len(DATA), 0]
    assert outer.n_rounds == 1
    # One question for each object, not for each range.
    assert [(r.key, r.range) for r in asked(outer)] == [("k2", None), ("k0", Tail(1)), ("k1", Tail(1))]


def test_what_is_read_anyway_answers_the_question(make):
    store, outer, inner = make()
    inner.write("k", DATA)
    data_of(store, range_=Span(0, 10))
    outer.reset()
    assert [bytes(r.data) for r in store.read([Read("k", Span(0, 5)), Read("k", Span(50, 55))])] == [
        DATA[:5],
        DATA[50:55],
    ]
    assert [r.range for r in asked(outer)] == [Span(50, 55)]
    inner.write("k", DATA[::-1])
    assert [bytes(r.data) for r in store.read([Read("k", Span(0, 5)), Read("k", Span(60, 65))])] == [
        DATA[::-1][:5],
        DATA[::-1][60:65],
    ]
    assert [r.range for r in asked(outer)] == [Span(60, 65), Span(0, 5)]


def test_what_others_write_is_seen_at_once(make):
    store, _, inner = make()
    for value in (b"one", b"two", b"three"):
        inner.write("k", value)
        for _ in range(3):
            assert data_of(store) == value
            assert data_of(store, range_=Tail(2)) == value[-2:]
    inner.delete("k")
    assert data_of(store) is None
    inner.write("k", b"")
    assert data_of(store) == b""
    inner.write("k", b"four")
    assert data_of(store, range_=Span(1, 3)) == b"ou"
    assert store.n_hits > 5


def test_reads_of_a_version_follow_for_free(make):
    # The two rounds of a sharded read: the index at the end, then chunks of that version.
    store, outer, inner = make()
    inner.write("shard", DATA)
    index = store.get("shard", Tail(100))
    assert data_of(store, "shard", Span(0, 50), index.version) == DATA[:50]
    outer.reset()
    again = store.get("shard", Tail(100))
    assert len(asked(outer)) == 1
    assert again.version == index.version
    assert data_of(store, "shard", Span(0, 50), again.version) == DATA[:50]
    assert asked(outer) == []
    assert data_of(store, "shard", Span(60, 70), again.version) == DATA[60:70]
    assert [r.version for r in asked(outer)] == [index.version]


def test_reads_of_a_version_are_checked_later(make, monkeypatch):
    # An index that is kept somewhere else must not hide a new shard for ever.
    store, outer, inner = make()
    inner.write("shard", DATA)
    version = store.get("shard", Span(0, 50)).version
    without_grace(monkeypatch)
    assert data_of(store, "shard", Span(0, 50), version) == DATA[:50]
    assert [r.range for r in asked(outer)] == [Span(0, 50), Tail(1)]
    inner.write("shard", DATA[::-1])
    result = store.read([Read("shard", Span(0, 50), version)])[0]
    assert isinstance(result, VersionChangedError)
    assert pickle.loads(pickle.dumps(result)).key == "shard"
    inner.delete("shard")
    assert data_of(store, "shard", Span(0, 50), version) is None


def test_ttl(make, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: clock[0])
    store, outer, inner = make(ttl=60)
    inner.write("k", DATA)
    data_of(store)
    inner.write("k", b"new")
    clock[0] += 59
    outer.reset()
    assert data_of(store) == DATA
    assert asked(outer) == []
    clock[0] += 2
    assert data_of(store) == b"new"
    store.write("k", b"newer")  # one's own writing is seen at once
    assert data_of(store) == b"newer"
    store.update("k", lambda _: b"newest")
    assert data_of(store) == b"newest"
    store.delete_prefix("")
    assert data_of(store) is None


def test_parts_without_a_version_are_not_mixed(make, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(cache_module.time, "monotonic", lambda: clock[0])
    store, _, inner = make(MappingStore({}), ttl=60)
    inner.write("k", b"a" * 100)
    assert data_of(store, range_=Span(0, 10)) == b"a" * 10
    clock[0] += 50
    inner.write("k", b"b" * 100)
    data_of(store, range_=Span(10, 20))
    clock[0] += 15  # the first part is too old, though the second is not
    assert data_of(store, range_=Span(0, 10)) == b"b" * 10
    clock[0] += 61
    inner.write("k", b"c" * 100)
    assert data_of(store, range_=Span(10, 20)) == b"c" * 10
    assert data_of(store, range_=Span(0, 10)) == b"c" * 10


def test_without_versions_nothing_is_kept(make):
    store, _, inner = make(MappingStore({}))
    inner.write("k", DATA)
    for _ in range(2):
        assert data_of(store) == DATA
    assert store.n_hits == store.n_checks == store.cached_bytes == 0
    inner.write("k", b"new")
    assert data_of(store) == b"new"


@pytest.mark.parametrize("inner", [MemoryStore, lambda: MappingStore({})])
def test_immutable(make, inner):
    store, outer, inner = make(inner(), immutable=True)
    inner.write("k", DATA)
    data_of(store)
    inner.write("k", b"which was not to be")
    outer.reset()
    for _ in range(2):
        assert data_of(store) == DATA
    assert asked(outer) == []
    store.clear()
    assert data_of(store) == b"which was not to be"


def test_clear(make):
    store, _, inner = make(immutable=True)
    inner.write("k", DATA)
    data_of(store)
    assert store.cached_bytes >= len(DATA)
    store.clear()
    assert store.cached_bytes == 0
    assert data_of(store) == DATA
    assert store.n_misses == 2


def test_forgotten_below_a_prefix(make):
    store, outer, inner = make(immutable=True)
    for key in ("a/b", "a/c/d", "ab/c", "k"):
        inner.write(key, DATA)
        data_of(store, key)
    store.delete_prefix("a")
    assert data_of(store, "a/b") is data_of(store, "a/c/d") is None
    outer.reset()
    assert data_of(store, "ab/c") == data_of(store, "k") == DATA
    assert asked(outer) == []


def test_bounded(make):
    store, outer, inner = make(max_bytes=50_000, ttl=1000)
    for i in range(30):
        inner.write(f"k{i}", bytes([i]) * 3000)
    inner.write("too large", bytes(60_000))
    data_of(store, "too large")
    data_of(store, "k0")
    for i in range(1, 30):
        data_of(store, f"k{i}")
        time.sleep(0.002)
        data_of(store, "k0")  # used all the time, so it stays
        assert store.cached_bytes <= 50_000
    assert store.cached_bytes > 25_000
    outer.reset()
    for i in (0, 28, 29):
        assert data_of(store, f"k{i}") == bytes([i]) * 3000
    assert asked(outer) == []
    assert data_of(store, "k1") == bytes([1]) * 3000
    assert len(asked(outer)) == 1


def test_no_room_at_all(make):
    store, _, inner = make(max_bytes=0)
    inner.write("k", DATA)
    assert data_of(store) == data_of(store) == DATA
    assert store.n_hits == store.cached_bytes == 0
    with pytest.raises(ValueError, match="negative"):
        CachingStore(inner, max_bytes=-1)


def test_a_write_in_the_middle_of_a_read(make):
    # What was read may be from before, so it must not be kept as what is there now.
    during = []
    meddled = HookedStore(
        MemoryStore(), after=lambda event: during.pop()() if event.verb == "read" and during else None
    )
    store, _, inner = make(meddled, immutable=True)
    inner.write("k", b"old")
    during.append(lambda: store.write("k", b"new"))
    assert data_of(store) == b"old"
    assert data_of(store) == b"new"


def test_threads(make):
    store, _, inner = make(max_bytes=30_000)
    for i in range(20):
        inner.write(f"k{i}", bytes([i]) * 3000)

    def work(n: int) -> None:
        for i in range(60):
            k = (i * n) % 20
            if i % 10 == 9:
                store.write(f"k{k}", bytes([k]) * 3000)
            assert data_of(store, f"k{k}", Span(n * 10, n * 10 + 500)) == bytes([k]) * 500

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(1, 7)))
    assert store.n_hits + store.n_misses >= 360


def test_pickled_copy(make):
    store, _, inner = make(immutable=True)
    inner.write("k", DATA)
    data_of(store)
    copy = pickle.loads(pickle.dumps(store))
    assert data_of(copy) == DATA
    assert (copy.ttl, copy.immutable, copy.traits) == (store.ttl, store.immutable, store.traits)


def test_traits_are_those_of_the_store_inside():
    inner = MemoryStore()
    inner.traits = replace(inner.traits, merge_gap_bytes=12345)
    assert CachingStore(inner, max_bytes=1).traits == inner.traits
    assert CachingStore(inner, max_bytes=1).url == inner.url
    assert CachingStore(MemoryStore(read_only=True), max_bytes=1).read_only


# -- which bytes are known ---------------------------------------------------------------------------------------------

SIZE = 60
ranges = st.one_of(
    st.none(),
    st.builds(From, st.integers(0, SIZE - 1)),
    st.builds(Tail, st.integers(1, SIZE + 20)),
    st.tuples(st.integers(0, SIZE - 1), st.integers(1, 40)).map(lambda pair: Span(pair[0], pair[0] + pair[1])),
)


@given(st.lists(ranges, max_size=12), st.lists(st.integers(0, SIZE), max_size=3), ranges)
def test_segments(read, removed, wanted):
    data = bytes(range(SIZE))
    known = Known()
    held: dict[int, bytes] = {}
    for range_ in read:
        start, stop = resolve(range_, SIZE)
        segment = known.learn(range_, stop - start)
        superfluous = known.add(segment, stop - start)
        if superfluous is not None:
            for old in superfluous:
                held.pop(old)
            held[segment] = data[start:stop]
        assert known.size in (None, SIZE)
    for segment in removed:
        if held.pop(segment, None) is not None:
            known.remove(segment)
    assert sorted(held) == sorted([*known.starts, *([-1] if known.tail else [])])
    place = known.locate(wanted)
    start, stop = resolve(wanted, SIZE)
    if place is not None:
        assert held[place.segment][place.offset : place.offset + place.n] == data[start:stop]
    elif not removed and wanted in read:
        # What was asked for before is known.
        raise AssertionError(f"{wanted} is not found")


@given(st.lists(ranges, min_size=1, max_size=12), st.data())
def test_part_of_what_was_read_is_found(read, data):
    known = Known()
    for range_ in read:
        start, stop = resolve(range_, SIZE)
        known.add(known.learn(range_, stop - start), stop - start)
    one = data.draw(st.sampled_from(read))
    start, stop = resolve(one, SIZE)
    if known.size is None and isinstance(one, Tail):
        assert known.locate(Tail(data.draw(st.integers(1, one.n)))) is not None
    else:
        first = data.draw(st.integers(start, stop - 1))
        assert known.locate(Span(first, data.draw(st.integers(first + 1, stop)))) is not None


def test_nothing_is_kept_of_versions_that_mean_nothing_elsewhere(tmp_path):
    inner = LocalStore(tmp_path / "data")
    inner.write("k", DATA)
    store = CachingStore(inner, max_bytes=MIB, folder=tmp_path / "cache")
    for _ in range(2):
        assert data_of(store) == DATA
    assert store.cached_bytes == 0
    assert not (tmp_path / "cache").exists()
    in_memory = CachingStore(inner, max_bytes=MIB)
    for _ in range(2):
        assert data_of(in_memory) == DATA
    assert in_memory.n_hits == 1
    assert isinstance(in_memory.read([Read("k", Span(0, 5))])[0], Blob)
