"""numcodecs' array to bytes codecs: compressors of numbers, pcodec and zfp."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from zarrdock.codecs.base import AnyArray, ArrayBytesCodec, BoundArrayBytes, Buffer, ByteSpec, ChunkSpec
from zarrdock.codecs.numcodecs_ import flat
from zarrdock.codecs.numcodecs_base import NumcodecsCodec
from zarrdock.errors import CodecError, MetadataError

__all__ = ["PCodec", "Zfpy"]


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
