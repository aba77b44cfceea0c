"""Booleans, integers, floats and complex numbers that numpy has under the same names."""

from __future__ import annotations

from typing import Any

import numpy as np

from zarrdock.array.dtypes.dtype import DataType, plain
from zarrdock.array.dtypes.fill import parse_boolean, parse_complex
from zarrdock.json_ import JSON, float_to_json, known_members, parse_float, parse_integer

__all__ = ["Bool", "Complex", "Float", "Integer", "Number"]


class Number(DataType):
    """Base of booleans, integers, floats and complex numbers: their names in v3 are numpy's."""

    __slots__ = ()

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ())
        return cls(name, np.dtype(name))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        return cls(dtype.name, dtype)


class Bool(Number):
    """``bool``: one byte, 0 or 1."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_boolean(value, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return bool(value)

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        # zarr-python 2 wrote whatever it was given: 0, 1 and 0.0 are about.
        return parse_boolean(value, pointer, numbers=True)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return bool(value)

    def cast_fill(self, value: Any) -> Any:
        return parse_boolean(plain(value), "/fill_value", numbers=True)


class Integer(Number):
    """``int8`` to ``int64``, ``uint8`` to ``uint64``."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_integer(value, self.numpy, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return int(value)

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return parse_integer(value, self.numpy, pointer, integral=True)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return int(value)

    def cast_fill(self, value: Any) -> Any:
        return parse_integer(plain(value), self.numpy, "/fill_value", integral=True)


class Float(Number):
    """``float16``, ``float32``, ``float64``."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_float(value, self.numpy, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return float_to_json(value, self.numpy)

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return parse_float(value, self.numpy, pointer, hexadecimal=False)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return float_to_json(value, self.numpy, hexadecimal=False)

    def cast_fill(self, value: Any) -> Any:
        native = self.numpy.newbyteorder("=")
        if isinstance(value, np.floating) and value.dtype == native:
            return native.type(value)  # the bits of a NaN would not survive a Python float
        return parse_float(plain(value), self.numpy, "/fill_value")


class Complex(Number):
    """``complex64`` and ``complex128``: real part, then imaginary part."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return parse_complex(value, self.numpy, pointer)

    def fill_to_json(self, value: Any) -> JSON:
        return [float_to_json(part, self._part) for part in (value.real, value.imag)]

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        # A bare number is what zarr-python 2 wrote for a default of 0.
        pair = [value, 0] if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        return parse_complex(pair, self.numpy, pointer, hexadecimal=False)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return [float_to_json(part, self._part, hexadecimal=False) for part in (value.real, value.imag)]

    def cast_fill(self, value: Any) -> Any:
        native = self.numpy.newbyteorder("=")
        if isinstance(value, np.complexfloating) and value.dtype == native:
            return native.type(value)
        value = plain(value)
        if isinstance(value, complex):
            value = [value.real, value.imag]
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            value = [value, 0]
        return parse_complex(value, self.numpy, "/fill_value")

    @property
    def _part(self) -> np.dtype[Any]:
        return np.dtype(f"f{self.numpy.itemsize // 2}")
