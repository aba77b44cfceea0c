"""Text and bytes: of variable length (``string``, ``bytes``) and of a fixed one; and v2's arrays of objects.

Text of variable length is numpy's ``StringDType`` in memory, bytes of variable length are ``bytes`` objects in an array
of objects.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from zarrdock.array.dtypes.dtype import MAX_ITEM_BYTES, AsItIs, DataType, plain
from zarrdock.array.dtypes.fill import parse_base64, parse_raw_base64, raw_to_base64
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON, expect_integers, known_members

__all__ = ["FixedBytes", "FixedText", "Objects", "String", "VariableBytes"]


def _zero(value: Any) -> bool:
    """True for the 0 that zarr-python 2 wrote as default of types without a better form."""
    return isinstance(value, int) and not isinstance(value, bool) and value == 0


class String(DataType):
    """``string``: text of any length; v2's objects with the filter ``vlen-utf8``.

    Source: Zarr extensions, data type "string".
    """

    __slots__ = ()

    serializer: ClassVar[str] = "vlen-utf8"
    object_codec: ClassVar[str | None] = "vlen-utf8"

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ())
        return cls(name, np.dtypes.StringDType())

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        # A type with a mark for missing values is another one, and nothing could store the mark.
        return cls("string", np.dtypes.StringDType())

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if not isinstance(value, str):
            raise MetadataError(pointer=pointer, expected="a string", found=value)
        return value

    def fill_to_json(self, value: Any) -> JSON:
        return str(value)

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return "" if _zero(value) else self.parse_fill(value, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return str(value)

    def cast_fill(self, value: Any) -> Any:
        return self.parse_fill_v2(plain(value), "/fill_value")

    def to_json_v2(self) -> JSON:
        return "|O"


@dataclass(frozen=True, slots=True)
class VariableBytes(DataType):
    """``bytes``, which zarr-python calls ``variable_length_bytes``; v2's objects with the filter ``vlen-bytes``.

    Fill values are base64, as zarr-python has them, or arrays of integers; both are read, and the form is kept.

    Attributes:
        base64: fill values of v3 are written so.

    Source: Zarr extensions, data type "bytes".
    """

    base64: bool = field(default=True, compare=False)

    serializer: ClassVar[str] = "vlen-bytes"
    object_codec: ClassVar[str | None] = "vlen-bytes"

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ())
        return cls(name, np.dtype(object))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        return cls("bytes", np.dtype(object))

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if isinstance(value, str):
            return parse_base64(value, pointer)
        return bytes(expect_integers(value, pointer, stop=256))

    def fill_to_json(self, value: Any) -> JSON:
        return raw_to_base64(value) if self.base64 else list(bytes(value))

    def spelled_as(self, fill: JSON) -> DataType:
        return replace(self, base64=isinstance(fill, str))

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return b"" if _zero(value) else parse_base64(value, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return raw_to_base64(value)

    def cast_fill(self, value: Any) -> Any:
        value = plain(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        return b"" if _zero(value) else self.parse_fill(value, "/fill_value")

    def default_fill(self) -> Any:
        return b""

    def to_json_v2(self) -> JSON:
        return "|O"


@dataclass(frozen=True, slots=True)
class Objects(AsItIs):
    """v2's objects with any other filter: whatever Python objects that makes.

    Attributes:
        filter: the object codec's name.
    """

    filter: str = ""

    @classmethod
    def of(cls, filter: str) -> DataType:
        """The data type of the objects that the object codec ``filter`` decodes to."""
        return cls("object", np.dtype(object), filter)

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        raise UnknownExtensionError("data type", name, hint="Zarr v3 has no arrays of Python objects")

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        raise UnknownExtensionError("data type", str(dtype), hint="say which object codec is to be used")

    def cast_fill(self, value: Any) -> Any:
        value = plain(value)
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise MetadataError(pointer="/fill_value", expected="a value that JSON has a form for", found=value) from (
                error
            )
        return value

    def default_fill(self) -> Any:
        return "" if self.filter == "categorize" else None

    def to_json(self) -> JSON:
        raise UnknownExtensionError("data type", "object", hint="Zarr v3 has no arrays of Python objects")

    def to_json_v2(self) -> JSON:
        return "|O"


class _Fixed(DataType):
    """A fixed number of characters or bytes, shorter values padded with zeros, which are not part of the value."""

    __slots__ = ()

    NAME: ClassVar[str]
    KIND: ClassVar[str]
    UNIT: ClassVar[int]

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ("length_bytes",))
        nbytes = configuration.get("length_bytes")
        if (
            isinstance(nbytes, bool)
            or not isinstance(nbytes, int)
            or not 1 <= nbytes <= MAX_ITEM_BYTES
            or nbytes % cls.UNIT
        ):
            multiple = f"a multiple of {cls.UNIT}" if cls.UNIT > 1 else "an integer"
            expected = f"{multiple} from {cls.UNIT} to {MAX_ITEM_BYTES}"
            raise MetadataError(pointer="/length_bytes", expected=expected, found=nbytes)
        return cls(name, np.dtype(f"{cls.KIND}{nbytes // cls.UNIT}"))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        if not 1 <= dtype.itemsize <= MAX_ITEM_BYTES:
            raise MetadataError(
                expected=f"elements of 1 to {MAX_ITEM_BYTES} bytes, such as '{cls.KIND}8'", found=str(dtype)
            )
        return cls(cls.NAME, dtype)

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return self.parse_fill("" if _zero(value) else value, pointer)

    def to_json(self) -> JSON:
        return {"name": self.name, "configuration": {"length_bytes": self.numpy.itemsize}}

    def _scalar(self, value: Any) -> Any:
        return np.array(value, self.numpy.newbyteorder("="))[()]


class FixedText(_Fixed):
    """``fixed_length_utf32``: numpy's ``U``. Source: Zarr extensions, data type "fixed_length_utf32"."""

    __slots__ = ()

    NAME: ClassVar[str] = "fixed_length_utf32"
    KIND: ClassVar[str] = "U"
    UNIT: ClassVar[int] = 4

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        n = self.numpy.itemsize // 4
        if not isinstance(value, str) or len(value) > n:
            raise MetadataError(pointer=pointer, expected=f"a string of at most {n} characters", found=value)
        return self._scalar(value)

    def fill_to_json(self, value: Any) -> JSON:
        return str(value)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return str(value)

    def cast_fill(self, value: Any) -> Any:
        return self.parse_fill_v2(plain(value), "/fill_value")


class FixedBytes(_Fixed):
    """``null_terminated_bytes``: numpy's ``S``. Source: Zarr extensions, data type "null_terminated_bytes"."""

    __slots__ = ()

    NAME: ClassVar[str] = "null_terminated_bytes"
    KIND: ClassVar[str] = "S"
    UNIT: ClassVar[int] = 1

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_raw_base64(value, self.numpy, pointer, pad=True)

    def fill_to_json(self, value: Any) -> JSON:
        return raw_to_base64(bytes(value))

    def fill_to_json_v2(self, value: Any) -> JSON:
        # With its padding: that is what every reader takes.
        return raw_to_base64(bytes(value).ljust(self.numpy.itemsize, b"\0"))

    def cast_fill(self, value: Any) -> Any:
        value = plain(value)
        if isinstance(value, (bytes, bytearray)) and len(value) <= self.numpy.itemsize:
            return self._scalar(bytes(value))
        return self.parse_fill_v2(value, "/fill_value")
