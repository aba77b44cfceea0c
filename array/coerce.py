"""Convert values given by a user into an array of the stored data type."""

from __future__ import annotations

from typing import Any

import numpy as np

from zarrdock.array.dtypes.dtype import DataType
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import SelectionError

__all__ = ["shape_of", "values_of"]


def shape_of(value: Any, data_type: DataType) -> tuple[int, ...]:
    """Shape of a value given by a user, in elements of that type: a tuple is one element of a structure.

    Raises:
        SelectionError: lists of different lengths.
    """
    dtype = data_type.numpy
    try:
        return np.shape(np.asarray(value, dtype) if dtype.names and not hasattr(value, "dtype") else value)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"the value does not fit an array of {dtype}: {error}") from error


def values_of(value: Any, shape: tuple[int, ...], data_type: DataType) -> AnyArray:
    """``value`` broadcast to ``shape``, in any dtype that numpy's assignment would take; text and objects are checked.

    Raises:
        SelectionError: it is of another kind, does not fit the type (text that is too long), or not the shape.
    """
    dtype = data_type.numpy
    try:
        if dtype.kind == "T":
            array = _text(value)
        elif dtype.hasobject:
            array = _objects(value, dtype, is_bytes=data_type.serializer == "vlen-bytes")
        elif dtype.kind in "US":
            array = _fixed(value, dtype)
        else:
            # What has no dtype of its own becomes the array's: a Python number that does not fit is an error then.
            # Types of pandas are none of numpy's: only it knows which of their values the array's type has.
            array = np.asarray(value, None if isinstance(getattr(value, "dtype", None), np.dtype) else dtype)
            if array.dtype.kind in "OUST":
                array = np.asarray(array if array.dtype.kind == "O" else array.astype(object), dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SelectionError(f"the value does not fit an array of {dtype}: {error}") from error
    if array.dtype.kind in "mM" and not array.dtype.isnative:
        # numpy swaps the bytes of times without a unit here, and nowhere else.
        native = np.empty(array.shape, array.dtype.newbyteorder("="))
        native[...] = array
        array = native
    if array.dtype != dtype and not _castable(array.dtype, dtype):
        raise SelectionError(f"values of {array.dtype} can't be cast to the array's {dtype}")
    if array.dtype.kind in "mM" and dtype.kind == array.dtype.kind and array.dtype != dtype:
        _check_times(array, dtype)
    while array.ndim > len(shape) and array.shape[0] == 1:  # as numpy's assignment has it
        array = array[0:1].reshape(array.shape[1:])  # array[0] of objects could be the object
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise SelectionError(f"a value of shape {array.shape} does not fit a selection of shape {shape}") from None


def _check_times(array: AnyArray, dtype: np.dtype[Any]) -> None:
    """Refuse times beyond the range of a finer unit, which numpy wraps around. A coarser unit cuts off, as numpy has
    it.
    """
    try:
        if np.promote_types(array.dtype, dtype) != dtype.newbyteorder("="):
            return
    except TypeError:  # months and days
        raise SelectionError(f"values of {array.dtype} can't be cast to the array's {dtype}") from None
    try:
        stored = array.astype(dtype)
    except OverflowError:  # numpy since 2.5
        raise SelectionError(f"the value does not fit an array of {dtype}: a time is beyond its range") from None
    wrong = (stored.astype(array.dtype) != array) & ~np.isnat(array)
    if wrong.any():
        first = array[np.unravel_index(int(wrong.argmax()), wrong.shape)]
        raise SelectionError(f"the value does not fit an array of {dtype}: {first} is beyond its range")


def _text(value: Any) -> AnyArray:
    # numpy would make text of anything, None included.
    strict: Any = np.dtypes.StringDType(coerce=False)
    array = value if hasattr(value, "dtype") else np.asarray(value, strict)
    array = np.asarray(array)
    if array.dtype.kind == "T":
        # A mark for missing values would become text.
        return array if not hasattr(array.dtype, "na_object") else array.astype(object).astype(strict)
    if array.dtype.kind not in "UO":
        raise TypeError(f"text is needed, not {array.dtype}")
    return array.astype(strict)


def _objects(value: Any, dtype: np.dtype[Any], *, is_bytes: bool) -> AnyArray:
    if not is_bytes:
        return np.asarray(value, dtype)
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    array = np.asarray(value, None if hasattr(value, "dtype") else dtype)
    if array.dtype.kind not in "OSV" or array.dtype.names is not None:
        raise TypeError(f"bytes are needed, not {array.dtype}")
    if array.dtype.kind == "V":
        objects = np.empty(array.shape, dtype)
        objects.reshape(-1)[:] = [item.tobytes() for item in array.reshape(-1)]
        return objects
    array = array.astype(dtype)
    for item in array.reshape(-1):
        if not isinstance(item, bytes):
            raise TypeError(f"bytes are needed, not {type(item).__name__}")
    return array


def _fixed(value: Any, dtype: np.dtype[Any]) -> AnyArray:
    """Check text and bytes of fixed length: numpy would silently cut off items that are too long."""
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "USTO":
        raise TypeError(f"text is needed, not {array.dtype}")
    if array.dtype.kind in "TO":
        array = array.astype(object)
        for item in array.reshape(-1):
            if not isinstance(item, (str, bytes)):
                raise TypeError(f"text is needed, not {type(item).__name__}")
        array = array.astype(dtype.kind)
    unit = 4 if dtype.kind == "U" else 1
    if array.dtype.kind != dtype.kind:
        array = array.astype(dtype.kind)
    if array.dtype.itemsize > dtype.itemsize and array.size:
        longest = int(np.strings.str_len(array).max())
        if longest * unit > dtype.itemsize:
            raise ValueError(f"text of {longest} characters is too long")
    return array


def _castable(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """True if numpy's assignment has a meaning here: between numbers and raw bits or structures it has none."""
    # Small floats and integers are of kind V, but numbers.
    given_raw, wanted_raw = (d.kind == "V" and d.type is np.void for d in (given, wanted))
    if given_raw and not wanted_raw:
        return False
    if wanted_raw and not given_raw and given.kind != "O":
        return False
    if wanted.kind in "mM" and given.kind not in "mMiu":
        return False
    return np.can_cast(given, wanted, "unsafe")
