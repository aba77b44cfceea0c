"""Copies row by row: the same as numpy's, whatever the strides."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from zarrdock.array.execution.decode import copy_rows, has_rows

DTYPES = ["u1", "<u2", ">u2", "f4", "c16", "S3", "U2", "M8[s]", "V5", "?", [("a", "u1"), ("b", "<f8")]]


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    step=st.sampled_from([1, 2, -1]),
    fortran=st.booleans(),
    swapped=st.booleans(),
)
def test_as_numpy_does(dtype: object, shape: list[int], step: int, fortran: bool, swapped: bool) -> None:
    kind = np.dtype(dtype)
    n = int(np.prod(shape))
    raw = np.random.default_rng(n).integers(0, 2 if kind.kind == "b" else 100, n * kind.itemsize, "u1")
    values = np.frombuffer(raw.tobytes(), kind).reshape(shape)
    if swapped and kind.names is None:
        values = values.astype(kind.newbyteorder())
    if fortran:
        values = np.asfortranarray(values)
    larger = np.zeros([length + 2 for length in shape], kind)
    expected = larger.copy()
    place = tuple(slice(1, length + 1) for length in shape)
    copy_rows(larger[place][..., ::step], values[..., ::step])
    expected[place][..., ::step] = values[..., ::step]
    assert larger.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 3)), True),
        (np.zeros((2, 3))[:, ::2], False),
        (np.zeros((2, 3), order="F"), False),
        (np.zeros(()), False),
        (np.zeros(3, object), False),
    ],
)
def test_which_arrays_have_rows(array: np.ndarray, expected: bool) -> None:
    assert has_rows(array) is expected
