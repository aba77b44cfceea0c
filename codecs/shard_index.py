"""The index of a shard: where each inner chunk's bytes are. Layout and parsing, pure.

Source: Zarr v3, codec ``sharding_indexed``, "Binary shard format".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.codec import Buffer, ChunkSpec, Codec
from zarrdock.errors import CodecError, MetadataError, ShardIndexError
from zarrdock.ranges import Range, Span, Tail

__all__ = ["EMPTY", "IndexLayout", "IndexLocation", "ShardIndex", "ShardUsage", "usage_of"]

IntArray: TypeAlias = npt.NDArray[np.int64]
IndexLocation: TypeAlias = Literal["start", "end"]

EMPTY = 2**64 - 1

# No object is longer. Offsets up to it can be added to lengths and to one another without a second thought.
MAX_OFFSET = 2**61
# numpy's limit.
_MAX_NDIM = 64


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Offsets and lengths of the inner chunks of one shard.

    Attributes:
        offsets: shape (n_chunks,), int64, C order of the grid of chunks: first byte, counted from the start of the
            shard; -1 for an empty chunk.
        lengths: shape (n_chunks,), int64, bytes; 0 for an empty chunk.
    """

    offsets: IntArray
    lengths: IntArray

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.offsets.nbytes + self.lengths.nbytes

    def check_within(self, shard_nbytes: int) -> None:
        """Make sure that every chunk lies within a shard of that many bytes.

        Raises:
            ShardIndexError: naming the first chunk that does not.
        """
        # Subtracted, not added: offset + length may overflow.
        bad = np.flatnonzero((self.offsets >= 0) & (self.lengths > shard_nbytes - self.offsets))
        if len(bad):
            i = int(bad[0])
            start, stop = int(self.offsets[i]), int(self.offsets[i]) + int(self.lengths[i])
            raise ShardIndexError(
                f"inner chunk {i} should be at bytes {start} to {stop}, but the shard has {shard_nbytes} bytes: "
                "it is truncated, or its index is damaged",
                codec="sharding_indexed",
            )


@dataclass(frozen=True, slots=True)
class IndexLayout:
    """Storage format of the indexes of shards of one kind.

    Attributes:
        grid: chunks in a shard along each axis.
        location: before or after the chunks.
        chain: the index's own codecs, bound to uint64 of shape ``grid + (2,)``, or (n_chunks, 2) where numpy has no
            such shape.
        nbytes: bytes of the encoded index.
        max_chunk_nbytes: no inner chunk is longer in any honest shard; one that claims to be is not read at all.
    """

    grid: tuple[int, ...]
    location: IndexLocation
    chain: BoundChain
    nbytes: int
    max_chunk_nbytes: int = MAX_OFFSET

    @classmethod
    def bind(
        cls,
        grid: tuple[int, ...],
        codecs: tuple[Codec, ...],
        location: IndexLocation,
        max_chunk_nbytes: int = MAX_OFFSET,
    ) -> IndexLayout:
        """Raises MetadataError where the index codecs don't give a fixed length: without one the index can't be
        found.
        """
        # Of a shard of as many dimensions as numpy has the index has one too many, which only a transposition needs.
        flat = len(grid) >= _MAX_NDIM and [codec.name for codec in codecs[:1]] == ["bytes"]
        shape = (prod(grid), 2) if flat else (*grid, 2)
        spec = ChunkSpec(shape, np.dtype(np.uint64), np.uint64(EMPTY))
        try:
            chain = bind_chain(codecs, spec)
        except MetadataError as error:
            raise error.below("/index_codecs") from error.__cause__
        if chain.encoded.exact is None:
            raise MetadataError(
                "the index would have no fixed length",
                pointer="/index_codecs",
                expected="codecs that do not compress",
                found=[codec.name for codec in codecs],
            )
        return cls(grid, location, chain, chain.encoded.exact, min(max_chunk_nbytes, MAX_OFFSET))

    @property
    def n_chunks(self) -> int:
        """Chunks in a shard."""
        return prod(self.grid)

    @property
    def range(self) -> Range:
        """The range of a shard's object that holds the index."""
        return Tail(self.nbytes) if self.location == "end" else Span(0, self.nbytes)

    def span_within(self, start: int, length: int) -> tuple[int, int]:
        """Place of the index, (start, stop), of a shard that begins at ``start`` in a larger object.

        Raises:
            ShardIndexError: the shard is shorter than its index.
        """
        if length < self.nbytes:
            raise ShardIndexError(
                f"a shard of {length} bytes is shorter than its index of {self.nbytes} bytes", codec="sharding_indexed"
            )
        return (
            (start + length - self.nbytes, start + length) if self.location == "end" else (start, start + self.nbytes)
        )

    def parse(self, data: Buffer, shard_nbytes: int | None = None) -> ShardIndex:
        """Parse an encoded index.

        Args:
            data: exactly ``nbytes`` bytes.
            shard_nbytes: size of the whole shard where known: every chunk must then lie within it.
        Raises:
            ShardIndexError: wrong size, wrong checksum, a half-empty pair, an absurd offset or length, or a chunk
                outside the shard.
        """
        if len(data) != self.nbytes:
            raise ShardIndexError(
                f"the index has {len(data)} bytes, not {self.nbytes}: the shard is truncated or is not one",
                codec="sharding_indexed",
            )
        try:
            table = self.chain.decode(data)
        except ShardIndexError:
            raise
        except CodecError as error:
            raise ShardIndexError(f"the index is damaged: {error}", codec="sharding_indexed") from error
        # uint64 -> int64 keeps the bits: "empty" becomes -1, and any value of 2^63 and more, which no file can have,
        # becomes negative too. Compared as unsigned, all that can't be is too large.
        unsigned = np.ascontiguousarray(table, dtype=np.uint64).reshape(-1, 2)
        pairs = unsigned.view(np.int64)
        offsets, lengths = pairs[:, 0].copy(), pairs[:, 1].copy()
        strange = (unsigned[:, 0] > MAX_OFFSET) | (unsigned[:, 1] > self.max_chunk_nbytes)
        if strange.any():
            empty = (offsets == -1) & (lengths == -1)
            bad = np.flatnonzero(strange & ~empty)
            if len(bad):
                i = int(bad[0])
                offset, length = int(offsets[i]) % 2**64, int(lengths[i]) % 2**64
                raise ShardIndexError(
                    f"inner chunk {i} claims offset {offset} and {length} bytes, where at most {self.max_chunk_nbytes} "
                    "are possible: the index is damaged",
                    codec="sharding_indexed",
                )
            lengths[empty] = 0
        index = ShardIndex(offsets, lengths)
        if shard_nbytes is not None:
            index.check_within(shard_nbytes)
        return index

    def serialise(self, index: ShardIndex) -> Buffer:
        """The encoded index, ``nbytes`` bytes."""
        pairs = np.empty((self.n_chunks, 2), np.int64)
        pairs[:, 0] = index.offsets
        pairs[:, 1] = np.where(index.offsets < 0, -1, index.lengths)
        return self.chain.encode(pairs.view(np.uint64).reshape(self.chain.spec.shape))


# -- what the bytes of a shard are used for ---------------------------------------------------------------------------


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
