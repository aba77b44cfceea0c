"""Selections of selections: which element of the array each element of a result is, without reading any. Pure.

Each axis of the array is at a position that depends on some dimensions of the result: on none (an integer), on one (a
slice, a list), or on several (points). A further selection changes how; at the end it is one selection of the array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from zarrdock.array.planning.runs import positions
from zarrdock.array.planning.selection import Axis, IntArray, Points, Product
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import SelectionError

__all__ = ["Composed", "check_not_smaller", "columns_of", "positions_of"]


@dataclass(frozen=True, slots=True)
class _Picks:
    """Positions along one axis.

    Attributes:
        dims: dimensions of the result they depend on, ascending. at: the positions, one axis for each of these.
    """

    dims: tuple[int, ...]
    at: int | range | IntArray


@dataclass(frozen=True, slots=True)
class Composed:
    """One selection after another, of an array.

    Attributes:
        shape: of the result. axes: one for each axis of the array. of: the array's shape.
    """

    shape: tuple[int, ...]
    axes: tuple[_Picks, ...]
    of: tuple[int, ...]

    @classmethod
    def all_of(cls, shape: tuple[int, ...]) -> Composed:
        """Everything in an array."""
        return cls(shape, tuple(_Picks((i,), range(n)) for i, n in enumerate(shape)), shape)

    def then(self, selection: Product | Points) -> Composed:
        """The same with a selection of its result."""
        inner = _of_product(selection) if isinstance(selection, Product) else _of_points(selection)
        return Composed(selection.shape, tuple(_composed(axis, inner) for axis in self.axes), self.of)

    def selection(self, shape: tuple[int, ...]) -> tuple[Product | Points, tuple[int, ...]]:
        """The selection of the array it comes to.

        Args:
            shape: of the array now.
        Returns:
            ``(selection, order)``: the result is what the selection gives, with its dimensions in this order.
        Raises:
            SelectionError: the array was made smaller, or replaced.
        """
        check_not_smaller(shape, self.of)
        dims = [dim for axis in self.axes for dim in axis.dims]
        every = tuple(range(len(self.shape)))
        if sorted(dims) != list(every):  # axes that go together; a mask of one element
            coords = np.empty((prod(self.shape), len(self.axes)), np.int64)
            for i, axis in enumerate(self.axes):
                coords[:, i] = np.broadcast_to(_over(axis.at, axis.dims, every), self.shape).reshape(-1)
            return Points(coords, self.shape), every
        axes, flips = [], []
        for i, axis in enumerate(self.axes):
            found, is_flipped = _axis(axis.at)
            axes.append(found)
            if is_flipped:
                flips.append(i)
        dropped = tuple(i for i, axis in enumerate(self.axes) if not axis.dims)
        shape = tuple(self.shape[dim] for dim in dims)
        product = Product(tuple(axes), tuple(axis.n for axis in axes), shape, dropped, tuple(flips))
        return product, tuple(np.argsort(dims).tolist()) if dims else ()


def check_not_smaller(shape: tuple[int, ...], before: tuple[int, ...]) -> None:
    """Make sure that what was selected in an array of shape ``before`` is still there.

    Raises:
        SelectionError: it may not be.
    """
    if len(shape) != len(before) or any(now < then for now, then in zip(shape, before, strict=True)):
        raise SelectionError(f"the array had the shape {before} when a part of it was selected, now it has {shape}")


def _axis(at: int | range | IntArray) -> tuple[Axis, bool]:
    """Positions as an ascending axis, and whether it is to be read backwards."""
    if isinstance(at, int):
        return Axis(at, 1, 1), False
    if isinstance(at, range):
        n = len(at)
        if at.step < 0:
            return Axis(at[-1] if n else 0, -at.step, n), n > 1
        return Axis(at.start if n else 0, at.step, n), False
    return Axis.of_indices(at.reshape(-1)), False


def positions_of(axis: Axis, *, backwards: bool = False) -> range | IntArray:
    """The positions of an axis, one after another."""
    if axis.indices is not None:
        return axis.indices if axis.lengths is None else positions(axis.indices, axis.lengths)
    ascending = range(axis.start, axis.start + axis.step * axis.n, axis.step)
    return ascending[::-1] if backwards else ascending


def _of_product(selection: Product) -> list[_Picks]:
    kept = [i for i in range(len(selection.axes)) if i not in selection.dropped]
    if selection.moved:
        kept.insert(0, kept.pop(selection.moved))
    lengths = [selection.full_shape[i] for i in kept]
    each = [positions_of(axis, backwards=i in selection.flips) for i, axis in enumerate(selection.axes)]
    found = [_Picks((), axis.start) for axis in selection.axes]  # of integers; the others follow
    shape = selection.shape
    extra = len(shape) - len(lengths)
    if len(shape) == 1 < len(lengths):  # a mask of a box: all its elements one after another
        every = np.unravel_index(np.arange(prod(lengths)), lengths)
        for i, numbers in zip(kept, every, strict=True):
            found[i] = _Picks((0,), _at(each[i], numbers))
        return found
    # An array of indices with several dimensions, or none, stands in the place of one dimension.
    if extra > 0 and 0 in shape:  # lengths do not tell which
        for i in kept:
            found[i] = _Picks(tuple(range(len(shape))), np.empty(shape, np.int64))
        return found
    first = 0
    while first < len(lengths) - 1 and first < len(shape) and shape[first] == lengths[first]:
        first += 1
    dim = 0
    for number, i in enumerate(kept):
        n = extra + 1 if number == first else 1
        dims = tuple(range(dim, dim + n))
        dim += n
        if n == 1:
            found[i] = _Picks(dims, each[i])
        else:
            at = _at(each[i], np.arange(lengths[number]))
            found[i] = _Picks(dims, at.reshape([shape[d] for d in dims]) if n else int(at[0]))
    return found


def columns_of(selection: Points) -> list[IntArray]:
    """The coordinates of all points, one array an axis."""
    columns, lengths = list(selection.coords.T), selection.lengths
    if lengths is None:
        return columns
    return [*(np.repeat(column, lengths) for column in columns[:-1]), positions(columns[-1], lengths)]


def _of_points(selection: Points) -> list[_Picks]:
    columns = columns_of(selection)
    dims = tuple(range(len(selection.shape)))
    return [_Picks(dims, column.reshape(selection.shape) if dims else int(column[0])) for column in columns]


def _at(known: range | IntArray, numbers: IntArray) -> IntArray:
    if isinstance(known, range):
        return known.start + known.step * numbers
    return known[numbers]


def _composed(axis: _Picks, inner: list[_Picks]) -> _Picks:
    if isinstance(axis.at, int):
        return axis
    if len(axis.dims) == 1 and isinstance(axis.at, range):
        picks = inner[axis.dims[0]]
        known, at = axis.at, picks.at
        if isinstance(at, int):
            return _Picks((), known[at])
        if isinstance(at, range):
            start, step = known.start, known.step
            return replace(picks, at=range(start + step * at.start, start + step * at.stop, step * at.step))
        return replace(picks, at=_at(known, at))
    assert isinstance(axis.at, np.ndarray)
    dims = tuple(sorted({dim for i in axis.dims for dim in inner[i].dims}))
    at = axis.at[tuple(_over(inner[i].at, inner[i].dims, dims) for i in axis.dims)]
    return _Picks(dims, at if dims else int(at))


def _over(at: int | range | IntArray, own: tuple[int, ...], dims: tuple[int, ...]) -> AnyArray:
    """Positions as an array that broadcasts over ``dims``, of which ``own`` are some."""
    array = np.asarray(at, np.int64)
    lengths = dict(zip(own, array.shape, strict=True))
    return array.reshape([lengths.get(dim, 1) for dim in dims])
