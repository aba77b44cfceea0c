"""The codec libraries that are timed, and zarrdock's own codecs on top of them, behind one pair of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Calls:
    """A library's encoder and decoder of one codec; `decode` is told the decoded length, as a Zarr reader knows it."""

    codec: str
    library: str
    encode: Callable[[bytes], Any]
    decode: Callable[[bytes, int], Any]


ZSTD, GZIP, BLOSC, CRC32C = "zstd 3", "gzip 6", "blosc lz4 5 shuffle", "crc32c"


def zarrdock_calls() -> Iterator[Calls]:
    from zarrdock.codecs.builtin import parse_codec
    from zarrdock.codecs.codec import ByteSpec
    from zarrdock.errors import UnknownExtensionError

    blosc = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}
    for label, name, configuration in (
        (ZSTD, "zstd", {"level": 3, "checksum": False}),
        (GZIP, "gzip", {"level": 6}),
        (BLOSC, "blosc", blosc),
        (CRC32C, "crc32c", {}),
    ):
        try:
            codec: Any = parse_codec({"name": name, "configuration": configuration})
        except UnknownExtensionError as error:
            raise ImportError(str(error)) from error
        yield bound_calls(label, cache(lambda n, codec=codec: codec.bind(ByteSpec(n, n, 2))))


def bound_calls(label: str, bind: Callable[[int], Any]) -> Calls:
    """zarrdock's codec, bound once a length: binding is work of opening an array, not of a call."""
    return Calls(label, "zarrdock", lambda data: bind(len(data)).encode(data), lambda data, n: bind(n).decode(data))


def zstandard_calls() -> Iterator[Calls]:
    import zstandard

    compressor, decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    yield Calls(
        ZSTD, "zstandard", compressor.compress, lambda data, n: decompressor.decompress(data, max_output_size=n)
    )


def numcodecs_calls() -> Iterator[Calls]:
    from numcodecs import GZip, Zstd, blosc

    blosc.use_threads = False
    zstd, gzip = Zstd(level=3), GZip(level=6)
    shuffle = blosc.Blosc(cname="lz4", clevel=5, shuffle=blosc.SHUFFLE)
    yield Calls(ZSTD, "numcodecs", zstd.encode, lambda data, n: zstd.decode(data))
    yield Calls(GZIP, "numcodecs", gzip.encode, lambda data, n: gzip.decode(data))
    yield Calls(
        BLOSC,
        "numcodecs",
        lambda data: shuffle.encode(np.frombuffer(data, np.uint16)),
        lambda data, n: shuffle.decode(data),
    )


def deflate_calls() -> Iterator[Calls]:
    import deflate

    yield Calls(GZIP, "deflate", lambda data: deflate.gzip_compress(data, 6), deflate.gzip_decompress)


def zlib_calls() -> Iterator[Calls]:
    import zlib

    yield Calls(GZIP, "zlib", lambda data: zlib.compress(data, 6, 31), lambda data, n: zlib.decompress(data, 31, n))


def blosc2_calls() -> Iterator[Calls]:
    blosc2: Any = import_module("blosc2")
    settings = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=5, typesize=2, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
    yield Calls(
        BLOSC,
        "blosc2",
        lambda data: blosc2.compress2(data, cparams=settings),
        lambda data, n: blosc2.decompress2(data, nthreads=1),
    )


def crc32c_calls() -> Iterator[Calls]:
    import google_crc32c

    def append(data: bytes) -> bytes:
        checksum: int = google_crc32c.value(data)
        return data + checksum.to_bytes(4, "little")

    def check(data: bytes, n: int) -> bytes:
        if google_crc32c.value(data[:n]) != int.from_bytes(data[n:], "little"):
            raise ValueError("checksum differs")
        return data[:n]

    yield Calls(CRC32C, "google-crc32c", append, check)


LIBRARIES: dict[str, Callable[[], Iterator[Calls]]] = {
    "zarrdock": zarrdock_calls,
    "zstandard": zstandard_calls,
    "numcodecs": numcodecs_calls,
    "deflate": deflate_calls,
    "zlib": zlib_calls,
    "blosc2": blosc2_calls,
    "google-crc32c": crc32c_calls,
}
