"""zarrdock: an fsspec-native storage and store-adapter suite for Zarr.

Stores (memory, local files, zip, S3, GCS, HTTP, any fsspec filesystem) with partial reads and atomic updates, under
arrays and groups of Zarr v2 and v3
with sharding. Start with :func:`open`, :func:`open_array`, :func:`create_array`.
"""

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
from zarrdock.array.group import Group
from zarrdock.array.plan import Plan
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.config import config
from zarrdock.copying.copy_ import copy
from zarrdock.errors import ZarrdockError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.cache import CachingStore
from zarrdock.stores.facade import AsyncStore
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.open import open_store
from zarrdock.stores.wrap import PrefixStore, ReadOnlyStore, RecordingStore
from zarrdock.stores.zip_ import ZipStore

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "AsyncStore",
    "Blob",
    "Blosc",
    "Bytes",
    "CachingStore",
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
]
