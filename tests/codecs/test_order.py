"""Orders of the chunks in a shard: permutations, with the properties their names promise."""

from __future__ import annotations

from itertools import product
from math import prod

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from zarrdock.codecs.order import ORDERS, permutation
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


def test_a_curve_too_long_to_number_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="63 bits"):
        permutation("hilbert", (2, 2, 2, 2**16))
