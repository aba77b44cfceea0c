"""Types that the steps of a read exchange: requests, found chunks, sinks, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.chunk_cache import Chunks, IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.tasks import Leaves, Task
from zarrdock.codecs.codec import AnyArray, Encoded
from zarrdock.stores.base import Buffer, FileBytes, Traits, Version

__all__ = ["Discard", "Found", "IntArray", "ReadSettings", "Sink", "Wanted"]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Settings of a read.

    Attributes:
        round_bytes: bytes one round may bring.
        whole_fraction: an object is read whole if this share of its chunks is wanted.
        chunks: the cache of decoded chunks, if there is one.
        in_part: chunks may be handed over in part. in_blocks: and read block by block, as their own headers say.
        lazy: bytes of chunks may be left in files.
        seen: if given, filled with the version of every object that was read, None for missing ones.
    """

    layout: Layout
    traits: Traits
    cache: IndexCache
    round_bytes: int
    whole_fraction: float
    chunks: Chunks | None = None
    seen: dict[str, Version | None] | None = None
    in_part: bool = True
    in_blocks: bool = True
    lazy: bool = False

    def note(self, key: str, version: Version | None) -> None:
        """Remember which version of an object was read; None: it was not there."""
        if self.seen is not None:
            self.seen[key] = version

    def wants_whole(self, task: Task) -> bool:
        """True where reading the object in one request beats reading its index first."""
        if task.layout.chain.spec.nbytes > 4 * self.round_bytes:
            return False  # one answer would be larger than all that a read may hold
        return task.pieces.n_leaves >= self.whole_fraction * task.n_inside


IntArray: TypeAlias = npt.NDArray[np.int64]
# The leaves of one innermost shard, which of them are wanted, where in the object those begin, how long they are.
Wanted: TypeAlias = tuple[Leaves, IntArray, IntArray, IntArray]


@dataclass(frozen=True, slots=True)
class Found:
    """Encoded leaf chunks of one object.

    Attributes:
        leaves: those wanted of one innermost shard; numbers: shape (n,), the ones that are here.
        buffers: what came, or :class:`FileBytes`. buffer: shape (n,), which of them holds each leaf; offsets, lengths:
            shape (n,), where in it, in bytes.
        decoded: the chunks themselves, where they were kept decoded; then there are no buffers.
        keep: the object's version, and shape (n,), where in the object each leaf begins: they are to be kept once
            they are decoded.
    """

    task: Task
    leaves: Leaves
    numbers: IntArray
    buffers: Sequence[Buffer]
    buffer: IntArray
    offsets: IntArray
    lengths: IntArray
    decoded: Sequence[AnyArray] | None = None
    keep: tuple[Version, IntArray] | None = None

    def part(self, first: int, stop: int) -> Found:
        """Leaves ``first`` to ``stop``, with no more buffers than they need."""
        some = slice(first, stop)
        buffer = self.buffer[some]
        buffers = self.buffers
        if self.decoded is None and len(buffers) > 1:
            low, high = int(buffer.min()), int(buffer.max())
            buffers = buffers[low : high + 1]
            buffer = buffer - low
        return Found(
            self.task,
            self.leaves,
            self.numbers[some],
            buffers,
            buffer,
            self.offsets[some],
            self.lengths[some],
            None if self.decoded is None else self.decoded[some],
            None if self.keep is None else (self.keep[0], self.keep[1][some]),
        )

    def pick(self, which: IntArray) -> Found:
        """Pick leaves by their places in ``numbers``."""
        return Found(
            self.task,
            self.leaves,
            self.numbers[which],
            self.buffers,
            self.buffer[which],
            self.offsets[which],
            self.lengths[which],
            None if self.decoded is None else [self.decoded[i] for i in which.tolist()],
            None if self.keep is None else (self.keep[0], self.keep[1][which]),
        )

    def encoded(self) -> Encoded:
        """The bytes of the leaves, in the order of ``numbers``; those that are in files still are read."""
        if self.buffers and isinstance(self.buffers[0], FileBytes):
            places = zip(self.buffer.tolist(), self.offsets.tolist(), self.lengths.tolist(), strict=True)
            pieces = [self.buffers[i][start : start + n] for i, start, n in places]
            return Encoded(pieces, np.arange(len(pieces)), np.zeros(len(pieces), np.int64), self.lengths)
        return Encoded(self.buffers, self.buffer, self.offsets, self.lengths)


class Sink(Protocol):
    """Takes encoded leaf chunks, and is free to decode them later and elsewhere."""

    def data(self, found: Found) -> None:
        """Leaves that came."""

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Leaves ``numbers`` (None: all of them) hold nothing but the fill value."""

    def barrier(self, again: Task | None = None) -> None:
        """Finish what was handed over before: what comes next may write to the same places.

        Args:
            again: a task that begins anew: forget which of its leaves were missing.
        """


class Discard:
    """A sink for reads that only count."""

    def data(self, found: Found) -> None:
        """Drop chunks."""

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Fill nothing."""

    def barrier(self, again: Task | None = None) -> None:
        """Wait for nothing."""
