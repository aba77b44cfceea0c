"""The store contract as coroutines, for any store and any event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

from zarrdock.errors import VersionChangedError
from zarrdock.ranges import Range
from zarrdock.stores.base import Blob, Change, Entry, Listing, Read, Results, Store, Traits, Value, Version

__all__ = ["AsyncStore"]

_PAGE = 1000


class AsyncStore:
    """A store's verbs as coroutines: same names, same arguments, same answers, same errors.

    Reads of stores behind fsspec run on its IO loop and are only awaited here; everything else runs in a thread.
    Nothing is tied to the loop in which it is used: one object serves one loop after another, several at once, a forked
    child, and a copy made by ``pickle``.

    Args:
        store: the store to use.

    >>> import asyncio
    >>> async def read():
    ...     async with zarrdock.AsyncStore(zarrdock.MemoryStore()) as store:
    ...         await store.write("key", b"value")
    ...         return await store.get("key")
    >>> bytes(asyncio.run(read()).data)
    b'value'
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def traits(self) -> Traits:
        """Capabilities of the store."""
        return self.store.traits

    @property
    def read_only(self) -> bool:
        """True where mutating calls are refused."""
        return self.store.read_only

    @property
    def url(self) -> str:
        """URL of the store without credentials."""
        return self.store.url

    def __repr__(self) -> str:
        return f"AsyncStore({self.store!r})"

    async def read(self, requests: Sequence[Read], /) -> Results:
        """See :meth:`Store.read`."""
        return await self.store.aread(requests)

    async def get(self, key: str, range: Range = None, *, version: Version | None = None) -> Blob | None:
        """See :meth:`Store.get`."""
        result = (await self.read([Read(key, range, version)]))[0]
        if isinstance(result, VersionChangedError):
            raise result
        return result

    async def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        """See :meth:`Store.write`."""
        return await asyncio.to_thread(self.store.write, key, value, create_only=create_only)

    async def update(self, key: str, change: Change, /) -> None:
        """See :meth:`Store.update`. ``change`` is a plain function, and runs in a thread."""
        await asyncio.to_thread(self.store.update, key, change)

    async def delete(self, key: str, /) -> None:
        """See :meth:`Store.delete`."""
        await asyncio.to_thread(self.store.delete, key)

    async def delete_prefix(self, prefix: str, /) -> None:
        """See :meth:`Store.delete_prefix`."""
        await asyncio.to_thread(self.store.delete_prefix, prefix)

    async def list(self, prefix: str = "", /) -> AsyncIterator[Entry]:
        """See :meth:`Store.list`; an asynchronous iterator."""
        entries = await asyncio.to_thread(self.store.list, prefix)
        while page := await asyncio.to_thread(lambda: [*itertools.islice(entries, _PAGE)]):
            for entry in page:
                yield entry

    async def list_dir(self, prefix: str = "", /) -> Listing:
        """See :meth:`Store.list_dir`."""
        return await asyncio.to_thread(self.store.list_dir, prefix)

    async def size(self, key: str, /) -> int | None:
        """See :meth:`Store.size`."""
        return await asyncio.to_thread(self.store.size, key)

    async def sizes(self, keys: Sequence[str], /) -> Sequence[int | None]:
        """See :meth:`Store.sizes`."""
        return await asyncio.to_thread(self.store.sizes, keys)

    async def list_dirs(self, prefixes: Sequence[str], /) -> Sequence[Listing]:
        """See :meth:`Store.list_dirs`."""
        return await asyncio.to_thread(self.store.list_dirs, prefixes)

    async def exists(self, key: str) -> bool:
        """See :meth:`Store.exists`."""
        return await self.size(key) is not None

    async def close(self) -> None:
        """See :meth:`Store.close`."""
        await asyncio.to_thread(self.store.close)

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()
