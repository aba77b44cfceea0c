"""Codecs in the forms that users give them: zarrdock's objects, metadata, names, and the objects of other libraries."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, Codec
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.v2_codecs import parse_v2_codec
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError

__all__ = ["CodecLike", "codec_of", "compressors_of", "of_kind", "several", "v2_configuration"]


class _ZarrPythonCodec(Protocol):
    def to_dict(self) -> Mapping[str, Any]: ...


class _NumcodecsCodec(Protocol):
    def get_config(self) -> Mapping[str, Any]: ...


#: A codec of zarrdock; its v3 metadata, or its name; its configuration for numcodecs; an object of zarr-python's or
#: numcodecs' for it.
CodecLike: TypeAlias = "Codec | Mapping[str, Any] | str | _ZarrPythonCodec | _NumcodecsCodec"


def codec_of(given: CodecLike, pointer: str = "", *, new: bool = False) -> Codec:
    """The codec that a user means.

    Args:
        given: see :data:`CodecLike`.
        pointer: of the argument, for errors.
        new: for a new array, where missing parts are filled in: members of metadata, and the members that zarr-python's
            objects leave to the array.
    Raises:
        MetadataError: something else, or a configuration that the codec does not take. UnknownExtensionError.

    >>> codec_of("gzip")
    Gzip(level=5)
    >>> import numcodecs
    >>> codec_of(numcodecs.Zstd(3))
    Zstd(level=3, checksum=False)
    """
    if isinstance(given, Codec):
        return given
    configuration = v2_configuration(given)
    if configuration is not None:
        return parse_v2_codec(configuration, pointer)
    if isinstance(given, (str, Mapping)):
        return parse_codec(given, pointer, new=new)
    to_dict = getattr(given, "to_dict", None)
    if to_dict is None:
        raise MetadataError(pointer=pointer, expected="a codec, its metadata or its name", found=given)
    # Those among the members that the object's maker left to the array are set, though not to what they will be.
    open_members = getattr(given, "_tunable_attrs", ()) if new else ()
    metadata = cast("dict[str, Any]", _plain(to_dict()))
    members = metadata.get("configuration")
    if isinstance(members, dict):
        metadata["configuration"] = {name: value for name, value in members.items() if name not in open_members}
    if metadata.get("name") == Sharding.name:
        return _sharding(given, metadata, pointer, new)
    return parse_codec(metadata, pointer, new=new)


def compressors_of(given: Any, zarr_format: int) -> tuple[BytesBytesCodec, ...]:
    """The bytes-to-bytes codecs of a new array.

    Args:
        given: one or several (see :data:`CodecLike`), None for none, or "auto" for zstd. In Zarr v3 a zstd that is
            given without a word about its checksum has one: 4 bytes, verified by every reader that decodes it.
    Raises:
        MetadataError: something else than a compressor. UnknownExtensionError.

    >>> compressors_of({"name": "zstd", "configuration": {"level": 5}}, 3)
    (Zstd(level=5, checksum=True),)
    """
    if given is None:
        return ()
    found: list[BytesBytesCodec] = []
    for one in several(Zstd.name if isinstance(given, str) and given == "auto" else given):
        codec = codec_of(_with_checksum(one) if zarr_format == 3 else one, "/compressors", new=True)
        found.append(of_kind(codec, BytesBytesCodec, "/compressors"))
    return tuple(found)


# Any, since mypy wants concrete classes where types are values.
_KINDS: tuple[tuple[Any, str, str], ...] = (
    (ArrayArrayCodec, "an array-to-array codec", "filters"),
    (ArrayBytesCodec, "an array-to-bytes codec", "serializer"),
    (BytesBytesCodec, "a bytes-to-bytes codec", "compressors"),
)


def of_kind(codec: Codec, kind: Any, pointer: str) -> Any:
    """The codec, which has to be of a kind.

    Raises:
        MetadataError: it is of another, with the parameter that takes it.
    """
    if isinstance(codec, kind):
        return codec
    expected = next(words for one, words, _ in _KINDS if one is kind)
    words, parameter = next(((words, name) for one, words, name in _KINDS if isinstance(codec, one)), ("", ""))
    raise MetadataError(f"{codec.name!r} is {words}, not {expected}: give it as {parameter}=...", pointer=pointer)


def _with_checksum(given: CodecLike) -> CodecLike:
    if isinstance(given, str) and given == Zstd.name:
        return Zstd(checksum=True)
    members = given.get("configuration", {}) if isinstance(given, Mapping) and given.get("name") == Zstd.name else None
    if isinstance(members, Mapping) and "checksum" not in members:
        return {"name": Zstd.name, "configuration": {**members, "checksum": True}}
    return given


def _sharding(given: Any, metadata: Mapping[str, Any], pointer: str, new: bool) -> Codec:
    """A shard's codec, its inner codecs taken from their objects."""
    outer = parse_codec(metadata, pointer)
    assert isinstance(outer, Sharding)
    codecs = tuple(codec_of(codec, pointer, new=new) for codec in given.codecs)
    return Sharding(outer.chunk_shape, codecs, outer.index_codecs, outer.index_location)


def v2_configuration(given: object) -> Mapping[str, Any] | None:
    """The configuration in Zarr v2's form, of a numcodecs object or as it is; None where it is in no such form."""
    if not isinstance(given, Codec) and hasattr(given, "get_config"):
        given = given.get_config()
    return given if isinstance(given, Mapping) and "id" in given and "name" not in given else None


def several(given: Any) -> list[Any]:
    """The codecs of an argument that takes one or many."""
    is_one = isinstance(given, (Codec, Mapping, str)) or hasattr(given, "to_dict") or hasattr(given, "get_config")
    return [given] if is_one or not isinstance(given, Iterable) else list(given)


def _plain(value: Any) -> Any:
    """Metadata as a JSON parser gives it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value
