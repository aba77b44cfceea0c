"""Reference documents (kerchunk's), and tables: keys whose values are inline, or byte ranges of other files."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit

import fsspec
import numpy as np
import numpy.typing as npt

from zarrdock.errors import MetadataError, NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.json_ import expect_integer, expect_object, in_document, loads
from zarrdock.lru import BoundedLRU
from zarrdock.stores.base import Blob, Entry, Read, Result, Store, check_key
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.identity import Identity
from zarrdock.stores.open import open_store
from zarrdock.views.view import Document, Part, Place, View

__all__ = ["ReferenceTables", "ReferenceView", "open_reference", "references"]


# -- References in Parquet tables: for each array files of so many rows, one a chunk, in C order of the grid.
#
# Source: kerchunk's reference specification, Parquet storage.

INDEX = ".zmetadata"
# Tables kept at most; by default one holds up to 100,000 references.
KEPT_TABLES = 32
# Path, offset and length of a part of a file, and what is inline.
_COLUMNS = {"path": np.object_, "offset": np.int64, "size": np.int64, "raw": np.object_}


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns, of the same length. Paths and inline values are None where there is none."""

    paths: npt.NDArray[np.object_]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    inline: npt.NDArray[np.object_]

    def value(self, row: int) -> bytes | list[Any] | None:
        if row >= len(self.paths):
            return None
        inline, path = self.inline[row], self.paths[row]
        if isinstance(inline, bytes | str):
            return _inline(inline)
        if not isinstance(path, str):
            return None
        offset, length = int(self.offsets[row]), int(self.lengths[row])
        return [path, offset, length] if offset or length else [path]


