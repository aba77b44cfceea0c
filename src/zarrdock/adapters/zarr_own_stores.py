"""zarrdock's own store for the place that a store of zarr-python stands for.

Only where it is certain that both mean the same keys: by the exact class, for a subclass may do anything else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr.storage
from zarr.abc.store import Store as ZarrPythonStore
from zarr.core.buffer import default_buffer_prototype

from zarrdock.adapters.foreign_store import ForeignStore
from zarrdock.adapters.zarr_metadata import StandsBackError
from zarrdock.adapters.zarr_store import ZarrStore
from zarrdock.errors import UnsupportedError
from zarrdock.stores.base import Store, Traits
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.identity import Identity, identity_of_object
from zarrdock.stores.local import LocalStore
from zarrdock.stores.mapping import MappingStore
from zarrdock.stores.open import open_store
from zarrdock.stores.wrappers import PrefixStore

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

__all__ = ["check_place", "open_zarr_python", "own_store"]

# By zarr-python's dictionary and key.
_key_locks = KeyLocks()

# Filesystems whose instances are what their options say, by module and class; of others a copy may be another place.
_FILESYSTEMS = {
    ("adlfs.spec", "AzureBlobFileSystem"),
    ("fsspec.implementations.http", "HTTPFileSystem"),
    ("fsspec.implementations.local", "LocalFileSystem"),
    ("fsspec.implementations.memory", "MemoryFileSystem"),
    ("gcsfs.core", "GCSFileSystem"),
    ("gcsfs.extended_gcsfs", "ExtendedGcsFileSystem"),
    ("s3fs.core", "S3FileSystem"),
}


def open_zarr_python(store: Any, *, read_only: bool = False) -> Store:
    """The store for a store of zarr-python: zarrdock's own for its place, else one above it.

    Args:
        store: a store or store path of zarr-python, or an Icechunk session.
    """
    prefix = ""
    if isinstance(store, zarr.storage.StorePath):
        store, prefix = store.store, store.path
    try:
        found = own_store(store)
    except StandsBackError:
        found = ForeignStore(store)
    if prefix:
        found = PrefixStore(found, prefix)
    return open_store(found, read_only=read_only or getattr(store, "read_only", False))


def check_place(store: ZarrPythonStore) -> None:
    """Raise StandsBackError where zarrdock has no store of its own for the place; nothing is opened."""
    kind = type(store)
    if isinstance(store, ZarrStore) or kind in _OWN:
        return
    raise StandsBackError(f"zarrdock has no store of its own for a {kind.__module__}.{kind.__qualname__}")


def own_store(store: ZarrPythonStore) -> Store:
    """zarrdock's own store for the place that a store of zarr-python stands for.

    Raises:
        StandsBackError: there is none, or it is not certain that it is the same place.
    """
    if isinstance(store, ZarrStore):
        return store.store
    check_place(store)
    try:
        return _OWN[type(store)](store)
    except UnsupportedError as error:  # not on this system, or a library for it is missing
        raise StandsBackError(f"zarrdock cannot open the place: {error}") from error


def _of_local(store: Any) -> Store:
    # A relative root is where the process is now, at every access.
    return _local(os.path.abspath(store.root))  # noqa: PTH100 - links stay links


@functools.lru_cache(maxsize=64)
def _local(root: str) -> Store:
    return LocalStore(root)


def _of_memory(store: Any) -> Store:
    return _MemoryStore(store._store_dict)


def _of_managed_memory(store: Any) -> Store:
    found = _of_memory(store)
    return PrefixStore(found, store.path) if store.path else found


def _of_zip(store: Any) -> Store:
    from zarrdock.stores.zip_ import ZipStore

    if getattr(store, "_zmode", None) != "r":
        raise StandsBackError("the archive is open for writing, and its directory in zarr-python's hands")
    if not isinstance(store.path, (str, os.PathLike)):
        raise StandsBackError("the archive is an open file, not a path")
    return ZipStore(os.path.abspath(store.path), read_only=True)  # noqa: PTH100


def _of_fsspec(store: Any) -> Store:
    from zarr.storage._fsspec import ALLOWED_EXCEPTIONS

    from zarrdock.stores.fsspec_ import unwrap

    if tuple(store.allowed_exceptions) != ALLOWED_EXCEPTIONS:
        raise StandsBackError("its store takes other errors than zarr-python does by itself for missing keys")
    path = str(store.path).rstrip("/")
    fs, path = unwrap(store.fs, path)
    kind = type(fs)
    if (kind.__module__, kind.__qualname__) not in _FILESYSTEMS:
        raise StandsBackError(f"another {kind.__module__}.{kind.__qualname__} with its options may be another place")
    if not path:
        raise StandsBackError("its store is the root of a filesystem")
    return _fsspec(fs, path)


@functools.lru_cache(maxsize=64)
def _fsspec(fs: AbstractFileSystem, path: str) -> Store:
    return open_store(fs, path=path)


def _of_object_store(store: Any) -> Store:
    return open_store(store.store)


_OWN: dict[type[Any], Callable[[Any], Store]] = {
    zarr.storage.LocalStore: _of_local,
    zarr.storage.MemoryStore: _of_memory,
    zarr.storage.ZipStore: _of_zip,
    zarr.storage.FsspecStore: _of_fsspec,
    zarr.storage.ObjectStore: _of_object_store,
}
if hasattr(zarr.storage, "ManagedMemoryStore"):
    _OWN[zarr.storage.ManagedMemoryStore] = _of_managed_memory


class _Buffers(MutableMapping[str, Any]):
    """The mapping of zarr-python's memory store, with bytes for its buffers."""

    def __init__(self, buffers: MutableMapping[str, Any]) -> None:
        self.buffers = buffers

    def __getitem__(self, key: str) -> memoryview:
        return np.ascontiguousarray(self.buffers[key].as_numpy_array()).view(np.uint8).data

    def __setitem__(self, key: str, value: bytes) -> None:
        self.buffers[key] = default_buffer_prototype().buffer.from_bytes(value)

    def __delitem__(self, key: str) -> None:
        del self.buffers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self.buffers))

    def __len__(self) -> int:
        return len(self.buffers)


class _MemoryStore(MappingStore):
    """zarr-python's memory store: only this process can reach it, so updates under its locks are atomic."""

    def __init__(self, buffers: MutableMapping[str, Any]) -> None:
        super().__init__(_Buffers(buffers))
        self.traits = Traits(atomic_update=isinstance(buffers, dict))
        self._buffers = buffers

    @property
    def identity(self) -> Identity:
        return identity_of_object("memory", self._buffers)

    def _exclusive(self, key: str) -> AbstractContextManager[None]:
        return _key_locks(f"{id(self._buffers)}\0{key}")
