"""zarrdock: an fsspec-native storage and store-adapter suite for Zarr.

Stores (memory, local files, zip, S3, GCS, HTTP, any fsspec filesystem) with partial reads and atomic updates, under
arrays and groups of Zarr v2 and v3 with sharding. Start with :func:`open`, :func:`open_array`, :func:`create_array`.

Public are the names here, and those of :mod:`zarrdock.storage`, :mod:`zarrdock.errors`, :mod:`zarrdock.views`,
:mod:`zarrdock.adapters`, :mod:`zarrdock.tools` and :mod:`zarrdock.testing`. Every other module is private and may move.
"""

from typing import TYPE_CHECKING

# Not lazy: once any module has imported the module `zarrdock.config`, the name would stand for that module.
from zarrdock.config import config
from zarrdock.lazy_imports import lazy

if TYPE_CHECKING:
    from zarrdock import adapters, errors, storage, testing, tools, views
    from zarrdock.adapters.dask import from_dask
    from zarrdock.adapters.mutable_mapping import as_mapping
    from zarrdock.adapters.xarray_append import append
    from zarrdock.api import (
        consolidate_metadata,
        create_array,
        create_group,
        create_hierarchy,
        open,  # noqa: A004 - zarr-python's name
        open_array,
        open_group,
    )
    from zarrdock.array.array import Array
    from zarrdock.array.execution.read_plan import Plan
    from zarrdock.array.group import Group
    from zarrdock.array.lazy_selection import LazySelection, read_many, read_many_async
    from zarrdock.array.recompress import recompress
    from zarrdock.array.stream import Stream
    from zarrdock.codecs.bitround import BitRound
    from zarrdock.codecs.blosc_ import Blosc
    from zarrdock.codecs.bytes_ import Bytes
    from zarrdock.codecs.cast_value import CastValue
    from zarrdock.codecs.conditional import Conditional
    from zarrdock.codecs.crc32c_ import Crc32c
    from zarrdock.codecs.gzip_ import Gzip
    from zarrdock.codecs.n5_default import N5Default
    from zarrdock.codecs.packbits import PackBits
    from zarrdock.codecs.reshape import Reshape
    from zarrdock.codecs.scale_offset import ScaleOffset
    from zarrdock.codecs.sharding import Sharding
    from zarrdock.codecs.transpose import Transpose
    from zarrdock.codecs.vlen import VlenBytes, VlenUtf8
    from zarrdock.codecs.write_options import WriteOptions
    from zarrdock.codecs.zfp_ import Zfp
    from zarrdock.codecs.zstd_ import Zstd
    from zarrdock.copying.copy_ import copy
    from zarrdock.errors import ZarrdockError
    from zarrdock.pyramids.pyramid import pyramid
    from zarrdock.ranges import From, Span, Tail
    from zarrdock.stores.async_store import AsyncStore
    from zarrdock.stores.azure import AzureStore
    from zarrdock.stores.base import Blob, Read, Store
    from zarrdock.stores.cache import CachingStore
    from zarrdock.stores.fsspec_ import FsspecStore
    from zarrdock.stores.gcs import GCSStore
    from zarrdock.stores.http_ import HTTPStore
    from zarrdock.stores.local import LocalStore
    from zarrdock.stores.mapping import MappingStore
    from zarrdock.stores.memory import MemoryStore
    from zarrdock.stores.obstore_ import ObstoreStore
    from zarrdock.stores.open import open_store
    from zarrdock.stores.s3 import S3Store
    from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore, RecordingStore
    from zarrdock.stores.zip_ import ZipStore
    from zarrdock.viewer.pictures import plot
    from zarrdock.views.virtual import VirtualArray, concatenate, open_virtual, stack

__version__ = "0.1.0"

