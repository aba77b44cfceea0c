"""The ``gzip`` codec, and ``numcodecs.zlib``, which is the same compression in another envelope.

libdeflate decodes twice as fast as zlib, but only into a buffer of known size, and says nothing of what is behind the
first member. So it is used where the size is known, or claimed by the trailer within the limit, and its result counts
only if the stream's last bytes are the checksum of it. Everything else goes through zlib, member by member, in bounds.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import deflate

from zarrdock.codecs.base import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration
from zarrdock.codecs.fields import integer, known_members
from zarrdock.errors import CodecError

__all__ = ["BoundGzip", "BoundZlib", "Gzip", "Zlib"]

# zlib copies the input it has not used: small blocks keep many tiny members from costing the square of their number.
_BLOCK_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Gzip(BytesBytesCodec):
    """Gzip, RFC 1952.

    Args:
        level: 0 (stored) to 9.
    Source: Zarr v3, "Gzip codec".
    """

    name: ClassVar[str] = "gzip"
    level: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", integer("level", self.level, 0, 9))

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
        object.__setattr__(self, "level", integer("level", self.level, -1, 9))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Zlib:
        return cls(**known_members(configuration, ("level",)))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"level": self.level}}

    def bind(self, spec: ByteSpec) -> BoundZlib:
        return BoundZlib(self.name, 6 if self.level < 0 else self.level, spec)


class _BoundDeflate(BoundBytesBytes):
    """What both envelopes share."""

    __slots__ = ("_exact", "_level", "_limit", "_name", "decoded", "encoded")

    _wbits: ClassVar[int]

    def __init__(self, name: str, level: int, spec: ByteSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(spec)
        self._name = name
        self._level = level
        self._exact = spec.exact
        self._limit = spec.limit

    def _decode_members(self, data: Buffer) -> bytes:
        view = memoryview(data)
        parts: list[bytes] = []
        left = self._limit
        position = 0
        while not position or self._has_member(view[position:]):
            member = zlib.decompressobj(self._wbits)
            while not member.eof:
                block = view[position : position + _BLOCK_BYTES]
                if not block:
                    raise CodecError(f"the stream of {len(view)} bytes is cut off", codec=self._name)
                try:
                    # One more than possible: 0 would mean no limit, and a longer member shows.
                    part = member.decompress(block, left + 1)
                except zlib.error as error:
                    raise CodecError(f"damaged: {error}", codec=self._name) from error
                left -= len(part)
                if left < 0:
                    raise CodecError(f"decoded to more than the {self._limit} bytes possible", codec=self._name)
                parts.append(part)
                position += len(block) - len(member.unused_data)
        n = self._limit - left
        if self._exact is not None and n != self._exact:
            raise CodecError(f"decoded to {n} bytes, expected {self._exact}", codec=self._name)
        return b"".join(parts)

    def _has_member(self, rest: memoryview) -> bool:
        """Whether there is another member behind the first: gzip allows several, and zeros behind the last."""
        if not rest:
            return False
        if self._wbits == BoundGzip._wbits:
            if rest[0]:
                return True
            if not bytes(rest).strip(b"\0"):
                return False
        raise CodecError(f"{len(rest)} bytes behind the end of the stream", codec=self._name)


class BoundGzip(_BoundDeflate):
    """Gzip members hold CRC-32 and length of their content at the end, little-endian."""

    __slots__ = ()

    _wbits = 31

    def encode(self, data: Buffer) -> Buffer:
        return deflate.gzip_compress(data, self._level)

    def decode(self, data: Buffer) -> Buffer:
        size = int.from_bytes(data[-4:], "little")
        if size and (size == self._exact or (self._exact is None and size <= self._limit)):
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

    _wbits = 15

    def encode(self, data: Buffer) -> Buffer:
        return deflate.zlib_compress(data, self._level)

    def decode(self, data: Buffer) -> Buffer:
        size = self._exact
        if size:
            try:
                content = deflate.zlib_decompress(data, size)
            except deflate.DeflateError:
                return self._decode_members(data)
            if len(content) == size and deflate.adler32(content) == int.from_bytes(data[-4:], "big"):
                return content
        return self._decode_members(data)
