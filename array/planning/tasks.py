"""Tasks of a selection: one :class:`Task` per object in the store, with its pieces down to the leaf chunks. Pure
functions, no I/O.

Pieces are kept as arrays for as long as possible; Python objects exist for objects in the store and for levels of
shards, not for leaf chunks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.layout import Irregular, Layout, Level
from zarrdock.array.planning.runs import Index, IntArray, Runs, cut
from zarrdock.array.planning.selection import (
    Axis,
    AxisPieces,
    PointRuns,
    Points,
    Product,
    Selector,
    group_owners,
    run_pieces,
)

__all__ = ["Leaves", "Pieces", "PointLeaves", "ProductLeaves", "Task", "irregular_tasks", "parts_of_axis", "tasks"]


# So many leaves' indices are made at once and kept while a shard is read; of more, only those asked for.
_MAX_PAIRS = 4096


class Leaves(ABC):
    """The leaf chunks wanted of one (innermost) shard, numbered 0 to n-1; ``flat`` are their numbers within the
    shard's grid, shape (n,).
    """

    flat: IntArray
    #: All indices are slices, so that what they take is a view.
    is_sliced: bool = False

    @property
    @abstractmethod
    def whole(self) -> npt.NDArray[np.bool_]:
        """Shape (n,): True where all of a leaf is wanted."""

    @abstractmethod
    def indices(self, numbers: Iterable[int] | IntArray) -> Iterator[tuple[Index, Index]]:
        """Indices of each leaf: into its own array, and into the selection's result."""

    def region(self) -> tuple[slice, ...] | None:
        """Index into the result of all leaves together, where that is one block."""
        return None


class Pieces(ABC):
    """The wanted parts of one node: an object in the store, or a shard within it."""

    #: All indices into leaves are slices.
    sliced: bool = False

    @abstractmethod
    def children(self, level: Level) -> list[tuple[int, Pieces]]:
        """The inner shards concerned: flat number within this shard, and the wanted part of each."""

    @abstractmethod
    def leaves(self, grid: tuple[int, ...]) -> Leaves:
        """The leaf chunks concerned, in a grid of leaves of that shape."""

    @property
    @abstractmethod
    def n_leaves(self) -> int:
        """Number of leaf chunks concerned."""

    @abstractmethod
    def covers(self) -> bool:
        """True where every element of every leaf concerned is wanted."""


@dataclass(frozen=True, slots=True)
class Task:
    """An object in the store, and the wanted part of it.

    Attributes:
        layout: of the object: the array's, or its own where objects differ in shape.
        n_inside: how many of the object's leaf chunks lie, at least in part, within the array; n_leaves: how many it
            has in all.
    """

    key: str
    coords: tuple[int, ...]
    pieces: Pieces
    n_inside: int
    n_leaves: int
    layout: Layout

    def is_whole(self) -> bool:
        """True where the object can be written without reading the stored one."""
        return self.pieces.n_leaves == self.n_leaves and self.pieces.covers()


