"""The ``blosc`` codec: chunks of Blosc 1, through numcodecs. Those of Blosc 2 are read, too, but never written.

The library trusts the frame's header: it allocates what the header claims, and reads as many bytes as the header says
there are. So the header is compared with the chunk and with the data before the library sees either.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from zarrdock.codecs.blosc2_chunk import VERSIONS as BLOSC2_VERSIONS
from zarrdock.codecs.blosc2_chunk import decode_chunk
from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration, as_bytes
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import expect_integer, expect_one_of, known_members

__all__ = ["FORMAT_VERSION", "HEADER", "Blosc", "BoundBlosc"]

_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_CNAMES = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
# version, version of the compressor, flags, typesize, nbytes, blocksize, cbytes
HEADER = struct.Struct("<BBBBIII")
FORMAT_VERSION = 2
# As the three high bits of the flags name it.
_SNAPPY = 2
# The library's limits: of the data, and of what it adds to data it can't compress.
_MAX_NBYTES = 2**31 - 1 - 16


@cache
def _library() -> Any:
    # Imported at first use: numcodecs takes 150 ms.
    from numcodecs import blosc

    # Its own threads go through one global context with one lock: several of ours would wait for each other. A user's
    # explicit choice stands.
    if blosc.use_threads is None:
        blosc.use_threads = False
    return blosc


@dataclass(frozen=True, slots=True)
class Blosc(BytesBytesCodec):
    """Blosc: blocks, shuffled, then compressed by another library.

    Args:
        cname: the compressor: blosclz, lz4, lz4hc, snappy, zlib or zstd.
        clevel: 0 (none) to 9.
        shuffle: "noshuffle", "shuffle" (by bytes) or "bitshuffle"; None chooses for the array: bits where elements are
            single bytes, else bytes.
        typesize: bytes of an element; None is that of the array.
        blocksize: bytes of a block; 0 leaves it to the library.
    Source: Zarr v3, "Blosc codec"; the format is described in c-blosc's README_CHUNK_FORMAT.

    >>> array = zarrdock.create_array({}, data=np.arange(1000), compressors=zarrdock.Blosc("zstd", clevel=3))
    >>> array.compressors[0].cname
    'zstd'
    """

    name: ClassVar[str] = "blosc"
    cname: str = "lz4"
    clevel: int = 5
    shuffle: Literal["noshuffle", "shuffle", "bitshuffle"] | None = None
    typesize: int | None = None
    blocksize: int = 0

    def __post_init__(self) -> None:
        expect_one_of(self.cname, "/cname", _CNAMES)
        object.__setattr__(self, "clevel", expect_integer(self.clevel, "/clevel", 0, 9))
        object.__setattr__(self, "blocksize", expect_integer(self.blocksize, "/blocksize", 0, _MAX_NBYTES))
        if self.shuffle is not None:
            expect_one_of(self.shuffle, "/shuffle", _SHUFFLES)
        if self.typesize is not None:
            object.__setattr__(self, "typesize", expect_integer(self.typesize, "/typesize", 1, 2**31 - 1))

    @classmethod
    def from_user(cls, configuration: Configuration) -> Blosc:
        """Parse the configuration of a new array; the array's data type fills in missing members."""
        return cls(**known_members(configuration, ("cname", "clevel", "shuffle", "typesize", "blocksize")))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Blosc:
        members = known_members(configuration, ("cname", "clevel", "shuffle", "typesize", "blocksize"))
        if members.get("shuffle", "noshuffle") != "noshuffle":
            if "typesize" not in members:
                raise MetadataError(pointer="/typesize", expected="bytes per element, needed to shuffle", found=None)
        else:
            # Ignored where nothing is shuffled, and 0 in some files.
            members["typesize"] = members.get("typesize") or None
        return cls(**{"shuffle": "noshuffle", **members})

    def to_json(self) -> dict[str, Any]:
        configuration: dict[str, Any] = {
            "typesize": self.typesize,
            "cname": self.cname,
            "clevel": self.clevel,
            "shuffle": self.shuffle,
            "blocksize": self.blocksize,
        }
        if self.shuffle == "noshuffle" and self.typesize is None:
            del configuration["typesize"]
        elif self.shuffle is None or self.typesize is None:
            message = (
                "blosc's shuffle and typesize must be known to be written; with_defaults() takes them from the array"
            )
            raise MetadataError(message, pointer="/configuration")
        return {"name": self.name, "configuration": configuration}

    def with_defaults(self, spec: ByteSpec) -> Blosc:
        """Fill in shuffle and typesize from the chunk's data type."""
        typesize = self.typesize or spec.itemsize
        return replace(self, typesize=typesize, shuffle=self.shuffle or ("bitshuffle" if typesize == 1 else "shuffle"))

    def bind(self, spec: ByteSpec) -> BoundBlosc:
        if spec.exact is not None and spec.exact > _MAX_NBYTES:
            raise MetadataError(
                f"blosc compresses up to {_MAX_NBYTES} bytes, the chunk has {spec.exact}; use smaller chunks"
            )
        return BoundBlosc(self.with_defaults(spec), spec)


