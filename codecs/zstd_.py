"""The ``zstd`` codec.

Reading believes nothing: the frame's declared size is compared with the chunk's before a byte is allocated, every frame
is found by walking the blocks' headers, and what is behind the last one is an error. Writers may leave the size out of
the frame (streaming), or write several frames.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import zstandard

from zarrdock.codecs.base import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration
from zarrdock.codecs.fields import boolean, integer, known_members
from zarrdock.errors import CodecError

__all__ = ["BoundZstd", "Zstd"]


class _PerThread(threading.local):
    """Contexts are costly to make, and not for use from two threads at once."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.compressors: dict[tuple[int, bool], zstandard.ZstdCompressor] = {}


_contexts = _PerThread()


@dataclass(frozen=True, slots=True)
class Zstd(BytesBytesCodec):
    """Zstandard.

    Args:
        level: -131072 to 22; 0 is the library's default (3).
        checksum: whether to store 32 bits of checksum with the frame. It is verified wherever it is found.
    Source: Zarr v3, "Zstd codec"; RFC 8878.
    """

    name: ClassVar[str] = "zstd"
    level: int = 0
    checksum: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", integer("level", self.level, -131072, 22))
        boolean("checksum", self.checksum)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Zstd:
        return cls(**known_members(configuration, ("level", "checksum")))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"level": self.level, "checksum": self.checksum}}

    def bind(self, spec: ByteSpec) -> BoundZstd:
        return BoundZstd(self, spec)


class BoundZstd(BoundBytesBytes):
    """No ``decode_into``: the library's readinto gains nothing (64 KiB: 70 us, against 67 and 6 for the copy)."""

    __slots__ = ("_exact", "_key", "_limit", "decoded", "encoded")

    def __init__(self, codec: Zstd, spec: ByteSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(spec)
        self._key = (codec.level, codec.checksum)
        self._exact = spec.exact
        self._limit = spec.limit

    def encode(self, data: Buffer) -> Buffer:
        compressors = _contexts.compressors
        compressor = compressors.get(self._key)
        if compressor is None:
            level, checksum = self._key
            compressor = compressors[self._key] = zstandard.ZstdCompressor(
                level=level, write_checksum=checksum, write_content_size=True
            )
        return compressor.compress(data)

    def decode(self, data: Buffer) -> Buffer:
        # The common case first: one frame, which says how long its content is.
        try:
            size = zstandard.frame_content_size(data)
            if size == self._exact or (self._exact is None and 0 < size <= self._limit):
                return _contexts.decompressor.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError:
            pass
        return self._decode_frames(memoryview(data))

    def _decode_frames(self, data: memoryview) -> bytes:
        parts: list[bytes] = []
        left = self._limit
        start = 0
        while start < len(data) or not start:
            frame_start, start = start, _frame_end(data, start)
            if data[frame_start : frame_start + 4] == _MAGIC:
                part = _decode_frame(data[frame_start:start], left)
                left -= len(part)
                parts.append(part)
        n = self._limit - left
        if self._exact is not None and n != self._exact:
            raise CodecError(f"decoded to {n} bytes, expected {self._exact}", codec=Zstd.name)
        return parts[0] if len(parts) == 1 else b"".join(parts)


_MAGIC = b"\x28\xb5\x2f\xfd"


def _decode_frame(frame: memoryview, limit: int) -> bytes:
    try:
        size = zstandard.frame_content_size(frame)
        if size > limit:
            raise CodecError(f"a frame claims {size} bytes where {limit} are possible", codec=Zstd.name)
        # The size is ignored where the frame has one. 0 would mean "not given".
        part = _contexts.decompressor.decompress(frame, max_output_size=max(limit, 1))
    except zstandard.ZstdError as error:
        raise CodecError(f"damaged, or longer than the {limit} bytes possible: {error}", codec=Zstd.name) from error
    if len(part) > limit:
        raise CodecError(f"decoded to more than the {limit} bytes possible", codec=Zstd.name)
    return part


def _frame_end(data: memoryview, start: int) -> int:
    """Where the frame that begins at ``start`` ends, from its header and its blocks' headers.

    Raises:
        CodecError: there is no frame there, or it is cut off.
    Source: RFC 8878, sections 3.1.1 and 3.1.2.
    """
    magic = data[start : start + 4]
    if len(magic) == 4 and magic[0] >> 4 == 5 and bytes(magic[1:]) == b"\x2a\x4d\x18":  # skippable
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    elif magic == _MAGIC:
        try:
            end = start + zstandard.frame_header_size(data[start:])
            last = False
        except zstandard.ZstdError:
            end, last = len(data) + 1, True
        while not last and end + 3 <= len(data):
            header = int.from_bytes(data[end : end + 3], "little")
            # A block of type 1 is one byte, repeated.
            end += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
            last = bool(header & 1)
        if not last:
            end = len(data) + 1
        elif end <= len(data) and data[start + 4] & 4:
            end += 4  # checksum
    else:
        what = "is empty" if not len(data) else f"has no zstd frame at byte {start}, but {bytes(magic).hex(' ')}"
        raise CodecError(f"the data {what}", codec=Zstd.name)
    if end > len(data):
        message = f"the frame that begins at byte {start} is cut off: there are {len(data)} bytes"
        raise CodecError(message, codec=Zstd.name)
    return end
