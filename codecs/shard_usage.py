"""What the bytes of a shard are used for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zarrdock.codecs.shard_index import IndexLayout, ShardIndex
from zarrdock.codecs.shard_places import aligned

__all__ = ["ShardUsage", "alignment_of", "usage_of"]


@dataclass(frozen=True, slots=True)
class ShardUsage:
    """Bytes of a shard, or of many.

    Attributes:
        chunks: bytes that inner chunks use; those that chunks share count once.
        index: of the index, or indexes.
        padding: gaps that are there because chunks begin at multiples of something.
        garbage: gaps that nothing explains: what older versions of chunks left behind.
        room: what is free in shards where every chunk has a place of its own; mostly holes, in a file.
    """

    chunks: int = 0
    index: int = 0
    padding: int = 0
    garbage: int = 0
    room: int = 0

    @property
    def total(self) -> int:
        """Size of it all."""
        return self.chunks + self.index + self.padding + self.garbage + self.room

    def __add__(self, other: ShardUsage) -> ShardUsage:
        return ShardUsage(
            self.chunks + other.chunks,
            self.index + other.index,
            self.padding + other.padding,
            self.garbage + other.garbage,
            self.room + other.room,
        )


def alignment_of(index: ShardIndex) -> int:
    """The largest power of two, at most 2^20, that all chunks begin at a multiple of."""
    there = index.offsets[index.offsets >= 0]
    bits = int(np.bitwise_or.reduce(there, initial=1 << 20))
    return bits & -bits


def usage_of(layout: IndexLayout, index: ShardIndex, shard_nbytes: int) -> ShardUsage:
    """Account for the bytes of one shard.

    Where all chunks lie at the places they would have if each had one of its own, what they leave free is room. Chunks
    that are aligned can't be told from chunks that lie so by chance; where they lie so, a gap shorter than the
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
    chunks = shard_nbytes - layout.nbytes - padding - garbage
    if garbage + padding and _has_slots(layout, index, shard_nbytes):
        return ShardUsage(chunks, layout.nbytes, room=garbage + padding)
    return ShardUsage(chunks, layout.nbytes, padding, garbage)


def _has_slots(layout: IndexLayout, index: ShardIndex, shard_nbytes: int) -> bool:
    """Whether chunks lie at multiples of a length that any of them could have, and the shard is as long as all of
    them at that length, whatever alignment was asked for.
    """
    if layout.slot_nbytes is None:
        return False
    there = index.offsets[index.offsets >= 0]
    n = layout.n_chunks
    bases = {layout.nbytes, *(aligned(layout.nbytes, 1 << bit) for bit in range(21))}
    for first in sorted(bases) if layout.location == "start" else (0,):
        last = shard_nbytes if layout.location == "start" else shard_nbytes - layout.nbytes
        slot, rest = divmod(last - first, n)
        if (
            not rest
            and layout.slot_nbytes <= slot < 2 * layout.slot_nbytes + alignment_of(index)
            and (index.lengths <= slot).all()
            and not ((there - first) % slot).any()
            and len(np.unique(there)) == len(there)
        ):
            return True
    return False
