"""Data types: names in the metadata, numpy dtypes, and fill values in their JSON forms.

A data type is a class and a line in ``DATA_TYPES`` (or an entry point in the group ``zarrdock.data_types``); nothing
else has to know it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON, named, pointer_to
from zarrdock.registry import Registry

__all__ = ["DATA_TYPES", "DataType", "data_type_of", "of_numpy", "parse_data_type", "plain"]

# A larger element is a damaged document, not data: its fill value alone would be an allocation.
MAX_ITEM_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class DataType(ABC):
    """Data type of the elements of an array.

    Attributes:
        name: the name in v3 metadata.
        numpy: dtype in memory. Native byte order in v3, whose codecs order the bytes; as stored in v2 (``>i4``).
    """

    name: str
    numpy: np.dtype[Any]

    #: The array-to-bytes codec of v3 for such elements.
    serializer: ClassVar[str] = "bytes"
    #: The filter of v2 that makes bytes of them, where they are objects.
    object_codec: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        """Parse v3 metadata.

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
        """Zero, false, no text, no time (NaT), or bytes of zeros."""
        return np.zeros((), self.numpy)[()]

    def to_json(self) -> JSON:
        """The ``data_type`` of v3 metadata."""
        return self.name

    def to_json_v2(self) -> JSON:
        """The ``dtype`` of v2 metadata."""
        return self.numpy.str

    @property
    def stored_v2(self) -> np.dtype[Any]:
        """The elements as Zarr v2 stores them: ``numpy``, but perhaps in another byte order."""
        return self.numpy


class AsItIs(DataType):
    """A data type whose fill values are JSON values as they stand."""

    __slots__ = ()

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return value

    def fill_to_json(self, value: Any) -> JSON:
        return value

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return value

    def fill_to_json_v2(self, value: Any) -> JSON:
        return value


_ML_INTEGERS: Final = ("int2", "uint2", "int4", "uint4")
_ML_FLOATS: Final = (
    "bfloat16",
    *("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"),
)

_BUILTIN: Final = {
    "bool": "numbers_:Bool",
    **{f"{sign}int{bits}": "numbers_:Integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": "numbers_:Float" for bits in (16, 32, 64)},
    **{f"complex{bits}": "numbers_:Complex" for bits in (64, 128)},
    "r*": "raw:RawBits",
    "raw_bytes": "raw:RawBits",
    "string": "text:String",
    "bytes": "text:VariableBytes",
    "variable_length_bytes": "text:VariableBytes",
    "fixed_length_utf32": "text:FixedText",
    "null_terminated_bytes": "text:FixedBytes",
    "numpy.datetime64": "time_:Time",
    "numpy.timedelta64": "time_:Time",
    "struct": "struct_:Struct",
    "structured": "struct_:Struct",
    **dict.fromkeys(_ML_INTEGERS, "ml_dtypes_:SmallInteger"),
    **dict.fromkeys(_ML_FLOATS, "ml_dtypes_:SmallFloat"),
    **{f"complex_{part}": "ml_dtypes_:ComplexOf" for part in ("float16", "float32", "float64", *_ML_FLOATS)},
}

#: Name in v3 metadata to class; numpy's own names of its dtypes are looked up here too.
DATA_TYPES: Registry[type[DataType]] = Registry(
    "zarrdock.data_types", {name: f"zarrdock.array.dtypes.{target}" for name, target in _BUILTIN.items()}
)

# Kinds of numpy dtypes whose names vary with their size: the data type that takes them.
_BY_KIND: Final = {
    "U": "fixed_length_utf32",
    "S": "null_terminated_bytes",
    "M": "numpy.datetime64",
    "m": "numpy.timedelta64",
    "T": "string",
}
# What ml_dtypes calls otherwise.
_BY_NAME: Final = {"complex32": "complex_float16", "bcomplex32": "complex_bfloat16"}
_RAW_NAME: Final = re.compile(r"r[0-9]+", re.ASCII)


def parse_data_type(value: JSON, pointer: str = "") -> DataType:
    """The data type that v3 metadata names.

    Raises:
        UnknownExtensionError: it is not known here. MetadataError: not a data type.
    """
    name, configuration = named(value, pointer, what="data type")
    implementation = _lookup("r*" if _RAW_NAME.fullmatch(name) else name)
    if isinstance(implementation, str):
        raise UnknownExtensionError("data type", name, hint=implementation, pointer=pointer)
    try:
        return implementation.from_json(name, configuration)
    except MetadataError as error:
        raise error.below(pointer_to(pointer, "configuration") if error.pointer else pointer) from error.__cause__


def data_type_of(dtype: Any, *, zarr_format: int = 3) -> DataType:
    """The data type for what a user gave: a name of v3, ``str``, ``bytes``, or anything numpy takes for a dtype.

    Its numpy dtype has the native byte order in v3, and the one given in v2.

    Raises:
        UnknownExtensionError: nothing here stores such elements.
    """
    if isinstance(dtype, DataType):
        return dtype
    if dtype is str or dtype is bytes:
        dtype = "string" if dtype is str else "bytes"
    if isinstance(dtype, dict) or (isinstance(dtype, str) and (dtype in _BUILTIN or _RAW_NAME.fullmatch(dtype))):
        return parse_data_type(dtype, "/data_type")
    try:
        if dtype is None:  # numpy would make it float64
            raise TypeError
        as_numpy = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:  # numpy parses lists of types as Python
        hint = "give a numpy dtype or a data type's name in Zarr v3"
        raise UnknownExtensionError("data type", str(dtype), hint=hint, pointer="/data_type") from error
    try:
        return of_numpy(as_numpy if zarr_format == 2 or as_numpy.kind == "T" else as_numpy.newbyteorder("="))
    except UnknownExtensionError as error:
        raise error.below("/data_type") from None


def of_numpy(dtype: np.dtype[Any]) -> DataType:
    """The data type that is a numpy dtype; its byte order is kept.

    Raises:
        UnknownExtensionError: nothing here stores such elements.
    """
    if dtype.hasobject and dtype.kind != "T":
        hint = "say what the objects are: dtype='string' or 'bytes'; in Zarr v2 also an object codec among the filters"
        raise UnknownExtensionError("data type", str(dtype), hint=hint)
    if dtype.names is not None:
        name = "struct"
    elif dtype.kind == "V" and dtype.type is np.void:
        name = "r*"
    else:
        name = _BY_KIND.get(dtype.kind) or _BY_NAME.get(dtype.name, dtype.name)
    implementation = _lookup(name)
    if isinstance(implementation, str):
        raise UnknownExtensionError("data type", str(dtype), hint=implementation)
    return implementation.from_numpy(dtype)


_HINT: Final = (
    "install a package that provides it through the entry point group 'zarrdock.data_types', or register a class with "
    "DATA_TYPES.add(name, class); known extensions: https://github.com/zarr-developers/zarr-extensions"
)


def _lookup(name: str) -> type[DataType] | str:
    """The class, or a hint for the error message."""
    try:
        return DATA_TYPES.get(name) or _HINT
    except ImportError as error:
        missing = 'install it with pip install "zarrdock[ml]"' if name in _BUILTIN else "its implementation is broken"
        return f"its implementation can't be imported: {error}; {missing}"


def plain(value: Any) -> Any:
    """A numpy scalar or 0-d array as a Python scalar."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value
