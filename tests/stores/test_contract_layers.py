"""The contract over stores on stores: caches, prefixes and read-only views of every service, archives on every service.

Services are the strict fakes, which are fast and let threads race; an archive is read from the emulator too.
"""

import io
import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from support.servers import Endpoint
from zarrdock.stores.base import Store
from zarrdock.stores.cache import CachingStore
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.open import open_store
from zarrdock.stores.s3 import S3Store
from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract

MIB = 2**20
_numbers = itertools.count()


class OnService:
    """``service()`` is a new, empty store of the service; what a test makes of it stands in ``make_store``."""

    server: ClassVar[str]
    n_updates = 8
    n_threads = 4

    @pytest.fixture(autouse=True)
    def _endpoint(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.endpoint: Endpoint = request.getfixturevalue(self.server)

    def service(self) -> Store:
        endpoint, is_gcs = self.endpoint, "gcs" in self.server
        cls = GCSStore if is_gcs else S3Store
        url = f"{'gs' if is_gcs else 's3'}://{endpoint.bucket}/layers/{next(_numbers)}"
        return cls(url, storage_options=endpoint.storage_options)

    def make_store(self) -> Store:
        return self.layer(self.service())

    def layer(self, store: Store) -> Store:
        raise NotImplementedError


class OnS3(OnService):
    server = "strict_s3"


class OnGCS(OnService):
    server = "strict_gcs"


class OnEmulator(OnService):
    server = "gcs_emulator"
    n_keys = 30


class Cached:
    def layer(self, store: Store) -> Store:
        return CachingStore(store, max_bytes=10 * MIB)


class CachedInAFolder:
    def layer(self, store: Store) -> Store:
        return CachingStore(store, max_bytes=10 * MIB, folder=self.folder / "cache")


class BelowAPrefix:
    def layer(self, store: Store) -> Store:
        store.write("data/x1/a", b"not below the prefix")
        return PrefixStore(store, "data/x")


class Filled:
    """Stores that can't be written: what a test wants in them is put there before."""

    def make_store(self) -> Store:
        return self.fill({})


class ReadOnly(Filled):
    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = self.service()
        for key, value in items.items():
            store.write(key, value)
        return ReadOnlyStore(store)


class Zipped(Filled):
    """An archive on the service, opened by its URL."""

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = self.service()
        store.write("x.zarr.zip", zipped(items))
        return open_store(f"{store.url}/x.zarr.zip", storage_options=self.endpoint.storage_options)


class ZippedAndCached(Zipped):
    """The archive in a cache, and what is read of it."""

    def fill(self, items: Mapping[str, bytes]) -> Store:
        store = self.service()
        store.write("x.zip", zipped(items))
        archive = ZipStore((CachingStore(store, max_bytes=MIB), "x.zip"))
        return CachingStore(archive, max_bytes=MIB)


class OverHTTP(OnS3):
    """The same server, read as web pages."""

    def web(self, items: Mapping[str, bytes]) -> HTTPStore:
        store = self.service()
        for key, value in items.items():
            store.write(key, value)
        return HTTPStore(store.url.replace("s3://", f"{self.endpoint.url}/"))


def zipped(items: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in items.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.server
class TestCacheOverS3(Cached, OnS3, StoreContract):
    pass


@pytest.mark.server
class TestCacheOverS3Async(Cached, OnS3, AsyncStoreContract):
    pass


@pytest.mark.server
class TestFolderCacheOverS3(CachedInAFolder, OnS3, StoreContract):
    pass


@pytest.mark.server
class TestCacheOverGCS(Cached, OnGCS, StoreContract):
    pass


@pytest.mark.server
class TestFolderCacheOverGCSAsync(CachedInAFolder, OnGCS, AsyncStoreContract):
    pass


@pytest.mark.server
class TestCacheOverHTTP(Filled, OverHTTP, StoreContract):
    def fill(self, items: Mapping[str, bytes]) -> Store:
        return CachingStore(self.web(items), max_bytes=10 * MIB)


class TestCacheOverZip(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        return CachingStore(ZipStore(self.folder / f"{next(_numbers)}.zip"), max_bytes=10 * MIB)


class TestCacheOverFsspecMemory(StoreContract):
    def make_store(self) -> Store:
        return CachingStore(FsspecStore(f"memory://layers{next(_numbers)}"), max_bytes=10 * MIB)


class TestCacheOverFsspecLocal(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        return CachingStore(FsspecStore(f"file://{self.folder}/{next(_numbers)}"), max_bytes=10 * MIB, ttl=1000)


@pytest.mark.server
class TestPrefixOfS3(BelowAPrefix, OnS3, StoreContract):
    pass


@pytest.mark.server
class TestPrefixOfGCS(BelowAPrefix, OnGCS, StoreContract):
    pass


@pytest.mark.server
class TestReadOnlyS3(ReadOnly, OnS3, StoreContract):
    pass


@pytest.mark.server
class TestReadOnlyGCSAsync(ReadOnly, OnGCS, AsyncStoreContract):
    pass


class TestReadOnlyLocal(Filled, StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def fill(self, items: Mapping[str, bytes]) -> Store:
        writer = LocalStore(self.folder / str(next(_numbers)))
        for key, value in items.items():
            writer.write(key, value)
        return LocalStore(writer.root, read_only=True)


@pytest.mark.server
class TestZipOnS3Async(Zipped, OnS3, AsyncStoreContract):
    pass


@pytest.mark.server
class TestZipOnGCS(Zipped, OnGCS, StoreContract):
    pass


@pytest.mark.server
class TestZipOnGCSAsync(Zipped, OnGCS, AsyncStoreContract):
    pass


@pytest.mark.server
class TestZipOnTheEmulator(Zipped, OnEmulator, StoreContract):
    pass


@pytest.mark.server
class TestZipOnHTTP(Filled, OverHTTP, StoreContract):
    def fill(self, items: Mapping[str, bytes]) -> Store:
        return open_store(f"{self.web({'x.zarr.zip': zipped(items)}).url}/x.zarr.zip")


@pytest.mark.server
class TestZipOnS3InCaches(ZippedAndCached, OnS3, StoreContract):
    pass
