"""The ``vlen-utf8`` and ``vlen-bytes`` codecs: a count, then each element behind its length.

Elements are text (numpy's ``StringDType``, or ``str`` objects) or ``bytes`` objects. How long a chunk is, its shape
can't tell; what it may at most decompress to is therefore a limit of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final, Self

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
    no_configuration,
)
from zarrdock.errors import CodecError, MetadataError

__all__ = ["MAX_NBYTES", "BoundVlen", "VlenBytes", "VlenUtf8", "checked_count"]

#: Bytes of a chunk of elements of variable length, at most: what compressors here can take.
MAX_NBYTES: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Vlen(ArrayBytesCodec):
    """Base of both codecs: a name, and no configuration."""

    kinds: ClassVar[str]  # numpy's, of what it stores
    stores: ClassVar[str]
    implementation: ClassVar[str]

    @classmethod
    def from_json(cls, configuration: Configuration) -> Self:
        no_configuration(configuration)
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def bind(self, spec: ChunkSpec) -> BoundVlen:
        if spec.dtype.kind not in self.kinds:
            raise MetadataError(f"{self.name} stores {self.stores}, not {spec.dtype}")
        return BoundVlen(self.name, getattr(import_module("numcodecs.vlen"), self.implementation)(), spec)


@dataclass(frozen=True, slots=True)
class VlenUtf8(_Vlen):
    """Text in UTF-8. Where an element is None or 0, which v2 arrays of objects are filled with, "" is stored.

    Source: Zarr extensions, codec ``vlen-utf8``.

    >>> array = zarrdock.create_array({}, shape=2, dtype="string", serializer=zarrdock.VlenUtf8())
    >>> array[:] = ["one", "three"]
    >>> array[...].tolist()
    ['one', 'three']
    """

    name: ClassVar[str] = "vlen-utf8"
    kinds: ClassVar[str] = "OT"
    stores: ClassVar[str] = "text of variable length"
    implementation: ClassVar[str] = "VLenUTF8"


@dataclass(frozen=True, slots=True)
class VlenBytes(_Vlen):
    """Bytes. Where an element is None or 0, which v2 arrays of objects are filled with, b"" is stored.

    Source: Zarr extensions, codec ``vlen-bytes``.

    >>> array = zarrdock.create_array({}, shape=2, dtype="bytes", serializer=zarrdock.VlenBytes())
    >>> array[:] = [b"a", b"bcd"]
    >>> array[...].tolist()
    [b'a', b'bcd']
    """

    name: ClassVar[str] = "vlen-bytes"
    kinds: ClassVar[str] = "O"
    stores: ClassVar[str] = "bytes objects"
    implementation: ClassVar[str] = "VLenBytes"


class BoundVlen(BoundArrayBytes):
    """numpy's objects on one side, numcodecs' format on the other."""

    __slots__ = ("_codec", "_name", "decoded", "encoded")

    def __init__(self, name: str, codec: Any, spec: ChunkSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec(None, min(4 + spec.size * (2**32 + 3), MAX_NBYTES))
        self._name = name
        self._codec = codec

    def encode(self, array: AnyArray) -> Buffer:
        # Flat and contiguous, as numcodecs would otherwise flatten in the order of the memory.
        flat = np.ascontiguousarray(array).reshape(-1)
        flat = flat.astype(object, copy=not flat.flags.writeable)  # numcodecs wants to be able to write to it
        try:
            encoded = memoryview(self._codec.encode(flat))
        except (TypeError, ValueError) as error:
            raise CodecError(str(error), codec=self._name, direction="encode") from error
        if len(encoded) > MAX_NBYTES:
            message = f"{len(encoded)} bytes in one chunk, of {MAX_NBYTES} possible; use smaller chunks"
            raise CodecError(message, codec=self._name, direction="encode")
        return encoded

    def decode(self, data: Buffer) -> AnyArray:
        flat = checked_count(data, self.decoded, self._name)
        try:
            decoded: AnyArray = self._codec.decode(flat)
        except Exception as error:  # SystemError, too, for a length of more than 2 GiB
            raise CodecError(f"damaged: {error}", codec=self._name) from error
        return decoded.astype(self.decoded.dtype, copy=False).reshape(self.decoded.shape)


def checked_count(data: Buffer, spec: ChunkSpec, codec: str) -> Buffer:
    """The bytes, flat, whose first four are the number of elements that the chunk has.

    Raises:
        CodecError: they are not: nothing must be allocated for that many.
    """
    flat = as_bytes(data)
    n = int.from_bytes(flat[:4], "little")
    if len(flat) < 4 or n != spec.size or 4 * (n + 1) > len(flat):
        found = f"{n} elements in " if len(flat) >= 4 else ""
        message = f"{found}{len(flat)} bytes, expected {spec.size} elements in at least {4 * (spec.size + 1)} bytes"
        raise CodecError(message, codec=codec)
    return flat
