"""Numbers that numpy has not: small integers, bfloat16, floats of 4, 6 and 8 bits, and complex numbers of them.

They are numpy dtypes of the package ml_dtypes (the extra ``ml``). Each number takes one byte in memory and with the
codec ``bytes``, bfloat16 two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from zarrdock.array.dtypes.dtype import DataType, parse_data_type, plain
from zarrdock.array.dtypes.numbers_ import Number
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.json_ import JSON, NOT_FINITE, float_to_json, known_members, parse_float, parse_integer, pointer_to

__all__ = ["ComplexOf", "SmallFloat", "SmallInteger"]

_finfo: Any = ml_dtypes.finfo


def _numpy(name: str) -> np.dtype[Any]:
    """The library's dtype of this name.

    Raises:
        UnsupportedError: the library is too old.
    """
    if not hasattr(ml_dtypes, name):
        raise UnsupportedError(f'ml-dtypes {ml_dtypes.__version__} is too old for {name}: pip install "zarrdock[ml]"')
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


class _Small(Number):
    """Base of the types from ml_dtypes. In v2 they only have TensorStore's form, which is the name."""

    __slots__ = ()

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ())
        return cls(name, _numpy(name))

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return self.parse_fill(value, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return self.fill_to_json(value)

    def to_json_v2(self) -> JSON:
        return self.name


class SmallInteger(_Small):
    """``int2``, ``uint2``, ``int4``, ``uint4``. Source: Zarr extensions, data types of these names."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_integer(value, self.numpy, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return int(value)

    def cast_fill(self, value: Any) -> Any:
        return parse_integer(plain(value), self.numpy, "/fill_value", integral=True)


class SmallFloat(_Small):
    """``bfloat16``, ``float8_*``, ``float6_*``, ``float4_*``. Source: Zarr extensions, data types of these names."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        scalar = parse_float(value, self.numpy, pointer)
        number = NOT_FINITE.get(value, value) if isinstance(value, str) else value
        if isinstance(number, str) or self._means(scalar, number):
            return scalar
        expected = f"a number that {self.name} has, or 0x and its bits in hexadecimal digits"
        raise MetadataError(pointer=pointer, expected=expected, found=value)

    def _means(self, scalar: Any, value: float) -> bool:
        """True if ``scalar`` is ``value``, rounded. Types without infinity convert values that are too large into
        others, types without NaN convert NaN into a number; likewise types without a sign or a zero.
        """
        got = float(scalar)
        if math.isnan(value) or math.isnan(got):
            return math.isnan(value) and math.isnan(got)
        if math.isinf(value) or math.isinf(got):
            return got == value or (math.isinf(got) and got * value > 0 and math.isfinite(value))
        finfo = _finfo(self.numpy)
        return abs(value) <= float(finfo.max) * (1 + float(finfo.eps) / 2) and value * got >= 0

    def fill_to_json(self, value: Any) -> JSON:
        return float_to_json(value, self.numpy)

    def cast_fill(self, value: Any) -> Any:
        if isinstance(value, self.numpy.type):
            return value
        return self.parse_fill(plain(value), "/fill_value")


@dataclass(frozen=True, slots=True)
class ComplexOf(DataType):
    """``complex_float16`` and so on: a real and an imaginary part of the type in the name.

    In memory these are numpy's complex numbers for float32 and float64, those of ml_dtypes for float16 and bfloat16,
    and a structure with the fields ``real`` and ``imag`` for all others.

    Attributes:
        part: the type of the parts.
    """

    part: DataType

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ())
        part = parse_data_type(name.removeprefix("complex_"))
        if part.name in ("float32", "float64"):
            return cls(name, np.dtype(np.complex64 if part.name == "float32" else np.complex128), part)
        if part.name in ("float16", "bfloat16"):
            return cls(name, _numpy("complex32" if part.name == "float16" else "bcomplex32"), part)
        return cls(name, np.dtype([("real", part.numpy), ("imag", part.numpy)]), part)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        return cls.from_json("complex_bfloat16" if dtype.name == "bcomplex32" else "complex_float16", {})

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            expected = "an array of two numbers, real and imaginary part"
            raise MetadataError(pointer=pointer, expected=expected, found=value)
        return self._of_parts([self.part.parse_fill(item, pointer_to(pointer, i)) for i, item in enumerate(value)])

    def fill_to_json(self, value: Any) -> JSON:
        parts = np.asarray(value, self.numpy).reshape(1).view(self.part.numpy)
        return [self.part.fill_to_json(part) for part in parts]

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return self.parse_fill(value, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return self.fill_to_json(value)

    def cast_fill(self, value: Any) -> Any:
        if isinstance(value, np.generic) and value.dtype == self.numpy:  # as a Python number a NaN loses bits
            return value
        value = plain(value)
        if not isinstance(value, (list, tuple)):
            try:
                number = complex(value)
            except (TypeError, ValueError):
                raise MetadataError(pointer="/fill_value", expected="a number, or two", found=value) from None
            value = [number.real, number.imag]
        return self.parse_fill(value, "/fill_value")

    def to_json_v2(self) -> JSON:
        if self.numpy.kind != "c":
            raise UnsupportedError(f"Zarr v2 has no form for {self.name}")
        return self.numpy.str

    def _of_parts(self, parts: list[Any]) -> Any:
        return np.array(parts, self.part.numpy).view(self.numpy)[0]
