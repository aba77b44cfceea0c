"""Selections of arrays whose objects differ in shape: each object is seen as an array of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.axes import Axis, AxisPieces, Points, Product, Selector, group_owners
from zarrdock.array.planning.layout import Irregular, Layout
from zarrdock.array.planning.pieces import PointPieces, ProductPieces, Task

__all__ = ["irregular_tasks"]

IntArray: TypeAlias = npt.NDArray[np.int64]


def irregular_tasks(selection: Product | Points, layout: Layout, irregular: Irregular) -> Iterator[Task]:
    """One task an object, in C order of the objects; see :func:`zarrdock.array.planning.pieces.tasks`."""
    if isinstance(selection, Points):
        yield from _of_points(selection, layout, irregular)
        return
    if 0 in selection.full_shape:
        return
    parts = [
        list(_parts(axis, bounds, chunk, leaf if layout.levels else 0))
        for axis, bounds, chunk, leaf in zip(
            selection.axes, irregular.bounds, layout.chunk_shape, layout.leaf_shape, strict=True
        )
    ]
    for combination in product(*parts):
        at = tuple(number for number, _ in combination)
        axes = tuple(pieces for _, pieces in combination)
        ranges = tuple((0, len(axis.chunks)) for axis in axes)
        found = ProductPieces(axes, ranges, all(axis.is_slice for axis in axes))
        own = layout.at(at)
        yield Task(layout.key(at), at, found, layout.n_leaves_in(at), _n_leaves(own), own)


def _n_leaves(own: Layout) -> int:
    return prod(chunk // leaf for chunk, leaf in zip(own.chunk_shape, own.leaf_shape, strict=True))


def _parts(axis: Axis, bounds: IntArray | None, chunk: int, leaf: int) -> Iterator[tuple[int, AxisPieces]]:
    """The objects that a selection along one axis touches, ascending, and its pieces as positions within each.

    Args:
        chunk: length of an object where ``bounds`` is None. leaf: length of a leaf; 0 where an object is one.
    """
    if axis.indices is not None:
        owners = axis.indices // chunk if bounds is None else np.searchsorted(bounds, axis.indices, "right") - 1
        order = np.argsort(owners, kind="stable")
        numbers, first = np.unique(owners[order], return_index=True)
        ends = np.append(first[1:], len(order))
        for number, a, b in zip(numbers.tolist(), first.tolist(), ends.tolist(), strict=True):
            start, length = _extent(number, bounds, chunk)
            places = order[a:b]
            own = Axis(0, 1, b - a, axis.indices[places] - start).pieces(leaf or length)
            yield number, _moved(own, [places[part] for part in own.outer])
        return
    start, step, n = axis.start, axis.step, axis.n
    last = start + step * (n - 1)
    low, high = (p // chunk if bounds is None else int(np.searchsorted(bounds, p, "right")) - 1 for p in (start, last))
    for number in range(low, high + 1):
        origin, length = _extent(number, bounds, chunk)
        begin = max(0, -((start - origin) // step))
        end = min(n, -((start - origin - length) // step))
        if begin < end:  # a long step may pass over it
            own = Axis(start + begin * step - origin, step, end - begin).pieces(leaf or length)
            outer: list[Selector] = [
                slice(part.start + begin, part.stop + begin) for part in own.outer if isinstance(part, slice)
            ]
            yield number, _moved(own, outer)


def _extent(number: int, bounds: IntArray | None, chunk: int) -> tuple[int, int]:
    """Where an object begins, and its length."""
    if bounds is None:
        return number * chunk, chunk
    start = int(bounds[number])
    return start, int(bounds[number + 1]) - start


def _moved(own: AxisPieces, outer: list[Selector]) -> AxisPieces:
    return AxisPieces(own.chunks, own.inner, outer, own.whole, own.n, own.is_slice)


def _of_points(selection: Points, layout: Layout, irregular: Irregular) -> Iterator[Task]:
    owners = np.empty_like(selection.coords)
    for axis, (bounds, chunk) in enumerate(zip(irregular.bounds, layout.chunk_shape, strict=True)):
        positions = selection.coords[:, axis]
        owners[:, axis] = positions // chunk if bounds is None else np.searchsorted(bounds, positions, "right") - 1
    order, first, coords = group_owners(owners)
    for i, row in enumerate(coords.tolist()):
        at = tuple(row)
        own = layout.at(at)
        numbers = order[first[i] : first[i + 1]]
        local = selection.coords[numbers] - np.asarray(layout.starts(at), np.int64)
        pieces = PointPieces(local, numbers, own.leaf_shape)
        yield Task(layout.key(at), at, pieces, layout.n_leaves_in(at), _n_leaves(own), own)
