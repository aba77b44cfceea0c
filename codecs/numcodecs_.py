"""The ``numcodecs.*`` names that zarr-python writes: bytes to bytes, numcodecs doing the work.

Those with an implementation of ours (blosc, gzip, zlib, zstd) use that: the bytes are the same. The array to array ones
are in ``numcodecs_arrays.py``. numcodecs and what it needs are
imported when a codec is bound, not when its metadata is parsed: an array whose codec is not installed can still be
looked at.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from zarrdock.codecs.blosc_ import Blosc as NativeBlosc
from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Codec, Configuration, as_bytes
from zarrdock.codecs.decompress import StreamDecompressor, decode_streams
from zarrdock.codecs.gzip_ import Gzip as NativeGzip
from zarrdock.codecs.zstd_ import Zstd as NativeZstd
from zarrdock.errors import ChecksumError, CodecError, MetadataError, UnknownExtensionError, UnsupportedError

__all__ = [
    "Adler32",
    "Base64",
    "Blosc",
    "Bz2",
    "Crc32",
    "Crc32c",
    "Fletcher32",
    "Gzip",
    "JenkinsLookup3",
    "Lz4",
    "Lzma",
    "NumcodecsCodec",
    "Shuffle",
    "StoredNumcodecsCodec",
    "Zstd",
    "flat",
]


# -- What the codecs that numcodecs implements have in common: a configuration kept as it was found.


@dataclass(frozen=True, init=False, repr=False)
class NumcodecsCodec(Codec):
    """A configuration in numcodecs' words, as keyword arguments; data types may be numpy's or strings."""

    #: Whether Zarr v3 metadata has a name for it.
    in_v3: ClassVar[bool] = True

    # JSON: immutable, and comparable.
    document: str

    def __init__(self, **configuration: Any) -> None:
        object.__setattr__(self, "document", json.dumps(configuration, sort_keys=True, default=_plain))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Self:
        return cls(**configuration)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": self.configuration}

    def not_in_v3(self) -> UnsupportedError:
        """The error to raise if v3 metadata would have to name this codec."""
        return UnsupportedError(f"Zarr v3 has no codec like numcodecs' {self.numcodecs_id!r}; only Zarr v2 has")

    @property
    def configuration(self) -> dict[str, Any]:
        """A copy of the configuration, without numcodecs' "id"."""
        found: dict[str, Any] = json.loads(self.document)
        return found

    @property
    def numcodecs_id(self) -> str:
        """numcodecs' name for it."""
        return self.name.removeprefix("numcodecs.")

    def implementation(self, **more: Any) -> Any:
        """numcodecs' object for it.

        Raises:
            UnknownExtensionError: this installation of numcodecs does not have it.
            MetadataError: numcodecs does not take the configuration.
        """
        from numcodecs.registry import codec_registry, get_codec

        try:
            return get_codec({"id": self.numcodecs_id, **self.configuration, **more})
        except (TypeError, ValueError) as error:
            if self.numcodecs_id not in codec_registry:
                hint = 'numcodecs needs another package for it: pip install "zarrdock[codecs]"'
                raise UnknownExtensionError("codec", self.name, hint=hint, pointer="/name") from error
            raise MetadataError(f"{self.name}: {error}", pointer="/configuration") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.configuration.items())})"


@dataclass(frozen=True, init=False, repr=False)
class StoredNumcodecsCodec(NumcodecsCodec):
    """A codec of numcodecs that is given elements, in a byte order.

    Attributes:
        stored: the data type, with its byte order, of the elements the codec shall see; None is the chunk's. It comes
            from Zarr v2, whose data types have a byte order, and is not part of the metadata.
    """

    stored: np.dtype[Any] | None = None

    def __init__(self, **configuration: Any) -> None:
        super().__init__(**configuration)
        object.__setattr__(self, "stored", None)

    def with_stored(self, dtype: np.dtype[Any]) -> Self:
        """The same, of elements of another byte order than the chunk's."""
        codec = type(self)(**self.configuration)
        object.__setattr__(codec, "stored", dtype)
        return codec


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype | type):
        return np.dtype(value).str
    raise MetadataError(pointer="/configuration", expected="values that JSON can hold", found=value)


class _NumcodecsBytes(NumcodecsCodec, BytesBytesCodec):
    """Bytes to bytes; subclasses say what becomes of the length."""


class Gzip(_NumcodecsBytes):
    """The codec ``gzip`` under numcodecs' name."""

    name = "numcodecs.gzip"

    def native(self) -> NativeGzip:
        """The same as a codec of Zarr v3."""
        return NativeGzip.from_json({"level": 1, **self.configuration})

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        return self.native().bind(spec)


