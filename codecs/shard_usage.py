"""What the bytes of a shard are used for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zarrdock.codecs.shard_index import IndexLayout, ShardIndex

__all__ = ["ShardUsage", "alignment_of", "usage_of"]


@dataclass(frozen=True, slots=True)
class ShardUsage:
    """Bytes of a shard, or of many.

    Attributes:
        chunks: bytes that inner chunks use; those that chunks share count once.
        index: of the index, or indexes.
        padding: gaps that are there because chunks begin at multiples of something.
        garbage: gaps that nothing explains: what older versions of chunks left behind.
    """

    chunks: int = 0
    index: int = 0
    padding: int = 0
    garbage: int = 0

    @property
    def total(self) -> int:
        """Size of it all."""
        return self.chunks + self.index + self.padding + self.garbage

    def __add__(self, other: ShardUsage) -> ShardUsage:
        return ShardUsage(
            self.chunks + other.chunks,
            self.index + other.index,
            self.padding + other.padding,
            self.garbage + other.garbage,
        )


def alignment_of(index: ShardIndex) -> int:
    """The largest power of two, at most 2^20, that all chunks begin at a multiple of."""
    there = index.offsets[index.offsets >= 0]
    bits = int(np.bitwise_or.reduce(there, initial=1 << 20))
    return bits & -bits


def usage_of(layout: IndexLayout, index: ShardIndex, shard_nbytes: int) -> ShardUsage:
    """Account for the bytes of one shard.

    Chunks that are aligned can't be told from chunks that lie so by chance; where they lie so, a gap shorter than the
    alignment and before another chunk is taken for padding.

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
    gaps = np.maximum(starts - reached[:-1], 0)
    behind = max(last - int(reached[-1]), 0)
    is_padding = gaps < alignment_of(index)
    padding = int(gaps[is_padding].sum())
    garbage = int(gaps[~is_padding].sum()) + behind
    return ShardUsage(shard_nbytes - layout.nbytes - padding - garbage, layout.nbytes, padding, garbage)
