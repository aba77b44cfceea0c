"""The suite finds what it is there to find: stores that break one rule each fail it, in a test that names the rule."""

import os
import threading
import time

import pytest

from zarrdock.errors import RangeError, VersionChangedError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Entry, Listing, Read, Traits, WrapperStore, join_value
from zarrdock.stores.memory import MemoryStore
from zarrdock.testing.contract import StoreContract


class Broken(WrapperStore):
    def __init__(self):
        super().__init__(MemoryStore())


class MissingRaises(Broken):
    def read(self, requests):
        results = super().read(requests)
        if None in results:
            raise FileNotFoundError
        return results


class MissingIsEmpty(Broken):
    def read(self, requests):
        return [Blob(b"") if r is None else r for r in super().read(requests)]


class ShortTailRaises(Broken):
    def read(self, requests):
        for r in requests:
            if isinstance(r.range, Tail) and r.range.n > (self.store.size(r.key) or 0):
                raise RangeError("tail")
        return super().read(requests)


class EmptyTailIsEverything(Broken):
    def read(self, requests):
        return super().read([Read(r.key, None if r.range == Tail(0) else r.range, r.version) for r in requests])


class BeyondTheEndIsEmpty(Broken):
    def read(self, requests):
        try:
            return super().read(requests)
        except RangeError:
            return [Blob(b"") for _ in requests]


class EndIsInclusive(Broken):
    def read(self, requests):
        def wider(r):
            return Span(r.start, r.stop + 1) if isinstance(r, Span) and r.stop > r.start else r

        return super().read([Read(r.key, wider(r.range), r.version) for r in requests])


class RangeIgnored(Broken):
    def read(self, requests):
        return super().read([Read(r.key, None if isinstance(r.range, From) else r.range, r.version) for r in requests])


class BatchOutOfOrder(Broken):
    def read(self, requests):
        in_order = sorted(requests, key=lambda r: r.key)
        return super().read(in_order)


class VersionIgnored(Broken):
    def read(self, requests):
        return super().read([Read(r.key, r.range) for r in requests])


class VersionIgnoredByASlowServer(VersionIgnored):
    def read(self, requests):
        if any(r.version for r in requests):
            time.sleep(0.001)
        return super().read(requests)


class VersionIsTheSize(Broken):
    def read(self, requests):
        results = super().read([Read(r.key, r.range) for r in requests])
        out = []
        for r, b in zip(requests, results, strict=True):
            size = self.store.size(r.key)
            if b is None or r.version in (None, size):
                out.append(b and Blob(b.data, size))
            else:
                out.append(VersionChangedError("changed", key=r.key))
        return out

    def write(self, key, value, /, *, create_only=False):
        super().write(key, value, create_only=create_only)


class ChangedVersionIsMissing(Broken):
    def read(self, requests):
        return [None if isinstance(r, VersionChangedError) else r for r in super().read(requests)]


class PrefixesMatchText(Broken):
    def list(self, prefix=""):
        prefix = prefix.removesuffix("/")
        return (Entry(e.key, e.size) for e in self.store.list() if e.key.startswith(prefix))


class DeletePrefixMatchesText(Broken):
    def delete_prefix(self, prefix):
        for e in [*self.store.list()]:
            if e.key.startswith(prefix.removesuffix("/")):
                self.store.delete(e.key)


class WrongSizes(Broken):
    def list(self, prefix=""):
        return (Entry(e.key, 0) for e in self.store.list(prefix))


class FolderRemains(Broken):
    def list_dir(self, prefix=""):
        found = super().list_dir(prefix)
        return Listing(found.keys, found.prefixes or (("a",) if prefix == "" else ()))


class DeletingTwiceRaises(Broken):
    def delete(self, key):
        if self.store.size(key) is None:
            raise FileNotFoundError(key)
        super().delete(key)


class KeepsTheBuffer(Broken):
    def write(self, key, value, /, *, create_only=False):
        version = super().write(key, value, create_only=create_only)
        if isinstance(value, bytearray):
            self.store._blobs[key] = Blob(value, version)
        return version


class OnlyTheFirstPart(Broken):
    def write(self, key, value, /, *, create_only=False):
        one = isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "dtype") or not len(value)
        return super().write(key, value if one else value[0], create_only=create_only)


class CreateOverwrites(Broken):
    def write(self, key, value, /, *, create_only=False):
        return super().write(key, value)


class CreateChecksThenWrites(Broken):
    def write(self, key, value, /, *, create_only=False):
        if create_only and self.store.size(key) is not None:
            return super().write(key, value, create_only=True)
        time.sleep(0.01)
        return super().write(key, value)


class UpdateReadsThenWrites(Broken):
    def update(self, key, change):
        blob = self.store.get(key)
        old = None if blob is None else blob.data
        new = change(old)
        time.sleep(0.0002)
        if new is None:
            self.store.delete(key)
        elif new is not old:
            self.store.write(key, new)


