"""Orders of the chunks in a shard: permutations, with the properties their names promise."""

from __future__ import annotations

from itertools import product
from math import prod

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from zarrdock.codecs.chunk_order import ORDERS, for_level, frozen, permutation
from zarrdock.errors import UnsupportedError

GRIDS = st.lists(st.integers(1, 9), max_size=4).map(tuple).filter(lambda grid: prod(grid) <= 1500)


@given(GRIDS, st.sampled_from(ORDERS))
def test_every_order_is_a_permutation(grid: tuple[int, ...], name: str) -> None:
    order = permutation(name, grid)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(prod(grid)))


@given(GRIDS)
def test_rows_and_columns(grid: tuple[int, ...]) -> None:
    cells = list(product(*map(range, grid)))
    assert [cells[i] for i in permutation("lexicographic", grid)] == cells
    assert [cells[i] for i in permutation("unordered", grid)] == cells
    assert [cells[i] for i in permutation("colexicographic", grid)] == sorted(cells, key=lambda cell: cell[::-1])


def morton(cell: tuple[int, ...], grid: tuple[int, ...]) -> int:
    """One cell at a time, bit by bit: the definition."""
    code = position = 0
    for bit in range(16):
        for c, n in zip(cell, grid, strict=True):
            if n > 1 << bit:
                code |= (c >> bit & 1) << position
                position += 1
    return code


@given(GRIDS)
def test_morton_interleaves_bits(grid: tuple[int, ...]) -> None:
    cells = list(product(*map(range, grid)))
    codes = [morton(cells[i], grid) for i in permutation("morton", grid)]
    assert codes == sorted(codes)
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("n_bits", [1, 2, 3])
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_hilbert_goes_from_neighbour_to_neighbour(n_bits: int, ndim: int) -> None:
    grid = (2**n_bits,) * ndim
    cells = np.stack(np.unravel_index(permutation("hilbert", grid), grid), axis=1)
    assert (np.abs(np.diff(cells, axis=0)).sum(axis=1) == 1).all()
    assert cells[0].tolist() == [0] * ndim


@pytest.mark.parametrize("grid", [(3, 5), (7, 2, 6), (1, 6, 6), (5,), (4, 1, 1)])
def test_hilbert_of_any_grid_is_the_cubes_curve_without_the_cells_outside(grid: tuple[int, ...]) -> None:
    axes = [n for n in grid if n > 1]
    side = 1 << (max(axes) - 1).bit_length()
    cube = (side,) * len(axes)
    curve = np.stack(np.unravel_index(permutation("hilbert", cube), cube), axis=1).tolist()
    inside = [cell for cell in curve if all(c < n for c, n in zip(cell, axes, strict=True))]
    found = np.stack(np.unravel_index(permutation("hilbert", grid), grid), axis=1)
    assert found[:, [i for i, n in enumerate(grid) if n > 1]].tolist() == inside


def test_given_orders() -> None:
    assert permutation((2, 0, 1, 3), (2, 2)).tolist() == [2, 0, 1, 3]
    assert permutation(lambda grid: np.arange(prod(grid))[::-1], (2, 3)).tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "wrong", [(0, 1, 2), (0, 0, 1, 2), (1, 2, 3, 4), (0.0, 1.0, 2.0, 3.0), lambda grid: [[0, 1], [2, 3]]]
)
def test_what_is_no_permutation_is_refused(wrong: object) -> None:
    with pytest.raises(UnsupportedError, match=r"range\(4\)"):
        permutation(wrong, (2, 2))  # type: ignore[arg-type]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"'zigzag'.*morton"):
        permutation("zigzag", (2, 2))  # type: ignore[arg-type]


def hilbert(cell: tuple[int, ...], n_bits: int) -> int:
    """One cell's number, by Skilling's transposition as it was published, in integers of any length."""
    x, n = list(cell), len(cell)
    q = 1 << (n_bits - 1)
    while q > 1:
        for i in range(n):
            if x[i] & q:
                x[0] ^= q - 1
            else:
                t = (x[0] ^ x[i]) & (q - 1)
                x[0] ^= t
                x[i] ^= t
        q >>= 1
    for i in range(1, n):
        x[i] ^= x[i - 1]
    t, q = 0, 1 << (n_bits - 1)
    while q > 1:
        t ^= (q - 1) if x[n - 1] & q else 0
        q >>= 1
    return int("".join(str((axis ^ t) >> bit & 1) for bit in range(n_bits - 1, -1, -1) for axis in x), 2)


@pytest.mark.parametrize("grid", [(2, 2, 2, 2**16), (3, 2, 2, 2, 2, 5000), (13, 7, 5)])
def test_hilbert_numbers_may_be_longer_than_a_word(grid: tuple[int, ...]) -> None:
    order = permutation("hilbert", grid)
    assert np.array_equal(np.sort(order), np.arange(prod(grid)))
    n_bits = (max(grid) - 1).bit_length()
    cells = np.stack(np.unravel_index(order[::7], grid), axis=1)[:: max(1, len(order) // 5000)]
    codes = [hilbert(tuple(cell), n_bits) for cell in cells.tolist()]
    assert len(codes) > 50
    assert codes == sorted(set(codes))


def test_orders_of_many_dimensions() -> None:
    for name in ORDERS:
        order = permutation(name, (2,) * 16)
        assert np.array_equal(np.sort(order), np.arange(2**16))
    cells = np.stack(np.unravel_index(permutation("hilbert", (2,) * 16), (2,) * 16), axis=1)
    assert (np.abs(np.diff(cells, axis=0)).sum(axis=1) == 1).all()


def test_orders_a_level() -> None:
    levels = frozen(["hilbert", [1, 0], np.array([0, 2, 1])])
    assert levels == ("hilbert", (1, 0), (0, 2, 1))
    assert [for_level(levels, depth) for depth in range(4)] == ["hilbert", (1, 0), (0, 2, 1), (0, 2, 1)]
    assert for_level(frozen([1, 0]), 1) == (1, 0)
    assert for_level("morton", 3) == "morton"
    hash(levels)
    with pytest.raises(UnsupportedError, match="no order of chunks"):
        frozen(7)
