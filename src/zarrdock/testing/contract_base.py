"""The base of all parts of the contract suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from zarrdock.errors import ReadOnlyError, UnsupportedError
from zarrdock.stores.base import Buffer, Store

__all__ = ["BAD_KEYS", "ContractBase", "case"]

BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a\x00b",
    "a\\b",
    "C:\\a",
    "C:/a",
    "\ud800",
]


@contextmanager
def case(what: object) -> Iterator[None]:
    """Name one of several cases of a test: a failure inside says which case it was.

    Cases of one store share a test where a test of each would be thousands, of all stores.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {what!r}")
        raise


class ContractBase(ABC):
    """Stores for the tests: each test gets fresh ones, closed when it is over.

    Attributes:
        n_threads, n_updates: of the tests of parallel writers; fewer where each request is slow.
        n_keys: of the test of a long listing; more than a page of the service's listing is a good number.
        updates: ``update`` works; None: as ``traits.atomic_update`` says.
    """

    n_threads = 8
    n_updates = 50
    n_keys = 120
    updates: bool | None = None

    @abstractmethod
    def make_store(self) -> Store:
        """A new store with nothing in it."""

    def cannot_name(self, key: str) -> bool:
        """True for a key that the store has no name for, and refuses with InvalidKeyError: ``a?`` on Windows."""
        return False

    def fill(self, items: Mapping[str, bytes]) -> Store:
        """A new store that holds ``items`` and nothing else. Override it where the store itself can't write."""
        store = self.make_store()
        for key, value in items.items():
            store.write(key, value)
        return store

    @pytest.fixture(autouse=True)
    def _stores(self) -> Iterator[None]:
        self._opened: list[Store] = []
        yield
        for store in self._opened:
            store.close()

    def filled(self, items: Mapping[str, bytes] | None = None) -> Store:
        """A store for a test, holding ``items``."""
        inner = self.fill(items or {})
        self._opened.append(inner)
        return self._face(inner)

    def _face(self, store: Store) -> Store:
        """The store the tests call; the asynchronous suite puts its facade in between."""
        return store

    # A test of something a store says it can't do tests that it says so when it is asked to.

    def can_write(self, store: Store) -> bool:
        """False, with every mutating verb found refused, where the store is read-only."""
        if store.traits.writable and not store.read_only:
            return True
        verbs: list[Callable[[], object]] = [
            lambda: store.write("k", b"new"),
            lambda: store.write("k", b"new", create_only=True),
            lambda: store.update("k", lambda _: b"new"),
            lambda: store.delete("k"),
            lambda: store.delete_many(["k"]),
            lambda: store.delete_prefix("k"),
            lambda: store.delete_prefix(""),
        ]
        before = store.get("k")
        for verb in verbs:
            with pytest.raises(ReadOnlyError):
                verb()
        after = store.get("k")
        assert (before is None) == (after is None)
        assert before is None or after is None or bytes(before.data) == bytes(after.data)
        return False

    def can_list(self, store: Store) -> bool:
        """False, with both verbs found refused, where the store can't list."""
        if store.traits.listable:
            return True
        with pytest.raises(UnsupportedError):
            list(store.list())
        with pytest.raises(UnsupportedError):
            store.list_dir()
        return False

    def can_update(self, store: Store) -> bool:
        """False, with ``update`` found refused and nothing changed, where it would not be atomic."""
        if not self.can_write(store):
            return False
        if store.traits.atomic_update if self.updates is None else self.updates:
            return True
        with pytest.raises(UnsupportedError):
            store.update("refused", lambda _: b"new")
        assert store.get("refused") is None
        return False


def text(data: Buffer | None) -> str:
    """Bytes as text, for changes that count."""
    return "" if data is None else bytes(data).decode()
