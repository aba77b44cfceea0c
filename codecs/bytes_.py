"""The ``bytes`` codec: elements in C order, in a stated byte order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from zarrdock.codecs.codec import (
    AnyArray,
    ArrayBytesCodec,
    BoundArrayBytes,
    Buffer,
    ByteSpec,
    ChunkSpec,
    Configuration,
    as_bytes,
)
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import expect_one_of, known_members

__all__ = ["BoundBytes", "Bytes", "has_byte_order"]


def has_byte_order(dtype: np.dtype[Any]) -> bool:
    """True if elements depend on the byte order. Single bytes and raw bits do not; structs do if their fields do."""
    if dtype.names is not None and dtype.fields is not None:
        return any(has_byte_order(dtype.fields[name][0]) for name in dtype.names)
    if dtype.subdtype is not None:
        return has_byte_order(dtype.subdtype[0])
    # numpy's types of variable length have no order; those of other packages claim one even of a single byte.
    return dtype.kind != "T" and dtype.itemsize > 1 and dtype.newbyteorder("<") != dtype.newbyteorder(">")


# Elements smaller than their byte: the bits that count. The others are arbitrary in what other writers wrote.
_BITS = {"int2": 3, "uint2": 3, "int4": 15, "uint4": 15, "float4_e2m1fn": 15, "float6_e2m3fn": 63, "float6_e3m2fn": 63}
_LAST_CHARACTER = 0x10FFFF


def _bits_that_count(dtype: np.dtype[Any]) -> int | None:
    """The mask of elements smaller than their byte, or of complex numbers of them; None for all others."""
    names = {dtype.name} if dtype.fields is None else {field[0].name for field in dtype.fields.values()}
    return _BITS.get(names.pop()) if len(names) == 1 else None


@dataclass(frozen=True, slots=True)
class Bytes(ArrayBytesCodec):
    """Elements one after the other, in C order.

    Args:
        endian: "little" or "big"; None only where an element is a single byte, or raw bits.
    Source: Zarr v3, "Bytes codec".

    >>> array = zarrdock.create_array({}, data=[1, 2], serializer=zarrdock.Bytes("big"), compressors=None)
    >>> bytes(array.store.get("c/0").data)[:8].hex()
    '0000000000000001'
    """

    name: ClassVar[str] = "bytes"
    endian: Literal["little", "big"] | None = "little"

    def __post_init__(self) -> None:
        if self.endian is not None:
            expect_one_of(self.endian, "/endian", ("little", "big"))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Bytes:
        return cls(**{"endian": None, **known_members(configuration, ("endian",))})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **({"configuration": {"endian": self.endian}} if self.endian else {})}

    def with_defaults(self, spec: ChunkSpec) -> Bytes:
        """The codec as metadata should have it: without a byte order if none applies."""
        return self if has_byte_order(spec.dtype) else Bytes(None)

    def bind(self, spec: ChunkSpec) -> BoundBytes:
        if not has_byte_order(spec.dtype):
            return BoundBytes(spec, spec.dtype)
        if self.endian is None and spec.dtype.names is not None:
            # Structures were written without a byte order once, and meant this one.
            return BoundBytes(spec, spec.dtype.newbyteorder("<"))
        if self.endian is None:
            message = f"{spec.dtype} has a byte order"
            raise MetadataError(message, pointer="/configuration/endian", expected='"little" or "big"', found=None)
        return BoundBytes(spec, spec.dtype.newbyteorder("<" if self.endian == "little" else ">"))


class BoundBytes(BoundArrayBytes):
    """Elements of ``stored`` dtype, which is the chunk's up to byte order."""

    __slots__ = ("_checks", "_mask", "_nbytes", "_shape", "_stored", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, stored: np.dtype[Any]) -> None:
        if stored.hasobject or stored.kind == "T" or stored.itemsize == 0:
            raise MetadataError(f"the bytes codec stores elements of one fixed size; {stored} needs another codec")
        self.decoded = spec
        self.encoded = ByteSpec(spec.nbytes, spec.nbytes, stored.itemsize)
        self._nbytes = spec.nbytes
        self._shape = spec.shape
        self._stored = stored
        self._mask = _bits_that_count(stored)
        self._checks = stored.kind in "bU" or self._mask is not None

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype of the elements as they are stored."""
        return self._stored

    @property
    def checks_more_than_booleans(self) -> bool:
        """True if some bytes are no elements, or other ones: characters, and elements smaller than their byte."""
        return self._checks and self._stored.kind != "b"

    def encode(self, array: AnyArray) -> Buffer:
        if array.dtype != self._stored:
            if self._stored.kind in "mM" and array.dtype.newbyteorder() == self._stored:
                array = array.byteswap().view(self._stored)  # of times without a unit astype() would swap nothing
            else:
                array = array.astype(self._stored)
        # A view, not a copy, wherever the array is contiguous already.
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

    def decode(self, data: Buffer) -> AnyArray:
        if len(data) != self._nbytes:
            data = self._checked(data)
        array: AnyArray = np.ndarray(self._shape, self._stored, data)
        return self._sound(array) if self._checks else array

    def decode_joined(self, data: Buffer, n: int) -> AnyArray:
        """``n`` chunks that stand one behind the other: an array of one more axis."""
        array: AnyArray = np.ndarray((n, *self._shape), self._stored, data)
        return self._sound(array) if self._checks else array

    def _sound(self, array: AnyArray) -> AnyArray:
        """Elements for whose other bits numpy has no meaning: made ones that it knows, or refused."""
        if self._stored.kind == "U":
            points = array.reshape(-1).view(np.dtype(np.uint32).newbyteorder(self._stored.byteorder))
            if points.max(initial=0) > _LAST_CHARACTER:
                raise CodecError(f"{int(points.max()):#x} is no character", codec=Bytes.name)
            return array
        raw = array.reshape(-1).view(np.uint8)
        highest = raw.max(initial=0)
        if self._mask is None:
            # numpy's behaviour is undefined for booleans that are neither 0 nor 1.
            return array if highest <= 1 else np.not_equal(raw, 0).reshape(array.shape)
        return array if highest <= self._mask else (raw & np.uint8(self._mask)).view(self._stored).reshape(array.shape)

    def _checked(self, data: Buffer) -> Buffer:
        flat = as_bytes(data)
        if len(flat) != self._nbytes:
            what = f"a chunk of shape {self._shape} and dtype {self._stored}"
            raise CodecError(f"{len(flat)} bytes where {what} has {self._nbytes}", codec=Bytes.name)
        return flat
