"""Fill values: from JSON to scalars and back, keeping every bit of a float, the payload of a NaN included.

Scalars are numpy's, in native byte order. Sources: Zarr v3, "Permitted fill values"; Zarr v2, "Fill value encoding".
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from zarrdock.errors import MetadataError
from zarrdock.json_ import JSON, expect_integers, float_bits, pointer_to

__all__ = [
    "parse_base64",
    "parse_boolean",
    "parse_complex",
    "parse_raw",
    "parse_raw_base64",
    "raw_to_base64",
]


def parse_boolean(value: JSON, pointer: str, *, numbers: bool = False) -> np.bool_:
    """true or false; with ``numbers`` also 0 and 1."""
    if isinstance(value, bool) or (numbers and isinstance(value, (int, float)) and value in (0, 1)):
        return np.bool_(value)
    raise MetadataError(pointer=pointer, expected="true or false", found=value)


def parse_complex(value: JSON, dtype: np.dtype[Any], pointer: str, *, hexadecimal: bool = True) -> Any:
    """Real and imaginary part, each as :func:`zarrdock.json_.parse_float` takes it."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MetadataError(pointer=pointer, expected="an array of two numbers, real and imaginary part", found=value)
    part = np.dtype(f"f{dtype.itemsize // 2}")
    bits = [float_bits(item, part, pointer_to(pointer, i), hexadecimal=hexadecimal) for i, item in enumerate(value)]
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
