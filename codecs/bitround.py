"""The ``bitround`` codec: fewer bits of precision, so that compressors find more to do. Lossy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zarrdock.codecs.codec import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.codecs.element_bits import Element, element_of
from zarrdock.errors import MetadataError
from zarrdock.json_ import expect_integer, known_members

__all__ = ["BitRound", "BoundBitRound"]


@dataclass(frozen=True, slots=True)
class BitRound(ArrayArrayCodec):
    """Rounds to nearest, ties to even, on encoding; decoding changes nothing.

    Args:
        keepbits: bits that stay. Of floats, of the mantissa; of integers, counted from the highest bit that is set, of
            the magnitude where they are signed. Where rounding up has no representation, an integer is rounded down.
            What is not finite stays as it is.
    Source: Zarr extensions, codec ``bitround``.

    >>> array = zarrdock.create_array({}, data=[1.23456, 2.5], filters=[zarrdock.BitRound(keepbits=4)])
    >>> array[...].tolist()
    [1.25, 2.5]
    """

    name: ClassVar[str] = "bitround"
    keepbits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "keepbits", expect_integer(self.keepbits, "/keepbits", 1, 64))

    @classmethod
    def from_json(cls, configuration: Configuration) -> BitRound:
        return cls(**{"keepbits": None, **known_members(configuration, ("keepbits",))})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"keepbits": self.keepbits}}

    def bind(self, spec: ChunkSpec) -> BoundBitRound:
        dtype = np.dtype(np.int64) if spec.dtype.kind in "mM" else spec.dtype
        element = element_of(dtype)
        if element is None or element.kind == "b" or element.bits < 8 or (element.kind == "f" and element.bits < 16):
            raise MetadataError(f"bitround rounds integers and floats of 16 bits and more, not {spec.dtype}")
        return BoundBitRound(spec, element, self.keepbits)


class BoundBitRound(BoundArrayArray):
    """Chunks of the same shape and dtype on both sides."""

    __slots__ = ("_element", "_keepbits", "_native", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, element: Element, keepbits: int) -> None:
        self.decoded = spec
        self._element = element
        self._keepbits = keepbits
        self._native = spec.dtype.newbyteorder("=")
        fill = self.encode(np.full((1,), spec.fill_value, spec.dtype))[0]
        self.encoded = ChunkSpec(spec.shape, self._native, fill)

    def encode(self, array: AnyArray) -> AnyArray:
        element = self._element
        flat = np.ascontiguousarray(array, self._native).reshape(-1)
        raw = flat.view(element.raw)
        if element.kind == "f":
            rounded = _round_floats(raw, element, self._keepbits)
        elif element.kind == "u":
            rounded = _round_integers(raw, self._keepbits, int(np.iinfo(element.raw).max))
        else:
            negative = flat.view(element.native) < 0
            magnitude = np.where(negative, -raw, raw)
            rounded = _round_integers(magnitude, self._keepbits, element.limits()[1] + negative.astype(element.raw))
            rounded = np.where(negative, -rounded, rounded)
        return rounded.view(self._native).reshape(array.shape)

    def decode(self, array: AnyArray) -> AnyArray:
        return array


def _round_floats(raw: AnyArray, element: Element, keepbits: int) -> AnyArray:
    drop = element.mantissa - keepbits
    if drop <= 0:
        return raw
    unsigned = raw.dtype.type
    half = unsigned((1 << (drop - 1)) - 1)
    mask = unsigned((1 << element.bits) - (1 << drop))
    exponent = unsigned((1 << element.bits - 1) - (1 << element.mantissa))
    rounded = (raw + ((raw >> unsigned(drop) & unsigned(1)) + half)) & mask
    # A NaN must not be carried over into an infinity, or round to a zero.
    return np.where((raw & exponent) == exponent, raw, rounded)


def _round_integers(raw: AnyArray, keepbits: int, largest: Any) -> AnyArray:
    """Round unsigned integers; no result exceeds ``largest``."""
    one = raw.dtype.type(1)
    below = raw.copy()
    for step in (1, 2, 4, 8, 16, 32):
        if step < 8 * raw.itemsize:
            below |= below >> raw.dtype.type(step)
    # ``below`` has every bit set from the highest one down.
    width = np.bitwise_count(below)
    drop = np.where(width > keepbits, width - keepbits, 0).astype(raw.dtype)
    unit = one << drop
    rest = raw & (unit - one)
    base = raw - rest
    half = unit >> one
    up = (rest > half) | ((rest == half) & (half > 0) & ((raw >> drop & one) == one))
    up &= base <= largest - (unit - one) - one
    rounded: AnyArray = base + np.where(up, unit, raw.dtype.type(0))
    return rounded
