"""Blosc's frames as what they are made of: a header, a table, and blocks that decode by themselves.

A few blocks of a frame, behind a header and a table of their own, are a frame again. So part of a chunk is decoded by
the library through the same checks as any chunk, and nothing has to be trusted that was not before.

Source: c-blosc, README_CHUNK_FORMAT.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarrdock.codecs.blosc_ import FORMAT_VERSION, HEADER, Blosc, BoundBlosc
from zarrdock.codecs.codec import BoundBytesBytes, Buffer, ByteSpec, IntArray

__all__ = ["BoundExcerpt", "Frame", "head_nbytes", "parse"]

_MEMCPYED, _UNSPLIT = 0x02, 0x10
# The library chooses no smaller blocks, at whatever level.
_LEAST_BLOCK = 8192


def head_nbytes(nbytes: int, blocksize: int) -> int:
    """Bytes that hold the header and the table of a frame of ``nbytes`` bytes of content.

    Args:
        blocksize: of its blocks, as it was asked for; 0: it was left to the library.
    """
    # The library rounds down to whole elements.
    least = max(1, blocksize // 2) if blocksize else _LEAST_BLOCK
    return HEADER.size + 4 * -(-nbytes // least)


@dataclass(frozen=True, slots=True)
class Frame:
    """Header and table of a frame.

    Attributes:
        nbytes: size of the content; blocksize: size of a block's content, less for the last one.
        starts, lengths: shape (n_blocks,), the bytes of each block in the frame. None if the content follows the
            header uncompressed.
    """

    flags: int
    typesize: int
    codec_version: int
    nbytes: int
    blocksize: int
    starts: IntArray | None
    lengths: IntArray | None

    def excerpt(self, first: int, blocks: Sequence[Buffer]) -> bytes:
        """A frame of the blocks ``first`` and following, of which these are the bytes."""
        n = min((first + len(blocks)) * self.blocksize, self.nbytes) - first * self.blocksize
        flags, blocksize = self.flags, self.blocksize
        if n < blocksize:
            # A block that is shorter than the others is never split into streams, and here it is the only one.
            flags, blocksize = flags | _UNSPLIT, n
        at = HEADER.size + 4 * len(blocks)
        starts = []
        for block in blocks:
            starts.append(at)
            at += len(block)
        header = HEADER.pack(FORMAT_VERSION, self.codec_version, flags, self.typesize, n, blocksize, at)
        return b"".join((header, struct.pack(f"<{len(starts)}I", *starts), *blocks))


def parse(head: Buffer, nbytes: int, length: int | None, limit: int) -> Frame | None:
    """Header and table of a frame; None where it has to be decoded as a whole, which says what is wrong with it, if
    something is.

    Args:
        head: the frame's first bytes. nbytes: what it should hold. length, limit: the bytes it has, where that is
            known, and at most.
    """
    if len(head) < HEADER.size:
        return None
    version, codec_version, flags, typesize, content, blocksize, cbytes = HEADER.unpack_from(head)
    if version != FORMAT_VERSION or content != nbytes or cbytes > limit or length not in (None, cbytes):
        return None
    if flags & _MEMCPYED:
        if cbytes != HEADER.size + nbytes:
            return None
        return Frame(flags, typesize, codec_version, nbytes, nbytes, None, None)
    if not 0 < blocksize <= nbytes:
        return None
    n_blocks = -(-nbytes // blocksize)
    first = HEADER.size + 4 * n_blocks
    if first > len(head):
        return None
    starts = np.frombuffer(head, "<u4", n_blocks, HEADER.size).astype(np.int64)
    # Threads write blocks as they get done: they lie one behind the other, but in any order.
    order = np.argsort(starts, kind="stable")
    lengths = np.empty(n_blocks, np.int64)
    lengths[order] = np.diff(starts[order], append=cbytes)
    if starts[order[0]] < first or int(lengths.min()) <= 0:
        return None
    return Frame(flags, typesize, codec_version, nbytes, blocksize, starts, lengths)


class BoundExcerpt(BoundBytesBytes):
    """Bytes of the content of an excerpt.

    Args:
        nbytes: of its content. start, stop: the bytes wanted of it.
    """

    __slots__ = ("_blosc", "_wanted", "decoded", "encoded")

    def __init__(self, nbytes: int, start: int, stop: int) -> None:
        self._blosc = BoundBlosc(Blosc(), ByteSpec(nbytes, nbytes))
        self._wanted = slice(start, stop)
        self.decoded = ByteSpec(stop - start, stop - start)
        self.encoded = self._blosc.encoded

    def encode(self, data: Buffer) -> Buffer:
        """Excerpts are taken, not made."""
        return self._blosc.encode(data)

    def decode(self, data: Buffer) -> Buffer:
        return memoryview(self._blosc.decode(data))[self._wanted]
