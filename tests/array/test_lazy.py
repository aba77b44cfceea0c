"""Lazy selections against numpy, and reads of several of them as one."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import zarrdock
from support.operations import count, place
from support.stores import remote
from zarrdock.errors import ReadOnlyError, SelectionError


def _orthogonal(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An item an axis."""
    items: list[Any] = []
    for n in shape:
        choices: list[st.SearchStrategy[Any]] = [st.slices(n), st.lists(st.booleans(), min_size=n, max_size=n)]
        if n:
            choices += [st.integers(-n, n - 1), st.lists(st.integers(-n, n - 1), max_size=5)]
        items.append(draw(st.one_of(choices)))
    return tuple(items)


def _by_numpy(value: np.ndarray, items: tuple[Any, ...]) -> np.ndarray:
    """The product of the axes."""
    for axis in reversed(range(value.ndim)):
        item = items[axis]
        if isinstance(item, list):
            item = np.asarray(item, bool if item and isinstance(item[0], bool) else int)
        value = value[(slice(None),) * axis + (item,)]
    return value


@st.composite
def steps(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[str, Any]], np.ndarray]:
    """Numbers, some selections of one another, and numpy's result."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7))
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    found, taken = numbers, []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["basic", "oindex", "vindex", "mask", "one array"]))
        if kind == "oindex":
            selection: Any = _orthogonal(draw, found.shape)
            found = _by_numpy(found, selection)
        elif kind == "mask":
            selection = draw(hnp.arrays(bool, found.shape))
            found, kind = found[selection], "vindex"
        elif kind == "vindex" and found.ndim and found.size:
            points = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=4))
            selection = tuple(draw(hnp.arrays(int, points, elements=st.integers(-n, n - 1))) for n in found.shape)
            found = np.asarray(found[selection])
        elif kind == "one array" and found.ndim:
            axis = draw(st.integers(0, found.ndim - 1))
            n = found.shape[axis]
            some = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)) if n else (2, 0, 3)
            indices = draw(hnp.arrays(int, some, elements=st.integers(-n, n - 1) if n else None))
            rest = [draw(st.one_of(st.slices(m), st.integers(-m, m - 1)) if m else st.slices(m)) for m in found.shape]
            rest[axis] = indices
            selection, kind = tuple(rest), "basic"
            found = np.asarray(found[selection])
        else:
            selection, kind = draw(hnp.basic_indices(found.shape, allow_newaxis=False)), "basic"
            found = np.asarray(found[selection])
        taken.append((kind, selection))
    return numbers, taken, found


def _lazily(array: zarrdock.Array, taken: list[tuple[str, Any]]) -> zarrdock.LazySelection:
    lazy = array.lazy[...]
    for kind, selection in taken:
        index = lazy.lazy if kind == "basic" else getattr(lazy.lazy, kind)
        lazy = index[selection]
    return lazy


@given(steps())
def test_selections_of_selections(drawn: tuple[np.ndarray, list[tuple[str, Any]], np.ndarray]) -> None:
    numbers, taken, expected = drawn
    shape = tuple(max(1, min(2, n)) for n in numbers.shape)
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    shards = tuple(2 * n for n in shape) or None
    array = zarrdock.create_array(store, data=numbers, chunks=shape, shards=shards)
    store.reset()
    lazy = _lazily(array, taken)
    assert not store.n_requests
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.dtype) == (
        expected.shape,
        expected.ndim,
        expected.size,
        expected.dtype,
    )
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    out = np.empty(expected.shape, "float64")
    assert lazy.read(out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(asyncio.run(lazy.read_async()), expected)
    assert lazy.plan().n_rounds <= 2
    lazy.write(np.full(expected.shape, -1))
    model = numbers.reshape(-1).copy()
    model[expected.reshape(-1)] = -1  # the numbers are their own places
    np.testing.assert_array_equal(array[...].reshape(-1), model)


def test_one_element_selected_several_times() -> None:
    array = zarrdock.create_array({}, data=np.array(5))
    twice = array.lazy[()].lazy.vindex[np.array(True)].lazy.vindex[np.array([0, 0])]
    assert twice.read().tolist() == [5, 5]
    twice.write([-1, -1])
    assert array[()] == -1
    twice.lazy[:0].write(3)
    assert array[()] == -1


def test_the_last_step_reads_as_an_array_does() -> None:
    numbers = np.arange(60).reshape(6, 10)
    array = zarrdock.create_array({}, data=numbers, chunks=(2, 5))
    part = array.lazy[1:, ::-1]
    part[0, :2] = [-9, -8]
    numbers[1, -1], numbers[1, -2] = -9, -8
    expected = numbers[1:, ::-1]
    np.testing.assert_array_equal(part[2], expected[2])
    assert part[2, 3] == expected[2, 3]
    assert isinstance(part[2, 3], np.generic)
    np.testing.assert_array_equal(part.oindex[[3, 0], [1, 2]], expected[np.ix_([3, 0], [1, 2])])
    np.testing.assert_array_equal(part.vindex[[3, 0], [1, 2]], expected[[3, 0], [1, 2]])
    part.vindex[[3, 0], [1, 2]] = 0
    assert part[3, 1] == part[0, 2] == 0
    assert len(part) == 5
    assert "LazySelection (5, 10)" in repr(part)
    asyncio.run(part.lazy[0].write_async(5))
    assert set(part[0].tolist()) == {5}
    with pytest.raises(SelectionError, match="too many indices"):
        part.lazy[0].lazy[0, 0]
    with pytest.raises(SelectionError, match=r"out: .* shape \(5, 10\)"):
        part.read(out=np.empty((10, 5), int))
    with pytest.raises(SelectionError):
        part.write(np.zeros((3, 3), int))
    with pytest.raises(ReadOnlyError):
        zarrdock.open_array(array.store).lazy[0].write(1)


def test_an_array_that_was_made_smaller_or_replaced() -> None:
    array = zarrdock.create_array({}, data=np.arange(12), chunks=2)
    part = array.lazy[4:10].lazy[::-1]
    array.append([12, 13])
    assert part.read().tolist() == [9, 8, 7, 6, 5, 4]
    array.resize(8)
    for act in (
        part.read,
        lambda: part.write(1),
        part.plan,
        lambda: part[0],
        lambda: zarrdock.read_many([array, part]),
    ):
        with pytest.raises(SelectionError, match=r"had the shape \(12,\) .* now it has \(8,\)"):
            act()
    assert array[...].tolist() == list(range(8))
    zarrdock.create_array(array.store, data=np.eye(3), overwrite=True)
    array.refresh()
    with pytest.raises(SelectionError, match=r"now it has \(3, 3\)"):
        part.read()


@pytest.mark.parametrize("selection", [None, (None, 0), True, (0, True), np.array(True)])
def test_meanings_that_are_refused(selection: Any) -> None:
    array = zarrdock.create_array({}, data=np.eye(3))
    for index in (array, array.lazy, array.lazy[...], array.lazy[1:].lazy):
        with pytest.raises(SelectionError):
            index[selection]  # type: ignore[index]


VALUES = {
    "text": np.array([["a", "", "long " * 9], ["b", "c", ""]], np.dtypes.StringDType()),
    "structures": np.array([[(1, 2.5), (3, 4.5), (5, 6)]] * 2, [("a", "int16"), ("b", "float32")]),
    "times": np.array([["NaT", "2001-01-01", "1960-05-05"]] * 2, "M8[s]"),
    "bytes": np.array([[b"a", b"", b"xyz"]] * 2, "S3"),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
}


@pytest.mark.parametrize("name", VALUES)
def test_other_types(name: str) -> None:
    values = VALUES[name]
    array = zarrdock.create_array({}, data=values, chunks=(1, 2), zarr_format=2 if name == "big-endian" else 3)
    mask = np.array([[True, False, True], [False, True, False]])
    for selection in (np.s_[::-1, ::2], np.s_[1], np.s_[:, [2, 0]], mask, np.s_[0, 0], np.s_[1:1]):
        part = array.lazy[selection]
        np.testing.assert_array_equal(part.read(), values[selection])
        np.testing.assert_array_equal(zarrdock.read_many([array, part])[1], values[selection])
    changed = values.copy()
    array.lazy[:, ::-1].lazy[0].write(values[1])
    changed[0, ::-1] = values[1]
    np.testing.assert_array_equal(array[...], changed)


def test_an_array_far_too_large_to_list() -> None:
    array = zarrdock.create_array({}, shape=(10**15, 10**3), dtype="int8", chunks=(1000, 1000))
    array[10**14 + 7, 5] = 3
    part = array.lazy[10**14 :].lazy[::7].lazy[1:4, ::-1].lazy.oindex[:, [994, 0]]
    assert part.read().tolist() == [[3, 0], [0, 0], [0, 0]]


# -- several as one ---------------------------------------------------------------------------------------------------


def test_twelve_boxes_of_four_arrays_on_s3() -> None:
    """Boxes of one array share shards, and two of them chunks."""
    items = dict[str, bytes]()
    memory = zarrdock.MemoryStore()
    numbers = np.random.default_rng(0).integers(0, 1000, (128, 64))
    group = zarrdock.create_group(memory)
    for name in "abcd":
        group.create_array(name, data=numbers + ord(name), chunks=(8, 8), shards=(64, 64))
    for entry in memory.list():
        blob = memory.get(entry.key)
        assert blob is not None
        items[entry.key] = bytes(blob.data)
    boxes = np.s_[3:30, 0:40], np.s_[20:50, 10:60], np.s_[90:100, 60:64]
    with place("S3", items) as where:
        store = where.store()
        arrays = [zarrdock.open_array(store, path=name, zarr_format=3) for name in "abcd"]
        selections = [array.lazy[box] for array in arrays for box in boxes]
        for rounds in (2, 1):  # cold, hot
            assert count(where.proxy, lambda: zarrdock.read_many(selections)).rounds == rounds
            for i, one in enumerate(zarrdock.read_many(selections)):
                np.testing.assert_array_equal(one, (numbers + ord("abcd"[i // 3]))[boxes[i % 3]])


def test_what_several_ask_for_is_asked_for_once() -> None:
    store = zarrdock.RecordingStore(remote(zarrdock.MemoryStore()))
    numbers = np.arange(64 * 64).reshape(64, 64)
    zarrdock.create_array(store, data=numbers, chunks=(8, 8), shards=(64, 64), compressors=None)
    array = zarrdock.open_array(store)
    alone = zarrdock.open_array(store)
    store.reset()
    selections = [array.lazy[0:16], array.lazy[8:24], array.lazy[0, 0], array.lazy[8:24, ::-1]]
    found = zarrdock.read_many(selections)
    together = store.nbytes
    store.reset()
    np.testing.assert_array_equal(alone[0:24], numbers[0:24])
    once = store.nbytes
    assert together == once
    for one, other in zip(found, [numbers[0:16], numbers[8:24], numbers[0, 0], numbers[8:24, ::-1]], strict=True):
        np.testing.assert_array_equal(one, other)


def test_several_stores_results_in_order_and_out() -> None:
    numbers = np.arange(40).reshape(4, 10)
    arrays = [
        zarrdock.create_array(store, data=numbers + i, chunks=(2, 5))
        for i, store in enumerate([{}, remote(zarrdock.MemoryStore()), remote(zarrdock.MemoryStore()), {}])
    ]
    selections = [arrays[3].lazy[0], arrays[1], arrays[0].lazy[:, ::-1], arrays[2].lazy[1, 1], arrays[1].lazy[[3, 1]]]
    expected = [numbers[0] + 3, numbers + 1, numbers[:, ::-1], numbers[1, 1] + 2, numbers[[3, 1]] + 1]
    for one, other in zip(zarrdock.read_many(selections), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(asyncio.run(zarrdock.read_many_async(selections)), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    out = [np.empty(other.shape) if i % 2 else None for i, other in enumerate(expected)]
    for one, target, other in zip(zarrdock.read_many(selections, out=out), out, expected, strict=True):
        assert target is None or one is target
        np.testing.assert_array_equal(one, other)
    assert zarrdock.read_many([]) == []
    with pytest.raises(SelectionError, match="item 1"):
        zarrdock.read_many([arrays[0], numbers])
    with pytest.raises(SelectionError, match="1 arrays for 2"):
        zarrdock.read_many(arrays[:2], out=[None])


def test_an_error_of_one_is_the_error_of_all() -> None:
    from zarrdock.errors import CodecError

    good = zarrdock.create_array(remote(zarrdock.MemoryStore()), data=np.arange(10))
    bad = zarrdock.create_array(remote(zarrdock.MemoryStore()), data=np.arange(10))
    bad.store.write("c/0", b"damaged")
    for selections in ([good, bad], [bad, good]):
        with pytest.raises(CodecError, match="c/0"):
            zarrdock.read_many(selections)
        with pytest.raises(CodecError, match="c/0"):
            asyncio.run(zarrdock.read_many_async(selections))
