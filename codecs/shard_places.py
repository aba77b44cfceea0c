"""Where the chunks of a shard are put: one behind the other, or each in a place of its own. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zarrdock.codecs.shard_index import IndexLayout, IntArray, ShardIndex

__all__ = ["Places", "Slots", "aligned", "packed"]

Int = TypeVar("Int", int, IntArray)


def aligned(n_bytes: Int, align: int) -> Int:
    """The next multiple of ``align``."""
    return -(-n_bytes // align) * align


def _base(layout: IndexLayout, align: int) -> int:
    return aligned(layout.nbytes, align) if layout.location == "start" else 0


@dataclass(frozen=True, slots=True)
class Places:
    """Places of some chunks of a shard.

    Attributes:
        offsets: shape (n_chunks,), int64: first byte, counted from the start of the shard; -1 where there is no chunk.
        room: of each chunk of the sequence: bytes from its first one to that of the next, or to ``stop``.
        first, stop: where chunks and gaps begin, behind an index at the start, and where they end.
    """

    offsets: IntArray
    room: IntArray
    first: int
    stop: int


def packed(layout: IndexLayout, lengths: IntArray, sequence: IntArray, align: int) -> Places:
    """Chunks one behind the other, as near as the alignment allows.

    Args:
        lengths: of all chunks, in bytes. sequence: numbers of those present, in the order they are to lie.
    """
    first = layout.nbytes if layout.location == "start" else 0
    offsets = np.full(layout.n_chunks, -1, np.int64)
    if not len(sequence):
        return Places(offsets, np.zeros(0, np.int64), first, first)
    room = aligned(lengths[sequence], align)
    room[-1] = lengths[sequence[-1]]
    offsets[sequence] = _base(layout, align) + np.cumsum(room) - room
    return Places(offsets, room, first, int(offsets[sequence[-1]] + room[-1]))


@dataclass(frozen=True, slots=True)
class Slots:
    """A place for every chunk of a shard, of the length that no chunk exceeds: places that never change.

    Attributes:
        offsets: shape (n_chunks,), int64: first byte of each place, counted from the start of the shard.
        slot_nbytes: room of each. nbytes: of the whole shard, index included: the same whatever it holds.
    """

    offsets: IntArray
    slot_nbytes: int
    nbytes: int

    @classmethod
    def of(cls, layout: IndexLayout, order: IntArray, align: int) -> Slots | None:
        """Places in an order of all chunks; None where chunks have no greatest length."""
        nbytes = cls.shard_nbytes(layout, align)
        if nbytes is None or layout.slot_nbytes is None:
            return None
        slot = aligned(layout.slot_nbytes, align)
        offsets = np.empty(layout.n_chunks, np.int64)
        offsets[order] = _base(layout, align) + slot * np.arange(layout.n_chunks, dtype=np.int64)
        return cls(offsets, slot, nbytes)

    @staticmethod
    def shard_nbytes(layout: IndexLayout, align: int) -> int | None:
        """Length of a shard of such places, None where chunks have no greatest length."""
        if layout.slot_nbytes is None:
            return None
        behind = layout.nbytes if layout.location == "end" else 0
        return _base(layout, align) + layout.n_chunks * aligned(layout.slot_nbytes, align) + behind

    def places(self, layout: IndexLayout, sequence: IntArray) -> Places:
        """Of the chunks present, in the order of the places."""
        first = layout.nbytes if layout.location == "start" else 0
        stop = self.nbytes if layout.location == "start" else self.nbytes - layout.nbytes
        offsets = np.full(layout.n_chunks, -1, np.int64)
        offsets[sequence] = self.offsets[sequence]
        return Places(offsets, np.diff(self.offsets[sequence], append=stop), first, stop)

    def holds(self, index: ShardIndex, shard_nbytes: int) -> bool:
        """True where all chunks of a shard are in their places."""
        there = index.offsets >= 0
        return bool(
            shard_nbytes == self.nbytes
            and (index.offsets == self.offsets)[there].all()
            and (index.lengths <= self.slot_nbytes).all()
        )
