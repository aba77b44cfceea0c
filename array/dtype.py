"""Data types: names in the metadata, numpy dtypes, and fill values in their JSON forms.

A data type is a class and a line in ``DATA_TYPES`` (or an entry point in the group ``zarrdock.data_types``); nothing
else has to know it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np

from zarrdock.array.fill import (
    float_to_json,
    parse_boolean,
    parse_complex,
    parse_float,
    parse_integer,
    parse_raw,
    parse_raw_base64,
    raw_to_base64,
)
from zarrdock.array.json_ import JSON, named, pointer_to, reject_members
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.registry import Registry

__all__ = ["DATA_TYPES", "DataType", "data_type_of", "parse_data_type", "parse_data_type_v2"]

# A larger element is a damaged document, not data: its fill value alone would be an allocation.
MAX_RAW_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class DataType(ABC):
    """What an element is.

    Attributes:
        name: as in v3 metadata.
        numpy: in memory. Native byte order in v3, where the codecs order the bytes; as stored in v2 (``>i4``).
    """

    name: str
    numpy: np.dtype[Any]

    @classmethod
    @abstractmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        """Of v3 metadata.

        Raises:
            MetadataError: with ``pointer`` relative to the configuration.
        """

    @classmethod
    @abstractmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        """The data type that is this numpy dtype; its byte order is kept."""

    @abstractmethod
    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        """The scalar that a v3 fill value stands for, bit by bit.

        Raises:
            MetadataError: not a fill value of this type.
        """

    @abstractmethod
    def fill_to_json(self, value: Any) -> JSON:
        """The v3 fill value for a scalar; :meth:`parse_fill` gives the same bits again."""

    @abstractmethod
    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        """The scalar that a v2 fill value stands for; not for null, which stands for nothing.

        Raises:
            MetadataError: not a fill value of this type.
        """

    @abstractmethod
    def fill_to_json_v2(self, value: Any) -> JSON:
        """The v2 fill value for a scalar. The bits of a NaN are lost: v2 has no form for them."""

    @abstractmethod
    def cast_fill(self, value: Any) -> Any:
        """The scalar for what a user gave as a fill value: a Python or numpy scalar, or one of the v3 JSON forms.

        Raises:
            MetadataError: it can't be had without changing the value.
        """

    def spelled_as(self, fill: JSON) -> DataType:
        """The same type, writing v3 fill values in the form of ``fill``, where a type has several."""
        return self

    def default_fill(self) -> Any:
        """Zero, false, or bytes of zeros."""
        return np.zeros((), self.numpy)[()]

    def to_json(self) -> JSON:
        """The ``data_type`` of v3 metadata."""
        return self.name

    def to_json_v2(self) -> JSON:
        """The ``dtype`` of v2 metadata."""
        return self.numpy.str


class _Number(DataType):
    """What booleans, integers, floats and complex numbers share: v3's name is numpy's."""

    __slots__ = ()

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        reject_members(configuration, frozenset())
        return cls(name, np.dtype(name))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        return cls(dtype.name, dtype)


class Bool(_Number):
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
        return parse_boolean(_plain(value), "/fill_value", numbers=True)


class Integer(_Number):
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
        return parse_integer(_plain(value), self.numpy, "/fill_value", integral=True)


class Float(_Number):
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
        return parse_float(_plain(value), self.numpy, "/fill_value")


class Complex(_Number):
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
        value = _plain(value)
        if isinstance(value, complex):
            value = [value.real, value.imag]
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            value = [value, 0]
        return parse_complex(value, self.numpy, "/fill_value")

    @property
    def _part(self) -> np.dtype[Any]:
        return np.dtype(f"f{self.numpy.itemsize // 2}")


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
            reject_members(configuration, {"length_bytes"})
            n_bytes = configuration.get("length_bytes")
            if isinstance(n_bytes, bool) or not isinstance(n_bytes, int) or not 1 <= n_bytes <= MAX_RAW_BYTES:
                raise MetadataError(
                    pointer="/length_bytes", expected=f"an integer from 1 to {MAX_RAW_BYTES}", found=n_bytes
                )
            return cls(name, np.dtype(f"V{n_bytes}"), base64=True)
        reject_members(configuration, frozenset())
        found = cls.PATTERN.fullmatch(name)
        n_bits = int(found.group(1)) if found else 0
        if n_bits == 0 or n_bits % 8 or n_bits // 8 > MAX_RAW_BYTES:
            raise MetadataError(expected=f"r8, r16, ... up to r{8 * MAX_RAW_BYTES}", found=name)
        return cls(name, np.dtype(f"V{n_bits // 8}"))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        if dtype.names is not None or dtype.subdtype is not None:
            raise UnknownExtensionError("data type", str(dtype))
        if not 1 <= dtype.itemsize <= MAX_RAW_BYTES:
            raise MetadataError(expected=f"elements of 1 to {MAX_RAW_BYTES} bytes", found=str(dtype))
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


_BUILTIN: Final = {
    "bool": "Bool",
    **{f"{sign}int{bits}": "Integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": "Float" for bits in (16, 32, 64)},
    **{f"complex{bits}": "Complex" for bits in (64, 128)},
    "r*": "RawBits",
    "raw_bytes": "RawBits",
}

#: Name in v3 metadata to class; numpy's own names of its dtypes are looked up here too.
DATA_TYPES: Registry[type[DataType]] = Registry(
    "zarrdock.data_types", {name: f"zarrdock.array.dtype:{attribute}" for name, attribute in _BUILTIN.items()}
)

# Kinds of numpy dtypes whose names vary with their size: the data type that takes them.
_BY_KIND: Final = {"V": "r*"}


def parse_data_type(value: JSON, pointer: str = "") -> DataType:
    """The data type that v3 metadata names.

    Raises:
        UnknownExtensionError: one that nobody here knows. MetadataError: not a data type.
    """
    name, configuration = named(value, pointer, what="data type")
    implementation = _lookup("r*" if re.fullmatch(r"r[0-9]+", name, re.ASCII) else name)
    if isinstance(implementation, str):
        raise UnknownExtensionError("data type", name, hint=implementation, pointer=pointer)
    try:
        return implementation.from_json(name, configuration)
    except MetadataError as error:
        raise error.below(pointer_to(pointer, "configuration") if error.pointer else pointer) from error.__cause__


def parse_data_type_v2(value: JSON, pointer: str = "") -> DataType:
    """The data type that v2 metadata names, with its byte order.

    Raises:
        UnknownExtensionError: one that nobody here knows (structures, strings, dates). MetadataError: not a data type.
    """
    if isinstance(value, list):
        raise UnknownExtensionError("data type", "structured", pointer=pointer)
    found = (
        re.fullmatch(r"([<>|])([A-Za-z])([0-9]{0,7})(\[[^\]]*\])?", value, re.ASCII) if isinstance(value, str) else None
    )
    if found is None:
        raise MetadataError(
            pointer=pointer, expected="a dtype with its byte order, such as '<f8' or '|u1'", found=value
        )
    order, kind, size, unit = found.groups()
    if kind not in "biufcV":
        raise UnknownExtensionError("data type", value, pointer=pointer)
    if not size or unit:
        raise MetadataError(pointer=pointer, expected="a dtype with its size in bytes, such as '<f8'", found=value)
    if order == "|" and kind in "iufc" and size != "1":
        raise MetadataError(
            "more than one byte needs a byte order", pointer=pointer, expected="'<' or '>'", found=value
        )
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise MetadataError(pointer=pointer, expected="a dtype that numpy knows, such as '<f8'", found=value) from error
    try:
        return _of_numpy(dtype)
    except MetadataError as error:
        raise error.below(pointer) from error.__cause__


def data_type_of(dtype: Any, *, zarr_format: int = 3) -> DataType:
    """The data type for what a user gave: a name of v3, or anything numpy takes for a dtype.

    Its numpy dtype has the native byte order in v3, and the one given in v2.

    Raises:
        UnknownExtensionError: nothing here stores such elements.
    """
    if isinstance(dtype, DataType):
        return dtype
    if isinstance(dtype, dict) or (isinstance(dtype, str) and (dtype in _BUILTIN or RawBits.PATTERN.fullmatch(dtype))):
        return parse_data_type(dtype, "/data_type")
    try:
        if dtype is None:  # numpy would make it float64
            raise TypeError
        as_numpy = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise UnknownExtensionError(
            "data type", str(dtype), hint="give a numpy dtype or a data type's name in Zarr v3"
        ) from error
    return _of_numpy(as_numpy if zarr_format == 2 else as_numpy.newbyteorder("="))


def _of_numpy(dtype: np.dtype[Any]) -> DataType:
    implementation = _lookup(_BY_KIND.get(dtype.kind, dtype.name))
    if isinstance(implementation, str):
        raise UnknownExtensionError("data type", str(dtype), hint=implementation)
    return implementation.from_numpy(dtype)


def _lookup(name: str) -> type[DataType] | str:
    """The class, or a hint for the error message."""
    try:
        return DATA_TYPES.get(name) or ""
    except ImportError as error:
        return f"its implementation can't be imported: {error}"


def _plain(value: Any) -> Any:
    """A numpy scalar or 0-d array as a Python scalar."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value
