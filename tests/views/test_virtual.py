"""Virtual arrays against numpy and TensorStore's views of that kind."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import zarrdock
from support.stores import remote
from zarrdock.errors import MetadataError, NodeNotFoundError, ReadOnlyError, SelectionError, UnsupportedError
from zarrdock.serve.server import Server
from zarrdock.stores.base import Store


@st.composite
def joined(draw: st.DrawFn) -> tuple[list[np.ndarray], int, bool]:
    """Numbers, an axis, and whether they are stacked along it."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    is_stack = draw(st.booleans())
    axis = draw(st.integers(0, len(shape) - 1 + is_stack))
    numbers, parts = 0, []
    for _ in range(draw(st.integers(1, 4))):
        own = shape if is_stack else (*shape[:axis], draw(st.integers(0, 5)), *shape[axis + 1 :])
        n = int(np.prod(own))
        parts.append(np.arange(numbers, numbers + n).reshape(own))
        numbers += n
    return parts, axis, is_stack


def _virtual(parts: list[np.ndarray], axis: int, is_stack: bool) -> zarrdock.VirtualArray:
    arrays = []
    for i, part in enumerate(parts):
        chunks = tuple(max(1, min(n, 2 + i % 2)) for n in part.shape)
        shards = None if i % 2 else tuple(2 * n for n in chunks)
        store: Any = remote(zarrdock.MemoryStore()) if i % 3 else {}
        arrays.append(zarrdock.create_array(store, data=part, chunks=chunks, shards=shards, zarr_format=3))
    return (zarrdock.stack if is_stack else zarrdock.concatenate)(arrays, axis=axis)


def _for_tensorstore(selection: Any, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """The same selection, where TensorStore has it: negative numbers are other places there."""
    items = np.index_exp[selection]
    if any(item is Ellipsis for item in items):
        return None
    found: list[Any] = []
    for item, n in zip(items, shape, strict=False):
        if isinstance(item, slice):
            start, stop, step = item.indices(n)
            if step < 0 or start >= stop:
                return None
            found.append(slice(start, stop, step))
        else:
            found.append(int(item) % n)
    return tuple(found)


@given(joined(), st.data())
def test_as_numpy_and_tensorstore(drawn: tuple[list[np.ndarray], int, bool], data: st.DataObject) -> None:
    ts = pytest.importorskip("tensorstore")
    parts, axis, is_stack = drawn
    expected = (np.stack if is_stack else np.concatenate)(parts, axis=axis)
    array = _virtual(parts, axis, is_stack)
    theirs = (ts.stack if is_stack else ts.concat)([ts.array(part) for part in parts], axis=axis)
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(array[...], expected)
    for _ in range(3):
        selection = data.draw(hnp.basic_indices(expected.shape, allow_newaxis=False))
        found = array[selection]
        np.testing.assert_array_equal(found, expected[selection])
        assert type(found) is type(expected[selection])
        theirs_too = _for_tensorstore(selection, expected.shape)
        if theirs_too is not None:
            np.testing.assert_array_equal(found, theirs[theirs_too].read().result())
        out = np.empty(np.shape(found), "float64")
        assert array.read(selection, out=out) is out
        np.testing.assert_array_equal(out, found)
        np.testing.assert_array_equal(asyncio.run(array.read_async(selection)), found)
        np.testing.assert_array_equal(array.lazy[selection].lazy[...].read(), found)
    if expected.size:
        points = tuple(data.draw(hnp.arrays(int, 6, elements=st.integers(-n, n - 1))) for n in expected.shape)
        np.testing.assert_array_equal(array.vindex[points], expected[points])
        np.testing.assert_array_equal(array.oindex[points], expected[np.ix_(*points)])
        mask = data.draw(hnp.arrays(bool, expected.shape))
        np.testing.assert_array_equal(array[mask], expected[mask])
    # What readers of its store see, and a copy, which reads that too.
    np.testing.assert_array_equal(zarrdock.open_array(array.store)[...], expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], expected)


