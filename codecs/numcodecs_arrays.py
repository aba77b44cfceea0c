"""The array to array codecs of numcodecs, as zarr-python names them.

All of them begin by looking at the chunk's bytes, in C order, as elements of the ``dtype`` in their configuration. It
need not be the array's: so it is done here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from zarrdock.codecs.base import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec
from zarrdock.codecs.numcodecs_base import StoredNumcodecsCodec
from zarrdock.errors import CodecError, MetadataError

__all__ = ["AsType", "BitRound", "Delta", "FixedScaleOffset", "NumcodecsFilter", "PackBits", "Quantize"]


@dataclass(frozen=True, init=False, repr=False)
class NumcodecsFilter(StoredNumcodecsCodec, ArrayArrayCodec):
    """Array to array."""

    def with_defaults(self, spec: ChunkSpec) -> Self:
        """With the chunk's data type, where it was left out."""
        return self

    def dtypes(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """What it sees elements of ``dtype`` as, and what it makes of them."""
        return dtype, dtype

    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        codec = self.with_defaults(spec)
        stored = self.stored or spec.dtype
        if stored.itemsize != spec.dtype.itemsize or stored.hasobject:
            raise MetadataError(f"{self.name} cannot work on {spec.dtype}")
        seen, made = codec.dtypes(stored)
        if seen.kind == "M":  # delta, for one, encodes moments and cannot decode them
            raise MetadataError(f"{self.name} cannot work on {seen}")
        if spec.nbytes % seen.itemsize:
            raise MetadataError(f"{self.name}: a chunk of {spec.nbytes} bytes does not divide into elements of {seen}")
        shape = spec.shape if seen.itemsize == spec.dtype.itemsize else (spec.nbytes // seen.itemsize,)
        return BoundNumcodecsFilter(self.name, codec.implementation(), spec, stored, seen, shape, made)

    def _dtype(self, member: str) -> np.dtype[Any]:
        value = self.configuration.get(member)
        reason = ""
        try:
            dtype: np.dtype[Any] = np.dtype(object if value is None else value)
        except (TypeError, ValueError) as error:
            dtype, reason = np.dtype(object), str(error)
        if dtype.hasobject or not dtype.itemsize:
            pointer = f"/configuration/{member}"
            raise MetadataError(reason, pointer=pointer, expected="a data type of fixed size", found=value)
        return dtype

    def _with_member(self, member: str, spec: ChunkSpec) -> Self:
        if self.configuration.get(member) is not None:
            return self
        stored = self.stored or spec.dtype
        codec = type(self)(**{**self.configuration, member: stored.str})
        object.__setattr__(codec, "stored", self.stored)
        return codec


class _Cast(NumcodecsFilter):
    """With ``dtype``, of what it sees, and ``astype``, of what it makes."""

    def with_defaults(self, spec: ChunkSpec) -> Self:
        return self._with_member("dtype", spec)

    def dtypes(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
        seen = self._dtype("dtype")
        return seen, seen if self.configuration.get("astype") is None else self._dtype("astype")


class Delta(_Cast):
    """Differences of neighbours."""

    name = "numcodecs.delta"


class FixedScaleOffset(_Cast):
    """``round((x - offset) * scale)``; lossy."""

    name = "numcodecs.fixedscaleoffset"


class Quantize(_Cast):
    """A number of decimal digits; lossy."""

    name = "numcodecs.quantize"


class AsType(NumcodecsFilter):
    """Another data type."""

    name = "numcodecs.astype"

    def with_defaults(self, spec: ChunkSpec) -> Self:
        return self._with_member("decode_dtype", spec)

    def dtypes(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
        return self._dtype("decode_dtype"), self._dtype("encode_dtype")


class BitRound(NumcodecsFilter):
    """A number of bits of the mantissa; lossy."""

    name = "numcodecs.bitround"

    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        if spec.dtype.kind != "f" or spec.dtype.itemsize not in (2, 4, 8):  # one of ml_dtypes claims the kind, too
            raise MetadataError(f"{self.name} rounds floats of 16 to 64 bits, not {spec.dtype}")
        # In native byte order: numcodecs looks it up by the data type's name.
        native = spec.dtype.newbyteorder("=")
        return BoundNumcodecsFilter(self.name, self.implementation(), spec, native, native, spec.shape, native)


class PackBits(NumcodecsFilter):
    """Booleans to bits, behind a byte with the number of bits that pad the last one."""

    name = "numcodecs.packbits"

    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        if spec.dtype.kind != "b":
            raise MetadataError(f"{self.name} packs booleans, not {spec.dtype}")
        shape = (1 + -(-spec.size // 8),)
        bits = np.dtype(bool)
        return BoundNumcodecsFilter(self.name, self.implementation(), spec, bits, bits, shape, np.dtype(np.uint8))


class BoundNumcodecsFilter(BoundArrayArray):
    """Elements of ``stored`` dtype, seen as ``seen``, made into ``encoded.shape`` of ``encoded.dtype``."""

    __slots__ = ("_codec", "_name", "_seen", "_stored", "decoded", "encoded")

    def __init__(
        self,
        name: str,
        codec: Any,
        spec: ChunkSpec,
        stored: np.dtype[Any],
        seen: np.dtype[Any],
        shape: tuple[int, ...],
        made: np.dtype[Any],
    ) -> None:
        self.decoded = spec
        self._name = name
        self._codec = codec
        self._stored = stored
        self._seen = seen
        self.encoded = ChunkSpec(shape, made, self._fill(spec, made))

    def encode(self, array: AnyArray) -> AnyArray:
        encoded = self._encode(np.ascontiguousarray(array, self._stored).reshape(-1))
        if encoded.size != self.encoded.size:
            raise CodecError(f"{encoded.size} elements came of it", codec=self._name, direction="encode")
        return encoded.reshape(self.encoded.shape)

    def decode(self, array: AnyArray) -> AnyArray:
        flat = np.ascontiguousarray(array, self.encoded.dtype).reshape(-1)
        try:
            decoded: AnyArray = self._codec.decode(flat).reshape(-1).view(self._stored)
        except Exception as error:
            raise CodecError(str(error), codec=self._name) from error
        if decoded.size != self.decoded.size:
            message = f"decoded to {decoded.size} elements where the chunk has {self.decoded.size}"
            raise CodecError(message, codec=self._name)
        return decoded.reshape(self.decoded.shape)

    def _encode(self, flat: AnyArray) -> AnyArray:
        if not flat.size:
            return np.empty(0, self.encoded.dtype)
        try:
            encoded: AnyArray = self._codec.encode(flat.view(self._seen))
        except Exception as error:
            raise CodecError(str(error), codec=self._name, direction="encode") from error
        # bitround makes integers, which are floats to everybody else.
        return encoded if encoded.dtype.kind == self.encoded.dtype.kind else encoded.view(self.encoded.dtype)

    def _fill(self, spec: ChunkSpec, made: np.dtype[Any]) -> Any:
        """The fill value, encoded as a chunk of one element; 0 where that makes no sense (packed bits)."""
        if self._seen.itemsize != spec.dtype.itemsize or self._seen.kind == "b":
            return np.zeros((), made)[()]
        try:
            with np.errstate(all="ignore"):
                one = np.full(1, spec.fill_value, self._stored).view(self._seen)
                return self._codec.encode(one).reshape(-1).view(made)[0]
        except (TypeError, ValueError, OverflowError, IndexError):  # a scale that is no number, say
            return np.zeros((), made)[()]
