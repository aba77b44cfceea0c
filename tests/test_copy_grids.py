"""Copies of arrays whose chunks differ in shape."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrdock
from zarrdock.array.array import Array
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.planning.overlap import Division, touched
from zarrdock.checking import check
from zarrdock.codecs.zstd_ import BoundZstd
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.stores.wrappers import RecordingStore

VALUES = np.random.default_rng(0).integers(1, 60000, (10, 12)).astype("u2")
AXES: list[Any] = [[2, 6, 2], [4, 8]]
SHARDS = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": AXES}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": AXES},
    "shards": {"chunks": (1, 2), "shards": SHARDS},
    "hanging over": {"chunks": [[2, 6, 7], 5]},
}


def make(layout: str, values: Any = VALUES) -> zarrdock.MemoryStore:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=values, fill_value=7, **LAYOUTS[layout])
    return store


def copied(store: Any, **wishes: Any) -> Array:
    target = zarrdock.MemoryStore()
    zarrdock.copy(store, target, **wishes)
    assert check(target).problems == ()
    return zarrdock.open_array(target)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_grid_is_kept_where_only_codecs_change(layout: str) -> None:
    store = make(layout)
    array = copied(store, compressors="gzip", index_location="start" if layout == "shards" else "keep")
    assert array.metadata.grid == zarrdock.open_array(store).metadata.grid
    assert "gzip" in str(array.metadata.to_json())
    np.testing.assert_array_equal(array[...], VALUES)
    assert {entry.key for entry in array.store.list()} == {entry.key for entry in store.list()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "wishes",
    [
        {"chunks": (3, 3), "shards": None},
        {"chunks": (3, 3), "shards": (6, 12)},
        {"chunks": [[5, 5], [3, 9]], "shards": None},
        {"chunks": [[5, 5], 5], "shards": None, "compressors": None},
        {"chunks": (1, 2), "shards": SHARDS},
        {"chunks": "auto", "shards": "auto"},
        {"chunks": (3, 3), "shards": None, "zarr_format": 2},
    ],
)
def test_other_grids(layout: str, wishes: dict[str, Any]) -> None:
    array = copied(make(layout), **wishes)
    np.testing.assert_array_equal(array[...], VALUES)
    assert array.fill_value == 7
    if isinstance(wishes["chunks"], list):
        assert array.metadata.grid == RectilinearGrid.of(wishes["chunks"])


def test_regular_to_rectilinear() -> None:
    source = zarrdock.MemoryStore()
    zarrdock.create_array(source, data=VALUES, chunks=(2, 3), shards=(4, 6))
    for wishes in ({"chunks": AXES, "shards": None}, {"chunks": (2, 4), "shards": SHARDS}, {"shards": None}):
        np.testing.assert_array_equal(copied(source, **wishes)[...], VALUES)
    array = copied(VALUES, chunks=AXES)
    assert array.write_chunk_sizes == ((2, 6, 2), (4, 8))
    np.testing.assert_array_equal(array[...], VALUES)


def test_chunks_within_shards_that_differ() -> None:
    array = copied(make("shards"), chunks=(2, 4))
    assert (array.write_chunk_sizes, array.chunks) == (((2, 6, 2), (4, 8)), (2, 4))
    np.testing.assert_array_equal(array[...], VALUES)
    as_v2 = copied(make("shards"), zarr_format=2)
    assert as_v2.chunks == (1, 2)
    np.testing.assert_array_equal(as_v2[...], VALUES)
    with pytest.raises(MetadataError, match="divide"):
        copied(make("shards"), chunks=(3, 4))


def test_levels_of_shards_of_which_the_outermost_differ() -> None:
    store = make("shards")
    metadata = zarrdock.open_array(store).metadata.to_json()
    inner = metadata["codecs"][0]
    outer = {"name": "sharding_indexed", "configuration": {**inner["configuration"], "chunk_shape": [2, 4]}}
    metadata["codecs"] = [{**outer, "configuration": {**outer["configuration"], "codecs": [inner]}}]
    nested = zarrdock.MemoryStore()
    nested.write("zarr.json", zarrdock.json_.serialise(metadata))
    zarrdock.open_array(nested, mode="r+")[...] = VALUES
    for wishes in ({"compressors": None}, {"chunks": (2, 2)}, {"index_location": "start"}):
        array = copied(nested, **wishes)
        assert array.metadata.grid == zarrdock.open_array(nested).metadata.grid
        assert array.chunks == wishes.get("chunks", (1, 2))
        np.testing.assert_array_equal(array[...], VALUES)


@pytest.mark.parametrize(
    ("layout", "wishes", "match"),
    [
        ("chunks", {"zarr_format": 2}, "Zarr v2 cannot hold chunks that differ in shape: give chunks"),
        ("chunks", {"shards": (10, 12)}, "a shard cannot hold chunks that differ in shape: give chunks"),
    ],
)
def test_refusals(layout: str, wishes: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        copied(make(layout), **wishes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wishes", [{"compressors": None}, {"chunks": (3, 3), "shards": None}])
def test_what_is_not_stored_is_not_asked_for(layout: str, wishes: dict[str, Any]) -> None:
    values = np.full_like(VALUES, 7)
    values[9, 11] = 1
    source = RecordingStore(make(layout, values), n_events=100)
    array = copied(source, **wishes)
    np.testing.assert_array_equal(array[...], values)
    assert len([entry for entry in array.store.list() if entry.key != "zarr.json"]) == 1
    keys = {request.key for event in source.log for request in event.requests if request.key.startswith("c/")}
    assert len(keys) == 1


def test_hierarchies_take_lists_of_lengths_for_the_arrays_they_fit() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    group.create_array("a", data=VALUES)
    group.create_array("b", data=VALUES[0])
    target = zarrdock.MemoryStore()
    zarrdock.copy(store, target, chunks=AXES, shards=None)
    assert zarrdock.open_array(target, path="a").write_chunk_sizes == ((2, 6, 2), (4, 8))
    np.testing.assert_array_equal(zarrdock.open_array(target, path="b")[...], VALUES[0])


def test_an_interrupted_copy_is_completed() -> None:
    store = make("shards")
    whole = copied(store, compressors=None).store
    target = zarrdock.MemoryStore()
    steps = 0

    class StopError(Exception):
        pass

    def stop(progress: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise StopError

    with pytest.raises(StopError):
        zarrdock.copy(store, target, compressors=None, progress=stop)
    assert 0 < len(list(target.list("c"))) < 6
    zarrdock.copy(store, target, compressors=None, resume=True)
    for entry in whole.list():
        assert bytes(target.get(entry.key).data) == bytes(whole.get(entry.key).data)  # type: ignore[union-attr]


@pytest.mark.parametrize("memory_bytes", [16, 10**9])
def test_memory_is_bounded(memory_bytes: int) -> None:
    array = copied(make("shards"), compressors=None, memory_bytes=memory_bytes)
    np.testing.assert_array_equal(array[...], VALUES)


some_axis = st.integers(1, 9) | st.lists(st.integers(1, 6), min_size=1, max_size=5)


@settings(max_examples=60)
@given(st.data(), st.tuples(some_axis, some_axis), st.tuples(some_axis, some_axis))
def test_touched_parts_are_those_that_chunks_overlap(data: st.DataObject, source: Any, target: Any) -> None:
    grids = [RectilinearGrid.of(axes) for axes in (source, target)]
    shape = tuple(
        data.draw(st.integers(1, min(20 if isinstance(axis, int) else sum(axis) for axis in pair)))
        for pair in zip(source, target, strict=True)
    )
    a, b = (Division.of(grid, shape) for grid in grids)
    assert a.grid == grids[0].n_chunks(shape)
    chosen = np.array([[data.draw(st.integers(0, n - 1)) for n in a.grid] for _ in range(3)], np.int64)
    mask = np.zeros(shape, bool)
    for start, stop in zip(a.starts(chosen), a.starts(chosen + 1), strict=True):
        mask[tuple(slice(*pair) for pair in zip(start, stop, strict=True))] = True
    owners = b.owners(np.argwhere(mask))
    expected = sorted(set(np.ravel_multi_index(tuple(owners.T), b.grid).tolist()))
    assert list(touched([chosen[:1], chosen[1:]], a, b)) == expected


@pytest.mark.parametrize(
    "wishes",
    [
        {"shards": (4, 6)},
        {"shards": [(8, 12), (2, 4)]},
        {"shards": None},
        {"index_location": "start"},
        {"options": {"subchunk_write_order": "morton"}},
    ],
)
def test_chunks_in_shards_that_differ_are_not_decoded(wishes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source = make("shards")
    zarrdock.open_array(source, mode="r+")[1:5, 2:9] = 7
    other = zarrdock.MemoryStore()
    zarrdock.create_array(other, data=zarrdock.open_array(source)[...], chunks=(1, 2), shards=(5, 6), fill_value=7)
    expected = zarrdock.open_array(source)[...]

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing is to be decoded")

    for store, more in ((source, wishes), (other, {"shards": SHARDS})):
        target = zarrdock.MemoryStore()
        with monkeypatch.context() as patch:
            patch.setattr(zarrdock.config, "compiled", 0)
            patch.setattr(BoundZstd, "decode", refuse)
            patch.setattr(BoundZstd, "decode_many", refuse)
            with pytest.raises(AssertionError, match="decoded"):  # so that it would be noticed
                zarrdock.copy(store, zarrdock.MemoryStore(), compressors=None)
            zarrdock.copy(store, target, **more)
        np.testing.assert_array_equal(zarrdock.open_array(target)[...], expected)
        assert check(target).problems == ()
