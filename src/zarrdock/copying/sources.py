"""Sources of copies: anything that reads a box of elements into a given array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.metadata.v3 import ArrayMetadata, Node
from zarrdock.array.node_storage import ZarrFormat, load
from zarrdock.array.planning.overlap import MAX_TABLE, Division
from zarrdock.array.removal import DOCUMENTS
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.codec import AnyArray
from zarrdock.copying.blocks import IntArray, Region
from zarrdock.copying.progress import Mark
from zarrdock.copying.recognise import find_file
from zarrdock.errors import NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.stores.base import Entry, Read, Results, Store, WrapperStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.wrappers import settled

__all__ = ["Derived", "InMemory", "Source", "Stored", "ZarrSource", "load_root", "stored_chunks"]

_BATCH = 16384


def load_root(store: Store, path: str, zarr_format: ZarrFormat | None = None) -> Node:
    """The metadata at ``path``, leniently parsed.

    Raises:
        NodeNotFoundError: there is none; where something is there instead, it says what.
    """
    try:
        return load(store, path, None, zarr_format, lenient=True)
    except NodeNotFoundError as error:
        mark = Mark.read(store, path)
        if mark is not None:
            raise NodeNotFoundError(
                f"there is only an unfinished copy of {mark.source!r} at {path or '/'!r} in {store}: "
                "run the copy again to complete it"
            ) from None
        if isinstance(store, LocalStore) and not Path(store.root).is_dir():
            raise NodeNotFoundError(f"{store.root} {_other_than_folder(Path(store.root))}") from None
        raise error


def _other_than_folder(path: Path) -> str:
    """Words about a path that is no folder."""
    if not path.exists():
        return "does not exist"
    with suppress(OSError), path.open("rb") as file:
        head = file.read(2**16)
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return f"is a zip archive, though not called so: say {path}|zip:"
        if head.lstrip()[:1] == b"{" and (b'"refs"' in head or b'.zgroup"' in head):
            return f"looks like references of kerchunk: say reference::{path}"
    with suppress(StoreError, UnsupportedError):
        if find_file(path) is not None:
            return f"is no Zarr, but a file of which zarrdock copy makes it: zarrdock copy {path} NAME.zarr"
    return "is a file, not a folder, and of no kind that can be read as Zarr (HDF5, netCDF, .npy, .npz, TIFF, zip)"


class Source(Protocol):
    """An array to copy from.

    Attributes:
        shape, dtype: of the array.
        grain: shape of the smallest part that is read as a whole, for the choice of blocks.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def grain(self) -> tuple[int, ...]: ...

    def read(self, region: Region, out: AnyArray) -> None:
        """Read a region into ``out``, which has its shape and a dtype that numpy casts to."""


@runtime_checkable
class Derived(Source, Protocol):
    """An array that is computed from another one as it is read, which takes as much memory again."""

    def stored(self) -> tuple[Iterator[IntArray], Division] | None:
        """Coordinates of the parts that are not fill value throughout, in arrays of shape (n, ndim), and the parts as
        this array is divided into them; None where that is not known.
        """


class InMemory:
    """A numpy array."""

    def __init__(self, array: AnyArray) -> None:
        self.array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.grain: tuple[int, ...] = (1,) * array.ndim

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`Source`."""
        out[...] = self.array[region]


class ZarrSource:
    """A Zarr array."""

    def __init__(self, store: Store, path: str, metadata: ArrayMetadata) -> None:
        self._listed = _Listed(store, path, metadata.key_encoding, metadata.grid.n_chunks(metadata.shape))
        self.array = array = Array(self._listed, path, metadata, read_only=True)
        self.shape = array.shape
        self.dtype = array.dtype
        self.grain = array._layout.leaf_shape  # the longest, where they differ

    def knowing(self, stored: Stored) -> Iterator[IntArray]:
        """The coordinates of all objects that are stored. Once they were all gone through, others are not asked for."""
        return self._listed.remember(stored.coords())

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`Source`."""
        self.array.read(region, out=out)


