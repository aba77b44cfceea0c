"""The store contract as tests. Hold your own store to it::

    class TestMyStore(StoreContract):
        def make_store(self) -> Store:
            return MyStore(...)


    class TestMyStoreAsync(AsyncStoreContract):
        def make_store(self) -> Store:
            return MyStore(...)

What a store can't do it says in its traits; there the tests hold it to refusing, with the right error and no effect.
A store that can't write overrides ``fill`` as well. The rules are written down in ``docs/reference/store-contract.md``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import Change, Entry, Listing, Read, Results, Store, Value, Version
from zarrdock.stores.identity import Identity
from zarrdock.testing.contract_list import ListContract
from zarrdock.testing.contract_parallel import ParallelContract
from zarrdock.testing.contract_read import DATA, ReadContract
from zarrdock.testing.contract_write import WriteContract

__all__ = ["AsyncStoreContract", "StoreContract"]

T = TypeVar("T")


class StoreContract(ReadContract, ListContract, WriteContract, ParallelContract):
    """Tests that every store must pass. Subclass it, and give it ``make_store``.

    >>> from zarrdock.testing import StoreContract
    >>> class TestMyStore(StoreContract):
    ...     def make_store(self):
    ...         return zarrdock.MemoryStore()
    """


class _Threads(ThreadPoolExecutor):
    """Threads that outlast the loops they serve: new ones for each call take longer than most calls."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: a loop that closes calls this, and the threads end with the process."""


class ThroughAsync(Store):
    """A store used by way of :class:`AsyncStore` only, each call in an event loop of its own."""

    _threads: ClassVar[dict[int, _Threads]] = {}  # by process: a fork has none of its parent's threads

    def __init__(self, store: Store) -> None:
        self.facade = AsyncStore(store)
        self.traits = store.traits
        self.read_only = store.read_only

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._in_new_loop(call)
        with ThreadPoolExecutor(1) as pool:  # a loop can't run within another
            return pool.submit(self._in_new_loop, call).result()

    def _in_new_loop(self, call: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(
                self._threads.setdefault(os.getpid(), _Threads(16, "zarrdock-contract"))
            )
            return runner.run(call)

    def read(self, requests: Sequence[Read], /) -> Results:
        return self._run(self.facade.read(requests))

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        return self._run(self.facade.write(key, value, create_only=create_only))

    def update(self, key: str, change: Change, /) -> None:
        self._run(self.facade.update(key, change))

    def delete(self, key: str, /) -> None:
        self._run(self.facade.delete(key))

    def delete_prefix(self, prefix: str, /) -> None:
        self._run(self.facade.delete_prefix(prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        async def collect() -> Sequence[Entry]:
            return [entry async for entry in self.facade.list(prefix)]

        return iter(self._run(collect()))

    def list_dir(self, prefix: str = "", /) -> Listing:
        return self._run(self.facade.list_dir(prefix))

    def size(self, key: str, /) -> int | None:
        return self._run(self.facade.size(key))

    def list_dirs(self, prefixes: Sequence[str], /) -> Sequence[Listing]:
        return self._run(self.facade.list_dirs(prefixes))

    def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        return self._run(self.facade.sizes(keys))

    def close(self) -> None:
        self.facade.store.close()

    @property
    def identity(self) -> Identity:
        return self.facade.store.identity

    @property
    def url(self) -> str:
        return self.facade.url


class AsyncStoreContract(StoreContract):
    """The same through :class:`zarrdock.stores.async_store.AsyncStore`, from one event loop after another.

    >>> from zarrdock.testing import AsyncStoreContract
    >>> class TestMyStore(AsyncStoreContract):
    ...     def make_store(self):
    ...         return zarrdock.MemoryStore()
    """

    n_updates = 20

    def _face(self, store: Store) -> Store:
        return ThroughAsync(store)

    def test_many_at_once_in_one_loop(self) -> None:
        items = {f"k{i}": bytes([i]) * 100 for i in range(20)}
        inner = self.fill(items)
        self._opened.append(inner)
        store = AsyncStore(inner)

        async def use() -> list[bytes | None]:
            blobs = await asyncio.gather(*(store.get(key) for key in [*items, "missing"]))
            return [None if blob is None else bytes(blob.data) for blob in blobs]

        for _ in range(2):
            assert asyncio.run(use()) == [*items.values(), None]

    def test_both_faces_at_once(self) -> None:
        inner = self.fill({"k": DATA})
        self._opened.append(inner)

        async def use() -> tuple[object, object]:
            blob = await AsyncStore(inner).get("k")
            sync = inner.get("k")
            return blob and bytes(blob.data), sync and bytes(sync.data)

        assert asyncio.run(use()) == (DATA, DATA)
