"""Decoding of compressed streams, in bounds, with the decompressor objects of the standard library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zarrdock.codecs.codec import Buffer, ByteSpec
from zarrdock.errors import CodecError

__all__ = ["StreamDecompressor", "decode_streams"]

# They copy the input they have not used: small blocks keep many tiny streams from costing the square of their number.
_BLOCK_BYTES = 8192


class StreamDecompressor(Protocol):
    """Protocol of the decompressor objects of zlib, bz2 and lzma."""

    @property
    def eof(self) -> bool:
        """True once the end of the stream was reached."""

    @property
    def unused_data(self) -> bytes:
        """Input behind the end of the stream."""

    def decompress(self, data: memoryview, max_length: int, /) -> bytes:
        """Feed some input; at most ``max_length`` bytes of output."""


def decode_streams(
    data: Buffer,
    start: Callable[[], StreamDecompressor],
    errors: tuple[type[Exception], ...],
    *,
    spec: ByteSpec,
    codec: str,
    several: bool,
) -> bytes:
    """The content of a stream, or of several one after the other.

    Args:
        start: makes a decompressor for one stream.
        errors: what it raises on damaged input.
        spec: of the content: no more than ``spec.limit`` bytes are decoded.
        several: whether the format allows several streams, and zeros behind the last.
    Raises:
        CodecError: damaged or cut off, not the length ``spec`` wants, or bytes left over.
    """
    view = memoryview(data)
    parts: list[bytes] = []
    left = spec.limit
    position = 0
    while not position or _another(view[position:], several, codec):
        stream = start()
        while not stream.eof:
            block = view[position : position + _BLOCK_BYTES]
            if not block:
                raise CodecError(f"the stream of {len(view)} bytes is cut off", codec=codec)
            try:
                # One more than possible, so that a longer stream shows; 0 would mean no limit.
                part = stream.decompress(block, left + 1)
            except errors as error:
                raise CodecError(f"damaged: {error}", codec=codec) from error
            left -= len(part)
            if left < 0:
                raise CodecError(f"decoded to more than the {spec.limit} bytes possible", codec=codec)
            parts.append(part)
            position += len(block) - len(stream.unused_data)
    n = spec.limit - left
    if spec.exact is not None and n != spec.exact:
        raise CodecError(f"decoded to {n} bytes, expected {spec.exact}", codec=codec)
    return b"".join(parts)


def _another(rest: memoryview, several: bool, codec: str) -> bool:
    if not rest:
        return False
    if several:
        if rest[0]:
            return True
        if not bytes(rest).strip(b"\0"):
            return False
    raise CodecError(f"{len(rest)} bytes behind the end of the stream", codec=codec)
