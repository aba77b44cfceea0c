"""Parse the indices a user writes between brackets into a :class:`Product` of positions or :class:`Points`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.runs import IntArray, Runs, cut, first_of_runs, mask_runs
from zarrdock.errors import SelectionError

__all__ = [
    "Axis",
    "AxisPieces",
    "IntArray",
    "PointRuns",
    "Points",
    "Product",
    "Selector",
    "basic",
    "blocks",
    "element",
    "end_of",
    "group_owners",
    "keeps_zero_dimensions",
    "orthogonal",
    "vectorised",
]


# -- Selections in normal form: positions along each axis, or points.
#
# - :class:`Product`: along each axis its own list of positions; pieces of chunks are the product of the axes' pieces
# (slices, ``oindex``, blocks);
# - :class:`Points`: a list of points (``vindex``, masks), grouped by chunk.
#
# Vectorised: numpy works on axes, never element by element or chunk by chunk.

Selector: TypeAlias = "slice | IntArray | Runs"

# Chunks along an axis up to which plain Python is faster.
_FEW = 24


@dataclass(frozen=True, slots=True)
class AxisPieces:
    """Parts that a selection along one axis takes of each chunk it touches.

    Attributes:
        chunks: shape (m,), numbers of the chunks touched, ascending.
        inner: m selectors within the chunk. outer: m selectors within the result's axis.
        whole: shape (m,), True where the piece is all of the chunk. A chunk that reaches beyond the array is never
            whole: another writer may have made the array longer meanwhile, and what it wrote there must survive.
        n: length of the result's axis.
        is_slice: all selectors are slices, those within the result one behind the other.
    """

    chunks: IntArray
    inner: list[Selector]
    outer: list[Selector]
    whole: npt.NDArray[np.bool_]
    n: int
    is_slice: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """A selection along one axis: ``n`` positions, ``start + step * i`` (step >= 1), or those in ``indices``.

    Attributes:
        lengths: where given, ``indices`` are the beginnings of runs of consecutive positions, and these their lengths.
    """

    start: int
    step: int
    n: int
    indices: IntArray | None = None
    lengths: IntArray | None = None

    @classmethod
    def of_indices(cls, indices: IntArray) -> Axis:
        """Positions in any order, as the simplest of these forms."""
        n = len(indices)
        if n < 2:
            return cls(int(indices[0]) if n else 0, 1, n)
        first = first_of_runs(indices)
        if len(first) == 1:
            return cls(int(indices[0]), 1, n)
        if 2 * len(first) <= n:
            return cls(0, 1, n, indices[first], np.diff(np.append(first, n)))
        step = int(indices[1] - indices[0])
        if step > 1 and (np.diff(indices) == step).all():
            return cls(int(indices[0]), step, n)
        return cls(0, 1, n, indices)

    @classmethod
    def of_mask(cls, mask: npt.NDArray[np.bool_]) -> Axis:
        """The positions where a mask is true."""
        starts, lengths = mask_runs(mask)
        n = int(lengths.sum())
        if len(starts) == 1:
            return cls(int(starts[0]), 1, n)
        return cls.of_indices(np.flatnonzero(mask)) if 2 * len(starts) > n else cls(0, 1, n, starts, lengths)

    @property
    def stop(self) -> int:
        """The end of the smallest slice that holds all positions."""
        if self.indices is None:
            return self.start + self.step * (self.n - 1) + 1 if self.n else self.start
        ends = self.indices + (1 if self.lengths is None else self.lengths)
        return int(ends.max()) if self.n else 0

    def pieces(self, chunk: int) -> AxisPieces:
        """Cut along chunks of that length."""
        if self.n == 0:
            return AxisPieces(np.empty(0, np.int64), [], [], np.empty(0, bool), 0)
        if self.indices is None:
            return self._of_range(chunk)
        lengths = self.lengths
        places = np.arange(self.n) if lengths is None else np.cumsum(lengths) - lengths
        return run_pieces(self.indices, lengths, places, chunk)

    def _of_range(self, chunk: int) -> AxisPieces:
        start, step, n = self.start, self.step, self.n
        last = start + step * (n - 1)
        first_chunk, last_chunk = start // chunk, last // chunk
        if first_chunk == last_chunk:
            low = first_chunk * chunk
            whole = n == chunk
            inner: Selector = slice(start - low, last - low + 1, step)
            return AxisPieces(np.array([first_chunk], np.int64), [inner], [slice(0, n)], np.array([whole]), n)
        if last_chunk - first_chunk < _FEW and step <= chunk:
            return self._of_few(chunk, first_chunk, last_chunk)
        chunks: IntArray
        if step > chunk:  # some chunks in between are stepped over
            chunks = np.unique((start + step * np.arange(n, dtype=np.int64)) // chunk)
        else:
            chunks = np.arange(first_chunk, last_chunk + 1, dtype=np.int64)
        low_edges = chunks * chunk
        # Numbers of the first position in each chunk, and of the first one beyond it.
        begins = np.maximum(0, -((start - low_edges) // step))
        ends = np.minimum(n, -((start - low_edges - chunk) // step))
        inner_starts = start + begins * step - low_edges
        inner_stops = start + (ends - 1) * step - low_edges + 1
        whole_pieces = ends - begins == chunk
        return AxisPieces(
            chunks,
            [slice(a, b, step) for a, b in zip(inner_starts.tolist(), inner_stops.tolist(), strict=True)],
            [slice(a, b) for a, b in zip(begins.tolist(), ends.tolist(), strict=True)],
            whole_pieces,
            n,
        )

    def _of_few(self, chunk: int, first_chunk: int, last_chunk: int) -> AxisPieces:
        """The same for a few chunks, without numpy: its calls would cost more than the work."""
        start, step, n = self.start, self.step, self.n
        inner: list[Selector] = []
        outer: list[Selector] = []
        whole: list[bool] = []
        begin = 0
        for number in range(first_chunk, last_chunk + 1):
            low = number * chunk
            end = min(n, -((start - low - chunk) // step))
            inner.append(slice(start + begin * step - low, start + (end - 1) * step - low + 1, step))
            outer.append(slice(begin, end))
            whole.append(end - begin == chunk)
            begin = end
        return AxisPieces(np.arange(first_chunk, last_chunk + 1, dtype=np.int64), inner, outer, np.array(whole), n)


def run_pieces(starts: IntArray, lengths: IntArray | None, places: IntArray, chunk: int) -> AxisPieces:
    """Runs of positions along an axis (in any order), cut along chunks.

    Args:
        lengths: None where each is one position. places: where each run begins in the result's axis.
    """
    if lengths is not None:
        run, begins, lengths = cut(starts, lengths, chunk)
        starts, places = begins, places[run] + begins - starts[run]
    owner = starts // chunk
    local = starts - owner * chunk
    if (owner[1:] < owner[:-1]).any():
        order = np.argsort(owner, kind="stable")
        owner, local, places = owner[order], local[order], places[order]
        lengths = None if lengths is None else lengths[order]
    first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    inner: list[Selector] = []
    outer: list[Selector] = []
    whole = np.zeros(len(first), bool)
    n = 0
    for i, (a, b) in enumerate(zip(first.tolist(), [*first[1:].tolist(), len(owner)], strict=True)):
        n_each = None if lengths is None else lengths[a:b]
        part = _selector(local[a:b], n_each)
        inner.append(part)
        outer.append(_selector(places[a:b], n_each))
        n_part = b - a if n_each is None else int(n_each.sum())
        n += n_part
        if n_part >= chunk:
            whole[i] = isinstance(part, slice) or _covers(part, chunk)
    is_slice = all(isinstance(part, slice) for part in inner) and _are_consecutive(outer)
    return AxisPieces(owner[first], inner, outer, whole, n, is_slice)


def _are_consecutive(parts: list[Selector]) -> bool:
    return all(isinstance(part, slice) for part in parts) and all(a.stop == b.start for a, b in pairwise(parts))  # type: ignore[union-attr]


def _covers(part: IntArray | Runs, chunk: int) -> bool:
    """True where positions in a chunk of that length are all of it."""
    there = np.zeros(chunk, bool)
    there[part.arrays()[0] if isinstance(part, Runs) else part] = True
    return bool(there.all())


def _selector(starts: IntArray, lengths: IntArray | None) -> Selector:
    """Runs along one axis: a slice, where they follow one another."""
    n_each = 1 if lengths is None else lengths
    if (starts[1:] == (starts + n_each)[:-1]).all():
        return slice(int(starts[0]), int((starts + n_each)[-1]))
    return starts if lengths is None else Runs(starts[:, None], lengths)


@dataclass(frozen=True, slots=True)
class Product:
    """Positions along each axis, one :class:`Axis` an axis of the array.

    Attributes:
        axes: the array's axes.
        full_shape: result's shape with every axis kept (an integer keeps an axis of length 1).
        shape: result's shape as numpy would give it.
        dropped: axes indexed by an integer, absent from the result.
        flips: axes (of ``full_shape``) to be read backwards: a slice with a negative step.
        moved: the kept axis that numpy would move to the front (an array of indices that slices separate from an
            integer), or 0.
    """

    axes: tuple[Axis, ...]
    full_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    flips: tuple[int, ...] = ()
    moved: int = 0

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape with the axes of integers dropped, before arrays of indices take the shape they were given and the
        place numpy puts them in.
        """
        return tuple(n for i, n in enumerate(self.full_shape) if i not in self.dropped)


