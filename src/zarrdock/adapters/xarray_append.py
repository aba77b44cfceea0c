"""Appending an xarray dataset to a cube, from any number of processes at once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from xarray import Dataset, SerializationWarning, Variable, conventions

import zarrdock
from zarrdock.adapters.xarray import GroupStore
from zarrdock.array.group import Group
from zarrdock.errors import NodeNotFoundError, SelectionError

__all__ = ["append"]

# What says how values are stored, as far as xarray's own encoders go by it.
_ENCODING: Final = (
    "_FillValue",
    "_Unsigned",
    "add_offset",
    "calendar",
    "dtype",
    "missing_value",
    "scale_factor",
    "units",
)


def append(
    dataset: Dataset,
    store: Any,
    dim: str,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> slice:
    """Append a dataset to one that is stored, along one dimension. Any number of processes may do so at once: each gets
    rows of its own, the same for all variables.

    Values are stored as those that are there: times in the units of the cube, packed integers by its scale and offset,
    missing values as its fill value. Rows stand in the order in which they were claimed: they are not sorted by the
    coordinate, which ``sortby`` does when reading.

    Args:
        dataset: has every variable of the stored one that has the dimension. What it has without the dimension
            must be as it is stored.
        store: anything :func:`zarrdock.open_store` takes. group: path within it.
        dim: the dimension to append along.
    Returns:
        The rows that were written, as a slice along the dimension.
    Raises:
        NodeNotFoundError: there is no dataset yet: write the first with ``to_zarr``. SelectionError: the dataset does
            not fit, or its values can't be stored as the others are. ConflictError: the arrays that are stored are of
            different lengths. Nothing was changed in any of these cases. See :meth:`zarrdock.Group.append` for what
            failures while writing leave.

    >>> import numpy as np, xarray as xr, zarrdock
    >>> from zarrdock.adapters.zarr_python import ZarrStore
    >>> store = zarrdock.MemoryStore()
    >>> day = xr.Dataset({"t2m": (("time", "x"), np.zeros((1, 3)))}, {"time": [np.datetime64("2026-01-01", "ns")]})
    >>> _ = day.to_zarr(ZarrStore(store), consolidated=False)
    >>> zarrdock.append(day.assign_coords(time=day.time + np.timedelta64(1, "D")), store, dim="time")
    slice(1, 2, None)
    """
    if not isinstance(dataset, Dataset):
        raise SelectionError(
            f"an xarray dataset is appended, not {type(dataset).__name__}: make one of a DataArray with "
            "to_dataset(name=...); for numbers open the array with mode='r+', or its group, and call append of that"
        )
    opened = zarrdock.open_store(store, storage_options=dict(storage_options) if storage_options else None)
    try:
        cube = zarrdock.open_group(opened, "r+", path=group)
    except NodeNotFoundError as error:
        error.add_note("write the first part of the dataset with to_zarr, which creates the arrays")
        raise
    if dim not in dataset.dims:
        raise SelectionError(f"the dataset has no dimension {dim!r}, but {sorted(map(str, dataset.dims))}")
    stored = _decoded(cube)
    rows: dict[str, Any] = {}
    for key, variable in dataset.variables.items():
        name = str(key)
        if name not in stored:
            raise SelectionError(
                f"the stored dataset has no {name!r}: it has {sorted(stored)}; drop_vars leaves it out"
            )
        if dim in variable.dims:
            rows[name] = _encode(name, variable, stored[name])
        else:
            _check_same(name, variable, stored[name])
    return cube.append(rows, dim)


def _decoded(group: Group) -> dict[str, Variable]:
    """The variables that are stored, lazy, with what was decoded in their ``encoding``."""
    # Others may be appending at this moment.
    found = GroupStore(group, group.zarr_format == 2, same_lengths=False)
    variables, _, _ = conventions.decode_cf_variables(
        found.get_variables(), found.get_attrs(), concat_characters=False, decode_timedelta=True
    )
    return {str(name): variable for name, variable in variables.items()}


def _check_same(name: str, variable: Variable, stored: Variable) -> None:
    mine, other = variable.transpose(*stored.dims, missing_dims="ignore"), stored
    if mine.dims != other.dims or not mine.equals(other):  # type: ignore[no-untyped-call]
        raise SelectionError(
            f"{name!r} lacks the dimension that is appended to, and differs from the stored values: "
            f"drop_vars({name!r}) leaves it out"
        )


def _encode(name: str, variable: Variable, stored: Variable) -> Any:
    """The values as they are stored.

    Raises:
        SelectionError: they can't be.
    """
    if set(variable.dims) != set(stored.dims):
        raise SelectionError(f"{name!r} has the dimensions {variable.dims}, the one that is stored {stored.dims}")
    encoding = {key: stored.encoding[key] for key in _ENCODING if key in stored.encoding}
    values = variable.transpose(*stored.dims).to_base_variable().load()
    times = _is_time(stored)
    if times and not _is_time(values):
        given = {key: values.attrs.get(key) for key in ("units", "calendar") if key in encoding}
        if given.get("units") != encoding.get("units"):
            raise SelectionError(
                f"{name!r} is stored as times, in {encoding.get('units')!r}, and given as numbers of "
                f"{given.get('units')!r}"
            )
        return values.values
    plain = Variable(stored.dims, values.data, {}, encoding)
    with warnings.catch_warnings():  # of floats as integers: they are looked at below
        warnings.simplefilter("ignore", SerializationWarning)
        encoded = conventions.encode_cf_variable(plain, name=name)
    data = encoded.values
    if times and _unit(encoded.attrs) != _unit(encoding):  # xarray takes a finer one where it must
        raise SelectionError(_refusal(name, encoding))
    if times or np.dtype(encoding.get("dtype", data.dtype)).kind in "iu":
        _check_decoded(name, plain, data, times=times)
    return data


def _check_decoded(name: str, given: Variable, data: Any, *, times: bool) -> None:
    """Values that overflow, are rounded where they must not be, or are told in other units than those of the cube are
    found by decoding them again.
    """
    encoding = given.encoding
    stored = np.asarray(data).astype(encoding.get("dtype", data.dtype))
    attributes = {key: value for key, value in encoding.items() if key != "dtype"}
    again = conventions.decode_cf_variable(name, Variable(given.dims, stored, attributes), decode_timedelta=True).values
    values = given.values
    if times:
        near = again == values
        if values.dtype.kind in "mM":  # as numbers with a fraction they are rounded
            near |= np.abs(again - values) < np.timedelta64(1, "ms")
    elif encoding.keys().isdisjoint(("scale_factor", "add_offset")):  # xarray would round fractions
        near = again == values
    else:
        step = abs(float(np.asarray(encoding.get("scale_factor", 1)).item()))
        near = np.abs(again.astype("f8") - values.astype("f8")) <= 0.501 * step + 1e-6 * np.abs(values.astype("f8"))
    if not np.all(near | (_missing(again) & _missing(values))):
        raise SelectionError(_refusal(name, encoding))


def _unit(where: Mapping[Any, Any]) -> str:
    return str(where.get("units", "")).partition(" ")[0]


def _refusal(name: str, encoding: Mapping[Any, Any]) -> str:
    how = ", ".join(f"{key}={value!s}" for key, value in encoding.items())
    return f"values of {name!r} cannot be stored as the others are ({how})"


def _missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    missing: np.ndarray[Any, Any] = np.zeros(values.shape, bool)
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
    elif values.dtype.kind in "fc":
        missing = np.isnan(values)
    return missing


def _is_time(variable: Variable) -> bool:
    if variable.dtype.kind in "mM":
        return True
    return (
        variable.dtype == object
        and variable.size > 0
        and hasattr(np.asarray(variable[(0,) * variable.ndim]).item(), "calendar")
    )
