"""Members of a v3 document, one function each. Pointers are those of the document."""

from __future__ import annotations

from typing import Any

from zarrdock.array.dtypes.dtype import DataType, parse_data_type
from zarrdock.array.metadata.chunk_grids import ChunkGrid, parse_chunk_grid
from zarrdock.array.metadata.key_encodings import KeyEncoding, parse_key_encoding
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType, UnknownGrid, UnknownKeyEncoding
from zarrdock.codecs.builtin import parse_codec, parse_codecs
from zarrdock.codecs.codec import Codec
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON, expect_string, named, pointer_to

__all__ = [
    "parse_codecs_or_unknown",
    "parse_data_type_or_unknown",
    "parse_dimension_names",
    "parse_extra",
    "parse_grid_or_unknown",
    "parse_keys_or_unknown",
    "parse_transformers",
]


def parse_data_type_or_unknown(value: JSON, lenient: bool) -> DataType:
    """``data_type``; with ``lenient`` a stand-in for an unknown one."""
    try:
        return parse_data_type(value, "/data_type")
    except UnknownExtensionError as error:
        if not lenient:
            raise
        return UnknownDataType.of(value, error)


def parse_grid_or_unknown(value: JSON, shape: tuple[int, ...], lenient: bool) -> ChunkGrid:
    """``chunk_grid``; with ``lenient`` a stand-in for an unknown one."""
    try:
        return parse_chunk_grid(value, "/chunk_grid")
    except UnknownExtensionError as error:
        if not lenient:
            raise
        return UnknownGrid.of(value, shape, error)


def parse_keys_or_unknown(value: JSON, lenient: bool) -> KeyEncoding:
    """``chunk_key_encoding``; with ``lenient`` a stand-in for an unknown one."""
    try:
        return parse_key_encoding(value, "/chunk_key_encoding")
    except UnknownExtensionError as error:
        if not lenient:
            raise
        return UnknownKeyEncoding.of(value, error)


def parse_codecs_or_unknown(value: JSON, lenient: bool) -> tuple[Codec, ...]:
    """``codecs``; with ``lenient`` stand-ins for unknown ones."""
    try:
        return parse_codecs(value, "/codecs")
    except UnknownExtensionError:
        if not lenient:
            raise
    # Their order can't be checked: an unknown codec may be of any kind.
    codecs: list[Codec] = []
    for i, item in enumerate(value):
        try:
            codecs.append(parse_codec(item, pointer_to("/codecs", i)))
        except UnknownExtensionError as error:
            codecs.append(UnknownCodec.of(item, error))
    return tuple(codecs)


def parse_dimension_names(value: JSON) -> tuple[str | None, ...] | None:
    """``dimension_names``; some writers put null for none at all."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise MetadataError(pointer="/dimension_names", expected="an array of strings and nulls", found=value)
    return tuple(
        None if name is None else expect_string(name, pointer_to("/dimension_names", i), "a string or null")
        for i, name in enumerate(value)
    )


def _ignorable(value: JSON) -> bool:
    return isinstance(value, dict) and value.get("must_understand") is False


def parse_extra(members: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The members that are not known, which must all say that they need not be understood.

    Source: Zarr v3 core, "must_understand".
    """
    extra = {name: value for name, value in members.items() if name not in known}
    for name, value in extra.items():
        if not _ignorable(value):
            raise MetadataError(
                "unknown member, which may only be ignored if it says must_understand: false",
                pointer=pointer_to("", name),
                expected="a member of Zarr v3",
                found=value,
            )
    return extra


def parse_transformers(value: JSON, lenient: bool) -> dict[str, Any]:
    """``storage_transformers``: zarrdock knows none. Those that may be ignored are kept, to be written again, as is an
    empty list, and with ``lenient`` the others, too.
    """
    if value is None:
        return {}
    if not isinstance(value, list):
        raise MetadataError(pointer="/storage_transformers", expected="an array", found=value)
    for i, item in enumerate(value):
        pointer = pointer_to("/storage_transformers", i)
        name, _ = named(item, pointer, what="storage transformer")
        if not _ignorable(item) and not lenient:
            hint = "zarrdock knows none"
            raise UnknownExtensionError("storage transformer", name, hint=hint, pointer=pointer)
    return {"storage_transformers": value}
