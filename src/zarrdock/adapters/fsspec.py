"""The fsspec protocol "zarrdock": any store or view as a filesystem.

>>> fsspec.filesystem("zarrdock", store=zarrdock.views.unshard("s3://bucket/a.zarr"))  # doctest: +SKIP
"""

from __future__ import annotations

import io
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from zarrdock.errors import KeyExistsError, RangeError, UnsupportedError, VersionChangedError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Blob, Read, Result, check_prefix
from zarrdock.stores.open import open_store

__all__ = ["ZarrdockFileSystem"]


class ZarrdockFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Keys as files, prefixes as folders. Folders exist where there is something in them.

    Args:
        store: anything :func:`zarrdock.open_store` takes, a view among others.
        fo, target_options: the same, as fsspec's chained URLs name them: ``zarrdock::s3://bucket/a.zarr``.
        read_only: refuse to write.

    >>> from zarrdock.adapters import ZarrdockFileSystem
    >>> files = ZarrdockFileSystem(store={"a/key": b"value"})
    >>> files.cat_file("a/key"), files.ls("a", detail=False)
    (b'value', ['a/key'])
    """

    protocol = "zarrdock"
    root_marker = ""
    cachable = False  # instances are told apart by their arguments' text, which says too little of a store

    def __init__(
        self,
        store: Any = None,
        *,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        read_only: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(store=store, fo=fo, target_options=target_options, read_only=read_only, **options)
        if store is None and fo is None:
            raise UnsupportedError("the filesystem zarrdock needs a store: fsspec.filesystem('zarrdock', store=...)")
        if store is None and target_protocol and "://" not in str(fo):
            store = f"{target_protocol}://{fo}"
        place = store if store is not None else fo
        self.store = open_store(place, storage_options=target_options, read_only=read_only)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        return str(path).removeprefix("zarrdock://").removeprefix("zarrdock::").strip("/")

    # -- looking -------------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size of a key, or that it is a folder. Raises FileNotFoundError where it is neither."""
        key = self._strip_protocol(path)
        if key and (size := self.store.size(key)) is not None:
            return {"name": key, "size": size, "type": "file"}
        listing = self.store.list_dir(key) if self.store.traits.listable else None
        if not key or (listing is not None and (listing.keys or listing.prefixes)):
            return {"name": key, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List the direct children of a folder; a file lists itself."""
        key = self._strip_protocol(path)
        listing = self.store.list_dir(key)
        before = f"{check_prefix(key)}/" if key else ""
        names = [before + name for name in (*listing.keys, *listing.prefixes)]
        if not names and key:
            names = [self.info(key)["name"]]
            return [self.info(key)] if detail else names
        if not detail:
            return sorted(names)
        folders = [{"name": before + name, "size": 0, "type": "directory"} for name in listing.prefixes]
        keys = names[: len(listing.keys)]
        sizes = self.store.sizes(keys)
        files = [{"name": key, "size": size, "type": "file"} for key, size in zip(keys, sizes, strict=True)]
        return sorted([*files, *folders], key=lambda entry: str(entry["name"]))

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **options: Any
    ) -> Any:
        """All keys below a folder, in one listing."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **options)
        key = self._strip_protocol(path)
        entries = sorted((entry.key, entry.size) for entry in self.store.list(key))
        if not entries and key and self.store.exists(key):
            entries = [(key, self.store.size(key))]
        found = {name: {"name": name, "size": size, "type": "file"} for name, size in entries}
        return found if detail else [*found]

    # -- reading -------------------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes of a key, or of a part of it, in one request."""
        return self._bytes(path, self._read([Read(self._strip_protocol(path), self._range(path, start, end))])[0])

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Parts of many keys, in one round."""
        n = len(paths)
        starts = starts if isinstance(starts, (list, tuple)) else [starts] * n
        ends = ends if isinstance(ends, (list, tuple)) else [ends] * n
        reads = [
            Read(self._strip_protocol(path), self._range(path, start, end))
            for path, start, end in zip(paths, starts, ends, strict=True)
        ]
        found: list[Any] = []
        for path, result in zip(paths, self._read(reads), strict=True):
            try:
                found.append(self._bytes(path, result))
            except (FileNotFoundError, VersionChangedError) as error:
                if on_error != "return":
                    raise
                found.append(error)
        return found

    def _read(self, reads: list[Read]) -> list[Result]:
        try:
            return self.store.read(reads)
        except RangeError:
            if len(reads) > 1:
                return [result for read in reads for result in self._read([read])]
            return [Blob(b"")]  # fsspec answers a part beyond the end with nothing

    def _range(self, path: str, start: int | None, end: int | None) -> Range:
        if (start or 0) < 0 and end is None:
            return Tail(-(start or 0))
        if (start or 0) < 0 or (end or 0) < 0:
            size = self.info(path)["size"]
            start, end = ((n + size if n is not None and n < 0 else n) for n in (start, end))
        if end is None:
            return From(start) if start else None
        first = max(0, start or 0)
        return Span(first, max(first, end))

    @staticmethod
    def _bytes(path: str, result: Result) -> bytes:
        if result is None:
            raise FileNotFoundError(path)
        if isinstance(result, VersionChangedError):
            raise result
        return bytes(result.data)

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **options: Any) -> Any:
        key = self._strip_protocol(path)
        if mode == "rb":
            return _Reader(self, key, mode, block_size or 2**20, **options)
        if mode in ("wb", "xb"):
            self.store._check_writable(key)
            if mode == "xb" and self.store.exists(key):  # decided when it is stored, and told as early as can be
                raise KeyExistsError("the key exists already", key=key, store=self.store)
            return _Writer(self, key, mode == "xb")
        raise UnsupportedError(f"mode {mode!r}: values are replaced as a whole: 'rb', 'wb' or 'xb'")

    # -- writing -------------------------------------------------------------------------------------------------------

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Set a key, atomically."""
        self.store.write(self._strip_protocol(path), value, create_only=mode == "create")

    def rm_file(self, path: str) -> None:
        """Remove a key."""
        self.store.delete(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove keys; with ``recursive`` everything below too."""
        for item in path if isinstance(path, list) else [path]:
            key = self._strip_protocol(item)
            if recursive:
                self.store.delete_prefix(key)
            if key:
                self.store.delete(key)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a value."""
        self.pipe_file(path2, self.cat_file(path1))

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: folders exist by the files in them."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: folders exist by the files in them."""


class _Reader(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


class _Writer(io.BytesIO):
    """A file that collects written bytes, and stores them when it is closed."""

    def __init__(self, fs: ZarrdockFileSystem, key: str, create_only: bool) -> None:
        super().__init__()
        self._fs = fs
        self._key = key
        self._create_only = create_only

    def __exit__(self, kind: Any, *details: Any) -> None:
        if kind is not None:  # what was written so far is not all of it
            super().close()
        else:
            self.close()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._fs.store.write(self._key, self.getvalue(), create_only=self._create_only)
        finally:
            super().close()  # else it would be tried again, and fail again, when the object goes
