"""Chunks whose lengths differ: grids, and arrays with them beside numpy arrays."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from zarrdock.array.metadata.chunk_grids import RectilinearGrid, RegularGrid, parse_chunk_grid
from zarrdock.checking import check
from zarrdock.errors import MetadataError, SelectionError, UnsupportedError


def rectilinear(*axes: Any) -> dict[str, Any]:
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": list(axes)}}


# -- the grid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "lengths"),
    [
        ([[2, 3]], (2, 2, 2)),
        ([[1, 6]], (1,) * 6),
        ([1, [2, 1], 3], (1, 2, 3)),
        ([[1, 3], 3], (1, 1, 1, 3)),
        ([6], (6,)),
        (4, (4, 2)),
        ([4, 4, 4], (4, 2)),
        ([[4, 2]], (4, 2)),
        ([5, 5, 5], (5, 1)),
    ],
)
def test_the_examples_of_the_specification(axis: Any, lengths: tuple[int, ...]) -> None:
    grid = parse_chunk_grid(rectilinear(axis))
    grid.check((6,), "")
    assert grid.lengths((6,)) == (lengths,)
    assert grid.n_chunks((6,)) == (len(lengths),)
    assert parse_chunk_grid(grid.to_json()) == grid


@pytest.mark.parametrize(
    ("json", "pointer"),
    [
        ({"name": "rectilinear"}, "/configuration/kind"),
        ({"name": "rectilinear", "configuration": {"kind": "x", "chunk_shapes": []}}, "/configuration/kind"),
        ({"name": "rectilinear", "configuration": {"kind": "inline"}}, "/configuration/chunk_shapes"),
        (rectilinear([0]), "/configuration/chunk_shapes/0/0"),
        (rectilinear(0), "/configuration/chunk_shapes/0"),
        (rectilinear([1, "2"]), "/configuration/chunk_shapes/0/1"),
        (rectilinear([[1, 2, 3]]), "/configuration/chunk_shapes/0/0"),
        (rectilinear([[1, 0]]), "/configuration/chunk_shapes/0/0/1"),
        (rectilinear([[1, True]]), "/configuration/chunk_shapes/0/0/1"),
        (rectilinear([[1, 2**40]]), "/configuration/chunk_shapes/0"),
        (rectilinear([1.0]), "/configuration/chunk_shapes/0/0"),
    ],
)
def test_what_is_not_a_grid(json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_chunk_grid(json, "/chunk_grid")
    assert caught.value.pointer == f"/chunk_grid{pointer}"


@pytest.mark.parametrize("axes", [([3, 3], [4]), ([5],), ([2**62, 2**62], [4])])
def test_grids_that_do_not_fit_the_array(axes: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_chunk_grid(rectilinear(*axes)).check((7, 4), "/c")
    assert caught.value.pointer in ("/c", "/c/0")


def test_what_grows_becomes_chunks_no_longer_than_the_longest() -> None:
    grid = RectilinearGrid.of([[2, 5, 3], 4])
    assert grid.resized((12, 9), (1, 1)) == RectilinearGrid.of([[2, 5, 3, 2], 4])
    assert grid.resized((23, 4), (1, 1)) == RectilinearGrid.of([[2, 5, 3, 5, 5, 3], 4])
    assert grid.resized((3, 4), (1, 1)) == grid
    shards = RectilinearGrid.of([[4, 2]])
    assert shards.resized((9,), (2,)) == RectilinearGrid.of([[4, 2, 4]])
    assert RegularGrid((3,)).resized((9,), (1,)) == RegularGrid((3,))


# -- arrays -----------------------------------------------------------------------------------------------------------


def lengths_of(n: int) -> st.SearchStrategy[Any]:
    """Chunks that cover an axis, and perhaps more."""
    lists = st.lists(st.integers(1, 6), min_size=1, max_size=8).map(lambda x: [*x, n - sum(x)] if sum(x) < n else x)
    return lists | st.integers(1, 6)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[zarrdock.Array, np.ndarray]:
    shape = tuple(draw(st.lists(st.integers(0, 14), min_size=1, max_size=3)))
    store = zarrdock.MemoryStore()
    arguments: dict[str, Any] = {"fill_value": draw(st.integers(0, 3)), "order": draw(st.sampled_from("CF"))}
    axes: list[Any] = [draw(lengths_of(n)) for n in shape]
    if draw(st.booleans()):
        unit = [draw(st.integers(1, 3)) for _ in shape]
        axes = [n * u if isinstance(n, int) else [k * u for k in n] for n, u in zip(axes, unit, strict=True)]
        location = draw(st.sampled_from(["start", "end"]))
        arguments |= {"chunks": unit, "shards": {"shape": rectilinear(*axes), "index_location": location}}
    else:
        arguments |= {"chunks": rectilinear(*axes)}
    array = zarrdock.create_array(store, shape=shape, dtype="i2", **arguments)
    return array, np.full(shape, arguments["fill_value"], "i2")


def slices(n: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-n - 1, n + 1)
    return st.builds(slice, bound, bound, st.none() | st.integers(-n - 1, n + 1).filter(bool))


def indices(n: int) -> st.SearchStrategy[np.ndarray]:
    """Positions along an axis in any order, none of them twice, from the front or from the back."""
    ours = st.permutations(range(n)).map(lambda x: np.array(x[: n // 2], np.int64))
    return ours | ours.map(lambda x: x - n)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_arrays_beside_numpy(data: st.DataObject) -> None:
    array, model = data.draw(arrays())
    for number in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["basic", "oindex", "vindex", "mask"]))
        shape = model.shape
        ours: Any = array
        if kind == "basic":
            selection: Any = tuple(data.draw(slices(n) | st.integers(-n, n - 1) if n else slices(n)) for n in shape)
            theirs = selection
        elif kind == "oindex":
            selection = tuple(data.draw(indices(n)) for n in shape)
            ours, theirs = array.oindex, np.ix_(*selection)
        elif kind == "vindex":
            n_points = data.draw(st.integers(0, 5)) if 0 not in shape else 0
            points = [
                data.draw(st.lists(st.integers(0, max(0, n - 1)), min_size=n_points, max_size=n_points)) for n in shape
            ]
            selection = theirs = tuple(np.array(p, np.int64) for p in points)
            ours = array.vindex
        else:
            selection = theirs = np.random.default_rng(number).random(shape) < 0.4
        value = np.arange(model[theirs].size, dtype="i2").reshape(model[theirs].shape) + 10 * number
        if kind == "vindex":  # of points given twice, either may stay
            value = np.full(value.shape, number, "i2")
        ours[selection] = value
        model[theirs] = value
        np.testing.assert_array_equal(ours[selection], model[theirs])
        np.testing.assert_array_equal(array[...], model)
    assert check(array.store).is_good
    again = zarrdock.open_array(array.store)
    assert again.metadata == array.metadata
    np.testing.assert_array_equal(again[...], model)
    out = np.empty(model.shape[::-1], "i4").T
    again.read(out=out)
    np.testing.assert_array_equal(out, model)
    plan = again.plan()
    assert plan.n_objects == np.prod([len(sizes) for sizes in array.write_chunk_sizes])
    assert plan.n_chunks == array.nchunks == np.prod([len(sizes) for sizes in array.read_chunk_sizes])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_sizes_that_change(data: st.DataObject) -> None:
    array, model = data.draw(arrays())
    fill = array.fill_value
    array[...] = model = np.arange(1, model.size + 1, dtype="i2").reshape(model.shape)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            shape = tuple(data.draw(st.integers(0, 20)) for _ in model.shape)
            array.resize(shape)
            larger = np.full(shape, fill, "i2")
            both = tuple(slice(0, min(a, b)) for a, b in zip(shape, model.shape, strict=True))
            larger[both] = model[both]
            model = larger
        else:
            axis = data.draw(st.integers(0, model.ndim - 1))
            more = list(model.shape)
            more[axis] = data.draw(st.integers(0, 9))
            rows = np.full(more, 77, "i2")
            array.append(rows, axis)
            model = np.concatenate([model, rows], axis)
        assert array.shape == model.shape
        np.testing.assert_array_equal(array[...], model)
    again = zarrdock.open_array(array.store)
    np.testing.assert_array_equal(again[...], model)
    assert check(array.store).is_good


def test_chunks_are_lists_of_lengths() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=(8, 6), dtype="i4", chunks=[[2, 3, 3], 4])
    array[...] = np.arange(48).reshape(8, 6)
    assert array.metadata.to_json()["chunk_grid"] == rectilinear([2, [3, 2]], 4)
    assert array.read_chunk_sizes == array.write_chunk_sizes == ((2, 3, 3), (4, 2))
    assert (array.cdata_shape, array.nchunks) == ((3, 2), 6)
    assert sorted(entry.key for entry in store.list("c")) == [f"c/{i}/{j}" for i in range(3) for j in range(2)]
    assert "chunks=rectilinear" in repr(array)
    assert "rectilinear" in array._repr_html_()
    np.testing.assert_array_equal(array.blocks[1], array[2:5])
    np.testing.assert_array_equal(array.blocks[1:, 1], array[2:, 4:])
    with pytest.raises(UnsupportedError, match="read_chunk_sizes"):
        array.chunks  # noqa: B018
    assert array.shards is None
    with pytest.raises(SelectionError):
        array.blocks[3]


def test_shards_of_many_shapes_have_chunks_of_one() -> None:
    store = zarrdock.MemoryStore()
    shards = rectilinear([4, 8, 2], [6])
    array = zarrdock.create_array(store, shape=(13, 6), dtype="i4", chunks=(2, 3), shards=shards)
    array[...] = np.arange(78).reshape(13, 6)
    assert array.chunks == (2, 3)
    assert array.read_chunk_sizes == ((2,) * 6 + (1,), (3, 3))
    assert array.write_chunk_sizes == ((4, 8, 1), (6,))
    assert "shards=rectilinear" in repr(array)
    with pytest.raises(UnsupportedError, match="write_chunk_sizes"):
        array.shards  # noqa: B018
    plan = array.plan(np.s_[5:7, 0])
    assert (plan.n_objects, plan.n_chunks) == (1, 2)
    auto = zarrdock.create_array(zarrdock.MemoryStore(), shape=(14, 6), dtype="i4", shards=shards)
    assert auto.chunks == (2, 6)


def test_a_chunk_changed_in_part_is_read_alone() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=(9,), dtype="i4", chunks=[[2, 5, 2]], fill_value=7)
    array[3] = 1
    assert [entry.key for entry in store.list("c")] == ["c/1"]
    assert array[...].tolist() == [7, 7, 7, 1, 7, 7, 7, 7, 7]
    array[2:7] = 7
    assert not list(store.list("c"))


def test_wishes_that_cannot_be_met() -> None:
    store = zarrdock.MemoryStore()
    with pytest.raises(MetadataError, match="cover"):
        zarrdock.create_array(store, shape=(8,), dtype="i4", chunks=[[2, 3]])
    with pytest.raises(MetadataError, match="v2"):
        zarrdock.create_array(store, shape=(5,), dtype="i4", chunks=[[2, 3]], zarr_format=2)
    with pytest.raises(MetadataError, match="evenly"):
        zarrdock.create_array(store, shape=(7,), dtype="i4", chunks=2, shards=rectilinear([4, 3]))
    with pytest.raises(MetadataError):
        zarrdock.create_array(store, shape=(5,), dtype="i4", chunks=[[2, 0, 3]])
    assert not list(store.list())


def test_many_chunks_cost_little_to_know_of() -> None:
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), shape=(10**7,), dtype="u1", chunks=rectilinear([[3, 10**6], [7, 10**6]])
    )
    array[2_999_998:3_000_009] = 5
    assert array[2_999_995:3_000_012].tolist() == [0] * 3 + [5] * 11 + [0] * 3
    assert array.plan(np.s_[::500_000]).n_objects == 20


# -- around the arrays ------------------------------------------------------------------------------------------------


def example(store: zarrdock.MemoryStore, *, sharded: bool) -> np.ndarray:
    """An array of 8 x 6 at ``a`` whose last shard or chunk was never written."""
    wishes: dict[str, Any] = {"chunks": (2, 1), "shards": rectilinear([2, [4, 2]], [4, 2])}
    if not sharded:
        wishes = {"chunks": [[2, 3, 3], [4, 2]]}
    zarrdock.create_group(store)
    array = zarrdock.create_array(store, name="a", shape=(8, 6), dtype="i4", fill_value=9, **wishes)
    model = np.full((8, 6), 9, "i4")
    model[:5] = np.arange(30).reshape(5, 6)
    array[:5] = model[:5]
    return model


@pytest.mark.parametrize("sharded", [False, True])
def test_copies(sharded: bool) -> None:
    source = zarrdock.MemoryStore()
    model = example(source, sharded=sharded)
    same, other, renamed = (zarrdock.MemoryStore() for _ in range(3))
    zarrdock.copy(source, same)
    assert {(e.key, e.size) for e in same.list()} == {(e.key, e.size) for e in source.list()}
    zarrdock.copy(source, other, chunks=(3, 3), shards=None)
    array = zarrdock.open_array(other, path="a")
    assert array.chunks == (3, 3)
    np.testing.assert_array_equal(array[...], model)
    zarrdock.copy(source, renamed, chunks="auto", shards=None, compressors="gzip", zarr_format=2)
    np.testing.assert_array_equal(zarrdock.open_array(renamed, path="a")[...], model)


@pytest.mark.parametrize("sharded", [False, True])
def test_info_says_how_long_chunks_are(sharded: bool) -> None:
    from zarrdock.cli.info import array_facts
    from zarrdock.cli.open_nodes import Found, brief

    store = zarrdock.MemoryStore()
    example(store, sharded=sharded)
    metadata = zarrdock.open_array(store, path="a").metadata
    facts = array_facts(metadata, Found(store, "a", metadata), None)
    assert facts["chunk_grid"] == metadata.grid.to_json()
    assert (facts["n_objects"], facts["n_chunks"]) == ((6, 24) if sharded else (6, 6))
    assert ("shards up to 4 x 4" if sharded else "chunks up to 3 x 4") in brief(metadata).replace("×", "x")


@pytest.mark.parametrize("key", ["c/0/0", "c/1/0", "c/2/1"])
def test_shards_of_many_shapes_are_repaired(key: str) -> None:
    from zarrdock.repairing import repair

    store = zarrdock.MemoryStore()
    model = np.arange(1, 49, dtype="i4").reshape(8, 6)
    shards = rectilinear([2, [4, 2]], [4, 2])
    array = zarrdock.create_array(store, data=model, chunks=(2, 1), shards=shards, checksums=True)
    good = bytes(store.get(key).data)  # type: ignore[union-attr]
    damaged = bytearray(good)
    damaged[-8] ^= 1  # the last entry of the index, which is in front of its checksum
    store.write(key, bytes(damaged))
    assert not check(store).is_good
    assert [done.key for done in repair(store)] == [key]
    assert bytes(store.get(key).data) == good  # type: ignore[union-attr]
    np.testing.assert_array_equal(array[...], model)
