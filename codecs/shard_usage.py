"""Uses of the bytes of a shard: chunks, indexes, garbage. Pure functions, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zarrdock.codecs.shard_index import IndexLayout, ShardIndex

__all__ = ["ShardUsage", "usage_of"]


@dataclass(frozen=True, slots=True)
class ShardUsage:
    """Bytes of a shard, or of many.

    Attributes:
        chunks: bytes that inner chunks use; those that chunks share count once.
        index: of the index, or indexes.
        garbage: gaps between chunks: what their older versions left behind, or another writer's padding.
    """

    chunks: int = 0
    index: int = 0
    garbage: int = 0

    @property
    def total(self) -> int:
        """Size of it all."""
        return self.chunks + self.index + self.garbage

    def __add__(self, other: ShardUsage) -> ShardUsage:
        return ShardUsage(self.chunks + other.chunks, self.index + other.index, self.garbage + other.garbage)


def usage_of(layout: IndexLayout, index: ShardIndex, shard_nbytes: int) -> ShardUsage:
    """Account for the bytes of one shard.

    Args:
        shard_nbytes: size of the shard; every chunk lies within it.
    """
    there = np.flatnonzero(index.offsets >= 0)
    order = there[np.argsort(index.offsets[there], kind="stable")]
    starts, stops = index.offsets[order], index.offsets[order] + index.lengths[order]
    at_start = layout.location == "start"
    first = layout.nbytes if at_start else 0
    last = shard_nbytes if at_start else shard_nbytes - layout.nbytes
    reached = np.maximum.accumulate(np.concatenate(([first], stops)))
    garbage = int(np.maximum(starts - reached[:-1], 0).sum()) + max(last - int(reached[-1]), 0)
    return ShardUsage(shard_nbytes - layout.nbytes - garbage, layout.nbytes, garbage)
