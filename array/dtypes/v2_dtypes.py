"""The ``dtype`` of Zarr v2 metadata. What objects (``|O``) are is said by the object codec among the filters."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from zarrdock.array.dtypes.dtype import DataType, of_numpy, parse_data_type
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON

__all__ = ["OBJECT_CODECS", "object_type_of", "parse_data_type_v2"]

#: Filters of v2 that make bytes of objects.
OBJECT_CODECS: Final = ("vlen-utf8", "vlen-bytes", "vlen-array", "json2", "msgpack2", "pickle", "categorize")

_FORM: Final = re.compile(r"([<>|])([A-Za-z])([0-9]{0,7})(\[[^\]]*\])?", re.ASCII)
# TensorStore writes the names of v3 for types that numpy has not, and means little-endian.
_SMALL: Final = re.compile(r"bfloat16|float8_[a-z0-9]+|u?int[24]|float[46]_[a-z0-9]+", re.ASCII)


def parse_data_type_v2(value: JSON, pointer: str = "", *, filters: JSON = None) -> DataType:
    """The data type that v2 metadata names, with its byte order.

    Args:
        filters: of the same document; only objects need them.
    Raises:
        UnknownExtensionError: it is not known here. MetadataError: not a data type.

    Source: Zarr v2, "Data type encoding".
    """
    if isinstance(value, list):
        from zarrdock.array.dtypes.struct_ import Struct

        return Struct.from_json_v2(value, pointer, parse_data_type_v2)
    if isinstance(value, str) and _SMALL.fullmatch(value):
        return parse_data_type(value, pointer)
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MetadataError(
            pointer=pointer, expected="a dtype with its byte order, such as '<f8' or '|u1'", found=value
        )
    order, kind, size, unit = found.groups()
    if kind == "O":
        return object_type_of(filters, pointer)
    if kind not in "biufcVUSMm":
        raise UnknownExtensionError("data type", value, pointer=pointer)
    if (unit and kind not in "Mm") or not size or int(size) == 0:
        raise MetadataError(pointer=pointer, expected="a dtype with its size, such as '<f8'", found=value)
    if order == "|" and kind in "iufcUMm" and size != "1":
        raise MetadataError(
            "more than one byte needs a byte order", pointer=pointer, expected="'<' or '>'", found=value
        )
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError) as error:
        raise MetadataError(pointer=pointer, expected="a dtype that numpy knows, such as '<f8'", found=value) from error
    try:
        return of_numpy(dtype)
    except MetadataError as error:
        raise error.below(pointer) from error.__cause__


def object_type_of(filters: JSON, pointer: str = "") -> DataType:
    """The data type of objects that the first object codec among v2's filters makes bytes of.

    Raises:
        UnknownExtensionError: there is none.
    """
    from zarrdock.array.dtypes.text import Objects, String, VariableBytes

    for item in filters if isinstance(filters, (list, tuple)) else ():
        name: Any = item.get("id") if isinstance(item, dict) else None
        if name == "vlen-utf8":
            return String.from_json("string", {})
        if name == "vlen-bytes":
            return VariableBytes.from_json("bytes", {})
        if name in OBJECT_CODECS:
            return Objects.of(name)
    hint = f"objects need an object codec among the filters, which says what they are: {', '.join(OBJECT_CODECS)}"
    raise UnknownExtensionError("data type", "|O", hint=hint, pointer=pointer)
