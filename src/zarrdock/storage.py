"""Stores, the values that cross their contract, and everything needed to write a store.

>>> from zarrdock.storage import MemoryStore, Read, Span
>>> store = MemoryStore()
>>> version = store.write("key", b"0123456789")
>>> (blob,) = store.read([Read("key", Span(2, 5))])
>>> bytes(blob.data)
b'234'
"""

from typing import TYPE_CHECKING

from zarrdock.lazy_imports import lazy

if TYPE_CHECKING:
    from zarrdock.ranges import From, Span, Tail, resolve
    from zarrdock.stores.async_store import AsyncStore
    from zarrdock.stores.azure import AzureStore
    from zarrdock.stores.base import (
        Blob,
        Entry,
        FileBytes,
        Listing,
        Patch,
        Read,
        Store,
        Traits,
        Version,
        WrapperStore,
        check_key,
        check_prefix,
        join_value,
    )
    from zarrdock.stores.cache import CachingStore
    from zarrdock.stores.cache_folder import FolderCache
    from zarrdock.stores.cache_memory import MemoryCache
    from zarrdock.stores.fsspec_ import FsspecStore
    from zarrdock.stores.gcs import GCSStore
    from zarrdock.stores.http_ import HTTPStore
    from zarrdock.stores.identity import Identity
    from zarrdock.stores.local import LocalStore
    from zarrdock.stores.mapping import MappingStore
    from zarrdock.stores.memory import MemoryStore
    from zarrdock.stores.obstore_ import ObstoreStore
    from zarrdock.stores.open import open_store
    from zarrdock.stores.retry import RetryPolicy
    from zarrdock.stores.s3 import S3Store
    from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore, RecordingStore
    from zarrdock.stores.zip_ import ZipStore

# Public name -> the module it comes from.
_PLACES = {
    "AsyncStore": "stores.async_store",
    "AzureStore": "stores.azure",
    "Blob": "stores.base",
    "CachingStore": "stores.cache",
    "Entry": "stores.base",
    "FileBytes": "stores.base",
    "FolderCache": "stores.cache_folder",
    "From": "ranges",
    "FsspecStore": "stores.fsspec_",
    "GCSStore": "stores.gcs",
    "HTTPStore": "stores.http_",
    "Identity": "stores.identity",
    "Listing": "stores.base",
    "LocalStore": "stores.local",
    "MappingStore": "stores.mapping",
    "MemoryCache": "stores.cache_memory",
    "MemoryStore": "stores.memory",
    "ObstoreStore": "stores.obstore_",
    "Patch": "stores.base",
    "PrefixStore": "stores.wrappers",
    "Read": "stores.base",
    "ReadOnlyStore": "stores.wrappers",
    "RecordingStore": "stores.wrappers",
    "RetryPolicy": "stores.retry",
    "S3Store": "stores.s3",
    "Span": "ranges",
    "Store": "stores.base",
    "Tail": "ranges",
    "Traits": "stores.base",
    "Version": "stores.base",
    "WrapperStore": "stores.base",
    "ZipStore": "stores.zip_",
    "check_key": "stores.base",
    "check_prefix": "stores.base",
    "join_value": "stores.base",
    "open_store": "stores.open",
    "resolve": "ranges",
}

__all__ = [
    "AsyncStore",
    "AzureStore",
    "Blob",
    "CachingStore",
    "Entry",
    "FileBytes",
    "FolderCache",
    "From",
    "FsspecStore",
    "GCSStore",
    "HTTPStore",
    "Identity",
    "Listing",
    "LocalStore",
    "MappingStore",
    "MemoryCache",
    "MemoryStore",
    "ObstoreStore",
    "Patch",
    "PrefixStore",
    "Read",
    "ReadOnlyStore",
    "RecordingStore",
    "RetryPolicy",
    "S3Store",
    "Span",
    "Store",
    "Tail",
    "Traits",
    "Version",
    "WrapperStore",
    "ZipStore",
    "check_key",
    "check_prefix",
    "join_value",
    "open_store",
    "resolve",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(__name__, _PLACES, __all__)
