"""Checksums in chains of codecs, which make damage an error when a chunk is read."""

from __future__ import annotations

from collections.abc import Sequence

from zarrdock.codecs.codec import Codec
from zarrdock.codecs.conditional import Conditional
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import NumcodecsCodec
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.zstd_ import Zstd

__all__ = ["has_checksum"]

_NUMCODECS = {"crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3", "gzip", "zlib", "bz2"}


def has_checksum(codecs: Sequence[Codec]) -> bool:
    """True if a checksum covers every chunk that these codecs encode: one of its own, or that of a compressor.

    >>> from zarrdock.codecs.bytes_ import Bytes
    >>> has_checksum((Bytes(), Zstd(checksum=True))), has_checksum((Bytes(), Zstd(checksum=False)))
    (True, False)
    """
    return any(map(_covers, codecs))


def _covers(codec: Codec) -> bool:
    match codec:
        case Sharding():
            return has_checksum(codec.codecs)
        case Zstd():
            return codec.checksum
        case Crc32c() | Gzip() | Zlib():
            return True
        case NumcodecsCodec():
            return codec.numcodecs_id in _NUMCODECS
        case Conditional():
            return False  # each chunk says which codecs were applied
    return False
