"""Effects of a resize on chunks."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import SupportsIndex

import numpy as np

from zarrdock.array.execution import read_write
from zarrdock.array.planning.chunk_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.selection import Axis, Product
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.empty_chunks import EmptyTest
from zarrdock.errors import SelectionError
from zarrdock.stores.base import Store

__all__ = ["clear_outside", "clear_rows", "new_shape_of", "shrinks", "with_length"]


def new_shape_of(given: int | Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to give an array that has ``shape`` now.

    Raises:
        SelectionError: the wrong number of dimensions, or something that is no length.
    """
    try:
        items = [operator.index(given)] if isinstance(given, SupportsIndex) else [operator.index(n) for n in given]
    except TypeError:
        items = [-1]
    if len(items) != len(shape) or any(n < 0 for n in items):
        raise SelectionError(
            f"cannot resize an array of shape {shape} to {given}: give {len(shape)} lengths, 0 or more"
        )
    return tuple(items)


def with_length(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    """A shape with another length along one axis."""
    return (*shape[:axis], n, *shape[axis + 1 :])


def shrinks(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """True where anything of an array of shape ``before`` lies outside of one of shape ``after``."""
    return any(new < old for new, old in zip(after, before, strict=True))


def clear_outside(store: Store, layout: Layout, before: tuple[int, ...], cache: IndexCache) -> None:
    """Before an array shrinks from ``before`` to ``layout.shape``: delete the chunks that will lie outside, clear what
    will be cut off of those at the edge.

    Without the second part, an array that grows again would show what was cut off. The keys are taken from a listing
    where the store has one, since most chunks of a sparse array do not exist.
    """
    keep = layout.grid_shape()
    path, encoding = layout.prefix.rstrip("/"), layout.key_encoding
    # All of them first: the listing ends before anything is changed.
    for coords, _ in [*stored_objects(store, path, encoding, layout.grid_of(before), beyond=True, guess=True)]:
        if any(c >= n for c, n in zip(coords, keep, strict=True)):
            key = layout.key(coords)
            store.delete(key)
            cache.drop(key)
        elif any(
            new < old and start + chunk > new
            for start, chunk, new, old in zip(
                layout.starts(coords), layout.lengths(coords), layout.shape, before, strict=True
            )
        ):
            _clear_margin(store, layout, coords, cache)


def clear_rows(store: Store, layout: Layout, axis: int, start: int, cache: IndexCache) -> None:
    """Make everything from ``start`` on along ``axis`` fill value. What is that already is not written, so that it
    works where nothing can be written any more, if nothing was.
    """
    n = layout.shape[axis]
    is_fill = EmptyTest(layout.leaf.spec)
    while start < n:
        stop = min(n, layout.end_of(axis, start))
        axes = [Axis(0, 1, length) for length in layout.shape]
        axes[axis] = Axis(start, 1, stop - start)
        shape = tuple(a.n for a in axes)
        rows = Product(tuple(axes), shape, shape)
        if not is_fill(read_write.read(store, layout, rows, cache)):
            fill = np.broadcast_to(np.asarray(layout.fill_value, layout.dtype), shape)
            read_write.write(store, layout, rows, fill, cache)
        start = stop


def _clear_margin(store: Store, layout: Layout, coords: tuple[int, ...], cache: IndexCache) -> None:
    """Set what lies outside the array in one of its edge chunks to the fill value: the chunk seen as an array of its
    own.
    """
    key = layout.key(coords)
    if store.size(key) is None:
        return
    starts, lengths = layout.starts(coords), layout.lengths(coords)
    whole = replace(layout, shape=tuple(start + n for start, n in zip(starts, lengths, strict=True)))
    for axis, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        inside = min(n, max(0, layout.shape[axis] - start))
        if inside == n:
            continue
        axes = [Axis(a, 1, m) for a, m in zip(starts, lengths, strict=True)]
        axes[axis] = Axis(start + inside, 1, n - inside)
        shape = tuple(a.n for a in axes)
        fill = np.broadcast_to(np.asarray(layout.fill_value, layout.dtype), shape)
        read_write.write(store, whole, Product(tuple(axes), shape, shape), fill, cache)
