"""Zarr v2 documents: ``.zarray``, ``.zgroup``, ``.zattrs``; and what has to be stored for a node of either format."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from zarrdock.array.dtypes.dtype import DataType
from zarrdock.array.dtypes.v2_dtypes import parse_data_type_v2
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.lenient import Leniency, load_attributes, mend_array_v2, mend_group
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, V2Details
from zarrdock.codecs.codec import Codec
from zarrdock.codecs.v2_codecs import from_v2, to_v2
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError
from zarrdock.json_ import JSON, expect_integers, expect_object, in_document, loads, serialise

__all__ = [
    "array_v2_from_json",
    "documents",
    "group_v2_from_json",
    "parse_array_v2",
    "parse_group_v2",
    "to_v2_documents",
]

_REQUIRED: Final = ("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters")
_MEMBERS: Final = frozenset({*_REQUIRED, "dimension_separator"})


def parse_array_v2(
    zarray: bytes | bytearray | memoryview,
    zattrs: bytes | bytearray | memoryview | None,
    key: str = ".zarray",
    *,
    lenient: bool = False,
) -> ArrayMetadata:
    """The array that ``.zarray`` and ``.zattrs`` describe.

    Args:
        zarray, zattrs: the documents; None where there are no attributes.
        key: of ``zarray``, for errors.
        lenient: as for ``ArrayMetadata.from_json``.
    Raises:
        UnknownExtensionError, MetadataError: with the key of the document concerned, and a pointer into it.

    Source: Zarr v2, "Arrays", "Attributes".
    """
    attributes, leniencies = _attributes(zattrs, key)
    with in_document(key):
        array = array_v2_from_json(loads(zarray), attributes, lenient=lenient)
    return array.replace(leniencies=array.leniencies + leniencies) if leniencies else array


def parse_group_v2(
    zgroup: bytes | bytearray | memoryview, zattrs: bytes | bytearray | memoryview | None, key: str = ".zgroup"
) -> GroupMetadata:
    """The group that ``.zgroup`` and ``.zattrs`` describe.

    Raises:
        MetadataError: with the key of the document concerned, and a pointer into it.

    Source: Zarr v2, "Groups", "Attributes".
    """
    attributes, leniencies = _attributes(zattrs, key)
    with in_document(key):
        group = group_v2_from_json(loads(zgroup), attributes)
    return group.replace(leniencies=group.leniencies + leniencies) if leniencies else group


def array_v2_from_json(document: JSON, attributes: dict[str, Any], *, lenient: bool = False) -> ArrayMetadata:
    """Parse the JSON of a ``.zarray`` and the attributes."""
    members = expect_object(document, expected="an object, the metadata of an array")
    try:
        return _strict_array(members, attributes, lenient)
    except MetadataError:
        mended, leniencies = mend_array_v2(members)
        if not leniencies:
            raise
    return _strict_array(mended, attributes, lenient).replace(leniencies=leniencies)


def _strict_array(members: dict[str, Any], attributes: dict[str, Any], lenient: bool) -> ArrayMetadata:
    for member in _REQUIRED:
        if member not in members:
            raise MetadataError(expected=f"a member {member!r}", found=sorted(members))
    _check_format(members)
    shape = expect_integers(members["shape"], "/shape")
    grid = RegularGrid(expect_integers(members["chunks"], "/chunks"))
    data_type = _data_type(members["dtype"], members["filters"], lenient)
    found = members["fill_value"]
    fill = data_type.default_fill() if found is None else data_type.parse_fill_v2(found, "/fill_value")
    separator = members.get("dimension_separator")
    if separator not in (".", "/", None):
        raise MetadataError(pointer="/dimension_separator", expected="'.' or '/'", found=separator)
    order = members["order"]
    if order not in ("C", "F"):
        raise MetadataError(pointer="/order", expected="'C' or 'F'", found=order)
    compressor, filters = members["compressor"], members["filters"]
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        grid=grid,
        key_encoding=SeparatedKeys("v2", "/" if separator == "/" else "."),
        fill_value=fill,
        codecs=_codecs(compressor, filters, data_type, order, len(shape), lenient),
        attributes=attributes,
        zarr_format=2,
        extra={name: value for name, value in members.items() if name not in _MEMBERS},
        v2=V2Details(
            fill_value_is_null=found is None,
            fill_value=found if _is_json(found) else None,
            members={"compressor": compressor, "filters": filters, "order": order},
            names_separator=separator is not None,
        ),
    )


def group_v2_from_json(document: JSON, attributes: dict[str, Any]) -> GroupMetadata:
    """Parse the JSON of a ``.zgroup`` and the attributes."""
    members = expect_object(document, expected="an object, the metadata of a group")
    leniencies: tuple[Leniency, ...] = ()
    try:
        _check_format(members)
    except MetadataError:
        members, leniencies = mend_group(members, ".zgroup")
        if not leniencies:
            raise
        _check_format(members)
    # zarr-python 3 puts an empty ``consolidated_metadata`` here, where it means nothing.
    extra = {name: value for name, value in members.items() if name not in ("zarr_format", "consolidated_metadata")}
    return GroupMetadata(attributes=attributes, zarr_format=2, extra=extra, leniencies=leniencies)


def to_v2_documents(metadata: Node) -> dict[str, dict[str, Any]]:
    """The documents of v2 metadata, by name: ``.zarray`` or ``.zgroup``, and ``.zattrs``, which may be empty.

    Raises:
        UnsupportedError: v3 metadata, or a chain of codecs that v2 cannot express.
    """
    if metadata.zarr_format != 2:
        raise UnsupportedError("this is metadata of Zarr v3: use to_json() for its document")
    attributes = dict(metadata.attributes)
    if isinstance(metadata, GroupMetadata):
        return {".zgroup": {"zarr_format": 2, **metadata.extra}, ".zattrs": attributes}
    details = metadata.v2 or V2Details()
    members = details.members
    if members is None:
        compressor, filters, order = to_v2(metadata.codecs, dtype=metadata.data_type.stored_v2, ndim=metadata.ndim)
        members = {"compressor": compressor, "filters": filters, "order": order}
    data_type, keys = metadata.data_type, metadata.key_encoding
    fill = details.fill_value
    if fill is None and not details.fill_value_is_null:
        fill = data_type.fill_to_json_v2(metadata.fill_value)
    if not isinstance(keys, SeparatedKeys) or keys.name != "v2":
        raise UnsupportedError(f"Zarr v2 has only the chunk key encoding 'v2', not {keys.name!r}")
    zarray: dict[str, Any] = {
        "zarr_format": 2,
        "shape": list(metadata.shape),
        "chunks": list(metadata.grid.chunk_shape),
        "dtype": data_type.to_json_v2(),
        "compressor": members["compressor"],
        "fill_value": fill,
        "order": members["order"],
        "filters": members["filters"],
        "dimension_separator": keys.separator,
    }
    return {".zarray": zarray | dict(metadata.extra), ".zattrs": attributes}


def documents(metadata: Node) -> dict[str, bytes]:
    """Documents to store for a node, by the last part of the key: ``zarr.json``, or the documents of v2.

    Raises:
        MetadataError: an attribute that has no form in JSON.
        UnsupportedError: a chain of codecs that v2 cannot express.
    """
    if metadata.zarr_format == 3:
        return {"zarr.json": serialise(metadata.to_json())}
    stored: dict[str, bytes] = {}
    for name, document in to_v2_documents(metadata).items():
        with in_document(name):
            stored[name] = serialise(document)
    return stored


def _attributes(zattrs: bytes | bytearray | memoryview | None, key: str) -> tuple[dict[str, Any], tuple[Leniency, ...]]:
    if zattrs is None:
        return {}, ()
    folder, slash, _ = key.rpartition("/")
    with in_document(f"{folder}{slash}.zattrs"):
        return load_attributes(zattrs)


def _is_json(value: JSON) -> bool:
    """False for the literals NaN and Infinity, which a document may hold and none should."""
    if isinstance(value, list):
        return all(map(_is_json, value))
    return not isinstance(value, float) or math.isfinite(value)


def _check_format(members: dict[str, Any]) -> None:
    found = members.get("zarr_format")
    if type(found) is not int or found != 2:
        raise MetadataError(pointer="/zarr_format", expected="2", found=found)


def _data_type(value: JSON, filters: JSON, lenient: bool) -> DataType:
    try:
        return parse_data_type_v2(value, "/dtype", filters=filters)
    except UnknownExtensionError as error:
        if not lenient:
            raise
        return UnknownDataType.of(value, error)


def _codecs(
    compressor: JSON, filters: JSON, data_type: DataType, order: Literal["C", "F"], ndim: int, lenient: bool
) -> tuple[Codec, ...]:
    if compressor is not None:
        expect_object(compressor, "/compressor", "a codec's configuration, or null")
    if filters is not None:
        if not isinstance(filters, list):
            raise MetadataError(
                pointer="/filters", expected="an array of codecs' configurations, or null", found=filters
            )
        for i, item in enumerate(filters):
            expect_object(item, f"/filters/{i}", "a codec's configuration")
    if isinstance(data_type, UnknownDataType):
        return ()
    try:
        return from_v2(compressor, filters or None, dtype=data_type.stored_v2, order=order, ndim=ndim)
    except (UnknownExtensionError, UnsupportedError) as error:
        if not lenient:
            raise
        if isinstance(error, UnsupportedError):
            error = UnknownExtensionError("codec", "filters and compressor", hint=str(error), pointer="/filters")
        return (UnknownCodec.of({"compressor": compressor, "filters": filters}, error),)
