"""Leaf chunks that lie side by side in the result: put in place together, they cost one call of numpy instead of one
each. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np

from zarrdock.array.planning.axes import AxisPieces, IntArray
from zarrdock.array.planning.pieces import Leaves, ProductLeaves

__all__ = ["Block", "blocks"]

Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Leaves of a box in the grid of leaves. Of all of them the same part is wanted.

    Attributes:
        some: which of the leaves asked for they are among, in C order of a box of ``extents``; picks: of that box,
            which ones.
        inner: index into each leaf. outer: index into the result of them all.
    """

    some: slice
    extents: tuple[int, ...]
    picks: tuple[slice, ...]
    inner: tuple[slice, ...]
    outer: tuple[slice, ...]


def blocks(leaves: Leaves, numbers: IntArray) -> list[Block] | None:
    """Leaves ``numbers`` (ascending) as blocks; None where that would not be far fewer than leaves."""
    n = len(numbers)
    if n < 16 or not isinstance(leaves, ProductLeaves) or not leaves.is_sliced or not leaves.axes:
        return None
    most = n // 4
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    if len(breaks) >= most:
        return None
    firsts, stops = [0, *breaks.tolist()], [*breaks.tolist(), n]
    found: list[Block] = []
    for first, stop in zip(firsts, stops, strict=True):
        at = first
        for box in _boxes(int(numbers[first]), int(numbers[stop - 1]) + 1, leaves.extents):
            extents = tuple(b - a for a, b in box)
            some = slice(at, at := at + int(np.prod(extents)))
            each = zip(leaves.axes, leaves.ranges, box, strict=True)
            for parts in product(*(_alike(axis, low + a, low + b) for axis, (low, _), (a, b) in each)):
                picks, inner, outer = zip(*parts, strict=True)
                found.append(Block(some, extents, picks, inner, outer))
                if len(found) > most:
                    return None
    return found


def _boxes(first: int, stop: int, extents: tuple[int, ...]) -> Iterator[tuple[Range, ...]]:
    """Numbers ``first`` to ``stop`` of a grid as boxes, in C order."""
    if len(extents) == 1:
        yield ((first, stop),)
        return
    inner = int(np.prod(extents[1:]))
    low, begin = divmod(first, inner)
    high, end = divmod(stop, inner)
    if begin:
        for box in _boxes(begin, inner if high > low else end, extents[1:]):
            yield ((low, low + 1), *box)
        if high == low:
            return
        low += 1
    if high > low:
        yield ((low, high), *((0, n) for n in extents[1:]))
    if end:
        for box in _boxes(0, end, extents[1:]):
            yield ((high, high + 1), *box)


def _alike(axis: AxisPieces, low: int, high: int) -> list[tuple[slice, slice, slice]]:
    """Pieces ``low`` to ``high`` of an axis: runs of chunks that are wanted whole, others one by one."""
    whole = axis.whole[low:high]
    if whole.all():
        runs = [(low, high)]
    else:
        cuts = np.flatnonzero(~whole).tolist()
        edges = sorted({0, high - low, *cuts, *(i + 1 for i in cuts)})
        runs = [(low + a, low + b) for a, b in pairwise(edges)]
    return [(slice(a - low, b - low), _slice(axis.inner[a]), _span(axis, a, b)) for a, b in runs]


def _slice(selector: Any) -> slice:
    assert isinstance(selector, slice)  # leaves.is_sliced
    return selector


def _span(axis: AxisPieces, first: int, stop: int) -> slice:
    return slice(_slice(axis.outer[first]).start, _slice(axis.outer[stop - 1]).stop)
