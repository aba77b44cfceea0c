"""The ``n5_default`` codec: a block of N5, which says its own shape in a header, as the chunk of a Zarr array."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final

import numpy as np

from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.codec import (
    AnyArray,
    ArrayBytesCodec,
    BoundArrayBytes,
    Buffer,
    BytesBytesCodec,
    ByteSpec,
    ChunkSpec,
    Codec,
    Configuration,
    as_bytes,
)
from zarrdock.codecs.transpose import Transpose
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import known_members

__all__ = ["BoundN5Default", "N5Default"]

_DTYPES: Final = frozenset("int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64".split())
# Blocks may be larger than the chunk (padded, where the chunk was cut off); up to here, whatever the header says.
_BLOCK_NBYTES: Final = 64 * 2**20
# Shapes of blocks met so far: one, and those at the edges.
_SHAPES: Final = 64


@dataclass(frozen=True)
class N5Default(ArrayBytesCodec):
    """Blocks in N5's default mode: header, then elements in the reverse order of dimensions, big-endian, perhaps
    compressed.

    Blocks shorter than the chunk are padded with the fill value, longer ones cut off; written ones have the chunk's
    shape.

    Args:
        codecs: transpose of all dimensions, bytes in big-endian order, and at most one compressor.
    Source: Zarr extensions, codec ``n5_default``; N5 4.0, "File-system specification".

    >>> codec = zarrdock.N5Default((zarrdock.Transpose((1, 0)), zarrdock.Bytes("big"), zarrdock.Gzip()))
    >>> array = zarrdock.create_array(
    ...     {}, data=np.arange(6, dtype="u2").reshape(2, 3), serializer=codec, compressors=None
    ... )
    >>> array[1].tolist()
    [3, 4, 5]
    """

    name: ClassVar[str] = "n5_default"
    codecs: tuple[Codec, ...]

    def __post_init__(self) -> None:
        from zarrdock.codecs.builtin import parse_codecs

        codecs: object = self.codecs
        if not isinstance(codecs, list | tuple):
            raise MetadataError(pointer="/codecs", expected="a list of codecs", found=codecs)
        if not all(isinstance(codec, Codec) for codec in codecs):
            codecs = parse_codecs([c.to_json() if isinstance(c, Codec) else c for c in codecs], "/codecs")
        object.__setattr__(self, "codecs", tuple(codecs))
        kinds = (Transpose, Bytes, BytesBytesCodec)
        fits = 2 <= len(self.codecs) <= 3 and all(
            isinstance(codec, kind) for codec, kind in zip(self.codecs, kinds, strict=False)
        )
        if not fits:
            expected = "transpose, bytes and at most one compressor"
            raise MetadataError(pointer="/codecs", expected=expected, found=[codec.name for codec in self.codecs])

    @classmethod
    def from_json(cls, configuration: Configuration) -> N5Default:
        return cls(**{"codecs": None, **known_members(configuration, ("codecs",))})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"codecs": [codec.to_json() for codec in self.codecs]}}

    def with_defaults(self, spec: ChunkSpec) -> N5Default:
        """The codec as metadata should have it: members that the compressor derives from the chunk are filled in."""
        from zarrdock.codecs.builtin import with_defaults

        try:
            return N5Default(with_defaults(self.codecs, spec))
        except MetadataError as error:
            raise error.below("/configuration") from error.__cause__

    def bind(self, spec: ChunkSpec) -> BoundN5Default:
        ndim = len(spec.shape)
        transpose, serializer = self.codecs[:2]
        assert isinstance(transpose, Transpose)
        assert isinstance(serializer, Bytes)
        order = transpose.order
        if order not in ("F", tuple(reversed(range(ndim)))):
            expected = f"{list(reversed(range(ndim)))}, all dimensions reversed"
            found = order if isinstance(order, str) else list(order)
            raise MetadataError(pointer="/configuration/codecs/0/configuration/order", expected=expected, found=found)
        if spec.dtype.name not in _DTYPES:
            raise MetadataError(f"N5 has integers and floats of 32 and 64 bits, not {spec.dtype}")
        if spec.dtype.itemsize > 1 and serializer.endian != "big":
            pointer = "/configuration/codecs/1/configuration/endian"
            raise MetadataError(pointer=pointer, expected='"big"', found=serializer.endian)
        if ndim >= 2**16 or any(n >= 2**32 for n in spec.shape):
            raise MetadataError(f"N5 has no blocks of shape {spec.shape}")
        try:
            chain = bind_chain(self.codecs, spec)
        except MetadataError as error:
            raise error.below("/configuration/codecs") from error.__cause__
        return BoundN5Default(self, spec, chain)


class BoundN5Default(BoundArrayBytes):
    """Chains of other shapes than the chunk's are bound when a block has one."""

    __slots__ = ("_chains", "_codec", "_header", "_most", "decoded", "encoded")

    def __init__(self, codec: N5Default, spec: ChunkSpec, chain: BoundChain) -> None:
        ndim = len(spec.shape)
        self.decoded = spec
        self._codec = codec
        self._chains = {spec.shape: chain}
        self._header = struct.pack(f">HH{ndim}I", 0, ndim, *spec.shape)
        self._most = max(spec.nbytes, _BLOCK_NBYTES)
        longest = ByteSpec.compressed(ByteSpec(None, max(chain.encoded.limit, self._most)))
        self.encoded = ByteSpec(None, longest.limit + len(self._header))

    def encode(self, array: AnyArray) -> Buffer:
        return b"".join((self._header, self._chains[self.decoded.shape].encode(array)))

    def decode(self, data: Buffer) -> AnyArray:
        flat = memoryview(as_bytes(data))
        n = len(self._header)
        if flat[:n] == self._header:
            return self._chains[self.decoded.shape].decode(flat[n:])
        shape = self._shape(flat)
        block = self._chain(shape).decode(flat[n:])
        wanted = self.decoded.shape
        if all(there >= here for there, here in zip(shape, wanted, strict=True)):
            return block[tuple(slice(here) for here in wanted)]
        out: AnyArray = np.full(wanted, self.decoded.fill_value, self.decoded.dtype)
        both = tuple(slice(min(there, here)) for there, here in zip(shape, wanted, strict=True))
        out[both] = block[both]
        return out

    def _shape(self, flat: memoryview) -> tuple[int, ...]:
        """The block's shape, from its header."""
        ndim = len(self.decoded.shape)
        if len(flat) < len(self._header):
            message = f"{len(flat)} bytes are fewer than the header of {ndim} dimensions has, {len(self._header)}"
            raise CodecError(message, codec=N5Default.name)
        mode, found, *shape = struct.unpack_from(f">HH{ndim}I", flat)
        if mode != 0:
            names = {1: "varlength", 2: "object"}
            raise CodecError(f"a block of mode {mode} ({names.get(mode, '?')}), not 0 (default)", codec=N5Default.name)
        if found != ndim:
            raise CodecError(f"a block of {found} dimensions, expected {ndim}", codec=N5Default.name)
        nbytes = prod(shape) * self.decoded.dtype.itemsize
        if nbytes > self._most:
            message = f"a block of shape {tuple(shape)} has {nbytes} bytes, at most {self._most} are possible"
            raise CodecError(message, codec=N5Default.name)
        return tuple(shape)

    def _chain(self, shape: tuple[int, ...]) -> BoundChain:
        found = self._chains.get(shape)
        if found is None:
            spec = ChunkSpec(shape, self.decoded.dtype, self.decoded.fill_value)
            found = bind_chain(self._codec.codecs, spec)
            if len(self._chains) < _SHAPES:
                self._chains[shape] = found
        return found
