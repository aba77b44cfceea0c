"""The read half of the store contract over views: where there is nothing to translate they change nothing."""

from collections.abc import Mapping

import zarrdock
from zarrdock.testing.contract_list import ListContract
from zarrdock.testing.contract_read import ReadContract
from zarrdock.views import as_v2, as_v3, regular, unshard


class ViewContract(ReadContract, ListContract):
    """A view of a memory store that the tests fill."""

    def inside(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        store = zarrdock.MemoryStore()
        for key, value in items.items():
            store.write(key, value)
        return store

    def make_store(self) -> zarrdock.Store:
        return self.fill({})


class TestUnshard(ViewContract):
    def fill(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        return unshard(self.inside(items))


class TestAsV2(ViewContract):
    def fill(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        return as_v2(self.inside(items))


class TestReencoded(ViewContract):
    def fill(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        return as_v2(self.inside(items), reencode=True)


class TestAsV3(ViewContract):
    def fill(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        return as_v3(self.inside(items))


class TestRegular(ViewContract):
    def fill(self, items: Mapping[str, bytes]) -> zarrdock.Store:
        return regular(self.inside(items))
