"""What can be copied from: anything that reads a box of elements into an array it is given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.keys import KeyEncoding
from zarrdock.array.metadata import Node
from zarrdock.array.node_io import load
from zarrdock.codecs.base import AnyArray
from zarrdock.copying.blocks import IntArray, Region
from zarrdock.copying.state import Mark
from zarrdock.errors import NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.stores.base import Entry, Store
from zarrdock.stores.local import LocalStore

__all__ = ["InMemory", "Source", "Stored", "ZarrSource", "load_root", "stored_chunks"]

_BATCH = 16384


def load_root(store: Store, path: str) -> Node:
    """The metadata at ``path``, leniently parsed.

    Raises:
        NodeNotFoundError: there is none; where something is there instead, it says what.
    """
    try:
        return load(store, path, None, None, lenient=True)
    except NodeNotFoundError as error:
        mark = Mark.read(store, path)
        if mark is not None:
            raise NodeNotFoundError(
                f"there is only an unfinished copy of {mark.source!r} at {path or '/'!r} in {store}: "
                "run the copy again to complete it"
            ) from None
        if isinstance(store, LocalStore) and not Path(store.root).is_dir():
            what = "is a file, not a folder" if Path(store.root).exists() else "does not exist"
            raise NodeNotFoundError(f"{store.root} {what}") from None
        raise error


class Source(Protocol):
    """An array to copy from.

    Attributes:
        shape, dtype: of the array.
        grain: shape of what is read as a whole, for the choice of blocks.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def grain(self) -> tuple[int, ...]: ...

    def read(self, region: Region, out: AnyArray) -> None:
        """Read a region into ``out``, which has its shape and a dtype that numpy casts to."""


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

    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.grain = array.chunks

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`Source`."""
        self.array.read(region, out=out)


class Stored:
    """Which objects of an array exist, from a listing: coordinates and sizes, in batches."""

    def __init__(self, entries: Iterator[Entry], prefix: str, encoding: KeyEncoding, grid: tuple[int, ...]) -> None:
        self._entries = entries
        self._prefix = prefix
        self._encoding = encoding
        self._grid = grid

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int | None]]:
        """Coordinates, and bytes where the listing tells."""
        skip = len(self._prefix)
        for entry in self._entries:
            coords = self._encoding.parse(entry.key[skip:], len(self._grid))
            # What lies outside is a leftover of a larger array: nobody reads it.
            if coords is not None and all(c < n for c, n in zip(coords, self._grid, strict=True)):
                yield coords, entry.size

    def coords(self) -> Iterator[IntArray]:
        """Coordinates alone, as arrays of shape (n, ndim)."""
        found = (coords for coords, _ in self)
        while batch := list(islice(found, _BATCH)):
            yield np.asarray(batch, np.int64).reshape(len(batch), len(self._grid))


def stored_chunks(store: Store, path: str, encoding: KeyEncoding, grid: tuple[int, ...]) -> Stored | None:
    """The objects of the array at ``path`` that exist; None where the store does not list."""
    if not store.traits.listable:
        return None
    try:
        entries = store.list(path)
        first = next(entries, None)
    except (StoreError, UnsupportedError):  # listing is often denied where reading is not
        return None

    def all_entries() -> Iterator[Entry]:
        if first is not None:
            yield first
        yield from entries

    return Stored(all_entries(), f"{path}/" if path else "", encoding, grid)
