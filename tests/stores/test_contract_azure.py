"""The contract over Azure Blob Storage: Azurite, and the strict fake, which lets copies of the store race and has a
hierarchical namespace.
"""

import itertools
from collections.abc import Iterator

import pytest

from support.servers import Endpoint, StrictAzure
from support.stores import Apart
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.base import Store
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.contract_parallel import ParallelContract

pytestmark = pytest.mark.server
_numbers = itertools.count()


class OnAzure:
    n_updates = 8
    n_threads = 4
    endpoint: Endpoint

    def make_store(self) -> Store:
        url = f"az://{self.endpoint.bucket}/{type(self).__name__}/{next(_numbers)}"
        return AzureStore(url, storage_options=self.endpoint.storage_options)


class TestAzurite(OnAzure, StoreContract):
    n_keys = 30

    @pytest.fixture(autouse=True)
    def _server(self, azurite: Endpoint) -> None:
        self.endpoint = azurite


class OnStrictAzure(OnAzure):
    @pytest.fixture(autouse=True)
    def _server(self, strict_azure: Endpoint) -> None:
        self.endpoint = strict_azure


class TestAzureRacing(OnStrictAzure, ParallelContract):
    """Copies that share nothing in this process, as if each was in another."""

    n_threads = 8

    def copies(self, store: Store) -> list[Store]:
        assert isinstance(store, AzureStore)
        return [AzureApart(store.url, storage_options=self.endpoint.storage_options) for _ in range(self.n_threads)]


class TestAzuriteRacing(TestAzureRacing):
    """The same against other people's server, in another process."""

    @pytest.fixture(autouse=True)
    def _server(self, azurite: Endpoint) -> None:
        self.endpoint = azurite


class TestAzureAsync(OnStrictAzure, AsyncStoreContract):
    n_keys = 1100  # more than a page


@pytest.fixture(scope="module")
def data_lake() -> Iterator[Endpoint]:
    with StrictAzure("zarrdock-test", hierarchical=True) as server:
        yield Endpoint(server.url, server.storage_options)


class TestDataLake(OnAzure, StoreContract):
    """An account with a hierarchical namespace: directories come with the blobs in them, and stay."""

    n_keys = 300  # more than a batch

    @pytest.fixture(autouse=True)
    def _server(self, data_lake: Endpoint) -> None:
        self.endpoint = data_lake


class AzureApart(Apart, AzureStore):
    pass