class WritesPassUpdatesBy(Broken):
    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def update(self, key, change):
        with self._lock:
            UpdateReadsThenWrites.update(self, key, change)

    def __getstate__(self):
        return {**self.__dict__, "_lock": None}


class FailedUpdateDeletes(Broken):
    def update(self, key, change):
        try:
            super().update(key, change)
        except Exception:
            self.store.delete(key)
            raise


class SameObjectIsWritten(Broken):
    def update(self, key, change):
        def copied(old):
            new = change(old)
            return new if new is None else b"".join([bytes(join_value(new)), b""])

        super().update(key, lambda old: None if (new := copied(old)) is None else bytearray(new))


class WritesInPieces(Broken):
    def write(self, key, value, /, *, create_only=False):
        data = bytes(join_value(value))
        if not create_only and len(data) > 10:
            super().write(key, data[: len(data) // 2])
            time.sleep(0.001)
        return super().write(key, data, create_only=create_only)


class UnnamedKeysPass(Broken):
    def read(self, requests):
        if any(r.key in ("", "/a") for r in requests):
            return [None for _ in requests]
        return super().read(requests)


class NotPickled(Broken):
    def __reduce__(self):
        raise TypeError("cannot pickle")


class TornDownByFork(Broken):
    def __init__(self):
        super().__init__()
        self.pid = os.getpid()

    def read(self, requests):
        assert os.getpid() == self.pid
        return super().read(requests)


class ReadOnlyStillDeletes(Broken):
    def __init__(self):
        super().__init__()
        self.store.write("k", bytes(range(256)))
        self.read_only = True

    def write(self, key, value, /, *, create_only=False):
        self._check_writable(key)

    def update(self, key, change):
        self._check_writable(key)


class SaysAtomicIsNot(Broken):
    def __init__(self):
        super().__init__()
        self.traits = Traits(atomic_update=False)


BREAKS = [
    (MissingRaises, "test_missing_key_is_none", ()),
    (MissingIsEmpty, "test_missing_key_is_none", ()),
    (ShortTailRaises, "test_range", ()),
    (EmptyTailIsEverything, "test_empty_range_is_empty_whatever_the_key", ()),
    (BeyondTheEndIsEmpty, "test_start_at_or_beyond_the_end", ()),
    (EndIsInclusive, "test_range", ()),
    (RangeIgnored, "test_range", ()),
    (BatchOutOfOrder, "test_batch_is_answered_in_order", ()),
    (VersionIgnored, "test_version_of_a_replaced_object", ()),
    (VersionIgnoredByASlowServer, "test_second_round_is_of_the_first_rounds_object", ()),
    (VersionIsTheSize, "test_no_version_comes_twice", ()),
    (ChangedVersionIsMissing, "test_version_of_a_replaced_object", ()),
    (PrefixesMatchText, "test_list_matches_whole_segments", ()),
    (DeletePrefixMatchesText, "test_delete_prefix", ("foo", {"foobar/a", "x"})),
    (WrongSizes, "test_list_all", ()),
    (FolderRemains, "test_prefixes_go_with_their_keys", ()),
    (DeletingTwiceRaises, "test_delete", ()),
    (KeepsTheBuffer, "test_later_changes_of_the_buffer_do_not_show", ()),
    (OnlyTheFirstPart, "test_value", ()),
    (CreateOverwrites, "test_create_only", ()),
    (CreateChecksThenWrites, "test_one_creator_wins", ()),
    (UpdateReadsThenWrites, "test_no_update_is_lost", ()),
    (WritesPassUpdatesBy, "test_a_slow_update_is_not_overtaken", ("write",)),
    (WritesPassUpdatesBy, "test_a_slow_update_is_not_overtaken", ("delete",)),
    (FailedUpdateDeletes, "test_a_change_that_raises_changes_nothing", ()),
    (SameObjectIsWritten, "test_update_to_the_same_object_changes_nothing", ()),
    (WritesInPieces, "test_no_reader_sees_a_mixture", ()),
    (UnnamedKeysPass, "test_bad_key", ()),
    (NotPickled, "test_pickle", ()),
    (TornDownByFork, "test_fork", ()),
    (ReadOnlyStillDeletes, "test_delete", ()),
    (SaysAtomicIsNot, "test_update", ()),
]


@pytest.mark.parametrize(
    ("broken", "test", "arguments"), BREAKS, ids=[f"{broken.__name__}-{test}" for broken, test, _ in BREAKS]
)
def test_a_broken_store_fails(broken, test, arguments):
    class Contract(StoreContract):
        def make_store(self):
            return broken()

        def fill(self, items):
            store = broken()
            for key, value in items.items():
                store.store.write(key, value)
            return store

    contract = Contract()
    contract._opened = []
    # pytest.fail and pytest.raises raise an exception of pytest's own, below BaseException only.
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        getattr(contract, test)(*arguments)
    assert not isinstance(caught.value, (NameError, AttributeError))
