"""zarrdock: an fsspec-native storage and store-adapter suite for Zarr.

Stores (memory, local files, zip, S3, GCS, HTTP, any fsspec filesystem) with partial reads and atomic updates, under
arrays and groups of Zarr v2 and v3
with sharding. Start with :func:`open`, :func:`open_array`, :func:`create_array`.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Not lazy: once any module has imported the module `zarrdock.config`, that is what the name would stand for.
from zarrdock.config import config

if TYPE_CHECKING:
    from zarrdock.adapters.dask import from_dask
    from zarrdock.adapters.mapping import as_mapping
    from zarrdock.api import (
        consolidate_metadata,
        create_array,
        create_group,
        open,  # noqa: A004 - zarr-python's name
        open_array,
        open_group,
    )
    from zarrdock.array.array import Array
    from zarrdock.array.execution.plan import Plan
    from zarrdock.array.group import Group
    from zarrdock.array.recompress import recompress
    from zarrdock.codecs.blosc_ import Blosc
    from zarrdock.codecs.bytes_ import Bytes
    from zarrdock.codecs.conditional import Conditional
    from zarrdock.codecs.crc32c_ import Crc32c
    from zarrdock.codecs.gzip_ import Gzip
    from zarrdock.codecs.sharding import Sharding
    from zarrdock.codecs.transpose import Transpose
    from zarrdock.codecs.write_options import WriteOptions
    from zarrdock.codecs.zstd_ import Zstd
    from zarrdock.copying.copy_ import copy
    from zarrdock.errors import ZarrdockError
    from zarrdock.ranges import From, Span, Tail
    from zarrdock.stores.async_store import AsyncStore
    from zarrdock.stores.base import Blob, Read, Store
    from zarrdock.stores.cache import CachingStore
    from zarrdock.stores.fsspec_ import FsspecStore
    from zarrdock.stores.local import LocalStore
    from zarrdock.stores.memory import MemoryStore
    from zarrdock.stores.open import open_store
    from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore, RecordingStore
    from zarrdock.stores.zip_ import ZipStore
    from zarrdock.viewer.pictures import plot

__version__ = "0.1.0.dev0"

# Public name -> the module it comes from, imported when the name is first used: importing zarrdock costs next to
# nothing, and reads of local files never wait for imports that only remote stores need. Type checkers read the imports
# above; a test holds the two lists together.
_PLACES = {
    "Array": "array.array",
    "AsyncStore": "stores.async_store",
    "Blob": "stores.base",
    "Blosc": "codecs.blosc_",
    "Bytes": "codecs.bytes_",
    "CachingStore": "stores.cache",
    "Conditional": "codecs.conditional",
    "Crc32c": "codecs.crc32c_",
    "From": "ranges",
    "FsspecStore": "stores.fsspec_",
    "Group": "array.group",
    "Gzip": "codecs.gzip_",
    "LocalStore": "stores.local",
    "MemoryStore": "stores.memory",
    "Plan": "array.execution.plan",
    "PrefixStore": "stores.wrappers",
    "Read": "stores.base",
    "ReadOnlyStore": "stores.wrappers",
    "RecordingStore": "stores.wrappers",
    "Sharding": "codecs.sharding",
    "Span": "ranges",
    "Store": "stores.base",
    "Tail": "ranges",
    "Transpose": "codecs.transpose",
    "WriteOptions": "codecs.write_options",
    "ZarrdockError": "errors",
    "ZipStore": "stores.zip_",
    "Zstd": "codecs.zstd_",
    "as_mapping": "adapters.mapping",
    "consolidate_metadata": "api",
    "copy": "copying.copy_",
    "create_array": "api",
    "create_group": "api",
    "from_dask": "adapters.dask",
    "open": "api",
    "open_array": "api",
    "open_group": "api",
    "open_store": "stores.open",
    "plot": "viewer.pictures",
    "recompress": "array.recompress",
}

__all__ = [
    "Array",
    "AsyncStore",
    "Blob",
    "Blosc",
    "Bytes",
    "CachingStore",
    "Conditional",
    "Crc32c",
    "From",
    "FsspecStore",
    "Group",
    "Gzip",
    "LocalStore",
    "MemoryStore",
    "Plan",
    "PrefixStore",
    "Read",
    "ReadOnlyStore",
    "RecordingStore",
    "Sharding",
    "Span",
    "Store",
    "Tail",
    "Transpose",
    "WriteOptions",
    "ZarrdockError",
    "ZipStore",
    "Zstd",
    "__version__",
    "as_mapping",
    "config",
    "consolidate_metadata",
    "copy",
    "create_array",
    "create_group",
    "from_dask",
    "open",
    "open_array",
    "open_group",
    "open_store",
    "plot",
    "recompress",
]

if not TYPE_CHECKING:  # a type checker would take it for every name there is

    def __getattr__(name: str) -> Any:
        place = _PLACES.get(name)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{place}"), name)
        globals()[name] = value  # the next use finds it at once
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