@dataclass(frozen=True, slots=True)
class Points:
    """A list of points.

    Attributes:
        coords: shape (n_points, ndim), int64, within the array.
        shape: of the result; its elements are the points in C order.
        lengths: where given, ``coords`` are the beginnings of runs along the last axis, and these their lengths.
    """

    coords: IntArray
    shape: tuple[int, ...]
    lengths: IntArray | None = None

    @property
    def n(self) -> int:
        """Number of points."""
        return prod(self.shape)

    def cut(self, chunk: int, bounds: IntArray | None = None) -> PointRuns:
        """The points as runs that each lie in one chunk along the last axis; see
        :func:`zarrdock.array.planning.runs.cut`.
        """
        if self.lengths is None:
            return PointRuns(self.coords, np.arange(len(self.coords)))
        return PointRuns(self.coords, np.cumsum(self.lengths) - self.lengths, self.lengths).cut(chunk, bounds)


def end_of(selection: Product | Points) -> tuple[int, ...]:
    """The ends of the smallest box that holds the elements selected, along each axis."""
    if isinstance(selection, Product):
        return tuple(axis.stop for axis in selection.axes)
    coords = selection.coords
    if not len(coords):
        return tuple(0 for _ in range(coords.shape[1]))
    ends = coords.max(axis=0) + 1
    if selection.lengths is not None:
        ends[-1] = (coords[:, -1] + selection.lengths).max()
    return tuple(map(int, ends))


