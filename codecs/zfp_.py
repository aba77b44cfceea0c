"""The ``zfp`` codec: numbers with a stated error, or without one. A zfp stream without a header.

The library wants a header to decode anything that it has no shorthand for, so one is put in front, of the chunk's
shape and the configuration. It does not look where its input ends either: see :func:`block_nbytes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any, ClassVar, Final, Literal

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
from zarrdock.errors import CodecError, MetadataError, UnknownExtensionError
from zarrdock.json_ import expect_integer, expect_one_of, known_members

__all__ = ["BoundZfp", "Zfp", "block_nbytes"]

_MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "reversible": (),
    "expert": ("minbits", "maxbits", "maxprec", "minexp"),
    "fixed_accuracy": ("tolerance",),
    "fixed_rate": ("rate",),
    "fixed_precision": ("precision",),
}
_RANGES: Final = {
    "minbits": (0, 2**15),
    "maxbits": (1, 2**15),
    "maxprec": (1, 2**7),
    "minexp": (-16495, 2**15 - 16496),
    "precision": (1, 2**7),
}
_TYPES: Final = {"int32": 1, "int64": 2, "float32": 3, "float64": 4}
# What an axis may have, by the number of dimensions: the header gives all of them 48 bits together.
_SIZE_BITS: Final = {1: 48, 2: 24, 3: 16, 4: 12}


def block_nbytes(itemsize: int, ndim: int) -> int:
    """More than the library can read for a block of 4 elements a side, whatever it reads: for each of the planes of
    bits, a bit for each element and as many to tell groups apart.
    """
    n_elements: int = 4**ndim
    return (2 * itemsize + 16) * n_elements


@dataclass(frozen=True, slots=True)
class Zfp(ArrayBytesCodec):
    """zfp: chunks of one to four dimensions.

    Integers of less than 32 bits and small floats are stored as larger ones. Unsigned integers of 32 and 64 bits are
    stored as signed ones, which have no room for the upper half of their values.

    Args:
        mode: "reversible", without loss; "fixed_accuracy", with a ``tolerance``, absolute; "fixed_rate", with a
            ``rate`` in bits an element; "fixed_precision", with a ``precision`` in bits; "expert", with ``minbits``,
            ``maxbits``, ``maxprec`` and ``minexp``, which can be read only.
    Source: Zarr extensions, codec ``zfp``; zfp 1.0, "Compression modes", "Header".

    >>> codec = zarrdock.Zfp("fixed_accuracy", tolerance=0.01)
    >>> array = zarrdock.create_array({}, data=np.linspace(0, 1, 64), serializer=codec, compressors=None)
    >>> bool(abs(array[...] - np.linspace(0, 1, 64)).max() < 0.01)
    True
    """

    name: ClassVar[str] = "zfp"
    mode: Literal["reversible", "expert", "fixed_accuracy", "fixed_rate", "fixed_precision"] = "reversible"
    tolerance: float | None = None
    rate: float | None = None
    precision: int | None = None
    minbits: int | None = None
    maxbits: int | None = None
    maxprec: int | None = None
    minexp: int | None = None

    def __post_init__(self) -> None:
        expect_one_of(self.mode, "/mode", tuple(_MEMBERS))
        wanted = _MEMBERS[self.mode]
        for name in ("tolerance", "rate", "precision", "minbits", "maxbits", "maxprec", "minexp"):
            value = getattr(self, name)
            if name not in wanted:
                if value is not None:
                    raise MetadataError(pointer=f"/{name}", expected=f"nothing in mode {self.mode}", found=value)
            elif name in _RANGES:
                object.__setattr__(self, name, expect_integer(value, f"/{name}", *_RANGES[name]))
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise MetadataError(pointer=f"/{name}", expected="a positive number", found=value)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Zfp:
        mode = configuration.get("mode")
        expect_one_of(mode, "/mode", tuple(_MEMBERS))
        return cls(**known_members(configuration, ("mode", *_MEMBERS[str(mode)])))

    def to_json(self) -> dict[str, Any]:
        members = {"mode": self.mode, **{name: getattr(self, name) for name in _MEMBERS[self.mode]}}
        return {"name": self.name, "configuration": members}

    def bind(self, spec: ChunkSpec) -> BoundZfp:
        element = element_of(np.dtype(np.int64) if spec.dtype.kind in "mM" else spec.dtype)
        shape = spec.shape or (1,)
        if element is None or element.kind == "b" or element.n_components != 1 or len(shape) > 4:
            message = "zfp compresses 1 to 4 dimensions of integers or floats"
            raise MetadataError(f"{message}, not {len(shape)} of {spec.dtype}")
        if self.mode == "fixed_accuracy" and element.kind != "f":
            expected = f"another mode: zfp has a fixed accuracy for floats only, not for {spec.dtype}"
            raise MetadataError(pointer="/configuration/mode", expected=expected, found=self.mode)
        if not all(0 < n <= 2 ** _SIZE_BITS[len(shape)] for n in shape):
            raise MetadataError(f"zfp has no chunks of shape {spec.shape}")
        try:
            library = import_module("zfpy")
        except ImportError as error:
            hint = 'it needs zfpy: pip install "zarrdock[codecs]"'
            raise UnknownExtensionError("codec", self.name, hint=hint, pointer="/name") from error
        return BoundZfp(self, spec, element, shape, library)


class BoundZfp(BoundArrayBytes):
    """``_stored`` is the type zfp sees."""

    __slots__ = (
        "_arguments", "_decompress", "_element", "_expert", "_header", "_padding", "_shape", "_stored", "_write",
        "decoded", "encoded",
    )  # fmt: skip

    def __init__(self, codec: Zfp, spec: ChunkSpec, element: Element, shape: tuple[int, ...], library: Any) -> None:
        self.decoded = spec
        self._element = element
        self._shape = shape
        wide = element.bits > 32
        self._stored = np.dtype(f"{'f' if element.kind == 'f' else 'i'}{8 if wide else 4}")
        per_block = block_nbytes(self._stored.itemsize, len(shape))
        bits = codec.maxbits if codec.mode == "expert" else (codec.rate or 0) * 4 ** len(shape)
        assert bits is not None
        if bits > 8 * per_block or (codec.minbits or 0) > (codec.maxbits or 0):
            member = "rate" if codec.mode == "fixed_rate" else "maxbits"
            expected = f"minbits at least, and at most {8 * per_block} bits for {4 ** len(shape)} elements"
            raise MetadataError(pointer=f"/configuration/{member}", expected=expected, found=getattr(codec, member))
        n_blocks = prod(-(-n // 4) for n in shape)
        self._padding = bytes(n_blocks * per_block + 16)
        self.encoded = ByteSpec(None, n_blocks * per_block + 64)
        self._write = library.compress_numpy
        self._decompress = library.decompress_numpy
        given = {name: getattr(codec, name) for name in ("tolerance", "rate", "precision")}
        self._arguments = {name: value for name, value in given.items() if value is not None}
        self._expert = codec.mode == "expert"
        if self._expert:
            self._header = _long_header(codec, self._stored, shape), 148
        else:
            # It says nothing of the values.
            self._header = _header(self._write(np.zeros(shape, self._stored), write_header=True, **self._arguments))

    def encode(self, array: AnyArray) -> Buffer:
        if self._expert:
            message = "the zfp library for Python cannot write mode 'expert'; use another mode"
            raise CodecError(message, codec=Zfp.name, direction="encode")
        values = self._promoted(array).reshape(self._shape)
        try:
            encoded: bytes = self._write(np.ascontiguousarray(values), write_header=False, **self._arguments)
        except Exception as error:
            raise CodecError(str(error), codec=Zfp.name, direction="encode") from error
        return encoded

    def decode(self, data: Buffer) -> AnyArray:
        flat = as_bytes(data)
        if not len(flat) or len(flat) > self.encoded.limit:
            raise CodecError(f"{len(flat)} bytes, expected 1 to {self.encoded.limit}", codec=Zfp.name)
        header, n_bits = self._header
        if n_bits % 8:
            shifted = header | int.from_bytes(flat, "little") << n_bits
            front = shifted.to_bytes(len(flat) + n_bits // 8 + 1, "little")
        else:
            front = header.to_bytes(n_bits // 8, "little") + flat
        try:
            values: AnyArray = self._decompress(front + self._padding)
        except Exception as error:
            raise CodecError(f"damaged: {error}", codec=Zfp.name) from error
        if values.shape != self._shape or values.dtype != self._stored:
            raise CodecError(f"decoded to shape {values.shape} of {values.dtype}", codec=Zfp.name)
        return self._demoted(values).reshape(self.decoded.shape)

    def _promoted(self, array: AnyArray) -> AnyArray:
        element = self._element
        values = array.astype(self.decoded.dtype.newbyteorder("="), copy=False)
        if element.kind == "f" or element.bits >= 32:
            if element.kind == "u" and values.size and int(values.max()) > np.iinfo(self._stored).max:
                message = f"{values.max()} is beyond what zfp has for {element.native}: {np.iinfo(self._stored).max}"
                raise CodecError(message, codec=Zfp.name, direction="encode")
            return values.astype(self._stored)
        centre = 1 << element.bits - 1 if element.kind == "u" else 0
        narrow = values.astype(np.int8) if element.bits < 8 else values
        return (narrow.astype(np.int32) - np.int32(centre)) << np.int32(31 - element.bits)

    def _demoted(self, values: AnyArray) -> AnyArray:
        element = self._element
        native = self.decoded.dtype.newbyteorder("=")
        if element.kind == "f" or element.bits >= 32:
            if element.kind == "u":
                values = np.maximum(values, 0)
            with np.errstate(over="ignore"):
                return values.astype(native, copy=False)
        low, high = element.limits()
        centre = 1 << element.bits - 1 if element.kind == "u" else 0
        narrow = np.clip((values >> np.int32(31 - element.bits)) + np.int32(centre), low, high)
        demoted: AnyArray = narrow.astype(np.int8).astype(native) if element.bits < 8 else narrow.astype(native)
        return demoted


def _header(data: bytes) -> tuple[int, int]:
    """The header of a stream, and its bits: the mode in 12 of them, or all ones and the mode in full."""
    start = int.from_bytes(data[:19], "little")
    n_bits = 148 if start >> 84 & 0xFFF == 0xFFF else 96
    return start & (1 << n_bits) - 1, n_bits


def _long_header(codec: Zfp, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """A header in full, 148 bits of it: magic number, type and shape, mode."""
    assert None not in (codec.minbits, codec.maxbits, codec.maxprec, codec.minexp)
    magic = int.from_bytes(b"zfp\x05", "little")
    sizes = 0
    for n in shape:  # the last axis is zfp's x, and lowest
        sizes = sizes << _SIZE_BITS[len(shape)] | (n - 1)
    meta = (sizes << 2 | len(shape) - 1) << 2 | _TYPES[dtype.name] - 1
    mode = codec.minexp + 16495  # type: ignore[operator]
    mode = mode << 7 | codec.maxprec - 1  # type: ignore[operator]
    mode = mode << 15 | codec.maxbits - 1  # type: ignore[operator]
    mode = mode << 15 | max(codec.minbits, 1) - 1  # type: ignore[type-var,operator]
    mode = mode << 12 | 0xFFF
    return mode << 84 | meta << 32 | magic
