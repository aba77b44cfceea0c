import tempfile
from collections.abc import Iterator, Mapping

import pytest

from zarrdock.stores import local_files, local_version
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract


class InFolder:
    @staticmethod
    def cannot_name(key: str) -> bool:
        return bool(local_files.name_fault(key, key))

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path


class TestLocalStore(InFolder, StoreContract):
    def make_store(self) -> Store:
        return LocalStore(tempfile.mkdtemp(dir=self.folder))


class TestLocalStoreAsync(InFolder, AsyncStoreContract):
    def make_store(self) -> Store:
        return LocalStore(tempfile.mkdtemp(dir=self.folder))


class TestLocalStoreDurableInNewFolder(InFolder, StoreContract):
    n_updates = 5

    def make_store(self) -> Store:
        return LocalStore(f"{tempfile.mkdtemp(dir=self.folder)}/new/folder", durable=True)


class TestLocalStoreReadOnly(InFolder, StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = LocalStore(tempfile.mkdtemp(dir=self.folder))
        for key, value in items.items():
            store.write(key, value)
        return LocalStore(store.root, read_only=True)


class TestLocalStoreFromManyCopies(InFolder, StoreContract):
    # Nothing but the file system between the writers.
    def make_store(self) -> Store:
        return LocalStore(tempfile.mkdtemp(dir=self.folder))

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, LocalStore)
        return [LocalStore(store.root) for _ in range(self.n_threads)]


class TestLocalStoreWithFewDescriptors(InFolder, StoreContract):
    @pytest.fixture(autouse=True)
    def _few(self) -> Iterator[None]:
        before = local_version.set_limit(8)
        yield
        local_version.set_limit(before)

    def make_store(self) -> Store:
        return LocalStore(tempfile.mkdtemp(dir=self.folder))
