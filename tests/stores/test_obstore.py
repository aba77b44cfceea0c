"""obstore's stores under the contract, and at the wire."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from zarrdock.errors import StoreError
from zarrdock.stores.base import Store
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.servers import Endpoint

pytestmark = pytest.mark.server
_numbers = itertools.count()


def s3(endpoint: Endpoint, prefix: str, url: str = "", **options: Any) -> S3Store:
    return S3Store(
        endpoint.bucket,
        prefix=prefix,
        endpoint=url or endpoint.url,
        access_key_id="test",
        secret_access_key="test",
        region="us-east-1",
        client_options={"allow_http": True},
        **options,
    )


class NoFork:
    """obstore can't be used in a forked child: it must say so, at once."""

    def test_fork(self) -> None:
        from zarrdock.testing.contract_read import in_fork

        store = self.filled({"k": b"1"})  # type: ignore[attr-defined]
        store.get("k")

        def check() -> bool:
            with pytest.raises(StoreError, match="forked"):
                store.get("k")
            return True

        assert in_fork(check)
        assert store.get("k").data == b"1"


class TestMemory(NoFork, StoreContract):
    def make_store(self) -> Store:
        return ObstoreStore(MemoryStore())


class TestMemoryAsync(NoFork, AsyncStoreContract):
    def make_store(self) -> Store:
        return ObstoreStore(MemoryStore())


class TestLocal(NoFork, StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Any) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        return ObstoreStore(LocalStore(folder))


class OnS3(NoFork):
    n_updates = 8
    n_threads = 4
    endpoint: Endpoint

    def make_store(self) -> Store:
        return ObstoreStore(s3(self.endpoint, f"obstore-{type(self).__name__}-{next(_numbers)}"))


class TestS3Moto(OnS3, StoreContract):
    n_keys = 30

    @pytest.fixture(autouse=True)
    def _server(self, moto: Endpoint) -> None:
        self.endpoint = moto


class OnStrictS3(OnS3):
    @pytest.fixture(autouse=True)
    def _server(self, strict_s3: Endpoint) -> None:
        self.endpoint = strict_s3


class TestS3Racing(OnStrictS3, StoreContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8
    n_keys = 1100  # more than a page

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, ObstoreStore)
        return [Apart(store.obstore) for _ in range(self.n_threads)]


class TestS3Async(OnStrictS3, AsyncStoreContract):
    pass


class Apart(ObstoreStore):
    """A store whose threads do not queue up with those of others in this process."""

    def _exclusive(self, key: str) -> Any:
        self.__dict__.setdefault("number", next(_numbers))
        return super()._exclusive(f"{self.number}/{key}")
