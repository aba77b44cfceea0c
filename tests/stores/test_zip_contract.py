import io
import zipfile
from collections.abc import Mapping

import pytest

from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.mapping import MappingStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.machine import store_machine


def zipped(items: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as Python's own zipfile writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in items.items():
            archive.writestr(name, data)
    return out.getvalue()


class InFolder:
    n_made = 0

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def new_path(self) -> str:
        self.n_made += 1
        return str(self.folder / f"{self.n_made}.zip")


class TestLocalZip(InFolder, StoreContract):
    def make_store(self) -> Store:
        return ZipStore(self.new_path())


class TestLocalZipAsync(InFolder, AsyncStoreContract):
    def make_store(self) -> Store:
        return ZipStore(self.new_path())


class TestLocalZipDeflatedDurable(InFolder, StoreContract):
    n_updates = 5

    def make_store(self) -> Store:
        return ZipStore(f"{self.new_path()}/new/folder/x.zip", compressed=True, durable=True)


class TestLocalZipWithPrefix(InFolder, StoreContract):
    def make_store(self) -> Store:
        path = self.new_path()
        with ZipStore(path) as outer:
            for key in ("data/x1/a", "data/x.y/a", "a/b", "k"):
                outer.write(key, b"not below the prefix")
        return ZipStore(path, prefix="data/x")


class TestLocalZipFromManyCopies(InFolder, StoreContract):
    # Nothing but the file system between the writers.
    n_updates = 20

    def make_store(self) -> Store:
        return ZipStore(self.new_path())

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, ZipStore)
        return [ZipStore(store.url) for _ in range(self.n_threads)]


class TestFlushedAfterEachStep(InFolder, StoreContract):
    def make_store(self) -> Store:
        return ZipStore(self.new_path())

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = ZipStore(self.new_path())
        for key, value in items.items():
            store.write(key, value)
            store.flush()
        return store


class TestCompacted(InFolder, StoreContract):
    def make_store(self) -> Store:
        return ZipStore(self.new_path())

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = ZipStore(self.new_path())
        for key, value in items.items():
            store.write(key, b"before")
            store.write(key, value)
        store.compact()
        return store


class TestLocalZipReadOnly(InFolder, StoreContract):
    method = zipfile.ZIP_STORED

    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        path = self.new_path()
        with open(path, "wb") as file:
            file.write(zipped(items, self.method))
        return ZipStore(path, read_only=True)


class TestDeflatedReadOnly(TestLocalZipReadOnly):
    method = zipfile.ZIP_DEFLATED


class TestZipOfAnotherWriter(InFolder, StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        path = self.new_path()
        with open(path, "wb") as file:
            file.write(zipped(items))
        return ZipStore(path)


class TestZipInMemory(StoreContract):
    method = zipfile.ZIP_STORED

    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        outer = MemoryStore()
        outer.write("archives/x.zip", zipped(items, self.method))
        return ZipStore((outer, "archives/x.zip"))


class TestZipInMemoryDeflated(TestZipInMemory):
    method = zipfile.ZIP_DEFLATED


class TestZipInMemoryAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        outer = MemoryStore()
        outer.write("x.zip", zipped(items))
        return ZipStore((outer, "x.zip"))


class TestZipInAStoreWithoutVersions(StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        return ZipStore((MappingStore({"x.zip": zipped(items)}), "x.zip"))


class TestZipInALocalStore(InFolder, StoreContract):
    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        outer = LocalStore(self.new_path())
        outer.write("x.zip", zipped(items))
        return ZipStore((outer, "x.zip"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    Machine.folder = tmp_path_factory.mktemp("machine")


class Machine:
    folder = None
    n_made = 0


def make_store() -> Store:
    Machine.n_made += 1
    return ZipStore(Machine.folder / f"{Machine.n_made}.zip")


TestMachine = pytest.mark.usefixtures("folder")(store_machine(make_store))
