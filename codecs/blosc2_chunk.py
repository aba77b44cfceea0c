"""Chunks in the format of Blosc 2, read without its library.

Writers that link Blosc 2 leave such chunks under the name ``blosc``, and Blosc 1 refuses them. The library for Python
writes beyond its destination where a header lies, and loads plug-ins that a chunk names; so chunks are taken apart
here, block by block, in Python, where nothing can be read or written but what is there.

Read are the compressors blosclz, lz4, lz4hc, zlib and zstd, the filters shuffle, bitshuffle and trunc_prec, chunks
of one repeated value. Not read are dictionaries, plug-ins, the filter delta, and lazy and uninitialised chunks.

Source: c-blosc2, README_CHUNK_FORMAT; blosclz: its decompressor's description.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NoReturn

import numpy as np

from zarrdock.codecs.codec import ByteSpec
from zarrdock.codecs.zstd_ import BoundZstd, Zstd
from zarrdock.errors import CodecError

__all__ = ["VERSIONS", "decode_chunk"]

#: Of the chunk format: 3 was an alpha, 4 a beta, 5 is stable.
VERSIONS: Final = (3, 4, 5)

_HEADER: Final = struct.Struct("<BBBBIII6sBB6sBB")
_SHUFFLE, _BITSHUFFLE, _TRUNC_PREC = 1, 2, 4
_FILTERS: Final = {3: "delta"}
_MEMCPYED, _EXTENDED, _UNSPLIT = 0x02, 0x05, 0x10
_DICTIONARY, _LAZY = 0x01, 0x08
_ZEROS, _NAN, _VALUE = 1, 2, 3


def decode_chunk(data: memoryview, spec: ByteSpec) -> bytes:
    """The content of a chunk.

    Raises:
        CodecError: damaged, not as long as ``spec`` says, or of a kind that is not read here.
    """
    if len(data) < _HEADER.size:
        _fail(f"{len(data)} bytes are fewer than Blosc 2's header has")
    header = _HEADER.unpack_from(data)
    _, _, flags, typesize, nbytes, blocksize, cbytes, filters, _, _, metas, _, flags2 = header
    if cbytes != len(data):
        _fail(f"the header says {cbytes} bytes, there are {len(data)}")
    if nbytes > spec.limit or spec.exact not in (None, nbytes):
        expected = f"at most {spec.limit}" if spec.exact is None else f"{spec.exact}"
        _fail(f"the header says {nbytes} bytes of content, expected {expected}")
    if flags & _EXTENDED != _EXTENDED or not typesize:
        _fail("the header is not one of Blosc 2")
    if not nbytes:
        return b""
    if flags2 & (_DICTIONARY | _LAZY):
        _fail("a chunk with a dictionary, or a lazy one, which are not read here")
    special = flags2 >> 4 & 7
    if special:
        return _special(special, data[_HEADER.size :], nbytes, typesize)
    if flags & _MEMCPYED:
        if len(data) - _HEADER.size != nbytes:
            _fail(f"{len(data) - _HEADER.size} bytes behind the header, expected {nbytes}")
        return bytes(data[_HEADER.size :])
    if not 0 < blocksize <= nbytes:
        _fail(f"blocks of {blocksize} bytes in a chunk of {nbytes}")
    undo = _pipeline(filters, metas)
    n_blocks = -(-nbytes // blocksize)
    if _HEADER.size + 4 * n_blocks > len(data):
        _fail(f"{len(data)} bytes do not hold the places of {n_blocks} blocks")
    starts = struct.unpack_from(f"<{n_blocks}i", data, _HEADER.size)
    out = bytearray(nbytes)
    for i, start in enumerate(starts):
        first = i * blocksize
        size = min(blocksize, nbytes - first)
        split = not flags & _UNSPLIT and size == blocksize
        block = _block(data, start, size, typesize if split else 1, flags >> 5)
        for step in undo:
            block = step(block, typesize)
        out[first : first + size] = block
    return bytes(out)


def _special(kind: int, rest: memoryview, nbytes: int, typesize: int) -> bytes:
    if kind == _ZEROS:
        return bytes(nbytes)
    if kind == _NAN and typesize in (4, 8) and nbytes % typesize == 0:
        return np.full(nbytes // typesize, np.nan, f"<f{typesize}").tobytes()
    if kind == _VALUE and len(rest) == typesize and nbytes % typesize == 0:
        return bytes(rest) * (nbytes // typesize)
    return _fail("a chunk of one repeated value that is damaged, or was never initialised")


def _pipeline(filters: bytes, metas: bytes) -> list[Any]:
    """Operations that undo the filters of a block, the last filter first."""
    undo: list[Any] = []
    for code, meta in zip(reversed(filters), reversed(metas), strict=True):
        if code in (_SHUFFLE, _BITSHUFFLE) and not meta:
            undo.append(_unshuffled if code == _SHUFFLE else _unbitshuffled)
        elif code not in (0, _TRUNC_PREC):
            _fail(f"filter {_FILTERS.get(code, code)}, which is not read here")
    return undo


def _block(data: memoryview, start: int, size: int, n_streams: int, compressor: int) -> bytes:
    if size % n_streams or start < _HEADER.size:
        _fail(f"a block of {size} bytes at {start} in {n_streams} streams")
    each = size // n_streams
    parts: list[bytes] = []
    at = start
    for _ in range(n_streams):
        if at + 4 > len(data):
            _fail("a block is cut off")
        n: int = struct.unpack_from("<i", data, at)[0]
        at += 4
        if n <= 0:
            # A run: of zeros, or of the byte -n, which a token confirms.
            if n and (n < -255 or at >= len(data) or not data[at] & 1):
                _fail("a run of no bytes")
            parts.append(bytes((-n,)) * each)
            at += n < 0
            continue
        stream = data[at : at + n]
        if len(stream) < n or n > each:
            _fail(f"a stream of {n} bytes for {each}, where {len(stream)} are left")
        at += n
        parts.append(bytes(stream) if n == each else _decompressed(stream, each, compressor))
    return parts[0] if n_streams == 1 else b"".join(parts)


def _decompressed(stream: memoryview, n: int, compressor: int) -> bytes:
    try:
        match compressor:
            case 0:
                found = _blosclz(bytes(stream), n)
            case 1:
                found = import_module("numcodecs.lz4").decompress(struct.pack("<i", n) + stream)
            case 3:
                found = zlib.decompressobj().decompress(stream, n)
            case 4:
                found = bytes(_zstd(n).decode(stream))
            case _:
                _fail(f"compressor {compressor}, which is not read here")
    except (RuntimeError, ValueError, IndexError, zlib.error) as error:
        if isinstance(error, CodecError) and error.codec == "blosc":
            raise
        _fail(f"damaged: {error}")
    if len(found) != n:
        _fail(f"a stream decoded to {len(found)} bytes, expected {n}")
    return bytes(found)


@lru_cache(64)
def _zstd(n: int) -> BoundZstd:
    return Zstd().bind(ByteSpec(n, n))


def _blosclz(data: bytes, n: int) -> bytes:
    """LZ77 in bytes: three bits of length and thirteen of distance, or up to 32 literals.

    Raises:
        IndexError: the data is cut off. CodecError: it refers to what is not there, or has more than ``n`` bytes.
    """
    out = bytearray()
    control = data[0] & 31
    at = 1
    while True:
        if control < 32:
            literals = data[at : at + control + 1]
            at += control + 1
            out += literals
            if at >= len(data):
                break
            control = data[at]
            at += 1
            continue
        length, high = (control >> 5) - 1, (control & 31) << 8
        if length == 6:
            while True:
                more = data[at]
                at += 1
                length += more
                if more != 255:
                    break
        low = data[at]
        at += 1
        length += 3
        distance = high + low
        if low == 255 and high == 31 << 8:  # further away than thirteen bits say
            distance = (data[at] << 8) + data[at + 1] + 8191
            at += 2
        source = len(out) - distance - 1
        if source < 0 or len(out) + length > n:
            _fail("a match outside of the block")
        if at >= len(data):
            break
        control = data[at]
        at += 1
        run = out[source : source + length]
        # Where source and destination overlap, what is copied repeats itself.
        out += run if len(run) == length else (run * (length // len(run) + 1))[:length]
    if len(out) > n:
        _fail("more literals than the block has bytes")
    return bytes(out)


def _unshuffled(block: bytes, typesize: int) -> bytes:
    n = len(block) // typesize
    whole = n * typesize
    planes = np.frombuffer(block, np.uint8, whole).reshape(typesize, n)
    return planes.T.tobytes() + block[whole:]


def _unbitshuffled(block: bytes, typesize: int) -> bytes:
    n = len(block) // typesize // 8 * 8
    whole = n * typesize
    if not n:
        return block
    planes = np.frombuffer(block, np.uint8, whole).reshape(8 * typesize, n // 8)
    bits = np.unpackbits(planes, axis=1, bitorder="little")
    return np.packbits(bits.T, axis=1, bitorder="little").tobytes() + block[whole:]


def _fail(message: str) -> NoReturn:
    raise CodecError(message, codec="blosc")
