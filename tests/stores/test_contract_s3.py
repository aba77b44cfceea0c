"""The contract over S3: moto, and the strict fake, which is fast and lets copies of the store race."""

import itertools

import pytest

from support.servers import Endpoint
from support.stores import Apart
from zarrdock.stores.base import Store
from zarrdock.stores.s3 import S3Store
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.contract_parallel import ParallelContract

pytestmark = pytest.mark.server
_numbers = itertools.count()


class OnS3:
    n_updates = 8
    n_threads = 4
    endpoint: Endpoint

    def make_store(self) -> Store:
        url = f"s3://{self.endpoint.bucket}/{type(self).__name__}/{next(_numbers)}"
        return S3Store(url, storage_options=self.endpoint.storage_options)


class TestS3Moto(OnS3, StoreContract):
    n_keys = 30

    @pytest.fixture(autouse=True)
    def _server(self, moto: Endpoint) -> None:
        self.endpoint = moto


class OnStrictS3(OnS3):
    @pytest.fixture(autouse=True)
    def _server(self, strict_s3: Endpoint) -> None:
        self.endpoint = strict_s3


class TestS3Racing(OnStrictS3, ParallelContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, S3Store)
        return [S3Apart(store.url, storage_options=self.endpoint.storage_options) for _ in range(self.n_threads)]


class TestS3Async(OnStrictS3, AsyncStoreContract):
    n_keys = 1100  # more than a page


class S3Apart(Apart, S3Store):
    pass
