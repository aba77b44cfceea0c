"""Properties of data types for codecs that work on the bits of elements: width, sign, mantissa.

The small types (``int4``, ``bfloat16``, ``float8_e5m2``, ...) are numpy dtypes of ml_dtypes, recognised by their name:
such an array can only exist where the library is installed. Complex types without a numpy dtype are structs of two
equal floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import parse_float, parse_integer

__all__ = ["Element", "element_of", "number_type"]


@dataclass(frozen=True, slots=True)
class Element:
    """A number, or a pair of them.

    Attributes:
        kind: "b" boolean, "i" signed, "u" unsigned, "f" float.
        bits: of a component that mean something; an ``int4`` has 4, in a byte of memory.
        n_components: 2 for complex numbers.
        mantissa: bits of it that are stored; 0 for what is no float.
        native: the numpy dtype in native byte order. component: the same of one component.
    """

    kind: Literal["b", "i", "u", "f"]
    bits: int
    n_components: int
    mantissa: int
    native: np.dtype[Any]
    component: np.dtype[Any]

    @property
    def raw(self) -> np.dtype[Any]:
        """The unsigned integers a component's memory is seen as."""
        return np.dtype(f"u{self.component.itemsize}")

    def raw_of(self, array: AnyArray) -> AnyArray:
        """The components of an array, one after the other in C order, as unsigned integers; a view where possible."""
        return np.ascontiguousarray(array, self.native).reshape(-1).view(self.raw)

    @property
    def is_small(self) -> bool:
        """True for the types of ml_dtypes, and for structs of them."""
        return self.component.name in _SMALL

    def scalar(self, value: object, pointer: str) -> Any:
        """A scalar of ``native``, from its form in JSON: that of fill values of v3, and integers may be written as 1.0.

        Raises:
            MetadataError: the type has no such value.
        """
        if self.kind == "f":
            return parse_float(value, self.native, pointer, all_digits=True)
        return parse_integer(value, self.native, pointer, integral=True)

    def limits(self) -> tuple[int, int]:
        """The least and the greatest value of an integer."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.kind == "i" else (0, (1 << self.bits) - 1)


# Name -> kind, bits, bits of the mantissa.
_SMALL: Final[dict[str, tuple[Literal["i", "u", "f"], int, int]]] = {
    "int2": ("i", 2, 0),
    "uint2": ("u", 2, 0),
    "int4": ("i", 4, 0),
    "uint4": ("u", 4, 0),
    "bfloat16": ("f", 16, 7),
    "float8_e3m4": ("f", 8, 4),
    "float8_e4m3": ("f", 8, 3),
    "float8_e4m3b11fnuz": ("f", 8, 3),
    "float8_e4m3fn": ("f", 8, 3),
    "float8_e4m3fnuz": ("f", 8, 3),
    "float8_e5m2": ("f", 8, 2),
    "float8_e5m2fnuz": ("f", 8, 2),
    "float8_e8m0fnu": ("f", 8, 0),
    "float6_e2m3fn": ("f", 6, 3),
    "float6_e3m2fn": ("f", 6, 2),
    "float4_e2m1fn": ("f", 4, 1),
}
_NUMPY: Final = frozenset(
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 bool".split()
)


@lru_cache(256)
def element_of(dtype: np.dtype[Any]) -> Element | None:
    """The properties of ``dtype``, in any byte order; None if it is no number (text, raw bits, structs, times)."""
    if dtype.kind in "TO":  # without any byte order to ask about
        return None
    native = dtype.newbyteorder("=")
    small = _SMALL.get(dtype.name)  # first: float8_e5m2 claims numpy's kind
    if small is not None:
        kind, bits, mantissa = small
        return Element(kind, bits, 1, mantissa, native, native)
    match dtype.kind:
        case "b":
            return Element("b", 1, 1, 0, native, native)
        case "i":
            return Element("i", 8 * dtype.itemsize, 1, 0, native, native)
        case "u":
            return Element("u", 8 * dtype.itemsize, 1, 0, native, native)
        case "f" if dtype.itemsize <= 8:
            return Element("f", 8 * dtype.itemsize, 1, int(np.finfo(native).nmant), native, native)
        case "c" if dtype.itemsize <= 16:
            part = np.dtype(f"f{dtype.itemsize // 2}")
            return Element("f", 4 * dtype.itemsize, 2, int(np.finfo(part).nmant), native, part)
    return None if dtype.fields is None else _pair(dtype, native)


def _pair(dtype: np.dtype[Any], native: np.dtype[Any]) -> Element | None:
    parts = [dtype[i] for i in range(len(dtype.names or ()))]
    if len(parts) != 2 or parts[0] != parts[1] or dtype.itemsize != 2 * parts[0].itemsize or parts[0].fields:
        return None
    part = element_of(parts[0])
    if part is None or part.kind != "f" or part.n_components != 1:
        return None
    return Element("f", part.bits, 2, part.mantissa, native, part.native)


def number_type(metadata: object, pointer: str = "/data_type") -> np.dtype[Any]:
    """The numpy dtype of an integer or float, from its v3 ``data_type``: a name, or an object with a name.

    Raises:
        UnknownExtensionError: no such number, or ml_dtypes is needed for it and not installed.
        MetadataError: not the metadata of a data type.
    """
    name = metadata
    if isinstance(metadata, dict):
        name = metadata.get("name")
        if metadata.get("configuration") or set(metadata) - {"name", "configuration"}:
            raise MetadataError(pointer=pointer, expected="a number's data type, which has no members", found=metadata)
    if not isinstance(name, str):
        raise MetadataError(pointer=pointer, expected="the name of a data type", found=metadata)
    if name in _NUMPY:
        return np.dtype(name)
    if name in _SMALL:
        try:
            import ml_dtypes

            found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
            return found
        except (ImportError, AttributeError) as error:
            hint = 'it needs ml_dtypes: pip install "zarrdock[ml]"'
            raise UnknownExtensionError("data type", name, hint=hint, pointer=pointer) from error
    hint = "values can be cast to integers and floats"
    raise UnknownExtensionError("data type", name, hint=hint, pointer=pointer)