class ReferenceTables:
    """Values of keys, by tables that are read when a key in them is asked for, those of one batch in one round.

    Args:
        store: where the tables are. index: what ``.zmetadata`` holds.
    """

    def __init__(self, store: Store, index: dict[str, Any]) -> None:
        self._store = store
        self._n_rows: int = index["record_size"]
        self._documents: dict[str, Any] = index["metadata"]
        self._grids = {
            key.removesuffix("/.zarray"): _grid(key, document)
            for key, document in self._documents.items()
            if key.endswith("/.zarray")
        }
        self._kept: BoundedLRU[str, _Table | None] = BoundedLRU(max_items=KEPT_TABLES)

    @property
    def identity(self) -> Identity:
        """The folder of the tables."""
        return self._store.identity

    @classmethod
    def open(cls, url: Any, storage_options: dict[str, Any] | None) -> Self | None:
        """The tables in a folder; None where there are none.

        Raises:
            MetadataError: the index is not as it should be.
        """
        store = open_store(url, storage_options=storage_options or None, read_only=True)
        found = store.get(INDEX)
        if found is None:
            return None
        with in_document(INDEX):
            index = expect_object(loads(found.data), expected="an object, what references in tables are")
            expect_object(index.get("metadata"), "/metadata")
            expect_integer(index.get("record_size"), "/record_size", 1, 2**63 - 1)
        return cls(store, index)

    def first(self) -> list[Any] | None:
        """One of the references to a file, of the array with the fewest chunks."""
        for path, grid in sorted(self._grids.items(), key=lambda item: math.prod(item[1])):
            for number in range(-(-math.prod(grid) // self._n_rows)):
                table = self._tables([_name(path, number)])[0]
                if table is not None:
                    rows = (table.value(row) for row in range(len(table.paths)))
                    found = next((value for value in rows if isinstance(value, list)), None)
                    if found is not None:
                        return found
        return None

    def find(self, keys: Sequence[str]) -> list[bytes | list[Any] | None]:
        """Bytes that are inline, or path, offset and length, or the path of a whole file; None for no such key."""
        rows = [self._row(key) for key in keys]
        names = list(dict.fromkeys(row[0] for row in rows if row is not None))
        tables = dict(zip(names, self._tables(names), strict=True))
        found: list[bytes | list[Any] | None] = []
        for key, row in zip(keys, rows, strict=True):
            table = None if row is None else tables[row[0]]
            found.append(self._document(key) if row is None else None if table is None else table.value(row[1]))
        return found

    def keys(self, start: str) -> Iterator[tuple[str, bytes | list[Any]]]:
        """Keys that begin with ``start``, and their values."""
        for key in (INDEX, *self._documents):
            if key.startswith(start) and (document := self._document(key)) is not None:
                yield key, document
        for path, grid in self._grids.items():
            if not f"{path}/".startswith(start) and not start.startswith(f"{path}/"):
                continue
            n = math.prod(grid)
            for number in range(-(-n // self._n_rows)):
                (table,) = self._tables([_name(path, number)])
                for row in range(0 if table is None else min(self._n_rows, n - number * self._n_rows)):
                    assert table is not None
                    coords = np.unravel_index(number * self._n_rows + row, grid)
                    key = f"{path}/{'.'.join(map(str, coords))}"
                    if key.startswith(start) and (value := table.value(row)) is not None:
                        yield key, value

    def _document(self, key: str) -> bytes | None:
        if key == INDEX:
            return json.dumps({"zarr_consolidated_format": 1, "metadata": self._documents}).encode()
        return json.dumps(self._documents[key]).encode() if key in self._documents else None

    def _row(self, key: str) -> tuple[str, int] | None:
        """The table that a chunk is in, and its row there."""
        path, _, name = key.rpartition("/")
        grid = self._grids.get(path)
        numbers = name.split(".")
        if grid is None or len(numbers) != len(grid) or not all(n.isdecimal() and n.isascii() for n in numbers):
            return None
        coords = [int(n) for n in numbers]
        if any(c >= n for c, n in zip(coords, grid, strict=True)):
            return None
        number = int(np.ravel_multi_index(coords, grid))
        return _name(path, number // self._n_rows), number % self._n_rows

    def _tables(self, names: Sequence[str]) -> list[_Table | None]:
        """Tables of references; None for missing ones, whose chunks are not stored."""
        with self._kept.lock:  # a table that several threads want is read once
            missing = [name for name in names if name not in self._kept]
            answers = self._store.read([Read(name) for name in missing]) if missing else []
            new = {
                name: _parsed(name, bytes(answer.data)) if isinstance(answer, Blob) else None
                for name, answer in zip(missing, answers, strict=True)
            }
            found = [new[name] if name in new else self._kept.get(name) for name in names]
            for name, table in new.items():
                self._kept.put(name, table)
        return found


def _name(path: str, number: int) -> str:
    return f"{path}/refs.{number}.parq"


def _grid(key: str, document: Any) -> tuple[int, ...]:
    """Chunks along each axis, one axis of one for a scalar."""
    try:
        shape, chunks = document["shape"], document["chunks"]
        return tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True)) or (1,)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise MetadataError(f"{key} in {INDEX}", expected="the metadata of an array", found=document) from error


def _parsed(name: str, data: bytes) -> _Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UnsupportedError(
            f'references in tables need pyarrow: pip install "zarrdock[references]" ({error})'
        ) from error
    try:
        table = parquet.read_table(pa.BufferReader(data), columns=list(_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise MetadataError(f"{name} is no Parquet table: {error}") from error
    columns: dict[str, npt.NDArray[Any]] = {
        column: np.array(table[column].to_pylist(), dtype)
        if column in table.column_names
        else np.zeros(len(table), dtype)
        for column, dtype in _COLUMNS.items()
    }
    return _Table(*columns.values())


def _inline(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return base64.b64decode(data[len(b"base64:") :]) if data.startswith(b"base64:") else data


# Options of fsspec's filesystem that say how it reads: here requests are merged by the store's traits.
_MOOT = {"lazy", "cache_size", "max_gap", "max_block", "skip_instance_cache", "use_listings_cache"}


def references(
    document: Any,
    *,
    storage_options: dict[str, Any] | None = None,
    target_options: dict[str, Any] | None = None,
    remote_protocol: str | None = None,
) -> ReferenceView:
    """A read-only store of the keys in a reference document. Ranges of one file that lie close together are read in
    one request.

    Args:
        document: a dictionary; or the path or URL of a JSON file, version 0 or 1, with templates of plain names; or of
            a folder of Parquet tables, which need pyarrow and are read as they are needed.
        storage_options: for the files that are referred to. target_options: for the document.
        remote_protocol: of the files that are referred to by a path alone; local files by default.
    Raises:
        MetadataError: it is no such document.
        UnsupportedError: it generates keys, or refers to files on several services. The URL ``reference://`` reads
            those documents, though not tables, by fsspec's own filesystem, range by range.

    >>> store = zarrdock.views.references({"key": "text", "number": "base64:YWI="})
    >>> bytes(store.get("number").data)
    b'ab'
    """
    loaded = _loaded(document, target_options)
    if isinstance(loaded, ReferenceTables):
        return _of_tables(loaded, storage_options, remote_protocol)
    return _of_document(loaded, storage_options, remote_protocol)


def _loaded(document: Any, options: dict[str, Any] | None) -> Any:
    """Contents of a JSON document, or tables."""
    if isinstance(document, Mapping):
        return document
    try:
        with fsspec.open(document, "rb", **(options or {})) as file:
            return json.load(file)
    except (IsADirectoryError, FileNotFoundError):
        tables = ReferenceTables.open(document, options)
        if tables is None:
            raise NodeNotFoundError(f"no reference document at {document}, nor tables") from None
        return tables
    except ValueError as error:
        raise MetadataError(f"{document} is not JSON: {error}") from error


def _of_document(document: Any, storage_options: dict[str, Any] | None, remote_protocol: str | None) -> ReferenceView:
    if not isinstance(document, Mapping):
        raise MetadataError(expected="an object, a reference document", found=document)
    if document.get("gen"):
        raise UnsupportedError("the document generates keys ('gen'): use the URL reference:// instead")
    is_one = "version" in document
    members = document.get("refs") if is_one else document
    if not isinstance(members, Mapping):
        raise MetadataError(pointer="/refs", expected="an object", found=members)
    templates = document.get("templates", {}) if is_one else {}
    roots: set[str] = set()
    places: dict[str, Place] = {}
    for key, value in members.items():
        if value is not None:
            places[check_key(key)] = _place(key, value, templates, roots, remote_protocol)
    if len(roots) > 1:
        raise UnsupportedError(f"files on several services ({', '.join(sorted(roots))}): use the URL reference://")
    return ReferenceView(
        open_store(roots.pop() if roots else None, storage_options=storage_options or None), _Fixed(places)
    )


def _of_tables(
    tables: ReferenceTables, storage_options: dict[str, Any] | None, remote_protocol: str | None
) -> ReferenceView:
    """The service is that of the first file that is referred to; others are refused when they are met."""
    roots: set[str] = set()
    first = tables.first()
    if first is not None:
        _place("", first, {}, roots, remote_protocol)
    store = open_store(next(iter(roots), None), storage_options=storage_options or None)
    return ReferenceView(store, _Lazy(tables, frozenset(roots), remote_protocol))


def open_reference(
    url: str, *, storage_options: dict[str, Any] | None = None, read_only: bool = False, **tuning: Any
) -> Store:
    """Open the URLs ``reference://`` and ``reference::URL``: as this view, or by fsspec's filesystem if the view
    refuses the document.

    Args:
        storage_options: those of fsspec's filesystem: ``fo``, the document, where the URL does not name it;
            ``target_options`` to reach it; ``remote_protocol`` and ``remote_options`` for the files referred to.
    """
    options = {name: value for name, value in (storage_options or {}).items() if name not in _MOOT}
    named = url.removeprefix("reference://").removeprefix("reference::")
    document = options.setdefault("fo", named)
    if not document:
        raise UnsupportedError("name the reference document: storage_options={'fo': ...}, or reference::URL")
    if options.keys() <= {"fo", "target_options", "target_protocol", "remote_options", "remote_protocol"}:
        loaded = _loaded(_located(document, options.get("target_protocol")), options.get("target_options"))
        how = options.get("remote_options"), options.get("remote_protocol")
        if isinstance(loaded, ReferenceTables):
            return _of_tables(loaded, *how)
        try:
            return _of_document(loaded, *how)
        except UnsupportedError:
            pass
    return FsspecStore(fsspec.filesystem("reference", **options), "", read_only=read_only, **tuning)


def _located(document: Any, protocol: str | None) -> Any:
    if not protocol or not isinstance(document, str) or "://" in document:
        return document
    return f"{protocol}://{document}"


class Places(Protocol):
    """Places of the values of keys."""

    def find(self, keys: Sequence[str]) -> list[Place]: ...

    def keys(self, start: str) -> Iterator[tuple[str, Place]]:
        """Keys that begin with ``start``, and their places."""
        ...

    def name(self) -> str:
        """The same for the same places, in every process."""
        ...


class _Fixed:
    """Places listed in a document."""

    def __init__(self, places: dict[str, Place]) -> None:
        self._places = places
        self._name: str | None = None

    def find(self, keys: Sequence[str]) -> list[Place]:
        return [self._places.get(key) for key in keys]

    def keys(self, start: str) -> Iterator[tuple[str, Place]]:
        return (item for item in self._places.items() if item[0].startswith(start))

    def name(self) -> str:
        if self._name is None:
            digest = hashlib.sha256()
            for key, place in sorted(self._places.items()):
                digest.update(repr((key, place)).encode())
            self._name = digest.hexdigest()[:16]
        return self._name


class _Lazy:
    """Places listed in tables; a table is read when a key in it is first asked for."""

    def __init__(self, tables: ReferenceTables, roots: frozenset[str], protocol: str | None) -> None:
        self._tables = tables
        self._roots = roots
        self._protocol = protocol

    def find(self, keys: Sequence[str]) -> list[Place]:
        return [self._placed(key, value) for key, value in zip(keys, self._tables.find(keys), strict=True)]

    def keys(self, start: str) -> Iterator[tuple[str, Place]]:
        return ((key, self._placed(key, value)) for key, value in self._tables.keys(start))

    def name(self) -> str:
        return str(self._tables.identity)

    def _placed(self, key: str, value: bytes | list[Any] | None) -> Place:
        if value is None or isinstance(value, bytes):
            return value if value is None else Document(value)
        roots: set[str] = set()
        place = _place(key, value, {}, roots, self._protocol)
        if not roots <= self._roots:
            raise UnsupportedError(f"key {key!r} is on {roots.pop()}, other keys on {next(iter(self._roots))}")
        return place


class ReferenceView(View):
    """See :func:`references`. ``store`` is the service that the files are on."""

    name = "references"

    def __init__(self, store: Store, places: Places) -> None:
        super().__init__(store)
        self._places = places

    @property
    def identity(self) -> Identity:
        """The service that the files are on, seen by this document."""
        return self.store.identity.seen_as(f"{self.name}({self._places.name()})")

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        return self._places.find(keys)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for key, place in self._places.keys(f"{prefix}/" if prefix else ""):
            if place is not None:
                yield Entry(key, len(place.data) if isinstance(place, Document) else place.length)

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        places = self._places.keys(f"{prefix}/" if prefix else "")
        for key in dict.fromkeys(place.key for _, place in places if isinstance(place, Part)):
            yield from self.store.origins(key)

    # A file that is not there is no absence of the chunk: that would be read as its fill value.

    def _forget(self, place: Part) -> None:
        raise StoreError("the file referred to does not exist", key=place.key, store=self.store)

    def _named(self, answer: Result, key: str) -> Result:
        if answer is None:
            (place,) = self._locate([key])
            assert isinstance(place, Part)
            self._forget(place)
        return super()._named(answer, key)


def _place(key: str, value: Any, templates: Mapping[str, Any], roots: set[str], protocol: str | None) -> Place:
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return Document(base64.b64decode(data[len(b"base64:") :]) if data.startswith(b"base64:") else data)
    if isinstance(value, Mapping):  # a document written as what it is
        return Document(json.dumps(value).encode())
    good = isinstance(value, (list, tuple)) and len(value) in (1, 3) and isinstance(value[0], str)
    span = [_count(n) for n in value[1:]] if good else [None]
    if None in span:
        raise MetadataError(f"key {key!r}", expected="text, [url], or [url, offset, length]", found=value)
    url = value[0]
    for name, text in templates.items():
        url = url.replace("{{" + name + "}}", text).replace("{{ " + name + " }}", text)
    if "{{" in url:
        raise UnsupportedError(f"key {key!r} uses a template with arguments: use the URL reference:// instead")
    if protocol and "://" not in url:
        url = f"{protocol}://{url}"
    scheme, mark, rest = url.partition("://")
    if not mark or scheme in ("file", "local"):
        # Paths are as they are, percent signs and all, and relative ones are so to where this process is.
        roots.add("/")
        path = os.path.abspath(rest if mark else url.removeprefix("file:"))  # noqa: PTH100 - of 100,000 chunks, maybe
    elif scheme in ("http", "https"):
        parts = urlsplit(url)
        if parts.query:
            raise UnsupportedError(f"key {key!r} is at an address with a query: use the URL reference://")
        roots.add(f"{scheme}://{parts.netloc}")
        path = unquote(parts.path)
    else:
        bucket, _, path = rest.partition("/")
        roots.add(f"{scheme}://{bucket}")
    inside = path.lstrip("/")
    return Part(inside, *span) if span else Part(inside)


def _count(value: Any) -> int | None:
    """An offset or a length, which some writers have as a float or numpy's integer; None where it is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        return None
    return int(value)
