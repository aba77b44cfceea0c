"""What h5py does not tell of a dataset, out of its object header.

Source: HDF5 File Format Specification 3.0, IV.A (object headers), IV.A.2.i (data layout message, versions 4 and later).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

__all__ = ["ReadAt", "has_raw_edges"]

# Bytes of the file: from where, how many.
ReadAt: TypeAlias = Callable[[int, int], bytes]

_LAYOUT, _CONTINUATION = 0x08, 0x10
_CHUNKED = 2
_RAW_EDGES = 0x01
# Of messages, in one header: a damaged one must not lead around in circles.
_MOST_BLOCKS = 1000


def has_raw_edges(read: ReadAt, address: int, base: int, sizes: tuple[int, int]) -> bool:
    """Whether chunks that are cut off by the end of a chunked dataset are stored without filters
    (``H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS``).

    Args:
        address: of the object header. base: where addresses count from. sizes: bytes of an address and of a length.
    """
    for kind, body in _messages(read, address, base, sizes):
        if kind == _LAYOUT:
            return len(body) > 2 and body[0] >= 4 and body[1] == _CHUNKED and bool(body[2] & _RAW_EDGES)
    return False


def _messages(read: ReadAt, address: int, base: int, sizes: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
    prefix = read(base + address, 40)
    is_new = prefix[:4] == b"OHDR"
    has_order = False
    if is_new:
        flags = prefix[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        has_order = bool(flags & 0x04)
        blocks = [(address + at + width, _number(prefix[at : at + width]))]
    else:
        blocks = [(address + 16, _number(prefix[8:12]))]
    for n_read in range(_MOST_BLOCKS):
        if n_read == len(blocks):
            return
        start, length = blocks[n_read]
        for kind, body in _split(read(base + start, length), is_new, has_order):
            if kind == _CONTINUATION:
                more, nbytes = _number(body[: sizes[0]]), _number(body[sizes[0] : sum(sizes)])
                # A signature in front and a checksum behind.
                blocks.append((more + 4, nbytes - 8) if is_new else (more, nbytes))
            else:
                yield kind, body


def _split(block: bytes, is_new: bool, has_order: bool) -> Iterator[tuple[int, bytes]]:
    head = 8 if not is_new else 6 if has_order else 4
    at = 0
    while at + head <= len(block):
        if is_new:
            kind, nbytes = block[at], _number(block[at + 1 : at + 3])
        else:
            kind, nbytes = _number(block[at : at + 2]), _number(block[at + 2 : at + 4])
        yield kind, block[at + head : at + head + nbytes]
        at += head + nbytes


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
