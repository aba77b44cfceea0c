"""References in Parquet tables: for each array files of so many rows, one a chunk, in C order of the grid.

Source: kerchunk's reference specification, Parquet storage.
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.open import open_store

__all__ = ["ReferenceTables"]

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
        self._kept: OrderedDict[str, _Table | None] = OrderedDict()
        self._lock = threading.Lock()

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
        try:
            index = json.loads(bytes(found.data))
        except ValueError as error:
            raise MetadataError(f"{INDEX} in {store} is not JSON: {error}") from error
        if not isinstance(index, dict) or not isinstance(index.get("metadata"), dict):
            raise MetadataError(INDEX, pointer="/metadata", expected="an object", found=index)
        if type(index.get("record_size")) is not int or index["record_size"] < 1:
            expected = "the number of rows of a table"
            raise MetadataError(INDEX, pointer="/record_size", expected=expected, found=index.get("record_size"))
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
        """Those that begin with ``start``, and their values."""
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
        """None for those that are not there: no chunk of theirs is stored."""
        with self._lock:
            missing = [name for name in names if name not in self._kept]
            for name, answer in zip(
                missing, self._store.read([Read(n) for n in missing]) if missing else [], strict=True
            ):
                self._kept[name] = _parsed(name, bytes(answer.data)) if isinstance(answer, Blob) else None
            found = [self._kept[name] for name in names]
            for name in names:
                self._kept.move_to_end(name)
            while len(self._kept) > KEPT_TABLES:
                self._kept.popitem(last=False)
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
