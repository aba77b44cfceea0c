"""Where zstd frames end, from their headers and their blocks' headers: what is behind a frame is never overlooked.

Source: RFC 8878, section 3.1.1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

from zarrdock.codecs.base import Buffer, IntArray
from zarrdock.errors import CodecError

__all__ = ["MAGIC", "frame_end", "is_single_frame", "single_frames"]

MAGIC: bytes = b"\x28\xb5\x2f\xfd"
_MAGIC_NUMBER: Final = int.from_bytes(MAGIC, "little")


def _header_lengths() -> npt.NDArray[np.int64]:
    """Length of a frame's header, magic number included, by its fifth byte."""
    flags = np.arange(256)
    single = flags >> 5 & 1
    content_size = np.array([0, 2, 4, 8])[flags >> 6] + np.where((flags >> 6 == 0) & (single == 1), 1, 0)
    found: npt.NDArray[np.int64] = 5 + (1 - single) + np.array([0, 1, 2, 4])[flags & 3] + content_size
    return found


_HEADER_LENGTHS: Final = _header_lengths()
_HEADER_LENGTHS_LIST: Final[list[int]] = _HEADER_LENGTHS.tolist()
# Frames of more blocks are looked at one by one.
_MAX_BLOCKS: Final = 8


def single_frames(data: Buffer, starts: IntArray, lengths: IntArray) -> bool:
    """Whether each piece of ``data`` is one frame, whole and with nothing behind it. The frames' contents are not
    looked at. False also where a frame has many blocks.
    """
    flat: npt.NDArray[Any] = np.frombuffer(data, np.uint8)
    ends = starts + lengths
    # The shortest frame: a header of 6 bytes and one block's of 3.
    if not len(starts) or int(lengths.min()) < 9 or int(starts.min()) < 0 or int(ends.max()) > len(flat):
        return False
    if (_little_endian(flat, starts, 4) != _MAGIC_NUMBER).any():
        return False
    flags = flat[starts + 4]
    at = starts + _HEADER_LENGTHS[flags]
    after = ends - np.where(flags & 4, 4, 0)  # less the checksum
    for _ in range(_MAX_BLOCKS):
        if (at + 3 > after).any():
            return False
        header = _little_endian(flat, at, 3)
        kind = header >> 1 & 3
        at = at + 3 + np.where(kind == 1, 1, header >> 3)  # a block of type 1 is one byte, repeated
        last = header & 1 == 1
        if last.all():
            return bool((at == after).all() and (kind != 3).all())
        if (at[last] != after[last]).any() or (kind == 3).any():
            return False
        starts, at, after = starts[~last], at[~last], after[~last]
    return False


def is_single_frame(piece: memoryview) -> bool:
    """The same of one piece."""
    n = len(piece)
    if n < 9 or piece[:4] != MAGIC:
        return False
    flags = piece[4]
    at = _HEADER_LENGTHS_LIST[flags]
    stop = n - 4 if flags & 4 else n
    while at + 3 <= stop:
        header = piece[at] | piece[at + 1] << 8 | piece[at + 2] << 16
        kind = header >> 1 & 3
        if kind == 3:
            return False
        at += 3 + (1 if kind == 1 else header >> 3)
        if header & 1:
            return at == stop
    return False


def _little_endian(flat: npt.NDArray[Any], at: IntArray, n: int) -> IntArray:
    number = flat[at].astype(np.int64)
    for i in range(1, n):
        number |= flat[at + i].astype(np.int64) << (8 * i)
    return number


def frame_end(data: memoryview, start: int) -> int:
    """Where the frame that begins at ``start`` ends, from its header and its blocks' headers.

    Raises:
        CodecError: there is no frame there, or it is cut off.
    Source: RFC 8878, sections 3.1.1 and 3.1.2.
    """
    magic = data[start : start + 4]
    if len(magic) == 4 and magic[0] >> 4 == 5 and bytes(magic[1:]) == b"\x2a\x4d\x18":  # skippable
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    elif magic == MAGIC:
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
        raise CodecError(f"the data {what}", codec="zstd")
    if end > len(data):
        message = f"the frame that begins at byte {start} is cut off: there are {len(data)} bytes"
        raise CodecError(message, codec="zstd")
    return end
