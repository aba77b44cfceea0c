"""The ``packbits`` codec: elements of a number of bits that is not whole bytes, without gaps between them."""

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
from zarrdock.codecs.element_bits import Element, element_of
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import expect_integer, expect_one_of, known_members

__all__ = ["BoundPackBits", "PackBits"]

_PADDINGS = ("none", "first_byte", "last_byte")
# Elements spread out to single bits at a time, where there is no shorter way: a multiple of 8, so that they end with a
# byte.
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class PackBits(ArrayBytesCodec):
    """Bits ``first_bit`` to ``last_bit`` of each element, the lowest first.

    Args:
        padding_encoding: "first_byte" or "last_byte" to store the number of bits that pad the last byte; or "none".
        first_bit, last_bit: what is kept of each number (of each part of a complex one), both included; None is all
            of it. Signed integers are extended by their sign when decoded, everything else by zeros.
    Source: Zarr extensions, codec ``packbits``.

    >>> array = zarrdock.create_array({}, data=np.ones(80, bool), serializer=zarrdock.PackBits(), compressors=None)
    >>> array.store.size("c/0")
    10
    """

    name: ClassVar[str] = "packbits"
    padding_encoding: Literal["none", "first_byte", "last_byte"] = "none"
    first_bit: int | None = None
    last_bit: int | None = None

    def __post_init__(self) -> None:
        expect_one_of(self.padding_encoding, "/padding_encoding", _PADDINGS)
        for name in ("first_bit", "last_bit"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, expect_integer(value, f"/{name}", 0, 63))
        if self.last_bit is not None and self.last_bit < (self.first_bit or 0):
            expected = f"at least first_bit, {self.first_bit or 0}"
            raise MetadataError(pointer="/last_bit", expected=expected, found=self.last_bit)

    @classmethod
    def from_json(cls, configuration: Configuration) -> PackBits:
        return cls(**known_members(configuration, ("padding_encoding", "first_bit", "last_bit")))

    def to_json(self) -> dict[str, Any]:
        members = {"padding_encoding": self.padding_encoding, "first_bit": self.first_bit, "last_bit": self.last_bit}
        given = {name: value for name, value in members.items() if value not in (None, "none")}
        return {"name": self.name, **({"configuration": given} if given else {})}

    def bind(self, spec: ChunkSpec) -> BoundPackBits:
        element = element_of(spec.dtype)
        if element is None:
            raise MetadataError(f"packbits packs booleans and numbers, not {spec.dtype}")
        first = self.first_bit or 0
        last = element.bits - 1 if self.last_bit is None else self.last_bit
        if not first <= last < element.bits:
            name = "first_bit" if self.last_bit is None else "last_bit"
            expected = f"a bit of {spec.dtype}, which has {element.bits}"
            raise MetadataError(pointer=f"/configuration/{name}", expected=expected, found=getattr(self, name))
        return BoundPackBits(spec, element, first, last - first + 1, self.padding_encoding)


class BoundPackBits(BoundArrayBytes):
    """``width`` bits of each component, from bit ``first`` on."""

    __slots__ = ("_element", "_first", "_n", "_nbytes", "_padding", "_padding_bits", "_width", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, element: Element, first: int, width: int, padding: str) -> None:
        self.decoded = spec
        self._element = element
        self._first = first
        self._width = width
        self._padding = padding
        self._n = spec.size * element.n_components
        self._nbytes = -(-self._n * width // 8)
        self._padding_bits = 8 * self._nbytes - self._n * width
        nbytes = self._nbytes + (padding != "none")
        self.encoded = ByteSpec(nbytes, nbytes)

    def encode(self, array: AnyArray) -> Buffer:
        values = self._element.raw_of(array)
        if self._element.kind == "b":
            data = np.packbits(values.view(bool), bitorder="little").tobytes()
        else:
            unsigned = values.dtype.type
            if self._first:
                values = values >> unsigned(self._first)
            if self._width < 8 * values.itemsize:
                values = values & unsigned((1 << self._width) - 1)
            data = _pack(values, self._width)
        if self._padding == "none":
            return data
        count = bytes((self._padding_bits,))
        return count + data if self._padding == "first_byte" else data + count

    def decode(self, data: Buffer) -> AnyArray:
        view = memoryview(as_bytes(data))
        if len(view) != self.encoded.limit:
            what = f"a chunk of shape {self.decoded.shape} and dtype {self.decoded.dtype}"
            raise CodecError(f"{len(view)} bytes where {what} has {self.encoded.limit}", codec=PackBits.name)
        if self._padding != "none":
            first = self._padding == "first_byte"
            count, view = (view[0], view[1:]) if first else (view[-1], view[:-1])
            if count != self._padding_bits:
                text = f"{count} bits of padding, where {self._n} numbers of {self._width} bits need "
                raise CodecError(f"{text}{self._padding_bits}", codec=PackBits.name)
        packed = np.frombuffer(view, np.uint8)
        element = self._element
        if element.kind == "b":
            return np.unpackbits(packed, count=self._n, bitorder="little").view(bool).reshape(self.decoded.shape)
        values = _unpack(packed, self._n, self._width, element.raw)
        unsigned = values.dtype.type
        if self._first:
            values <<= unsigned(self._first)
        top = self._first + self._width
        if element.kind == "i" and top < element.bits:
            negative = values >> unsigned(top - 1) & unsigned(1)
            values |= negative * unsigned((1 << element.bits) - (1 << top))
        return values.view(element.native).reshape(self.decoded.shape)


def _pack(values: AnyArray, width: int) -> bytes:
    """Unsigned integers below ``2**width`` as a sequence of bits."""
    if width == 8 * values.itemsize:
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    if width in (8, 16, 32):
        return values.astype(f"<u{width // 8}").tobytes()
    if width in (1, 2, 4):
        per_byte = 8 // width
        padded = np.zeros(-(-len(values) // per_byte) * per_byte, np.uint8)
        padded[: len(values)] = values
        packed = padded[::per_byte].copy()
        for i in range(1, per_byte):
            packed |= padded[i::per_byte] << np.uint8(i * width)
        return packed.tobytes()
    positions = np.arange(width, dtype=values.dtype)
    one = values.dtype.type(1)
    parts = []
    for start in range(0, len(values), _BLOCK):
        bits = values[start : start + _BLOCK, None] >> positions & one
        parts.append(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes())
    return b"".join(parts)


def _unpack(packed: AnyArray, n: int, width: int, dtype: np.dtype[Any]) -> AnyArray:
    """The inverse: ``n`` integers of ``dtype``, newly made."""
    if width in (8, 16, 32, 64):
        return packed.view(f"<u{width // 8}").astype(dtype)
    if width in (1, 2, 4):
        per_byte = 8 // width
        out = np.empty(len(packed) * per_byte, np.uint8)
        for i in range(per_byte):
            out[i::per_byte] = packed >> np.uint8(i * width) & np.uint8((1 << width) - 1)
        return out[:n].astype(dtype, copy=False)
    values = np.empty(n, dtype)
    weights = np.left_shift(dtype.type(1), np.arange(width, dtype=dtype))
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        block = packed[start * width // 8 : -(-stop * width // 8)]
        bits = np.unpackbits(block, count=(stop - start) * width, bitorder="little")
        values[start:stop] = (bits.reshape(-1, width) * weights).sum(1, dtype=dtype)
    return values
