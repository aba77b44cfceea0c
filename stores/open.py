"""Open a store from a path, a URL, or an object the user already has.

fsspec and the clients of remote stores are imported only when needed: importing them takes longer than opening a local
path.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zarrdock.errors import UnsupportedError, ZarrdockError
from zarrdock.registry import Registry
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.urls import Pipeline, parse_pipeline, path_of_file_url
from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

    from zarrdock.stores.retry import RetryPolicy

__all__ = ["open_store", "opening_with", "protocols"]

Opener = Callable[..., Store]
Tuning = dict[str, Any]

# Protocol -> what opens it, called with the URL and the keywords storage_options and read_only.
protocols: Registry[Opener] = Registry(
    "zarrdock.stores",
    {
        "s3": "zarrdock.stores.s3:S3Store",
        "s3a": "zarrdock.stores.s3:S3Store",
        "gs": "zarrdock.stores.gcs:GCSStore",
        "gcs": "zarrdock.stores.gcs:GCSStore",
        "az": "zarrdock.stores.azure:AzureStore",
        "abfs": "zarrdock.stores.azure:AzureStore",
        "abfss": "zarrdock.stores.azure:AzureStore",
        "http": "zarrdock.stores.http_:HTTPStore",
        "https": "zarrdock.stores.http_:HTTPStore",
        "zip": "zarrdock.stores.zip_:open_zip",
        # Above the stores: it shows one as another.
        "hdf5": "zarrdock.views.hdf5_view:open_hdf5",
        "reference": "zarrdock.views.references:open_reference",
    },
)

# These take a filesystem and a path too: protocol -> a method of the filesystem that the store needs, which others of
# that protocol need not have.
_OVER_FILESYSTEMS = {
    "s3": "_call_s3",
    "s3a": "_call_s3",
    "gs": "_get_params",
    "gcs": "_get_params",
    "az": "service_client",
    "abfs": "service_client",
    "abfss": "service_client",
    "http": "encode_url",
    "https": "encode_url",
}
# Beginnings of what is meant as a URL, slashes or not.
_SERVICES = {*_OVER_FILESYSTEMS, "az", "abfs", "abfss", "adl", "ftp", "sftp", "ssh", "smb", "webdav", "hdfs"}

# These have a host in the URL.
_SERVERS = {"http", "https", "ftp", "sftp", "ssh", "smb", "webdav", "webdavs"}

# Two letters at least: "C:\\data" is a path.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_IPV6 = re.compile(r"[a-z]+://(?:[^/@]*@)?\[", re.IGNORECASE)  # the colons of an address make no chain
_ZIP = re.compile(r"\.(zip|ozx)/?$", re.IGNORECASE)


def open_store(
    obj: Any = None,
    *,
    path: str = "",
    storage_options: dict[str, Any] | None = None,
    read_only: bool = False,
    durable: bool = False,
    retry: RetryPolicy | None = None,
    n_concurrent: int | None = None,
    merge_gap_bytes: int | None = None,
    missing_statuses: Collection[int] | None = None,
) -> Store:
    """The store that ``obj`` stands for.

    Args:
        obj: a path or URL (``file:``, ``memory://``, ``s3://``, ``gs://``, ``az://``, ``abfss://``, ``http(s)://``,
            ``zip://``, every protocol fsspec knows, chained ones such as ``simplecache::s3://...``), a URL pipeline
            (``s3://bucket/a.zip|zip:inner|zarr3:``), a path-like or UPath, an fsspec filesystem, an fsspec mapper, a
            mutable mapping, an obstore or obspec store, a store of zarr-python's interface (an Icechunk session among
            them), or a store, which is handed back. A path or URL that ends in ``.zip`` or ``.ozx`` is a zip archive.
            None: a new, empty memory store.
        path: folder in the filesystem, where ``obj`` is an fsspec filesystem.
        storage_options: options of the fsspec filesystem a URL leads to.
        read_only: refuse every mutating verb.
        durable: local files and archives only: return from writing when the bytes are on the disk.
        retry: remote stores only: when requests are tried again.
        n_concurrent: remote stores only: requests in flight at most, over all users of the store.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request; each kind of store has a
            measured default (``docs/reference/stores.md``).
        missing_statuses: remote stores only: HTTP statuses that are taken for "no such key" in reads, beside 404 and
            410. 403: where listing is not allowed, many services say so of what is missing; 200: a web server's page of
            HTML in the place of the object. Elsewhere both are errors, for a chunk that exists would become fill value.
    Raises:
        UnsupportedError: no store can be made of ``obj``, or a library for it is missing. AccessError, StoreError.

    ``memory://`` is fsspec's memory filesystem, one for the whole process; ``MemoryStore`` is faster and has versions.

    >>> zarrdock.open_store({"key": b"value"}).size("key")
    5
    >>> type(zarrdock.open_store("memory://folder")).__name__
    'FsspecStore'
    """
    tuning: Tuning = {
        "retry": retry,
        "n_concurrent": n_concurrent,
        "merge_gap_bytes": merge_gap_bytes,
        "missing_statuses": missing_statuses,
    }
    tuning = {name: value for name, value in tuning.items() if value is not None}
    defaults = _defaults.get()
    if defaults:
        return _opened_with(defaults, obj, path, storage_options, read_only, durable, tuning)
    store = _store_of(obj, path, storage_options, read_only, durable, tuning)
    return _tuned(store, tuning) if tuning else store


_defaults: ContextVar[Tuning | None] = ContextVar("_defaults", default=None)


@contextmanager
def opening_with(**tuning: Any) -> Iterator[None]:
    """Settings of :func:`open_store` for the remote stores that this thread opens in the block and are given none."""
    before = _defaults.set({**(_defaults.get() or {}), **tuning})
    try:
        yield
    finally:
        _defaults.reset(before)


def _opened_with(
    defaults: Tuning,
    obj: Any,
    path: str,
    storage_options: dict[str, Any] | None,
    read_only: bool,
    durable: bool,
    tuning: Tuning,
) -> Store:
    # A local store takes only what it was given itself.
    store = _store_of(obj, path, storage_options, read_only, durable, {**defaults, **tuning})
    return _tuned(store, tuning) if tuning else store


def _store_of(
    obj: Any, path: str, storage_options: dict[str, Any] | None, read_only: bool, durable: bool, tuning: Tuning
) -> Store:
    if path and not _is_a(obj, "fsspec.spec", "AbstractFileSystem"):
        raise UnsupportedError("path= goes with an fsspec filesystem; otherwise it is part of the URL")
    if isinstance(obj, (str, os.PathLike)) and not _is_upath(obj):
        text = os.fspath(obj)
        if not isinstance(text, str) or not text or "\0" in text:
            raise UnsupportedError(f"not a path or URL: {text!r}")
        if isinstance(obj, os.PathLike):  # never a URL
            return _from_path(os.path.expanduser(text), storage_options or {}, read_only, durable)
        return _from_text(text, storage_options or {}, read_only, durable, tuning)
    if storage_options:
        raise UnsupportedError(f"storage_options go with a URL; a {type(obj).__name__} has its options already")
    if isinstance(obj, Store):
        return ReadOnlyStore(obj) if read_only and not obj.read_only else obj
    if obj is None:
        return MemoryStore(read_only=read_only)
    if _is_a(obj, "fsspec.mapping", "FSMap"):
        return _from_filesystem(obj.fs, obj.root, read_only, durable, tuning)
    if _is_a(obj, "fsspec.spec", "AbstractFileSystem"):
        return _from_filesystem(obj, path, read_only, durable, tuning)
    if _is_upath(obj):
        return _from_upath(obj, read_only, durable, tuning)
    if _is_a(obj, "zarr.abc.store", "Store") or _is_a(obj, "icechunk.session", "Session") or _is_store_path(obj):
        return _from_zarr_python(obj, read_only)
    if isinstance(obj, MutableMapping):
        from zarrdock.stores.mapping import MappingStore

        return MappingStore(obj, read_only=read_only)
    if hasattr(obj, "get_range") or hasattr(obj, "get_range_async") or hasattr(obj, "get_async"):
        return _from_obstore(obj, read_only, tuning)
    raise UnsupportedError(
        f"a {type(obj).__name__} is no store: give a path, a URL, an fsspec filesystem, a mutable mapping or a store"
    )


def _is_a(obj: Any, module: str, name: str) -> bool:
    """isinstance of a class that may not be loaded: then nothing is an instance of it."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(obj, getattr(loaded, name))


def _is_store_path(obj: Any) -> bool:
    return _is_a(obj, "zarr.storage", "StorePath")


def _from_zarr_python(obj: Any, read_only: bool) -> Store:
    # Above the stores: it brings zarr-python's interface to theirs.
    module = importlib.import_module("zarrdock.adapters.zarr_own_stores")
    opened: Store = module.open_zarr_python(obj, read_only=read_only)
    return opened


def _tuned(store: Store, tuning: Tuning) -> Store:
    """The settings that the store did not take itself."""
    if _is_a(store, "zarrdock.stores.remote", "RemoteStore"):
        return store
    if tuning.keys() - {"merge_gap_bytes"}:
        raise UnsupportedError(
            f"retry=, n_concurrent= and missing_statuses= go with a remote store that is opened here, not {store!r}: "
            "for an archive or a wrapper, open the store inside it with them first"
        )
    return store.with_costs(merge_gap_bytes=tuning["merge_gap_bytes"])


def _from_text(text: str, options: dict[str, Any], read_only: bool, durable: bool, tuning: Tuning) -> Store:
    pipeline = parse_pipeline(text)
    if pipeline is not None:
        return _from_pipeline(pipeline, options, read_only, durable, tuning)
    named = path_of_file_url(text) if "::" not in text else None
    if named is not None:
        return _from_path(named, options, read_only, durable)
    if re.match(r"memory:(?!:|//)", text, re.IGNORECASE) and not os.path.lexists(text.split("/")[0]):
        text = f"memory://{text[len('memory:') :]}"
    first = text if _IPV6.match(text) else text.split("::")[0]
    found = _URL.match(first)
    protocol = found[1].lower() if found else ""
    if protocol in _SERVERS and first == text:
        _check_server(protocol, text, options)
    if first != text and (protocol or _is_chain(text)):
        return _from_chain(text, protocol or first, options, read_only, durable, tuning)
    if not protocol and os.name == "posix":
        _check_no_url(text)
        return _from_path(os.path.expanduser(text), options, read_only, durable)
    if protocol in ("", "local"):
        from fsspec.implementations.local import LocalFileSystem

        return _from_path(LocalFileSystem._strip_protocol(text), options, read_only, durable)
    if _ZIP.search(text.split("?")[0]) and protocol != "zip":
        return _open(protocols, "zip", text, options, read_only, durable)
    return _open(protocols, protocol, text, options, read_only, durable, tuning)


def _from_pipeline(
    pipeline: Pipeline, options: dict[str, Any], read_only: bool, durable: bool, tuning: Tuning
) -> Store:
    """The store at the end of a pipeline; ``options`` are of the filesystem that its base lies on."""
    store: Store | None = None
    path = ""
    for scheme, given in pipeline.adapters:
        inside = given.strip("/")
        if scheme == "zip":
            if store is None:
                store = _zips().open_zip(
                    pipeline.base, storage_options=options or None, read_only=read_only, durable=durable
                )
            else:
                store = _zips().ZipStore((store, path))
            path = inside
        elif scheme == "icechunk":
            if store is not None:
                raise UnsupportedError("an Icechunk repository in an archive cannot be opened: unpack the archive")
            module = importlib.import_module("zarrdock.adapters.icechunk_urls")  # above the stores
            store, path = module.open_repository(pipeline.base, given, options, read_only=read_only)
        else:
            store = _from_text(pipeline.base, options, read_only, durable, tuning) if store is None else store
            path = f"{path}/{inside}".strip("/")
    if store is None:
        store = _from_text(pipeline.base, options, read_only, durable, tuning)
    return PrefixStore(store, path) if path else store


def _zips() -> Any:
    return importlib.import_module("zarrdock.stores.zip_")  # which opens the places of archives by way of this module


def _from_path(path: str, options: dict[str, Any], read_only: bool, durable: bool) -> Store:
    if options.keys() - {"auto_mkdir"}:
        raise UnsupportedError(f"local files have no storage_options: {', '.join(sorted(options))}")
    if _ZIP.search(path) and not os.path.isdir(path):
        zipped: Store = _zips().ZipStore(path.rstrip("/"), read_only=True if read_only else None, durable=durable)
        return zipped
    return _local(path, read_only, durable)


def _check_no_url(text: str) -> None:
    """Refuse ``s3:bucket/x``, which would become a folder ``s3:bucket``."""
    protocol, colon, rest = text.partition(":")
    if colon and protocol in _SERVICES and not rest.startswith(":") and not os.path.lexists(text.split("/")[0]):
        raise UnsupportedError(
            f"{text!r} is neither a URL nor the path of a folder that is there: write {protocol}://{rest.lstrip('/')}, "
            f"or ./{text} for a local folder of that name"
        )


def _check_server(protocol: str, url: str, options: dict[str, Any]) -> None:
    """Refuse a URL whose server cannot be told, which libraries answer each in their own way, some late."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:  # in a text that cannot be taken apart secrets cannot be told either
        raise UnsupportedError(f"not a URL of {protocol}: {error}") from None
    if not parts.hostname and not options.keys() & {"host", "base_url"}:
        raise UnsupportedError(f"{protocol}:// names no host: write {protocol}://host/path")


def _is_chain(text: str) -> bool:
    """True for what begins with a protocol and ``::``. A file may have that in its name, too."""
    if os.path.exists(text):
        return False
    from fsspec.registry import available_protocols

    first, _, rest = text.partition("::")
    # A URL behind it: a chain, though of a protocol that nobody knows, which is to be said.
    return first in available_protocols() or first in protocols.names() or _URL.search(rest) is not None


def _local(path: str, read_only: bool, durable: bool) -> Store:
    return LocalStore(path, durable=durable, read_only=read_only)


def _from_chain(
    url: str, protocol: str, options: dict[str, Any], read_only: bool, durable: bool, tuning: Tuning
) -> Store:
    if protocol == "zip" or not protocol:
        return _open(protocols, "zip", url, options, read_only, durable)
    if protocol in ("hdf5", "reference"):
        return _open(protocols, protocol, url, options, read_only, durable, tuning)
    return _generic(url, options, read_only, durable, tuning)


def _open(
    registry: Registry[Opener],
    protocol: str,
    url: str,
    options: dict[str, Any],
    read_only: bool,
    durable: bool = False,
    tuning: Tuning | None = None,
) -> Store:
    try:
        opener = registry.get(protocol)
    except ImportError as error:
        raise _not_installed(protocol, error) from error
    if opener is None:
        return _generic(url, options, read_only, durable, tuning or {})
    try:
        # Only what is on local disks can be more durable than it is by itself.
        is_zip = protocol == "zip"
        more = ({"durable": True} if durable and is_zip else {}) | ({} if is_zip else tuning or {})
        return opener(url, storage_options=options or None, read_only=read_only, **more)
    except ZarrdockError:
        raise
    except ImportError as error:
        raise _not_installed(protocol, error) from error
    except Exception as error:
        from zarrdock.stores.diagnose import cause_of, redact, translate

        raise translate(error, store=redact(url)) from cause_of(error)


def _generic(url: str, options: dict[str, Any], read_only: bool, durable: bool, tuning: Tuning) -> Store:
    """Whatever fsspec makes of a URL."""
    from zarrdock.stores.fsspec_ import from_url

    fs, path = from_url(url, options)
    return _from_filesystem(fs, path, read_only, durable, tuning)


def _from_filesystem(fs: AbstractFileSystem, path: str, read_only: bool, durable: bool, tuning: Tuning) -> Store:
    from fsspec.implementations.local import LocalFileSystem

    from zarrdock.stores.fsspec_ import FsspecStore, protocol_of, unwrap
    from zarrdock.stores.io_loop import is_async

    fs, path = unwrap(fs, path)
    if isinstance(fs, LocalFileSystem):
        return _local(fs._strip_protocol(path), read_only, durable)
    protocol = protocol_of(fs)
    if _is_a(fs, "obstore.fsspec", "FsspecStore"):
        return _from_obstore_filesystem(fs, path, protocol, read_only, durable, tuning)
    if not is_async(fs) or not hasattr(fs, _OVER_FILESYSTEMS.get(protocol, "")):
        return FsspecStore(fs, path, read_only=read_only, **tuning)
    try:
        opener = protocols.get(protocol)
    except ImportError as error:
        raise _not_installed(protocol, error) from error
    return (opener or FsspecStore)(fs, path, read_only=read_only, **tuning)


def _is_upath(obj: Any) -> bool:
    """A universal_pathlib path, which has a filesystem; plain paths have none."""
    return all(hasattr(obj, name) for name in ("protocol", "path", "storage_options", "fs"))


def _from_upath(path: Any, read_only: bool, durable: bool, tuning: Tuning) -> Store:
    if path.protocol in ("", "file", "local"):
        return _from_text(str(path.path), {}, read_only, durable, tuning)
    if _ZIP.search(path.path):
        return _from_text(str(path), dict(path.storage_options), read_only, durable, tuning)
    return _from_filesystem(path.fs, path.path, read_only, durable, tuning)


def _from_obstore(store: Any, read_only: bool, tuning: Tuning) -> Store:
    try:
        module = importlib.import_module("zarrdock.stores.obstore_")
    except ImportError as error:
        raise _not_installed("obstore", error) from error
    opened: Store = module.ObstoreStore(store, read_only=read_only, **tuning)
    return opened


def _from_obstore_filesystem(
    fs: Any, path: str, protocol: str, read_only: bool, durable: bool, tuning: Tuning
) -> Store:
    """The store of obstore's that stands behind its filesystem: by that one's own methods there are no versions, no
    conditions and no open ranges.
    """
    from zarrdock.stores.obstore_client import below

    if protocol == "file":
        return _local(fs._strip_protocol(path), read_only, durable)
    bucket, inside = fs._split_path(path)
    store, rest = below(fs._construct_store(bucket), inside.strip("/"))
    opened = _from_obstore(store, read_only, tuning)
    return PrefixStore(opened, rest) if rest else opened


def _not_installed(protocol: str, error: ImportError) -> UnsupportedError:
    from zarrdock.stores.fsspec_ import install_hint

    return UnsupportedError(f"{protocol} cannot be opened here: {error}{install_hint(protocol)}")
