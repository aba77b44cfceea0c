"""The array to array codecs of numcodecs, as zarr-python names them.

All of them begin by looking at the chunk's bytes, in C order, as elements of the ``dtype`` in their configuration. It
need not be the array's: so it is done here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any, Self

import numpy as np

from zarrdock.codecs.codec import (
    AnyArray,
    ArrayArrayCodec,
    ArrayBytesCodec,
    BoundArrayArray,
    BoundArrayBytes,
    Buffer,
    ByteSpec,
    ChunkSpec,
)
from zarrdock.codecs.numcodecs_ import NumcodecsCodec, StoredNumcodecsCodec, flat
from zarrdock.errors import CodecError, MetadataError

__all__ = [
    "AsType",
    "BitRound",
    "Delta",
    "FixedScaleOffset",
    "NumcodecsFilter",
    "PCodec",
    "PackBits",
    "Quantize",
    "Zfpy",
]


@dataclass(frozen=True, init=False, repr=False)
class NumcodecsFilter(StoredNumcodecsCodec, ArrayArrayCodec):
    """Array to array."""

    def with_defaults(self, spec: ChunkSpec) -> Self:
        """Fill in the chunk's data type if it was omitted."""
        return self

    def dtypes(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """The dtype the filter reads elements of ``dtype`` as, and the dtype of its output."""
        return dtype, dtype

    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        codec = self.with_defaults(spec)
        stored = self.stored or spec.dtype
        if stored.itemsize != spec.dtype.itemsize or stored.hasobject:
            raise MetadataError(f"{self.name} cannot work on {spec.dtype}")
        seen, made = codec.dtypes(stored)
        if self.stored is None and seen.newbyteorder("=") == stored.newbyteorder("="):
            stored = seen  # In Zarr v3 elements have no byte order: the one that is named is the codec's own affair.
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
        except (TypeError, ValueError, SyntaxError) as error:  # numpy parses lists of types as Python
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
    """Base of filters with ``dtype``, the type of their input, and ``astype``, the type of their output."""

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
    """Filter that converts to another data type."""

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
            raise CodecError(f"encoding gave {encoded.size} elements", codec=self._name, direction="encode")
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


# -- numcodecs' array to bytes codecs: compressors of numbers, pcodec and zfp.


class PCodec(NumcodecsCodec, ArrayBytesCodec):
    """pcodec: numbers of 16 to 64 bits."""

    name = "numcodecs.pcodec"

    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        native = spec.dtype if spec.dtype.kind == "T" else spec.dtype.newbyteorder("=")
        if native.kind not in "iuf" or native.itemsize not in (2, 4, 8):
            raise MetadataError(f"pcodec compresses integers and floats of 16 to 64 bits, not {spec.dtype}")
        codec = self.implementation()
        standalone = import_module("pcodec").standalone

        def decode(data: bytes, out: AnyArray) -> None:
            progress = standalone.simple_decompress_into(data, out.reshape(-1))
            if progress.n_processed != out.size or not progress.finished:
                raise ValueError(f"{'more' if not progress.finished else progress.n_processed} elements")

        return _BoundNumbers(self.name, codec, spec, native, decode)


# Those that numcodecs can write.
_ZFP_MODES = (2, 3, 4)
# What fixed accuracy becomes with a tolerance below zero, which is numcodecs' default: without loss.
_ZFP_REVERSIBLE = 5


class Zfpy(NumcodecsCodec, ArrayBytesCodec):
    """zfp: chunks of one to four dimensions, of integers and floats of 32 and 64 bits."""

    name = "numcodecs.zfpy"

    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        native = spec.dtype if spec.dtype.kind == "T" else spec.dtype.newbyteorder("=")
        if native.kind not in "if" or native.itemsize not in (4, 8) or not 1 <= len(spec.shape) <= 4:
            message = "zfp compresses 1 to 4 dimensions of signed integers or floats of 32 or 64 bits"
            raise MetadataError(f"{message}, not {len(spec.shape)} of {spec.dtype}")
        codec = self.implementation()
        if codec.mode not in _ZFP_MODES:
            found = codec.mode
            expected = "2 (fixed rate), 3 (fixed precision) or 4 (fixed accuracy)"
            raise MetadataError(pointer="/configuration/mode", expected=expected, found=found)
        zfpy = import_module("zfpy")

        # The library does not look where its input ends. So behind it there are zeros, as many as it could read for all
        # blocks of 4 elements a side, and a rate that goes beyond is refused: it moves on by so many bits a block.
        block_nbytes = int(2 * native.itemsize + 16) * 4 ** len(spec.shape)
        padding = bytes(prod(-(-n // 4) for n in spec.shape) * block_nbytes)

        def decode(data: bytes, out: AnyArray) -> None:
            padded = data + padding
            header = zfpy.header(padded)
            shape = tuple(header[name] for name in ("nw", "nz", "ny", "nx") if header[name])
            if shape != out.shape or header["type"] != out.dtype:
                raise ValueError(f"found shape {shape} of {np.dtype(header['type'])}")
            config = header["config"]
            if (
                config["mode"] not in (*_ZFP_MODES, _ZFP_REVERSIBLE)
                or config["rate"] * 4 ** len(shape) > 8 * block_nbytes
            ):
                raise ValueError(f"found mode {header['mode']!r} and rate {config['rate']}")
            np.copyto(out, zfpy.decompress_numpy(padded))

        return _BoundNumbers(self.name, codec, spec, native, decode)


class _BoundNumbers(BoundArrayBytes):
    __slots__ = ("_codec", "_decode", "_name", "_native", "decoded", "encoded")

    def __init__(
        self,
        name: str,
        codec: Any,
        spec: ChunkSpec,
        native: np.dtype[Any],
        decode: Callable[[bytes, AnyArray], None],
    ) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(ByteSpec(spec.nbytes, spec.nbytes, spec.dtype.itemsize))
        self._name = name
        self._codec = codec
        self._native = native
        self._decode = decode

    def encode(self, array: AnyArray) -> Buffer:
        try:
            return flat(self._codec.encode(np.ascontiguousarray(array, self._native)))
        except Exception as error:
            raise CodecError(str(error), codec=self._name, direction="encode") from error

    def decode(self, data: Buffer) -> AnyArray:
        out: AnyArray = np.empty(self.decoded.shape, self._native)
        try:
            self._decode(bytes(data), out)
        except Exception as error:
            expected = f"expected shape {out.shape} of {out.dtype}"
            raise CodecError(f"damaged, or another chunk: {error}; {expected}", codec=self._name) from error
        return out
