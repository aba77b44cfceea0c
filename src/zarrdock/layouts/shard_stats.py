"""Statistics of a stored array: the length of every encoded chunk, and the use of the bytes of its objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.shard_index import ShardUsage
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.indexes import ObjectIndexes, layout_of, listed_objects, read_indexes
from zarrdock.stores.base import Store

__all__ = ["Survey", "resampled", "survey"]

IntArray: TypeAlias = npt.NDArray[np.int64]

# More objects than this are not all looked at.
MAX_OBJECTS = 4096
# Chunks whose lengths are kept, in one array.
MAX_CHUNKS = 2**27


@dataclass(frozen=True)
class Survey:
    """An array, seen by its indexes.

    Attributes:
        objects: those looked at, by key. n_objects: how many there are.
        lengths: bytes of every smallest chunk, shape that of the grid of all of them; -1 where there is none. Of
            objects that were not looked at, the mean of the others.
        usage: of the bytes of the objects looked at.
    """

    store: Store
    path: str
    metadata: ArrayMetadata
    layout: Layout
    objects: dict[str, ObjectIndexes]
    n_objects: int
    lengths: IntArray
    usage: ShardUsage

    @property
    def is_complete(self) -> bool:
        """True where every object was looked at."""
        return len(self.objects) >= self.n_objects


def survey(store: Store, path: str, metadata: ArrayMetadata, *, max_objects: int = MAX_OBJECTS) -> Survey:
    """Look at an array's objects: their sizes and shard indexes, one round of requests a level of shards.

    Raises:
        UnsupportedError: the store can't be listed, or the array has too many chunks. ShardIndexError: damage.

    >>> array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(2, 2), shards=(4, 4))
    >>> found = zarrdock.tools.survey(array.store, "", array.metadata)
    >>> found.n_objects, found.usage.garbage
    (4, 0)
    """
    layout = layout_of(metadata, path)
    listed = listed_objects(store, path, metadata)
    step = -(-len(listed) // max_objects) if listed else 1
    lengths = np.full(_grid(layout), -1, np.int64)
    found = {one.key: one for one in read_indexes(store, layout, listed[::step])}
    usage = ShardUsage()
    for one in found.values():
        usage += one.usage(layout)
        for corner, block in _blocks(layout, one):
            region = tuple(slice(a, a + n) for a, n in zip(corner, block.shape, strict=True))
            if not region:  # what numpy gives for a scalar is no view
                lengths[()] = block
                continue
            inside = lengths[region]
            inside[...] = block[tuple(slice(0, n) for n in inside.shape)]
    if step > 1:
        known = lengths[lengths >= 0]
        mean = int(known.mean()) if known.size else 1
        for coords, _ in listed:
            if layout.key(coords) not in found:
                own, first = layout.at(coords), layout.first_leaf(coords)
                ratio = (c // n for c, n in zip(own.chunk_shape, own.leaf_shape, strict=True))
                lengths[tuple(slice(a, a + n) for a, n in zip(first, ratio, strict=True))] = mean
    return Survey(store, path, metadata, layout, found, len(listed), lengths, usage)


def _grid(layout: Layout) -> tuple[int, ...]:
    grid = layout.grid_shape()
    if layout.levels:  # the chunks in shards are all alike, even where the shards are not
        grid = tuple(-(-n // leaf) for n, leaf in zip(layout.shape, layout.leaf_shape, strict=True))
    if prod(grid) > MAX_CHUNKS:
        raise UnsupportedError(f"an array of {prod(grid):,} chunks: at most {MAX_CHUNKS:,} can be surveyed")
    return grid


def _blocks(layout: Layout, one: ObjectIndexes) -> Iterator[tuple[tuple[int, ...], IntArray]]:
    """Blocks of lengths, and where each begins in the grid of all chunks."""
    if not one.shards:
        yield one.coords, np.full((1,) * len(one.coords), one.nbytes, np.int64)
        return
    levels = layout.at(one.coords).levels
    for shard in one.shards:
        if shard.depth + 1 == len(levels):
            index = shard.index
            yield shard.at, np.where(index.offsets < 0, -1, index.lengths).reshape(levels[-1].sharding.grid)


def resampled(
    lengths: IntArray,
    shape: Sequence[int],
    old: Sequence[int | IntArray],
    new: Sequence[int],
    *,
    exact: int | None = None,
) -> IntArray:
    """Lengths that chunks of another shape would have, about: bytes are spread evenly over the elements of each chunk.

    That a compressor does better on longer chunks, or worse, is not known here.

    Args:
        lengths: of the chunks there are, -1 where there is none. shape: of the array.
        old, new: shapes of the two kinds of chunk; of the old ones, along axes where they differ in length, where each
            begins and the last one ends.
        exact: length of every new chunk, where they don't depend on the values.
    """
    found = np.maximum(lengths, 0).astype(np.float64)
    for axis, (n, a, b) in enumerate(zip(shape, old, new, strict=True)):
        # Chunks end with the array: what lies beyond packs to almost nothing, or is of the same length anyway.
        borders = np.arange(found.shape[axis] + 1) * a if isinstance(a, int) else a[: found.shape[axis] + 1]
        before = np.minimum(borders, n)
        after = np.minimum(np.arange(-(-n // b) + 1) * b, n)
        sums = np.concatenate([np.zeros_like(found.take([0], axis)), np.cumsum(found, axis)], axis)
        place = np.searchsorted(before, after, side="right") - 1
        place = np.clip(place, 0, len(before) - 2)
        share = (after - before[place]) / np.maximum(before[place + 1] - before[place], 1)
        share = share.reshape([-1 if i == axis else 1 for i in range(found.ndim)])
        low, high = sums.take(place, axis), sums.take(place + 1, axis)
        found = np.diff(low + (high - low) * share, axis=axis)
    result: IntArray = np.where(found > 0, np.maximum(np.rint(found), 1), -1).astype(np.int64)
    return result if exact is None else np.where(result > 0, exact, -1)
