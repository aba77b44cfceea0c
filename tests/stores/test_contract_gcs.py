"""The contract over Google Cloud Storage: the emulator, and the strict fake, which lets copies of the store race."""

import itertools

import pytest

from support.servers import Endpoint
from support.stores import Apart
from zarrdock.stores.base import Store
from zarrdock.stores.gcs import GCSStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.contract_parallel import ParallelContract

pytestmark = pytest.mark.server
_numbers = itertools.count()


class OnGCS:
    n_updates = 8
    n_threads = 4
    endpoint: Endpoint

    def make_store(self) -> Store:
        url = f"gs://{self.endpoint.bucket}/{type(self).__name__}/{next(_numbers)}"
        return GCSStore(url, storage_options=self.endpoint.storage_options)


class TestGCSEmulator(OnGCS, StoreContract):
    n_keys = 30

    @pytest.fixture(autouse=True)
    def _server(self, gcs_emulator: Endpoint) -> None:
        self.endpoint = gcs_emulator


class OnStrictGCS(OnGCS):
    @pytest.fixture(autouse=True)
    def _server(self, strict_gcs: Endpoint) -> None:
        self.endpoint = strict_gcs


class TestGCSRacing(OnStrictGCS, ParallelContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, GCSStore)
        return [GCSApart(store.url, storage_options=self.endpoint.storage_options) for _ in range(self.n_threads)]


class TestGCSAsync(OnStrictGCS, AsyncStoreContract):
    n_keys = 1100  # more than a page


class GCSApart(Apart, GCSStore):
    pass
