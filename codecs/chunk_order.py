"""Orders in which the chunks of a shard are written. Pure.

The order decides how many requests a neighbourhood costs, and nothing else: every reader goes by the index. It is
therefore a setting of the writer, never part of the metadata.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.errors import UnsupportedError

__all__ = ["ORDERS", "Order", "OrderName", "for_level", "frozen", "permutation"]

IntArray: TypeAlias = npt.NDArray[np.int64]
OrderName: TypeAlias = Literal["lexicographic", "colexicographic", "morton", "hilbert", "unordered"]
Order: TypeAlias = "OrderName | Callable[[tuple[int, ...]], npt.ArrayLike] | Sequence[int] | Sequence[Order]"

ORDERS: tuple[OrderName, ...] = ("lexicographic", "colexicographic", "morton", "hilbert", "unordered")


def frozen(order: Any) -> Order:
    """An order as a hashable value: permutations as tuples of int, orders of several levels as tuples of them."""
    if isinstance(order, str) or callable(order):
        return order  # type: ignore[no-any-return]
    if isinstance(order, np.ndarray):
        order = order.tolist()
    if not isinstance(order, Sequence):
        raise UnsupportedError(f"{order!r} is no order of chunks: {_EXPECTED}")
    return tuple(frozen(item) if _is_order(item) else item for item in order)


def for_level(order: Order, depth: int) -> Order:
    """The order of one level of shards, 0 being the outermost. A sequence of orders has one a level, the last of them
    for all that are deeper; any other order is for every level.
    """
    if not isinstance(order, str) and isinstance(order, Sequence) and order and all(map(_is_order, order)):
        return order[min(depth, len(order) - 1)]  # type: ignore[return-value]
    return order


def _is_order(item: object) -> bool:
    return isinstance(item, (str, Sequence, np.ndarray)) or callable(item)


_EXPECTED = f"one of {', '.join(ORDERS)}, a permutation, a callable, or a sequence of these, one a level of shards"


def permutation(order: Order, grid: tuple[int, ...]) -> IntArray:
    """The flat (C-order) numbers of the cells of ``grid``, in the order they are written.

    Args:
        order: a name, a permutation of ``range(prod(grid))``, or a callable that makes one of the grid's shape.
            "unordered" (as chunks come) has no sequence of its own: here it is lexicographic, and the writer leaves
            chunks that a shard already holds where they are.
        grid: chunks in a shard along each axis.
    Returns:
        Shape (prod(grid),), int64. Not to be written to where the order has a name.
    Raises:
        UnsupportedError: an unknown name, or not a permutation.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise UnsupportedError(f"unknown order of chunks {order!r}: {_EXPECTED}")
        return _named(order, grid)
    n = prod(grid)
    given = np.asarray(order(grid) if callable(order) else order)
    if given.shape != (n,) or given.dtype.kind not in "iu" or not _is_permutation(given, n):
        raise UnsupportedError(
            f"not an order of the chunks of a shard: a permutation of range({n}) is needed, for {grid} chunks"
        )
    return given.astype(np.int64)


def _is_permutation(given: npt.NDArray[Any], n: int) -> bool:
    if n and (given.min() < 0 or given.max() >= n):
        return False
    seen = np.zeros(n, bool)
    seen[given] = True
    return bool(seen.all())


@functools.lru_cache(maxsize=64)
def _named(order: OrderName, grid: tuple[int, ...]) -> IntArray:
    flat = np.arange(prod(grid), dtype=np.int64)
    if order == "colexicographic":
        flat = flat.reshape(grid).transpose().reshape(-1).copy()
    elif order == "morton":
        flat = _sorted_by(_morton_bits(grid), len(flat))
    elif order == "hilbert":
        flat = _sorted_by(_hilbert_bits(grid), len(flat))
    flat.flags.writeable = False
    return flat


# Bits of one key, as it is sorted by: the lowest that numpy sorts by radix, and without a sign.
_MAX_BITS = 63


