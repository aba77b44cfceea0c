"""Appending to all arrays of one dimension at once: a cube's data and its coordinates get the same rows.

No store changes several documents in one step, so one array speaks for the dimension: its coordinate, where there is
one, else the first by name. Its length is what is claimed, in one atomic update; the other arrays are made at least as
long. So of many that append at once each has rows of its own, the same in every array, and a length that another one
has never got to is reached by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.consolidated_copies import Copies
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.selection import basic
from zarrdock.array.resize import clear_rows, with_length
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import ConflictError, SelectionError, StoreError
from zarrdock.stores.base import Store

__all__ = ["append_together", "dimension_axes"]


_ATTEMPTS = 4


class _LengthsError(ConflictError):
    """Arrays of one dimension are of different lengths."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One array, its axis of the dimension, and the values to append to it."""

    name: str
    array: Array
    axis: int
    values: AnyArray


def dimension_axes(arrays: Mapping[str, ArrayMetadata], dim: str) -> dict[str, int]:
    """The axis of a dimension, for each of the arrays that have it.

    Raises:
        SelectionError: no array has it, or one has it twice.
    """
    found: dict[str, int] = {}
    for name, metadata in arrays.items():
        dims = metadata.dims or ()
        if dims.count(dim) > 1:
            raise SelectionError(f"array {name!r} has the dimension {dim!r} more than once: nothing can be appended")
        if dim in dims:
            found[name] = dims.index(dim)
    if not found:
        raise SelectionError(f"no array here has a dimension {dim!r}: dimension_names= at creation names them")
    return found


def append_together(arrays: Mapping[str, Array], data: Mapping[str, Any], dim: str) -> slice:
    """Append to all arrays that have a dimension.

    Args:
        arrays: by name; their metadata was read just now.
        data: by name, for each array that has the dimension.
    Returns:
        The rows that were claimed and written.
    Raises:
        SelectionError: arrays are missing, or the data does not fit them. ConflictError: the arrays are of different
            lengths. Nothing was changed in either case.
    """
    parts = _parts(arrays, data, dim)
    lead = next((part for part in parts if part.name == dim), min(parts, key=lambda part: part.name))
    others = [part for part in parts if part is not lead]
    n = lead.values.shape[lead.axis]
    store = lead.array.store
    for attempt in range(_ATTEMPTS):
        try:
            start = _claim(lead, others, n, dim)
            break
        except _LengthsError:  # or another writer is giving rows back
            if attempt == _ATTEMPTS - 1:
                raise
            for part in others:
                part.array.refresh()
    rows = slice(start, start + n)
    try:
        _each(store, others, lambda part: _grow(part, rows.stop))
        # The coordinate comes last: where it stands, the data under it is there.
        _each(store, others, lambda part: _write(part, rows))
        _write(lead, rows)
    except Exception as error:
        try:
            _each(store, parts, lambda part: _clear(part, rows))
            # The one that speaks for all goes last: none is ever longer.
            _each(store, others, lambda part: _shrink(part, rows))
            _shrink(lead, rows)
        except Exception as again:
            error.add_note(
                f"{rows.start} to {rows.stop} along {dim!r} stay part of the arrays, with fill value or some of the "
                f"data in them, since they could not be given back: {again}"
            )
        try:
            _copies(parts).refresh()
        except Exception as again:
            error.add_note(f"the consolidated metadata may be out of date: {again}")
        raise
    _copies(parts).refresh()
    return rows


