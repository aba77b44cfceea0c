"""Bytes of a fixed length that mean nothing here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from zarrdock.array.dtypes.dtype import MAX_ITEM_BYTES, DataType
from zarrdock.array.dtypes.fill import parse_raw, parse_raw_base64, raw_to_base64
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON, expect_integer, known_members

__all__ = ["RawBits"]


@dataclass(frozen=True, slots=True)
class RawBits(DataType):
    """``r8``, ``r16``, ..., or ``raw_bytes``: bytes that mean nothing here.

    The specification has ``r*`` with fill values as arrays of integers. zarr-python knows ``raw_bytes`` only, with fill
    values in base64; TensorStore knows both names, and base64 only. So every spelling is read and kept, and numpy's
    ``V`` is written as ``raw_bytes``, which most can read.

    Attributes:
        base64: fill values are written so.
    """

    base64: bool = field(default=False, compare=False)

    PATTERN: ClassVar = re.compile(r"r([1-9][0-9]{0,9})", re.ASCII)

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        if name == "raw_bytes":
            known_members(configuration, ("length_bytes",))
            nbytes = expect_integer(configuration.get("length_bytes"), "/length_bytes", 1, MAX_ITEM_BYTES)
            return cls(name, np.dtype(f"V{nbytes}"), base64=True)
        known_members(configuration, ())
        found = cls.PATTERN.fullmatch(name)
        n_bits = int(found.group(1)) if found else 0
        if n_bits == 0 or n_bits % 8 or n_bits // 8 > MAX_ITEM_BYTES:
            raise MetadataError(expected=f"r8, r16, ... up to r{8 * MAX_ITEM_BYTES}", found=name)
        return cls(name, np.dtype(f"V{n_bits // 8}"))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        if dtype.names is not None or dtype.subdtype is not None:
            raise UnknownExtensionError("data type", str(dtype))
        if not 1 <= dtype.itemsize <= MAX_ITEM_BYTES:
            raise MetadataError(expected=f"elements of 1 to {MAX_ITEM_BYTES} bytes", found=str(dtype))
        return cls("raw_bytes", dtype, base64=True)

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if isinstance(value, str):
            return parse_raw_base64(value, self.numpy, pointer)
        return parse_raw(value, self.numpy, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return raw_to_base64(value) if self.base64 else list(bytes(value))

    def spelled_as(self, fill: JSON) -> DataType:
        return replace(self, base64=isinstance(fill, str))

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return parse_raw_base64(value, self.numpy, pointer, pad=True)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return raw_to_base64(value)

    def cast_fill(self, value: Any) -> Any:
        if isinstance(value, np.void):
            value = value.tobytes()
        if isinstance(value, (bytes, bytearray)):
            value = list(value)
        elif isinstance(value, int) and not isinstance(value, bool) and value == 0:
            return self.default_fill()
        return self.parse_fill(value, "/fill_value")

    def to_json(self) -> JSON:
        return (
            self.name
            if self.name != "raw_bytes"
            else {"name": self.name, "configuration": {"length_bytes": self.numpy.itemsize}}
        )