@dataclass(frozen=True, slots=True)
class PointRuns:
    """Points of a list, as runs along the last axis.

    Attributes:
        coords: shape (n_runs, ndim), where each begins. numbers: shape (n_runs,), of its first point in the list.
        lengths: shape (n_runs,), how many points it has; None where each has one.
    """

    coords: IntArray
    numbers: IntArray
    lengths: IntArray | None = None

    def cut(self, chunk: int, bounds: IntArray | None = None) -> PointRuns:
        """The same points as runs that end where chunks do."""
        if self.lengths is None:
            return self
        starts = self.coords[:, -1]
        run, begins, lengths = cut(starts, self.lengths, chunk, bounds)
        if len(run) == len(starts):
            return self
        coords = self.coords[run]
        coords[:, -1] = begins
        return PointRuns(coords, self.numbers[run] + begins - starts[run], lengths)

    def pick(self, which: IntArray, origin: IntArray | None = None) -> PointRuns:
        """Pick points, with their coordinates relative to ``origin``."""
        coords = self.coords[which] if origin is None else self.coords[which] - origin
        return PointRuns(coords, self.numbers[which], None if self.lengths is None else self.lengths[which])


def group_owners(owners: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Points by the chunk they lie in, whose coordinates ``owners`` has, shape (n_points, ndim).

    Returns:
        ``(order, first, coords)``: the points' numbers sorted by chunk, where in them each chunk begins (with the end
        appended), and each chunk's
        coordinates, shape (n_chunks, ndim), in C order.
    """
    n, ndim = owners.shape
    if n == 0 or ndim == 0:
        return np.arange(n), np.array([0, n] if n else [0]), np.zeros((1 if n else 0, ndim), np.int64)
    low = owners.min(axis=0)
    extent = [int(e) for e in owners.max(axis=0) - low + 1]
    if prod(extent) < 2**62:
        number = np.ravel_multi_index(tuple((owners - low).T), tuple(extent))
        order = np.argsort(number, kind="stable")
        change = np.diff(number[order]) != 0
    else:
        order = np.lexsort(owners.T[::-1])
        change = (np.diff(owners[order], axis=0) != 0).any(axis=1)
    first = np.flatnonzero(np.append(True, change))
    return order, np.append(first, n), owners[order[first]]


def _expand(selection: Any, shape: tuple[int, ...]) -> list[Any]:
    """A list with one entry an axis: tuples unpacked, an ellipsis replaced, missing axes added. A mask counts as many
    axes as it has.
    """
    items = list(selection) if isinstance(selection, tuple) else [selection]
    items = [item if type(item) is slice or type(item) is int else _plain(item) for item in items]
    n_axes, at = 0, -1
    for i, item in enumerate(items):
        if item is Ellipsis:
            if at >= 0:
                raise SelectionError("a selection can hold only one ellipsis ('...')")
            at = i
        elif item is None:
            raise SelectionError("np.newaxis is not supported in a selection: add the axis to the result")
        else:
            n_axes += item.ndim if isinstance(item, np.ndarray) and item.dtype == bool else 1
    if n_axes > len(shape):
        raise SelectionError(f"too many indices: the array has {len(shape)} dimensions, {n_axes} were indexed")
    fill = [slice(None)] * (len(shape) - n_axes)
    return items + fill if at < 0 else items[:at] + fill + items[at + 1 :]


def _plain(item: Any) -> Any:
    """Lists, booleans and whatever else gives an array, as numpy arrays; the rest as it is."""
    if isinstance(item, (np.ndarray, slice)) or (isinstance(item, np.generic) and item.dtype != bool):
        return item
    if isinstance(item, (list, bool, np.bool_)) or hasattr(item, "__array__"):
        array = _as_array(item)
        return array.astype(np.int64) if isinstance(item, list) and not array.size else array
    return item


def _as_int(item: Any) -> int | None:
    if isinstance(item, (bool, np.bool_)):
        return None
    if type(item) is int:
        return item
    if isinstance(item, np.ndarray) and item.ndim:
        return None
    try:
        return operator.index(item)
    except TypeError:
        return None


def _int_axis(index: int, length: int, axis: int) -> Axis:
    if not -length <= index < length:
        raise SelectionError(f"index {index} is out of bounds for axis {axis} with size {length}")
    return Axis(index % length, 1, 1)


def _slice_axis(item: slice, length: int, axis: int) -> tuple[Axis, bool]:
    """The axis, ascending, and whether it is to be read backwards."""
    try:
        start, stop, step = item.indices(length)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"axis {axis}: {item} is not a slice of integers with a step other than zero") from error
    n = len(range(start, stop, step))
    return (Axis(start, step, n), False) if step > 0 else (Axis(start + step * max(n - 1, 0), -step, n), n > 1)


def _as_array(item: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(item)
    except (TypeError, ValueError) as error:  # ragged lists
        raise SelectionError(f"{item!r:.60} cannot be an array of indices") from error


def _index_array(item: Any, length: int, axis: int) -> IntArray:
    """Integers or a mask of one axis as non-negative integers, of the shape given."""
    array = _as_array(item)
    if array.dtype == bool:
        _check_mask(array, length, axis)
        return np.flatnonzero(array)
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise SelectionError(
            f"axis {axis}: indices must be integers, slices, or arrays of integers or booleans, not {item!r:.60}"
        )
    indices: IntArray = array.astype(np.int64, copy=False)
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < -length or high >= length or (array.dtype == np.uint64 and int(array.max()) >= length):
            worst = low if low < -length else int(array.max())
            raise SelectionError(f"index {worst} is out of bounds for axis {axis} with size {length}")
        if low < 0:
            indices = np.where(indices < 0, indices + length, indices)
    return indices


def _check_mask(mask: npt.NDArray[Any], length: int, axis: int) -> None:
    if mask.shape != (length,):
        raise SelectionError(f"axis {axis}: a mask of shape {mask.shape} does not fit an axis of length {length}")


def _product(axes: list[Axis], dropped: set[int], flips: tuple[int, ...]) -> Product:
    full = tuple(axis.n for axis in axes)
    return Product(
        tuple(axes), full, tuple(n for i, n in enumerate(full) if i not in dropped), tuple(sorted(dropped)), flips
    )


def basic(selection: Any, shape: tuple[int, ...]) -> Product | Points:
    """``array[selection]``: integers, slices, one ellipsis; arrays and masks with numpy's meaning.

    Raises:
        SelectionError: out of bounds, of the wrong type, or a mixture that only numpy could give a meaning to; the
            message names the way to say it.
    """
    items = _expand(selection, shape)
    axes: list[Axis] = []
    dropped: set[int] = set()
    flips: list[int] = []
    for i, item in enumerate(items):
        if isinstance(item, slice):
            axis, flip = _slice_axis(item, shape[i], i)
            axes.append(axis)
            if flip:
                flips.append(i)
        elif (index := _as_int(item)) is not None and i < len(shape):
            axes.append(_int_axis(index, shape[i], i))
            dropped.add(i)
        else:
            return _advanced(items, shape)
    return _product(axes, dropped, tuple(flips))


def _advanced(items: list[Any], shape: tuple[int, ...]) -> Product | Points:
    """numpy's advanced indexing, as far as it is a product of axes or a list of points."""
    masks = [item for item in items if isinstance(item, np.ndarray) and item.dtype == bool and item.ndim != 1]
    if masks or (len(items) == 1 and _as_array(items[0]).dtype == bool and _as_array(items[0]).ndim == len(shape) != 1):
        mask = _as_array(items[0])
        if len(items) > 1 or mask.shape != shape:
            raise SelectionError(
                f"a mask must have the array's shape, {shape}, and be the only index; "
                "use .oindex for masks of single axes"
            )
        return _masked(mask)
    kinds = ["s" if isinstance(item, slice) else "i" if _as_int(item) is not None else "a" for item in items]
    if "s" not in kinds:
        return vectorised(tuple(items), shape)
    if kinds.count("a") > 1:
        raise SelectionError(
            "more than one array of indices together with slices: say .oindex[...] for the product of the axes, or"
            " .vindex[...] for points"
        )
    at = kinds.index("a")
    indices = items[at]
    is_mask = isinstance(indices, np.ndarray) and indices.dtype == bool
    if not is_mask:
        indices = _index_array(indices, shape[at], at)
    product = _orthogonal([indices.reshape(-1) if i == at else item for i, item in enumerate(items)], shape)
    shape_there = (product.full_shape[at],) if is_mask else indices.shape
    # numpy: integers count as advanced, too; if slices separate them from the array, the array's axes come first.
    advanced = [i for i, kind in enumerate(kinds) if kind != "s"]
    kept = [i for i, kind in enumerate(kinds) if kind != "i"]
    apart = advanced[-1] - advanced[0] + 1 != len(advanced)
    front = kept.index(at) if apart else 0
    if front:
        rest = [n for i, n in enumerate(product.shape) if i != front]
        return replace(product, shape=(*shape_there, *rest), moved=front)
    where = kept.index(at)
    return replace(product, shape=(*product.shape[:where], *shape_there, *product.shape[where + 1 :]))