def _parts(arrays: Mapping[str, Array], data: Mapping[str, Any], dim: str) -> list[_Part]:
    axes = dimension_axes({name: array.metadata for name, array in arrays.items()}, dim)
    if missing := sorted(axes.keys() - data.keys()):
        raise SelectionError(f"every array of {dim!r} needs data, so that all stay of one length: {missing} too")

    if unknown := sorted(data.keys() - axes.keys()):
        raise SelectionError(f"no arrays with a dimension {dim!r}: {unknown}; those that have it are {sorted(axes)}")
    parts = []
    for name, axis in axes.items():
        array, given = arrays[name], np.asarray(data[name])
        array._check_writable()
        if given.ndim != array.ndim or with_length(given.shape, axis, 0) != with_length(array.shape, axis, 0):
            raise SelectionError(
                f"cannot append data of shape {given.shape} along {dim!r} (axis {axis}) of {name!r}, of shape "
                f"{array.shape}"
            )
        # What can't be written is refused before anything is changed.
        parts.append(_Part(name, array, axis, array._value(given.shape, data[name])))
    lengths = {part.name: part.values.shape[part.axis] for part in parts}
    if len(set(lengths.values())) > 1:
        raise SelectionError(f"the data is of different lengths along {dim!r}: {lengths}")
    return parts


def _claim(lead: _Part, others: Sequence[_Part], n: int, dim: str) -> int:
    """Claim rows, and return the first of them."""
    start, found = 0, False

    def change(stored: ArrayMetadata) -> ArrayMetadata:
        nonlocal start, found
        start = stored.shape[lead.axis]
        # All that grow these arrays together grow this one first, and it is looked at last.
        longer = {part.name: part.array.shape[part.axis] for part in others if part.array.shape[part.axis] > start}
        if longer:
            raise _LengthsError(
                f"arrays of one dimension are of different lengths along {dim!r}: {longer}, but {lead.name!r} has "
                f"{start}. A writer was interrupted, or appended to each array on its own. "
                "Nothing was appended: inspect the last rows, and resize() the arrays to one length",
                key=lead.array.path,
                store=lead.array.store,
            )
        found = True
        return stored.resized(with_length(stored.shape, lead.axis, start + n))

    try:
        lead.array._update(change, attributes=False, copies=False)
    except StoreError as error:
        if found:
            error.add_note(
                f"if the new shape was stored all the same, {start} to {start + n} along {dim!r} hold fill value: look "
                f"at the shape of {lead.name!r}"
            )
        raise
    return start


def _grow(part: _Part, length: int) -> None:
    """Make an array at least so long."""

    def change(stored: ArrayMetadata) -> ArrayMetadata:
        if stored.shape[part.axis] >= length:
            return stored
        return stored.resized(with_length(stored.shape, part.axis, length))

    part.array._update(change, attributes=False, copies=False)


def _write(part: _Part, rows: slice) -> None:
    layout = part.array._layout
    where = tuple(rows if i == part.axis else slice(None) for i in range(part.array.ndim))
    part.array._write_values(layout, basic(where, layout.shape), part.values)


def _clear(part: _Part, rows: slice) -> None:
    """Make rows fill value, as far as the array has them."""
    array, axis = part.array, part.axis
    array.refresh()
    if array.shape[axis] > rows.start:
        stop = min(rows.stop, array.shape[axis])
        layout = replace(array._layout, shape=with_length(array.shape, axis, stop))
        clear_rows(array.store, layout, axis, rows.start, array._cache)


def _shrink(part: _Part, rows: slice) -> None:
    """Take rows off the end of the array, if nothing came behind them."""
    array, axis = part.array, part.axis

    def change(stored: ArrayMetadata) -> ArrayMetadata:
        length = stored.shape[axis]
        if length > rows.stop:
            raise ConflictError("other writers have appended since", key=array.path, store=array.store)
        if length <= rows.start:
            return stored
        return stored.replace(shape=with_length(stored.shape, axis, rows.start))

    array._update(change, attributes=False, copies=False)


def _copies(parts: Sequence[_Part]) -> Copies:
    first = parts[0].array
    return Copies(first.store, [part.array.path for part in parts], first.zarr_format)


def _each(store: Store, parts: Iterable[_Part], act: Callable[[_Part], None]) -> None:
    """Do something for every part, on remote stores for all at once. What was begun is done when this returns."""
    some = list(parts)
    if not store.traits.remote or len(some) < 2:
        for part in some:
            act(part)
        return
    with ThreadPoolExecutor(min(len(some), 16), "zarrdock-append") as pool:
        futures = [pool.submit(act, part) for part in some]
    for future in futures:
        future.result()
