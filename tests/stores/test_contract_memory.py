from zarrdock.stores.base import Store
from zarrdock.stores.memory import MemoryStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self) -> Store:
        return MemoryStore()


class TestMemoryStoreAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return MemoryStore()


class TestMemoryStoreReadOnly(StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items):
        store = MemoryStore()
        for key, value in items.items():
            store.write(key, value)
        store.read_only = True
        return store