class _Listed(WrapperStore):
    """Does not ask for objects that a listing did not have: on a remote store each would cost a request."""

    def __init__(self, store: Store, path: str, encoding: KeyEncoding, grid: tuple[int, ...]) -> None:
        super().__init__(store)
        self._skip = len(path) + 1 if path else 0
        self._encoding = encoding
        self._grid = grid
        self._table: npt.NDArray[np.bool_] | None = None

    def remember(self, chunks: Iterator[IntArray]) -> Iterator[IntArray]:
        table = np.zeros(self._grid, bool) if prod(self._grid) <= MAX_TABLE else None
        for coords in chunks:
            if table is not None:
                table[tuple(coords.T)] = True
            yield coords
        self._table = table

    def _may_exist(self, key: str) -> bool:
        coords = self._encoding.parse(key[self._skip :], len(self._grid))
        return coords is None or self._table is None or bool(self._table[coords])

    def read(self, requests: Sequence[Read], /) -> Results:
        there = self._there(requests)
        return _spread(len(requests), there, self.store.read([requests[i] for i in there]) if there else [])

    def submit_read(self, parts: Sequence[Sequence[Read]], /) -> Sequence[Future[Results]] | None:
        there = [self._there(part) for part in parts]
        futures = self.store.submit_read([[part[i] for i in some] for part, some in zip(parts, there, strict=True)])
        if futures is None:
            return None
        each = zip(parts, there, futures, strict=True)
        return [settled(future, partial(_spread, len(part), some)) for part, some, future in each]

    def _there(self, requests: Sequence[Read]) -> list[int]:
        return [i for i, request in enumerate(requests) if self._may_exist(request.key)]


def _spread(n: int, there: Sequence[int], results: Results) -> Results:
    """Answers in their places among ``n``, of which the others are missing."""
    spread: Results = [None] * n
    for i, result in zip(there, results, strict=True):
        spread[i] = result
    return spread


class Stored:
    """Existing objects of an array, from a listing: coordinates and sizes, in batches.

    Attributes:
        others: keys relative to the array, and sizes, of what was met so far that is neither chunk nor document.
    """

    def __init__(self, store: Store, path: str, encoding: KeyEncoding, grid: tuple[int, ...]) -> None:
        self.others: list[tuple[str, int | None]] = []
        self.error: StoreError | None = None  # of a link that leads nowhere
        self._ndim = len(grid)
        self._skip = len(path) + 1 if path else 0
        self._found = stored_objects(store, path, encoding, grid, aside=self._aside)

    def begin(self) -> bool:
        """True where the store lists: it is often denied where reading is not."""
        try:
            first = [*islice(self._found, 1)]
        except (StoreError, UnsupportedError):
            if self.error is not None:
                raise
            return False
        self._found = chain(first, self._found)
        return True

    def _aside(self, entry: Entry, error: StoreError | None) -> None:
        if error is not None:
            self.error = error
            raise error
        if entry.key.rpartition("/")[2] not in DOCUMENTS:
            self.others.append((entry.key[self._skip :], entry.size))

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int | None]]:
        """Coordinates, and bytes where the listing tells."""
        return ((coords, entry.size) for coords, entry in self._found)

    def coords(self) -> Iterator[IntArray]:
        """Coordinates alone, as arrays of shape (n, ndim)."""
        found = (coords for coords, _ in self)
        while batch := list(islice(found, _BATCH)):
            yield np.asarray(batch, np.int64).reshape(len(batch), self._ndim)


def stored_chunks(store: Store, path: str, encoding: KeyEncoding, grid: tuple[int, ...]) -> Stored | None:
    """The objects of the array at ``path`` that exist; None where the store does not list."""
    found = Stored(store, path, encoding, grid)
    return found if found.begin() else None
