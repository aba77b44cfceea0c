"""``sharding_indexed``: many inner chunks and an index in one object.

Here are the configuration, and whole shards in memory. Reading parts of a shard from a store is planned in
``array/planning/shard_reader.py``; changing parts of one is :meth:`BoundSharding.assemble`.

Source: Zarr v3, codec ``sharding_indexed``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.chunk_order import for_level, permutation
from zarrdock.codecs.codec import (
    AnyArray,
    ArrayBytesCodec,
    BoundArrayBytes,
    Buffer,
    ByteSpec,
    ChunkSpec,
    Codec,
    Configuration,
)
from zarrdock.codecs.empty_chunks import EmptyTest
from zarrdock.codecs.shard_index import IndexLayout, IndexLocation, ShardIndex
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions
from zarrdock.errors import CodecError, MetadataError

__all__ = ["BoundSharding", "Sharding", "with_options"]

IntArray: TypeAlias = npt.NDArray[np.int64]


def _default_index_codecs() -> tuple[Codec, ...]:
    from zarrdock.codecs.bytes_ import Bytes
    from zarrdock.codecs.crc32c_ import Crc32c

    return (Bytes("little"), Crc32c())


@dataclass(frozen=True)
class Sharding(ArrayBytesCodec):
    """Configuration of ``sharding_indexed``.

    Attributes:
        chunk_shape: shape of an inner chunk; divides the shard's shape.
        codecs: of the inner chunks.
        index_codecs: of the index; they may not compress.
        index_location: "end" or "start" of the shard.
        options: of the writer; neither compared nor stored.

    >>> array = zarrdock.create_array({}, shape=(8, 8), dtype="u1", chunks=(2, 2), shards=(4, 4))
    >>> array.metadata.codecs[0].chunk_shape
    (2, 2)
    """

    name: ClassVar[str] = "sharding_indexed"

    chunk_shape: tuple[int, ...]
    codecs: tuple[Codec, ...]
    index_codecs: tuple[Codec, ...] = field(default_factory=_default_index_codecs)
    index_location: IndexLocation = "end"
    options: WriteOptions = field(default=DEFAULT_WRITE_OPTIONS, compare=False)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Sharding:
        """Raises MetadataError with a pointer into the configuration."""
        from zarrdock.codecs.builtin import parse_codecs

        known = {"chunk_shape", "codecs", "index_codecs", "index_location"}
        for member in configuration:
            if member not in known:
                raise MetadataError(
                    "unknown member of the codec's configuration",
                    pointer=f"/{member}",
                    expected=f"one of {sorted(known)}",
                    found=member,
                )
        shape = configuration.get("chunk_shape")
        if (
            not isinstance(shape, Sequence)
            or isinstance(shape, str)
            or not all(type(n) is int and n > 0 for n in shape)
        ):
            raise MetadataError(pointer="/chunk_shape", expected="a list of positive integers", found=shape)
        location = configuration.get("index_location", "end")
        if location not in ("start", "end"):
            raise MetadataError(pointer="/index_location", expected="'start' or 'end'", found=location)
        codecs = parse_codecs(configuration.get("codecs"), "/codecs")
        if "index_codecs" in configuration:
            return cls(tuple(shape), codecs, parse_codecs(configuration["index_codecs"], "/index_codecs"), location)
        raise MetadataError(pointer="/index_codecs", expected="a list of codecs", found=None)

    def to_json(self) -> dict[str, Any]:
        """The v3 metadata."""
        configuration: Mapping[str, Any] = {
            "chunk_shape": list(self.chunk_shape),
            "codecs": [codec.to_json() for codec in self.codecs],
            "index_codecs": [codec.to_json() for codec in self.index_codecs],
            "index_location": self.index_location,
        }
        return {"name": self.name, "configuration": dict(configuration)}

    def with_defaults(self, spec: ChunkSpec) -> Sharding:
        """The codec as metadata should have it: members that inner codecs derive from their chunk are filled in."""
        from zarrdock.codecs.builtin import with_defaults

        try:
            codecs = with_defaults(self.codecs, ChunkSpec(self.chunk_shape, spec.dtype, spec.fill_value))
        except MetadataError as error:
            raise error.below("/configuration") from error.__cause__
        return replace(self, codecs=codecs)

    def bind(self, spec: ChunkSpec) -> BoundSharding:
        """Raises MetadataError where the inner chunks do not divide the shard."""
        if len(self.chunk_shape) != len(spec.shape) or any(
            outer % inner for outer, inner in zip(spec.shape, self.chunk_shape, strict=True)
        ):
            raise MetadataError(
                "inner chunks must divide the shard evenly",
                pointer="/configuration/chunk_shape",
                expected=f"divisors of {list(spec.shape)}",
                found=list(self.chunk_shape),
            )
        grid = tuple(outer // inner for outer, inner in zip(spec.shape, self.chunk_shape, strict=True))
        try:
            inner = bind_chain(self.codecs, ChunkSpec(self.chunk_shape, spec.dtype, spec.fill_value))
        except MetadataError as error:
            raise error.below("/configuration/codecs") from error.__cause__
        try:
            layout = IndexLayout.bind(grid, self.index_codecs, self.index_location, inner.encoded.limit)
        except MetadataError as error:
            raise error.below("/configuration") from error.__cause__
        return BoundSharding(spec, layout, inner, self.options)


def with_options(codecs: tuple[Codec, ...], options: WriteOptions, depth: int = 0) -> tuple[Codec, ...]:
    """The same codecs, their shards (at every level) to be written with ``options``; ``depth`` is that of the
    outermost ones among them.
    """
    here = replace(options, subchunk_write_order=for_level(options.subchunk_write_order, depth))
    return tuple(
        replace(codec, codecs=with_options(codec.codecs, options, depth + 1), options=here)
        if isinstance(codec, Sharding)
        else codec
        for codec in codecs
    )


class BoundSharding(BoundArrayBytes):
    """Sharding bound to a shard's shape.

    Attributes:
        layout: of the index. inner: codecs of an inner chunk. grid: inner chunks along each axis.
    """

    def __init__(self, spec: ChunkSpec, layout: IndexLayout, inner: BoundChain, options: WriteOptions) -> None:
        self.decoded = spec
        self.layout = layout
        self.inner = inner
        self.grid = layout.grid
        self.options = options
        self._order: IntArray | None = None
        # Chunks may in principle overlap or leave gaps, so the limit is one no honest writer reaches: all chunks at
        # their longest, twice.
        self.encoded = ByteSpec(
            None, 2 * layout.n_chunks * inner.encoded.limit + layout.nbytes + 65536, spec.dtype.itemsize
        )
        self.is_empty = EmptyTest(inner.spec)

    def with_options(self, options: WriteOptions) -> BoundSharding:
        """The same codec for another writer, at this level."""
        return BoundSharding(self.decoded, self.layout, self.inner, options)

    def nested(self) -> tuple[BoundSharding, ...]:
        """This and the shards in it that can be read in part: at every level with no other codec around them."""
        found = [self]
        while True:
            inner = found[-1].inner
            if inner.array_codecs or inner.byte_codecs or not isinstance(inner.serializer, BoundSharding):
                return tuple(found)
            found.append(inner.serializer)

    # -- whole shards -------------------------------------------------------------------------------------------------

    def split(self, data: Buffer) -> ShardIndex:
        """The index of a whole shard in memory, checked against its size."""
        start, stop = self.layout.span_within(0, len(data))
        return self.layout.parse(memoryview(data)[start:stop], len(data))

    def decode(self, data: Buffer) -> AnyArray:
        """Decode a whole shard."""
        view = memoryview(data)
        index = self.split(data)
        out = np.empty(self.decoded.shape, self.decoded.dtype)
        if (index.offsets < 0).any():
            out[...] = self.decoded.fill_value
        for i in np.flatnonzero(index.offsets >= 0).tolist():
            start = int(index.offsets[i])
            coords = self.coords(i)
            try:
                out[self.region(coords)] = self.inner.decode(view[start : start + int(index.lengths[i])])
            except CodecError as error:
                raise error.at(chunk=coords) from error
        return out

    def encode(self, array: AnyArray) -> Buffer:
        """A whole shard; one without any chunk where all is fill value."""
        parts = self.assemble(
            None, {i: self.encode_inner(array[self.region(self.coords(i))]) for i in range(self.layout.n_chunks)}
        )
        return b"".join(parts) if parts else bytes(self.empty())

    def encode_inner(self, chunk: AnyArray) -> Buffer | None:
        """An inner chunk's bytes; None where it is to be left out, being nothing but fill value."""
        return None if not self.options.write_empty_chunks and self.is_empty(chunk) else self.inner.encode(chunk)

    def empty(self) -> Buffer:
        """A shard without any chunk: the index alone."""
        n = self.layout.n_chunks
        return self.layout.serialise(ShardIndex(np.full(n, -1, np.int64), np.zeros(n, np.int64)))

    # -- parts --------------------------------------------------------------------------------------------------------

    def assemble(self, old: Buffer | None, changed: Mapping[int, Buffer | None]) -> list[Buffer] | None:
        """A new shard out of an old one: some chunks replaced, the others copied as the bytes they are.

        Args:
            old: the shard as it is, or None.
            changed: flat number (C order) of each changed chunk -> its new bytes, None to remove it.
        Returns:
            The new shard in parts, index included; None where no chunk is left.
        Raises:
            ShardIndexError: the old shard is damaged. It is not overwritten: what can be saved in it would be lost.
        """
        n = self.layout.n_chunks
        if old is None:
            offsets, lengths, view = np.full(n, -1, np.int64), np.zeros(n, np.int64), memoryview(b"")
        else:
            index, view = self.split(old), memoryview(old)
            offsets, lengths = index.offsets, index.lengths
        is_new = np.zeros(n, bool)
        for i, data in changed.items():
            is_new[i] = data is not None
            offsets[i], lengths[i] = (0, len(data)) if data is not None else (-1, 0)
        sequence = self._sequence(offsets, is_new)
        if not len(sequence):
            return None
        places = self._packed(lengths, sequence)
        # Neighbours that stay neighbours are copied as one run.
        sizes = lengths[sequence]
        sources = offsets[sequence]
        new_here = is_new[sequence]
        begins = np.ones(len(sequence), bool)
        begins[1:] = new_here[1:] | new_here[:-1] | (sources[1:] != sources[:-1] + sizes[:-1])
        firsts = np.flatnonzero(begins)
        lasts = np.append(firsts[1:], len(sequence)) - 1
        parts: list[Buffer] = []
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            part = (
                changed[int(sequence[first])]
                if new_here[first]
                else view[int(sources[first]) : int(sources[last] + sizes[last])]
            )
            assert part is not None
            parts.append(part)
        encoded = self.layout.serialise(ShardIndex(places, lengths))
        return [*parts, encoded] if self.layout.location == "end" else [encoded, *parts]

    def is_arranged(self, index: ShardIndex, shard_nbytes: int) -> bool:
        """True where :meth:`assemble` would put all chunks where they are, and nothing else into the shard."""
        wanted, nbytes = self.arrange(index)
        return nbytes == shard_nbytes and np.array_equal(wanted.offsets, index.offsets)

    def arrange(self, index: ShardIndex) -> tuple[ShardIndex, int]:
        """Index and size of the shard that :meth:`assemble` would make of these chunks, in their present sequence."""
        sequence = self._sequence(index.offsets, np.zeros(self.layout.n_chunks, bool))
        return ShardIndex(self._packed(index.lengths, sequence), index.lengths), self.layout.nbytes + int(
            index.lengths[sequence].sum()
        )

    def _packed(self, lengths: IntArray, sequence: IntArray) -> IntArray:
        """Offsets of chunks that lie one behind the other in that sequence; -1 for those that are not in it."""
        sizes = lengths[sequence]
        offsets = np.full(self.layout.n_chunks, -1, np.int64)
        first = self.layout.nbytes if self.layout.location == "start" else 0
        offsets[sequence] = first + np.cumsum(sizes) - sizes
        return offsets

    def _sequence(self, offsets: IntArray, is_new: npt.NDArray[np.bool_]) -> IntArray:
        """Flat numbers of the chunks present, in the order they are to be written."""
        if self.options.subchunk_write_order == "unordered":
            # What was there stays where it was, in front; what is new comes behind.
            present = np.flatnonzero(offsets >= 0)
            return present[np.lexsort((present, np.where(is_new[present], np.iinfo(np.int64).max, offsets[present])))]
        if self._order is None:  # a callable is asked once
            self._order = permutation(self.options.subchunk_write_order, self.grid)
        order = self._order
        return order[offsets[order] >= 0]

    # -- geometry -----------------------------------------------------------------------------------------------------

    def coords(self, flat: int) -> tuple[int, ...]:
        """Coordinates of an inner chunk within the shard."""
        return tuple(int(c) for c in np.unravel_index(flat, self.grid)) if self.grid else ()

    def region(self, coords: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of the shard's array that an inner chunk is."""
        return tuple(slice(c * n, (c + 1) * n) for c, n in zip(coords, self.inner.spec.shape, strict=True))
