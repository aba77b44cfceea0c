"""Fill values: from JSON to scalars and back, keeping every bit of a float, the payload of a NaN included.

Scalars are numpy's, in native byte order. Sources: Zarr v3, "Permitted fill values"; Zarr v2, "Fill value encoding".
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any, Final

import numpy as np

from zarrdock.array.json_ import JSON, expect_integers, pointer_to
from zarrdock.errors import MetadataError

__all__ = [
    "float_to_json",
    "parse_base64",
    "parse_boolean",
    "parse_complex",
    "parse_float",
    "parse_integer",
    "parse_raw",
    "parse_raw_base64",
    "raw_to_base64",
]

_HEXADECIMAL = re.compile(r"0x([0-9a-fA-F]+)", re.ASCII)

# By bytes of the float: what the specification calls "NaN": positive, only the highest bit of the mantissa set.
_NAN: Final = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def parse_boolean(value: JSON, pointer: str, *, numbers: bool = False) -> np.bool_:
    """true or false; with ``numbers`` also 0 and 1."""
    if isinstance(value, bool) or (numbers and isinstance(value, (int, float)) and value in (0, 1)):
        return np.bool_(value)
    raise MetadataError(pointer=pointer, expected="true or false", found=value)


def parse_integer(value: JSON, dtype: np.dtype[Any], pointer: str, *, integral: bool = False) -> Any:
    """An integer in the range of ``dtype``; with ``integral`` also one written as a float, such as 1.0."""
    if integral and isinstance(value, float) and value.is_integer():
        value = int(value)
    limits = np.iinfo(dtype)
    if isinstance(value, bool) or not isinstance(value, int) or not limits.min <= value <= limits.max:
        raise MetadataError(pointer=pointer, expected=f"an integer from {limits.min} to {limits.max}", found=value)
    return dtype.type(value)


def parse_float(value: JSON, dtype: np.dtype[Any], pointer: str, *, hexadecimal: bool = True) -> Any:
    """A number, rounded to the nearest float, "NaN", "Infinity", "-Infinity"; if ``hexadecimal``, also the bits."""
    return _from_bits(_bits_of(value, dtype, pointer, hexadecimal), dtype.newbyteorder("="))


def float_to_json(value: Any, dtype: np.dtype[Any], *, hexadecimal: bool = True) -> JSON:
    """The inverse of :func:`parse_float`; NaNs other than "NaN" as their bits, if ``hexadecimal``."""
    scalar = np.asarray(value, dtype.newbyteorder("="))
    if np.isnan(scalar):
        size = scalar.dtype.itemsize
        bits = int(scalar.view(f"u{size}"))
        return "NaN" if bits == _NAN[size] or not hexadecimal else f"0x{bits:0{2 * size}x}"
    if np.isinf(scalar):
        return "Infinity" if scalar > 0 else "-Infinity"
    return float(scalar)


def parse_complex(value: JSON, dtype: np.dtype[Any], pointer: str, *, hexadecimal: bool = True) -> Any:
    """Real and imaginary part, each as :func:`parse_float` takes it."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MetadataError(pointer=pointer, expected="an array of two numbers, real and imaginary part", found=value)
    part = np.dtype(f"f{dtype.itemsize // 2}")
    bits = [_bits_of(item, part, pointer_to(pointer, i), hexadecimal) for i, item in enumerate(value)]
    return np.array(bits, f"u{part.itemsize}").view(dtype.newbyteorder("="))[0]


def parse_raw(value: JSON, dtype: np.dtype[Any], pointer: str) -> Any:
    """The bytes of one element, as an array of integers from 0 to 255."""
    numbers = expect_integers(value, pointer, stop=256)
    if len(numbers) != dtype.itemsize:
        raise MetadataError(pointer=pointer, expected=f"{dtype.itemsize} integers from 0 to 255", found=value)
    return np.frombuffer(bytes(numbers), dtype)[0]


def parse_base64(value: JSON, pointer: str) -> bytes:
    """Bytes of any length in base64."""
    data = _decoded(value)
    if data is None:
        raise MetadataError(pointer=pointer, expected="bytes in base64", found=value)
    return data


def parse_raw_base64(value: JSON, dtype: np.dtype[Any], pointer: str, *, pad: bool = False) -> Any:
    """The bytes of one element in base64; with ``pad``, zeros are added at the end where there are too few."""
    data = _decoded(value)
    if data is not None and pad:
        data = data.ljust(dtype.itemsize, b"\0")
    if data is None or len(data) != dtype.itemsize:
        raise MetadataError(pointer=pointer, expected=f"{dtype.itemsize} bytes in base64", found=value)
    return np.frombuffer(data, dtype)[0]


def _decoded(value: JSON) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        return None


def raw_to_base64(value: Any) -> str:
    """The inverse of :func:`parse_raw_base64`."""
    return base64.b64encode(bytes(value)).decode("ascii")


def _bits_of(value: JSON, dtype: np.dtype[Any], pointer: str, hexadecimal: bool) -> int:
    size = dtype.itemsize
    if isinstance(value, str):
        found = _HEXADECIMAL.fullmatch(value) if hexadecimal else None
        if found and len(found.group(1)) <= 2 * size:
            return int(found.group(1), 16)
        value = _SPECIAL.get(value, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != value:
            return _NAN[size]
        try:
            with np.errstate(over="ignore"):  # rounds to infinity
                return int(np.array(value, f"f{size}").view(f"u{size}"))
        except OverflowError:
            pass
    forms = (
        f", 'NaN', 'Infinity', '-Infinity'{f' or 0x and up to {2 * size} hexadecimal digits' if hexadecimal else ''}"
    )
    raise MetadataError(pointer=pointer, expected=f"a number{forms}", found=value)


def _from_bits(bits: int, dtype: np.dtype[Any]) -> Any:
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)[()]
