"""Names of dimensions and attributes of HDF5 objects, as netCDF and xarray understand them. Works on h5py's objects.

Source: NetCDF Users' Guide, "NetCDF-4/HDF5 File Format"; HDF5 Dimension Scales Specification; for phony dimensions
netCDF-C's ``hdf5open.c``; for fill values ``FillValueCoder`` in xarray's ``backends/zarr.py``.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = [
    "HIDDEN_PREFIX",
    "attributes_of",
    "dimensions_of",
    "dtype_of",
    "is_hidden",
    "phony_dimensions",
    "quietly",
]

# What HDF5 and netCDF keep for themselves.
_OWN = {
    "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid", "_Netcdf4Coordinates",
    "_NCProperties", "_nc3_strict",
}  # fmt: skip
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
#: In front of the name of a variable that is called as a dimension is, and is not its coordinate.
HIDDEN_PREFIX = "_nc4_non_coord_"


def is_hidden(node: Any) -> bool:
    """True for a dataset that only stands for a dimension."""
    return bytes(np.bytes_(quietly(node.attrs.get, "NAME") or b"")).startswith(_NO_VARIABLE)


def quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call of h5py; None where it fails on something damaged, or of a kind that it does not know."""
    try:
        return function(*arguments)
    except (OSError, RuntimeError, TypeError, ValueError, KeyError):
        return None


def dtype_of(node: Any) -> np.dtype[Any] | None:
    """The data type of a dataset; None for a group, and where numpy has none like it (HDF5's class of times)."""
    return quietly(getattr, node, "dtype", None)  # type: ignore[no-any-return]


# -- dimensions -------------------------------------------------------------------------------------------------------


def dimensions_of(dataset: Any) -> tuple[str | None, ...] | None:
    """Names of the dimensions: those of the scales attached, or their labels; None where none has a name."""
    import h5py

    if dataset.shape is None:
        return None
    names: list[str | None] = [quietly(_name_of, dimension) for dimension in dataset.dims]
    if not any(names) and quietly(h5py.h5ds.is_scale, dataset.id):
        if len(names) == 1:
            names = [_variable_name(dataset)]
        elif "_Netcdf4Coordinates" in dataset.attrs:
            names = [_by_number(dataset, int(number)) for number in dataset.attrs["_Netcdf4Coordinates"]]
    return tuple(names) if any(names) else None


def _variable_name(dataset: Any) -> str:
    return str(dataset.name).rpartition("/")[2].removeprefix(HIDDEN_PREFIX)


def _name_of(dimension: Any) -> str | None:
    if len(dimension):
        return str(dimension[0].name).rpartition("/")[2]
    return str(dimension.label) or None


def _by_number(dataset: Any, number: int) -> str | None:
    """The name of the dimension of that number, which this group or one above it has."""
    group = dataset.parent
    while True:
        for name, member in group.items():
            if quietly(member.attrs.get, "_Netcdf4Dimid") == number:
                return str(name)
        if group.name == "/":
            return None
        group = group.parent


def phony_dimensions(root: Any) -> dict[str, tuple[str, ...]]:
    """Names for the dimensions of datasets that have none, as netCDF gives them: path to names.

    In a group, dimensions of one length are one, but for those of one dataset. Groups below come before the datasets
    of a group; numbers go through the whole file, and begin behind those of the dimensions that have names.
    """
    import h5py

    groups = list(_groups(root))
    found: dict[str, tuple[str, ...]] = {}
    number = sum(bool(quietly(h5py.h5ds.is_scale, node.id)) for _, group in groups for _, node in _datasets(group))
    for prefix, group in groups:
        made: list[tuple[int, str]] = []
        for name, node in _datasets(group):
            if not node.shape or dimensions_of(node) is not None:
                continue
            names: list[str] = []
            for length in node.shape:
                known = next((title for n, title in made if n == length and title not in names), None)
                if known is None:
                    known = f"phony_dim_{number}"
                    number += 1
                    made.append((length, known))
                names.append(known)
            found[prefix + name] = tuple(names)
    return found


# No function here may refer to itself from within another one. That would be a circle of references with objects of
# h5py in it. The garbage collector, which may find it in any thread, would wait there for h5py's lock, and the holder
# of the lock for that thread, which is to read the file.


def _groups(group: Any, prefix: str = "", above: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every group of the file that is reached by links of its own, with its path and a slash, inner ones first."""
    import h5py

    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            node = quietly(group.get, name)
            if isinstance(node, h5py.Group) and node not in (group, *above):
                yield from _groups(node, f"{prefix}{name}/", (group, *above))
    yield prefix, group


def _datasets(group: Any) -> Iterator[tuple[str, Any]]:
    import h5py

    for name in group:
        node = quietly(group.get, name)
        if isinstance(node, h5py.Dataset) and node.file.id == group.file.id:
            yield name, node


# -- attributes -------------------------------------------------------------------------------------------------------


def attributes_of(node: Any) -> tuple[dict[str, Any], list[str]]:
    """Attributes that JSON can hold, and names of those that it cannot, nor h5py read.

    What xarray would write: an array of one element is a number or a text, which netCDF does not tell apart; the
    ``_FillValue`` of a dataset is encoded as xarray encodes it in Zarr v3. A ``missing_value`` of NaN, which JSON has
    no number for, goes: NaN is missing without it.
    """
    found: dict[str, Any] = {}
    lost: list[str] = []
    dtype = dtype_of(node)
    for name in node.attrs:
        if name in _OWN:
            continue
        try:
            value = node.attrs[name]
            if name == "_FillValue" and dtype is not None:
                found[name] = _encoded_fill(_single(value), dtype)
            elif name == "missing_value" and _is_nan(value):
                continue
            else:
                found[name] = _json(_single(value))
        except (OSError, RuntimeError, TypeError, ValueError, KeyError):
            lost.append(name)
    return found, lost


def _single(value: Any) -> Any:
    if type(value).__name__ == "Empty":  # netCDF writes a text of no length so
        if value.dtype.kind in "SO":
            return ""
        raise TypeError(type(value))
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def _is_nan(value: Any) -> bool:
    value = np.asarray(value)
    return value.dtype.kind == "f" and bool(np.isnan(value).all())


def _encoded_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return base64.standard_b64encode(struct.pack("<d", float(value))).decode()
    if dtype.kind == "c":
        return [_encoded_fill(part, np.dtype("f8")) for part in (value.real, value.imag)]
    if dtype.kind == "S":
        return base64.standard_b64encode(bytes(np.bytes_(value))).decode()
    if dtype.kind == "b":
        return bool(value)
    return int(value) if dtype.kind in "iu" else _json(value)


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, complex):
        return [_json(value.real), _json(value.imag)]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.names is None:
        return _json(value.tolist())
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    raise TypeError(type(value))
