"""What resizing means for chunks."""

from __future__ import annotations

from itertools import product

import numpy as np

from zarrdock.array import execute
from zarrdock.array.index_cache import IndexCache
from zarrdock.array.layout import Layout
from zarrdock.array.selection import Axis, Product
from zarrdock.stores.base import Store

__all__ = ["drop_outside"]


def drop_outside(store: Store, layout: Layout, before: tuple[int, ...], cache: IndexCache, *, unsafe: bool) -> None:
    """After an array shrank from ``before`` to ``layout.shape``: delete the chunks outside, clear what was cut off of
    those at the edge.

    Without the second part, an array that grows again would show what was cut off. The keys are taken from a listing
    where the store has one, since
    most chunks of a sparse array do not exist.
    """
    if all(new >= old for new, old in zip(layout.shape, before, strict=True)):
        return
    keep = layout.grid_shape()
    old_grid = tuple(-(-n // c) if c else 0 for n, c in zip(before, layout.chunk_shape, strict=True))
    for coords in _stored(store, layout, old_grid):
        if any(c >= n for c, n in zip(coords, keep, strict=True)):
            key = layout.key(coords)
            store.delete(key)
            cache.drop(key)
        elif any(
            new < old and (c + 1) * chunk > new
            for c, chunk, new, old in zip(coords, layout.chunk_shape, layout.shape, before, strict=True)
        ):
            _clear_margin(store, layout, coords, cache, unsafe=unsafe)


def _stored(store: Store, layout: Layout, grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not store.traits.listable:
        return list(product(*(range(n) for n in grid)))
    prefix = layout.prefix.rstrip("/")
    start = len(layout.prefix)
    found = (layout.key_encoding.parse(entry.key[start:], len(layout.shape)) for entry in store.list(prefix))
    return [coords for coords in found if coords is not None]


def _clear_margin(store: Store, layout: Layout, coords: tuple[int, ...], cache: IndexCache, *, unsafe: bool) -> None:
    """Set what lies outside the array in one of its edge chunks to the fill value: the chunk seen as an array of its
    own.
    """
    key = layout.key(coords)
    if store.size(key) is None:
        return
    beyond = [
        min(chunk, max(0, n - c * chunk)) for c, chunk, n in zip(coords, layout.chunk_shape, layout.shape, strict=True)
    ]
    whole = Layout(
        tuple((c + 1) * chunk for c, chunk in zip(coords, layout.chunk_shape, strict=True)),
        *(
            layout.chunk_shape,
            layout.dtype,
            layout.fill_value,
            layout.key_encoding,
            layout.prefix,
            layout.chain,
            layout.levels,
            layout.leaf_shape,
            layout.leaf,
        ),
        layout.fill_is_zero,
    )
    for axis, inside in enumerate(beyond):
        chunk = layout.chunk_shape[axis]
        if inside == chunk:
            continue
        axes = [Axis(c * n, 1, n) for c, n in zip(coords, layout.chunk_shape, strict=True)]
        axes[axis] = Axis(coords[axis] * chunk + inside, 1, chunk - inside)
        shape = tuple(a.n for a in axes)
        fill = np.broadcast_to(np.asarray(layout.fill_value, layout.dtype), shape)
        execute.write(store, whole, Product(tuple(axes), shape, shape), fill, cache, unsafe=unsafe)
