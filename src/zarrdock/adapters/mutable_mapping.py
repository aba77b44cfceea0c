"""A store as a mutable mapping, for libraries that know Zarr stores as dictionaries of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from zarrdock.errors import InvalidKeyError, VersionChangedError
from zarrdock.stores.base import Buffer, Read, Store
from zarrdock.stores.open import open_store

__all__ = ["StoreMapping", "as_mapping"]


class StoreMapping(MutableMapping[str, bytes]):
    """Keys to bytes. A value is read in one request, replaced atomically, and listed only when iterated over.

    Raises KeyError where there is no such key, StoreError where anything else is wrong.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, key: str) -> bytes:
        try:
            blob = self.store.get(key)
        except InvalidKeyError:  # a KeyError in name: no store has such a key
            raise KeyError(key) from None
        if blob is None:
            raise KeyError(key)
        return bytes(blob.data)

    def __setitem__(self, key: str, value: Buffer) -> None:
        self.store.write(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.store.delete(key)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self.store.exists(key)
        except InvalidKeyError:
            return False

    def __iter__(self) -> Iterator[str]:
        return (entry.key for entry in self.store.list())

    def __len__(self) -> int:
        return sum(1 for _ in self.store.list())

    def __repr__(self) -> str:
        return f"StoreMapping({self.store!r})"

    # What zarr-python 2 asks for where a mapping has it.

    def getitems(self, keys: Iterable[str], *, contexts: Mapping[str, Any] | None = None) -> dict[str, bytes]:
        """Many values in one round; keys that are not there are left out."""
        wanted = list(keys)
        found: dict[str, bytes] = {}
        for key, result in zip(wanted, self.store.read([Read(key) for key in wanted]), strict=True):
            if isinstance(result, VersionChangedError):
                raise result
            if result is not None:
                found[key] = bytes(result.data)
        return found

    def listdir(self, path: str = "") -> list[str]:
        """Names right below ``path``."""
        listing = self.store.list_dir(path)
        return sorted({*listing.keys, *listing.prefixes})

    def rmdir(self, path: str = "") -> None:
        """Remove everything below ``path``."""
        self.store.delete_prefix(path)


def as_mapping(store: Any, *, storage_options: dict[str, Any] | None = None, read_only: bool = False) -> StoreMapping:
    """``store`` (anything :func:`zarrdock.open_store` takes) as a mutable mapping of keys to bytes.

    >>> mapping = zarrdock.as_mapping(zarrdock.MemoryStore())
    >>> mapping["key"] = b"value"
    >>> dict(mapping)
    {'key': b'value'}
    """
    return StoreMapping(open_store(store, storage_options=storage_options, read_only=read_only))