# Public name -> the module it comes from, imported when the name is first used: importing zarrdock costs next to
# nothing, and reading local files never waits for the libraries of remote stores. Type checkers read the imports
# above; a test holds the two lists together.
_PLACES = {
    "Array": "array.array",
    "AsyncStore": "stores.async_store",
    "AzureStore": "stores.azure",
    "BitRound": "codecs.bitround",
    "Blob": "stores.base",
    "Blosc": "codecs.blosc_",
    "Bytes": "codecs.bytes_",
    "CachingStore": "stores.cache",
    "CastValue": "codecs.cast_value",
    "Conditional": "codecs.conditional",
    "Crc32c": "codecs.crc32c_",
    "From": "ranges",
    "FsspecStore": "stores.fsspec_",
    "GCSStore": "stores.gcs",
    "Group": "array.group",
    "Gzip": "codecs.gzip_",
    "HTTPStore": "stores.http_",
    "LazySelection": "array.lazy_selection",
    "LocalStore": "stores.local",
    "MappingStore": "stores.mapping",
    "MemoryStore": "stores.memory",
    "N5Default": "codecs.n5_default",
    "ObstoreStore": "stores.obstore_",
    "PackBits": "codecs.packbits",
    "Plan": "array.execution.read_plan",
    "PrefixStore": "stores.wrappers",
    "Read": "stores.base",
    "ReadOnlyStore": "stores.wrappers",
    "RecordingStore": "stores.wrappers",
    "Reshape": "codecs.reshape",
    "S3Store": "stores.s3",
    "ScaleOffset": "codecs.scale_offset",
    "Sharding": "codecs.sharding",
    "Span": "ranges",
    "Store": "stores.base",
    "Stream": "array.stream",
    "Tail": "ranges",
    "Transpose": "codecs.transpose",
    "VirtualArray": "views.virtual",
    "VlenBytes": "codecs.vlen",
    "VlenUtf8": "codecs.vlen",
    "WriteOptions": "codecs.write_options",
    "ZarrdockError": "errors",
    "Zfp": "codecs.zfp_",
    "ZipStore": "stores.zip_",
    "Zstd": "codecs.zstd_",
    "append": "adapters.xarray_append",
    "as_mapping": "adapters.mutable_mapping",
    "concatenate": "views.virtual",
    "consolidate_metadata": "api",
    "copy": "copying.copy_",
    "create_array": "api",
    "create_group": "api",
    "create_hierarchy": "api",
    "from_dask": "adapters.dask",
    "open": "api",
    "open_array": "api",
    "open_group": "api",
    "open_store": "stores.open",
    "open_virtual": "views.virtual",
    "plot": "viewer.pictures",
    "pyramid": "pyramids.pyramid",
    "read_many": "array.lazy_selection",
    "read_many_async": "array.lazy_selection",
    "recompress": "array.recompress",
    "stack": "views.virtual",
}

_MODULES = ("adapters", "errors", "storage", "testing", "tools", "views")

__all__ = [
    "Array",
    "AsyncStore",
    "AzureStore",
    "BitRound",
    "Blob",
    "Blosc",
    "Bytes",
    "CachingStore",
    "CastValue",
    "Conditional",
    "Crc32c",
    "From",
    "FsspecStore",
    "GCSStore",
    "Group",
    "Gzip",
    "HTTPStore",
    "LazySelection",
    "LocalStore",
    "MappingStore",
    "MemoryStore",
    "N5Default",
    "ObstoreStore",
    "PackBits",
    "Plan",
    "PrefixStore",
    "Read",
    "ReadOnlyStore",
    "RecordingStore",
    "Reshape",
    "S3Store",
    "ScaleOffset",
    "Sharding",
    "Span",
    "Store",
    "Stream",
    "Tail",
    "Transpose",
    "VirtualArray",
    "VlenBytes",
    "VlenUtf8",
    "WriteOptions",
    "ZarrdockError",
    "Zfp",
    "ZipStore",
    "Zstd",
    "__version__",
    "adapters",
    "append",
    "as_mapping",
    "concatenate",
    "config",
    "consolidate_metadata",
    "copy",
    "create_array",
    "create_group",
    "create_hierarchy",
    "errors",
    "from_dask",
    "open",
    "open_array",
    "open_group",
    "open_store",
    "open_virtual",
    "plot",
    "pyramid",
    "read_many",
    "read_many_async",
    "recompress",
    "stack",
    "storage",
    "testing",
    "tools",
    "views",
]

if not TYPE_CHECKING:  # a type checker would take it for every name there is
    __getattr__, __dir__ = lazy(__name__, _PLACES, __all__, _MODULES)