def _days(folder: Path, n: int = 3) -> list[zarrdock.Array]:
    return [
        zarrdock.create_array(
            folder / f"day{i}.zarr",
            path="t",
            data=np.arange(12).reshape(3, 4) + 100 * i,
            chunks=(2, 2),
            dimension_names=("t", "x"),
            attributes={"unit": "K"},
        )
        for i in range(n)
    ]


def test_into_copy_dask_xarray_zarr_python_and_serve(tmp_path: Path) -> None:
    array = zarrdock.concatenate(_days(tmp_path))
    expected = np.concatenate([np.arange(12).reshape(3, 4) + 100 * i for i in range(3)])
    copied = zarrdock.copy(array, tmp_path / "copy.zarr", chunks=(3, 4))
    np.testing.assert_array_equal(copied[...], expected)
    kept = zarrdock.copy(array, tmp_path / "kept.zarr")
    np.testing.assert_array_equal(kept[...], expected)
    assert dict(kept.attrs) == {"unit": "K"}
    assert kept.dimension_names == ("t", "x")
    np.testing.assert_array_equal(array.to_dask(chunks=(4, 2)).compute(scheduler="threads"), expected)
    with pytest.raises(UnsupportedError):  # a copy into what it reads
        zarrdock.copy(array, tmp_path / "day1.zarr", overwrite=True)
    xarray = pytest.importorskip("xarray")
    np.testing.assert_array_equal(xarray.Variable(("t", "x"), array.to_dask())[4].values, expected[4])
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters import ZarrStore

    np.testing.assert_array_equal(zarr.open_array(ZarrStore(array.store), mode="r")[2:5], expected[2:5])
    with Server(array.store) as server:
        np.testing.assert_array_equal(zarrdock.open_array(server.url)[2:5], expected[2:5])
        tensorstore = pytest.importorskip("tensorstore")
        spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{server.url}/"}}
        np.testing.assert_array_equal(tensorstore.open(spec, read=True).result()[2:5].read().result(), expected[2:5])


def test_a_read_is_one_plan() -> None:
    stores = [zarrdock.RecordingStore(remote(zarrdock.MemoryStore())) for _ in range(3)]
    for store in stores:
        zarrdock.create_array(store, data=np.arange(64).reshape(8, 8), chunks=(2, 2), shards=(8, 8))
    array = zarrdock.stack([zarrdock.open_array(store) for store in stores])
    for store in stores:
        store.reset()
    plan = array.plan(np.s_[:, :2])
    assert (plan.n_rounds, plan.n_objects) == (2, 3)
    for n in (2, 1):
        for store in stores:
            store.reset()
        array[:2, :2]
        assert [store.n_rounds for store in stores] == [n, n, 0]


@st.composite
def nested(draw: st.DrawFn, shape: tuple[int, ...], depth: int = 0) -> tuple[Any, np.ndarray]:
    """An array of that shape, virtual on some levels, and its values."""
    if depth == 3 or draw(st.booleans()) or not shape:
        values = draw(hnp.arrays("int16", shape))
        chunks = tuple(draw(st.integers(1, 3)) for _ in shape)
        return zarrdock.create_array({}, data=values, chunks=chunks, fill_value=draw(st.integers(-2, 2))), values
    axis = draw(st.integers(0, len(shape) - 1))
    below = nested(shape[:axis] + shape[axis + 1 :], depth + 1)  # type: ignore[call-arg, arg-type]
    if shape[axis] and draw(st.booleans()):
        parts = [draw(below) for _ in range(shape[axis])]
        return zarrdock.stack([a for a, _ in parts], axis=axis), np.stack([v for _, v in parts], axis)
    cut = draw(st.integers(0, shape[axis]))
    parts = [
        draw(nested((*shape[:axis], n, *shape[axis + 1 :]), depth + 1))  # type: ignore[call-arg, arg-type]
        for n in (cut, shape[axis] - cut)
    ]
    return zarrdock.concatenate([a for a, _ in parts], axis=axis), np.concatenate([v for _, v in parts], axis)


