"""Codecs that other packages register with numcodecs, as the compressors of Zarr v2 arrays.

numcodecs doesn't say of a codec whether it works on elements or on bytes, nor what it makes. A compressor is given the
chunk, in its shape, and gives bytes: only in that place is it known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from zarrdock.codecs.codec import AnyArray, ArrayBytesCodec, BoundArrayBytes, Buffer, ByteSpec, ChunkSpec, as_bytes
from zarrdock.codecs.numcodecs_ import StoredNumcodecsCodec, flat
from zarrdock.errors import CodecError, MetadataError

__all__ = ["ForeignCompressor", "foreign_compressor"]


@lru_cache
def _class(name: str) -> type[ForeignCompressor]:
    return type("ForeignCompressor", (ForeignCompressor,), {"name": f"numcodecs.{name}"})


def foreign_compressor(name: str) -> type[ForeignCompressor] | None:
    """The codec that numcodecs knows as ``name`` from another package; None where it does not."""
    from numcodecs import registry

    known = name in registry.codec_registry or name in registry.entries
    return _class(name) if known else None


@dataclass(frozen=True, init=False, repr=False)
class ForeignCompressor(StoredNumcodecsCodec, ArrayBytesCodec):
    """Elements to bytes, by numcodecs' object for it."""

    in_v3 = False

    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        stored = self.stored or spec.dtype
        if stored.hasobject or stored.kind == "T":
            raise MetadataError(f"{self.name} cannot be given {spec.dtype}")
        return _BoundForeign(self.name, self.implementation(), spec, stored)

    def __reduce__(self) -> Any:
        return _again, (self.numcodecs_id, self.configuration, self.stored)


def _again(name: str, configuration: dict[str, Any], stored: np.dtype[Any] | None) -> ForeignCompressor:
    codec = _class(name)(**configuration)
    return codec if stored is None else codec.with_stored(stored)


class _BoundForeign(BoundArrayBytes):
    __slots__ = ("_codec", "_name", "_stored", "decoded", "encoded")

    def __init__(self, name: str, codec: Any, spec: ChunkSpec, stored: np.dtype[Any]) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(ByteSpec(None, 2 * spec.nbytes))
        self._name = name
        self._codec = codec
        self._stored = stored

    def encode(self, array: AnyArray) -> Buffer:
        try:
            return flat(self._codec.encode(np.ascontiguousarray(array, self._stored)))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise CodecError(text, codec=self._name, direction="encode") from error

    def decode(self, data: Buffer) -> AnyArray:
        spec = self.decoded
        try:
            found = flat(self._codec.decode(bytes(as_bytes(data))))
        except Exception as error:
            raise CodecError(f"damaged: {type(error).__name__}: {error}", codec=self._name) from error
        if len(found) != spec.nbytes:
            raise CodecError(f"decoded to {len(found)} bytes, expected {spec.nbytes}", codec=self._name)
        return np.frombuffer(found, self._stored).reshape(spec.shape)
