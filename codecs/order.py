"""Orders in which the chunks of a shard are written. Pure.

The order decides how many requests a neighbourhood costs, and nothing else: every reader goes by the index. It is
therefore a setting of the writer,
never part of the metadata.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.errors import UnsupportedError

__all__ = ["ORDERS", "Order", "OrderName", "permutation"]

IntArray: TypeAlias = npt.NDArray[np.int64]
OrderName: TypeAlias = Literal["lexicographic", "colexicographic", "morton", "hilbert", "unordered"]
Order: TypeAlias = "OrderName | Callable[[tuple[int, ...]], npt.ArrayLike] | tuple[int, ...]"

ORDERS: tuple[OrderName, ...] = ("lexicographic", "colexicographic", "morton", "hilbert", "unordered")


def permutation(order: Order, grid: tuple[int, ...]) -> IntArray:
    """The flat (C-order) numbers of the cells of ``grid``, in the order they are written.

    Args:
        order: a name, a permutation of ``range(prod(grid))``, or a callable that makes one of the grid's shape.
            "unordered" (as chunks come) has no
            sequence of its own: here it is lexicographic, and the writer leaves chunks that a shard already holds
                where they are.
        grid: chunks in a shard along each axis.
    Returns:
        Shape (prod(grid),), int64.
    Raises:
        UnsupportedError: an unknown name, or not a permutation.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise UnsupportedError(
                f"unknown order of chunks {order!r}: one of {', '.join(ORDERS)}, a permutation, or a callable"
            )
        return _named(order, grid)
    n = prod(grid)
    given = np.asarray(order(grid) if callable(order) else order)
    if given.shape != (n,) or given.dtype.kind not in "iu" or not np.array_equal(np.sort(given), np.arange(n)):
        raise UnsupportedError(
            f"not an order of the chunks of a shard: a permutation of range({n}) is needed, for {grid} chunks"
        )
    return given.astype(np.int64)


@functools.lru_cache(maxsize=64)
def _named(order: OrderName, grid: tuple[int, ...]) -> IntArray:
    n = prod(grid)
    flat = np.arange(n, dtype=np.int64)
    if order == "colexicographic":
        flat = flat.reshape(grid).transpose().reshape(-1).copy()
    elif order == "morton":
        flat = np.argsort(_morton_codes(grid), kind="stable")
    elif order == "hilbert":
        flat = np.argsort(_hilbert_codes(grid), kind="stable")
    flat.flags.writeable = False
    return flat


def _cells(grid: tuple[int, ...]) -> IntArray:
    """Coordinates of all cells, shape (ndim, n)."""
    return np.indices(grid, dtype=np.int64).reshape(len(grid), prod(grid))


def _morton_codes(grid: tuple[int, ...]) -> IntArray:
    """Z-order numbers, the first axis lowest; an axis that runs out of bits drops out of the interleaving, so
    elongated grids stay compact.
    """
    cells = _cells(grid)
    codes = np.zeros(prod(grid), np.int64)
    bits = [max(n - 1, 0).bit_length() for n in grid]
    position = 0
    for bit in range(max(bits, default=0)):
        for axis, n_bits in enumerate(bits):
            if bit < n_bits:
                codes |= ((cells[axis] >> bit) & 1) << position
                position += 1
    return codes


def _hilbert_codes(grid: tuple[int, ...]) -> IntArray:
    """Hilbert numbers within the smallest cube of a power of two that holds the grid; cells outside the grid are
    skipped.

    Source: J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004), here over all cells at once.
    """
    axes = [axis for axis, n in enumerate(grid) if n > 1]  # an axis of length one would only stretch the curve
    n = len(axes)
    x = _cells(grid)[axes]
    n_bits = max((grid[axis] - 1).bit_length() for axis in axes) if axes else 0
    if n < 2:
        return np.arange(prod(grid), dtype=np.int64)  # a line is its own curve
    if n * n_bits > 63:
        raise UnsupportedError(f"a Hilbert order of {grid} chunks needs more than 63 bits")
    q = 1 << (n_bits - 1)
    while q > 1:
        p = q - 1
        for i in range(n):
            high = (x[i] & q) != 0
            swap = np.where(high, 0, (x[0] ^ x[i]) & p)
            x[0] = np.where(high, x[0] ^ p, x[0] ^ swap)
            if i:
                x[i] ^= swap
        q >>= 1
    for i in range(1, n):
        x[i] ^= x[i - 1]
    t = np.zeros_like(x[0])
    q = 1 << (n_bits - 1)
    while q > 1:
        t = np.where((x[n - 1] & q) != 0, t ^ (q - 1), t)
        q >>= 1
    x ^= t
    codes = np.zeros(prod(grid), np.int64)
    for bit in range(n_bits - 1, -1, -1):
        for i in range(n):
            codes = (codes << 1) | ((x[i] >> bit) & 1)
    return codes
