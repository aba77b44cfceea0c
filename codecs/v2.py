"""Zarr v2's order, filters and compressor, as a chain of codecs, and a chain as those three.

In v2 the filters and the compressor are numcodecs' and work one after the other on the chunk's memory. As a chain:
order "F" is a transposition; filters that work on elements are array to array; the elements' own byte order is that of
the data type; from the first filter that works on bytes on, all is bytes to bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from zarrdock.codecs.base import ArrayBytesCodec, BytesBytesCodec, ChunkSpec, Codec, Configuration
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.builtin import CODECS
from zarrdock.codecs.bytes_ import BoundBytes, Bytes, has_byte_order
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import Blosc as NumcodecsBlosc
from zarrdock.codecs.numcodecs_ import Gzip as NumcodecsGzip
from zarrdock.codecs.numcodecs_ import Zstd as NumcodecsZstd
from zarrdock.codecs.numcodecs_arrays import BitRound, NumcodecsFilter
from zarrdock.codecs.numcodecs_base import NumcodecsCodec
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

__all__ = ["StoredBytes", "from_v2", "to_v2"]

_OBJECT_CODECS = ("vlen-utf8", "vlen-bytes", "vlen-array", "json2", "msgpack2", "pickle", "categorize")
_CHECKSUMS = ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "shuffle", "base64")
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


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
        UnsupportedError: filters of objects, and of elements behind filters of bytes.
    """
    if filters is not None and not isinstance(filters, list | tuple):
        raise MetadataError(pointer=f"{pointer}/filters", expected="a list, or null", found=filters)
    arrays: list[Codec] = []
    # A transposition that changes nothing would only stand in the way of other readers of the chain.
    if order == "F" and ndim > 1:
        arrays.append(Transpose(tuple(reversed(range(ndim)))))
    parsed = [_parse(json, f"{pointer}/filters/{i}") for i, json in enumerate(filters or ())]
    stored = dtype
    tail: list[Codec] = []
    for codec in parsed:
        if isinstance(codec, NumcodecsFilter):
            if tail:
                text = f"filter {codec.numcodecs_id!r} works on elements, but stands behind {tail[-1].name!r} (bytes)"
                raise UnsupportedError(f"{text}; no codec chain can say this")
            codec = codec.with_stored(stored)
            arrays.append(codec)
            stored = _made(codec, stored)
        else:
            tail.append(codec)
    if compressor is not None:
        tail.append(_parse(compressor, f"{pointer}/compressor"))
    if tail and isinstance(tail[0], ArrayBytesCodec):
        serializer, *tail = tail
    else:
        serializer = _serializer(stored)
    for codec in tail:
        if not isinstance(codec, BytesBytesCodec):
            raise UnsupportedError(f"{codec.name!r} works on elements, but stands behind a codec that makes bytes")
    return (*arrays, serializer, *tail)


def to_v2(
    codecs: Sequence[Codec], *, dtype: np.dtype[Any], ndim: int
) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None, Literal["C", "F"]]:
    """Compressor, filters and order of a chain, for Zarr v2 metadata of an array of ``dtype``, whose byte order counts.

    Raises:
        UnsupportedError: Zarr v2 can't say it; the message says what it is.
    """
    order: Literal["C", "F"] = "C"
    filters: list[dict[str, Any]] = []
    stored = dtype
    compressor: dict[str, Any] | None = None
    for i, codec in enumerate(codecs):
        if isinstance(codec, Transpose):
            order = _order(codec, ndim, first=i == 0)
        elif isinstance(codec, Bytes | StoredBytes):
            _check_byte_order(codec, stored)
        elif isinstance(codec, NumcodecsFilter):
            codec = codec.with_stored(stored).with_defaults(ChunkSpec((8,), stored))
            stored = _made(codec, stored)
            filters.append(_v2_json(codec))
        else:
            filters.append(_v2_json(codec))
    if (
        filters
        and not isinstance(codecs[-1], NumcodecsFilter | Bytes | StoredBytes)
        and filters[-1]["id"] not in _CHECKSUMS
    ):
        compressor = filters.pop()
    return compressor, filters or None, order


def _made(codec: NumcodecsFilter, stored: np.dtype[Any]) -> np.dtype[Any]:
    """The data type a filter makes of ``stored``. Of eight elements, because packed bits come in bytes."""
    # bitround rounds in native byte order, and leaves the type as it was.
    return stored if isinstance(codec, BitRound) else codec.bind(ChunkSpec((8,), stored)).encoded.dtype


def _serializer(stored: np.dtype[Any]) -> Codec:
    if not has_byte_order(stored):
        return Bytes(None)
    for endian, character in (("little", "<"), ("big", ">")):
        if stored == stored.newbyteorder(character):  # type: ignore[arg-type]
            return Bytes(endian)  # type: ignore[arg-type]
    return StoredBytes(stored)


def _parse(json: object, pointer: str) -> Codec:
    if not isinstance(json, Mapping):
        raise MetadataError(pointer=pointer, expected="an object with an id", found=json)
    name = json.get("id")
    if not isinstance(name, str):
        raise MetadataError(pointer=f"{pointer}/id", expected="the name of a codec of numcodecs", found=name)
    if name in _OBJECT_CODECS:
        why = (
            "unpickling runs whatever code the file holds" if name == "pickle" else "it is for arrays of Python objects"
        )
        raise UnsupportedError(f"codec {name!r} cannot be used: {why} (metadata{'#' + pointer if pointer else ''})")
    found = CODECS.get(f"numcodecs.{name}")
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
    configuration = codec.to_json().get("configuration", {}) if isinstance(codec, NumcodecsCodec) else {}
    match codec:
        case NumcodecsCodec():
            return {"id": codec.numcodecs_id, **configuration}
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
    if codec.name == "sharding_indexed":
        raise UnsupportedError("Zarr v2 has no shards; write the array without, one object a chunk")
    raise UnsupportedError(f"Zarr v2 has no codec like {codec.name!r}")
