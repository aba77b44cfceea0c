"""Shards of uncompressed chunks, written as they are gathered: what is gathered beforehand has left the processor's
cache by the time it is written, and costs fresh memory.
"""

from __future__ import annotations

from math import prod

import numpy as np

from zarrdock.array.execution.rows import copy_rows
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.pieces import Index, Task
from zarrdock.codecs.base import AnyArray, Buffer
from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.empty import EmptyTest
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.stores.base import LazyParts

__all__ = ["PlainShard", "can_be_plain", "plain_shard"]


class PlainShard(LazyParts):
    """A shard in parts, of which those that are chunks are gathered when asked for.

    Args:
        parts: in the order of the file; a chunk is its place in ``value``.
        shape, stored: of a chunk.
    """

    def __init__(
        self, value: AnyArray, parts: list[Buffer | Index], shape: tuple[int, ...], stored: np.dtype[np.generic]
    ) -> None:
        self._value = value
        self._parts = parts
        self._shape = shape
        self._stored = stored

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def nbytes(self) -> int:
        """Of all parts together."""
        chunk = prod(self._shape) * self._stored.itemsize
        return sum(chunk if isinstance(part, tuple) else len(part) for part in self._parts)

    def part(self, i: int) -> Buffer:
        """Part ``i``, made anew."""
        part = self._parts[i]
        if not isinstance(part, tuple):
            return part
        chunk = np.empty(self._shape, self._stored)
        copy_rows(chunk, self._value[part])
        return chunk.reshape(-1).view(np.uint8).data


def can_be_plain(layout: Layout) -> bool:
    """Whether shards of that layout, where they are written whole, are gathered chunks and an index."""
    return len(layout.levels) == 1 and bool(layout.shape) and layout.leaf.is_plain


def plain_shard(layout: Layout, task: Task, value: AnyArray, is_empty: EmptyTest | None) -> PlainShard | None:
    """The shard of a task that covers all of it; None where it holds nothing but fill value.

    Args:
        layout: of the object, with :func:`can_be_plain`.
        value: of the whole selection. is_empty: of a chunk; None to store all.
    """
    sharding, leaf = layout.levels[0].sharding, layout.leaf
    assert isinstance(leaf.serializer, BoundBytes)
    leaves = task.pieces.leaves(sharding.grid)
    n = sharding.layout.n_chunks
    offsets, lengths = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    places: dict[int, Index] = {}
    for flat, (_, outer) in zip(leaves.flat.tolist(), leaves.indices(np.arange(len(leaves.flat))), strict=True):
        if is_empty is None or not is_empty(value[outer]):
            places[flat] = outer
    if not places:
        return None
    present = np.fromiter(places, np.int64, len(places))
    offsets[present], lengths[present] = 0, leaf.spec.nbytes
    index, _ = sharding.arrange(ShardIndex(offsets, lengths))
    encoded = sharding.layout.serialise(index)
    at_start = sharding.layout.location == "start"
    chunks = [places[flat] for flat in present[np.argsort(index.offsets[present])].tolist()]
    parts: list[Buffer | Index] = [encoded, *chunks] if at_start else [*chunks, encoded]
    return PlainShard(value, parts, leaf.spec.shape, leaf.serializer.stored)
