import tempfile

import pytest

from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import PrefixStore
from zarrdock.testing import store_machine

folders = {}


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory):
    folders["here"] = tmp_path_factory.mktemp("stateful")
    yield
    left = [path for store in folders["here"].iterdir() for path in LocalStore(store).stale_files()]
    assert left == []


def local() -> Store:
    return LocalStore(tempfile.mkdtemp(dir=folders["here"]))


TestMemory = store_machine(MemoryStore, n_examples=30)
TestPrefix = store_machine(lambda: PrefixStore(MemoryStore(), "a"), n_examples=10)
TestLocal = store_machine(local, n_examples=30)
