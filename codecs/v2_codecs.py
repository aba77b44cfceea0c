"""Chains of codecs in Zarr v2's form and in v3's. Where a form can't say the same, the error says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from zarrdock.codecs.bitround import BitRound
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.builtin import CODECS, with_defaults
from zarrdock.codecs.bytes_ import BoundBytes, Bytes, has_byte_order
from zarrdock.codecs.cast_value import CastValue
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, ChunkSpec, Codec, Configuration
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.element_bits import element_of
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import Blosc as NumcodecsBlosc
from zarrdock.codecs.numcodecs_ import Gzip as NumcodecsGzip
from zarrdock.codecs.numcodecs_ import NumcodecsCodec
from zarrdock.codecs.numcodecs_ import Zstd as NumcodecsZstd
from zarrdock.codecs.numcodecs_arrays import AsType, FixedScaleOffset, NumcodecsFilter, PackBits
from zarrdock.codecs.numcodecs_arrays import BitRound as NumcodecsBitRound
from zarrdock.codecs.numcodecs_foreign import ForeignCompressor, foreign_compressor
from zarrdock.codecs.object_codecs import Categorize, ObjectCodec, check_pickle_allowed
from zarrdock.codecs.scale_offset import ScaleOffset
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.vlen import VlenBytes, VlenUtf8
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

__all__ = ["StoredBytes", "from_v2", "made_by", "to_v2", "to_v3"]


# -- Zarr v2's order, filters and compressor, as a chain of codecs; the way back is ``to_v2``.
#
# In v2 the filters and the compressor are numcodecs' and work one after the other on the chunk's memory. As a chain:
# order "F" is a transposition; filters that work on elements are array to array; the elements' own byte order is that
# of the data type; from the first filter that works on bytes on, all is bytes to bytes. Objects need a filter that
# makes bytes of them.

_OBJECT_CODECS = ("vlen-utf8", "vlen-bytes", "vlen-array", "json2", "msgpack2", "pickle", "categorize")


def from_v2(
    compressor: object,
    filters: object,
    *,
    dtype: np.dtype[Any],
    order: Literal["C", "F"],
    ndim: int,
    pointer: str = "",
) -> tuple[Codec, ...]:
    """The codecs of a Zarr v2 array.

    Args:
        compressor: numcodecs configuration, or None.
        filters: list of numcodecs configurations, or None.
        dtype: the array's, with its byte order.
        pointer: of the metadata document.
    Returns:
        A chain that decodes to chunks of ``dtype`` in C order.
    Raises:
        UnknownExtensionError: a filter or compressor that is not known.
        MetadataError: a wrong configuration.
        UnsupportedError: objects without a filter for them, pickles that were not allowed, and filters of elements
            behind filters of bytes.
    """
    if filters is not None and not isinstance(filters, list | tuple):
        raise MetadataError(pointer=f"{pointer}/filters", expected="a list, or null", found=filters)
    arrays: list[Codec] = []
    # A transposition that changes nothing would only stand in the way of other readers of the chain.
    if order == "F" and ndim > 1:
        arrays.append(Transpose(tuple(reversed(range(ndim)))))
    parsed = [parse_v2_codec(json, f"{pointer}/filters/{i}") for i, json in enumerate(filters or ())]
    stored = dtype
    tail: list[Codec] = []
    for codec in parsed:
        if isinstance(codec, ArrayArrayCodec):
            if tail:
                text = f"filter {codec.name!r} works on elements, but stands behind {tail[-1].name!r} (bytes)"
                raise UnsupportedError(f"{text}; no chain of Zarr v3 codecs does the same")
            if isinstance(codec, NumcodecsFilter):
                codec = codec.with_stored(stored)
            arrays.append(codec)
            stored = made_by(codec, stored)
        else:
            tail.append(codec)
    foreign = next((codec for codec in tail if isinstance(codec, ForeignCompressor)), None)
    if foreign is not None and (len(tail) > 1 or compressor is not None):
        text = f"numcodecs does not say what filter {foreign.numcodecs_id!r} makes of a chunk"
        raise UnsupportedError(f"{text}; it can be used as the compressor, behind filters that work on elements")
    if compressor is not None:
        tail.append(parse_v2_codec(compressor, f"{pointer}/compressor"))
    if tail and isinstance(tail[0], ArrayBytesCodec):
        serializer, *tail = tail
        if isinstance(serializer, ForeignCompressor):
            serializer = serializer.with_stored(stored)
    else:
        serializer = _serializer(stored)
    for codec in tail:
        if not isinstance(codec, BytesBytesCodec):
            raise UnsupportedError(f"{codec.name!r} works on elements, but comes after a codec that makes bytes")
    return (*arrays, serializer, *tail)


def _serializer(stored: np.dtype[Any]) -> Codec:
    if stored.hasobject or stored.kind == "T":
        names = ", ".join(_OBJECT_CODECS)
        raise UnsupportedError(f"an array of objects needs a filter that encodes them as bytes: one of {names}")
    if not has_byte_order(stored):
        return Bytes(None)
    for endian, character in (("little", "<"), ("big", ">")):
        if stored == stored.newbyteorder(character):  # type: ignore[arg-type]
            return Bytes(endian)  # type: ignore[arg-type]
    return StoredBytes(stored)


def parse_v2_codec(json: object, pointer: str) -> Codec:
    """A codec from its configuration in Zarr v2's form, ``{"id": ...}``; where v3 has a codec for it, that one.

    Raises:
        MetadataError: its configuration is invalid. UnknownExtensionError: numcodecs has no such codec.
    """
    if not isinstance(json, Mapping):
        raise MetadataError(pointer=pointer, expected="an object with an id", found=json)
    name = json.get("id")
    if not isinstance(name, str):
        raise MetadataError(pointer=f"{pointer}/id", expected="the name of a codec of numcodecs", found=name)
    if name == "pickle":
        check_pickle_allowed(f" (metadata{'#' + pointer if pointer else ''})")
    # v3 has its own names for two of them.
    found = CODECS.get(name if name in ("vlen-utf8", "vlen-bytes") else f"numcodecs.{name}")
    found = found or foreign_compressor(name)
    if found is None:
        hint = "numcodecs has it not, or only for Zarr v2 arrays of other kinds"
        raise UnknownExtensionError("codec", name, hint=hint, pointer=f"{pointer}/id")
    configuration = {member: value for member, value in json.items() if member != "id"}
    if name == "shuffle":
        configuration.setdefault("elementsize", 4)  # numcodecs' default; in v3 it is the array's
    try:
        codec = found.from_json(configuration)
        # The bytes are the same, and code that looks at the chain finds what it knows from v3.
        if isinstance(codec, NumcodecsGzip | NumcodecsZstd | NumcodecsBlosc):
            return codec.native()
        if name == "crc32c" and configuration.get("location", "end") == "end":
            return Crc32c()
    except MetadataError as error:
        pointer_below = error.pointer.removeprefix("/configuration")
        raise MetadataError(
            error.reason, pointer=pointer + pointer_below, expected=error.expected, found=error.found
        ) from None
    return codec


_CHECKSUMS = ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "shuffle", "base64")
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_DTYPES = ("dtype", "astype", "decode_dtype", "encode_dtype")

# Why Zarr v2 has nothing like it.
_ONLY_V3 = {
    "sharding_indexed": "Zarr v2 has no shards; write the array without, one object a chunk",
    "packbits": "numcodecs' packbits stores the first boolean in the highest bit of a byte, this codec in the lowest",
    "reshape": "numcodecs has nothing that changes a chunk's shape",
    "scale_offset": "numcodecs' fixedscaleoffset rounds to integers; only scale_offset of float64 followed by "
    "cast_value to integers, rounding to nearest-even and wrapping, is the same",
    "cast_value": "numcodecs' astype truncates, wraps integers and overflows to infinity; only casts between integers "
    "that wrap, and between floats that clamp and round to nearest-even, are the same",
    "bitround": "numcodecs' bitround is for floats, of 16, 32 and 64 bits, and up to their mantissa",
    "zfp": "numcodecs' zfpy stores a header in front of each chunk",
    "n5_default": "a block of N5 has a header that no codec of numcodecs writes",
    "conditional": "numcodecs has nothing that differs from chunk to chunk",
}


@dataclass(frozen=True, slots=True)
class StoredBytes(ArrayBytesCodec):
    """Elements as they are in memory: structs whose fields differ in byte order, which v3's ``bytes`` can't say."""

    name: ClassVar[str] = "bytes"
    dtype: np.dtype[Any]

    @classmethod
    def from_json(cls, configuration: Configuration) -> StoredBytes:
        """Raises MetadataError, always: there is no such metadata."""
        raise MetadataError("fields of different byte order have no metadata in Zarr v3", found=dict(configuration))

    def to_json(self) -> dict[str, Any]:
        """Raises UnsupportedError, always."""
        raise UnsupportedError(
            f"Zarr v3 has one byte order for all fields, {self.dtype} has two; convert the array to another data type"
        )

    def bind(self, spec: ChunkSpec) -> BoundBytes:
        return BoundBytes(spec, self.dtype)


def made_by(codec: Codec, stored: np.dtype[Any]) -> np.dtype[Any]:
    """The data type that an array-to-array codec of numcodecs makes of ``stored``, byte order included."""
    # bitround rounds in native byte order, and leaves the type as it was.
    if isinstance(codec, NumcodecsFilter) and not isinstance(codec, NumcodecsBitRound):
        # Of eight elements, because packed bits come in bytes.
        return codec.bind(ChunkSpec((8,), stored)).encoded.dtype
    return codec.made if isinstance(codec, Categorize) else stored


# -- v2 ---------------------------------------------------------------------------------------------------------------


def to_v2(
    codecs: Sequence[Codec], *, dtype: np.dtype[Any], ndim: int
) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None, Literal["C", "F"]]:
    """Compressor, filters and order of a chain, for Zarr v2 metadata of an array of ``dtype``, whose byte order counts.

    Raises:
        UnsupportedError: Zarr v2 can't say it; the message says what it is, and why.
    """
    order: Literal["C", "F"] = "C"
    filters: list[dict[str, Any]] = []
    stored = dtype
    compressor: dict[str, Any] | None = None
    last: Codec | None = None
    waiting: ScaleOffset | None = None
    for i, codec in enumerate(codecs):
        if waiting is not None and not isinstance(codec, CastValue):
            break
        if isinstance(codec, Transpose):
            order = _order(codec, ndim, first=i == 0)
        elif isinstance(codec, Bytes | StoredBytes):
            _check_byte_order(codec, stored)
        elif isinstance(codec, ScaleOffset):
            waiting = codec
        elif isinstance(codec, ArrayArrayCodec):
            if isinstance(codec, NumcodecsFilter) and codec.stored is None:
                codec = _ordered(codec, stored, _endian(codecs))
            codec = _v2_filter(codec, waiting, stored, _endian(codecs))
            waiting = None
            if isinstance(codec, NumcodecsFilter):
                codec = codec.with_stored(stored).with_defaults(ChunkSpec((8,), stored))
            stored = made_by(codec, stored)
            filters.append(_v2_json(codec))
        else:
            filters.append(_v2_json(codec))
        last = codec
    if waiting is not None:
        raise _no_v2(waiting)
    is_filter = isinstance(last, ArrayArrayCodec | Bytes | StoredBytes | VlenUtf8 | VlenBytes | ObjectCodec)
    if filters and not is_filter and filters[-1]["id"] not in _CHECKSUMS:
        compressor = filters.pop()
    return compressor, filters or None, order


def _no_v2(codec: Codec) -> UnsupportedError:
    why = _ONLY_V3.get(codec.name)
    return UnsupportedError(f"Zarr v2 has no codec like {codec.name!r}{f': {why}' if why else ''}")


def _v2_filter(
    codec: ArrayArrayCodec, before: ScaleOffset | None, stored: np.dtype[Any], endian: str
) -> NumcodecsFilter | Categorize:
    """The filter of numcodecs that does the same, together with a ``scale_offset`` in front of it."""
    if isinstance(codec, NumcodecsFilter | Categorize):
        return codec
    element = element_of(stored)
    if isinstance(codec, BitRound):
        bits = element.mantissa if element is not None and stored.kind == "f" and stored.itemsize > 1 else 0
        if codec.keepbits > bits:
            raise _no_v2(codec)
        return NumcodecsBitRound(keepbits=codec.keepbits)
    if not isinstance(codec, CastValue) or element is None or codec.scalar_map is not None:
        raise _no_v2(codec)
    made = codec.bind(ChunkSpec((1,), stored, np.zeros((), stored)[()])).encoded.dtype
    target = element_of(made)
    if target is None or target.is_small or element.is_small:
        raise _no_v2(codec)
    written = made.newbyteorder("<" if endian == "little" else ">")
    if before is not None:
        rounds_alike = codec.rounding == "nearest-even" and codec.out_of_range == "wrap" and target.kind in "iu"
        if stored.newbyteorder("=") != np.float64 or not rounds_alike:
            raise _no_v2(before)
        numbers = {"offset": before.offset, "scale": before.scale}
        if any(isinstance(value, str) for value in numbers.values()):
            raise _no_v2(before)
        return FixedScaleOffset(**numbers, dtype=stored.str, astype=written.str)
    integers = element.kind in "iu" and target.kind in "iu" and codec.out_of_range == "wrap"
    floats = element.kind == target.kind == "f" and codec.out_of_range == "clamp" and codec.rounding == "nearest-even"
    if not integers and not floats:
        raise _no_v2(codec)
    return AsType(encode_dtype=written.str, decode_dtype=stored.str)


def _ordered(codec: NumcodecsFilter, stored: np.dtype[Any], endian: str) -> NumcodecsFilter:
    """A filter of v3, which sees elements in native byte order, as one of elements in their stored order that makes
    elements in the order that the chain stores.
    """
    native = stored.newbyteorder("=") if stored.kind not in "TO" else stored
    members = ("decode_dtype", "encode_dtype") if isinstance(codec, AsType) else ("dtype", "astype")
    if isinstance(codec, NumcodecsBitRound | PackBits) or stored.kind in "TO":
        return codec
    seen, made = codec.with_defaults(ChunkSpec((8,), native)).dtypes(native)
    configuration = codec.configuration
    if is_same := seen.newbyteorder("=") == native:
        if configuration.get(members[0]) is not None:
            configuration[members[0]] = stored.str
    elif stored != native:
        raise _reinterprets(codec, stored, seen)
    written = made.newbyteorder("<" if endian == "little" else ">")
    if configuration.get(members[1]) is not None or written != (stored if is_same else seen):
        configuration[members[1]] = written.str
    return type(codec)(**configuration)


def _reinterprets(codec: NumcodecsFilter, stored: np.dtype[Any], seen: np.dtype[Any]) -> UnsupportedError:
    return UnsupportedError(
        f"filter {codec.numcodecs_id!r} sees bytes of {stored.str} as {seen.str}, and in Zarr v3 they see elements "
        "in the machine's own byte order"
    )


def _endian(codecs: Sequence[Codec]) -> str:
    return next((codec.endian for codec in codecs if isinstance(codec, Bytes) and codec.endian), "little")


def _order(codec: Transpose, ndim: int, *, first: bool) -> Literal["C", "F"]:
    dimensions = tuple(range(ndim))
    order = codec.order
    if order in ("C", dimensions):
        return "C"
    if first and order in ("F", dimensions[::-1]):
        return "F"
    raise UnsupportedError(f"Zarr v2 has orders C and F, before all filters, and nothing like transpose with {order}")


def _check_byte_order(codec: Bytes | StoredBytes, stored: np.dtype[Any]) -> None:
    if isinstance(codec, StoredBytes):
        written = codec.dtype
    elif codec.endian is None:
        written = stored
    else:
        written = stored.newbyteorder("<" if codec.endian == "little" else ">")
    if written != stored:
        raise UnsupportedError(
            f"Zarr v2 has the byte order in the data type, and {stored.str!r} is not that of the codecs; "
            f"use {written.str!r}"
        )


def _v2_json(codec: Codec) -> dict[str, Any]:
    match codec:
        case NumcodecsCodec():
            return {"id": codec.numcodecs_id, **codec.configuration}
        case VlenUtf8() | VlenBytes():
            return {"id": codec.name}
        case Zstd():
            # Readers of before 2024 don't know of the checksum.
            return {"id": "zstd", "level": codec.level, **({"checksum": True} if codec.checksum else {})}
        case Gzip():
            return {"id": "gzip", "level": codec.level}
        case Zlib():
            return {"id": "zlib", "level": codec.level}
        case Crc32c():
            return {"id": "crc32c", "location": "end"}
        case Blosc():
            # v2 takes the typesize from the data type; decoding needs neither.
            shuffle = -1 if codec.shuffle is None else _SHUFFLES.index(codec.shuffle)
            members = {"cname": codec.cname, "clevel": codec.clevel, "shuffle": shuffle, "blocksize": codec.blocksize}
            return {"id": "blosc", **members}
    raise _no_v2(codec)


# -- v3 ---------------------------------------------------------------------------------------------------------------


def to_v3(codecs: Sequence[Codec], *, dtype: np.dtype[Any], chunk_shape: tuple[int, ...]) -> tuple[Codec, ...]:
    """A chain of a v2 array (from ``from_v2``) as the chain of a v3 array that has the same bytes in its chunks.

    In v3 the data type has no byte order, so filters see elements in the machine's, and the ``bytes`` codec orders what
    is stored.

    Args:
        dtype: of the v2 array, with its byte order.
        chunk_shape: what codecs derive from a chunk is filled in for it.
    Raises:
        UnsupportedError: Zarr v3 can't say it; the message says what it is, and why.
    """
    stored = dtype
    chain: list[Codec] = []
    for codec in codecs:
        if isinstance(codec, NumcodecsFilter):
            seen = codec.with_stored(stored).with_defaults(ChunkSpec((8,), stored))
            made = made_by(seen, stored)
            chain.append(_native(seen, stored))
            stored = made
        else:
            _check_v3(codec)
            chain.append(codec)
    native = dtype if dtype.kind in "TO" else dtype.newbyteorder("=")
    fill = np.zeros((), native)[()]
    # A v2 chain says the typesize nowhere, and a serializer that hides it (of text, say) leaves single bytes.
    return with_defaults(chain, ChunkSpec(chunk_shape, native, fill))


def _check_v3(codec: Codec) -> None:
    if isinstance(codec, StoredBytes):
        codec.to_json()
    if isinstance(codec, NumcodecsCodec) and not codec.in_v3:
        raise codec.not_in_v3()


def _native(codec: NumcodecsFilter, stored: np.dtype[Any]) -> NumcodecsFilter:
    """A filter of elements in native byte order that does what ``codec`` does to ``stored`` ones."""
    seen = codec.dtypes(stored)[0] if not isinstance(codec, NumcodecsBitRound) else stored
    configuration = codec.configuration
    native = stored.newbyteorder("=")
    if seen == stored:
        for member in _DTYPES:
            if configuration.get(member) is not None:
                configuration[member] = np.dtype(configuration[member]).newbyteorder("=").str
    elif stored != native or seen.newbyteorder("=") == native:
        raise _reinterprets(codec, stored, seen)
    return type(codec)(**configuration)
