"""Files that are no Zarr and can be copied to it, told by their first bytes: HDF5, netCDF, npy, npz, TIFF, documents of
virtual arrays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from zarrdock.errors import RangeError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.open import open_store
from zarrdock.stores.urls import parse_pipeline, path_of_file_url

__all__ = ["FileKind", "ForeignFile", "find_file", "locate"]

FileKind: TypeAlias = Literal["hdf5", "netcdf3", "npy", "npz", "tiff", "virtual"]

_EXTENSIONS = {
    ".h5", ".hdf5", ".hdf", ".he5", ".h5ad", ".mat", ".nc", ".nc4", ".cdf", ".npy", ".npz", ".tif", ".tiff",
    ".btf", ".tf8",
}  # fmt: skip
_ARCHIVES = (".zip", ".ozx")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_HDF5_OFFSETS = (512, 1024, 2048, 4096)  # behind a block of the user's


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file that is no Zarr.

    Attributes:
        kind: what it is. store, key: where it is.
    """

    kind: FileKind
    store: Store
    key: str

    @property
    def url(self) -> str:
        """URL of the file."""
        return self.store.url_of(self.key)


def find_file(src: Any, storage_options: Mapping[str, Any] | None = None) -> ForeignFile | None:
    """The file that ``src`` names, if it is one that can be copied to Zarr; None for all else.

    A local path is looked at whatever its name is; on a network only names with the extension of such a file are.

    Raises:
        UnsupportedError: a file of a kind that cannot be read. StoreError.
    """
    if not isinstance(src, (str, os.PathLike)):
        return None
    text = os.fspath(src)
    if not isinstance(text, str) or parse_pipeline(text) is not None:
        return None
    is_hdf5 = text.startswith(("hdf5://", "hdf5::"))
    text = text[len("hdf5://") :] if is_hdf5 else text
    text = path_of_file_url(text) or text if "::" not in text else text
    first, chained, _ = text.partition("::")
    extension = Path(first.partition("?")[0] if "://" in first else first).suffix.lower()
    if not is_hdf5:
        is_called_so = extension in _EXTENSIONS and not _is_local(first, Path.is_dir)
        is_file = not chained and extension not in _ARCHIVES and _is_local(first, Path.is_file)
        if not is_called_so and not is_file:
            return None
    store, key = locate(text, storage_options)
    kind = "hdf5" if is_hdf5 else _kind(store, key, extension)
    return None if kind is None else ForeignFile(kind, store, key)


def locate(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Store, str]:
    """The folder of a file as a store, and the file's key in it."""
    first, chained, rest = url.partition("::")
    folder, slash, name = first.rpartition("/")
    if not slash:
        folder = "."
    elif folder.endswith(":/") or not folder:  # zip://x.npy, /x.npy
        folder += "/"
    options = dict(storage_options) if storage_options else None
    return open_store(f"{folder}{chained}{rest}", storage_options=options, read_only=True), name


def _is_local(text: str, test: Callable[[Path], bool]) -> bool:
    return "://" not in text and test(Path(os.path.expanduser(text)))  # noqa: PTH111 - it raises for unknown users


def _kind(store: Store, key: str, extension: str) -> FileKind | None:
    head = _bytes_at(store, key, 0)
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(_NPY) or extension == ".npy":  # a damaged one is called that
        return "npy"
    if head.startswith(_ZIP):
        return "npz" if extension == ".npz" else None
    if head.startswith(_TIFF):
        return "tiff"
    if head.startswith(_CLASSIC):
        return "netcdf3"
    if head.startswith(b"{") and b'"zarrdock_virtual"' in _bytes_at(store, key, 0, 100):
        return "virtual"
    if head and any(_bytes_at(store, key, offset).startswith(_HDF5) for offset in _HDF5_OFFSETS):
        return "hdf5"
    return None


def _bytes_at(store: Store, key: str, offset: int, n: int = 8) -> bytes:
    try:
        (found,) = store.read([Read(key, Span(offset, offset + n))])
    except RangeError:
        return b""
    return bytes(found.data) if isinstance(found, Blob) else b""
