"""Views of arrays whose chunks have other keys than Zarr's own."""

from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.views import as_v2, unshard

VALUES = np.random.default_rng(0).integers(0, 1000, (9, 14)).astype("u2")
ENCODINGS: list[Any] = [
    {"name": "prefix", "configuration": {"prefix": "chunks/", "base_encoding": "default"}},
    {"name": "suffix", "configuration": {"suffix": ".bin", "base_encoding": "v2"}},
    {"name": "fanout", "configuration": {"max_children": 3}},
    {"name": "template", "configuration": {"format": "z{0:03}/{*}.raw", "separator": "_"}},
]


@pytest.mark.parametrize("shards", [None, (4, 6)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_views(encoding: Any, shards: Any) -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(
        store, name="a", data=VALUES, chunks=(2, 3), shards=shards, chunk_key_encoding=encoding, fill_value=3
    )
    for view, n_documents in ((unshard(store), 1), (as_v2(store), 2), (as_v2(store, reencode=True), 2)):
        np.testing.assert_array_equal(zarrdock.open_array(view, path="a")[...], VALUES)
        found = [entry.key for entry in view.list("a")]
        assert len(found) == len(set(found)) == 25 + n_documents
        assert all(view.get(key) is not None for key in found)
        folders, names = [""], []
        while folders:
            folder = folders.pop()
            listing = view.list_dir(folder)
            folders += (f"{folder}{name}/" for name in listing.prefixes)
            names += (folder + name for name in listing.keys)
        assert sorted(names) == sorted(entry.key for entry in view.list())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_chunks_of_the_array_are_hidden_where_they_have_other_keys(encoding: Any) -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(2, 3), chunk_key_encoding=encoding)
    view = as_v2(store)
    chunks = {entry.key for entry in store.list()} - {"zarr.json"}
    shown = {entry.key for entry in view.list()}
    assert shown == {".zarray", ".zattrs"} | {
        zarrdock.open_array(view).key_encoding.key((row, column)) for row in range(5) for column in range(5)
    }
    assert all(view.get(key) is None for key in chunks)
