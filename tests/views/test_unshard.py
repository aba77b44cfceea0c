"""Sharded arrays as plain chunks."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import InvalidKeyError, ReadOnlyError, ShardIndexError, VersionChangedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.base import Read
from zarrdock.views import unshard

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("u2")
LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (8, 8), "shards": (16, 24)},
    {"chunks": (8, 8), "shards": {"shape": (16, 24), "index_location": "start"}, "compressors": None},
    {"chunks": (4, 4), "shards": [(32, 24), (8, 12)], "order": "F"},
    {"chunks": (4, 4), "shards": [(48, 48), (24, 24), (8, 12)], "chunk_key_encoding": "."},
    {"chunks": (8, 8), "shards": (16, 24), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"chunks": (8, 8)},
]


@pytest.mark.parametrize("path", ["", "some/where"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_values(layout: dict[str, Any], path: str) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, name=path, data=VALUES, fill_value=3, attributes={"a": 1}, **layout)
    array[8:16] = 3  # some chunks are not there
    view = unshard(store)
    shown = zarrdock.open_array(view, path=path)
    assert shown.shards is None
    assert shown.chunks == array.chunks
    assert dict(shown.attrs) == {"a": 1}
    np.testing.assert_array_equal(shown[...], array[...])
    np.testing.assert_array_equal(shown[3:40:5, ::-7], array[3:40:5, ::-7])
    keys = sorted(entry.key for entry in view.list())
    chunks = [key for key in keys if not key.endswith("zarr.json")]
    assert len(chunks) == np.prod(shown.cdata_shape) - shown.cdata_shape[1] * (8 // array.chunks[0])
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)
        assert entry.size in (None, len(blob.data))
    for key in keys:
        folder, _, name = key.rpartition("/")
        assert name in view.list_dir(folder).keys


@pytest.mark.parametrize("reader", ["zarr", "tensorstore"])
@pytest.mark.peer
def test_other_readers(tmp_path: Path, reader: str) -> None:
    library = pytest.importorskip(reader)
    store = zarrdock.open_store(tmp_path / "a.zarr")
    zarrdock.create_array(store, data=VALUES, chunks=(4, 4), shards=[(32, 24), (8, 12)])
    if reader == "zarr":
        from zarrdock.adapters.zarr_python import ZarrStore

        array = library.open_array(ZarrStore(unshard(store)), mode="r")
        assert array.shards is None
        np.testing.assert_array_equal(array[...], VALUES)
        return
    # TensorStore takes no store of Python's: the view is copied, as what it is, plain chunks.
    copied = zarrdock.open_store(tmp_path / "b.zarr")
    view = unshard(store)
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        copied.write(entry.key, blob.data)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "b.zarr") + "/"}}
    np.testing.assert_array_equal(library.open(spec, read=True).result().read().result(), VALUES)


def test_ranges_of_chunks_and_what_they_cost() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(8, 8), shards=(48, 48), compressors=None)
    record = zarrdock.RecordingStore(store)
    view = unshard(record)
    first = view.get("c/0/0")
    assert first is not None
    before = record.n_rounds, record.n_requests
    keys = [f"c/{i}/{j}" for i in range(6) for j in range(6)]
    blobs = [blob for blob in view.read([Read(key) for key in keys]) if not isinstance(blob, VersionChangedError)]
    assert all(blob is not None and len(blob.data) == 128 for blob in blobs)
    assert (record.n_rounds - before[0], record.n_requests - before[1]) == (1, 1)
    part = view.get("c/0/0", Span(10, 20))
    tail = view.get("c/0/0", Tail(4))
    assert part is not None
    assert tail is not None
    assert bytes(part.data) == bytes(first.data)[10:20]
    assert bytes(tail.data) == bytes(first.data)[-4:]
    assert part.version == first.version


def test_a_shard_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    for store in (zarrdock.MemoryStore(), zarrdock.open_store(tmp_path / "a.zarr")):
        array = zarrdock.create_array(store, data=VALUES, chunks=(8, 8), shards=(16, 24))
        view = unshard(store)
        shown = zarrdock.open_array(view)
        np.testing.assert_array_equal(shown[:16, :24], VALUES[:16, :24])
        old = view.get("c/0/0")
        assert old is not None
        array[:16, :24] = np.arange(24, dtype="u2")
        np.testing.assert_array_equal(shown[:16, :24], array[:16, :24])
        with pytest.raises(VersionChangedError):
            view.get("c/0/0", version=old.version)
        array[:16, :24] = 0  # nothing left: the shard is gone
        assert view.get("c/0/0") is None
        assert view.size("c/0/0") is None
        array[:8, :8] = 1
        assert view.get("c/0/0") is not None
        assert view.get("c/0/1") is None
        array[:8, 8:16] = 1
        assert view.get("c/0/1") is not None


def test_hierarchies_with_consolidated_metadata() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store, attributes={"title": "x"})
    group.create_array("a/b", data=VALUES, chunks=(8, 8), shards=(16, 24))
    group.create_array("plain", data=VALUES, chunks=(8, 8))
    zarrdock.consolidate_metadata(store)
    shown = zarrdock.open_group(unshard(store))
    assert shown.metadata.consolidated is not None
    array = shown["a/b"]
    assert isinstance(array, zarrdock.Array)
    assert array.shards is None
    np.testing.assert_array_equal(array[...], VALUES)
    np.testing.assert_array_equal(shown["plain"][...], VALUES)  # type: ignore[index]


def test_damage_and_misuse() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(8, 8), shards=(16, 24))
    view = unshard(store)
    with pytest.raises(ReadOnlyError, match="view"):
        view.write("x", b"")
    with pytest.raises(InvalidKeyError):
        view.get("../x")
    store.write("c/0/0", b"broken")
    with pytest.raises(ShardIndexError, match="c/0/0"):
        view.get("c/0/0")
    np.testing.assert_array_equal(zarrdock.open_array(pickle.loads(pickle.dumps(view)))[16:], VALUES[16:])


def test_no_dimensions() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.float32(2.5), chunks=(), shards=())
    assert zarrdock.open_array(unshard(store))[()] == 2.5