def tasks(selection: Product | Points, layout: Layout) -> Iterator[Task]:
    """Tasks in C order of the objects, one per object."""
    if 0 in layout.shape:  # such an axis may have chunks of no length
        return
    if layout.irregular is not None:
        yield from irregular_tasks(selection, layout, layout.irregular)
        return
    n_leaves = prod(chunk // leaf for chunk, leaf in zip(layout.chunk_shape, layout.leaf_shape, strict=True))
    if isinstance(selection, Points):
        runs_ = selection.cut(layout.leaf_shape[-1] if layout.leaf_shape else 1)
        order, first, coords = group_owners(runs_.coords // np.asarray(layout.chunk_shape, np.int64))
        for i, row in enumerate(coords.tolist()):
            at = tuple(row)
            pieces: Pieces = PointPieces(runs_.pick(order[first[i] : first[i + 1]]), layout.leaf_shape)
            yield Task(layout.key(at), at, pieces, layout.n_leaves_in(at), n_leaves, layout)
        return
    if 0 in selection.full_shape:
        return
    axes = tuple(axis.pieces(leaf) for axis, leaf in zip(selection.axes, layout.leaf_shape, strict=True))
    ratio = [chunk // leaf for chunk, leaf in zip(layout.chunk_shape, layout.leaf_shape, strict=True)]
    runs = [_runs(axis.chunks, 0, len(axis.chunks), n) for axis, n in zip(axes, ratio, strict=True)]
    sliced = all(axis.is_slice for axis in axes)
    for combination in product(*runs):
        at = tuple(number for number, _, _ in combination)
        ranges = tuple((low, high) for _, low, high in combination)
        found = ProductPieces(axes, ranges, sliced)
        yield Task(layout.key(at), at, found, layout.n_leaves_in(at), n_leaves, layout)


def _runs(chunks: IntArray, low: int, high: int, per_parent: int) -> list[tuple[int, int, int]]:
    """Runs of leaf numbers with the same parent: (parent's number, first, last + 1)."""
    if high - low == 1:
        return [(int(chunks[low]) // per_parent, low, high)]
    if per_parent == 1:
        return [(number, i, i + 1) for i, number in enumerate(chunks[low:high].tolist(), low)]
    if high - low <= 16:  # numpy's calls would cost more than the work
        runs: list[tuple[int, int, int]] = []
        begin, parent = low, int(chunks[low]) // per_parent
        for i, number in enumerate(chunks[low:high].tolist(), low):
            if number // per_parent != parent:
                runs.append((parent, begin, i))
                begin, parent = i, number // per_parent
        runs.append((parent, begin, high))
        return runs
    parents = chunks[low:high] // per_parent
    first = np.flatnonzero(np.append(True, parents[1:] != parents[:-1]))
    last = np.append(first[1:], high - low)
    return [
        (number, low + a, low + b)
        for number, a, b in zip(parents[first].tolist(), first.tolist(), last.tolist(), strict=True)
    ]


class ProductPieces(Pieces):
    """A product of runs of axis pieces. The axes' pieces are shared by all nodes; a node is a range in each."""

    __slots__ = ("axes", "ranges", "sliced")

    def __init__(self, axes: tuple[AxisPieces, ...], ranges: tuple[tuple[int, int], ...], sliced: bool) -> None:
        self.axes = axes
        self.ranges = ranges
        self.sliced = sliced

    @property
    def n_leaves(self) -> int:
        return prod(high - low for low, high in self.ranges)

    def covers(self) -> bool:
        return all(axis.whole[low:high].all() for axis, (low, high) in zip(self.axes, self.ranges, strict=True))

    def children(self, level: Level) -> list[tuple[int, Pieces]]:
        grid = level.sharding.grid
        runs = [
            _runs(axis.chunks, low, high, n)
            for axis, (low, high), n in zip(self.axes, self.ranges, level.leaves, strict=True)
        ]
        found: list[tuple[int, Pieces]] = []
        for combination in product(*runs):
            flat = 0
            for (number, _, _), n in zip(combination, grid, strict=True):
                flat = flat * n + number % n
            found.append(
                (flat, ProductPieces(self.axes, tuple((low, high) for _, low, high in combination), self.sliced))
            )
        return found

    def leaves(self, grid: tuple[int, ...]) -> Leaves:
        return ProductLeaves(self.axes, self.ranges, grid, self.sliced)


class ProductLeaves(Leaves):
    """Leaves of a product: leaf i is the product of one piece an axis."""

    __slots__ = ("_pairs", "axes", "extents", "flat", "is_sliced", "ranges")

    def __init__(
        self, axes: tuple[AxisPieces, ...], ranges: tuple[tuple[int, int], ...], grid: tuple[int, ...], sliced: bool
    ) -> None:
        self.axes = axes
        self.ranges = ranges
        self.extents = tuple(high - low for low, high in ranges)
        self.is_sliced = sliced
        self._pairs: list[tuple[Index, Index]] | None = None
        flat = np.zeros(1, np.int64)
        for axis, (low, high), n in zip(axes, ranges, grid, strict=True):
            flat = np.add.outer(flat * n, axis.chunks[low:high] % n).reshape(-1)
        self.flat = flat

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        whole = np.ones(1, bool)
        for axis, (low, high) in zip(self.axes, self.ranges, strict=True):
            whole = np.logical_and.outer(whole, axis.whole[low:high]).reshape(-1)
        return whole

    def indices(self, numbers: Iterable[int] | IntArray) -> Iterator[tuple[Index, Index]]:
        if not self.axes:
            return iter([((), ())] * len(list(numbers)))
        if self.is_sliced and len(self.flat) <= _MAX_PAIRS:
            pairs = self._pairs
            if pairs is None:
                inside = product(
                    *(axis.inner[low:high] for axis, (low, high) in zip(self.axes, self.ranges, strict=True))
                )
                beyond = product(
                    *(axis.outer[low:high] for axis, (low, high) in zip(self.axes, self.ranges, strict=True))
                )
                pairs = self._pairs = list(zip(inside, beyond, strict=True))
            return map(pairs.__getitem__, numbers.tolist() if isinstance(numbers, np.ndarray) else numbers)
        inner = [axis.inner[low:high] for axis, (low, high) in zip(self.axes, self.ranges, strict=True)]
        outer = [axis.outer[low:high] for axis, (low, high) in zip(self.axes, self.ranges, strict=True)]
        places = [p.tolist() for p in np.unravel_index(np.asarray(numbers), self.extents)]
        within = zip(*([axis[p] for p in place] for axis, place in zip(inner, places, strict=True)), strict=True)
        outside = zip(*([axis[p] for p in place] for axis, place in zip(outer, places, strict=True)), strict=True)
        each = zip(within, outside, strict=True)
        return each if self.is_sliced else ((_numpy_index(a), _numpy_index(b)) for a, b in each)

    def slices(self) -> tuple[tuple[list[Any], ...], tuple[list[Any], ...]]:
        """Slices of each axis, within the leaves and within the result; ``numbers`` count their product in C order."""
        each = [
            (axis.inner[low:high], axis.outer[low:high])
            for axis, (low, high) in zip(self.axes, self.ranges, strict=True)
        ]
        return tuple(inner for inner, _ in each), tuple(outer for _, outer in each)

    def region(self) -> tuple[slice, ...] | None:
        if not self.is_sliced:
            return None
        ends = (
            (axis.outer[low], axis.outer[high - 1]) for axis, (low, high) in zip(self.axes, self.ranges, strict=True)
        )
        return tuple(slice(first.start, last.stop) for first, last in ends)  # type: ignore[union-attr]


def _numpy_index(index: tuple[Any, ...]) -> Index:
    """The product of selectors, one an axis, as an index."""
    if len(index) == 1 and isinstance(index[0], Runs):
        return index[0]
    arrays = tuple(i.arrays()[0] if isinstance(i, Runs) else i for i in index)
    if sum(not isinstance(i, slice) for i in arrays) < 2:
        return arrays
    # With several arrays of integers, numpy means a product only if all axes are open meshes.
    return np.ix_(*(np.arange(i.start, i.stop, i.step or 1) if isinstance(i, slice) else i for i in arrays))


class PointPieces(Pieces):
    """Points of a selection. Their runs lie in one leaf each."""

    __slots__ = ("leaf_shape", "runs")

    def __init__(self, runs: PointRuns, leaf_shape: tuple[int, ...]) -> None:
        self.runs = runs
        self.leaf_shape = leaf_shape

    @property
    def n_leaves(self) -> int:
        if not self.leaf_shape:
            return 1
        return len(np.unique(self.runs.coords // np.asarray(self.leaf_shape), axis=0))

    def covers(self) -> bool:
        return False

    def children(self, level: Level) -> list[tuple[int, Pieces]]:
        order, first, where = group_owners(self.runs.coords // np.asarray(level.sharding.inner.spec.shape, np.int64))
        flat = (
            np.ravel_multi_index(tuple((where % np.asarray(level.sharding.grid)).T), level.sharding.grid)
            if where.shape[1]
            else np.zeros(len(where), np.int64)
        )
        return [
            (number, PointPieces(self.runs.pick(order[a:b]), self.leaf_shape))
            for number, a, b in zip(flat.tolist(), first[:-1].tolist(), first[1:].tolist(), strict=True)
        ]

    def leaves(self, grid: tuple[int, ...]) -> Leaves:
        return PointLeaves(self, grid)


class PointLeaves(Leaves):
    """Leaves that hold points."""

    __slots__ = ("_first", "_runs", "flat")

    def __init__(self, pieces: PointPieces, grid: tuple[int, ...]) -> None:
        leaf = np.asarray(pieces.leaf_shape, np.int64)
        owners = pieces.runs.coords // leaf
        order, self._first, where = group_owners(owners)
        self._runs = pieces.runs.pick(order, owners[order] * leaf)
        flat = np.zeros(len(where), np.int64)
        for axis, n in enumerate(grid):
            flat = flat * n + where[:, axis] % n
        self.flat = flat

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.flat), bool)

    def indices(self, numbers: Iterable[int] | IntArray) -> Iterator[tuple[Index, Index]]:
        coords, places, lengths = self._runs.coords, self._runs.numbers, self._runs.lengths
        for i in np.asarray(numbers).tolist():
            part = slice(self._first[i], self._first[i + 1])
            if lengths is None:
                # A zero-dimensional chunk has one element, which is a point of no coordinates.
                yield tuple(coords[part].T) or (None,), (places[part],)
                continue
            inside, outside = Runs(coords[part], lengths[part]), Runs(places[part, None], lengths[part])
            if len(inside.lengths) == 1:
                yield inside.slices()[0], outside.slices()[0]
            else:
                yield inside, outside


# -- Selections of arrays whose objects differ in shape: each object is seen as an array of its own. Pure.


def irregular_tasks(selection: Product | Points, layout: Layout, irregular: Irregular) -> Iterator[Task]:
    """Tasks in C order of the objects, one per object; see :func:`zarrdock.array.planning.tasks.tasks`."""
    if isinstance(selection, Points):
        yield from _of_points(selection, layout, irregular)
        return
    if 0 in selection.full_shape:
        return
    parts = [
        list(parts_of_axis(axis, bounds, chunk, leaf if layout.levels else 0))
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


def parts_of_axis(axis: Axis, bounds: IntArray | None, chunk: int, leaf: int) -> Iterator[tuple[int, AxisPieces]]:
    """The objects that a selection along one axis touches, ascending, and its pieces as positions within each.

    Args:
        chunk: length of an object where ``bounds`` is None. leaf: length of a leaf; 0 where an object is one.
    """
    if axis.indices is not None:
        starts, lengths, places = axis.indices, axis.lengths, np.arange(len(axis.indices))
        if lengths is not None:
            _, starts, lengths = cut(starts, lengths, chunk, bounds)
            places = np.cumsum(lengths) - lengths
        owners = starts // chunk if bounds is None else np.searchsorted(bounds, starts, "right") - 1
        order = np.argsort(owners, kind="stable")
        numbers, first = np.unique(owners[order], return_index=True)
        ends = np.append(first[1:], len(order))
        for number, a, b in zip(numbers.tolist(), first.tolist(), ends.tolist(), strict=True):
            origin, length = _extent(number, bounds, chunk)
            mine = order[a:b]
            n_each = None if lengths is None else lengths[mine]
            yield number, run_pieces(starts[mine] - origin, n_each, places[mine], leaf or length)
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
            yield number, AxisPieces(own.chunks, own.inner, outer, own.whole, own.n)


def _extent(number: int, bounds: IntArray | None, chunk: int) -> tuple[int, int]:
    """Start of an object, and its length."""
    if bounds is None:
        return number * chunk, chunk
    start = int(bounds[number])
    return start, int(bounds[number + 1]) - start


def _of_points(selection: Points, layout: Layout, irregular: Irregular) -> Iterator[Task]:
    runs = selection.cut(layout.chunk_shape[-1], irregular.bounds[-1])
    owners = np.empty_like(runs.coords)
    for axis, (bounds, chunk) in enumerate(zip(irregular.bounds, layout.chunk_shape, strict=True)):
        positions = runs.coords[:, axis]
        owners[:, axis] = positions // chunk if bounds is None else np.searchsorted(bounds, positions, "right") - 1
    order, first, coords = group_owners(owners)
    for i, row in enumerate(coords.tolist()):
        at = tuple(row)
        own = layout.at(at)
        mine = runs.pick(order[first[i] : first[i + 1]], np.asarray(layout.starts(at), np.int64))
        pieces = PointPieces(mine.cut(own.leaf_shape[-1]), own.leaf_shape)
        yield Task(layout.key(at), at, pieces, layout.n_leaves_in(at), _n_leaves(own), own)