@given(st.data())
def test_virtual_arrays_of_virtual_arrays(data: st.DataObject) -> None:
    array, expected = data.draw(nested(data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))))  # type: ignore[call-arg, arg-type]
    np.testing.assert_array_equal(array[...], expected)
    selection = data.draw(hnp.basic_indices(expected.shape, allow_newaxis=False))
    np.testing.assert_array_equal(array[selection], expected[selection])
    whole, part = zarrdock.read_many([array, array.lazy[selection]])
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(part, expected[selection])
    assert array.plan(selection).n_rounds <= 2
    mask = data.draw(hnp.arrays(bool, expected.shape))
    np.testing.assert_array_equal(array[mask], expected[mask])


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "", "long " * 9], np.dtypes.StringDType()),
        np.array([(1, 2.5), (3, 4.5), (5, 6)], [("a", "int16"), ("b", "float32")]),
        np.array(["NaT", "2001-01-01", "1960-05-05"], "M8[s]"),
        np.array([b"a", b"", b"xyz"], "S3"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_other_types(values: np.ndarray) -> None:
    array = zarrdock.concatenate([zarrdock.create_array({}, data=part, chunks=2) for part in (values, values[::-1])])
    expected = np.concatenate([values, values[::-1]])
    for selection in (np.s_[...], np.s_[::-2], np.s_[1], [4, 0, 4], expected == expected[0], np.s_[2:2]):
        np.testing.assert_array_equal(array[selection], expected[selection])
    stacked = zarrdock.stack(array.parts, axis=1)
    np.testing.assert_array_equal(stacked[::-1, 1], values)
    np.testing.assert_array_equal(zarrdock.copy(array, {})[...], expected)


def test_parts_that_change_their_shape() -> None:
    stores = [zarrdock.MemoryStore() for _ in range(2)]
    parts = [zarrdock.create_array(store, data=np.arange(4) + i, chunks=2) for i, store in enumerate(stores)]
    array = zarrdock.concatenate(parts)
    lazy = array.lazy[2:6]
    parts[1].append([9])
    parts[0].append([8])
    for one in (array, pickle.loads(pickle.dumps(array)), zarrdock.open_array(array.store)):
        assert one.shape == (8,), "a part that grows is seen as it was"
        np.testing.assert_array_equal(one[...], [0, 1, 2, 3, 1, 2, 3, 4])
    np.testing.assert_array_equal(lazy.read(), [2, 3, 1, 2])
    parts[0].resize(2)
    for read in (lazy.read, lambda: array[...], lambda: array.vindex[[0]], array.plan):
        with pytest.raises(SelectionError, match=r"had the shape \(4,\)"):
            read()
    np.testing.assert_array_equal(array[4:], [1, 2, 3, 4])


def test_refusals() -> None:
    a = zarrdock.create_array({}, data=np.zeros((2, 3), "int16"))
    b = zarrdock.create_array({}, data=np.zeros((2, 4), "int16"))
    c = zarrdock.create_array({}, data=np.zeros((2, 3), "int32"))
    for arrays, axis, says in (
        ([], 0, "one array at least"),
        ([a, b], 0, "array 1 has shape"),
        ([a, c], 0, "data type int32"),
        ([a, a], 2, "2 dimensions"),
        ([a, np.zeros((2, 3))], 0, "item 1: an array is needed, not ndarray$"),
        (["a.zarr"], 0, r"item 0: an array is needed, not str: zarrdock.open_array\('a.zarr'\)"),
        ([], 0, "one array at least"),
    ):
        with pytest.raises(SelectionError, match=says):
            zarrdock.concatenate(arrays, axis=axis)
    with pytest.raises(SelectionError, match="must agree"):
        zarrdock.stack([a, b])
    kelvin, celsius, scaled = (
        zarrdock.create_array({}, data=np.zeros((2, 3)), attributes=attributes)
        for attributes in ({"units": "K", "note": 1}, {"units": "°C"}, {"units": "K", "scale_factor": float("nan")})
    )
    with pytest.raises(SelectionError, match="array 1 has the attribute units='°C', the first one 'K'"):
        zarrdock.stack([kelvin, celsius])
    with pytest.raises(SelectionError, match="scale_factor"):
        zarrdock.concatenate([kelvin, scaled])
    assert zarrdock.concatenate([scaled, scaled]).shape == (4, 3)
    xy, yx = (zarrdock.create_array({}, data=np.zeros((2, 2)), dimension_names=names) for names in ("xy", "yx"))
    with pytest.raises(SelectionError, match="dimensions"):
        zarrdock.concatenate([xy, yx])
    array = zarrdock.concatenate([a, b], axis=-1)
    assert array.shape == (2, 7)
    assert "(2, 7) int16" in repr(array)
    for act in (
        lambda: array.__setitem__(0, 1),
        lambda: array.write(0, 1),
        lambda: array.resize((2, 8)),
        lambda: array.append(np.zeros((2, 1), "int16"), axis=1),
        lambda: array.attrs.update(x=1),
        lambda: array.lazy[0].write(1),
        lambda: array.store.write("c/0/0", b""),
        lambda: array.store.delete("zarr.json"),
    ):
        with pytest.raises(ReadOnlyError, match="virtual array is read-only"):
            act()


# -- documents --------------------------------------------------------------------------------------------------------


def test_documents_move_with_their_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    days = _days(tmp_path / "here")
    nested = zarrdock.stack([zarrdock.concatenate(days[:2]), zarrdock.concatenate(days[1:])], axis=1)
    expected = nested[...]
    nested.save(tmp_path / "here" / "all.json")
    (tmp_path / "here").rename(tmp_path / "there")
    again = zarrdock.open_virtual(tmp_path / "there" / "all.json")
    np.testing.assert_array_equal(again[...], expected)
    assert again.to_json() != nested.to_json()  # absolute ones


@pytest.mark.parametrize(
    "document, pointer",
    [
        ([], ""),
        ({}, "/zarrdock_virtual"),
        ({"zarrdock_virtual": 2}, "/zarrdock_virtual"),
        ({"zarrdock_virtual": 1}, "/url"),
        ({"zarrdock_virtual": 1, "stack": 3, "axis": 0}, "/stack"),
        ({"zarrdock_virtual": 1, "stack": [], "axis": "x"}, "/axis"),
        ({"zarrdock_virtual": 1, "stack": [{"url": 1, "path": ""}], "axis": 0}, "/stack/0/url"),
        ({"zarrdock_virtual": 1, "concatenate": [3], "axis": 0}, "/concatenate/0"),
    ],
)
def test_documents_of_another_form(tmp_path: Path, document: Any, pointer: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(MetadataError) as caught:
        zarrdock.open_virtual(tmp_path / "x.json")
    assert caught.value.pointer == pointer


def test_hostile_documents(tmp_path: Path) -> None:
    part: dict[str, Any] = {"url": "./a.zarr", "path": ""}
    for _ in range(40):
        part = {"stack": [part], "axis": 0}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"zarrdock_virtual": 1, **part}))
    with pytest.raises(MetadataError, match="16 levels"):
        zarrdock.open_virtual(path)
    path.write_text(json.dumps({"zarrdock_virtual": 1, "stack": [{"url": "./../../etc", "path": ""}], "axis": 0}))
    with pytest.raises(UnsupportedError, match="below the document's folder"):
        zarrdock.open_virtual(path)
    path.write_text(json.dumps({"zarrdock_virtual": 1, "stack": [{"url": "./none.zarr", "path": ""}], "axis": 0}))
    with pytest.raises(NodeNotFoundError):
        zarrdock.open_virtual(path)
    with pytest.raises(NodeNotFoundError):
        zarrdock.open_virtual(tmp_path / "none.json")
    for url in ("file:///etc", "/etc", "simplecache::file:///etc", "zip:///etc/x.zip"):
        from zarrdock.views.virtual import _store_at

        far: Store = remote(zarrdock.MemoryStore())
        with pytest.raises(UnsupportedError, match="remote store"):
            _store_at(url, far, None)
    with pytest.raises(UnsupportedError, match="memory of this process"):
        zarrdock.concatenate([zarrdock.create_array({}, data=[1])]).to_json()
