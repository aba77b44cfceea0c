"""Base classes of codecs: a codec is a frozen configuration that is bound, once, to the chunk it will work on.

Three kinds, as in Zarr v3: array to array, array to bytes, bytes to bytes. ``bind`` validates and returns an object
with no checks left to do per chunk.
Bound codecs are immutable and used from many threads at once; per-thread state (a decompressor) belongs in
``threading.local``.

Sizes are never trusted: a bytes-to-bytes codec is told how many bytes its decoded form may have, and must neither
return nor allocate more,
whatever the compressed bytes claim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.errors import MetadataError

__all__ = [
    "AnyArray",
    "ArrayArrayCodec",
    "ArrayBytesCodec",
    "BoundArrayArray",
    "BoundArrayBytes",
    "BoundBytesBytes",
    "Buffer",
    "ByteSpec",
    "BytesBytesCodec",
    "ChunkSpec",
    "Codec",
    "Configuration",
    "Encoded",
    "IntArray",
    "as_bytes",
    "no_configuration",
]

Buffer: TypeAlias = "bytes | bytearray | memoryview"
AnyArray: TypeAlias = npt.NDArray[Any]
IntArray: TypeAlias = npt.NDArray[np.int64]
Configuration: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class ChunkSpec:
    """Description of a chunk: its shape, its numpy dtype (native or not), its fill value (a scalar of that dtype)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: Any = 0

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @cached_property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ByteSpec:
    """Size of a chunk's bytes at one point of the chain.

    Attributes:
        exact: their length where it is known beforehand, None where it depends on the values.
        limit: they are never longer than this, in any honest file; decoding to more is an error, not an allocation.
        itemsize: bytes of an element of the array they came from (what blosc shuffles by).
    """

    exact: int | None
    limit: int
    itemsize: int = 1

    @classmethod
    def compressed(cls, before: ByteSpec) -> ByteSpec:
        """Size limit of a compressor's output: every compressor used here grows incompressible input by less than
        1/8 + 64 KiB.
        """
        return cls(None, before.limit + before.limit // 8 + 65536, 1)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded chunks within larger buffers.

    Attributes:
        buffer: shape (n,), which of ``buffers`` holds each. offsets, lengths: shape (n,), where in it, in bytes.
    """

    buffers: Sequence[Buffer]
    buffer: IntArray
    offsets: IntArray
    lengths: IntArray

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[memoryview]:
        starts, stops = self.offsets.tolist(), (self.offsets + self.lengths).tolist()
        if len(self.buffers) == 1:
            view = memoryview(self.buffers[0])
            return (view[start:stop] for start, stop in zip(starts, stops, strict=True))
        views = [memoryview(buffer) for buffer in self.buffers]
        places = zip(self.buffer.tolist(), starts, stops, strict=True)
        return (views[i][start:stop] for i, start, stop in places)


class Codec(ABC):
    """A codec's configuration: a frozen, hashable value."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_json(cls, configuration: Configuration) -> Codec:
        """Parse a v3 ``configuration`` object ({} if the metadata has none).

        Raises:
            MetadataError: with ``pointer`` relative to the configuration object, e.g. "/level".
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The v3 metadata: ``{"name": ..., "configuration": {...}}``."""


class BoundArrayArray(ABC):
    """An array-to-array codec bound to a chunk. ``decoded`` and ``encoded`` are the specs on its two sides."""

    decoded: ChunkSpec
    encoded: ChunkSpec

    @abstractmethod
    def encode(self, array: AnyArray) -> AnyArray:
        """Array of ``decoded.shape`` to one of ``encoded.shape``; may be a view."""

    @abstractmethod
    def decode(self, array: AnyArray) -> AnyArray:
        """The inverse of :meth:`encode`; may be a view."""


class BoundArrayBytes(ABC):
    """An array-to-bytes codec bound to a chunk."""

    decoded: ChunkSpec
    encoded: ByteSpec

    @abstractmethod
    def encode(self, array: AnyArray) -> Buffer:
        """Array of ``decoded.shape`` (any strides) to bytes."""

    @abstractmethod
    def decode(self, data: Buffer) -> AnyArray:
        """Bytes to an array of ``decoded.shape`` and ``decoded.dtype``; may be a read-only view of ``data``.

        Raises:
            CodecError: the bytes do not fit the chunk.
        """


class BoundBytesBytes(ABC):
    """A bytes-to-bytes codec bound to the length of what it encodes."""

    decoded: ByteSpec
    encoded: ByteSpec
    #: Whether what it encodes may be overwritten at once: nothing of it is in the result.
    makes_new: ClassVar[bool] = False
    #: Whether what it makes is blocks that decode by themselves.
    in_blocks: ClassVar[bool] = False
    #: Name by which the compiled part knows the codec. Not inherited: a subclass may decode otherwise.
    compiled: ClassVar[str]

    @property
    def compiled_options(self) -> tuple[int, ...] | None:
        """Numbers that the compiled part needs to encode as this codec does; None: it can't."""
        return None

    @abstractmethod
    def encode(self, data: Buffer) -> Buffer:
        """Compress, or append a checksum."""

    @property
    def needs_coords(self) -> bool:
        """True if encoding depends on the chunk's position in the array."""
        return False

    def encode_at(self, data: Buffer, coords: tuple[int, ...] | None) -> Buffer:
        """:meth:`encode`, of the chunk at ``coords`` in the grid of the array's (inner) chunks; None is not known."""
        return self.encode(data)

    @abstractmethod
    def decode(self, data: Buffer) -> Buffer:
        """The inverse.

        Raises:
            CodecError: damaged bytes, or a result longer than ``decoded.limit`` or, where known, other than
                ``decoded.exact``.
        """

    def decode_into(self, data: Buffer, out: memoryview) -> bool:
        """Decode straight into ``out`` (``decoded.exact`` writable bytes) where the library can; False where it
        cannot, with ``out`` undefined.
        """
        return False

    def decode_many(self, encoded: Encoded) -> list[Buffer] | None:
        """Decode many by one call of the library, which then gives the interpreter's lock away once and not once each.
        None where it cannot, and where something is wrong with any of them: :meth:`decode` says what.
        """
        return None


class ArrayArrayCodec(Codec):
    """Configuration of an array-to-array codec (transpose, bitround, ...)."""

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        """Raises MetadataError where the codec cannot work on such a chunk."""


class ArrayBytesCodec(Codec):
    """Configuration of an array-to-bytes codec (bytes, sharding_indexed, ...)."""

    @abstractmethod
    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        """Raises MetadataError where the codec cannot work on such a chunk."""


class BytesBytesCodec(Codec):
    """Configuration of a bytes-to-bytes codec (compressors, checksums)."""

    @abstractmethod
    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        """Raises MetadataError where the codec cannot work on such bytes."""


def no_configuration(configuration: Configuration) -> None:
    """Check that a codec without configuration was given none.

    Raises:
        MetadataError: there is a member all the same.
    """
    for member in configuration:
        raise MetadataError(
            "unknown member of the codec's configuration",
            pointer=f"/{member}",
            expected="nothing",
            found=configuration[member],
        )


def as_bytes(data: Buffer) -> bytes | memoryview:
    """A flat, read-only view of bytes, for libraries that are particular about what they take."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
