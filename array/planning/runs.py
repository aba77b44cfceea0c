"""Positions as runs of consecutive ones: a mask of long runs, or a sorted list of rows, costs by its runs, not by its
elements. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Index", "IntArray", "Runs", "cut", "first_of_runs", "mask_runs", "positions", "put", "take"]

IntArray: TypeAlias = npt.NDArray[np.int64]

# Elements a run from which on a slice each is cheaper than a position each.
_LONG = 32


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """An index of several runs along the last axis; the elements of all of them, one after another, are one axis.

    Attributes:
        starts: shape (n_runs, ndim), where each begins. lengths: shape (n_runs,), how many elements it has.
    """

    starts: IntArray
    lengths: IntArray

    def slices(self) -> list[tuple[Any, ...]]:
        """Indices of the runs: one per run."""
        *before, first = self.starts.T.tolist()
        stops = (self.starts[:, -1] + self.lengths).tolist()
        return [*zip(*before, map(slice, first, stops), strict=True)]

    def arrays(self) -> tuple[IntArray, ...]:
        """The coordinates of every element, one array an axis."""
        *before, first = self.starts.T
        return (*(np.repeat(axis, self.lengths) for axis in before), positions(first, self.lengths))

    def bounds(self) -> list[tuple[int, int]]:
        """The smallest box that holds them: start and stop along each axis."""
        low, high = self.starts.min(axis=0), self.starts.max(axis=0) + 1
        high[-1] = (self.starts[:, -1] + self.lengths).max()
        return [*zip(low.tolist(), high.tolist(), strict=True)]

    @property
    def n(self) -> int:
        """Elements of all runs."""
        return int(self.lengths.sum())

    @property
    def are_long(self) -> bool:
        """True where run by run is the cheaper way."""
        return self.n >= _LONG * len(self.lengths)


# Either indexes an array: as numpy does, or by runs.
Index: TypeAlias = "tuple[Any, ...] | Runs"


def take(array: npt.NDArray[Any], index: Index) -> npt.NDArray[Any]:
    """``array[index]``."""
    if not isinstance(index, Runs):
        return array[index]
    return np.concatenate([array[each] for each in index.slices()]) if index.are_long else array[index.arrays()]


def put(array: npt.NDArray[Any], index: Index, values: Any) -> None:
    """``array[index] = values``; of places that are repeated, the last value counts."""
    if not isinstance(index, Runs):
        array[index] = values
    elif not index.are_long:
        array[index.arrays()] = values
    else:
        several = isinstance(values, np.ndarray) and values.ndim == 1
        at = 0
        for each, n in zip(index.slices(), index.lengths.tolist(), strict=True):
            array[each] = values[at : at + n] if several else values
            at += n


def positions(starts: IntArray, lengths: IntArray) -> IntArray:
    """The positions of all runs along one axis, one after another."""
    ends = np.cumsum(lengths)
    found = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    found += np.repeat(starts - (ends - lengths), lengths)
    return found


def cut(
    starts: IntArray, lengths: IntArray, chunk: int, bounds: IntArray | None = None
) -> tuple[IntArray, IntArray, IntArray]:
    """Cut runs along one axis where chunks end.

    Args:
        chunk: length of a chunk. bounds: in its place, where chunks begin and the last one ends.
    Returns:
        Of each part, in order: the number of its run, where it begins, its length.
    """
    last = starts + lengths - 1
    if bounds is None:
        first_chunk, last_chunk = starts // chunk, last // chunk
    else:
        first_chunk, last_chunk = (np.searchsorted(bounds, at, "right") - 1 for at in (starts, last))
    n_parts = last_chunk - first_chunk + 1
    run = np.repeat(np.arange(len(starts)), n_parts)
    if len(run) == len(starts):
        return run, starts, lengths
    owner = positions(first_chunk, n_parts)
    low, high = (owner * chunk, (owner + 1) * chunk) if bounds is None else (bounds[owner], bounds[owner + 1])
    begin = np.maximum(starts[run], low)
    return run, begin, np.minimum((starts + lengths)[run], high) - begin


# Positions compared at once: few enough to stay in a cache.
_BLOCK = 2**15


def first_of_runs(*coords: IntArray) -> IntArray:
    """Starts of runs in a list of points: numbers of the points that are not one further along the last axis than the
    point before.

    Args:
        coords: one array an axis, shape (n,) with n > 0.
    """
    *others, last = coords
    found = [np.zeros(1, np.int64)]
    for start in range(0, len(last) - 1, _BLOCK):
        here, after = slice(start, start + _BLOCK), slice(start + 1, start + 1 + _BLOCK)
        n = len(last[after])
        follows = last[here][:n] + 1 == last[after]
        for axis in others:
            follows &= axis[here][:n] == axis[after]
        found.append(np.flatnonzero(~follows) + (start + 1))
    return np.concatenate(found)


def mask_runs(mask: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Starts and lengths of the runs of a mask of one axis."""
    if not len(mask):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    edges = np.concatenate([[0] if mask[0] else [], edges, [len(mask)] if mask[-1] else []]).astype(np.int64)
    return edges[::2], edges[1::2] - edges[::2]