def _sorted_by(bits: list[npt.NDArray[Any]], n: int) -> IntArray:
    """Cells sorted by a code that is given bit by bit, highest first, each of shape (n,).

    A code may have any number of bits: it is cut into words. Where it has no more values than four a cell, each cell
    is put at its code's place, which needs no sorting.
    """
    if 2 ** len(bits) <= 4 * max(n, 1):
        (codes,) = _words(bits, n, np.dtype(np.uint32 if len(bits) < 32 else np.uint64)) or [np.zeros(n, np.int64)]
        places = np.full(2 ** len(bits), -1, np.int64)
        places[codes] = np.arange(n)
        return places if len(places) == n else places[places >= 0]
    words = _words(bits, n, np.dtype(np.uint64))
    return np.argsort(words[0], kind="stable") if len(words) == 1 else np.lexsort(words[::-1])


def _words(bits: list[npt.NDArray[Any]], n: int, dtype: np.dtype[Any]) -> list[npt.NDArray[Any]]:
    """Bits put together into words, most significant first."""
    words = []
    for first in range(0, len(bits), _MAX_BITS):
        word = np.zeros(n, dtype)
        for bit in bits[first : first + _MAX_BITS]:
            word <<= 1
            word |= bit
        words.append(word)
    return words


def _cells(grid: tuple[int, ...], axes: list[int]) -> list[npt.NDArray[Any]]:
    """Coordinates of all cells along some axes, each of shape (n,), in the smallest type that holds them."""
    longest = max((grid[axis] for axis in axes), default=1)
    dtype = np.min_scalar_type(max(longest - 1, 1))
    found = []
    for axis in axes:
        line = np.arange(grid[axis], dtype=dtype).reshape([-1 if i == axis else 1 for i in range(len(grid))])
        found.append(np.broadcast_to(line, grid).reshape(-1).copy())
    return found


def _morton_bits(grid: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    """Bits of Z-order numbers, the first axis lowest; an axis that runs out of bits drops out of the interleaving, so
    elongated grids stay compact.
    """
    axes = [axis for axis, n in enumerate(grid) if n > 1]
    cells = _cells(grid, axes)
    widths = [(grid[axis] - 1).bit_length() for axis in axes]
    lowest_first = [
        (cell >> bit) & 1
        for bit in range(max(widths, default=0))
        for cell, width in zip(cells, widths, strict=True)
        if bit < width
    ]
    return lowest_first[::-1]


def _hilbert_bits(grid: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    """Bits of Hilbert numbers within the smallest cube of a power of two that holds the grid; cells outside the grid
    are skipped.

    Source: J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004), here over all cells at once.
    """
    axes = [axis for axis, n in enumerate(grid) if n > 1]  # an axis of length one would only stretch the curve
    x = _cells(grid, axes)
    width = max(((grid[axis] - 1).bit_length() for axis in axes), default=0)
    if len(x) == 1:  # a line is its own curve
        return [(x[0] >> bit) & 1 for bit in range(width - 1, -1, -1)]
    for bit in range(width - 1, 0, -1):
        low = (1 << bit) - 1
        for i in range(len(x)):
            # Where the bit is set the first axis is turned around, elsewhere it changes places with this one: without
            # branches, by a mask that is all ones or zero.
            is_set = (x[i] >> bit) & 1
            np.negative(is_set, out=is_set)
            if i == 0:
                x[0] ^= is_set & low
                continue
            swap = (x[0] ^ x[i]) & low & ~is_set
            x[0] ^= swap
            x[0] ^= is_set & low
            x[i] ^= swap
    for i in range(1, len(x)):
        x[i] ^= x[i - 1]
    if x:
        turn = np.zeros_like(x[0])
        for bit in range(width - 1, 0, -1):
            is_set = (x[-1] >> bit) & 1
            np.negative(is_set, out=is_set)
            turn ^= is_set & ((1 << bit) - 1)
        for axis in x:
            axis ^= turn
    return [(axis >> bit) & 1 for bit in range(width - 1, -1, -1) for axis in x]