class Zstd(_NumcodecsBytes):
    """The codec ``zstd`` under numcodecs' name."""

    name = "numcodecs.zstd"

    def native(self) -> NativeZstd:
        """The same as a codec of Zarr v3."""
        return NativeZstd.from_json(self.configuration)

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        return self.native().bind(spec)


class Blosc(_NumcodecsBytes):
    """The codec ``blosc`` with the shuffle as a number: 0 none, 1 bytes, 2 bits, -1 chosen by the size of elements."""

    name = "numcodecs.blosc"

    _shuffles: ClassVar[dict[object, str | None]] = {-1: None, 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}

    def native(self) -> NativeBlosc:
        """The same as a codec of Zarr v3; what it leaves to the array is left."""
        configuration = {"shuffle": 1, **self.configuration}
        shuffle = configuration["shuffle"]
        if type(shuffle) is not int or shuffle not in self._shuffles:
            raise MetadataError(pointer="/configuration/shuffle", expected="-1, 0, 1 or 2", found=shuffle)
        configuration["shuffle"] = self._shuffles[shuffle]
        try:
            return NativeBlosc(**configuration)
        except TypeError as error:
            raise MetadataError(f"numcodecs.blosc: {error}", pointer="/configuration") from error

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        return self.native().bind(spec)


class Lz4(_NumcodecsBytes):
    """A block of LZ4 behind its decoded length, a little-endian uint32."""

    name = "numcodecs.lz4"

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        return _BoundLz4(self.name, self.implementation(), spec)


class Bz2(_NumcodecsBytes):
    """bzip2."""

    name = "numcodecs.bz2"

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        # Not every build of Python has it.
        import bz2

        return _BoundStreams(self.name, self.implementation(), spec, bz2.BZ2Decompressor, (OSError, ValueError), True)


class Lzma(_NumcodecsBytes):
    """xz, lzma, or raw LZMA with the filters as given."""

    name = "numcodecs.lzma"

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        # Not every build of Python has it.
        import lzma

        configuration = self.configuration
        container = configuration.get("format", lzma.FORMAT_XZ)
        filters = configuration.get("filters")
        # A header can claim a dictionary of 4 GiB. The largest of the presets is 64 MiB.
        memlimit = None if container == lzma.FORMAT_RAW else max(2**28, 2 * spec.limit)

        def start() -> StreamDecompressor:
            return lzma.LZMADecompressor(container, memlimit, filters)

        try:
            start()
        except (lzma.LZMAError, ValueError, TypeError, KeyError) as error:
            raise MetadataError(f"{self.name}: {error}", pointer="/configuration") from error
        several = container == lzma.FORMAT_XZ
        return _BoundStreams(self.name, self.implementation(), spec, start, (lzma.LZMAError, EOFError), several)


class Shuffle(_NumcodecsBytes):
    """Byte shuffle: the first bytes of all elements, then their second bytes, and so on."""

    name = "numcodecs.shuffle"

    def with_defaults(self, spec: ByteSpec) -> Shuffle:
        """Fill in the size of elements if it was omitted."""
        return self if "elementsize" in self.configuration else Shuffle(elementsize=spec.itemsize)

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        codec = self.with_defaults(spec).implementation()
        if type(codec.elementsize) is not int or codec.elementsize < 1:
            found = codec.elementsize
            raise MetadataError(pointer="/configuration/elementsize", expected="a positive integer", found=found)
        return _BoundFixed(self.name, codec, spec, spec)


