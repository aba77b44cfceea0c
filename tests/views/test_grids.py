"""Views of arrays whose chunks differ in shape."""

import json
import pickle
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import CodecError, UnsupportedError, VersionChangedError
from zarrdock.json_ import serialise
from zarrdock.stores.wrappers import RecordingStore
from zarrdock.views import as_v2, regular, unshard

VALUES = np.random.default_rng(0).integers(1, 60000, (20, 24)).astype("u2")
AXES: list[Any] = [[4, 12, 8], [8, 16]]
SHARDS = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": AXES}}
KINDS = ("chunks", "shards", "levels")


def make(kind: str, store: Any, name: str = "", values: Any = VALUES) -> zarrdock.Array:
    if kind == "chunks":
        return zarrdock.create_array(store, name=name, data=values, chunks=AXES, fill_value=7)  # type: ignore[arg-type]
    array = zarrdock.create_array(
        store, name=name, shape=values.shape, dtype="u2", chunks=(2, 2), shards=SHARDS, fill_value=7
    )
    if kind == "levels":
        metadata = array.metadata.to_json()
        inner = metadata["codecs"][0]
        outer = {**inner["configuration"], "chunk_shape": [4, 8], "codecs": [inner]}
        metadata["codecs"] = [{"name": "sharding_indexed", "configuration": outer}]
        store.write(f"{name}/zarr.json".removeprefix("/"), serialise(metadata))
        array = zarrdock.open_array(store, path=name, mode="r+")
    array[...] = values
    return array


def keys_of(view: zarrdock.Store) -> set[str]:
    """All keys, which are there by every way to ask for them."""
    entries = list(view.list())
    found = {entry.key for entry in entries}
    assert len(found) == len(entries)
    for entry in entries:
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)
        assert entry.size in (None, len(blob.data))
    folders, names = [""], set()
    while folders:
        folder = folders.pop()
        listing = view.list_dir(folder)
        folders += (f"{folder}{name}/" for name in listing.prefixes)
        names |= {folder + name for name in listing.keys}
    assert names == found
    return found


@pytest.mark.parametrize("name", ["", "some/where"])
@pytest.mark.parametrize("kind", ["shards", "levels"])
def test_unshard(kind: str, name: str) -> None:
    store = zarrdock.MemoryStore()
    make(kind, store, name)
    view = unshard(store)
    shown = zarrdock.open_array(view, path=name)
    assert (shown.chunks, shown.shards) == ((2, 2), None)
    np.testing.assert_array_equal(shown[...], VALUES)
    assert len(keys_of(view)) >= 120 + 1
    assert view.get(f"{name}/c/10/0".removeprefix("/")) is None
    assert view.get(f"{name}/c/99/99".removeprefix("/")) is None


def test_shards_that_lie_outside_are_not_listed() -> None:
    store = zarrdock.MemoryStore()
    make("shards", store)
    keys = keys_of(unshard(store))
    store.write("c/7/7", b"left from a larger array")
    assert keys_of(unshard(store)) == keys


@pytest.mark.parametrize("kind", KINDS)
def test_as_v2(kind: str) -> None:
    store = zarrdock.MemoryStore()
    make(kind, store, "a")
    if kind == "chunks":
        with pytest.raises(UnsupportedError, match="chunks of one shape: reencode=True"):
            zarrdock.open_array(as_v2(store), path="a")
    else:
        np.testing.assert_array_equal(zarrdock.open_array(as_v2(store), path="a")[...], VALUES)
    view = as_v2(store, reencode=True)
    shown = zarrdock.open_array(view, path="a")
    assert shown.zarr_format == 2
    assert shown.chunks == ((12, 16) if kind == "chunks" else (2, 2))
    np.testing.assert_array_equal(shown[...], VALUES)
    keys_of(view)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["", "some/where"])