def _masked(mask: npt.NDArray[np.bool_]) -> Product | Points:
    """The elements where a mask of the array's shape is true, in C order."""
    n = int(np.count_nonzero(mask))
    if mask.ndim == 0 or n == 0:
        return Points(np.argwhere(mask).astype(np.int64), (n,))
    every = tuple(range(mask.ndim))
    masks = [np.asarray(mask.any(axis=every[:i] + every[i + 1 :])) if mask.ndim > 1 else mask for i in every]
    if prod(int(np.count_nonzero(axis)) for axis in masks) == n:  # a box, rows, columns: a product of its axes
        return replace(_product([Axis.of_mask(axis) for axis in masks], set(), ()), shape=(n,))
    flat = mask.reshape(-1)
    if 2 * np.count_nonzero(flat[1:] != flat[:-1]) <= n:  # runs of four elements and more
        _, starts, lengths = cut(*mask_runs(flat), mask.shape[-1])
        if 2 * len(starts) <= n:
            return Points(np.stack(np.unravel_index(starts, mask.shape), axis=1), (n,), lengths)
    return Points(np.argwhere(mask).astype(np.int64, copy=False), (n,))


def orthogonal(selection: Any, shape: tuple[int, ...]) -> Product | Points:
    """``array.oindex[selection]``: integers, slices, arrays of integers and masks, each for its own axis.

    Raises:
        SelectionError: out of bounds, or not one of these.
    """
    if isinstance(selection, np.ndarray) and selection.dtype == bool and selection.ndim == len(shape) != 1:
        return basic(selection, shape)
    items = _expand(selection, shape)
    if len(items) != len(shape):
        raise SelectionError("a mask in .oindex must be one-dimensional, for its axis")
    return _orthogonal(items, shape)


