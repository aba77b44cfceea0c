"""Halves of arrays, against the definition of each method written out element by element."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import UnsupportedError
from zarrdock.pyramids.downsample import check_method, halve

RNG = np.random.default_rng(0)


def blocks(values: Any, halved: Sequence[bool]) -> Any:
    """Index in the result, and the elements that become one there, in C order."""
    steps = [2 if half else 1 for half in halved]
    for index in product(*(range(-(-n // step)) for n, step in zip(values.shape, steps, strict=True))):
        where = tuple(slice(i * step, i * step + step) for i, step in zip(index, steps, strict=True))
        yield index, values[where].ravel()


def by_definition(values: Any, halved: Sequence[bool], method: str) -> Any:
    shape = [-(-n // 2) if half else n for n, half in zip(values.shape, halved, strict=True)]
    out = np.empty(shape, values.dtype)
    for index, some in blocks(values, halved):
        out[index] = _ONE[method](some)
    return out


def _mean(some: Any) -> Any:
    if some.dtype.kind in "iu":
        return round_half_even(sum(map(int, some)), len(some))
    return np.mean(some.astype("c16" if some.dtype.kind == "c" else "f8"))


def round_half_even(total: int, n: int) -> int:
    whole, rest = divmod(total, n)
    return whole + (2 * rest > n or (2 * rest == n and whole % 2 == 1))


def _mode(some: Any) -> Any:
    is_nan = [bool(one != one) for one in some]
    keys = ["nan" if nan else one.item() for one, nan in zip(some, is_nan, strict=True)]
    most = max(Counter(keys).values())
    return next(one for one, key in zip(some, keys, strict=True) if keys.count(key) == most)


_ONE = {"mean": _mean, "max": np.max, "mode": _mode, "nearest": lambda some: some[0]}
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def numbers(dtype: str, shape: tuple[int, ...]) -> Any:
    """Of the whole range of the data type; some of them often."""
    kind = np.dtype(dtype).kind
    if kind in "iu":
        info = np.iinfo(dtype)
        values = RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
        values[RNG.random(shape) < 0.3] = info.max
        values[RNG.random(shape) < 0.3] = info.min
        return values
    if kind == "b":
        return RNG.random(shape) < 0.5
    if kind in "mM":
        return RNG.integers(0, 4, shape).astype(dtype)
    values = RNG.integers(-8, 8, shape) / 4
    return (values + 1j * values[::-1] if kind == "c" else values).astype(dtype)


@pytest.mark.parametrize("halved", [(True, True, True), (False, True, True), (True, False, False)])
@pytest.mark.parametrize("method", ["mean", "max", "mode", "nearest"])
@pytest.mark.parametrize("dtype", [*INTEGERS, "?", "f2", "f4", "f8", "c8", "c16", "M8[s]", "m8[ms]"])
def test_methods(dtype: str, method: Any, halved: tuple[bool, ...]) -> None:
    """Odd lengths included: the last element counts as often as its missing neighbour would."""
    values = numbers(dtype, (7, 6, 9))
    try:
        check_method(method, values.dtype)
    except UnsupportedError:
        assert (values.dtype.kind, method) in {("b", "mean"), ("M", "mean"), ("m", "mean"), ("c", "max")}
        return
    array = zarrdock.create_array(None, data=values, chunks=(2, 4, 3), dimension_names=("a", "b", "c"))
    axes = [{"name": name, "type": "space" if half else "other"} for name, half in zip("abc", halved, strict=True)]
    if sum(halved) < 2:  # OME-Zarr has no such image
        padded = np.pad(
            values, [(0, n % 2 if half else 0) for n, half in zip(values.shape, halved, strict=True)], "edge"
        )
        out = np.empty([-(-n // 2) if half else n for n, half in zip(values.shape, halved, strict=True)], dtype)
        halve(padded, [i for i, half in enumerate(halved) if half], method, out)
    else:
        out = zarrdock.pyramid(array, zarrdock.MemoryStore(), axes=axes, method=method, levels=2)["1"][...]
    assert out.dtype == values.dtype
    np.testing.assert_array_equal(out, by_definition(values, halved, method))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_means_of_integers_are_rounded_right(dtype: str) -> None:
    info = np.iinfo(dtype)
    for low in (info.min, -4, 0, info.max - 4):
        if low < info.min:
            continue
        sums = np.array([[low + (i >> bit & 1) for bit in range(4)] for i in range(16)], dtype)
        out = np.empty((16, 1, 1), dtype)
        halve(sums.reshape(16, 2, 2), (1, 2), "mean", out)
        assert out.ravel().tolist() == [round_half_even(sum(map(int, row)), 4) for row in sums]


def test_means_of_means_have_no_bias() -> None:
    values = RNG.integers(0, 256, (64, 64, 64), "u1")
    image = zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=6, method="mean", axes="zyx")
    assert abs(float(image["5"][...].mean()) - float(values.mean())) < 0.5


def test_nan() -> None:
    """A NaN is in the mean and the maximum of all that it is a part of; to the mode it is a value like any other."""
    nan = np.nan
    values = np.array([[1, nan, nan, nan], [1, 2, nan, 5.0]])
    for method, expected in (("mean", [nan, nan]), ("max", [nan, nan]), ("mode", [1, nan]), ("nearest", [1, nan])):
        image = zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=2, method=method)
        np.testing.assert_array_equal(image["1"][...], [expected])


def test_floats_near_the_end_of_their_range() -> None:
    for dtype in ("f2", "f4", "f8"):
        values = np.full((4, 4), np.finfo(dtype).max, dtype)
        image = zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=3)
        np.testing.assert_array_equal(image["2"][...], values[:1, :1])


def test_what_there_is_no_method_for() -> None:
    for values, method, message in (
        (np.zeros((4, 4), bool), "mean", "no mean of bool: use method='nearest' or 'mode' or 'max'"),
        (np.zeros((4, 4), "c8"), "max", "no max of complex64"),
        (np.zeros((4, 4), "S3"), "mode", "use method='nearest'"),
        (np.zeros((4, 4)), "median", "expected mean, nearest, mode, max"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=2, method=method)  # type: ignore[arg-type]
    for values, method in ((np.zeros((4, 4), bool), "mode"), (np.zeros((4, 4), "S3"), "nearest"), (np.eye(4), "mean")):
        image = zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=2)
        assert image.attrs["ome"]["multiscales"][0]["type"] == method