# In the order of the compiled part.
_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")


class BoundBlosc(BoundBytesBytes):
    """Decodes large chunks into the destination itself.

    Attributes:
        blocksize: bytes of a block's content; 0 where that was left to the library.
    """

    __slots__ = ("_arguments", "_compress", "_decompress", "_exact", "_limit", "blocksize", "decoded", "encoded")
    compiled = "blosc"
    makes_new = True
    in_blocks = True

    def __init__(self, codec: Blosc, spec: ByteSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec.compressed(spec)
        self._exact = spec.exact
        self._limit = spec.limit
        self.blocksize = codec.blocksize
        shuffle = _SHUFFLES.index(codec.shuffle or "noshuffle")
        # The library keeps the typesize in a byte; above, it works with 1, as for other writers.
        self._arguments = (codec.cname.encode("ascii"), codec.clevel, shuffle, codec.blocksize, codec.typesize or 1)
        library = _library()
        self._compress = library.compress
        self._decompress = library.decompress

    @property
    def compiled_options(self) -> tuple[int, ...]:
        cname, *numbers = self._arguments
        return _COMPRESSORS.index(cname.decode("ascii")), *numbers

    def encode(self, data: Buffer) -> Buffer:
        try:
            compressed: bytes = self._compress(data, *self._arguments)
        except (RuntimeError, ValueError) as error:
            raise CodecError(f"{error}", codec=Blosc.name, direction="encode") from error
        return compressed

    def decode(self, data: Buffer) -> Buffer:
        if _is_blosc2(data):
            return decode_chunk(memoryview(as_bytes(data)), self.decoded)
        nbytes = self._check(data)
        if not nbytes:
            return b""
        try:
            content: bytes = self._decompress(data)
        except (RuntimeError, ValueError) as error:
            raise _damaged(data, error) from error
        return content

    def decode_into(self, data: Buffer, out: memoryview) -> bool:
        # Below, numcodecs takes longer to look at the destination than a copy takes.
        if len(out) < 65536 or _is_blosc2(data) or self._check(data) != len(out):
            return False
        try:
            self._decompress(data, np.frombuffer(out, np.uint8))
        except (RuntimeError, ValueError) as error:
            raise _damaged(data, error) from error
        return True

    def _check(self, data: Buffer) -> int:
        """The length of the content, which has been compared with what it may be."""
        if len(data) < 16:
            raise CodecError(f"{len(data)} bytes are fewer than blosc's header has", codec=Blosc.name)
        version, _, _, _, nbytes, _, cbytes = HEADER.unpack_from(data)
        if nbytes == self._exact and cbytes == len(data) and version == FORMAT_VERSION:
            return nbytes  # type: ignore[no-any-return]
        if version != FORMAT_VERSION:
            raise CodecError(
                f"the data is in version {version} of blosc's format, not {FORMAT_VERSION}", codec=Blosc.name
            )
        if cbytes != len(data):
            raise CodecError(f"the header says {cbytes} bytes, there are {len(data)}", codec=Blosc.name)
        if self._exact is not None or nbytes > self._limit:
            expected = f"at most {self._limit}" if self._exact is None else f"{self._exact}"
            raise CodecError(f"the header says {nbytes} bytes of content, expected {expected}", codec=Blosc.name)
        return int(nbytes)


def _is_blosc2(data: Buffer) -> bool:
    return len(data) > 0 and data[0] in BLOSC2_VERSIONS


def _damaged(data: Buffer, error: Exception) -> CodecError:
    flags = data[2]
    if flags >> 5 == _SNAPPY:
        return CodecError("compressed with snappy, which this build of numcodecs' blosc lacks", codec=Blosc.name)
    return CodecError(f"damaged: {error}", codec=Blosc.name)
