"""The contract of reading: ranges, missing keys, versions, and being used from anywhere."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zarrdock.errors import InvalidKeyError, RangeError, VersionChangedError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import PrefixStore
from zarrdock.testing.contract_base import BAD_KEYS, ContractBase, case

__all__ = ["ReadContract"]

DATA = bytes(range(256))

RANGES: list[tuple[Range, bytes]] = [
    (None, DATA),
    (Span(0, 1), DATA[:1]),
    (Span(3, 10), DATA[3:10]),
    (Span(0, 256), DATA),
    (Span(255, 256), DATA[255:]),
    (Span(250, 1000), DATA[250:]),
    (From(0), DATA),
    (From(255), DATA[255:]),
    (Tail(1), DATA[255:]),
    (Tail(256), DATA),
    (Tail(1000), DATA),
]
BEYOND: list[Range] = [Span(256, 257), Span(1000, 2000), From(256), From(1000)]
EMPTY: list[Range] = [Span(0, 0), Span(5, 5), Span(10**9, 10**9), Tail(0)]
ALL_KINDS: list[Range] = [None, Span(0, 4), From(1), Tail(3)]

NAMES = [
    "zarr.json",
    ".zarray",
    "c/0/10",
    "0.1.2",
    "with space/a b",
    "per%cent/100%25",
    "a+b&c=d?e#f;g,h",
    "Grün/日本語/🧠",
    "a:b",
    "~tilde/$x/(y)/[z]/{w}/!/'/@",
    "-dash/_under/..dots/three...",
    "very/" * 12 + "deep",
]


def whole(store: Store, key: str) -> bytes | None:
    """All bytes of a key."""
    blob = store.get(key)
    return None if blob is None else bytes(blob.data)


def in_fork(check: Callable[[], bool]) -> bool:
    """Result of ``check`` in a forked child; False if it raises or takes more than 30 seconds; stderr says why."""
    # Libraries with threads of their own hang where a child collects what the parent left: children collect nothing.
    if gc.isenabled():
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads: that is what is tested
        pid = os.fork()
    if pid == 0:
        gc.disable()
        good = False
        try:
            good = check()
        except BaseException:
            traceback.print_exc()
        os._exit(0 if good else 1)
    timer = threading.Timer(30, os.kill, (pid, 9))
    timer.start()
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    return status == 0


class ReadContract(ContractBase):
    """Reading, whatever the store."""

    # -- missing -------------------------------------------------------------------------------------------------------

    def test_missing_key_is_none(self) -> None:
        store = self.filled({"a/b": DATA})
        for range_ in ALL_KINDS:
            for key in ("missing", "a/missing", "no/such/folder"):
                with case((key, range_)):
                    assert store.get(key, range_) is None

    def test_part_of_a_key_is_no_key(self) -> None:
        store = self.filled({"a/b": DATA})
        for range_ in ALL_KINDS:
            for key in ("a", "a/b/c", "a/bb"):
                with case((key, range_)):
                    assert store.get(key, range_) is None

    def test_size(self) -> None:
        store = self.filled({"a/b": DATA, "empty": b""})
        assert store.size("a/b") == 256
        assert store.size("empty") == 0
        for key in ("a", "a/b/c", "missing", "no/such/folder"):
            assert store.size(key) is None
            assert not store.exists(key)
        assert [*store.sizes(["missing", "a/b", "empty", "a", "a/b"])] == [None, 256, 0, None, 256]
        assert [*store.sizes([])] == []
        with pytest.raises(InvalidKeyError):
            store.sizes(["a/b", "/a"])
        assert store.exists("a/b")
        assert store.exists("empty")

    # -- ranges --------------------------------------------------------------------------------------------------------

    def test_range(self) -> None:
        store = self.filled({"k": DATA})
        for range_, expected in RANGES:
            with case(range_):
                blob = store.get("k", range_)
                assert blob is not None
                assert bytes(blob.data) == expected
                assert memoryview(blob.data).nbytes == len(expected)

    def test_start_at_or_beyond_the_end(self) -> None:
        store = self.filled({"k": DATA})
        for range_ in BEYOND:
            with case(range_):
                with pytest.raises(RangeError) as caught:
                    store.get("k", range_)
                assert "k" in caught.value.key
                assert isinstance(caught.value, ValueError)

    def test_empty_range_is_empty_whatever_the_key(self) -> None:
        store = self.filled({"k": DATA, "empty": b""})
        for range_ in EMPTY:
            for key in ("k", "empty", "missing"):
                with case((key, range_)):
                    blob = store.get(key, range_)
                    assert blob is not None
                    assert bytes(blob.data) == b""

    def test_empty_value(self) -> None:
        store = self.filled({"empty": b""})
        assert whole(store, "empty") == b""
        tail = store.get("empty", Tail(5))
        assert tail is not None
        assert bytes(tail.data) == b""
        for range_ in (Span(0, 1), From(0), From(1)):
            with pytest.raises(RangeError):
                store.get("empty", range_)

    def test_large_value(self) -> None:
        data = os.urandom(1 << 16) * 80  # 5 MiB
        store = self.filled({"large": data})
        assert whole(store, "large") == data
        parts: list[tuple[Range, bytes]] = [
            (Span(65_000, 4_000_000), data[65_000:4_000_000]),
            (From(5_000_000), data[5_000_000:]),
            (Tail(70_001), data[-70_001:]),
        ]
        for range_, expected in parts:
            blob = store.get("large", range_)
            assert blob is not None
            assert bytes(blob.data) == expected

    # -- batches -------------------------------------------------------------------------------------------------------

    def test_no_requests(self) -> None:
        assert self.filled().read([]) == []

    def test_batch_is_answered_in_order(self) -> None:
        items = {f"k/{i}": bytes([i]) * (i + 1) for i in range(30)}
        store = self.filled(items)
        requests = [Read(f"k/{i % 40}", Tail(2) if i % 3 else None) for i in range(79, -1, -1)]
        for request, result in zip(requests, store.read(requests), strict=True):
            value = items.get(request.key)
            if value is None:
                assert result is None
            else:
                assert isinstance(result, Blob)
                assert bytes(result.data) == (value if request.range is None else value[-2:])

    def test_many_ranges_of_one_key(self) -> None:
        store = self.filled({"k": DATA})
        spans = [Span(i % 256, i % 256 + i % 7 + 1) for i in range(0, 600, 7)]
        results = store.read([Read("k", span) for span in spans])
        assert all(isinstance(result, Blob) for result in results)
        assert [bytes(r.data) for r in results if isinstance(r, Blob)] == [DATA[s.start : s.stop] for s in spans]

    def test_bad_range_in_a_batch_raises(self) -> None:
        store = self.filled({"k": DATA})
        with pytest.raises(RangeError):
            store.read([Read("k"), Read("k", From(256)), Read("missing")])

    # -- keys ----------------------------------------------------------------------------------------------------------

    def test_bad_key(self) -> None:
        store = self.filled({"k": DATA})
        for key in BAD_KEYS:
            for verb in self._verbs(store, key):
                with case(ascii(key)):
                    with pytest.raises(InvalidKeyError) as caught:
                        verb()
                    assert isinstance(caught.value, KeyError)
        if self.can_list(store):
            assert [entry.key for entry in store.list()] == ["k"]

    def _verbs(self, store: Store, key: str) -> list[Callable[[], object]]:
        """Every verb that takes a key, or a prefix if ``key`` is not one."""
        verbs: list[Callable[[], object]] = [
            lambda: store.get(key),
            lambda: store.get(key, Span(0, 0)),
            lambda: store.read([Read("k"), Read(key)]),
            lambda: store.size(key),
        ]
        if self.can_write(store):
            verbs += [
                lambda: store.write(key, b"x"),
                lambda: store.write(key, b"x", create_only=True),
                lambda: store.delete(key),
            ]
            if key not in ("", "/", "a/"):  # those are prefixes: "" is everything, a "/" at the end is let go
                verbs.append(lambda: store.delete_prefix(key))
            if self.can_update(store):
                verbs.append(lambda: store.update(key, lambda _: b"x"))
        if key not in ("", "/", "a/") and self.can_list(store):
            verbs += [lambda: list(store.list(key)), lambda: store.list_dir(key)]
        return verbs

    def test_any_other_key(self) -> None:
        names = [key for key in NAMES if not self.cannot_name(key)]
        store = self.filled(dict.fromkeys(names, DATA))
        for key in NAMES:
            if key not in names:
                with case(key), pytest.raises(InvalidKeyError):
                    store.get(key)
        for key in names:
            with case(key):
                assert whole(store, key) == DATA
                assert store.size(key) == len(DATA)
                blob = store.get(key, Tail(2))
                assert blob is not None
                assert bytes(blob.data) == DATA[-2:]
        if self.can_list(store):
            assert sorted(entry.key for entry in store.list()) == sorted(names)

    def test_keys_that_begin_alike(self) -> None:
        items = {key: key.encode() for key in ("a/b", "a/bc", "a/b.c", "ab", "a.b", "A/b0")}
        store = self.filled(items)
        assert {key: whole(store, key) for key in items} == items

    # -- versions ------------------------------------------------------------------------------------------------------

    def test_version_of_an_unchanged_object(self) -> None:
        store = self.filled({"k": DATA, "other": DATA})
        blobs = [store.get("k"), store.get("k", Tail(9)), store.get("k", Span(1, 5))]
        versions = [blob.version for blob in blobs if blob is not None]
        assert len(versions) == 3
        assert len({hash(version) for version in versions}) == 1
        assert versions[0] == versions[1] == versions[2]
        if not store.traits.conditional_read:
            assert versions[0] is None  # or a reader would ask for it, and not be told of a change
            return
        for version in versions:
            assert version is not None
            for range_, expected in RANGES:
                blob = store.get("k", range_, version=version)
                assert blob is not None
                assert bytes(blob.data) == expected
                assert blob.version == version
            with pytest.raises(RangeError):
                store.get("k", From(256), version=version)
            assert store.get("missing", version=version) is None

    def test_version_through_pickle_is_never_wrong(self) -> None:
        store = self.filled({"k": DATA})
        blob = store.get("k", Span(0, 8))
        assert blob is not None
        result = store.read([Read("k", Span(8, 16), pickle.loads(pickle.dumps(blob.version)))])[0]
        assert isinstance(result, VersionChangedError) or (
            isinstance(result, Blob) and bytes(result.data) == DATA[8:16]
        )

    # -- from anywhere -------------------------------------------------------------------------------------------------

    def test_pickle(self) -> None:
        store = self.filled({"k": DATA})
        copy = pickle.loads(pickle.dumps(store))
        self._opened.append(copy)
        assert whole(copy, "k") == DATA
        assert copy.traits == store.traits
        assert copy.read_only == store.read_only
        if not store.identity.in_process:
            assert copy.identity == store.identity
        assert whole(store, "k") == DATA

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
    def test_fork(self) -> None:
        store = self.filled({"k": DATA})
        assert whole(store, "k") == DATA
        writable = self.can_write(store)

        def check() -> bool:
            good = whole(store, "k") == DATA and store.get("missing") is None
            if writable:
                store.write("child", b"1")
                good = good and whole(store, "child") == b"1"
            return good

        assert in_fork(check)
        assert whole(store, "k") == DATA

    def test_threads(self) -> None:
        items = {f"k{i}": os.urandom(1000) for i in range(16)}
        store = self.filled(items)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda key: whole(store, key), list(items) * 5)) == list(items.values()) * 5

    def test_in_a_running_event_loop(self) -> None:
        store = self.filled({"k": DATA})

        async def use() -> bytes | None:
            return whole(store, "k")

        assert asyncio.run(use()) == DATA
        assert asyncio.run(use()) == DATA
        assert whole(store, "k") == DATA

    def test_closed_and_used_again(self) -> None:
        store = self.filled({"k": DATA})
        with store as same:
            assert same is store
            assert whole(store, "k") == DATA
        assert whole(store, "k") == DATA
        store.close()
        store.close()
        assert store.size("k") == 256

    def test_identity(self) -> None:
        store = self.filled({"k": DATA})
        identity = store.identity
        assert identity == store.identity
        assert str(identity) == str(store.identity)
        assert hash(identity) == hash(store.identity)
        other = MemoryStore()
        assert not identity.overlaps(other.identity)
        assert PrefixStore(store, "a").identity == identity.below("a")
        assert identity.contains(PrefixStore(store, "a").identity)
        assert not PrefixStore(store, "a").identity.overlaps(PrefixStore(store, "ab").identity)

    def test_names_itself(self) -> None:
        store = self.filled({"k": DATA})
        assert store.url
        assert type(store).__name__ in repr(store)
        with pytest.raises(RangeError) as caught:
            store.get("k", From(999))
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is RangeError
        assert str(copy) == str(caught.value)
        assert copy.key == caught.value.key