def _orthogonal(items: list[Any], shape: tuple[int, ...]) -> Product:
    axes: list[Axis] = []
    dropped: set[int] = set()
    flips: list[int] = []
    for i, item in enumerate(items):
        if isinstance(item, slice):
            axis, flip = _slice_axis(item, shape[i], i)
            axes.append(axis)
            if flip:
                flips.append(i)
        elif (index := _as_int(item)) is not None:
            axes.append(_int_axis(index, shape[i], i))
            dropped.add(i)
        else:
            axes.append(_array_axis(item, shape[i], i))
    return _product(axes, dropped, tuple(flips))


def _array_axis(item: Any, length: int, axis: int) -> Axis:
    array = _as_array(item)
    if array.dtype == bool:
        _check_mask(array, length, axis)
        return Axis.of_mask(array)
    indices = _index_array(item, length, axis)
    if indices.ndim != 1:
        raise SelectionError(
            f"axis {axis}: orthogonal selection takes one-dimensional arrays, not {indices.ndim}-dimensional ones"
        )
    return Axis.of_indices(indices)


def vectorised(selection: Any, shape: tuple[int, ...]) -> Product | Points:
    """``array.vindex[selection]``: arrays of integers, one an axis, broadcast against each other; or a mask of the
    array's shape.

    Raises:
        SelectionError: out of bounds, not one array an axis, or they don't broadcast.
    """
    items = selection if isinstance(selection, tuple) else (selection,)
    if len(items) == 1:
        mask = _as_array(items[0])
        if mask.dtype == bool:
            if mask.shape != shape:
                raise SelectionError(f"a mask of shape {mask.shape} does not fit an array of shape {shape}")
            return _masked(mask)
    if len(items) != len(shape) or any(isinstance(item, slice) or item is Ellipsis or item is None for item in items):
        raise SelectionError(
            f"vectorised selection takes one array of integers for each of the {len(shape)} axes, or a mask"
        )
    arrays = [_index_array(item, n, i) for i, (item, n) in enumerate(zip(items, shape, strict=True))]
    try:
        together = np.broadcast_arrays(*arrays)
    except ValueError as error:
        raise SelectionError(f"indices of shapes {[a.shape for a in arrays]} don't broadcast") from error
    if not together:
        return Points(np.empty((1, 0), np.int64), ())
    flat = [a.reshape(-1) for a in together]
    result_shape, n = together[0].shape, len(flat[0])
    if len(flat) == 1:
        return replace(_product([Axis.of_indices(flat[0])], set(), ()), shape=result_shape)
    first = first_of_runs(*flat) if n else np.empty(0, np.int64)
    if 2 * len(first) > n or not n:
        return Points(np.stack(flat, axis=1), result_shape)
    return Points(np.stack([axis[first] for axis in flat], axis=1), result_shape, np.diff(np.append(first, n)))


