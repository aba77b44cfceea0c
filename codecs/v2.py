"""Zarr v2's order, filters and compressor, as a chain of codecs; the way back is in ``v2_forms.py``.

In v2 the filters and the compressor are numcodecs' and work one after the other on the chunk's memory. As a chain:
order "F" is a transposition; filters that work on elements are array to array; the elements' own byte order is that of
the data type; from the first filter that works on bytes on, all is bytes to bytes. Objects need a filter that makes
bytes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from zarrdock.codecs.base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, Codec
from zarrdock.codecs.builtin import CODECS
from zarrdock.codecs.bytes_ import Bytes, has_byte_order
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.numcodecs_ import Blosc as NumcodecsBlosc
from zarrdock.codecs.numcodecs_ import Gzip as NumcodecsGzip
from zarrdock.codecs.numcodecs_ import Zstd as NumcodecsZstd
from zarrdock.codecs.numcodecs_arrays import NumcodecsFilter
from zarrdock.codecs.numcodecs_foreign import ForeignCompressor, foreign_compressor
from zarrdock.codecs.objects import check_pickle_allowed
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.v2_forms import StoredBytes, made_by, to_v2, to_v3
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

__all__ = ["StoredBytes", "from_v2", "to_v2", "to_v3"]

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
    parsed = [_parse(json, f"{pointer}/filters/{i}") for i, json in enumerate(filters or ())]
    stored = dtype
    tail: list[Codec] = []
    for codec in parsed:
        if isinstance(codec, ArrayArrayCodec):
            if tail:
                text = f"filter {codec.name!r} works on elements, but stands behind {tail[-1].name!r} (bytes)"
                raise UnsupportedError(f"{text}; no codec chain can say this")
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
        tail.append(_parse(compressor, f"{pointer}/compressor"))
    if tail and isinstance(tail[0], ArrayBytesCodec):
        serializer, *tail = tail
        if isinstance(serializer, ForeignCompressor):
            serializer = serializer.with_stored(stored)
    else:
        serializer = _serializer(stored)
    for codec in tail:
        if not isinstance(codec, BytesBytesCodec):
            raise UnsupportedError(f"{codec.name!r} works on elements, but stands behind a codec that makes bytes")
    return (*arrays, serializer, *tail)


def _serializer(stored: np.dtype[Any]) -> Codec:
    if stored.hasobject or stored.kind == "T":
        names = ", ".join(_OBJECT_CODECS)
        raise UnsupportedError(f"objects need a filter that makes bytes of them, one of {names}, and there is none")
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
