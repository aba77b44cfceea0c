"""The one listing of an array's objects: which of those that its metadata allow are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TypeAlias

from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.node_storage import join
from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores.base import Entry, Store

__all__ = ["Aside", "stored_objects"]

Coords: TypeAlias = tuple[int, ...]
#: Told of an entry that is no object of the array, and of the error of one that cannot be followed.
Aside: TypeAlias = Callable[[Entry, StoreError | None], None]


def stored_objects(
    store: Store,
    path: str,
    encoding: KeyEncoding,
    grid: tuple[int, ...],
    *,
    beyond: bool = False,
    guess: bool = False,
    aside: Aside | None = None,
) -> Iterator[tuple[Coords, Entry]]:
    """Coordinates in the grid of objects, key and size of every object of an array, in no promised order.

    Args:
        path: of the array. encoding: of its keys. grid: objects along each axis.
        beyond: list objects outside the grid too, which a larger array left: no read finds them.
        guess: where the store does not list, give every object that may be there, without a size.
        aside: see :data:`Aside`; without it other entries are skipped and errors raised.
    Raises:
        UnsupportedError: the store does not list. StoreError: a link in the place of a folder leads nowhere.
    """
    ndim = len(grid)
    if not store.traits.listable:
        if not guess:
            raise UnsupportedError(f"{store} cannot be listed: the objects of the array cannot be found")
        for coords in product(*map(range, grid)):
            yield coords, Entry(join(path, encoding.key(coords)))
        return
    skip = len(path) + 1 if path else 0
    for entry in store.list(path):
        name = entry.key[skip:]
        found = encoding.parse(name, ndim)
        if found is not None:
            if beyond or all(c < n for c, n in zip(found, grid, strict=True)):
                yield found, entry
            continue
        error: StoreError | None = None
        if entry.size is None and encoding.is_above(name, ndim):
            try:
                store.size(entry.key)
            except StoreError as broken:
                if aside is None:
                    raise
                error = broken
        if aside is not None:
            aside(entry, error)
