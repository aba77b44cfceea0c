"""The listings: the objects of an array, and the arrays below a node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zarrdock
from support.stores import WithTraits
from zarrdock.array.hierarchy import arrays_below, nodes_below
from zarrdock.array.node_storage import load
from zarrdock.array.stored_objects import stored_objects
from zarrdock.errors import MetadataError, StoreError, UnsupportedError, ZarrdockError


@pytest.fixture
def array() -> zarrdock.Array:
    """Six objects, four of them there; one is left from a larger array, and a file is beside them."""
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, path="a/b", shape=(6, 4), chunks=(2, 2), dtype="u1", fill_value=0)
    array[2:] = 1
    store.write("a/b/c/7/0", b"old")
    store.write("a/b/notes.txt", b"mine")
    return array


def names(array: zarrdock.Array, store: zarrdock.Store | None = None, **options: bool) -> list[str]:
    metadata = array.metadata
    grid = metadata.grid.n_chunks(metadata.shape)
    found = stored_objects(store or array.store, array.path, metadata.key_encoding, grid, **options)
    pairs = sorted(found)
    assert all(entry.key == f"a/b/{metadata.key_encoding.key(coords)}" for coords, entry in pairs)
    return [entry.key.removeprefix("a/b/") for _, entry in pairs]


def test_objects_within_the_array(array: zarrdock.Array) -> None:
    assert names(array) == ["c/1/0", "c/1/1", "c/2/0", "c/2/1"]
    assert names(array, beyond=True) == ["c/1/0", "c/1/1", "c/2/0", "c/2/1", "c/7/0"]


def test_stores_that_do_not_list(array: zarrdock.Array) -> None:
    blind = WithTraits(array.store, listable=False)
    with pytest.raises(UnsupportedError, match="listed"):
        names(array, blind)
    assert names(array, blind, guess=True) == [f"c/{i}/{j}" for i in range(3) for j in range(2)]


def test_other_entries_are_told(array: zarrdock.Array) -> None:
    told: list[str] = []
    metadata = array.metadata
    found = stored_objects(
        array.store, array.path, metadata.key_encoding, (3, 2), aside=lambda entry, error: told.append(entry.key)
    )
    assert len([*found]) == 4
    assert sorted(told) == ["a/b/notes.txt", "a/b/zarr.json"]


def test_a_link_that_leads_nowhere_is_no_missing_chunk(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "a", data=np.ones((4, 4), "u1"), chunks=(2, 2))
    (tmp_path / "a" / "c" / "1").rename(tmp_path / "elsewhere")
    (tmp_path / "a" / "c" / "1").symlink_to(tmp_path / "nothing")
    encoding = array.metadata.key_encoding
    with pytest.raises(StoreError):
        list(stored_objects(array.store, "", encoding, (2, 2)))
    errors: list[StoreError | None] = []
    found = stored_objects(array.store, "", encoding, (2, 2), aside=lambda entry, error: errors.append(error))
    assert len([*found]) == 2
    assert len([error for error in errors if error is not None]) == 1
    with pytest.raises(StoreError):
        zarrdock.copy(array, zarrdock.MemoryStore())


def test_arrays_below_a_node() -> None:
    store = zarrdock.MemoryStore()
    root = zarrdock.create_group(store)
    inner = root.create_group("g")
    inner.create_array("x", shape=(2,), dtype="u1")
    root.create_array("y", shape=(2,), dtype="u1")
    root.consolidate()
    zarrdock.create_array(store, path="late", shape=(2,), dtype="u1")
    node = load(store, "", None, None, lenient=True)
    assert [path for path, _ in arrays_below(store, "", node)] == ["g/x", "late", "y"]
    assert [path for path, _ in nodes_below(store, "", node)] == ["", "g", "g/x", "late", "y"]
    assert [path for path, _ in arrays_below(store, "g", load(store, "g", None, None, lenient=True))] == ["g/x"]
    assert [path for path, _ in arrays_below(store, "y", load(store, "y", None, None, lenient=True))] == ["y"]
    store.write("g/x/zarr.json", b"{}")
    assert [path for path, _ in arrays_below(store, "", node, skip_errors=True)] == ["late", "y"]
    assert [path for path, one in nodes_below(store, "", node) if isinstance(one, ZarrdockError)] == ["g/x"]
    with pytest.raises(MetadataError):
        list(arrays_below(store, "", node))
