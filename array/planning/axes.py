"""What is selected, once all sugar is gone; nothing here knows what a user wrote.

- :class:`Product`: along each axis its own list of positions; pieces of chunks are the product of the axes' pieces
(slices, ``oindex``, blocks);
- :class:`Points`: a list of points (``vindex``, masks), grouped by chunk.

Vectorised: numpy works on axes, never element by element or chunk by chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Axis",
    "AxisPieces",
    "IntArray",
    "Points",
    "Product",
    "Selector",
    "group_owners",
    "group_points",
]

IntArray: TypeAlias = npt.NDArray[np.int64]
Selector: TypeAlias = "slice | IntArray"


# Chunks along an axis up to which plain Python is faster.
_FEW = 24


@dataclass(frozen=True, slots=True)
class AxisPieces:
    """What a selection along one axis takes of each chunk it touches.

    Attributes:
        chunks: shape (m,), numbers of the chunks touched, ascending.
        inner: m selectors within the chunk. outer: m selectors within the result's axis.
        whole: shape (m,), True where the piece is all of the chunk. A chunk that reaches beyond the array is never
            whole: another writer may have made the array longer meanwhile, and what it wrote there must survive.
        n: length of the result's axis.
        is_slice: all selectors are slices.
    """

    chunks: IntArray
    inner: list[Selector]
    outer: list[Selector]
    whole: npt.NDArray[np.bool_]
    n: int
    is_slice: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """A selection along one axis: ``n`` positions, ``start + step * i`` (step >= 1), or those in ``indices``."""

    start: int
    step: int
    n: int
    indices: IntArray | None = None

    def pieces(self, chunk: int) -> AxisPieces:
        """Cut along chunks of that length."""
        if self.n == 0:
            return AxisPieces(np.empty(0, np.int64), [], [], np.empty(0, bool), 0)
        return self._of_indices(self.indices, chunk) if self.indices is not None else self._of_range(chunk)

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

    @staticmethod
    def _of_indices(indices: IntArray, chunk: int) -> AxisPieces:
        n = len(indices)
        owner = indices // chunk
        in_order = n == 1 or bool((owner[1:] >= owner[:-1]).all())
        order = None if in_order else np.argsort(owner, kind="stable")
        sorted_owner = owner if order is None else owner[order]
        first = np.flatnonzero(np.append(True, sorted_owner[1:] != sorted_owner[:-1]))
        last = np.append(first[1:], n)
        chunks = sorted_owner[first]
        local = (indices if order is None else indices[order]) - sorted_owner * chunk
        inner: list[Selector] = []
        outer: list[Selector] = []
        whole = np.zeros(len(chunks), bool)
        for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            inner.append(local[a:b])
            outer.append(slice(a, b) if order is None else order[a:b])
            whole[i] = b - a >= chunk and len(np.unique(local[a:b])) == chunk
        return AxisPieces(chunks, inner, outer, whole, n, is_slice=False)


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
    """

    coords: IntArray
    shape: tuple[int, ...]


def group_points(points: Points, chunk_shape: tuple[int, ...]) -> tuple[IntArray, IntArray, IntArray]:
    """Points by the chunk they lie in, see :func:`group_owners`."""
    return group_owners(points.coords // np.asarray(chunk_shape, np.int64))


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