def test_regular(kind: str, name: str) -> None:
    store = zarrdock.MemoryStore()
    make(kind, store, name)
    zarrdock.create_array(store, name="other", data=VALUES, chunks=(5, 5)) if name else None
    view = pickle.loads(pickle.dumps(regular(store)))
    shown = zarrdock.open_array(view, path=name)
    assert (shown.chunks, shown.shards, shown.fill_value) == ((12, 16), None, 7)
    np.testing.assert_array_equal(shown[...], VALUES)
    prefix = f"{name}/" if name else ""
    found = {key for key in keys_of(view) if key.startswith(prefix)}
    assert found == {f"{prefix}zarr.json", *(f"{prefix}c/{i}/{j}" for i in range(2) for j in range(2))}
    assert view.get(f"{prefix}c/2/0") is None
    if name:
        np.testing.assert_array_equal(zarrdock.open_array(view, path="other")[...], VALUES)
        with pytest.raises(zarrdock.errors.ReadOnlyError):
            view.write("other/c/0/0", b"")


def test_what_is_not_stored_is_not_shown() -> None:
    values = np.full_like(VALUES, 7)
    values[19, 23] = 1
    store = zarrdock.MemoryStore()
    make("chunks", store, values=values)
    view = regular(store)
    assert keys_of(view) == {"zarr.json", "c/1/0", "c/1/1"}
    array = zarrdock.open_array(store, mode="r+")
    array[0:4, 0:8] = 5
    assert keys_of(view) == {"zarr.json", "c/0/0", "c/1/0", "c/1/1"}
    # An object that is there, though it holds nothing but fill value, is shown.
    zarrdock.open_array(store, mode="r+", options={"write_empty_chunks": True})[4:16, 8:] = 7
    assert keys_of(view) == {"zarr.json", "c/0/0", "c/0/1", "c/1/0", "c/1/1"}


def test_consolidated_metadata_is_that_of_what_is_shown() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_group(store)
    make("chunks", store, "a")
    zarrdock.consolidate_metadata(store)
    document = json.loads(bytes(regular(store).get("zarr.json").data))  # type: ignore[union-attr]
    grid = document["consolidated_metadata"]["metadata"]["a"]["chunk_grid"]
    assert grid == {"name": "regular", "configuration": {"chunk_shape": [12, 16]}}
    group = zarrdock.open_group(regular(store))
    np.testing.assert_array_equal(group["a"][...], VALUES)


def test_versions_are_of_the_bytes() -> None:
    store = zarrdock.MemoryStore()
    array = make("chunks", store)
    view = regular(store)
    first = view.get("c/0/0")
    assert first is not None
    assert first.version is not None
    again = view.read([zarrdock.stores.base.Read("c/0/0", None, first.version)])[0]
    assert bytes(again.data) == bytes(first.data)  # type: ignore[union-attr]
    array[0, 0] = 99
    changed = view.read([zarrdock.stores.base.Read("c/0/0", None, first.version)])[0]
    assert isinstance(changed, VersionChangedError)


def test_each_chunk_is_read_once_while_it_stays_the_same() -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    make("chunks", store)
    view = regular(store)
    store.reset()
    zarrdock.open_array(view)[...]
    nbytes = sum(entry.size or 0 for entry in store.list("c"))
    assert store.nbytes < nbytes + 4000  # documents, and a byte each to confirm that a chunk is the same


def test_damage_names_the_object() -> None:
    store = zarrdock.MemoryStore()
    make("chunks", store)
    store.write("c/1/1", b"damage")
    view = regular(store)
    with pytest.raises(CodecError) as caught:
        view.get("c/0/1")
    assert caught.value.key == "c/1/1"


def test_elements_of_any_length_are_shown_as_they_are() -> None:
    store = zarrdock.MemoryStore()
    words = np.array(["a", "bc", "def"], np.dtypes.StringDType())
    zarrdock.create_array(store, data=words, chunks=[[1, 2]])  # type: ignore[list-item]
    shown = zarrdock.open_array(regular(store))
    assert shown.write_chunk_sizes == ((1, 2),)
    assert shown[...].tolist() == ["a", "bc", "def"]


def test_zarr_python_reads_it() -> None:
    import zarr

    from zarrdock.adapters.zarr_store import ZarrStore

    for kind in KINDS:
        store = zarrdock.MemoryStore()
        make(kind, store)
        for view in (regular(store), as_v2(store, reencode=True)):
            np.testing.assert_array_equal(zarr.open_array(ZarrStore(view), mode="r")[...], VALUES)
