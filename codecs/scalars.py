"""Numbers in the JSON form of v3 fill values, where codecs have them in their configuration."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from zarrdock.codecs.elements import element_of
from zarrdock.errors import MetadataError

__all__ = ["scalar_from_json"]

_NOT_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")


def scalar_from_json(value: object, dtype: np.dtype[Any], pointer: str) -> Any:
    """A scalar of an integer or float type, which is given in native byte order.

    Raises:
        MetadataError: the type has no such value.
    Source: Zarr v3, "Fill value list".
    """
    element = element_of(dtype)
    if element is None or element.kind == "b" or element.n_components != 1:
        raise MetadataError(f"{dtype} is no integer and no float", pointer=pointer)
    if element.kind == "f":
        if isinstance(value, int | float) and not isinstance(value, bool):
            with np.errstate(all="ignore"):
                return np.array([value], np.float64).astype(dtype)[0]
        if isinstance(value, str):
            if value in _NOT_FINITE:
                return np.array([_NOT_FINITE[value]]).astype(dtype)[0]
            if _HEX.fullmatch(value) and len(value) == 2 + 2 * dtype.itemsize:
                return np.array([int(value, 16)], element.raw).view(dtype)[0]
        expected = f'a number, "NaN", "Infinity", "-Infinity" or "0x" and {2 * dtype.itemsize} hexadecimal digits'
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    low, high = element.limits()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MetadataError(pointer=pointer, expected=f"an integer from {low} to {high}", found=value)
    return np.array([value], np.uint64 if value > 2**63 - 1 else np.int64).astype(dtype)[0]
