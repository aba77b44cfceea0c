import tempfile
from collections.abc import Mapping

import pytest

from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore, RecordingStore
from zarrdock.testing import FaultyStore, LatencyStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract


class TestPrefixStore(StoreContract):
    def make_store(self) -> Store:
        outer = MemoryStore()
        for key in ("data/x", "data/x1/a", "data/x.y/a", "a/b", "k"):
            outer.write(key, b"not below the prefix")
        return PrefixStore(outer, "data/x")


class TestPrefixStoreAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return PrefixStore(MemoryStore(), "data/x")


class TestPrefixStoreOfALocalFolder(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make_store(self) -> Store:
        outer = LocalStore(tempfile.mkdtemp(dir=self.folder))
        outer.write("x1/a", b"not below the prefix")
        return PrefixStore(PrefixStore(outer, "x/"), "y")


class TestReadOnlyStore(StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = MemoryStore()
        for key, value in items.items():
            store.write(key, value)
        return ReadOnlyStore(store)


class TestRecordingStore(StoreContract):
    def make_store(self) -> Store:
        return RecordingStore(MemoryStore(), n_events=10)


class TestFaultyStoreWithoutFaults(StoreContract):
    def make_store(self) -> Store:
        return FaultyStore(MemoryStore())


class TestLatencyStore(StoreContract):
    n_updates = 5

    def make_store(self) -> Store:
        return LatencyStore(MemoryStore(), 0.0001, seconds_per_byte=1e-9)