def blocks(
    selection: Any,
    shape: tuple[int, ...],
    chunk_shape: Sequence[int],
    bounds: Sequence[IntArray | None] | None = None,
) -> Product:
    """``array.blocks[selection]``: integers and slices (step 1) that count chunks.

    Args:
        bounds: along each axis, where chunks begin and the last one ends; None where all have the same length.
    Raises:
        SelectionError: out of bounds, a step, or anything else.
    """
    axes: list[Axis] = []
    for i, item in enumerate(_expand(selection, shape)):
        chunk, own = chunk_shape[i], bounds[i] if bounds else None
        n_blocks = (
            int(np.searchsorted(own[:-1], shape[i])) if own is not None else -(-shape[i] // chunk) if chunk else 0
        )
        if isinstance(item, slice):
            axis, _ = _slice_axis(item, n_blocks, i)
            if item.step not in (None, 1):
                raise SelectionError(f"axis {i}: slices of blocks must have step 1")
        elif (index := _as_int(item)) is not None:
            axis = _int_axis(index, n_blocks, i)
        else:
            raise SelectionError(f"axis {i}: blocks are selected by integers and slices, not {item!r:.60}")
        ends = axis.start, axis.start + axis.n
        start, stop = (n * chunk if own is None else int(own[n]) for n in ends)
        axes.append(Axis(start, 1, max(0, min(stop, shape[i]) - start)))
    return _product(axes, set(), ())


def element(selection: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Coordinates, where the selection is plain integers within the array."""
    if type(selection) is int:
        selection = (selection,)
    elif type(selection) is not tuple:
        return None
    if len(selection) != len(shape) or not shape:
        return None
    coords = []
    for index, length in zip(selection, shape, strict=True):
        if type(index) is not int:
            if not isinstance(index, np.integer):
                return None
            index = int(index)
        if not -length <= index < length:
            return None
        coords.append(index if index >= 0 else index + length)
    return tuple(coords)


def keeps_zero_dimensions(selection: Any) -> bool:
    """numpy gives a 0-d array, not a scalar, where the selection has an ellipsis."""
    return selection is Ellipsis or (isinstance(selection, tuple) and any(item is Ellipsis for item in selection))
