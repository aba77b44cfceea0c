"""The ``gzip`` codec, and ``numcodecs.zlib``, which is the same compression in another envelope.

libdeflate decodes twice as fast as zlib, but only into a buffer of known size, and says nothing of what is behind the
first member. So it is used where the size is known, and its result counts only if the stream's last bytes are the
checksum of it. Everything else goes through zlib, member by member, in bounds.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import deflate

from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration
from zarrdock.codecs.decompress import decode_streams
from zarrdock.json_ import expect_integer, known_members

__all__ = ["BoundGzip", "BoundZlib", "Gzip", "Zlib"]

# No stream becomes larger (zlib's technical notes): a few bytes take no memory for what a document claims of them.
_MAX_RATIO = 1032


@dataclass(frozen=True, slots=True)
class Gzip(BytesBytesCodec):
    """Gzip, RFC 1952.

    Args:
        level: 0 (stored) to 9.
    Source: Zarr v3, "Gzip codec".

    >>> array = zarrdock.create_array({}, data=np.zeros(1000) + 1, compressors=zarrdock.Gzip(level=9))
    >>> array.compressors
    (Gzip(level=9),)
    """

    name: ClassVar[str] = "gzip"
    level: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", expect_integer(self.level, "/level", 0, 9))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Gzip:
        return cls(**known_members(configuration, ("level",)))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"level": self.level}}

    def bind(self, spec: ByteSpec) -> BoundGzip:
        return BoundGzip(self.name, self.level, spec)


@dataclass(frozen=True, slots=True)
class Zlib(BytesBytesCodec):
    """Zlib, RFC 1950, under the name zarr-python gives it.

    Args:
        level: 0 (stored) to 9; -1 is the library's default (6).
    """

    name: ClassVar[str] = "numcodecs.zlib"
    level: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", expect_integer(self.level, "/level", -1, 9))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Zlib:
        return cls(**known_members(configuration, ("level",)))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"level": self.level}}

    def bind(self, spec: ByteSpec) -> BoundZlib:
        return BoundZlib(self.name, 6 if self.level < 0 else self.level, spec)


class _BoundDeflate(BoundBytesBytes):
    """Base of the gzip and zlib codecs, which differ in the envelope around the deflate stream."""

    __slots__ = ("_exact", "_level", "_name", "decoded", "encoded")
    makes_new = True

    _wbits: ClassVar[int]
    _several: ClassVar[bool]

    def __init__(self, name: str, level: int, spec: ByteSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(spec)
        self._name = name
        self._level = level
        self._exact = spec.exact

    @property
    def compiled_options(self) -> tuple[int, ...] | None:
        return (self._level,) if self._level else None

    def _decode_members(self, data: Buffer) -> bytes:
        return decode_streams(
            data,
            lambda: zlib.decompressobj(self._wbits),
            (zlib.error,),
            spec=self.decoded,
            codec=self._name,
            several=self._several,
        )


class BoundGzip(_BoundDeflate):
    """Gzip members hold CRC-32 and length of their content at the end, little-endian."""

    __slots__ = ()
    compiled = "gzip"

    _wbits = 31
    _several = True

    def encode(self, data: Buffer) -> Buffer:
        # Older releases of deflate have no level 0.
        return deflate.gzip_compress(data, self._level) if self._level else zlib.compress(data, 0, self._wbits)

    def decode(self, data: Buffer) -> Buffer:
        size = self._exact
        if size and size <= _MAX_RATIO * len(data) and size == int.from_bytes(data[-4:], "little"):
            try:
                content = deflate.gzip_decompress(data, size)
            except deflate.DeflateError:
                return self._decode_members(data)
            if len(content) == size and deflate.crc32(content) == int.from_bytes(data[-8:-4], "little"):
                return content
        return self._decode_members(data)


class BoundZlib(_BoundDeflate):
    """Zlib streams hold the Adler-32 of their content at the end, big-endian."""

    __slots__ = ()
    compiled = "zlib"

    _wbits = 15
    _several = False

    def encode(self, data: Buffer) -> Buffer:
        return deflate.zlib_compress(data, self._level) if self._level else zlib.compress(data, 0, self._wbits)

    def decode(self, data: Buffer) -> Buffer:
        size = self._exact
        if size and size <= _MAX_RATIO * len(data):
            try:
                content = deflate.zlib_decompress(data, size)
            except deflate.DeflateError:
                return self._decode_members(data)
            if len(content) == size and deflate.adler32(content) == int.from_bytes(data[-4:], "big"):
                return content
        return self._decode_members(data)
