"""Recover the selection from zarr-python's list of its chunks. Pure functions, no I/O.

A list has for each chunk what is wanted of it, and where that goes in the result: slices and integers, open meshes of
integer arrays, or arrays of coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.overlap import Division
from zarrdock.array.planning.selection import Axis, Points, Product

__all__ = ["NotASelectionError", "selection_of"]

IntArray: TypeAlias = npt.NDArray[np.int64]
Coords: TypeAlias = Callable[[int], tuple[int, ...]]
# (place, spec, selection within the chunk, selection within the result, whether all of the chunk)
Chunks: TypeAlias = Sequence[tuple[Any, Any, Any, Any, bool]]


class NotASelectionError(Exception):
    """A list of chunks that is no product and no list of points."""


def selection_of(
    batch: Chunks, coords: Coords, chunks: Division, drop_axes: tuple[int, ...]
) -> tuple[Product | Points, tuple[int, ...]]:
    """The selection that ``batch`` is the list of, within the array, and the end of the box around it.

    Args:
        batch: in the order of zarr-python's indexers, at least one chunk.
        coords: of chunk number i in the grid. chunks: the grid.
        drop_axes: axes that the chunks' selections have and the result has not.
    Raises:
        NotASelectionError: it is none.
    """
    inner = _as_tuple(batch[0][2])
    ndim = len(chunks.shape)
    if len(inner) != ndim:
        raise NotASelectionError(f"{len(inner)} selectors for {ndim} dimensions")
    if all(isinstance(item, (int, np.integer, slice)) for item in inner):
        selection: Product | Points = _basic(batch, coords, chunks)
    elif ndim == 1 or _is_mesh(inner):
        selection = _mesh(batch, coords, chunks, drop_axes)
    elif all(isinstance(item, np.ndarray) and item.ndim == 1 for item in inner):
        selection = _points(batch, coords, chunks)
    else:
        raise NotASelectionError("neither slices nor arrays")
    return selection, _end(selection)


def _end(selection: Product | Points) -> tuple[int, ...]:
    if isinstance(selection, Points):
        return tuple((selection.coords.max(axis=0) + 1).tolist())
    return tuple(axis.stop for axis in selection.axes)


def _as_tuple(selection: Any) -> tuple[Any, ...]:
    return selection if isinstance(selection, tuple) else (selection,)


def _is_mesh(inner: tuple[Any, ...]) -> bool:
    """Open meshes, or one array among slices."""
    arrays = [item for item in inner if isinstance(item, np.ndarray)]
    if len(arrays) == len(inner):
        return all(array.ndim == len(inner) for array in arrays)
    return len(arrays) == 1 and arrays[0].ndim == 1 and all(isinstance(i, (slice, np.ndarray)) for i in inner)


def _positions(item: Any, length: int) -> IntArray:
    if isinstance(item, slice):
        return np.arange(*item.indices(length), dtype=np.int64)
    array = np.asarray(item).reshape(-1)
    return np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64, copy=False)


def _basic(batch: Chunks, coords: Coords, chunks: Division) -> Product:
    """Slices and integers: the first and the last chunk tell all."""
    first, last = _as_tuple(batch[0][2]), _as_tuple(batch[-1][2])
    axes: list[Axis] = []
    dropped: list[int] = []
    for i, (a, b, low, high) in enumerate(zip(first, last, coords(0), coords(len(batch) - 1), strict=True)):
        origin, length = chunks.extent(i, low)
        if not isinstance(a, slice):
            axes.append(Axis(origin + int(a), 1, 1))
            dropped.append(i)
            continue
        start, _, step = a.indices(length)
        start += origin
        origin, length = chunks.extent(i, high)
        stop = origin + b.indices(length)[1]
        if step < 1 or stop <= start:
            raise NotASelectionError("a slice that is empty or runs backwards")
        axes.append(Axis(start, step, -(-(stop - start) // step)))
    if prod(_n_chunks(axis, chunks, i) for i, axis in enumerate(axes)) != len(batch):
        raise NotASelectionError("some chunks of the product are missing")
    full = tuple(axis.n for axis in axes)
    return Product(tuple(axes), full, tuple(n for i, n in enumerate(full) if i not in dropped), tuple(dropped))


def _n_chunks(axis: Axis, chunks: Division, number: int) -> int:
    """Number of chunks that the positions of a slice lie in."""
    bounds = chunks.bounds[number]
    if bounds is None:
        return len(axis.pieces(chunks.length[number]).chunks)
    after = np.clip(-((axis.start - bounds) // axis.step), 0, axis.n)  # how many positions lie before each
    return int(np.count_nonzero(np.diff(after)))


def _mesh(batch: Chunks, coords: Coords, chunks: Division, drop_axes: tuple[int, ...]) -> Product:
    """Open meshes: each axis has its own list of positions."""
    ndim = len(chunks.shape)
    positions: list[dict[int, tuple[IntArray, Any]]] = [{} for _ in range(ndim)]
    kept = [axis for axis in range(ndim) if axis not in drop_axes]
    for i, (_, _, inner, outer, _) in enumerate(batch):
        where, outside = coords(i), _as_tuple(outer)
        if len(outside) != len(kept):
            raise NotASelectionError("an axis of the result belongs to no axis of the chunk")
        for axis in range(ndim):
            if where[axis] not in positions[axis]:
                origin, length = chunks.extent(axis, where[axis])
                local = _positions(_as_tuple(inner)[axis], length) + origin
                positions[axis][where[axis]] = local, outside[kept.index(axis)] if axis in kept else slice(0, 1)
    if prod(map(len, positions)) != len(batch):
        raise NotASelectionError("some chunks of the product are missing")
    axes = []
    for pieces in positions:
        n = sum(len(local) for local, _ in pieces.values())
        indices = np.full(n, -1, np.int64)
        for local, outer in pieces.values():
            indices[outer.reshape(-1) if isinstance(outer, np.ndarray) else outer] = local
        if (indices < 0).any():
            raise NotASelectionError("places of the result that no chunk fills")
        axes.append(Axis.of_indices(indices))
    full = tuple(axis.n for axis in axes)
    return Product(tuple(axes), full, tuple(n for i, n in enumerate(full) if i in kept), tuple(drop_axes))


def _points(batch: Chunks, coords: Coords, chunks: Division) -> Points:
    """Arrays of coordinates: a list of points."""
    n = sum(len(_as_tuple(chunk[2])[0]) for chunk in batch)
    points = np.full((n, len(chunks.shape)), -1, np.int64)
    for i, (_, _, inner, outer, _) in enumerate(batch):
        (places,) = _as_tuple(outer)
        local = np.stack([np.asarray(item, np.int64) for item in _as_tuple(inner)], axis=-1)
        points[places] = local + [chunks.extent(axis, c)[0] for axis, c in enumerate(coords(i))]
    if (points < 0).any():
        raise NotASelectionError("places of the result that no chunk fills")
    return Points(points, (n,))