class Base64(_NumcodecsBytes):
    """Base 64; only v2 metadata has it."""

    name = "numcodecs.base64"
    in_v3 = False

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        exact = None if spec.exact is None else -(-spec.exact // 3) * 4
        return _BoundFixed(self.name, self.implementation(), spec, ByteSpec(exact, -(-spec.limit // 3) * 4))


class _Checksum(_NumcodecsBytes):
    """Four bytes of checksum before or behind the data."""

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        encoded = ByteSpec(None if spec.exact is None else spec.exact + 4, spec.limit + 4)
        return _BoundFixed(self.name, self.implementation(), spec, encoded)


class Crc32(_Checksum):
    """CRC-32, at the start unless told otherwise."""

    name = "numcodecs.crc32"


class Crc32c(_Checksum):
    """CRC-32C, at the end unless told otherwise."""

    name = "numcodecs.crc32c"


class Adler32(_Checksum):
    """Adler-32, at the start unless told otherwise."""

    name = "numcodecs.adler32"


class Fletcher32(_Checksum):
    """Fletcher's checksum as HDF5 has it, at the end."""

    name = "numcodecs.fletcher32"


class JenkinsLookup3(_Checksum):
    """Jenkins' lookup3 as HDF5 has it, at the end."""

    name = "numcodecs.jenkins_lookup3"


class _NumcodecsBound(BoundBytesBytes):
    __slots__ = ("_codec", "_name", "decoded", "encoded")

    def __init__(self, name: str, codec: Any, decoded: ByteSpec, encoded: ByteSpec) -> None:
        self.decoded = decoded
        self.encoded = encoded
        self._name = name
        self._codec = codec

    def encode(self, data: Buffer) -> Buffer:
        try:
            return flat(self._codec.encode(as_bytes(data)))
        except Exception as error:
            raise CodecError(str(error), codec=self._name, direction="encode") from error


class _BoundFixed(_NumcodecsBound):
    """Codecs whose output is never much longer than their input, so that numcodecs can be left to allocate it."""

    __slots__ = ()

    def decode(self, data: Buffer) -> Buffer:
        encoded = self.encoded
        n = len(data)
        if n < 4 < encoded.limit or n > encoded.limit or encoded.exact not in (None, n):
            expected = f"at most {encoded.limit}" if encoded.exact is None else encoded.exact
            raise CodecError(f"{n} bytes, expected {expected}", codec=self._name)
        try:
            content = flat(self._codec.decode(as_bytes(data)))
        except RuntimeError as error:  # what numcodecs' checksums raise
            raise ChecksumError(str(error).partition("\n")[0], codec=self._name) from error
        except Exception as error:
            raise CodecError(f"damaged: {error}", codec=self._name) from error
        if len(content) > self.decoded.limit or self.decoded.exact not in (None, len(content)):
            expected = f"at most {self.decoded.limit}" if self.decoded.exact is None else self.decoded.exact
            raise CodecError(f"decoded to {len(content)} bytes, expected {expected}", codec=self._name)
        return content


class _BoundStreams(_NumcodecsBound):
    """Compressors of the standard library."""

    __slots__ = ("_errors", "_several", "_start")

    def __init__(
        self,
        name: str,
        codec: Any,
        spec: ByteSpec,
        start: Callable[[], StreamDecompressor],
        errors: tuple[type[Exception], ...],
        several: bool,
    ) -> None:
        super().__init__(name, codec, spec, ByteSpec.compressed(spec))
        self._start = start
        self._errors = errors
        self._several = several

    def decode(self, data: Buffer) -> Buffer:
        return decode_streams(
            data, self._start, self._errors, spec=self.decoded, codec=self._name, several=self._several
        )


class _BoundLz4(_NumcodecsBound):
    """numcodecs allocates the length that stands in front, so that is compared first."""

    __slots__ = ()
    compiled = "lz4"

    def __init__(self, name: str, codec: Any, spec: ByteSpec) -> None:
        super().__init__(name, codec, spec, ByteSpec.compressed(spec))

    @property
    def compiled_options(self) -> tuple[int, ...]:
        return (int(self._codec.acceleration),)

    def decode(self, data: Buffer) -> Buffer:
        if not self._check(data):
            return b""
        try:
            content: bytes = self._codec.decode(data)
        except (RuntimeError, ValueError) as error:
            raise CodecError(f"damaged: {error}", codec=self._name) from error
        return content

    def decode_into(self, data: Buffer, out: memoryview) -> bool:
        # Below, numcodecs takes longer to look at the destination than a copy takes.
        if len(out) < 65536 or self._check(data) != len(out):
            return False
        try:
            self._codec.decode(data, np.frombuffer(out, np.uint8))
        except (RuntimeError, ValueError) as error:
            raise CodecError(f"damaged: {error}", codec=self._name) from error
        return True

    def _check(self, data: Buffer) -> int:
        if len(data) < 5:
            raise CodecError(f"{len(data)} bytes are too few", codec=self._name)
        n: int = _UINT32.unpack_from(data)[0]
        spec = self.decoded
        if n > spec.limit or spec.exact not in (None, n):
            expected = f"at most {spec.limit}" if spec.exact is None else spec.exact
            raise CodecError(f"the data claims {n} bytes of content, expected {expected}", codec=self._name)
        return n


_UINT32 = struct.Struct("<I")


def flat(result: Any) -> Buffer:
    """Results of numcodecs (bytes, arrays, views) as flat bytes."""
    if isinstance(result, bytes):
        return result
    return memoryview(result).cast("B")
